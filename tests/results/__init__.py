"""Tests of the results command and of what it writes."""

"""Measurements, side by side in one process: `make benchmark`, or `python -m benchmarks NAME`."""

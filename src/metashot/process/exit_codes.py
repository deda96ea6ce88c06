"""The exit codes of the commands."""

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

"""How a program ends: what a shell sees of it."""

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

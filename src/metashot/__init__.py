"""Train, score and apply few-shot learners."""

__version__ = "0.1.0"

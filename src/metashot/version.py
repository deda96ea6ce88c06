"""Which version of metashot this is, noted in every checkpoint and report."""

__version__ = "0.1.0"

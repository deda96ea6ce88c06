"""The version of metashot, which every checkpoint and report contains."""

__version__ = "0.1.0"

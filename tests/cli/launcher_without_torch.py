"""Starts scripts in processes that cannot import torch."""

import sys

sys.modules["torch"] = None  # type: ignore[assignment]

import metashot.commands.scripts  # noqa: E402, F401

from .forking import launch  # noqa: E402

if __name__ == "__main__":
    launch()

"""Checkpoint files: written atomically, and read without running code."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from metashot.bad_input import BadInput
from metashot.checkpoints.stored import checked, newest_intact, unusable
from metashot.files.archives import Unusable, read_archive
from metashot.files.outputs import atomic_file
from metashot.version import __version__


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint atomically: a reader sees the old file or the new one.

    Raises:
        BadInput: if it cannot be written.
    """
    try:
        with atomic_file(path) as file:
            torch.save(checkpoint, file)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        whole = newest_intact(path.parent)
        kept = f"the newest intact checkpoint is {whole}" if whole else "there is no earlier checkpoint"
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise BadInput(f"the checkpoint {path} cannot be written: {reason}; {kept}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a metashot checkpoint as plain containers and tensors.

    Raises:
        BadInput: if there is no such file, or it is not a valid checkpoint.
    """
    if not path.is_file():
        raise BadInput(f"there is no checkpoint {path}")
    try:
        return checked(read_archive(path))
    except Unusable as error:
        raise unusable(path, error) from error


class WholeCheckpointIO(CheckpointIO):
    """Makes Lightning read and write checkpoints with `read_checkpoint` and `write_checkpoint`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def metashot_part(config: dict[str, Any], origin: dict[str, Any]) -> dict[str, Any]:
    """The part that metashot adds to a checkpoint: its version, the configuration and the training data's description."""
    return {"version": __version__, "config": config, "origin": origin}

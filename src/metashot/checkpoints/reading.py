"""Checkpoints as files: written whole or not at all, and read without running code."""

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
    """Write to a temporary name, flush to the disk, then rename: a reader sees the old file or the new one."""
    try:
        with atomic_file(path) as file:
            torch.save(checkpoint, file)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        whole = newest_intact(path.parent)
        kept = f"the newest intact checkpoint is {whole}" if whole else "there is no earlier checkpoint"
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise BadInput(f"the checkpoint {path} cannot be written: {reason}; {kept}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint of ours, as plain containers and tensors."""
    if not path.is_file():
        raise BadInput(f"there is no checkpoint {path}")
    try:
        return checked(read_archive(path))
    except Unusable as error:
        raise unusable(path, error) from error


class WholeCheckpointIO(CheckpointIO):
    """Hands Lightning's own reading and writing to the functions above."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def metashot_part(config: dict[str, Any], origin: dict[str, Any]) -> dict[str, Any]:
    """What metashot adds: how the learner was made, and from what data."""
    return {"version": __version__, "config": config, "origin": origin}

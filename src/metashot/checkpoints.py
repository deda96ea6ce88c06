"""Checkpoints as files: written whole or not at all, and read without running code."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from metashot import __version__
from metashot.bad_input import BadInput
from metashot.outputs import whole_file

BEST, LAST = "best.ckpt", "last.ckpt"
OURS = "metashot"  # the key under which a checkpoint holds what is not Lightning's


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write to a temporary name, flush to the disk, then rename: a reader sees the old file or the new one."""
    try:
        with whole_file(path) as file:
            torch.save(checkpoint, file)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        whole = newest_whole(path.parent)
        kept = f"the newest whole checkpoint is {whole}" if whole else "there is no earlier checkpoint"
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise BadInput(f"the checkpoint {path} cannot be written: {reason}; {kept}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint of ours, as plain containers and tensors."""
    if not path.is_file():
        raise BadInput(f"there is no checkpoint {path}")
    checkpoint = _contents(path)
    if isinstance(checkpoint, str):
        whole = newest_whole(path.parent)
        advice = f"the newest whole checkpoint beside it is {whole}" if whole else "no whole checkpoint lies beside it"
        raise BadInput(f"the checkpoint {path} cannot be used: {checkpoint}; {advice}")
    return checkpoint


def newest_whole(folder: Path) -> Path | None:
    """The most recently written checkpoint of a folder that can be used."""
    paths = sorted(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime, reverse=True)
    return next((path for path in paths if not isinstance(_contents(path), str)), None)


def _contents(path: Path) -> dict[str, Any] | str:
    """What a file holds, or why it is not a whole checkpoint of ours."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()  # its checksums show a single flipped bit, which torch would read over
        if broken:
            return f"it is damaged ({broken} inside it does not match its checksum)"
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make zipfile, zlib and torch raise nearly anything
        return f"it is damaged or not a checkpoint ({(str(error).splitlines() or [type(error).__name__])[0]})"
    ours = checkpoint.get(OURS) if isinstance(checkpoint, dict) else None
    if not isinstance(ours, dict) or not isinstance(ours.get("config"), dict) or "state_dict" not in checkpoint:
        return "it is not a checkpoint of metashot, since it holds no configuration of ours"
    return checkpoint


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


def of_run(given: str, key: str, preferred: str) -> Path:
    """The checkpoint that a user means by a file or by a run's folder."""
    path = Path(given).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise BadInput(f"{key}={given}: there is no such file or folder; give a checkpoint or the folder of a run")
    folder = path / "checkpoints"
    found = folder / preferred
    if found.is_file():
        return found
    others = sorted(folder.glob("*.ckpt")) if folder.is_dir() else []
    advice = f"; it has {', '.join(map(str, others))}" if others else ": is it the folder of a run?"
    raise BadInput(f"{key}={given}: the folder has no checkpoints/{preferred}{advice}")


def our_part(config: dict[str, Any], origin: dict[str, Any]) -> dict[str, Any]:
    """What metashot adds: how the learner was made, and from what data."""
    return {"version": __version__, "config": config, "origin": origin}

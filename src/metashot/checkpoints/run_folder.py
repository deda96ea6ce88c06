"""The folder of a run. One process claims it; it holds everything needed to resume and to repeat the run."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import yaml

from metashot.bad_input import BadInput, GaveUp
from metashot.checkpoints.stored import CONFIG, configuration_of_folder
from metashot.files.outputs import LEFTOVER, write_atomically
from metashot.files.paths import open_lock, place_to_write, printable
from metashot.process.leftovers import RUN_FOLDER, is_child_of_lightning

METRICS, REPORT, PICTURE = "metrics.csv", "report.json", "episode.png"
PAGE = "episode.html"  # the picture of an episode of texts
REPORT_FOR_PEOPLE, EPISODES = "report.md", "episodes.csv"
WORLDS_PICTURE, REGRET_CURVE = "worlds.png", "regret.csv"  # of policies


class _Dumper(yaml.SafeDumper):
    """Writes shared lists in full, because stored configurations may not contain YAML aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class RunFolder:
    """The open folder of a run. Only the process that claimed it writes the configuration and holds the lock.

    Args:
        path: the folder.
        lock: the open lock file; None in a process that shares the folder of another one.
        new: the folders that were created for the run, innermost first; empty if the folder existed.
    """

    def __init__(self, path: Path, lock: IO[str] | None, new: Sequence[Path] = ()) -> None:
        self.path = path
        self.new = new
        self._lock = lock  # kept open: the system releases the lock when the process ends, even if it is killed

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @classmethod
    def claim(cls, wanted: str, config: dict[str, Any]) -> "RunFolder":
        """Create a new folder, with a number appended if the name is taken.

        Args:
            wanted: the name of the folder.
            config: the configuration to store in it.

        Raises:
            BadInput: if the folder cannot be created.
        """
        if is_child_of_lightning() and (shared := os.environ.get(RUN_FOLDER)):
            return cls(Path(shared), None)
        first = place_to_write(wanted, "folder")
        if first.name in ("", ".."):
            raise BadInput(f"folder={wanted} is no new folder: give the name of one, such as folder=runs/first")
        for number in range(1, 10_000):
            path = first if number == 1 else Path(f"{first}-{number}")
            new = [path, *(above for above in path.parents if not above.exists())]
            try:
                path.mkdir(parents=True, exist_ok=False)
            except FileExistsError:
                continue
            except OSError as error:
                reason = f"{error.strerror or error}"
                raise BadInput(
                    f"folder={wanted}: the run's folder cannot be made: {reason}; choose another folder="
                ) from error
            folder = cls._locked(path, new)
            folder.keep_config(config)
            return folder
        raise BadInput(f"folder={wanted} is taken ten thousand times: choose another folder=")

    @classmethod
    def reopen(cls, path: Path, config: dict[str, Any]) -> "RunFolder":
        """Open the folder of a run to resume.

        Args:
            path: the folder.
            config: the configuration to store in it, which may have more steps or other devices than before.

        Raises:
            BadInput: if the folder is in use, contains links, or cannot be written to.
        """
        if is_child_of_lightning() and (shared := os.environ.get(RUN_FOLDER)):
            return cls(Path(shared), None)
        for inner in path.iterdir():  # a link would redirect the run's files to another place
            if inner.is_symlink():
                raise BadInput(
                    f"{printable(inner)} is a link, and a run keeps its files in its own folder: put a copy in its place"
                )
        folder = cls._locked(path)
        for leftover in [*path.glob(".*.writing"), *folder.checkpoints.glob(".*.writing")]:  # left by a killed process
            if LEFTOVER.fullmatch(leftover.name) and leftover.is_file():
                leftover.unlink()
        if config != configuration_of_folder(path):
            folder.keep_config(config)
        return folder

    def keep_config(self, config: dict[str, Any]) -> None:
        write_text(self.path / CONFIG, yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True))

    @classmethod
    def _locked(cls, path: Path, new: Sequence[Path] = ()) -> "RunFolder":
        try:
            lock = open_lock(path / ".lock")
        except OSError as error:
            raise BadInput(f"{path} cannot be written to: {error.strerror or error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(f"{path} is in use: another process is training in it; wait for it or stop it first") from None
        os.environ[RUN_FOLDER] = str(path)
        return cls(path, lock, new)

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Release the folder, so that another process or the next job can claim one. Remove it if nothing was trained."""
        if self._lock is None:
            return
        if os.environ.get(RUN_FOLDER) == str(self.path):  # otherwise another run has started since and set the variable
            del os.environ[RUN_FOLDER]
        self._lock.close()
        if isinstance(error, BadInput) and self.new and not self.checkpoints.exists():
            shutil.rmtree(self.path, ignore_errors=True)  # nothing was trained in it
            with contextlib.suppress(OSError):  # another run may have created its folder there meanwhile
                for above in self.new[1:]:
                    above.rmdir()


def refuse_missing_folder(folder: Path) -> None:
    """End a run whose folder was moved or deleted: writing to it would recreate an incomplete folder.

    Raises:
        GaveUp: if the folder no longer exists.
    """
    if not (folder / ".lock").is_file():
        raise missing_folder(folder)


def missing_folder(folder: Path) -> GaveUp:
    return GaveUp(
        f"the folder of this run, {printable(folder)}, no longer exists: it was moved or deleted during the run, "
        "and nothing more was written; resume it from its new place with resume=, or start again"
    )


def write_text(path: Path, text: str) -> None:
    """Write a file in a run's folder atomically."""
    write_atomically(path, text.encode())

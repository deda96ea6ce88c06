"""A run's folder: claimed by one process, it holds all that is needed to resume and to repeat the run."""

import contextlib
import fcntl
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import yaml

from metashot.bad_input import BadInput

CONFIG, METRICS, REPORT, PICTURE = "config.yaml", "metrics.csv", "report.json", "episode.png"
REPORT_FOR_PEOPLE, EPISODES = "report.md", "episodes.csv"
_SHARED = "METASHOT_RUN_FOLDER"  # how the other processes of one run learn where it is


class RunFolder:
    """An open folder of a run. Only the process that claimed it writes the configuration and holds the lock."""

    def __init__(self, path: Path, lock: IO[str] | None, new: bool = False) -> None:
        self.path = path
        self.new = new
        self._lock = lock  # kept open: the lock ends with the process, however it ends

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @classmethod
    def claim(cls, wanted: str, config: dict[str, Any]) -> "RunFolder":
        """A new folder with that name, or with a number behind it where the name is taken."""
        if shared := os.environ.get(_SHARED):
            return cls(Path(shared), None)
        for number in range(1, 10_000):
            path = Path(wanted if number == 1 else f"{wanted}-{number}")
            try:
                path.mkdir(parents=True, exist_ok=False)
            except FileExistsError:
                continue
            except OSError as error:
                reason = f"{error.strerror or error}"
                raise BadInput(
                    f"folder={wanted}: the run's folder cannot be made: {reason}; choose another folder="
                ) from error
            folder = cls._locked(path, new=True)
            folder.keep_config(config)
            return folder
        raise BadInput(f"folder={wanted} is taken ten thousand times: choose another folder=")

    @classmethod
    def reopen(cls, path: Path, config: dict[str, Any]) -> "RunFolder":
        """The folder of a run that is to go on, for longer than planned or on other devices perhaps."""
        if shared := os.environ.get(_SHARED):
            return cls(Path(shared), None)
        folder = cls._locked(path)
        for leftover in [*path.glob(".*.writing"), *folder.checkpoints.glob(".*.writing")]:  # of a killed process
            leftover.unlink()
        if config != stored_config(path):
            folder.keep_config(config)
        return folder

    def keep_config(self, config: dict[str, Any]) -> None:
        write_text(self.path / CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))

    @classmethod
    def _locked(cls, path: Path, new: bool = False) -> "RunFolder":
        try:
            lock = (path / ".lock").open("w")
        except OSError as error:
            raise BadInput(f"{path} cannot be written to: {error.strerror or error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(f"{path} is in use: another process is training in it; wait for it or stop it first") from None
        os.environ[_SHARED] = str(path)
        return cls(path, lock, new)

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Let another process, or the next job of this one, have its own folder."""
        if self._lock is None:
            return
        os.environ.pop(_SHARED, None)
        self._lock.close()
        if isinstance(error, BadInput) and self.new and not self.checkpoints.exists():
            shutil.rmtree(self.path, ignore_errors=True)  # nothing was trained in it


def stored_config(path: Path) -> dict[str, Any]:
    """The configuration that a run's folder holds."""
    file = path / CONFIG
    try:
        config = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{file} cannot be read: {error}; is {path} the folder of a run?") from error
    if not isinstance(config, dict):
        raise BadInput(f"{file} is not a configuration")
    return config


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror or error}") from error
    finally:  # whatever ended it, a second Ctrl-C among that
        with contextlib.suppress(OSError):
            temporary.unlink()

"""Runs train.py and evaluate.py as a user would, within a time, and says what they took."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metashot.bad_input import in_one_line
from metashot.process.interruption import STOP

_PATIENCE = 60.0  # seconds for a stopped command to keep what it has
_TICK = 0.1  # seconds between two looks at a command that runs
_NOTED_EVERY = 20.0  # seconds between two notes of what a command has taken so far
_LONGEST_MESSAGE = 500  # characters
_END_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG


@dataclass(frozen=True)
class Conditions:
    """Where every command finds the data, and what it computes with.

    Attributes:
        root: The folder of the data sets; None for the default one.
        device: Where everything is computed: `cpu` or `gpu`.
        threads: The threads of each command.
    """

    root: str | None
    device: str
    threads: int

    def arguments_for(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """The arguments that say so, apart from the threads.

        Args:
            config: The configuration of a recipe, whose data may need no files and have no `root` then.
        """
        root = () if self.root is None or "root" not in config["data"] else (f"data.root={self.root}",)
        return (f"trainer={self.device}", *root)


@dataclass(frozen=True)
class Used:
    """What a command took.

    Attributes:
        seconds: The time.
        processor_seconds: Its time of the processor, which other programs change little.
        peak_memory: The most memory of the process, in bytes; 0 as long as it runs, since the system tells it at the end.
    """

    seconds: float = 0.0
    processor_seconds: float = 0.0
    peak_memory: int = 0

    @property
    def is_final(self) -> bool:
        """Whether the command has ended."""
        return self.peak_memory > 0

    def __add__(self, later: "Used") -> "Used":
        return Used(
            self.seconds + later.seconds,
            self.processor_seconds + later.processor_seconds,
            max(self.peak_memory, later.peak_memory),
        )


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: Its exit code; None if it was stopped because its time was over.
        message: The last line that it printed.
    """

    code: int | None
    message: str


def run_command(
    command: str,
    arguments: Sequence[str],
    threads: int,
    log: Path,
    seconds: float,
    lock: int,
    note: Callable[[Used], None] = lambda used: None,
) -> Ended:
    """Run a command of metashot in a process of its own, as `run_python` does.

    Args:
        command: `train` or `evaluate`.
        arguments: Its arguments.
        threads: The threads that it computes with.
        log: The file to which its output is appended.
        seconds: The time after which it is stopped; train.py keeps a checkpoint then.
        lock: An open file, which the command keeps open.
        note: Called with what the command has taken.

    Raises:
        Stopped: this process was asked to stop, which the command is, too.
    """
    return run_python(("-m", "metashot", command, *arguments), log, seconds, threads=threads, lock=lock, note=note)


def run_python(
    arguments: Sequence[str],
    log: Path,
    seconds: float,
    *,
    threads: int | None = None,
    lock: int | None = None,
    note: Callable[[Used], None] = lambda used: None,
) -> Ended:
    """Run Python in a process of its own.

    Args:
        arguments: The arguments of Python: a script or a module, and its arguments.
        log: The file to which its output is appended.
        seconds: The time after which it is stopped; train.py keeps a checkpoint then.
        threads: The threads that it computes with; None for as many as this process is told to.
        lock: An open file, which the command keeps open: what is locked by it stays so as long as the command runs, even
            if this process is killed; None for none.
        note: Called with what the command has taken, now and then and at its end, however that comes.

    Raises:
        Stopped: this process was asked to stop, which the command is, too.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        start = file.tell()
        running = _Running(
            subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=os.environ if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)},
                start_new_session=True,  # so that an interrupt reaches it once, from here
                pass_fds=() if lock is None else (lock,),
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            ),
            note,
        )
        try:
            code = running.wait(seconds)
        except BaseException:
            running.stop()
            raise
    with log.open("rb") as file:
        file.seek(start)
        said = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    message = in_one_line(said[-1])[:_LONGEST_MESSAGE] if said else ""
    if code is not None and code < 0:
        message = f"it was killed by signal {-code}"
    return Ended(code, message)


class _Running:
    """A command that runs.

    Args:
        process: Its process.
        note: Called with what it has taken.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", note: Callable[[Used], None]) -> None:
        self._process, self._note = process, note
        self._begin = self._noted = time.monotonic()

    def wait(self, seconds: float) -> int | None:
        """Wait for its end, and stop it after a time; its exit code, None if it was stopped."""
        end, is_over = self._begin + seconds, False
        while not self._has_ended():
            STOP.check()
            now = time.monotonic()
            if not is_over and now > end:
                self._process.terminate()
                is_over = True
            if is_over and now > end + _PATIENCE:
                self._process.kill()
            if now > self._noted + _NOTED_EVERY:
                self._noted = now
                self._note(self._so_far())
            time.sleep(_TICK)
        return None if is_over else self._process.returncode

    def stop(self) -> None:
        """End it with this process, and give it the time to keep what it has; a second signal ends it at once."""
        try:
            self._process.terminate()
            self._wait_until(time.monotonic() + _PATIENCE)
        except BaseException:
            self._process.terminate()
            self._wait_until(time.monotonic() + 1)
            raise
        finally:
            if self._process.returncode is None:
                self._process.kill()

    def _wait_until(self, end: float) -> None:
        while not self._has_ended() and time.monotonic() < end:
            time.sleep(_TICK)

    def _has_ended(self) -> bool:
        if self._process.returncode is None:
            found, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if not found:
                return False
            self._process.returncode = os.waitstatus_to_exitcode(status)
            self._note(self._used(usage))
        return True

    def _used(self, usage: resource.struct_rusage) -> Used:
        memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return Used(time.monotonic() - self._begin, usage.ru_utime + usage.ru_stime, memory)

    def _so_far(self) -> Used:
        """What it has taken, as far as the system tells."""
        seconds = time.monotonic() - self._begin
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])  # in user and in system mode
            return Used(seconds, ticks / os.sysconf("SC_CLK_TCK"))
        except (OSError, ValueError, IndexError):
            return Used(seconds, seconds)


def _end_with_parent() -> None:
    """Have the kernel stop this process with SIGTERM when its parent is killed: nobody would note what it takes."""
    ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGTERM)

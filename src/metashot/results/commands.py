"""Runs train.py and evaluate.py as a user would, and says what they took."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metashot.process.interruption import STOP

_PATIENCE = 60.0  # seconds for a stopped command to keep what it has
_TICK = 0.1  # seconds between two looks at a command that runs


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: Its exit code; None if it was stopped because its time was over.
        seconds: What it took.
        processor_seconds: What it took of the processor, which other programs change little.
        peak_memory: The most memory of the process, in bytes.
        message: The last line that it printed.
    """

    code: int | None
    seconds: float
    processor_seconds: float
    peak_memory: int
    message: str


def run_command(command: str, arguments: Sequence[str], threads: int, log: Path, seconds: float) -> Ended:
    """Run a command of metashot in a process of its own.

    Args:
        command: `train` or `evaluate`.
        arguments: Its arguments.
        threads: The threads that it computes with.
        log: The file to which its output is appended.
        seconds: The time after which it is stopped; train.py keeps a checkpoint then.

    Raises:
        Stopped: this process was asked to stop, which the command is, too.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with log.open("ab") as file:
        start = file.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "metashot", command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            start_new_session=True,  # so that an interrupt reaches it once, from here
        )
        try:
            code, usage = _wait(process, begin + seconds)
        except BaseException:
            _stop(process)
            raise
    with log.open("rb") as file:
        file.seek(start)
        said = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return Ended(
        code,
        time.monotonic() - begin,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        said[-1] if said else "",
    )


def _wait(process: "subprocess.Popen[bytes]", end: float) -> tuple[int | None, resource.struct_rusage]:
    """Wait for a command; its exit code (None if it was stopped at `end`) and the resources that it used."""
    is_over = False
    while True:
        found, status, usage = os.wait4(process.pid, os.WNOHANG)
        if found:
            code = process.returncode = os.waitstatus_to_exitcode(status)
            return None if is_over else code, usage
        STOP.check()
        now = time.monotonic()
        if not is_over and now > end:
            process.terminate()
            is_over = True
        if is_over and now > end + _PATIENCE:
            process.kill()
        time.sleep(_TICK)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a command with this process, and give it the time to keep what it has."""
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

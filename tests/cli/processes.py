"""Starting the scripts, waiting for them, stopping them, and reading what they leave behind."""

import contextlib
import csv
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import torch

from tests.accelerator import cards

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0  # seconds any process may take


@dataclass(frozen=True)
class Outcome:
    """How a process ended and what it said."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit code {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"

    @property
    def run(self) -> Path:
        """The run's folder, relative to the working directory, from the line that names it."""
        return Path(next(line for line in self.out.splitlines() if line.startswith("run: ")).removeprefix("run: "))

    @property
    def table(self) -> dict[str, str]:
        """The last lines that were printed: what, and how much."""
        rows = [line.split(maxsplit=1) for line in self.out.splitlines()]
        return {row[0]: row[1] for row in rows if len(row) == 2}


class Process:
    """A script that runs, with its own process group."""

    def __init__(self, pid: int, out: Path, err: Path, code: Callable[[], int | None]) -> None:
        self.pid = pid
        self._out, self._err = out, err
        self._code = code

    @property
    def code(self) -> int | None:
        return self._code()

    @property
    def out(self) -> str:
        return self._out.read_text() if self._out.exists() else ""

    @property
    def err(self) -> str:
        return self._err.read_text() if self._err.exists() else ""

    def send(self, number: signal.Signals) -> None:
        """To the process and all its helpers, as a terminal does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self, patience: float = PATIENCE) -> Outcome:
        self.wait_until(lambda: False, patience)
        code = self.code
        assert code is not None
        return Outcome(code, self.out, self.err)

    def wait_until(self, reached: Callable[[], bool], patience: float = PATIENCE) -> bool:
        """Whether that was reached before the process ended."""
        last = time.monotonic() + patience
        while time.monotonic() < last:
            if reached():
                return True
            if self.code is not None:
                return False
            time.sleep(0.01)
        self.send(signal.SIGKILL)
        raise TimeoutError(f"process still running after {patience} seconds\n{self.out}\n{self.err}")


def heed_signals() -> None:
    """As in a shell, whatever started the tests, which may ignore some."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Scripts:
    """Starts train.py and evaluate.py, each in a process forked from one that has imported torch, or in a fresh one.

    Args:
        folder: Where what they print is kept.
        launcher: The module that starts them.
    """

    def __init__(self, folder: Path, launcher: str = "tests.cli.launcher") -> None:
        self.home = folder / "home"
        self.logs = folder / "logs"
        self.home.mkdir()
        self.logs.mkdir()
        self._numbers = count()
        self._lock = threading.Lock()
        self._launcher = subprocess.Popen(
            [sys.executable, "-m", launcher],
            cwd=ROOT,
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._started: list[Process] = []

    def start(
        self,
        script: str,
        arguments: Sequence[str],
        folder: Path,
        fresh: bool = False,
        environment: Mapping[str, str] | None = None,
        root: Path = ROOT,
    ) -> Process:
        with self._lock:
            number = next(self._numbers)
            out, err = self.logs / f"{number}.out", self.logs / f"{number}.err"
            command = [str(root / script), *arguments]
            whole = self.environment() | dict(environment or {})
            begin = self._fresh if fresh else self._forked
            process = begin(command, folder, whole, out, err, self.logs / f"{number}.ended")
            self._started.append(process)
        return process

    def environment(self) -> dict[str, str]:
        """What a user's shell has, without credentials, settings of other programs, and graphics cards that no test is
        about."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "PYTHONPATH") if name in os.environ}
        return kept | {"HOME": str(self.home), "OMP_NUM_THREADS": "1", **cards()}

    def close(self) -> None:
        for process in self._started:
            if process.code is None:
                process.send(signal.SIGKILL)
        assert self._launcher.stdin is not None
        self._launcher.stdin.close()
        self._launcher.wait(10)

    def _fresh(
        self, command: list[str], folder: Path, environment: dict[str, str], out: Path, err: Path, ended: Path
    ) -> Process:
        with out.open("wb") as to, err.open("wb") as errors:
            popen = subprocess.Popen(
                [sys.executable, *command],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=to,
                stderr=errors,
                start_new_session=True,
                preexec_fn=heed_signals,
            )
        return Process(popen.pid, out, err, popen.poll)

    def _forked(
        self, command: list[str], folder: Path, environment: dict[str, str], out: Path, err: Path, ended: Path
    ) -> Process:
        request = {
            "arguments": command,
            "folder": str(folder),
            "environment": environment,
            "out": str(out),
            "err": str(err),
            "ended": str(ended),
        }
        assert self._launcher.stdin is not None
        assert self._launcher.stdout is not None
        self._launcher.stdin.write(json.dumps(request).encode() + b"\n")
        self._launcher.stdin.flush()
        answer = self._launcher.stdout.readline()
        assert answer, "the launcher has died"
        return Process(int(answer), out, err, lambda: int(ended.read_text()) if ended.exists() else None)


def rows(run: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without what depends on the clock; none while the file is not there."""
    try:
        with (run / "metrics.csv").open(newline="") as file:
            return [
                {name: value for name, value in row.items() if name != "train/tasks_per_second"}
                for row in csv.DictReader(file)
            ]
    except FileNotFoundError:
        return []


def measured(run: Path, name: str) -> list[tuple[str, str]]:
    """The steps at which a metric was measured, with its values."""
    return [(row["step"], row[name]) for row in rows(run) if row.get(name)]


def report(run: Path) -> dict[str, Any]:
    """The report without what depends on the clock and on where the run is kept."""
    whole: dict[str, Any] = json.loads((run / "report.json").read_text())
    return {name: value for name, value in whole.items() if name not in ("seconds", "seconds_of_a_task", "checkpoint")}


def checkpoint(run: Path, name: str = "last.ckpt") -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(run / "checkpoints" / name, map_location="cpu", weights_only=True)
    return loaded


def step_of(run: Path) -> int:
    """The step of last.ckpt, 0 while there is none."""
    try:
        last = run / "checkpoints" / "last.ckpt"
        return _step_in(last, last.stat().st_ino, last.stat().st_mtime_ns)
    except FileNotFoundError:
        return 0


@lru_cache(1)
def _step_in(last: Path, inode: int, written: int) -> int:
    """Read once, however often somebody who waits asks: every checkpoint is a new file."""
    return int(checkpoint(last.parents[1])["global_step"])


def free_port() -> int:
    """A number that nothing on this machine listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder with a digest of what it holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def copy(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to))


def different(a: Any, b: Any, where: str = "") -> list[str]:
    """Where two nested containers differ in any bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        equal = a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
        return [] if equal else [where]
    if isinstance(a, dict) and isinstance(b, dict):
        if list(a) != list(b):
            return [f"{where}: keys {list(a)} and {list(b)}"]
        return [found for key in a for found in different(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b) or type(a) is not type(b):
            return [f"{where}: {type(a)} of {len(a)} and {type(b)} of {len(b)}"]
        return [
            found for index, (x, y) in enumerate(zip(a, b, strict=True)) for found in different(x, y, f"{where}/{index}")
        ]
    same = type(a) is type(b) and (a == b or (a != a and b != b))
    return [] if same else [f"{where}: {a} and {b}"]


def one_bit_flipped(archive: bytes) -> bytes:
    """The archive with one bit of its largest member changed; between the members lies padding, which nothing reads."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        largest = max(opened.infolist(), key=lambda member: member.file_size)
    name, extra = struct.unpack_from("<HH", archive, largest.header_offset + 26)
    changed = bytearray(archive)
    changed[largest.header_offset + 30 + name + extra + largest.file_size // 2] ^= 16
    return bytes(changed)

"""Commands run in processes of their own, which are stopped with this one and whose times are known whatever happens."""

import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from metashot.process.interruption import STOP, Stopped
from metashot.results import commands
from metashot.results.commands import Ended, Used, run_command

# In place of Python, which takes seconds: `-m metashot COMMAND ARGUMENT` is a shell script that does what it is called for.
SHELL = """#!/bin/sh
echo $$ > "$4.pid"
case "$3" in
  ends) echo first; printf '\\033[2Jlast\\n'; exit "${4##*-}" ;;
  keeps) trap 'echo kept; exit 130' TERM; echo ready; while :; do sleep 0.05; done ;;
  dies) kill -9 $$ ;;
esac
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "program"
    path.write_text(SHELL)
    path.chmod(0o755)
    monkeypatch.setattr(commands.sys, "executable", str(path))
    return tmp_path / "given"


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[int]:
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def run(command: str, given: Path, lock: int, seconds: float = 30, noted: list[Used] | None = None) -> Ended:
    notes = noted if noted is not None else []
    return run_command(command, [str(given)], 1, given.with_name("log"), seconds, lock, notes.append)


def is_running(given: Path) -> bool:
    try:
        os.kill(int(given.with_name(f"{given.name}.pid").read_text()), 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_exit_code_and_the_last_line_come_back(program: Path, lock: int, code: int) -> None:
    given = program.with_name(f"given-{code}")
    assert run("ends", given, lock) == Ended(code, "\\x1b[2Jlast")


def test_what_it_took_is_noted_at_its_end(program: Path, lock: int) -> None:
    noted: list[Used] = []
    run("ends", program.with_name("given-0"), lock, noted=noted)
    assert len(noted) == 1
    assert 0 < noted[0].seconds < 30
    assert noted[0].peak_memory > 2**16


def test_a_command_whose_time_is_over_is_stopped_and_keeps_what_it_has(program: Path, lock: int) -> None:
    assert run("keeps", program, lock, 0.5) == Ended(None, "kept")
    assert not is_running(program)


def test_a_command_that_was_killed_says_by_what(program: Path, lock: int) -> None:
    assert run("dies", program, lock) == Ended(-9, "it was killed by signal 9")


def test_a_request_to_stop_stops_the_command_and_notes_what_it_took(
    program: Path, lock: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[Used] = []

    def request() -> None:
        time.sleep(0.5)
        STOP.requested = True

    monkeypatch.setattr(STOP, "requested", False)
    threading.Thread(target=request).start()
    with pytest.raises(Stopped):
        run("keeps", program, lock, noted=noted)
    assert "kept" in program.with_name("log").read_text()
    assert not is_running(program)
    assert noted[-1].seconds >= 0.4


def test_what_it_takes_is_noted_while_it_runs(program: Path, lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_NOTED_EVERY", 0.2)
    noted: list[Used] = []
    run("keeps", program, lock, 1, noted)
    assert len(noted) > 2
    assert [used.seconds for used in noted] == sorted(used.seconds for used in noted)


def test_the_lock_outlives_a_killed_parent_with_the_command(program: Path, lock: int, tmp_path: Path) -> None:
    """So that nobody else begins the same training beside it."""
    child = os.fork()
    if child == 0:
        run("keeps", program, lock)
    while not (tmp_path / "log").exists() or "ready" not in (tmp_path / "log").read_text():
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if sys.platform == "linux":  # where a command is stopped when its parent is killed, and keeps what it has
        end = time.monotonic() + 10
        while is_running(program) and time.monotonic() < end:
            time.sleep(0.02)
        assert "kept" in (tmp_path / "log").read_text()


def test_times_add_up_and_memory_is_the_most() -> None:
    assert Used(1, 2, 5) + Used(3, 4, 1) == Used(4, 6, 5)

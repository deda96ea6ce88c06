"""Paths and files that users give: what is no file is not opened, and what cannot be a path is refused with its key."""

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from metashot.applied.learner import Unavailable
from metashot.bad_input import BadInput, BadValue
from metashot.files.outputs import NotOurs
from metashot.files.paths import given_path, open_file, place_to_write, printable, read_file


def test_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_file(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="it is larger than"):
        read_file(tmp_path / "file", 4)


def test_a_file_that_grows_while_it_is_read_is_bounded_too() -> None:
    path = "/proc/self/status"  # of size 0, as far as is said
    if not os.path.exists(path):
        pytest.skip("there is no /proc here")
    with pytest.raises(OSError, match="it is larger than"):
        read_file(path, 10)


def test_pipes_sockets_devices_and_folders_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("socket")
    os.symlink("/dev/zero", "device")
    os.symlink("pipe", "link")
    for name, what in (("pipe", "a pipe"), ("link", "a pipe"), ("socket", "a socket"), ("device", "a device")):
        with pytest.raises(OSError, match=f"it is {what} and not a file"):
            open_file(name)
    with pytest.raises(IsADirectoryError):
        open_file(tmp_path)


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking at a path and opening it."""
    file, pipe = tmp_path / "file", tmp_path / "pipe"
    file.write_text("x")
    os.mkfifo(pipe)
    of_file = os.stat(file)
    monkeypatch.setattr(os, "stat", lambda path: of_file)
    outcome: list[object] = []

    def attempt() -> None:
        try:
            outcome.append(open_file(pipe))
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert "it is a pipe and not a file" in str(outcome[0])


@pytest.mark.parametrize("ask", [given_path, place_to_write])
@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("", "data.root= is empty"),
        ("~nosuchuser/x", "~nosuchuser has no home folder"),
        ("n" * 300, r"n{200}\.\.\. \(300 characters\) cannot be used: File name too long"),
        ("a\0b", "null byte"),
    ],
)
def test_what_cannot_be_a_path_is_refused_with_its_key(ask, given: str, why: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput, match=r"data\.root=") as refused:
        ask(given, "data.root")
    assert refused.match(why)


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BadInput, match=r"out=.*loop/x cannot be used: Too many levels"):
        given_path(tmp_path / "loop" / "x", "out")


def test_home_and_what_is_not_there_yet_are_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert given_path("~/a/b", "out") == place_to_write("~/a/b", "out") == tmp_path / "a" / "b"


def test_what_is_shown_stands_in_one_line() -> None:
    assert printable("a\nb\udcff") == "a\\nb\\udcff"


def test_messages_stand_in_one_line_and_do_nothing_to_a_terminal() -> None:
    """Whatever is quoted in them."""
    for kind in (BadInput, BadValue, Unavailable, NotOurs):
        assert str(kind("a\x1b[31m\nb\x9bc\u2028\x07 Ж 花")) == "a\\x1b[31m\\nb\\x9bc\\u2028\\x07 Ж 花"


@pytest.mark.parametrize("given", [None, 5, b"run", ["run"]])
def test_what_is_not_a_path_is_refused(given: Any) -> None:
    with pytest.raises(BadInput, match="is not a path"):
        given_path(given, "ckpt")

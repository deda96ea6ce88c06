"""A kernel is compiled once for a machine, by whoever comes first, and never where others could replace it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from metashot.kernels import compiling

NAME = "normalised_pool"
needs_compiler = pytest.mark.skipif(compiling.library(NAME) is None, reason="there is no C compiler")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "metashot" / "kernels"


def compiled() -> object:
    """As in a process that has not asked before."""
    return compiling.library.__wrapped__(NAME)


@needs_compiler
def test_it_is_compiled_once_and_whole(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled() is not None
    (file,) = cache.iterdir()
    assert file.name.startswith(NAME)
    assert cache.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(compiling, "_compile", lambda *_: pytest.fail("compiled again"))
    assert compiled() is not None


@needs_compiler
def test_two_processes_at_once_get_along(cache: Path) -> None:
    code = f"from metashot.kernels import compiling; assert compiling.library({NAME!r}) is not None"
    environment = os.environ | {"PYTHONPATH": str(Path(compiling.__file__).parents[2])}
    both = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert len(list(cache.iterdir())) == 1


@needs_compiler
def test_another_processor_has_a_library_of_its_own(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled()
    monkeypatch.setattr(compiling, "_processor", lambda: "another")
    compiled()
    assert len(list(cache.iterdir())) == 2


def test_without_a_compiler_there_is_none(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    assert compiled() is None
    assert not cache.exists()


def test_it_can_be_switched_off(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiling.SWITCH, "0")
    assert compiled() is None


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_can_write_to_is_not_used(cache: Path, mode: int) -> None:
    cache.mkdir(parents=True)
    cache.chmod(mode)
    assert compiled() is None
    assert not list(cache.iterdir())


def test_a_cache_that_cannot_be_written_is_no_error(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file")
    assert compiled() is None


def test_no_home_folder_is_no_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(compiling.Path, "home", no_home)
    assert compiled() is None


@needs_compiler
def test_a_compiler_that_fails_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_FLAGS", ("-fno-such-flag",))
    assert compiled() is None
    assert not list(cache.iterdir())


def test_a_damaged_library_is_no_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_compile", lambda compiler, source, flags, file: file.write_bytes(b"not a library"))
    assert compiled() is None

"""A kernel is compiled once for a machine, by whoever comes first, and never where others could replace it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from metashot.kernels import compiling

NAME = "normalised_pool"
needs_compiler = pytest.mark.skipif(compiling.library(NAME) is None, reason="there is no C compiler")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "metashot" / "kernels"


def compiled(*functions: str) -> object:
    """As in a process that has not asked before."""
    return compiling.library.__wrapped__(NAME, functions)


def library_in(cache: Path) -> Path:
    (file,) = cache.glob("*.so")
    return file


def truncated(file: Path) -> None:
    content = file.read_bytes()
    file.unlink()  # as long as a process has it open, it must not change
    file.write_bytes(content[: len(content) // 2])
    file.chmod(0o700)


def another(file: Path) -> None:
    source = file.with_suffix(".c")
    source.write_text("int foo(void) { return 0; }")
    file.unlink()
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(file)], check=True)
    source.unlink()


def emptied(file: Path) -> None:
    file.unlink()
    file.touch(0o700)


def open_to_all(file: Path) -> None:
    file.chmod(0o777)


def linked(file: Path) -> None:
    elsewhere = file.parents[1] / "elsewhere.so"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)


def of_another_user(file: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(file, 1000, 1000)


@needs_compiler
@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        linked,
        *(pytest.param(one, marks=pytest.mark.long) for one in (another, emptied, open_to_all, of_another_user)),
    ],
    ids=lambda damage: damage.__name__,
)
def test_what_is_not_what_was_compiled_is_compiled_again(cache: Path, damage: Callable[[Path], None]) -> None:
    compiled()
    file = library_in(cache)
    damage(file)
    code = f"from metashot.kernels import compiling; assert compiling.library({NAME!r}, ('metashot_forward',)) is not None"
    environment = os.environ | {"PYTHONPATH": str(Path(compiling.__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=120).returncode == 0
    status = file.lstat()
    assert (status.st_uid, status.st_mode & 0o777, file.is_symlink()) == (os.geteuid(), 0o700, False)
    assert compiling._is_whole(file)


@needs_compiler
def test_a_library_without_the_functions_is_none(cache: Path) -> None:
    assert compiled("metashot_forward") is not None
    assert compiled("metashot_forward", "metashot_backwards") is None


@pytest.mark.parametrize("place", ["cache", "cache/metashot"])
def test_a_folder_whose_parent_others_can_write_to_is_not_used(cache: Path, place: str) -> None:
    cache.mkdir(parents=True, mode=0o700)
    parent = cache.parents[1] if place == "cache" else cache.parent
    parent.chmod(0o777)
    assert compiled() is None
    assert not list(cache.iterdir())
    parent.chmod(0o1777)  # as /tmp has it: nobody can rename what others own
    assert (compiled() is None) == (compiling.library(NAME) is None)


def test_a_cache_that_depends_on_the_working_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", "home")
    assert compiled() is None
    assert not list(tmp_path.iterdir())


@needs_compiler
def test_it_is_compiled_once_and_whole(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled() is not None
    file = library_in(cache)
    assert file.name.startswith(NAME)
    assert file.stat().st_mode & 0o777 == 0o700
    assert cache.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(compiling, "_compile", lambda *_: pytest.fail("compiled again"))
    assert compiled() is not None


@needs_compiler
def test_two_processes_at_once_get_along(cache: Path) -> None:
    code = f"from metashot.kernels import compiling; assert compiling.library({NAME!r}) is not None"
    environment = os.environ | {"PYTHONPATH": str(Path(compiling.__file__).parents[2])}
    both = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert {path.suffix for path in cache.iterdir()} == {".so", ".sha256"}
    assert len(list(cache.iterdir())) == 2


@needs_compiler
def test_another_processor_has_a_library_of_its_own(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled()
    monkeypatch.setattr(compiling, "_processor", lambda: "another")
    compiled()
    assert len(list(cache.glob("*.so"))) == 2


def test_without_a_compiler_there_is_none(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    assert compiled() is None
    assert not cache.exists()


@needs_compiler
def test_folders_that_it_makes_are_its_own_whatever_the_umask(cache: Path) -> None:
    before = os.umask(0o002)
    try:
        assert compiled() is not None
    finally:
        os.umask(before)
    assert {each.stat().st_mode & 0o777 for each in (cache, *list(cache.parents)[:2])} == {0o700}


@needs_compiler
def test_the_reason_why_there_is_none_is_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o770)
    assert compiled() is None
    assert f"others can write to {cache} or own it, of mode 770: chmod go-w {cache}" in compiling.why_not()
    cache.chmod(0o700)
    assert compiled("metashot_other") is None
    assert "has no function metashot_other: delete it" in compiling.why_not()
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    assert compiled() is None
    assert "there is no C compiler" in compiling.why_not()
    monkeypatch.setenv(compiling.SWITCH, "0")
    assert compiling.why_not() == "METASHOT_KERNELS=0 switches them off"


@pytest.mark.parametrize("value", ["0", "false", "off", ""])
def test_it_can_be_switched_off(cache: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(compiling.SWITCH, value)
    assert compiled() is None
    assert not cache.exists()


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

"""Compiles the C sources of this package at their first use, and keeps the libraries in the user's cache.

A kernel is an optional capability: without a C compiler, or with METASHOT_KERNELS=0 in the environment, the operations of
PyTorch that it replaces are used. A library is compiled for the processor at hand, which determines the name of its file.
"""

import contextlib
import ctypes
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

from metashot.files.outputs import atomic_file

SWITCH = "METASHOT_KERNELS"
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
_SECONDS = 60.0  # that a compilation may take
_failures: list[str] = []  # why there is no library, of each that could not be compiled or loaded


@cache
def library(name: str, functions: tuple[str, ...] = ()) -> ctypes.CDLL | None:
    """The compiled library of a source file of this package.

    Args:
        name: The name of the file, without its ending.
        functions: The names of functions that it must have.

    Returns:
        The library; None where it is switched off or cannot be compiled.
    """
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if switched_off():
        return None
    if compiler is None or not os.path.isabs(compiler):
        return _failed("there is no C compiler, such as gcc, in a folder of PATH")
    source = Path(__file__).with_name(f"{name}.c")
    flags = [*_FLAGS, *_openmp_of_torch()]
    sources = [path.read_text(encoding="utf-8") for path in (source, *sorted(source.parent.glob("*.h")))]
    described = (*sources, *flags, compiler, torch.__version__, _processor())
    digest = hashlib.sha256("\0".join(described).encode()).hexdigest()[:20]
    try:
        file = _own_folder() / f"{name}-{digest}.so"
        if not _is_whole(file):
            _compile(compiler, source, flags, file)
        loaded = ctypes.CDLL(str(file))
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:  # the last where there is no home folder
        return _failed(f"they cannot be compiled or loaded ({error})")
    if missing := [function for function in functions if not hasattr(loaded, function)]:
        return _failed(f"{file} has no function {missing[0]}: delete it")
    return loaded


def _failed(reason: str) -> ctypes.CDLL | None:
    _failures.append(reason)
    return None


def switched_off() -> bool:
    """Whether METASHOT_KERNELS is set to anything but 1, which asks for the operations of PyTorch."""
    return os.environ.get(SWITCH, "1") != "1"


def why_not() -> str:
    """The reason why kernels are not there."""
    if switched_off():
        return f"{SWITCH}={os.environ[SWITCH]} switches them off"
    return _failures[-1] if _failures else "they have not been asked for"


def _compile(compiler: str, source: Path, flags: list[str], file: Path) -> None:
    """Compile to a file that is there as a whole or not at all, with its digest beside it."""
    handle, unfinished = tempfile.mkstemp(dir=file.parent, suffix=".so")
    os.close(handle)
    try:
        call = [compiler, str(source), "-o", unfinished, *flags, "-lm"]
        subprocess.run(call, check=True, capture_output=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)
        Path(unfinished).chmod(0o700)
        digest = _digest(Path(unfinished))
        os.replace(unfinished, file)
        with atomic_file(_beside(file)) as noted:
            noted.write(digest.encode())
    finally:
        Path(unfinished).unlink(missing_ok=True)


def _is_whole(file: Path) -> bool:
    """Whether a library is what was compiled: to load one that was truncated would end the process.

    A file that others own or can write to is not loaded either, whatever it holds.
    """
    try:
        status = file.lstat()
        private = stat.S_ISREG(status.st_mode) and not _can_be_changed_by_others(status)
        return private and _beside(file).read_text() == _digest(file)
    except (OSError, UnicodeDecodeError):
        return False


def _beside(file: Path) -> Path:
    return file.with_suffix(".sha256")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _own_folder() -> Path:
    """A folder in the user's cache that nobody else can write to or replace, since what is in it is executed.

    Raises:
        PermissionError: Somebody else can.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    cache_home = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    if not cache_home.is_absolute():
        raise PermissionError(f"{cache_home} depends on the working folder")
    folder = cache_home / "metashot" / "kernels"
    for each in (*reversed(folder.parents), folder):  # `parents=True` would give those in between the mode of the umask
        if not each.is_dir():
            each.mkdir(mode=0o700, exist_ok=True)
    folder = folder.resolve(strict=True)
    if folder.stat().st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to another user")
    if open_ones := [each for each in (folder, *folder.parents) if _is_open(each)]:
        mode = stat.S_IMODE(open_ones[0].stat().st_mode)
        raise PermissionError(f"others can write to {open_ones[0]} or own it, of mode {mode:03o}: chmod go-w {open_ones[0]}")
    return folder


def _is_open(folder: Path) -> bool:
    """Whether other users can replace a folder inside this one. They cannot in one like /tmp, with the sticky bit."""
    status = folder.stat()
    return _can_be_changed_by_others(status) and not (status.st_mode & stat.S_ISVTX and status.st_uid in _trusted())


def _can_be_changed_by_others(status: os.stat_result) -> bool:
    return status.st_uid not in _trusted() or bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _trusted() -> set[int]:
    return {0, os.geteuid()}


def _openmp_of_torch() -> list[str]:
    """Link with the OpenMP runtime that torch has loaded: threads of two runtimes would fight over the cores."""
    found = Path(torch.__file__).with_name("lib") / "libgomp.so.1"
    return [str(found)] if found.is_file() else []


def _processor() -> str:
    """The model and the instructions of the processor: a home folder may be shared by different machines."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        wanted = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")
        return "\n".join(dict.fromkeys(line for line in lines if line.partition("\t")[0].strip() in wanted))
    return os.uname().machine

"""Compiles the C sources of this package at their first use, and keeps the libraries in the user's cache.

A kernel is an optional capability: without a C compiler, or with METASHOT_KERNELS=0 in the environment, the operations of
PyTorch that it replaces are used. A library is compiled for the processor at hand, whose name is part of its file's name.
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

SWITCH = "METASHOT_KERNELS"
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
_SECONDS = 60.0  # that a compilation may take


@cache
def library(name: str) -> ctypes.CDLL | None:
    """The compiled library of a source file of this package.

    Args:
        name: The name of the file, without its ending.

    Returns:
        The library; None where it is switched off or cannot be compiled.
    """
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if os.environ.get(SWITCH, "1") == "0" or compiler is None:
        return None
    source = Path(__file__).with_name(f"{name}.c")
    flags = [*_FLAGS, *_openmp_of_torch()]
    described = (source.read_text(encoding="utf-8"), *flags, compiler, torch.__version__, _processor())
    digest = hashlib.sha256("\0".join(described).encode()).hexdigest()[:20]
    with contextlib.suppress(OSError, subprocess.SubprocessError, RuntimeError):  # the last where there is no home folder
        folder = _own_folder()
        file = folder / f"{name}-{digest}.so"
        if not file.is_file():
            _compile(compiler, source, flags, file)
        return ctypes.CDLL(str(file))
    return None


def _compile(compiler: str, source: Path, flags: list[str], file: Path) -> None:
    """Compile to a file that is there as a whole or not at all."""
    handle, unfinished = tempfile.mkstemp(dir=file.parent, suffix=".so")
    os.close(handle)
    try:
        call = [compiler, str(source), "-o", unfinished, *flags, "-lm"]
        subprocess.run(call, check=True, capture_output=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)
        os.replace(unfinished, file)
    finally:
        Path(unfinished).unlink(missing_ok=True)


def _own_folder() -> Path:
    """A folder in the user's cache that nobody else can write to, since what is in it is executed.

    Raises:
        PermissionError: Somebody else can.
    """
    cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(cache_home) / "metashot" / "kernels"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{folder} can be written to by others")
    return folder


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

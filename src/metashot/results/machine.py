"""What a measurement depends on: the processor, the number of threads, and the versions."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from metashot.bad_input import BadInput

_PACKAGES = ("torch", "learn2learn", "pytorch-lightning", "numpy")


def machine(threads: int, trainer: str) -> str:
    """The machine and the software in one line.

    Args:
        threads: The threads of a process that is measured.
        trainer: `cpu` or `gpu`.
    """
    device = "" if trainer == "cpu" else f"{gpu()}, "
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    used = f"{threads} thread{'s' if threads > 1 else ''} on {os.cpu_count()} cores"
    return f"{device}{processor()}, {used}, Python {platform.python_version()}, {versions}"


def gpu() -> str:
    """The name of the first GPU.

    Raises:
        BadInput: there is none.
    """
    import torch

    if not torch.cuda.is_available():
        raise BadInput("device=gpu cannot be used: there is no GPU that PyTorch can use; allowed here: cpu")
    return torch.cuda.get_device_name(0)


def processor() -> str:
    """The name of the processor, and the widest vectors that it computes with."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line for line in lines if line.startswith("flags")), "")
    return f"{name} ({'AVX-512' if 'avx512f' in flags else 'AVX2' if 'avx2' in flags else 'no AVX2'})"


def commit() -> str | None:
    """The revision of the code, with a plus sign where files differ from it; None where it is not a clone."""
    here = Path(__file__).parent
    try:
        head = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head[:12] + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True).stdout.strip()

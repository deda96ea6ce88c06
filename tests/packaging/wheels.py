"""Building the wheel from a copy of the sources, so that nothing of a build is left in the checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_SOURCES = ("src", "conf", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "requirements.txt")


def build_wheel(folder: Path) -> Path:
    """The wheel, built without the network by the setuptools at hand."""
    sources = folder / "sources"
    sources.mkdir()
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in _SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, sources / name, **({"ignore": left_out} if (ROOT / name).is_dir() else {}))
    code = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=sources, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]

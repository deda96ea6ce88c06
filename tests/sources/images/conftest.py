"""The official files, where a machine has them, and what several tests make of them."""

from pathlib import Path

import pytest

from metashot.sources.building import build_bank
from metashot.sources.images.cifarfs import CifarFS
from tests.real_data import REAL_DATA


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of official files; tests on them are skipped where there is none."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"{REAL_DATA} is not there; set METASHOT_DATA to the folder of the official files")
    return REAL_DATA.resolve()


@pytest.fixture(scope="session")
def real_cifarfs_zip(real_data: Path) -> Path:
    path = real_data / "cifar-fs" / "cifar-fs.zip"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path


@pytest.fixture(scope="session")
def real_cifarfs_bank(real_data: Path, real_cifarfs_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole of CIFAR-FS, built once for all tests: it takes a quarter of a minute."""
    return build_bank(CifarFS("bertinetto", 32), real_data, tmp_path_factory.mktemp("cifarfs"))

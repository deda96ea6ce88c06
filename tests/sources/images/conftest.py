"""The official files, where a machine has them, and what several tests make of them."""

import os
from pathlib import Path

import pytest

from metashot.sources.building import build_bank
from metashot.sources.images.cifarfs import CifarFS

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of official files; tests on them are skipped where there is none."""
    folder = REPOSITORY / os.environ.get("METASHOT_DATA", "../shared/data")
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; set METASHOT_DATA to the folder of the official files")
    return folder.resolve()


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

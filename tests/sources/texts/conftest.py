"""The official files, where a machine has them."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def real_texts() -> Path:
    """The folder of official files; tests on them are skipped where there are none."""
    folder = REPOSITORY / os.environ.get("METASHOT_DATA", "../shared/data")
    if not (folder / "text").is_dir():
        pytest.skip(f"{folder / 'text'} is not there; set METASHOT_DATA to the folder of the official files")
    return folder.resolve()

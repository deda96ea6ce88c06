"""The official files, where a machine has them."""

from pathlib import Path

import pytest

from tests.real_data import REAL_DATA


@pytest.fixture(scope="session")
def real_texts() -> Path:
    """The folder of official files; tests on them are skipped where there are none."""
    if not (REAL_DATA / "text").is_dir():
        pytest.skip(f"{REAL_DATA / 'text'} is not there; set METASHOT_DATA to the folder of the official files")
    return REAL_DATA.resolve()

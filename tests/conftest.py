"""The small data set's bank, built once for all tests; tests that damage it work on a copy."""

from pathlib import Path

import pytest

from metashot.sources.building import build_bank
from tests.sources.small_source import SmallSource


@pytest.fixture(scope="session")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("banks")
    build_bank(SmallSource(), root, root)
    return root

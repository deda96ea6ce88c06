"""The small data set's bank, built once for all tests, which damage only copies of it; the order of the files; and the
device that `--device` names. METASHOT_DATA is hidden from tests."""

import os
from pathlib import Path

import pytest

from metashot.sources.building import build_bank
from tests.accelerator import VARIABLE, device
from tests.real_data import take_from_environment
from tests.sources.small_source import SmallSource

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=("cpu", "cuda"), help="where scripts train, and tests/devices/ compares (cpu)")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if collection_path == HERE / "devices" and device() == "cpu" else None


def pytest_configure(config: pytest.Config) -> None:
    take_from_environment()
    if device := config.getoption("--device"):
        os.environ[VARIABLE] = device  # for the processes that tests start


@pytest.fixture(scope="session")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("banks")
    build_bank(SmallSource(), root, root)
    return root


# Beginnings of names, the slowest first. The first ones need neither the bank nor the run that many of the others share, and
# wait for nobody.
SLOWEST = (
    "tests/cli/combinations/",
    "tests/page/test_front_end.py",
    "tests/cli/",
    "tests/training/test_processes.py",
    "tests/engines/test_compiled.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slowest files, so that in the end no half of the tests waits long for the other."""
    items.sort(key=lambda item: next((k for k, start in enumerate(SLOWEST) if item.nodeid.startswith(start)), len(SLOWEST)))

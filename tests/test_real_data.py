"""METASHOT_DATA names the official files for tests, and is hidden from what they test."""

import os
import subprocess
import sys
from pathlib import Path

from tests.real_data import REAL_DATA

EXPECTED = "METASHOT_TEST_EXPECTED"


def test_the_variable_is_hidden() -> None:
    assert "METASHOT_DATA" not in os.environ
    assert Path(os.environ.get(EXPECTED, REAL_DATA)) == REAL_DATA


def test_the_variable_is_hidden_where_it_is_set_and_in_the_processes_of_xdist(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("METASHOT_", "PYTEST_"))}
    environment = kept | {"METASHOT_DATA": str(tmp_path), EXPECTED: str(tmp_path)}
    test = f"{__file__}::{test_the_variable_is_hidden.__name__}"
    call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "1", test]
    done = subprocess.run(call, cwd=Path(__file__).parents[1], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

"""METASHOT_DATA names the official files for tests, and is hidden from what they test."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real_data import VARIABLE

ROOT = Path(__file__).resolve().parents[1]


def test_the_variable_is_hidden() -> None:
    assert "METASHOT_DATA" not in os.environ


@pytest.mark.parametrize("named", [True, False])
def test_other_processes_that_run_tests_have_the_folder_and_not_the_variable(tmp_path: Path, named: bool) -> None:
    """As those of xdist, which inherit what the first one has made of the environment."""
    kept = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment = kept | {"METASHOT_DATA": str(tmp_path) if named else "", "PYTHONPATH": os.pathsep.join(sys.path)}
    other = "import os; from tests.real_data import REAL_DATA; print(REAL_DATA, 'METASHOT_DATA' in os.environ)"
    code = (
        "import subprocess, sys; from tests.real_data import take_from_environment; take_from_environment(); "
        f"subprocess.run([sys.executable, '-c', {other!r}], check=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == f"{tmp_path if named else ROOT.parent / 'shared' / 'data'} False\n", done.stderr

"""The folder of the official data sets, where a machine has them: METASHOT_DATA, by default `../shared/data`.

The variable is also the default of `data.root`, so that tests/conftest.py takes it out of the environment: tests, and
what they start, behave the same with it and without it. VARIABLE passes the folder on to other processes that run tests.
"""

import os
from pathlib import Path

from metashot.sources.root import VARIABLE as OF_USERS

VARIABLE = "METASHOT_TEST_DATA"
_REPOSITORY = Path(__file__).resolve().parents[1]
_GIVEN = os.environ.get(VARIABLE) or os.environ.get(OF_USERS) or "../shared/data"
REAL_DATA = Path(os.path.normpath(_REPOSITORY / Path(_GIVEN).expanduser()))


def take_from_environment() -> None:
    """Hide METASHOT_DATA from the tests and from the processes that they start."""
    os.environ.pop(OF_USERS, None)
    os.environ[VARIABLE] = str(REAL_DATA)

"""Every algorithm and engine on images of 32x32: train.py, evaluate.py and `metashot.load`.

In the suite that is always run, learners without an inner loop are left to the images of 28x28 and 84x84.
"""

from pathlib import Path

import pytest

from ..conftest import Command
from .conftest import Starts
from .runs import FUSED, PAIRS, arguments_of, of_images, runs_through, starts_elsewhere

SIZE = "32"
MARKED = [
    pytest.param(
        *pair.values, marks=[*pair.marks, *([] if "engine" in arguments_of(pair.values[0]) else [pytest.mark.long])]
    )
    for pair in PAIRS
]


@pytest.mark.parametrize(("algo", "engine"), MARKED)
def test_trained_tested_scored_and_fitted(command: Command, pictures: Path, starts: Starts, algo: str, engine: str) -> None:
    start = [f"init_from={starts(SIZE)}"] if starts_elsewhere(algo) else []
    runs_through(command, algo, engine, *of_images(SIZE, pictures, command.banks), *start)


@pytest.mark.parametrize(("algo", "engine"), FUSED)
def test_fused_blocks_are_trained_tested_scored_and_fitted(command: Command, pictures: Path, algo: str, engine: str) -> None:
    runs_through(command, algo, engine, *of_images(SIZE, pictures, command.banks), "backbone.fused=true")

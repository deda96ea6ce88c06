"""Every algorithm and engine on images of 84x84: train.py, evaluate.py and `metashot.load`."""

from pathlib import Path

import pytest

from ..conftest import Command
from .conftest import Starts
from .runs import FUSED, PAIRS, of_images, runs_through, starts_elsewhere

SIZE = "84"


@pytest.mark.parametrize(("algo", "engine"), PAIRS)
def test_trained_tested_scored_and_fitted(command: Command, pictures: Path, starts: Starts, algo: str, engine: str) -> None:
    start = [f"init_from={starts(SIZE)}"] if starts_elsewhere(algo) else []
    runs_through(command, algo, engine, *of_images(SIZE, pictures, command.banks), *start)


@pytest.mark.parametrize(("algo", "engine"), FUSED)
def test_fused_blocks_are_trained_tested_scored_and_fitted(command: Command, pictures: Path, algo: str, engine: str) -> None:
    runs_through(command, algo, engine, *of_images(SIZE, pictures, command.banks), "backbone.fused=true")

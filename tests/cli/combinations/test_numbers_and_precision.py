"""Every algorithm that learns numbers with every engine; some of each family in other precisions."""

from pathlib import Path

import pytest

from ..conftest import Command
from .conftest import Starts
from .runs import OF_NUMBERS, arguments_of, of_images, runs_through, starts_elsewhere

PRECISE = [
    ("maml", "learn2learn"),
    ("maml", "batched"),
    ("reptile", "auto"),
    ("protonet", "auto"),
    ("r2d2", "auto"),
    ("svm", "auto"),
    ("logistic", "auto"),
    ("tim", "auto"),
    ("feat", "auto"),
    ("baselinepp", "auto"),
]


@pytest.mark.parametrize(("algo", "engine"), OF_NUMBERS)
def test_numbers_are_trained_tested_scored_and_fitted(command: Command, starts: Starts, algo: str, engine: str) -> None:
    start = [f"init_from={starts('numbers')}"] if starts_elsewhere(algo) else []
    # The experiment is about inner loops, and sets them.
    curves = ["experiment=sinusoid"] if "inner_lr" in arguments_of(algo) else ["data=sinusoid", "backbone=mlp_sinusoid"]
    runs_through(command, algo, engine, *curves, *start)


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
@pytest.mark.parametrize(("algo", "engine"), PRECISE)
def test_other_precisions_are_trained_tested_scored_and_fitted(
    command: Command, pictures: Path, algo: str, engine: str, precision: str
) -> None:
    runs_through(command, algo, engine, *of_images("32", pictures, command.banks), f"trainer.precision={precision}")

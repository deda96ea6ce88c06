"""Every algorithm with every network of images beside conv4, on gray and coloured images: train.py, evaluate.py and
`metashot.load`."""

from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from ..conftest import Command
from .conftest import Starts
from .runs import NETWORKS, PAIRS, SIZES, arguments_of, of_network, runs_through, starts_elsewhere

DROPS = {"conv4_concatenated": ["backbone.dropout=0"]}  # which inner loops refuse
MAPS = {"resnet12": ["backbone.pooling=none"]}
FEW = {  # in the test suite that is always run
    ("conv4_concatenated", "32", "maml"),
    ("conv4_concatenated", "32", "r2d2"),
    ("conv4_concatenated", "32", "baselinepp"),
    ("conv4_concatenated", "32", "cnaps"),
    ("resnet12", "32", "feat"),
}


def combinations() -> list[ParameterSet]:
    return [
        pytest.param(
            network,
            size,
            *pair.values,
            marks=[*pair.marks, *([] if (network, size, pair.values[0]) in FEW else [pytest.mark.long])],
        )
        for network in NETWORKS
        for size in SIZES
        for pair in PAIRS
        # Relation networks compare maps of at least 4x4, which mlp never has, and the others have of the largest images.
        if pair.values[0] != "relation" or (network != "mlp" and size == "84")
    ]


@pytest.mark.parametrize(("network", "size", "algo", "engine"), combinations())
def test_trained_tested_scored_and_fitted(
    command: Command, pictures: Path, starts: Starts, network: str, size: str, algo: str, engine: str
) -> None:
    start = [f"init_from={starts(size, network)}"] if starts_elsewhere(algo) else []
    own: list[str] = []
    if "engine" in arguments_of(algo):
        own = DROPS.get(network, [])
    elif algo == "relation":
        own = MAPS.get(network, [])
    runs_through(command, algo, engine, *of_network(network, size, pictures, command.banks), *own, *start)

"""Every algorithm with every network of images beside conv4: train.py, evaluate.py and `metashot.load`."""

from pathlib import Path

import pytest

from ..conftest import Command
from .conftest import Starts
from .runs import NETWORKS, PAIRS, arguments_of, of_network, runs_through, starts_elsewhere

DROPS = {"conv4_concatenated": ["backbone.dropout=0"]}  # which inner loops refuse
MAPS = {"resnet12": ["backbone.pooling=none"]}
FEW = {  # in the test suite that is always run
    ("conv4_concatenated", "maml"),
    ("conv4_concatenated", "r2d2"),
    ("conv4_concatenated", "baselinepp"),
    ("conv4_concatenated", "cnaps"),
    ("resnet12", "feat"),
}


@pytest.mark.parametrize(
    ("network", "algo", "engine"),
    [
        pytest.param(
            network, *pair.values, marks=[*pair.marks, *([] if (network, pair.values[0]) in FEW else [pytest.mark.long])]
        )
        for network in NETWORKS
        for pair in PAIRS
        if (network, pair.values[0]) != ("mlp", "relation")  # which is refused: there are no maps to compare
    ],
)
def test_trained_tested_scored_and_fitted(
    command: Command, pictures: Path, starts: Starts, network: str, algo: str, engine: str
) -> None:
    start = [f"init_from={starts(network)}"] if starts_elsewhere(algo) else []
    own = DROPS.get(network, []) if "engine" in arguments_of(algo) else []
    size = "32"
    if algo == "relation":
        own, size = MAPS.get(network, []), "84"  # maps of 4x4 at least
    runs_through(command, algo, engine, *of_network(network, pictures, command.banks, size), *own, *start)

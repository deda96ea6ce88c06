"""Heads that answer from features, on other episodes than those that they were trained for: more classes, more examples, and
unequal numbers of queries, down to one query alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metashot

from ..conftest import Command
from .conftest import Starts
from .runs import SIZES, TINY, of_images, settings_of, starts_elsewhere

HEADS = {
    "protonet": [],
    "protonet, l2": ["algo.normalise=l2"],
    "protonet, centre_l2": ["algo.normalise=centre_l2"],
    "matching": [],
    "r2d2": [],
    "svm": [],
    "feat": [],
    "leo": [],
    "cnaps": [],
    "cnaps, in blocks": ["algo.film=blocks"],
    "logistic": [],
    "baseline": [],
    "baselinepp": [],
    "laplacianshot": [],
    "tim": ["algo.steps=5"],
    "ptmap": [],
}


@pytest.mark.filterwarnings(
    "ignore::metashot.applied.photographs.PhotographsGiven"
)  # of noise, given to learners of drawings
@pytest.mark.parametrize(
    ("size", "shots"),
    [
        (size, shots) if shots == (1 if size == "28" else 5) else pytest.param(size, shots, marks=pytest.mark.long)
        for size in SIZES
        for shots in (1, 5)
    ],
)
@pytest.mark.parametrize("head", HEADS)
def test_other_episodes_are_answered(
    command: Command, more_pictures: Path, starts: Starts, head: str, size: str, shots: int
) -> None:
    algo = head.partition(",")[0]
    data = [argument for argument in of_images(size, more_pictures, command.banks) if "examples" not in argument]
    small = [*TINY, *settings_of(algo), f"data.shots={shots}", "data.val.unequal_queries=1", "folder=run"]
    start = [f"init_from={starts(size)}"] if starts_elsewhere(algo) else []
    trained = command.run("train.py", *data, f"algo={algo}", *HEADS[head], *small, *start)
    assert trained.code == 0, trained
    asked = ["data.queries=2", "data.test.unequal_queries=0.5", "grid.ways=[2,3]", "grid.shots=[1,5]", "episodes=3"]
    scored = command.run("evaluate.py", "ckpt=run", *asked, "pictures=none", "out=grid")
    assert scored.code == 0, scored
    assert "unequal queries (Dirichlet 0.5)" in scored.out
    cells = json.loads((command.folder / "grid" / "report.json").read_text())["grid"]
    found = {(cell["ways"], cell["shots"]): cell for grid in cells for cell in grid["checkpoints"]}
    assert set(found) == {(2, 1), (2, 5), (3, 1), (3, 5)}
    assert all(0 <= cell["accuracy"] <= 1 and cell["unequal_queries"] == 0.5 for cell in found.values())
    learner: Any = metashot.load(command.folder / "run", device="cpu")
    channels, height, width = learner.origin["input_shape"]
    shape = (height, width) if channels == 1 else (height, width, channels)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (3 * shots, *shape), dtype=np.uint8)
    learner.fit(images, ["cat", "dog", "owl"] * shots)
    shares = learner.predict_proba(images[:1])
    np.testing.assert_allclose(shares.sum(1), 1)
    if not learner.transductive:
        np.testing.assert_allclose(learner.predict_proba(images)[:1], shares, atol=1e-5)

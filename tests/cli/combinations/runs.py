"""Every combination that the documentation offers, the way a user goes: trained and tested by train.py with the curve over
inner steps, scored again by evaluate.py, and fitted through `metashot.load`.

What there is comes from conf/: a new algorithm or engine is crossed with all others as soon as its file is there.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from _pytest.mark import ParameterSet

import metashot
from metashot.algorithms.base import Algorithm
from metashot.configuration import signatures
from metashot.configuration.buildable import CONF
from metashot.problems import Classification, Regression
from tests import accelerator

from ..conftest import Command
from ..processes import report

WAYS, SIZES = 2, {"28": ("glyphs", 1), "32": ("folder", 3), "84": ("folder", 3)}
# A user's own settings, which win over those of an algorithm, of its paper and of an experiment.
SMALL = (
    "backbone.channels=4",
    "backbone.downsampling=stride",
    f"data.ways={WAYS}",
    "data.train.ways=null",
)
# Networks of images, beside conv4.
NETWORKS = {
    "conv4_concatenated": ("backbone=conv4_concatenated", "backbone.channels=4"),
    "resnet12": ("backbone=resnet12", "backbone.widths=[4,4,4,4]"),
    "mlp": ("backbone=mlp", "backbone.hidden=[8]"),
}
TINY = (
    "data.queries=2",
    "data.train.shots=null",
    "data.train.queries=null",
    "data.val.episodes=2",
    "data.test.episodes=4",
    "data.tasks_per_step=2",
    "data.tasks_per_evaluation_step=2",
    "trainer.validate_every=2",
    "trainer.log_every=1",
    "logger=none",
    "pictures=none",
    "curve=2",
)
# Of what an algorithm takes. A curve of two steps, and mini-batches where there are some.
OWN = {
    "inner_steps": "algo.inner_steps=2",
    "test_inner_steps": "algo.test_inner_steps=2",
    "test_inner_batch": "algo.test_inner_batch=1 algo.inner_batch=3",
    "fit": "algo.fit.steps=3",
}


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def arguments_of(algo: str) -> set[str]:
    kind = kind_of(algo)
    return set(signatures.parameters_of(f"{kind.__module__}.{kind.__name__}"))


def kind_of(algo: str) -> type[Algorithm]:
    """The class that its file names, or the one that this file begins with."""
    file = yaml.safe_load((CONF / "algo" / f"{algo}.yaml").read_text())
    target = file["algo"].get("_target_")
    if target is None:
        return kind_of(next(entry for entry in file["defaults"] if isinstance(entry, str) and entry != "_self_"))
    module, _, name = target.rpartition(".")
    kind: type[Algorithm] = getattr(importlib.import_module(module), name)
    return kind


def engines_of(algo: str) -> list[str]:
    return choices("engine") if "engine" in arguments_of(algo) else ["auto"]


def crossed(algorithms: list[str]) -> list[ParameterSet]:
    """With every engine. `auto` is one of the other two, whatever the algorithm: with one of them it is always run."""
    pairs = [(algo, engines_of(algo), engine) for algo in algorithms for engine in engines_of(algo)]
    return [
        pytest.param(algo, engine, marks=[pytest.mark.long] if engine == "auto" and engines[1:] and algo != "maml" else [])
        for algo, engines, engine in pairs
    ]


# With fused blocks: an inner loop on each engine, episodes, and supervised training.
FUSED = [("maml", "learn2learn"), ("maml", "batched"), ("protonet", "auto"), ("baselinepp", "auto")]
# tests/cli/test_prompted.py has what needs a text tower.
# tests/cli/test_made_examples.py has what makes pixels, without a backbone's settings.
PAIRS = crossed(
    [
        algo
        for algo in choices("algo")
        if Classification in kind_of(algo).solves
        and algo != "vae_images"
        and not getattr(kind_of(algo), "reads_names", False)
    ]
)
OF_NUMBERS = crossed([algo for algo in choices("algo") if Regression in kind_of(algo).solves])


def starts_elsewhere(algo: str) -> bool:
    kind = kind_of(algo)
    return kind.needs_start or kind.needs_features or not kind.trains


def settings_of(algo: str) -> list[str]:
    kind = kind_of(algo)
    own = " ".join(setting for parameter, setting in OWN.items() if parameter in arguments_of(algo)).split()
    frozen = ["freeze_backbone=true"] if kind.needs_features else []
    batch = ["data.train.batch=4"] if kind.supervised else []
    return [*own, *frozen, f"trainer.max_steps={2 if kind.trains else 0}", *batch]


def of_images(size: str, pictures: Path, banks: Path) -> list[str]:
    data, _ = SIZES[size]
    few = ["data.source.examples=3"]  # of each letter: one to learn from, two to ask for
    own = [f"data.root={pictures}", f"data.source.image_size={size}"] if data == "folder" else few
    return [f"data={data}", f"data.banks={banks}", *own, *SMALL]


def of_network(network: str, size: str, pictures: Path, banks: Path) -> list[str]:
    data = [argument for argument in of_images(size, pictures, banks) if not argument.startswith("backbone.")]
    return [*data, *NETWORKS[network]]


def runs_through(command: Command, algo: str, engine: str, *more: str) -> None:
    """All of it; `more` are the data, and what the backbone of such data needs."""
    trained = command.run("train.py", *more, f"algo={algo}", f"engine={engine}", *TINY, *settings_of(algo), "folder=run")
    assert trained.code == 0, trained
    tested = report(command.folder / "run")
    steps = [at["steps"] for at in tested["inner_steps"]]
    assert steps == ([0, 1, 2] if "engine" in arguments_of(algo) else [])
    assert all(at["episodes"] == 2 and np.isfinite(at["score"]) for at in tested["inner_steps"])
    # Of a call, and not of a checkpoint.
    precision = [argument for argument in more if argument.startswith("trainer.precision=")]
    scored = command.run("evaluate.py", "ckpt=run", "episodes=4", "curve=2", "pictures=none", *precision, "out=again")
    assert scored.code == 0, scored
    again = report(command.folder / "again")
    measured = "mse" if "mse" in tested else "accuracy"
    assert np.isfinite(tested[measured])
    assert again["loss"] == tested["loss"]
    assert (again[measured], again["inner_steps"]) == (tested[measured], tested["inner_steps"])
    fitted(command.folder / "run", numbers=measured == "mse")


def fitted(run: Path, numbers: bool) -> None:
    """In this process, which has gradients on, as a user's own has."""
    learner: Any = metashot.load(run, device=accelerator.device())
    random = np.random.default_rng(0)
    if numbers:
        x = random.uniform(-5, 5, 6)
        assert np.isfinite(learner.fit(x, np.sin(x)).predict(x)).all()
        return
    channels, height, width = learner.origin["input_shape"]
    shape = (height, width) if channels == 1 else (height, width, channels)
    images = random.integers(0, 256, (WAYS, *shape), dtype=np.uint8)
    assert set(learner.fit(images, ["cat", "dog"]).predict(images)) <= {"cat", "dog"}
    shares = learner.predict_proba(images)
    assert shares.shape == (WAYS, WAYS)
    np.testing.assert_allclose(shares.sum(1), 1)

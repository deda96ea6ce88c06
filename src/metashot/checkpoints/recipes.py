"""How each command composes its configuration, and which parts can come from a stored configuration."""

from dataclasses import replace

from metashot.checkpoints.stored import BEST, configuration_of_checkpoint, configuration_of_learner, configuration_of_run
from metashot.configuration.composing import Recipe, Stored


def _stored_in_run(key: str) -> Stored:
    return lambda given: configuration_of_run(given, key)


TRAINING = Recipe(
    "train",
    groups=("backbone", "data", "engine", "trainer", "logger", "algo"),
    stored={key: _stored_in_run(key) for key in ("resume", "repeat")},
    keys=("seed", "init_from", "freeze_backbone", "allow_seen_classes", "pictures", "curve"),
    parts={"init_from": (_stored_in_run("init_from"), "backbone")},
)
EVALUATION = Recipe(
    "evaluate",
    groups=("backbone", "data", "engine", "algo"),
    stored={"ckpt": lambda given: configuration_of_checkpoint(given, "ckpt", BEST)},
    several=("ckpt",),
)
PREDICTION = Recipe(
    "predict",
    groups=("backbone", "algo"),
    stored={"ckpt": lambda given: configuration_of_learner(given, "ckpt")},
)
PAGE = replace(PREDICTION, name="page")
LOOKING = Recipe("look", groups=("data",))
RESULTS = Recipe("results", groups=())

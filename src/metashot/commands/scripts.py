"""The four commands, as train.py, evaluate.py, `python -m metashot.predict`, `python -m metashot.data` and `metashot` call
them: the configuration of each, and what is refused before torch is imported, which takes seconds."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from metashot.checkpoints.stored import BEST, configuration_of_checkpoint, configuration_of_learner, configuration_of_run
from metashot.commands.command_line import Stored, run_script
from metashot.commands.refusals import refuse_evaluation, refuse_looking, refuse_prediction, refuse_training
from metashot.configuration import plain

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train() -> None:
    """Train a few-shot learner, test its best checkpoint, and write the report."""
    groups = ("backbone", "data", "engine", "trainer", "logger", "algo")
    whole = {key: _stored_in_run(key) for key in ("resume", "repeat")}
    keys = ("seed", "init_from", "freeze_backbone", "allow_seen_classes", "pictures", "curve")
    run_script(_train, "train", whole, groups, keys, {"init_from": (_stored_in_run("init_from"), "backbone")})


def evaluate() -> None:
    """Score checkpoints on episodes, and compare several on the same ones."""
    groups = ("backbone", "data", "engine", "algo")
    run_script(_evaluate, "evaluate", {"ckpt": _stored_in_checkpoint}, groups, (), {}, several=("ckpt",))


def predict() -> None:
    """Learn classes from a folder of a few images each, and name the classes of other images."""
    run_script(_predict, "predict", {"ckpt": _stored_in_learner}, ("backbone", "algo"), (), {})


def data() -> None:
    """Show what a data set has, and a picture of one of its episodes."""
    run_script(_look, "look", {}, ("data",), (), {})


COMMANDS: dict[str, Callable[[], None]] = {"train": train, "evaluate": evaluate, "predict": predict, "data": data}


def _train(config: "DictConfig") -> float:
    refuse_training(plain(config))
    from metashot.commands.train import train_and_test

    return train_and_test(config)


def _evaluate(config: "DictConfig") -> float:
    refuse_evaluation(plain(config))
    from metashot.commands.evaluate import evaluate_checkpoints

    return evaluate_checkpoints(config)


def _predict(config: "DictConfig") -> Any:
    refuse_prediction(plain(config))
    from metashot.commands.predict import predict_files

    return predict_files(config)


def _look(config: "DictConfig") -> Any:
    refuse_looking(plain(config))
    from metashot.commands.look import look_at_data

    return look_at_data(config)


def _stored_in_run(key: str) -> Stored:
    return lambda given: configuration_of_run(given, key)


def _stored_in_checkpoint(given: str) -> dict[str, Any]:
    return configuration_of_checkpoint(given, "ckpt", BEST)


def _stored_in_learner(given: str) -> dict[str, Any]:
    return configuration_of_learner(given, "ckpt")

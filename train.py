"""Train a few-shot learner, test its best checkpoint, and write the report."""

from typing import TYPE_CHECKING, Any

from metashot.checkpoints.stored import configuration_of_run
from metashot.commands.command_line import Stored, run_script
from metashot.commands.refusals import refuse_training
from metashot.configuration import plain

if TYPE_CHECKING:
    from omegaconf import DictConfig

GROUPS = ("backbone", "data", "engine", "trainer", "logger", "algo")


def train(config: "DictConfig") -> float:
    refuse_training(plain(config))  # before the next line imports torch, which takes seconds
    from metashot.commands.train import train_and_test

    return train_and_test(config)


def stored(key: str) -> Stored:
    def load(given: str) -> dict[str, Any]:
        return configuration_of_run(given, key)

    return load


if __name__ == "__main__":
    whole = {key: stored(key) for key in ("resume", "repeat")}
    keys = ("seed", "init_from", "freeze_backbone", "allow_seen_classes", "pictures", "curve")
    run_script(train, "train", whole, GROUPS, keys, {"init_from": (stored("init_from"), "backbone")})

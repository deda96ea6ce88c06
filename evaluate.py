"""Score checkpoints on episodes: `python evaluate.py ckpt=RUN`, or several on the same ones: `ckpt=[RUN1,RUN2]`."""

from typing import TYPE_CHECKING, Any

from metashot.checkpoints.stored import BEST, configuration_of_checkpoint
from metashot.commands.command_line import run_script
from metashot.commands.refusals import refuse_evaluation
from metashot.configuration import plain

if TYPE_CHECKING:
    from omegaconf import DictConfig

GROUPS = ("backbone", "data", "engine", "algo")


def evaluate(config: "DictConfig") -> float:
    refuse_evaluation(plain(config))  # before the next line imports torch, which takes seconds
    from metashot.commands.evaluate import evaluate_checkpoints

    return evaluate_checkpoints(config)


def stored(given: str) -> dict[str, Any]:
    return configuration_of_checkpoint(given, "ckpt", BEST)


if __name__ == "__main__":
    run_script(evaluate, "evaluate", {"ckpt": stored}, GROUPS, (), {}, several=("ckpt",))

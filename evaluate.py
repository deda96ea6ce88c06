"""Score checkpoints on episodes: `python evaluate.py ckpt=RUN`, or several on the same ones: `ckpt=[RUN1,RUN2]`."""

from typing import TYPE_CHECKING, Any

from metashot.command_line import run_script

if TYPE_CHECKING:
    from omegaconf import DictConfig

GROUPS = ("backbone", "data", "engine", "algo")


def evaluate(config: "DictConfig") -> float:
    from metashot.commands.evaluate import evaluate_checkpoints

    return evaluate_checkpoints(config)


def stored(given: str) -> dict[str, Any]:
    from metashot.commands.evaluate import stored_configuration

    return stored_configuration(given)


if __name__ == "__main__":
    run_script(evaluate, "evaluate", {"ckpt": stored}, GROUPS, (), {}, several=("ckpt",))

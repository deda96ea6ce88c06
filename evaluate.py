"""Score a checkpoint on episodes: `python evaluate.py ckpt=RUN`."""

from typing import TYPE_CHECKING, Any

from metashot.command_line import run_script

if TYPE_CHECKING:
    from omegaconf import DictConfig

GROUPS = ("backbone", "data", "engine", "algo")


def evaluate(config: "DictConfig") -> float:
    from metashot.commands.evaluate import evaluate_checkpoint

    return evaluate_checkpoint(config)


def stored(given: str) -> dict[str, Any]:
    from metashot.commands.evaluate import stored_configuration

    return stored_configuration(given)


if __name__ == "__main__":
    run_script(evaluate, "evaluate", {"ckpt": stored}, GROUPS, ("seed",), {})

"""The device that `pytest --device` names. Scripts that tests start train there unless a test says where."""

import os
from collections.abc import Sequence
from dataclasses import replace

import torch

from metashot.episodes import Episode, Examples

VARIABLE = "METASHOT_TEST_DEVICE"


def device() -> str:
    return os.environ.get(VARIABLE, "cpu")


def for_scripts(script: str, arguments: Sequence[str]) -> list[str]:
    """The trainer of the device for a script that has one, unless its arguments are about that."""
    ends = any(argument in ("--help", "-h", "--version") for argument in arguments)
    said = any(argument.startswith(("trainer=", "trainer.accelerator=", "repeat=", "resume=")) for argument in arguments)
    return [] if device() == "cpu" or said or ends or script not in ("train.py", "evaluate.py") else ["trainer=gpu"]


def cards() -> dict[str, str]:
    """The variables with which a script sees the device and no other. Counting by NVML does not keep a process from being
    forked."""
    if device() == "cpu":
        return {"CUDA_VISIBLE_DEVICES": ""}
    kept = {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH") if name in os.environ}
    return {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", **kept}


def placed(episode: Episode, where: torch.device) -> Episode:
    """An episode whose tensors are all on a device, as a data module gives it."""

    def moved(examples: Examples) -> Examples:
        return replace(examples, x=examples.x.to(where), y=examples.y.to(where))

    return replace(
        episode,
        support=moved(episode.support),
        query=moved(episode.query),
        number=episode.number.to(where),
        classes=episode.classes.to(where),
    )

"""A checkpoint is blamed for what fails in a resumed run until a step was taken with it, and for nothing else."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from metashot import configuration
from metashot.bad_input import BadInput
from metashot.evaluation.protocol import Scoring
from metashot.training.saving import Saving, refuse_broken_optimizer_state

from ..configuration.test_configuration import composed

CHECKPOINT = Path("broken.ckpt")


def saving() -> Saving:
    options = configuration.build(composed("train")["trainer"])
    return Saving(Path("checkpoints"), {}, {}, Scoring(), options)


@pytest.mark.parametrize("kind", [KeyError, IndexError, TypeError, ValueError, AttributeError, AssertionError, RuntimeError])
def test_what_fails_before_the_first_step_is_laid_to_the_checkpoint(kind: type[Exception]) -> None:
    with (
        pytest.raises(BadInput, match=r"^resume: the checkpoint broken\.ckpt cannot be resumed, .*x\\x1by.*init_from="),
        saving().resuming(CHECKPOINT),
    ):
        raise kind("x\x1by\nand more")


def test_what_fails_later_or_without_a_checkpoint_is_not() -> None:
    new, restored, stepped = saving(), saving(), saving()
    restored.restored = stepped.restored = stepped.stepped = True
    cases: list[tuple[Saving, Path | None, Exception]] = [
        (new, None, TypeError("ours")),
        (restored, CHECKPOINT, RuntimeError("ours")),  # such as too little memory
        (stepped, CHECKPOINT, TypeError("ours")),
        (new, CHECKPOINT, OSError("ours")),
    ]
    for one, checkpoint, error in cases:
        with pytest.raises(type(error), match=r"^ours$"), one.resuming(checkpoint):
            raise error
    with pytest.raises(BadInput), restored.resuming(CHECKPOINT):
        raise KeyError("step")  # what the optimiser's first step looks for


def stepped_optimizer(name: str) -> torch.optim.Optimizer:
    """As a checkpoint has it after a step."""
    parameters = list(nn.Linear(3, 2).parameters())
    kinds = {"adam": torch.optim.Adam(parameters, 0.1), "sgd": torch.optim.SGD(parameters, 0.1, momentum=0.9)}
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    kinds[name].step()
    return kinds[name]


def memory_of(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    first: dict[str, Any] = next(iter(optimizer.state.values()))
    return first


def test_sound_memory_is_gone_on_with() -> None:
    for name in ("adam", "sgd"):
        refuse_broken_optimizer_state(stepped_optimizer(name))
    ended, large = stepped_optimizer("adam"), stepped_optimizer("adam")
    ended.param_groups[0]["lr"] = 0.0  # where cosine ends
    memory_of(large)["exp_avg_sq"].fill_(math.inf)  # the square of a large gradient
    for optimizer in (ended, large):
        refuse_broken_optimizer_state(optimizer)


DAMAGES: dict[str, Callable[[torch.optim.Optimizer], object]] = {
    "another shape": lambda optimizer: memory_of(optimizer).update(exp_avg=torch.zeros(3)),
    "single numbers": lambda optimizer: memory_of(optimizer).update(exp_avg=torch.tensor(1.0)),
    "text": lambda optimizer: memory_of(optimizer).update(exp_avg="x"),
    "whole numbers": lambda optimizer: memory_of(optimizer).update(exp_avg=torch.zeros(2, 3, dtype=torch.int64)),
    "true and false": lambda optimizer: memory_of(optimizer).update(step=torch.tensor(True)),
    "several steps": lambda optimizer: memory_of(optimizer).update(step=torch.zeros(3)),
    "a step below 0": lambda optimizer: memory_of(optimizer).update(step=torch.tensor(-1.0)),
    "a step that is NaN": lambda optimizer: memory_of(optimizer).update(step=torch.tensor(math.nan)),
    "NaN": lambda optimizer: memory_of(optimizer)["exp_avg"][0].fill_(math.nan),
    "a learning rate of text": lambda optimizer: optimizer.param_groups[0].update(lr="x"),
    "a learning rate of NaN": lambda optimizer: optimizer.param_groups[0].update(lr=math.nan),
    "a learning rate below 0": lambda optimizer: optimizer.param_groups[0].update(lr=-0.1),
    "a learning rate beyond float32": lambda optimizer: optimizer.param_groups[0].update(lr=1e300),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_broken_memory_of_an_optimizer_is_refused(damage: Callable[[torch.optim.Optimizer], object]) -> None:
    optimizer = stepped_optimizer("adam")
    damage(optimizer)
    with pytest.raises(ValueError, match=r"^optimizer_states: "):
        refuse_broken_optimizer_state(optimizer)

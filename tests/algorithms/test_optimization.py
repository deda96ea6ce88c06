"""The outer optimiser: its learning rate at given steps, and that its options reach it."""

from typing import Any

import pytest
import torch
from torch import nn

from metashot.algorithms.optimization import Optimization


def optimization(**given: Any) -> Optimization:
    options = {
        "name": "adam",
        "lr": 0.2,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "schedule": "cosine",
        "step_size": 30,
        "step_factor": 0.5,
    }
    return Optimization(**{**options, **given})


def rates(last_step: int, steps: int, **given: Any) -> list[float]:
    """The learning rate of each step, as the scheduler sets it."""
    built = optimization(**given).build([nn.Parameter(torch.zeros(1))], last_step)
    optimizer, scheduler = built["optimizer"], built["lr_scheduler"]["scheduler"]
    used = []
    for _ in range(steps):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return used


def test_cosine_falls_to_zero_at_the_last_step_and_stays_there() -> None:
    used = rates(last_step=100, steps=121)
    wanted = {0: 0.2, 25: 0.2 * (2 + 2**0.5) / 4, 50: 0.1, 75: 0.2 * (2 - 2**0.5) / 4, 100: 0.0, 120: 0.0}
    assert {step: used[step] for step in wanted} == pytest.approx(wanted)
    assert used[:101] == sorted(used[:101], reverse=True)


def test_step_is_cut_every_so_many_steps() -> None:
    used = rates(last_step=100, steps=95, schedule="step")
    assert used == pytest.approx([0.2] * 30 + [0.1] * 30 + [0.05] * 30 + [0.025] * 5)


def test_constant_stays_where_it_is() -> None:
    assert rates(last_step=3, steps=10, schedule="constant") == [0.2] * 10


def test_the_schedule_counts_steps_and_not_epochs() -> None:
    assert optimization().build([nn.Parameter(torch.zeros(1))], 5)["lr_scheduler"]["interval"] == "step"


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_options_reach_the_optimiser(name: str, kind: type) -> None:
    optimizer = optimization(name=name, momentum=0.7, weight_decay=0.03).build([nn.Parameter(torch.zeros(1))], 5)[
        "optimizer"
    ]
    group = optimizer.param_groups[0]
    assert type(optimizer) is kind
    assert (group["initial_lr"], group["weight_decay"]) == (0.2, 0.03)
    assert (group["momentum"] if name == "sgd" else group["betas"][0]) == 0.7

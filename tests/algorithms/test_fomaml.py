"""First order builds no second derivative: what it keeps does not grow with the inner steps, which second order does.

Its outer gradient is held against learn2learn's in test_maml.py."""

import pytest
import torch

from metashot.backbones.conv4 import Conv4
from tests.algorithms.gradient_learners import ENGINES, kept_bytes, learner, random_episode


def kept(algorithm: str, steps: int, engine: str) -> int:
    torch.manual_seed(0)
    made = learner(algorithm, Conv4((1, 16, 16), 4, "pool", "transductive"), engine=ENGINES[engine], steps=steps)
    return kept_bytes(made.train().training_loss(random_episode()).loss)


@pytest.mark.parametrize("engine", ENGINES)
def test_first_order_keeps_nothing_of_the_inner_steps_and_second_order_keeps_them_all(engine: str) -> None:
    one, five = (kept("fomaml", steps, engine) for steps in (1, 5))
    assert one > 10_000  # of how the queries are answered
    assert five < 1.02 * one
    assert kept("maml", 5, engine) > 5 * five

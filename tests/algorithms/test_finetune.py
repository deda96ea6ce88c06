"""Fine-tuning against plain loops of torch.optim, under the averages that the network has learned before."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from metashot.algorithms.gradient.finetune import Finetune
from metashot.algorithms.gradient.inner_optimizer import InnerOptimizer
from metashot.algorithms.gradient.learner import GradientLearner
from metashot.backbones.conv4 import Conv4
from metashot.backbones.mlp import MLP
from metashot.problems import Classification
from tests.algorithms.gradient_learners import ENGINES, learner, plain_network, random_episode, trained_plainly

STEPS, TASKS, WAYS = 8, 3, 3
Optimizer = Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]
# Adam's epsilon stands elsewhere in ours and has to be out of the way.
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.05),
    "momentum": lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, 0.05, betas=(0.9, 0.999), eps=1e-30),
}


def made_with(
    optimizer: str, adapts: list[str], engine: str = "learn2learn", backbone: str = "conv4", head: str = "new"
) -> GradientLearner:
    """With averages that it has learned before."""
    torch.manual_seed(0)
    network = Conv4((1, 16, 16), 4, "pool", "running") if backbone == "conv4" else MLP((1, 16, 16), [8], "running")
    made = learner(
        "finetune",
        network,
        Classification(WAYS),
        ENGINES[engine],
        steps=STEPS,
        inner_lr=0.05,
        inner_optimizer=InnerOptimizer(optimizer, 0.9),
        adapts=adapts,
        head=head,
    )
    seen = random_episode(1, seed=9).query.x
    for _ in range(50):
        made.network.train()(seen)
    return made.eval()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("backbone", ["mlp", "conv4"])
@pytest.mark.parametrize("adapts", [["*"], ["head.*"]], ids=["all", "head"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_answers_are_those_of_a_plain_loop_of_torch(optimizer: str, adapts: list[str], backbone: str, engine: str) -> None:
    made, episode = made_with(optimizer, adapts, engine, backbone), random_episode(TASKS, ways=WAYS)
    answers = []
    for task in range(TASKS):
        network = made_with(optimizer, adapts, backbone=backbone).network
        network.backbone.requires_grad_(adapts == ["*"])
        steps = [(episode.support.x[task], episode.support.y[task])] * STEPS
        network.load_state_dict(network.state_dict() | trained_plainly(network, OPTIMIZERS[optimizer], steps))
        answers.append(plain_network(network)(episode.query.x[task]).detach())
    with torch.no_grad():
        found = made(episode.support, episode.query.x)
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if optimizer == "adam" else {"rtol": 1e-8, "atol": 1e-10}
    torch.testing.assert_close(found, torch.stack(answers), **tolerance)
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_a_head_at_zero_favours_no_class_before_the_first_step() -> None:
    made, episode = made_with("sgd", ["*"]), random_episode(TASKS, ways=WAYS)
    made.test_inner_steps = 0
    answers: Tensor = made(episode.support, episode.query.x)
    assert answers.shape == (TASKS, WAYS * 3, WAYS)
    assert answers.abs().max() == 0
    assert (made_with("sgd", ["*"]).network.backbone.convolutions[0].weight != 0).all()


def test_it_has_nothing_to_learn_from_training_episodes() -> None:
    assert not Finetune.trains
    assert isinstance(made_with("sgd", ["*"]), Finetune)

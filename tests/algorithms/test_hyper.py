"""The hypernetwork's initial parameters against loops over examples and outputs, and its learner against MAML."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.model.hyper import Hyper
from metashot.backbones.base import Backbone
from metashot.backbones.conv4 import Conv4
from metashot.backbones.mlp import MLP
from metashot.bad_input import BadInput
from metashot.episodes import Episode, Examples
from metashot.problems import Classification, Problem, Regression

from .gradient_learners import ENGINES, learner, random_curves, random_episode, slopes

WAYS = 3
PROBLEMS = ["classes", "numbers"]


def made(problem: str, engine: str = "batched", **settings: Any) -> Hyper:
    torch.manual_seed(0)
    of_tasks: Problem = Classification(WAYS) if problem == "classes" else Regression(1)
    backbone: Backbone = Conv4((1, 4, 4), 2, "stride", "support") if problem == "classes" else MLP((1,), [5], "none")
    algorithm = learner("hyper", backbone, of_tasks, ENGINES[engine], **settings)
    assert isinstance(algorithm, Hyper)
    with torch.no_grad():
        for parameter in algorithm.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    return algorithm.eval()


def episode(problem: str) -> Episode:
    return random_episode(2, (1, 4, 4), WAYS) if problem == "classes" else random_curves(2)


def codes(algorithm: Hyper, support: Examples, task: int) -> Tensor:
    """s [outputs, encoding] of one task."""
    f = algorithm.network.backbone(support.x, support=support.x.shape[1])[task]
    first, second, third = (algorithm.phi[place] for place in (0, 2, 4))
    rows = []
    for output in range(algorithm.problem.outputs):
        encoded = []
        for example, y in zip(f, support.y[task], strict=True):
            target = float(y == output) if algorithm.problem.has_classes else float(y[output])
            h = torch.cat([example, torch.tensor([target], dtype=f.dtype)])
            h = F.relu(second.weight @ F.relu(first.weight @ h + first.bias) + second.bias)
            encoded.append(third.weight @ h + third.bias)
        rows.append(torch.stack(encoded).mean(0))
    return torch.stack(rows)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_heads_and_channels_are_made_of_the_support_set(problem: str) -> None:
    algorithm, support = made(problem), episode(problem).support
    theta, own = algorithm.initial_parameters(support), dict(algorithm.network.named_parameters())
    assert set(theta) == set(own)
    of_head, of_channels = (algorithm.generators[part] for part in ("head", "channels"))
    for task in range(2):
        s = codes(algorithm, support, task)
        for output, code in enumerate(s):
            row = of_head.weight @ code + of_head.bias
            torch.testing.assert_close(theta["head.weight"][task, output], own["head.weight"][output] + row[:-1])
            torch.testing.assert_close(theta["head.bias"][task, output], own["head.bias"][output] + row[-1])
        made_of = iter((of_channels.weight @ s.mean(0) + of_channels.bias).tolist())
        for name in algorithm.channels:
            for channel, value in enumerate(own[name].tolist()):
                change = next(made_of)
                expected = value * (1 + change) if name.endswith("weight") else value + change
                assert theta[name][task, channel].item() == pytest.approx(expected)
        for name in set(own) - set(algorithm.channels) - {"head.weight", "head.bias"}:
            torch.testing.assert_close(theta[name][task], own[name])


def test_the_order_of_examples_changes_nothing_and_that_of_classes_permutes_the_heads_rows() -> None:
    algorithm, support = made("classes"), episode("classes").support
    theta = algorithm.initial_parameters(support)
    order = torch.tensor([4, 0, 5, 1, 3, 2])
    for name, value in algorithm.initial_parameters(Examples(support.x[:, order], support.y[:, order])).items():
        torch.testing.assert_close(value, theta[name])
    renamed = algorithm.initial_parameters(Examples(support.x, (support.y + 1) % WAYS))
    generator = algorithm.generators["head"]
    rows = [(values["head.weight"] - algorithm.network.head.weight) for values in (theta, renamed)]
    assert generator.weight.abs().max() > 0.1
    torch.testing.assert_close(rows[1].roll(-1, 1), rows[0])


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_its_gradients_are_those_of_finite_differences(problem: str, engine: str, steps: int) -> None:
    algorithm, reached = made(problem, engine, steps=steps), set()
    for name, difference, gradient in slopes(algorithm.train(), episode(problem)):
        assert gradient == pytest.approx(difference, rel=1e-4, abs=1e-7), name
        reached.add(name)
    assert {"generators.head.weight", "generators.channels.weight", "phi.0.weight"} <= reached


@pytest.mark.parametrize("problem", PROBLEMS)
def test_without_steps_it_answers_with_what_was_made(problem: str) -> None:
    algorithm, asked = made(problem, steps=0), episode(problem)
    answers, theta = algorithm(asked.support, asked.query.x), algorithm.initial_parameters(asked.support)
    engine = algorithm.engine
    expected = engine.answer(algorithm._inner_loop((), None), theta, asked.support.x, asked.query.x)
    torch.testing.assert_close(answers, expected)
    assert algorithm.training_loss(asked).inner_losses is not None


@pytest.mark.parametrize("problem", PROBLEMS)
def test_training_begins_as_that_of_maml(problem: str) -> None:
    asked = episode(problem)
    kinds = []
    for kind in ("hyper", "maml"):
        torch.manual_seed(0)
        of_tasks: Problem = Classification(WAYS) if problem == "classes" else Regression(1)
        kinds.append(learner(kind, MLP(asked.support.x.shape[2:], [5], "none"), of_tasks, steps=2))
    hyper, maml = kinds
    torch.testing.assert_close(hyper(asked.support, asked.query.x), maml(asked.support, asked.query.x))


def test_only_what_adapts_is_made() -> None:
    head = made("classes", adapts=["head.*"])
    assert (head.channels, head.makes_head) == ({}, True)
    assert set(head.initial_parameters(episode("classes").support)) == {"head.weight", "head.bias"}
    body = made("classes", adapts=["backbone.*"])
    assert not body.makes_head
    assert body.channels
    with pytest.raises(BadInput, match="leaves the hypernetwork nothing to make"):
        made("classes", adapts=["backbone.convolutions.*"])

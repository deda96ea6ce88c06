"""What all algorithms share: how a step's tasks are weighed, which problems an algorithm takes, what a frozen backbone
leaves to learn, and how those that compare features are given them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from metashot.algorithms.metric.protonet import ProtoNet
from metashot.algorithms.optimization import Optimization
from metashot.backbones.mlp import MLP
from metashot.backbones.normalisation import Protocol
from metashot.bad_input import BadInput
from metashot.episodes import Episode, Examples
from metashot.problems import Classification, Problem, Regression


def protonet(
    problem: Problem, protocol: Protocol = "none", distance: Any = "euclidean", learned_temperature: bool = False
) -> ProtoNet:
    torch.manual_seed(0)
    optimizer = Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0)
    return ProtoNet(MLP((4,), [8], protocol), problem, distance, 1.0, learned_temperature, optimizer).double()


def episode(tasks: int, ways: int, queries: int, seed: int) -> Episode:
    generator = torch.Generator().manual_seed(seed)

    def examples(each: int) -> Examples:
        x = torch.rand(tasks, ways * each, 4, generator=generator, dtype=torch.float64)
        return Examples(x, torch.arange(ways).repeat_interleave(each).expand(tasks, -1))

    return Episode(examples(1), examples(queries), torch.arange(tasks), torch.arange(ways).expand(tasks, -1))


def test_every_task_of_a_step_counts_the_same_whatever_its_shape() -> None:
    algorithm = protonet(Classification(5))
    batch = [episode(3, 5, 2, seed=1), episode(1, 2, 7, seed=2)]
    together = algorithm.training_step(batch, 0)
    alone = []
    for group in batch:
        for task in range(len(group)):
            one = Episode(
                Examples(group.support.x[task : task + 1], group.support.y[task : task + 1]),
                Examples(group.query.x[task : task + 1], group.query.y[task : task + 1]),
                group.number[task : task + 1],
                group.classes[task : task + 1],
            )
            alone.append(algorithm.training_step([one], 0))
    for name in ("loss", "score"):
        expected = sum(step[name].item() for step in alone) / len(alone)
        assert together[name].item() == pytest.approx(expected, abs=1e-12)


def test_each_shape_is_answered_on_its_own_in_validation_and_testing() -> None:
    algorithm = protonet(Classification(5)).eval()
    batch = [episode(3, 5, 2, seed=1), episode(1, 2, 7, seed=2)]
    for step in (algorithm.validation_step, algorithm.test_step):
        answers = step(batch, 0)["episodes"]
        assert [tuple(of_group["answers"].shape) for of_group in answers] == [(3, 10, 5), (1, 14, 2)]
        for group, of_group in zip(batch, answers, strict=True):
            assert torch.equal(of_group["answers"], algorithm(group.support, group.query.x))


def test_an_algorithm_refuses_a_problem_it_cannot_learn() -> None:
    with pytest.raises(BadInput, match=r"ProtoNet cannot learn a regression problem.*data=.*algo=maml"):
        protonet(Regression(1))


def test_with_a_frozen_backbone_the_rest_learns_alone() -> None:
    algorithm = protonet(Classification(5), "running", learned_temperature=True)
    algorithm.freeze_backbone()
    before = {name: value.clone() for name, value in algorithm.state_dict().items()}
    algorithm._trainer = SimpleNamespace(max_steps=3)  # type: ignore[assignment]
    optimizer = algorithm.configure_optimizers()["optimizer"]
    assert [group["params"] for group in optimizer.param_groups] == [[algorithm.log_temperature]]
    algorithm.train().training_step([episode(3, 5, 2, seed=1)], 0)["loss"].backward()
    optimizer.step()
    changed = {name for name, value in algorithm.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"log_temperature"}


def embedded(algorithm: ProtoNet, images: Episode) -> Episode:
    """The same tasks, when every image has been embedded on its own."""

    def features(examples: Examples) -> Examples:
        each = [algorithm.embed(examples.x[:, place : place + 1], support=1) for place in range(examples.x.shape[1])]
        return Examples(torch.cat(each, dim=1).detach(), examples.y)

    return Episode(features(images.support), features(images.query), images.number, images.classes, embedded=True)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("protocol", ["running", "none"])
def test_embedded_episodes_are_answered_as_their_images_and_without_the_backbone(
    protocol: Protocol, distance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = protonet(Classification(5), protocol, distance).eval()
    batch = [episode(3, 5, 2, seed=1), episode(1, 2, 7, seed=2)]
    expected = algorithm.test_step(batch, 0)["episodes"]
    of_features = [embedded(algorithm, group) for group in batch]
    monkeypatch.setattr(algorithm.backbone, "forward", None)
    found = algorithm.test_step(of_features, 0)["episodes"]
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, values in one.items():
            torch.testing.assert_close(values, other[name], atol=1e-12, rtol=0)


def test_features_are_compared_in_the_precision_of_the_weights() -> None:
    algorithm = protonet(Classification(2), "running").float().eval()
    seen = []

    def answer(prototypes: Tensor, query: Tensor) -> Tensor:
        seen.extend([prototypes.dtype, query.dtype])
        return query

    algorithm.answer = answer  # type: ignore[method-assign]
    x = torch.rand(1, 2, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert algorithm.backbone(x, support=1).dtype == torch.bfloat16
        algorithm(Examples(x, torch.tensor([[0, 1]])), x)
    assert seen == [torch.float32] * 2


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_mixed_precision_tells_features_apart_that_it_cannot_hold(distance: str) -> None:
    algorithm = protonet(Classification(2), distance=distance).float().eval()
    x = torch.tensor([[[1.0, 1.0, 1.0], [1.0, 1.0, 1.003]]])  # of two classes
    assert torch.equal(x[0, 0].bfloat16(), x[0, 1].bfloat16())
    y, none = torch.tensor([[0, 1]]), torch.empty(1, 0)
    features = Episode(Examples(x, y), Examples(x, y), torch.arange(1), none, embedded=True)
    exact = algorithm.answers_to(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answers = algorithm.answers_to(features)
    assert torch.equal(answers, exact)
    assert answers.argmax(-1).tolist() == [[0, 1]]

"""What all algorithms share: how a step's tasks are weighed, and which problems an algorithm takes."""

import pytest
import torch

from metashot.algorithms.metric.protonet import ProtoNet
from metashot.algorithms.optimization import Optimization
from metashot.backbones.mlp import MLP
from metashot.bad_input import BadInput
from metashot.episodes import Episode, Examples
from metashot.problems import Classification, Problem, Regression


def protonet(problem: Problem) -> ProtoNet:
    torch.manual_seed(0)
    optimizer = Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0)
    return ProtoNet("protonet", MLP((4,), [8], "none"), problem, optimizer).double()


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

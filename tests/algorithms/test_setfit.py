"""SetFit against a loop written with torch's own modules, and what its draws depend on."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from metashot import configuration
from metashot.algorithms.gradient.setfit import SetFit, learning_rate, pairs_of
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.episodes import Episode, Examples
from metashot.problems import Classification
from tests.configuration.test_configuration import composed

INPUTS, WAYS, ITERATIONS, PAIRS, LR, DECAY = 5, 3, 4, 6, 0.02, 0.1


class Small(Backbone):
    def __init__(self, normalisation: Any = "none") -> None:
        super().__init__((INPUTS,), normalisation)
        self.feature_shape = (4,)
        self.layers = nn.Sequential(nn.Linear(INPUTS, 8), nn.Tanh(), nn.Linear(8, 4))

    def forward(self, images: Tensor, support: int) -> Tensor:
        found: Tensor = self.layers(images)
        return found


class Fixed(Small):
    may_adapt = False


def learner(backbone: Backbone) -> SetFit:
    config = composed(
        "train", "algo=setfit", f"algo.iterations={ITERATIONS}", f"algo.pairs={PAIRS}", f"algo.lr={LR}",
        f"algo.weight_decay={DECAY}",
    )  # fmt: skip
    made: SetFit = configuration.build_algorithm(config, backbone=backbone, problem=Classification(WAYS))
    return made.double().eval()


def small(**settings: Any) -> SetFit:
    torch.manual_seed(0)
    return learner(Small(**settings))


def episode(shots: int, tasks: int = 2) -> Episode:
    draws = torch.Generator().manual_seed(1)
    support, count = shots * WAYS, shots * WAYS + 6
    x = torch.randn(tasks, count, INPUTS, generator=draws, dtype=torch.double)
    y = torch.arange(count).remainder(WAYS).expand(tasks, -1)
    return Episode(
        Examples(x[:, :support], y[:, :support]),
        Examples(x[:, support:], y[:, support:]),
        torch.arange(tasks),
        torch.zeros(tasks, WAYS),
    )


def fine_tuned_by_hand(network: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
    network = copy.deepcopy(network)
    steps = -(-2 * ITERATIONS * len(x) // PAIRS)
    moments = {name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in network.named_parameters()}
    rising = steps // 10
    for step, (anchors, partners, same) in enumerate(pairs_of(y.numpy(), ITERATIONS, PAIRS)):
        network.zero_grad()
        a, b = network(x[anchors]), network(x[partners])
        cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
        (cosine - torch.from_numpy(same).double()).square().mean().backward()
        norm = torch.stack([value.grad.norm() for value in network.parameters() if value.grad is not None]).norm()
        lr = LR * (step / rising if step < rising else (steps - step) / (steps - rising))
        with torch.no_grad():
            for name, value in network.named_parameters():
                assert value.grad is not None
                gradient = value.grad * min(1.0, 1 / (norm.item() + 1e-6))
                first, second = moments[name]
                first.mul_(0.9).add_(0.1 * gradient)
                second.mul_(0.999).add_(0.001 * gradient**2)
                value.mul_(1 - lr * DECAY)
                value.sub_(lr * (first / (1 - 0.9 ** (step + 1))) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8))
    assert step == steps - 1
    return network


@pytest.mark.parametrize("shots", [1, 3])
def test_answers_are_those_of_a_loop_by_hand(shots: int) -> None:
    made, given = small(), episode(shots)
    found = made(given.support, given.query.x).softmax(-1)
    for task in range(len(given)):
        x, y = given.support.x[task], given.support.y[task]
        network = fine_tuned_by_hand(made.backbone.layers, x, y)  # type: ignore[arg-type]
        with torch.no_grad():
            support, query = (F.normalize(network(part), dim=-1).numpy() for part in (x, given.query.x[task]))
        head = LogisticRegression(C=1, tol=1e-10, max_iter=10_000).fit(support, y)
        np.testing.assert_allclose(found[task], head.predict_proba(query), atol=1e-6)


def test_fine_tuning_brings_classes_together_and_leaves_the_backbone_alone() -> None:
    made, given = small(), episode(4, tasks=1)
    before = copy.deepcopy(made.backbone.state_dict())
    features, tuned = made.features_before_and_after(given)
    assert tuned is not None

    def gap(found: Tensor) -> float:
        x, y = F.normalize(found[0, :12], dim=-1), given.support.y[0]
        same = y[:, None] == y[None]
        cosines = x @ x.T
        return float(cosines[same].mean() - cosines[~same].mean())

    assert gap(tuned) > 2 * gap(features.detach())
    for name, value in made.backbone.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(value.grad is not None for value in made.parameters())


def test_a_task_depends_neither_on_other_tasks_nor_on_the_random_state() -> None:
    made, given = small(), episode(2, tasks=3)
    together = made(given.support, given.query.x)
    torch.manual_seed(5)
    for task in range(3):
        own = slice(task, task + 1)
        alone = made(Examples(given.support.x[own], given.support.y[own]), given.query.x[own])
        torch.testing.assert_close(alone, together[own], rtol=0, atol=0)
    adapted = made.adapt(given.support)
    torch.testing.assert_close(made.answer_queries(adapted, given.query.x[:, :1]), together[:, :1])


def test_each_example_is_an_anchor_of_both_kinds_in_each_iteration() -> None:
    y = np.array([0, 0, 1, 1, 1, 2, 2])
    drawn = list(pairs_of(y, 5, 8))
    anchors, partners, same = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    assert len(anchors) == 2 * 5 * len(y)
    assert all(len(one.anchors) == 8 for one in drawn[:-1])
    for kind in (True, False):
        assert np.array_equal(np.bincount(anchors[same == kind]), np.full(len(y), 5))
    assert np.array_equal(y[anchors] == y[partners], same)
    assert (anchors != partners).all()
    # Random order: the kinds do not alternate, and anchors are not sorted.
    assert len(set(map(bytes, (one.same.tobytes() for one in drawn)))) > 3


def test_pairs_are_drawn_when_they_are_needed() -> None:
    y = np.arange(20_000) % 10  # whose pairs would take gigabytes
    import tracemalloc

    tracemalloc.start()
    first = next(pairs_of(y, 1, 16))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(first.anchors) == 16
    assert most < 2**25


def test_the_only_example_of_a_class_is_its_own_partner() -> None:
    for anchors, partners, same in pairs_of(np.arange(3), 2, 4):
        assert np.array_equal(anchors == partners, same)


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [learning_rate(step, 40) for step in range(41)]
    assert rates[0] == 0
    assert rates[4] == 1
    assert rates[40] == 0
    assert learning_rate(0, 5) == 1  # too few steps to rise


def test_backbones_that_cannot_be_fine_tuned_get_one_message() -> None:
    with pytest.raises(BadInput, match="this backbone has none that may change"):
        learner(Fixed())
    with pytest.raises(BadInput, match=r"algo=setfit compares pairs: give backbone.normalisation=running or none"):
        small(normalisation="transductive")
    with pytest.raises(BadInput, match="cannot tell what is unknown"):
        small().refuse_strangers()

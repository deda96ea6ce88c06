"""A network without a head adapts and answers with every engine, for any number of classes."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from metashot.algorithms.gradient.network import FeatureNetwork, Network
from metashot.algorithms.similarities import class_means, squared_distances
from metashot.backbones.conv4 import Conv4
from metashot.backbones.mlp import MLP
from metashot.backbones.normalisation import Protocol
from metashot.bad_input import BadInput
from metashot.engines.inner import Engine
from metashot.episodes import Episode
from metashot.problems import Classification, Regression
from tests.algorithms.gradient_learners import ALGORITHMS, ENGINES, learner, random_episode
from tests.algorithms.headless import AdaptedPrototypes
from tests.engines.test_agreement import EVERY, PROTOCOLS, same

WAYS, SHAPE, ALPHA = 3, (1, 16, 16), 0.05


@pytest.fixture(autouse=True)
def _listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALGORITHMS, "prototypes", (AdaptedPrototypes, {}))


def made(engine: Engine, protocol: Protocol = "transductive", **settings: Any) -> AdaptedPrototypes:
    torch.manual_seed(0)
    backbone = MLP(SHAPE, [6], protocol) if protocol == "none" else Conv4(SHAPE, 4, "pool", protocol)
    algorithm = learner("prototypes", backbone, Classification(WAYS), engine, **{"steps": 2, "inner_lr": ALPHA} | settings)
    assert isinstance(algorithm, AdaptedPrototypes)
    return algorithm


def episode(ways: int = WAYS) -> Episode:
    return random_episode(3, SHAPE, ways, shots=2, queries=2, seed=0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_engines_agree_without_a_head(protocol: Protocol) -> None:
    one, *others = (made(engine, protocol) for engine in EVERY.values())
    for other in others:
        same(one, other, episode())


@pytest.mark.parametrize("ways", [2, WAYS, 7])
@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_adapted_prototypes_are_those_of_a_plain_loop_for_any_number_of_classes(engine: Engine, ways: int) -> None:
    algorithm, asked = made(engine, "none").eval(), episode(ways)
    assert algorithm.fixed_ways is None
    found = algorithm(asked.support, asked.query.x)
    assert found.shape == (3, 2 * ways, ways)
    for task in range(3):
        network = FeatureNetwork(MLP(SHAPE, [6], "none")).double()
        network.load_state_dict(algorithm.network.state_dict())
        x, y = asked.support.x[task : task + 1], asked.support.y[task : task + 1]
        descent = torch.optim.SGD(network.parameters(), ALPHA)
        for _ in range(2):
            descent.zero_grad()
            features = network(x)
            F.cross_entropy(-squared_distances(features, class_means(features, y))[0], y[0]).backward()
            descent.step()
        features = network(asked.query.x[task : task + 1])
        expected = -squared_distances(features, class_means(network(x), y))
        torch.testing.assert_close(found[task], expected[0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("protocol", ["transductive", "support"])
@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_a_headless_learner_fits_answers_later_and_has_a_curve(engine: Engine, protocol: Protocol) -> None:
    algorithm, asked = made(engine, protocol).eval(), episode()
    with torch.no_grad():
        expected = algorithm(asked.support, asked.query.x)
        learned = algorithm.adapt(asked.support)
        torch.testing.assert_close(algorithm.answer_queries(learned, asked.query.x), expected, rtol=1e-9, atol=1e-11)
        curve = algorithm.answers_after_steps(asked)
        before, after = algorithm.features_before_and_after(asked)
    assert curve.shape == (3, 3, 2 * WAYS, WAYS)
    torch.testing.assert_close(curve[:, -1], expected, rtol=1e-9, atol=1e-11)
    assert (curve[:, 0] - expected).abs().max() > 1e-6
    assert after is not None
    for features, answers in ((before, curve[:, 0]), (after, expected)):
        prototypes = class_means(features[:, : 2 * WAYS], asked.support.y)
        torch.testing.assert_close(-squared_distances(features[:, 2 * WAYS :], prototypes), answers, rtol=1e-8, atol=1e-9)


def test_the_number_of_classes_is_fixed_by_the_head_alone() -> None:
    backbone = MLP((1,), [4], "none")
    assert learner("maml", backbone, Classification(WAYS)).fixed_ways == WAYS
    assert learner("maml", backbone, Regression(2)).fixed_ways is None
    assert made(ENGINES["batched"]).fixed_ways is None
    assert (FeatureNetwork(backbone).outputs, Network(backbone, 2).outputs) == (None, 2)


def test_a_headless_network_has_no_parameters_of_a_head() -> None:
    names = [name for name, _ in made(ENGINES["batched"]).named_parameters()]
    assert names
    assert all(name.startswith("network.backbone.") for name in names)


def test_what_needs_a_head_is_refused_without_one() -> None:
    with pytest.raises(BadInput, match=r"^algo\.inner_loss=hinge judges the answers of a head, which this algorithm lacks"):
        made(ENGINES["batched"], inner_loss="hinge")
    with pytest.raises(BadInput, match=r"algo\.adapts=head\.\* matches no parameter"):
        made(ENGINES["batched"], adapts=["head.*"])
    with pytest.raises(BadInput, match=r"^freeze_backbone=true .*: leave it out$"):
        made(ENGINES["batched"]).freeze_backbone()

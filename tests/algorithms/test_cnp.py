"""CNP against its equations, one point at a time in numpy; and what the answers must not depend on."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from metashot.algorithms.model.cnp import CNP
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.backbones.identity import Identity
from metashot.backbones.mlp import MLP
from metashot.bad_input import BadInput
from metashot.episodes import Episode, Examples
from metashot.problems import Classification, Regression

Array = NDArray[np.float64]
INPUTS, OUTPUTS = 3, 2


def curves(tasks: int = 3, support: int = 5, query: int = 4, seed: int = 1) -> Episode:
    generator = torch.Generator().manual_seed(seed)

    def examples(count: int) -> Examples:
        x, y = (torch.randn(tasks, count, size, generator=generator, dtype=torch.float64) for size in (INPUTS, OUTPUTS))
        return Examples(x, y)

    return Episode(examples(support), examples(query), torch.arange(tasks), torch.empty(tasks, 0))


def cnp(backbone: Backbone | None = None, **settings: Any) -> CNP:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"encoder": [7, 6], "decoder": [5], "least_deviation": 0.05}
    optimizer = Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0)
    return CNP(backbone or Identity((INPUTS,)), Regression(OUTPUTS), optimizer=optimizer, **(sizes | settings)).double()


def through(network: nn.Sequential, x: Array) -> Array:
    """What a perceptron makes of one vector."""
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    for place, layer in enumerate(layers):
        x = layer.weight.detach().numpy() @ x + layer.bias.detach().numpy()
        x = np.maximum(x, 0) if place < len(layers) - 1 else x
    return x


def deviation_of(raw: Array, least: float) -> Array:
    return np.asarray(least + (1 - least) * np.log1p(np.exp(raw)))


def by_hand(made: CNP, episode: Episode) -> tuple[Array, Array]:
    """The means and deviations [T, Q, outputs]."""
    means, deviations = np.zeros((2, *episode.query.y.shape))
    for task in range(len(episode)):
        x, y = episode.support.x[task].numpy(), episode.support.y[task].numpy()
        r = sum(through(made.h, np.concatenate([x[i], y[i]])) for i in range(len(x))) / len(x)
        for place, asked in enumerate(episode.query.x[task].numpy()):
            raw = through(made.g, np.concatenate([asked, r]))
            means[task, place] = raw[:OUTPUTS]
            deviations[task, place] = deviation_of(raw[OUTPUTS:], made.least_deviation)
    return means, deviations


def test_answers_and_loss_are_those_of_the_equations() -> None:
    made, episode = cnp(), curves()
    mean, deviation = by_hand(made, episode)
    answers = made(episode.support, episode.query.x).detach().numpy()
    np.testing.assert_allclose(answers[..., :OUTPUTS], mean, atol=1e-10)
    np.testing.assert_allclose(np.exp(answers[..., OUTPUTS:]), deviation, atol=1e-10)
    error = (episode.query.y.numpy() - mean) / deviation
    expected = (0.5 * np.log(2 * np.pi) + np.log(deviation) + 0.5 * error**2).mean()
    assert made.training_loss(episode).loss.item() == pytest.approx(expected)


def test_the_order_of_support_points_and_other_queries_change_nothing() -> None:
    made, episode = cnp().eval(), curves()
    expected = made(episode.support, episode.query.x)
    order = torch.tensor([3, 0, 4, 1, 2])
    turned = Examples(episode.support.x[:, order], episode.support.y[:, order])
    torch.testing.assert_close(made(turned, episode.query.x), expected)
    torch.testing.assert_close(made(episode.support, episode.query.x[:, 1:3]), expected[:, 1:3])
    moved = Examples(episode.support.x, episode.support.y + 1)
    assert (made(moved, episode.query.x) - expected).abs().max() > 1e-3


def test_a_support_set_is_learned_once_and_asked_later() -> None:
    made, episode = cnp(MLP((INPUTS,), [4], "running")).eval(), curves()
    adapted = made.adapt(episode.support)
    assert tuple(adapted.shape) == (3, 1, 6)
    answers = made.answer_queries(adapted, episode.query.x)
    torch.testing.assert_close(answers, made(episode.support, episode.query.x))


def test_every_parameter_is_trained() -> None:
    made = cnp()
    made.training_loss(curves()).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in made.trainable_parameters())


@pytest.mark.parametrize("least", [0.01, 0.5])
def test_deviations_do_not_fall_below_their_limit(least: float) -> None:
    made, episode = cnp(least_deviation=least), curves()
    with torch.no_grad():
        last = made.g[-1]
        assert isinstance(last, nn.Linear)
        last.bias[OUTPUTS:] = -100
    answers = made(episode.support, episode.query.x)
    torch.testing.assert_close(answers[..., OUTPUTS:].exp(), torch.full_like(episode.query.y, least))


def test_answers_keep_the_weights_precision_under_mixed_precision() -> None:
    made, episode = cnp().float(), curves()
    support = Examples(episode.support.x.float(), episode.support.y.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answers = made(support, episode.query.x.float())
    assert answers.dtype == torch.float32
    torch.testing.assert_close(answers, made(support, episode.query.x.float()), atol=0.05, rtol=0.05)


def test_classes_and_missing_layers_are_refused() -> None:
    with pytest.raises(BadInput, match=r"algo\.encoder=\[\]"):
        cnp(encoder=[])
    with pytest.raises(BadInput, match="CNP cannot learn a classification problem"):
        CNP(Identity((2,)), Classification(5), [4], [4], 0.1, Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0))

"""ANP against its equations, one point and one head at a time in numpy; the evidence lower bound against torch's
distributions."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal

from metashot.algorithms.model.anp import _ANSWERING, _TRAINING, ANP, LatentEncoder
from metashot.algorithms.optimization import Optimization
from metashot.backbones.identity import Identity
from metashot.bad_input import BadInput
from metashot.episodes import Episode, Examples
from metashot.problems import Regression
from metashot.randomness import key_of, normal

from .feature_learners import one_task
from .test_cnp import INPUTS, OUTPUTS, Array, curves, deviation_of, through

SAMPLES, LATENT, HEADS = 3, 4, 2


def anp(**settings: Any) -> ANP:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "encoder": [7, 6],
        "attention": [5, 8],
        "heads": HEADS,
        "latent": LATENT,
        "samples": SAMPLES,
        "decoder": [9],
        "least_deviation": 0.05,
    }
    optimizer = Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0)
    made = ANP(Identity((INPUTS,)), Regression(OUTPUTS), optimizer=optimizer, **(sizes | settings)).double()
    with torch.no_grad():
        for parameter in made.trainable_parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    return made


def linear(layer: nn.Linear, x: Array) -> Array:
    found = layer.weight.detach().numpy() @ x
    return np.asarray(found if layer.bias is None else found + layer.bias.detach().numpy())


def attended(made: ANP, asked: Array, x: Array, r: list[Array]) -> Array:
    """r_* of one query: each head reads the r_i by softmax(q k / sqrt(size))."""
    attend, read = made.attend, []
    q = linear(attend.queries, through(made.embed_x, asked))
    keys = [linear(attend.keys, through(made.embed_x, point)) for point in x]
    values = [linear(attend.values, r_i) for r_i in r]
    size, width = len(q) // HEADS, len(values[0]) // HEADS
    for head in range(HEADS):
        own = slice(head * size, (head + 1) * size)
        scores = np.array([q[own] @ k[own] / np.sqrt(size) for k in keys])
        weights = np.exp(scores) / np.exp(scores).sum()
        read.append(sum(w * v[head * width : (head + 1) * width] for w, v in zip(weights, values, strict=True)))
    return linear(attend.output, np.concatenate(read))


def latent(made: ANP, x: Array, y: Array) -> tuple[Array, Array]:
    """The mean and the deviation of q(z | these points)."""
    encoder = made.encode_latent
    assert isinstance(encoder, LatentEncoder)
    s = sum(through(encoder.of_points, np.concatenate([x[i], y[i]])) for i in range(len(x))) / len(x)
    raw = through(encoder.of_mean, s)
    return raw[:LATENT], 0.1 + 0.9 / (1 + np.exp(-raw[LATENT:]))


def decoded(made: ANP, support: Examples, task: int, asked: Array, z: Array) -> tuple[Array, Array]:
    x, y = support.x[task].numpy(), support.y[task].numpy()
    r = [through(made.encode, np.concatenate([x[i], y[i]])) for i in range(len(x))]
    raw = through(made.decode, np.concatenate([asked, attended(made, asked, x, r), z]))
    return raw[:OUTPUTS], deviation_of(raw[OUTPUTS:], made.least_deviation)


def test_answers_have_the_moments_of_the_mixture_over_draws_of_z() -> None:
    made, episode = anp().eval(), curves()
    answers = made(episode.support, episode.query.x).detach().numpy()
    noise = normal(key_of("anp"), np.arange(SAMPLES), _ANSWERING, LATENT)
    for task, place in np.ndindex(*episode.query.x.shape[:2]):
        mean, deviation = latent(made, episode.support.x[task].numpy(), episode.support.y[task].numpy())
        asked = episode.query.x[task, place].numpy()
        each = [decoded(made, episode.support, task, asked, mean + deviation * noise[draw]) for draw in range(SAMPLES)]
        first = np.mean([m for m, _ in each], axis=0)
        second = np.mean([m**2 + d**2 for m, d in each], axis=0)
        np.testing.assert_allclose(answers[task, place, :OUTPUTS], first, atol=1e-6)  # noise is kept in 32 bits
        np.testing.assert_allclose(np.exp(2 * answers[task, place, OUTPUTS:]), second - first**2, atol=1e-6)


def test_the_loss_is_the_evidence_lower_bound_per_target_number() -> None:
    made, episode = anp(), curves()
    step = made.training_loss(episode)
    support, query = episode.support, episode.query
    noise = normal(key_of("anp"), episode.number.numpy(), _TRAINING, LATENT)
    bounds = []
    for task in range(len(episode)):
        x = torch.cat([support.x[task], query.x[task]]).numpy()
        y = torch.cat([support.y[task], query.y[task]]).numpy()
        q_t = latent(made, x, y)
        q_c = latent(made, support.x[task].numpy(), support.y[task].numpy())
        z = q_t[0] + q_t[1] * noise[task]
        fit = 0.0
        for point, value in zip(x, y, strict=True):
            mean, deviation = (torch.from_numpy(part) for part in decoded(made, support, task, point, z))
            fit += Normal(mean, deviation).log_prob(torch.from_numpy(value)).sum().item()
        one, other = (Normal(*(torch.from_numpy(part) for part in q)) for q in (q_t, q_c))
        divergence = torch.distributions.kl_divergence(one, other).sum().item()
        assert divergence > 1e-3
        bounds.append((fit - divergence) / y.size)
    assert step.loss.item() == pytest.approx(-np.mean(bounds))
    assert step.answers.shape == (3, 4, 2 * OUTPUTS)


def test_a_tasks_loss_does_not_depend_on_the_other_tasks_of_its_batch() -> None:
    made, episode = anp(), curves()
    alone = [made.training_loss(one_task(episode, task)).loss.item() for task in range(3)]
    assert made.training_loss(episode).loss.item() == pytest.approx(np.mean(alone))
    again = Episode(episode.support, episode.query, episode.number + 7, episode.classes)
    assert made.training_loss(again).loss.item() != pytest.approx(np.mean(alone))  # other numbers, other draws of z


def test_without_a_latent_path_the_queries_log_likelihood_is_trained() -> None:
    made, episode = anp(latent=None), curves()
    step = made.training_loss(episode)
    nothing = np.zeros(0)
    expected = np.zeros((2, *episode.query.y.shape))
    for task, place in np.ndindex(*episode.query.x.shape[:2]):
        expected[:, task, place] = decoded(made, episode.support, task, episode.query.x[task, place].numpy(), nothing)
    np.testing.assert_allclose(step.answers.detach()[..., :OUTPUTS], expected[0], atol=1e-10)
    np.testing.assert_allclose(step.answers.detach()[..., OUTPUTS:].exp(), expected[1], atol=1e-10)
    error = (episode.query.y.numpy() - expected[0]) / expected[1]
    loss = (0.5 * np.log(2 * np.pi) + np.log(expected[1]) + 0.5 * error**2).mean()
    assert step.loss.item() == pytest.approx(loss)


@pytest.mark.parametrize("size", [LATENT, None])
def test_support_sets_have_no_order_and_are_learned_once(size: int | None) -> None:
    made, episode = anp(latent=size).eval(), curves()
    expected = made(episode.support, episode.query.x)
    order = torch.tensor([3, 0, 4, 1, 2])
    turned = Examples(episode.support.x[:, order], episode.support.y[:, order])
    torch.testing.assert_close(made(turned, episode.query.x), expected)
    adapted = made.adapt(episode.support)
    one_by_one = [made.answer_queries(adapted, x) for x in episode.query.x.split(1, dim=1)]
    torch.testing.assert_close(torch.cat(one_by_one, dim=1), expected)


@pytest.mark.parametrize("size", [LATENT, None])
def test_every_parameter_is_trained(size: int | None) -> None:
    made = anp(latent=size)
    made.training_loss(curves()).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in made.trainable_parameters())


def test_draws_of_z_are_not_part_of_a_checkpoint() -> None:
    assert "noise" not in anp().state_dict()


@pytest.mark.parametrize("settings", [{"heads": 4}, {"encoder": []}, {"attention": [8, 5]}])
def test_layers_that_the_heads_cannot_share_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"algo\.(encoder|attention)=.*algo\.heads=.*divides"):
        anp(**settings)

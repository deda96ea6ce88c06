"""FEAT against the authors' Transformer, one class at a time, and against easyfsl's."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.metric.feat import FEAT, SetTransformer

from .feature_learners import Pixels, answers_in_bfloat16, gradients, learner, random_episode, reordered

FEATURES = 6
SETTINGS: dict[str, Any] = {
    "temperature": 4.0,
    "contrastive_temperature": 2.0,
    "balance": 0.7,
    "attention_dropout": 0.0,
    "dropout": 0.0,
}


def made(**settings: Any) -> FEAT:
    found = learner(FEAT, Pixels(FEATURES), **SETTINGS | settings)
    assert isinstance(found, FEAT)
    return found.eval()


def adapted(transformer: SetTransformer, x: Tensor) -> Tensor:
    """The members of one set [N, features]."""
    queries, keys, values = (x @ layer.weight.T for layer in (transformer.queries, transformer.keys, transformer.values))
    found = []
    for member, query in zip(x, queries, strict=True):
        weights = torch.stack([query @ key / FEATURES**0.5 for key in keys]).softmax(0)
        attended = sum((weight * value for weight, value in zip(weights, values, strict=True)), torch.zeros(FEATURES))
        row = member + transformer.output.weight @ attended + transformer.output.bias
        row = (row - row.mean()) / (row.var(correction=0) + 1e-5).sqrt()
        found.append(row * transformer.normalisation.weight + transformer.normalisation.bias)
    return torch.stack(found)


def test_logits_are_distances_to_class_means_that_were_adapted_to_each_other() -> None:
    algorithm, episode = made(), random_episode(FEATURES)
    found = algorithm(episode.support, episode.query.x)
    for task in range(2):
        x, y = episode.support.x[task], episode.support.y[task]
        means = adapted(algorithm.transformer, torch.stack([x[y == c].mean(0) for c in range(3)]))
        reference = [[-(query - mean).square().sum() / 4 for mean in means] for query in episode.query.x[task]]
        torch.testing.assert_close(found[task], torch.stack([torch.stack(row) for row in reference]))


def test_training_adds_the_loss_of_examples_against_their_adapted_classes() -> None:
    algorithm, episode = made().train(), random_episode(FEATURES)
    loss, answers, _ = algorithm.training_loss(episode)
    torch.testing.assert_close(answers, algorithm(episode.support, episode.query.x))
    contrastive = []
    for task in range(2):
        x = torch.cat([episode.support.x[task], episode.query.x[task]])
        y = torch.cat([episode.support.y[task], episode.query.y[task]])
        means = [adapted(algorithm.transformer, x[y == c]).mean(0) for c in range(3)]
        for example, label in zip(x, y, strict=True):
            logits = torch.stack([-(example - mean).square().sum() / 2 for mean in means])
            contrastive.append(F.cross_entropy(logits, label))
    expected = F.cross_entropy(answers.flatten(0, 1), episode.query.y.flatten()) + 0.7 * torch.stack(contrastive).mean()
    torch.testing.assert_close(loss, expected)


def test_labels_and_logits_are_those_of_easyfsl() -> None:
    methods, modules = pytest.importorskip("easyfsl.methods"), pytest.importorskip("easyfsl.modules")
    algorithm, episode = made(), random_episode(FEATURES, tasks=20)
    attention = modules.MultiHeadAttention(1, FEATURES, FEATURES, FEATURES)
    ours = algorithm.transformer
    theirs = (attention.w_qs, attention.w_ks, attention.w_vs, attention.fc, attention.layer_norm)
    for its, layer in zip(theirs, (ours.queries, ours.keys, ours.values, ours.output, ours.normalisation), strict=True):
        its.load_state_dict(layer.state_dict())
    found = algorithm(episode.support, episode.query.x)
    for task in range(20):
        one = methods.FEAT(attention_module=attention.eval()).double()
        one.process_support_set(episode.support.x[task], episode.support.y[task])
        distances = -one(episode.query.x[task])  # not squared
        torch.testing.assert_close(found[task], -distances.square() / 4)


def test_all_that_it_learns_has_gradients_and_order_does_not_matter() -> None:
    episode = random_episode(FEATURES)
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients(made(), episode).values())
    other = reordered(episode.support, torch.tensor([3, 0, 5, 1, 4, 2]))
    torch.testing.assert_close(made()(other, episode.query.x), made()(episode.support, episode.query.x))


@pytest.mark.parametrize("where", ["attention_dropout", "dropout"])
def test_dropout_is_for_training_only(where: str) -> None:
    algorithm, episode = made(**{where: 0.5}), random_episode(FEATURES)
    expected = made()(episode.support, episode.query.x)
    torch.testing.assert_close(algorithm(episode.support, episode.query.x), expected, atol=0, rtol=0)
    assert (algorithm.train()(episode.support, episode.query.x) - expected).abs().max() > 1e-3


def test_a_classs_queries_and_its_number_of_examples_are_free() -> None:
    algorithm = made()
    few = random_episode(FEATURES, support=(1, 4), query=(0, 1))
    assert algorithm.train().training_loss(few).loss.isfinite()
    adapted_queries = algorithm.eval().answer_queries(algorithm.adapt(few.support), few.query.x)
    np.testing.assert_allclose(adapted_queries.detach(), algorithm(few.support, few.query.x).detach())


def test_mixed_precision_answers_as_single_precision_does() -> None:
    episode = random_episode(FEATURES)
    exact = made()(episode.support, episode.query.x)
    mixed, loss = answers_in_bfloat16(made(), episode)
    assert loss.isfinite()
    torch.testing.assert_close(mixed.double(), exact, atol=0.2, rtol=0.05)

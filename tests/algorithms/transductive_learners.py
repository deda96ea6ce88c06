"""Promises of learners that answer all queries together, and clustered tasks to hold them against other implementations."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.transductive.together import AnswersTogether
from metashot.episodes import Episode, Examples

from .feature_learners import Pixels, answers_in_bfloat16, learner, one_task, random_episode

Array = NDArray[np.float64]
Reference = Callable[[Array, NDArray[np.int64], Array], Array]  # support, its labels and queries of one task to [Q, ways]
FEATURES = 16
EQUAL, UNEQUAL = (5, 5, 5), (9, 4, 2)  # queries of each class


def made(kind: type[AnswersTogether], features: int = FEATURES, **settings: Any) -> AnswersTogether:
    found: AnswersTogether = learner(kind, Pixels(features), **settings)
    return found.eval()


def clustered(support: Sequence[int], query: Sequence[int], tasks: int, signed: bool = False, seed: int = 3) -> Episode:
    """Classes that overlap, of features after a ReLU unless they are `signed`."""
    episode = random_episode(FEATURES, tasks=tasks, support=support, query=query, seed=seed)
    centres = torch.randn(tasks, len(support), FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for part in (episode.support, episode.query):
        part.x.add_(torch.take_along_dim(centres, part.y.unsqueeze(-1), 1))
        if not signed:
            part.x.relu_()
    return episode


def answers(algorithm: AnswersTogether, episode: Episode) -> Tensor:
    found: Tensor = algorithm(episode.support, episode.query.x)
    return found


def expected(reference: Reference, episode: Episode) -> Tensor:
    parts = zip(episode.support.x.numpy(), episode.support.y.numpy(), episode.query.x.numpy(), strict=True)
    return torch.from_numpy(np.stack([reference(x, y, asked) for x, y, asked in parts]))


def agree(found: Tensor, other: Tensor, y: Tensor) -> None:
    """Nearly all labels are the same, and nearly as many are right."""
    assert (found.argmax(-1) == other.argmax(-1)).double().mean() >= 0.995
    right = [(part.argmax(-1) == y).double().mean() for part in (found, other)]
    assert 0.5 < right[1] < 0.98
    assert abs(right[0] - right[1]) <= 0.005


def keeps_its_promises(algorithm: AnswersTogether) -> None:
    """What all of them promise, whatever they compute."""
    episode = clustered((1, 3, 2), (4, 1, 2), tasks=40)
    whole = answers(algorithm, episode)
    assert algorithm.transductive
    torch.testing.assert_close(whole.exp().sum(-1), torch.ones(40, 7, dtype=torch.float64))
    with torch.inference_mode():
        adapted = algorithm.adapt(episode.support)
        torch.testing.assert_close(algorithm.answer_queries(adapted, episode.query.x), whole, atol=0, rtol=0)
    for task in (0, 39):  # in another batch
        torch.testing.assert_close(answers(algorithm, one_task(episode, task))[0], whole[task], atol=1e-9, rtol=0)
    _answers_any_number_of_queries(algorithm, episode)
    _answers_what_is_degenerate(algorithm)
    _says_what_is_not_finite(algorithm, episode, whole)
    _is_trained_with_its_head(algorithm, episode)
    mixed, _ = answers_in_bfloat16(algorithm, episode)
    torch.testing.assert_close(mixed.double().exp(), whole.exp(), atol=1e-3, rtol=0)


def _answers_any_number_of_queries(algorithm: AnswersTogether, episode: Episode) -> None:
    assert algorithm(episode.support, episode.query.x[:, :1]).isfinite().all()
    many = algorithm(episode.support, episode.query.x.repeat(1, 10, 1))  # more than there are features
    assert many.shape == (40, 70, 3)
    assert many.isfinite().all()


def _answers_what_is_degenerate(algorithm: AnswersTogether) -> None:
    episode = random_episode(FEATURES, support=(1, 3, 2), query=(3, 3, 3))
    for value in (0.0, 1.0, -1e20, 1e-30):
        same = Examples(torch.full_like(episode.support.x, value), episode.support.y)
        assert algorithm(same, torch.full_like(episode.query.x, value)).isfinite().all()


def _says_what_is_not_finite(algorithm: AnswersTogether, episode: Episode, whole: Tensor) -> None:
    for value in (math.nan, math.inf):
        for part in (episode.support.x, episode.query.x):
            kept = part[1, 0, 0].item()
            part[1, 0, 0] = value
            found = answers(algorithm, episode)
            assert not found[1].isfinite().any()
            torch.testing.assert_close(found[2:], whole[2:], atol=0, rtol=0)
            part[1, 0, 0] = kept


def _is_trained_with_its_head(algorithm: AnswersTogether, episode: Episode) -> None:
    loss, trained, _ = algorithm.train().training_loss(episode)
    torch.testing.assert_close(trained, algorithm.head(episode.query.x))
    loss.backward()
    assert algorithm.head.weight.grad is not None
    algorithm.eval()

"""Sinusoid episodes: the paper's ranges, and each a pure function of its number."""

from typing import Any

import numpy as np
import pytest
import torch

from metashot.bad_input import BadInput
from metashot.data.regression import RegressionEpisodes, RegressionSplit
from metashot.episodes import Episode
from metashot.sources.curves.sinusoid import Sinusoid

CPU = torch.device("cpu")
PAPER: dict[str, Any] = {"amplitude": [0.1, 5.0], "phase": [0.0, 1.0], "x": [-5.0, 5.0]}


def data(seed: int = 0, shots: int | list[int] = 10, queries: int | list[int] = 20) -> RegressionEpisodes:
    split = RegressionSplit(None, None, 10)
    return RegressionEpisodes("sinusoid", Sinusoid(**PAPER), shots, queries, split, split, split, 5, 7, seed)


def one(numbers: list[int], split: Any = "train", **given: Any) -> Episode:
    (episode,) = data(**given).batch(split, np.array(numbers), CPU)
    return episode


def test_points_are_those_of_a_sine_within_the_papers_ranges() -> None:
    episode = one(list(range(500)))
    assert episode.support.x.shape == episode.support.y.shape == (500, 10, 1)
    assert episode.query.x.shape == episode.query.y.shape == (500, 20, 1)
    amplitudes, phases = [], []
    for task in range(500):
        x = torch.cat([episode.support.x[task], episode.query.x[task]]).double().numpy()[:, 0]
        y = torch.cat([episode.support.y[task], episode.query.y[task]]).double().numpy()[:, 0]
        # y = a sin x cos p - a cos x sin p is linear in (a cos p, a sin p), so least squares find both exactly.
        (c, s), *_ = np.linalg.lstsq(np.stack([np.sin(x), -np.cos(x)], axis=1), y, rcond=None)
        np.testing.assert_allclose(c * np.sin(x) - s * np.cos(x), y, atol=1e-5)
        amplitudes.append(np.hypot(c, s))
        phases.append(np.arctan2(s, c))
        assert x.min() >= -5
        assert x.max() <= 5
    for values, low, high in ((amplitudes, 0.1, 5.0), (phases, 0.0, np.pi)):
        assert low - 1e-4 <= min(values) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < max(values) <= high + 1e-4
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=5 * (high - low) / np.sqrt(12 * 500))


def test_an_episode_depends_on_seed_split_and_number_alone() -> None:
    together = one([3, 10**12, 0])
    for place, number in enumerate([3, 10**12, 0]):
        alone = one([number])
        assert torch.equal(alone.support.x[0], together.support.x[place])
        assert torch.equal(alone.query.y[0], together.query.y[place])
    assert torch.equal(one([3], queries=4).support.x, one([3]).support.x)
    assert torch.equal(one([3], queries=4).query.x, one([3]).query.x[:, :4])
    for other in (one([3], split="test"), one([3], seed=1), one([4])):
        assert not torch.equal(other.support.x, one([3]).support.x)
        assert not torch.equal(other.query.y, one([3]).query.y)


def test_each_episode_draws_its_own_numbers_of_points() -> None:
    made = data(shots=[3, 6], queries=[2, 4])
    batch = made.batch("train", np.arange(60), CPU)
    shapes = {int(n): (e.support.x.shape[1], e.query.x.shape[1]) for e in batch for n in e.number}
    assert set(shapes) == set(range(60))
    assert set(shapes.values()) == {(shots, queries) for shots in range(3, 7) for queries in range(2, 5)}
    for number in (3, 17):
        (alone,) = made.batch("train", np.array([number]), CPU)
        assert alone.support.x.shape[1:] == (shapes[number][0], 1)
        assert torch.equal(alone.support.x, one([number]).support.x[:, : shapes[number][0]])
        assert torch.equal(alone.query.y, one([number]).query.y[:, : shapes[number][1]])
    assert made.shape_of("train") == "3-6-shot 2-4 queries"
    with pytest.raises(BadInput, match=r"data\.shots=\[6, 3\] cannot be used"):
        data(shots=[6, 3])


def test_a_range_that_is_none_is_refused_with_its_key() -> None:
    words = r"data\.source\.x=\[5\.0, -5\.0\] cannot be used; allowed: \[least, most\], from -1e\+06 to 1e\+06"
    with pytest.raises(BadInput, match=words):
        Sinusoid(**PAPER | {"x": [5.0, -5.0]})

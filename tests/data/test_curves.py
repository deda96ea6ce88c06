"""Gaussian-process curves: the kernels of scikit-learn, and each task a pure function of its number."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.gaussian_process.kernels import RBF, ExpSineSquared, Matern

from metashot.bad_input import BadInput
from metashot.data.regression import RegressionEpisodes, RegressionSplit
from metashot.episodes import Episode
from metashot.sources.curves.gaussian_process import GaussianProcess, correlated

KERNELS = ["squared_exponential", "matern52", "periodic"]
USUAL: dict[str, Any] = {
    "kernels": KERNELS,
    "length_scale": [0.1, 0.6],
    "output_scale": [0.1, 1.0],
    "period": [0.5, 2.0],
    "noise": 0.02,
    "x": [-2.0, 2.0],
}


def one(numbers: list[int], split: Any = "train", seed: int = 0, shots: int = 10, queries: int = 20) -> Episode:
    options = RegressionSplit(None, None, 10)
    data = RegressionEpisodes("curves", GaussianProcess(**USUAL), shots, queries, options, options, options, 5, 7, seed)
    (episode,) = data.batch(split, np.array(numbers), torch.device("cpu"))
    return episode


@pytest.mark.parametrize("kernel", KERNELS)
def test_covariances_are_those_of_scikit_learns_kernels(kernel: str) -> None:
    source = GaussianProcess(**USUAL | {"kernels": [kernel]})
    random = np.random.default_rng(0)
    x, drawn = random.uniform(-2, 2, (6, 12)), random.uniform(size=(6, 4))
    found = source.covariances(x[:, :, None] - x[:, None, :], drawn)
    for task in range(6):
        length, scale, period = 0.1 + 0.5 * drawn[task, 1], 0.1 + 0.9 * drawn[task, 2], 0.5 + 1.5 * drawn[task, 3]
        own = {
            "squared_exponential": RBF(length),
            "matern52": Matern(length, nu=2.5),
            "periodic": ExpSineSquared(length, period),
        }[kernel]
        np.testing.assert_allclose(found[task], scale**2 * own(x[task][:, None]), atol=1e-12)


def test_each_kernel_is_drawn_as_often_as_the_others() -> None:
    drawn = np.random.default_rng(0).uniform(size=(3000, 4))
    difference = np.full((3000, 1, 1), 0.3)
    found = GaussianProcess(**USUAL).covariances(difference, drawn)
    shares = []
    for place, kernel in enumerate(KERNELS):
        alone = GaussianProcess(**USUAL | {"kernels": [kernel]}).covariances(difference, drawn)
        own = (drawn[:, 0] * 3).astype(int) == place
        np.testing.assert_array_equal(found[own], alone[own])
        shares.append(own.mean())
    assert min(shares) > 0.3


def test_numbers_get_the_covariance_of_the_cholesky_factorisation() -> None:
    random = np.random.default_rng(0)
    factor, drawn = random.normal(size=(4, 9, 9)), random.normal(size=(4, 9))
    covariance = factor @ factor.transpose(0, 2, 1) + 0.1 * np.eye(9)
    expected = np.einsum("tij,tj->ti", np.linalg.cholesky(covariance), drawn)
    np.testing.assert_allclose(correlated(covariance.copy(), drawn), expected, atol=1e-10)


def test_values_vary_as_the_scales_say() -> None:
    narrow = USUAL | {"output_scale": [0.7, 0.7], "noise": 0.1}
    _, (_, y) = GaussianProcess(**narrow).draw((1, 2), np.arange(4000), 1, 3)
    assert y.mean() == pytest.approx(0, abs=0.05)
    assert y.std() == pytest.approx(np.hypot(0.7, 0.1), rel=0.03)


def test_an_episode_depends_on_seed_split_and_number_alone() -> None:
    together = one([3, 10**12, 0])
    for place, number in enumerate([3, 10**12, 0]):
        alone = one([number])
        for part in ("support", "query"):
            for values in ("x", "y"):
                whole = getattr(getattr(together, part), values)[place]
                assert torch.equal(getattr(getattr(alone, part), values)[0], whole)
    assert torch.equal(one([3], queries=4).support.y, one([3]).support.y)
    assert torch.equal(one([3], queries=4).query.y, one([3]).query.y[:, :4])
    for other in (one([3], split="test"), one([3], seed=1), one([4])):
        assert not torch.equal(other.support.x, one([3]).support.x)
        assert not torch.equal(other.query.y, one([3]).query.y)


def test_many_points_of_the_smoothest_curves_stay_finite() -> None:
    smooth = USUAL | {"length_scale": [3.0, 3.0], "noise": 1e-4, "output_scale": [1.0, 1.0]}
    (_, y), (_, query_y) = GaussianProcess(**smooth).draw((1, 2), np.arange(3), 100, 400)
    assert np.isfinite(y).all()
    assert np.isfinite(query_y).all()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("kernels", [], "at least one of"),
        ("x", [1.0, -1.0], r"\[least, most\]"),
        ("length_scale", [0.0, 1.0], "from 1e-06 to"),
        ("period", [2.0, 1.0], "from 1e-06 to"),
        ("output_scale", [1.0], "from 1e-06 to"),
        ("x", [-1e308, 1e308], "from -1e"),
        ("length_scale", [1e-300, 1.0], "from 1e-06 to"),
        ("noise", 1e-6, r"at least 0\.0001"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(key: str, value: Any, words: str) -> None:
    with pytest.raises(BadInput, match=rf"data\.source\.{key}=.*{words}"):
        GaussianProcess(**USUAL | {key: value})

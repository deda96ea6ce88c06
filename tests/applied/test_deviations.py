"""Learners of numbers that say how certain they are, in scikit-learn's way; others refuse."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metashot
from metashot.applied.number_learner import NumberLearner
from metashot.bad_input import BadInput
from metashot.checkpoints.reading import metashot_part, write_checkpoint
from metashot.episodes import Examples
from tests.configuration.test_configuration import composed

from .learners import built
from .test_sklearn import CANNOT, estimator_checks

SETTINGS = {
    "cnp": ["algo=cnp", "algo.encoder=[8]", "algo.decoder=[8]"],
    "anp": ["algo=anp", "algo.encoder=[8]", "algo.attention=[8]", "algo.latent=4", "algo.decoder=[8]"],
    "maml": ["algo=maml", "backbone=mlp_sinusoid", "backbone.hidden=[8]"],
}
X = np.linspace(-2, 2, 7)
Y = np.sin(X)


def learner(folder: Path, algo: str) -> tuple[NumberLearner, Any]:
    """A learner with random weights, and the algorithm in it."""
    origin = {"name": "curves", "problem": "Regression", "outputs": 1, "input_shape": [1]}
    config = composed("train", *SETTINGS[algo], "data=curves")
    torch.manual_seed(0)
    algorithm = built(config, origin)
    path = folder / f"{algo}.ckpt"
    write_checkpoint(
        {"global_step": 0, "state_dict": algorithm.state_dict(), "metashot": metashot_part(config, origin)}, path
    )
    found = metashot.load(path, device="cpu")
    assert isinstance(found, NumberLearner)
    return found, algorithm.eval()


@pytest.mark.parametrize("algo", ["cnp", "anp"])
def test_means_and_deviations_are_those_of_an_episode(tmp_path: Path, algo: str) -> None:
    made, algorithm = learner(tmp_path, algo)
    mean, deviation = made.fit(X[:, None], Y[:, None]).predict(X[:, None] + 0.1, return_std=True)
    support = Examples(*(torch.tensor(values, dtype=torch.float32)[None, :, None] for values in (X, Y)))
    with torch.no_grad():
        expected = algorithm(support, support.x + 0.1)[0].numpy()
    np.testing.assert_allclose(mean, expected[:, :1], atol=1e-6)
    np.testing.assert_allclose(deviation, np.exp(expected[:, 1:]), atol=1e-6)
    np.testing.assert_array_equal(made.predict(X[:, None] + 0.1), mean)
    made.save(tmp_path / "it.fewshot")
    again = metashot.load_fitted(tmp_path / "it.fewshot", device="cpu")
    assert isinstance(again, NumberLearner)
    np.testing.assert_array_equal(again.predict(X[:, None] + 0.1, return_std=True)[1], deviation)


def test_tensors_of_any_kind_are_read_or_refused(tmp_path: Path) -> None:
    made, _ = learner(tmp_path, "cnp")
    x, y = torch.tensor(X), torch.tensor(Y)
    expected = made.fit(x.bfloat16().float(), y).predict(X)
    np.testing.assert_array_equal(made.fit(x.bfloat16(), y).predict(X), expected)
    for given, word in ((x.to_sparse(), "a sparse tensor"), (torch.empty(7, device="meta"), "has no numbers")):
        with pytest.raises(BadInput, match=word):
            made.fit(given, y)


def test_deviations_have_the_shape_of_y(tmp_path: Path) -> None:
    made, _ = learner(tmp_path, "cnp")
    mean, deviation = made.fit(X, Y).predict(X, return_std=True)
    assert mean.shape == deviation.shape == (7,)
    assert np.isfinite(made.score(X, Y))


def test_a_learner_without_deviations_refuses(tmp_path: Path) -> None:
    made, _ = learner(tmp_path, "maml")
    assert made.fit(X, Y).predict(X).shape == (7,)
    for unclear in ("yes", None, np.array([True, False])):
        with pytest.raises(BadInput, match=r"return_std=.* cannot be used; allowed: True or False"):
            made.predict(X, return_std=unclear)
    with pytest.raises(BadInput, match=r"return_std=True asks for standard deviations, but this maml .*algo=cnp"):
        made.predict(X, return_std=True)


def test_it_passes_the_checks_of_scikit_learn_that_other_learners_of_numbers_pass(tmp_path: Path) -> None:
    made, _ = learner(tmp_path, "cnp")
    found = estimator_checks.check_estimator(made, on_skip=None, on_fail=None)
    assert {result["check_name"] for result in found if result["status"] == "failed"} <= set(CANNOT)

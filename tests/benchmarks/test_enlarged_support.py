"""What the benchmark of enlarged support sets compares is what it says."""

from pathlib import Path

import numpy as np
import pytest
import torch

import metashot
from benchmarks import enlarged_support
from benchmarks.enlarged_support import CANDIDATES, enlarged, measure, regression_of, shares_right
from metashot.algorithms.closed_form.logistic import LogisticRegression
from metashot.bad_input import BadInput
from metashot.data.class_episodes import ClassEpisodes
from tests.algorithms.feature_learners import Pixels as PixelsAsFeatures
from tests.algorithms.feature_learners import learner
from tests.applied.learners import tiny
from tests.data.test_module import CPU, data_module, unchanged
from tests.sources.small_source import SHAPE


@pytest.fixture
def data(small_root: Path) -> ClassEpisodes:
    module = data_module(small_root, mean=[0.3, 0.4], std=[0.5, 0.6])
    module.setup()
    return module


def regression() -> LogisticRegression:
    made = learner(LogisticRegression, PixelsAsFeatures(*SHAPE), regularisation=0.7)
    assert isinstance(made, LogisticRegression)
    return made.float().eval()


def test_each_copy_keeps_its_class_and_is_changed_on_its_own(data: ClassEpisodes) -> None:
    (episode,) = data.batch("val", np.arange(3), CPU)
    same = enlarged(episode, data, unchanged(), 5)
    assert torch.equal(same.y, episode.support.y.repeat(1, 5))
    torch.testing.assert_close(same.x, episode.support.x.repeat(1, 5, 1, 1, 1), atol=1e-6, rtol=0)
    turned = enlarged(episode, data, unchanged(flip=1), 2)
    torch.testing.assert_close(turned.x, episode.support.x.flip(4).repeat(1, 2, 1, 1, 1), atol=1e-6, rtol=0)
    moved = enlarged(episode, data, unchanged(crop_padding=2), 5)
    first, *others = moved.x.unflatten(1, (5, -1)).unbind(1)
    assert not any(torch.equal(first, other) for other in others)


def test_accuracies_are_those_of_the_algorithm_with_each_lambda(data: ClassEpisodes) -> None:
    algorithm = regression()
    (episode,) = data.batch("val", np.arange(40), CPU)
    found = shares_right(algorithm, episode)
    assert (found[:, 0] != found[:, -1]).any()
    assert algorithm.regularisation.value == pytest.approx(0.7)  # as it was
    for place, candidate in enumerate(CANDIDATES):
        algorithm.regularisation.choose(candidate)
        right = (algorithm.answers_to(episode).argmax(-1) == episode.query.y).double().mean(1)
        np.testing.assert_array_equal(found[:, place], right)
    assert 0 < found.mean() < 1


def test_gains_are_paired_differences_from_the_images_alone(data: ClassEpisodes) -> None:
    plain, larger = measure(regression(), data, 12, 3)
    assert (plain.support, larger.support) == ("the images", "3 crops and flips of each")
    assert (plain.gain, plain.gain_ci95) == (0, 0)
    assert larger.gain == pytest.approx(larger.accuracy - plain.accuracy)
    assert larger.gain_ci95 is not None
    assert larger.gain_ci95 > 0
    assert {plain.regularisation, larger.regularisation} <= set(CANDIDATES)


def test_learners_without_a_logistic_regression_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="algo=logistic"):
        regression_of(metashot.load(tiny(tmp_path, "protonet", "running")))


def test_what_cannot_be_measured_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--ckpt", str(tmp_path / "none")], "--ckpt"),
        (["--ckpt", "x", "--copies", "0"], "--copies 0: allowed: 1 to 100"),
        (["--ckpt", "x", "--episodes", "1"], "--episodes 1: allowed: 2 to 1,000,000"),
    ):
        with pytest.raises(SystemExit) as ended:
            enlarged_support.run(arguments)
        assert ended.value.code == 2
        assert words in capsys.readouterr().err

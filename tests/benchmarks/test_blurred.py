"""What the benchmark of blurred drawings measures is what it says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import metashot
from benchmarks import blurred
from benchmarks.blurred import answers_from_blurred, compared, drawing, made_drawings, recognition, refuse_judge
from metashot.algorithms.metric.protonet import ProtoNet
from metashot.bad_input import BadInput
from metashot.episodes import Examples
from tests.algorithms.feature_learners import Pixels, learner
from tests.algorithms.test_vae_images import drawings, made
from tests.applied.learners import tiny


def test_only_the_support_set_is_blurred_and_nothing_is_made() -> None:
    algorithm, episode = made(), drawings(1, 6, 5)
    support = episode.support
    by_hand = [gaussian_filter(x.view(6, 5).numpy(), 1.5, mode="constant", radius=5) for x in support.x.flatten(0, 1)]
    soft = Examples(torch.from_numpy(np.stack(by_hand)).view(support.x.shape), support.y)
    algorithm.made = 0
    torch.testing.assert_close(
        answers_from_blurred(algorithm, episode, 1.5), algorithm.answers_to(replace(episode, support=soft))
    )
    unchanged = algorithm.answers_to(episode)
    torch.testing.assert_close(answers_from_blurred(algorithm, episode, 0.0), unchanged)
    assert not torch.allclose(answers_from_blurred(algorithm, episode, 1.5), unchanged)


def test_a_row_has_the_paired_gain_of_made_drawings() -> None:
    row = compared("blurred", [0.5, 0.6, 0.7], [0.6, 0.8, 0.7])
    assert row.accuracy == pytest.approx(0.6)
    assert row.made_gains == pytest.approx(0.1)
    assert row.made_gains_ci95 is not None


def test_learners_that_make_no_drawings_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput, match="algo=vae_images"):
        drawing(metashot.load(tiny(tmp_path, "protonet", "running")))
    for arguments, words in (
        (["--ckpt", str(tmp_path / "none")], "--ckpt"),
        (["--ckpt", "x", "--episodes", "1"], "--episodes 1: allowed: at least 2"),
    ):
        with pytest.raises(SystemExit):
            blurred.run(arguments)
        assert words in capsys.readouterr().err


def test_a_judge_sees_each_made_drawing_as_a_query_of_the_class_of_its_anchor() -> None:
    algorithm, episode = made(made=3), drawings(1, 6, 5, support=(1, 1, 1), query=(2, 2, 2))
    settings = {"distance": "euclidean", "temperature": 1.0, "learned_temperature": False, "normalise": "none"}
    judge = learner(ProtoNet, Pixels(1, 6, 5), **settings)
    found = made_drawings(algorithm, episode)
    assert found.x.shape == (2, 9, 1, 6, 5)
    for task in range(2):
        right = []
        for one, label in zip(found.x[task], found.y[task], strict=True):
            distances = [(one - anchor).square().sum() for anchor in episode.support.x[task]]
            right.append(episode.support.y[task, int(torch.stack(distances).argmin())] == label)
        assert recognition(judge, episode, found)[task] == pytest.approx(sum(map(bool, right)) / 9)
    own = Examples(episode.support.x, episode.support.y)
    assert recognition(judge, episode, own).tolist() == [1, 1]
    moved = Examples(own.x, (own.y + 1) % 3)
    assert recognition(judge, episode, moved).tolist() == [0, 0]


def test_judges_of_other_drawings_are_refused(tmp_path: Path) -> None:
    of_pixels = {"mean": None, "std": None}
    ours = metashot.load(tiny(tmp_path, "vae_images", "running", "backbone=identity", **of_pixels))
    with pytest.raises(BadInput, match="algo=protonet"):
        refuse_judge(ours, ours)
    with pytest.raises(BadInput, match=r"mean=\[0\.2\], and the drawings mean=None"):
        refuse_judge(metashot.load(tiny(tmp_path, "protonet", "running")), ours)

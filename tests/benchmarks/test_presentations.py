"""What the benchmark of presentations measures is what it says."""

from pathlib import Path

import numpy as np
import pytest
import torch

import metashot
from benchmarks import presentations
from benchmarks.presentations import PRESENTATIONS, correct, draw, memory_of, summarised
from metashot.bad_input import BadInput
from tests.algorithms.test_mann import WAYS, mann, random_episode
from tests.applied.learners import tiny


def test_answers_are_counted_by_how_often_their_class_was_presented_before() -> None:
    made, episode = mann(), random_episode(shots=1, queries=PRESENTATIONS - 1, tasks=3)
    found = correct(made, episode)
    presented = made.presentations(episode)
    assert found.shape == (3, PRESENTATIONS)
    for task in range(3):
        seen, right = [0] * WAYS, np.zeros(PRESENTATIONS)
        for logits, label in zip(presented.logits[task], presented.y[task].tolist(), strict=True):
            right[seen[label]] += (int(logits.argmax()) == label) / WAYS
            seen[label] += 1
        np.testing.assert_allclose(found[task], right)
    assert 0 < found.mean() < 1


def test_rows_have_means_over_sequences_and_the_published_accuracies(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    found = random.integers(0, 6, (40, PRESENTATIONS)) / 5
    rows = summarised(found)
    assert [row.number for row in rows] == list(range(1, 11))
    np.testing.assert_allclose([row.accuracy for row in rows], found.mean(0))
    assert {row.number: row.published for row in rows if row.published} == {
        1: 0.364,
        2: 0.828,
        3: 0.91,
        4: 0.926,
        5: 0.949,
        10: 0.981,
    }
    draw(rows, "algo=mann on glyphs", 5, tmp_path / "it.png")
    assert (tmp_path / "it.png").stat().st_size > 5000


def test_learners_without_a_memory_or_whose_presentations_affect_each_other_are_refused(tmp_path: Path) -> None:
    assert memory_of(metashot.load(tiny(tmp_path, "mann", "running"))).fixed_ways == 4
    for algo, protocol, said in (("protonet", "running", "algo=mann"), ("mann", "support_later", "backbone.normalisation")):
        learner = metashot.load(tiny(tmp_path, algo, protocol))
        with pytest.raises(BadInput, match=said):
            memory_of(learner)


def test_what_cannot_be_measured_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--ckpt", str(tmp_path / "none")], "--ckpt"),
        (["--ckpt", "x", "--sequences", "1"], "--sequences 1: allowed: 2 to 1,000,000"),
        (["--ckpt", "x", "--picture", "it.jpg"], "--picture it.jpg: allowed: the name of a PNG file"),
    ):
        with pytest.raises(SystemExit):
            presentations.run(arguments)
        assert words in capsys.readouterr().err


def test_sequences_depend_on_their_number_alone() -> None:
    made = mann()
    episode = random_episode(shots=1, queries=PRESENTATIONS - 1, tasks=3)
    parts = np.concatenate([correct(made, part) for part in episode.parts(2)])
    np.testing.assert_array_equal(parts, correct(made, episode))
    assert torch.equal(made.presentations(episode).order, made.presentations(episode).order)

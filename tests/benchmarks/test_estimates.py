"""What the benchmark of estimates measures is what it says."""

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from torch import Tensor

import metashot
from benchmarks import estimates
from benchmarks.estimates import drawn, fitting, measured_estimates, measured_labels, nearest_classes
from metashot.applied.estimating import Estimate
from metashot.data.class_episodes import ClassEpisodes
from tests.applied.test_estimating import clusters, protonet


@pytest.fixture(scope="module")
def features() -> Tensor:
    return clusters(5, 12, 60, 1.2)


def test_intervals_that_hold_the_accuracy_are_counted(features: Tensor) -> None:
    found = measured_estimates(protonet(), features, 5, 5, False, 60)
    assert 0.75 <= found.held <= 1
    assert abs(found.error) < 0.05
    assert 0 < found.width < 1
    assert 0.2 < found.accuracy < 1


def test_the_highest_and_lowest_estimates_are_counted_apart(features: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [
        Estimate(place / 60, 0.0, 0.0 if place >= 56 or place < 3 else 1.0, 0.0)
        for place in np.random.default_rng(0).permutation(60)
    ]
    monkeypatch.setattr(estimates, "corrected", lambda *_: made.pop())
    found = measured_estimates(protonet(), features, 5, 2, False, 60)
    assert found.held == pytest.approx(53 / 60)
    assert found.held_of_highest == pytest.approx(2 / 6)
    assert found.held_of_lowest == pytest.approx(3 / 6)


def test_similar_classes_are_a_random_one_and_its_nearest() -> None:
    places = torch.tensor([0.0, 1.0, 3.0, 10.0, 12.0, 15.0], dtype=torch.float64)
    features = torch.zeros(6, 4, 12, dtype=torch.float64)
    features[:, :, 0] = places[:, None] + torch.tensor([-0.1, 0.1, -0.2, 0.2], dtype=torch.float64)
    nearest = nearest_classes(features, 3)
    assert nearest.tolist() == [[0, 1, 2], [1, 0, 2], [2, 1, 0], [3, 4, 5], [4, 3, 5], [5, 4, 3]]
    first = set()
    for task in drawn(features, 3, 4, 40, nearest):
        own = task[:, :, 0].mean(1).round().tolist()
        assert own in [places[row].tolist() for row in nearest]
        first.add(own[0])
    assert len(first) == 6


def test_similar_classes_are_harder_to_tell_apart(features: Tensor) -> None:
    random, similar = (measured_estimates(protonet(), features, 3, 5, which, 40) for which in (False, True))
    assert (random.similar, similar.similar) == (False, True)
    assert similar.accuracy < random.accuracy


def test_labels_gain_more_than_random_ones_and_nothing_from_other_classes(
    features: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, mixed = measured_labels(protonet(), features, 1, 40)
    assert (plain.pool, mixed.pool) == ("100", "50 and 50 of other classes")
    for row in (plain, mixed):
        assert row.gain == pytest.approx(row.ours - row.random)
        assert row.before < row.random
    assert plain.gain > plain.ci95
    last = np.arange(95, 100)[None]  # images of other classes
    monkeypatch.setattr(estimates, "chosen", lambda *_: last)
    _, useless = measured_labels(protonet(), features, 1, 5)
    assert useless.ours == useless.before


def test_tasks_are_drawn_without_repeating_a_class_or_an_image() -> None:
    numbers = torch.arange(6 * 10).view(6, 10, 1)
    first, second = (list(drawn(numbers, 4, 7, 3)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
        assert len(one.unique()) == one.numel() == 28
        assert len((one // 10).unique()) == 4
    assert not torch.equal(first[0], first[1])


def test_only_tasks_that_the_data_allow_are_measured() -> None:
    random = [(5, 2, False), (5, 5, False), (5, 10, False), (10, 5, False)]
    assert list(fitting(torch.zeros(20, 100, 1))) == [*random, (5, 2, True), (5, 5, True)]
    assert (10, 5, False) not in fitting(torch.zeros(20, 100, 1), 5)  # of a head for five classes
    assert list(fitting(torch.zeros(5, 10, 1))) == random[:2]  # whose similar classes would be the same


def test_a_page_keeps_its_tables_where_the_test_split_has_too_few_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{estimates.BEGIN}\nmeasured before\n{estimates.END}\n")
    data = MagicMock(spec=ClassEpisodes)
    data.spread_places.return_value = np.zeros((4, 30), np.int64)
    network = MagicMock(algorithm=protonet())
    monkeypatch.setattr(metashot, "load", lambda _: SimpleNamespace(network=network, algorithm=network.algorithm))
    monkeypatch.setattr(estimates, "own_data", lambda *_: data)
    with pytest.raises(SystemExit) as ended:
        estimates.run(["--ckpt", "RUN", "--markdown", str(page)])
    assert ended.value.code == 2
    assert "its test split has 4 classes, and at least 5 are needed" in capsys.readouterr().err
    assert "measured before" in page.read_text()


def test_what_cannot_be_measured_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--ckpt", str(tmp_path / "none")], "--ckpt"),
        (["--ckpt", "x", "--tasks", "1"], "--tasks 1: allowed: at least 2"),
    ):
        with pytest.raises(SystemExit):
            estimates.run(arguments)
        assert words in capsys.readouterr().err

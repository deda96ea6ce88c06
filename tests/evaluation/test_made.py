"""What reports say of made examples: means over episodes that count once each, and the paired gain."""

import numpy as np
import pytest
import torch

from metashot.evaluation.made import made_report
from metashot.evaluation.measured_episodes import MeasuredEpisodes
from metashot.evaluation.statistics import paired_difference

OF_EPISODES = ((0.5, 0.4, 0.7, 0.1), (0.6, 0.5, 0.5, 0.0), (0.4, 0.6, 0.6, 0.2), (0.7, 0.5, 0.8, 0.1))
MEASURES = np.array([[*row, 0.48, 0.0625] for row in OF_EPISODES])


def test_episodes_count_once_in_the_order_of_their_numbers() -> None:
    metric = MeasuredEpisodes()
    order = [2, 0, 3, 1, 3]  # a device that runs out of episodes repeats the last one
    for part in ([2, 0], [3, 1, 3]):
        metric.update(torch.tensor(part), torch.from_numpy(MEASURES[part]))
    assert sorted(set(order)) == [0, 1, 2, 3]
    np.testing.assert_array_equal(metric.compute(), MEASURES)


@pytest.mark.parametrize(("gains", "verdict"), [(0.1, "help"), (-0.1, "harm"), (0.0, "no clear difference")])
def test_the_gain_is_paired_and_claimed_only_where_its_interval_says_so(gains: float, verdict: str) -> None:
    scores = (MEASURES[:, 0] + gains + np.array([0.01, -0.01, 0.02, -0.02])).tolist()
    found = made_report(MEASURES, scores)
    assert found.without.mean == pytest.approx(0.55)
    assert found.alone.mean == pytest.approx(0.5)
    assert found.two_sample.mean == pytest.approx(0.65)
    assert found.copies.mean == pytest.approx(0.1)
    assert found.gain == paired_difference(scores, MEASURES[:, 0].tolist())
    assert verdict in found.rows()["- gain"]
    assert "48.00 % if nothing tells them apart" in found.rows()["two-sample"]
    assert "6.25 % of real ones would" in found.rows()["near copies"]
    assert found.metrics()["gain_of_made"] == pytest.approx(gains)
    assert found.content()["gain"]["ci95"] == found.gain.ci95

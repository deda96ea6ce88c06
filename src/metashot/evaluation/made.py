"""What the examples that a learner makes are worth: scores with and without them, and how much they resemble real ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metashot.algorithms.base import MadeMeasures
from metashot.evaluation.statistics import Difference, mean_and_interval, paired_difference
from metashot.evaluation.strangers import WithInterval


@dataclass(frozen=True)
class MadeReport:
    """The measures of an evaluation of a learner that makes examples; each is a mean over episodes."""

    without: WithInterval  # accuracy without made examples
    gain: Difference  # accuracy with made examples minus that without, paired by episode
    alone: WithInterval  # accuracy of the classifier that learns from made examples alone
    two_sample: WithInterval  # accuracy of the nearest neighbour at telling made from real examples
    copies: WithInterval  # share of made examples that are closer to their example than any query of the class
    two_sample_expected: WithInterval  # two_sample and copies if made examples were real ones
    copies_expected: WithInterval

    def content(self) -> dict[str, Any]:
        """The values as plain containers."""
        return {name: value._asdict() for name, value in vars(self).items()}

    def metrics(self) -> dict[str, float]:
        """The means, by the names that loggers get."""
        names = {"without": "without_made", "gain": "gain_of_made", "alone": "made_alone"}
        return {names.get(name, name): value.mean for name, value in vars(self).items() if "expected" not in name}

    def rows(self) -> dict[str, str]:
        """The rows of a table for people."""
        gain, interval, p = self.gain
        helps = p is not None and p < 0.05
        verdict = "no clear difference" if not helps else "made examples help" if gain > 0 else "made examples harm"
        paired = "" if interval is None else f" ± {100 * interval:.2f} paired: {verdict}"
        return {
            "without made": _percent(self.without),
            "- gain": f"{100 * gain:+.2f} points{paired}",
            "made alone": f"{_percent(self.alone)}, of a classifier that learns from made examples alone",
            "two-sample": f"{_percent(self.two_sample)} accuracy of nearest neighbours, made against real ("
            f"{100 * self.two_sample_expected.mean:.2f} % if nothing tells them apart)",
            "near copies": f"{_percent(self.copies)} of made examples lie closer to their own example than any query does ("
            f"{100 * self.copies_expected.mean:.2f} % of real ones would)",
        }


def made_report(measured: NDArray[np.float64], scores: Sequence[float]) -> MadeReport:
    """Summarise the measures of all episodes [E, 4], whose scores with made examples are given in the same order."""
    columns: dict[str, list[float]] = dict(zip(MadeMeasures._fields, measured.T.tolist(), strict=True))
    means = {name: WithInterval(*mean_and_interval(values)) for name, values in columns.items()}
    return MadeReport(gain=paired_difference(scores, columns["without"]), **means)


def _percent(value: WithInterval) -> str:
    return f"{100 * value.mean:.2f} %" + ("" if value.ci95 is None else f" ± {100 * value.ci95:.2f}")

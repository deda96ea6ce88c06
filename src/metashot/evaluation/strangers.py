"""How well a learner tells queries of its classes from strangers, which belong to none of them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.base import Familiar
from metashot.algorithms.familiarity import auroc
from metashot.episodes import Amount, format_amount
from metashot.evaluation.statistics import mean_and_interval

KEPT = 0.95  # share of the known queries that are accepted where `refused` is measured


class WithInterval(NamedTuple):
    """A mean over episodes with the half-width of its 95 % interval."""

    mean: float
    ci95: float | None


@dataclass(frozen=True)
class Judged:
    """How well strangers are told; each score is a mean over episodes."""

    auroc: WithInterval  # probability that a query looks more familiar than a stranger
    accepted: WithInterval  # share of strangers that are accepted where 95 % of the queries are (FPR at 95 % TPR)
    false_alarms: WithInterval  # share of queries that are called unknown, at the rate that was asked for
    refused: WithInterval  # share of strangers that are called unknown, at the same rate
    accuracy: WithInterval  # share of right answers to queries and strangers, which for strangers is unknown

    def lines(self, rate: float) -> str:
        told = f"AUROC {_percent(self.auroc)}, FPR at 95 % {_percent(self.accepted)}"
        refused = f"{_percent(self.refused)} of strangers and {_percent(self.false_alarms)} of others refused"
        return f"{told}; unknown={rate:g}: {refused}, {_percent(self.accuracy)} of all answers right"


@dataclass(frozen=True)
class StrangerReport:
    """The scores of an evaluation with strangers."""

    classes: int  # other classes in each episode
    queries: Amount  # strangers of each of these classes
    rate: float  # of false alarms that was asked for
    alone: Judged  # each query by itself
    together: Judged  # all queries of an episode at once, which is transductive

    def content(self) -> dict[str, Any]:
        """The values as plain containers."""
        judged = {
            name: {measure: value._asdict() for measure, value in vars(getattr(self, name)).items()}
            for name in ("alone", "together")
        }
        return vars(self) | judged

    def rows(self) -> dict[str, str]:
        """The rows of a table for people."""
        return {
            "strangers": f"{format_amount(self.queries)} queries of "
            + ("one other class" if self.classes == 1 else f"each of {self.classes} other classes"),
            "- alone": self.alone.lines(self.rate),
            "- together": f"{self.together.lines(self.rate)} (transductive)",
        }


def measured_familiarity(right: Tensor, alone: Familiar, together: Familiar) -> Tensor:
    """What is measured in each of T tasks, for queries that are judged alone and together: [T, 2, 5].

    Args:
        right: Whether the class of each query is the predicted one [T, Q].
        alone: How familiar queries and strangers look, each by itself.
        together: How familiar they look together.
    """
    tasks = (zip(right, *judged, strict=True) for judged in (alone, together))
    measured = [[_measures(*task) for task in both] for both in zip(*tasks, strict=True)]
    return torch.tensor(measured, dtype=torch.float64, device=right.device)


def stranger_report(measured: NDArray[np.float64], classes: int, queries: Amount, rate: float) -> StrangerReport:
    """Summarise the measures of all episodes [E, 2, 5]."""
    alone, together = (
        Judged(*(WithInterval(*mean_and_interval(column.tolist())) for column in how.T)) for how in measured.swapaxes(0, 1)
    )
    return StrangerReport(classes, queries, rate, alone, together)


def _measures(right: Tensor, known: Tensor, strangers: Tensor, threshold: Tensor) -> list[float]:
    known_values, stranger_values = known.double().cpu().numpy(), strangers.double().cpu().numpy()
    limit = float(threshold)
    at_kept = np.quantile(known_values, 1 - KEPT, method="lower")
    kept = known_values >= limit
    refused = stranger_values < limit
    answered_right = (right.cpu().numpy() & kept).sum() + refused.sum()
    return [
        float(auroc(known.double().cpu()[None], strangers.double().cpu()[None])),
        float((stranger_values >= at_kept).mean()),
        float((~kept).mean()),
        float(refused.mean()),
        float(answered_right / (len(kept) + len(refused))),
    ]


def _percent(value: WithInterval) -> str:
    interval = "" if value.ci95 is None else f" ± {100 * value.ci95:.2f}"
    return f"{100 * value.mean:.2f} %{interval}"

"""Scores other than accuracies, and what else the tables of families say: bands, returns while adapting, made examples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Report = Mapping[str, Any]
TOLERANCE = 1.0  # points below the published score from which on an explanation is needed
_TOLERANCE = 0.01  # the same for scores that are not in percent, as a share of the published score
# What problems say of their scores, once more: problems import torch, which takes seconds, and a page needs no tensor.
IN_PERCENT = frozenset({"accuracy", "mean_iou", "coverage"})
_LOWER_IS_BETTER = frozenset({"mse"})
_NAMES = {"mse": "squared error"}
_DASH, _MINUS = "–", "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Column:
    """A column that some tables have.

    Attributes:
        heading: Its heading.
        text: What it says of a report.
        applies: Whether it says something of a report; the others have a dash.
    """

    heading: str
    text: Callable[[Report], str]
    applies: Callable[[Report], bool]

    def cell(self, report: Report | None) -> str:
        """Its cell in the line of a report; empty without one."""
        if report is None:
            return ""
        return self.text(report) if self.applies(report) else _DASH


def scale_of(metric: str) -> float:
    """What a value is multiplied by to be printed."""
    return 100.0 if metric in IN_PERCENT else 1.0


def higher_is_better(metric: str) -> bool:
    """Whether a higher score is a better one."""
    return metric not in _LOWER_IS_BETTER


def is_below(metric: str, difference: float, published: float) -> bool:
    """Whether a result is so much worse than the published one that this has to be explained.

    Args:
        metric: The name of the score.
        difference: The measured score less the published one, as printed.
        published: The published score, as printed.
    """
    gain = difference if higher_is_better(metric) else -difference
    return gain < -(TOLERANCE if metric in IN_PERCENT else _TOLERANCE * abs(published))


def printed(metric: str, value: float, ci95: float | None, sign: str = "") -> str:
    """A value with its interval, in percent or in its unit.

    Args:
        metric: The name of the score.
        value: The value.
        ci95: The half-width of its interval; None if it has none.
        sign: `+` for a difference.
    """
    scale, places = scale_of(metric), 3 if metric in _LOWER_IS_BETTER else 2
    interval = "" if ci95 is None else f" ± {scale * ci95:.{places}f}"
    return f"{scale * value:{sign}.{places}f}{interval}".replace("-", _MINUS)


def heading_of_score(metrics: Sequence[str]) -> str:
    """The heading above the scores of a table."""
    other = sorted({_NAMES.get(metric, metric) for metric in metrics if metric not in IN_PERCENT})
    return f"measured ({', '.join(other)})" if other else "measured"


def columns_of(reports: Sequence[Report]) -> list[Column]:
    """The columns of a table beside those of all tables: those that say something of one of its reports."""
    return [column for column in _COLUMNS if any(column.applies(report) for report in reports)]


def _has_trials(report: Report) -> bool:
    return "trial_return" in report and report["trial_return"] != report["return"]


def _adapting(report: Report) -> str:
    return ", ".join(printed("return", at["score"], at["ci95"]) for at in report["inner_steps"])


def _acts(report: Report) -> bool:
    return report.get("acting") is not None


def _with_interval(key: str, metric: str) -> Callable[[Report], str]:
    return lambda report: printed(metric, report[key], report[f"{key}_ci95"])


def _made(key: str) -> Callable[[Report], str]:
    sign = "+" if key == "gain" else ""
    return lambda report: printed("accuracy", report["made"][key]["mean"], report["made"][key]["ci95"], sign)


def _makes(report: Report) -> bool:
    return report.get("made") is not None


def _has_band(report: Report) -> bool:
    return "log_likelihood" in report


def _log_likelihood(report: Report) -> str:
    return f"{report['log_likelihood']:.3f} ± {report['log_likelihood_ci95']:.3f}".replace("-", _MINUS)


_COLUMNS = (
    Column("log-likelihood", _log_likelihood, _has_band),
    Column("points in the 95 % band, in percent", _with_interval("coverage", "coverage"), _has_band),
    Column("whole trials", _with_interval("trial_return", "return"), _has_trials),
    Column("as it adapts", _adapting, lambda report: _acts(report) and len(report["inner_steps"]) > 1),
    Column("worst 5 %", lambda report: printed("return", report["worst_episodes"], None), _acts),
    Column("environment steps", lambda report: f"{report['acting']['environment_steps_in_training']:,}", _acts),
    Column("without made examples", _made("without"), _makes),
    Column("gain", _made("gain"), _makes),
    Column("made alone", _made("alone"), _makes),
    Column("two-sample", _made("two_sample"), _makes),
    Column("copies", _made("copies"), _makes),
)

"""The report of an evaluation: a JSON file for machines, and a short table for people."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from metashot.bad_input import in_one_line
from metashot.data.seen_classes import SeenClasses
from metashot.episodes import Amount, format_amount
from metashot.evaluation.acting import ActingReport
from metashot.evaluation.answers import ClassAccuracy
from metashot.evaluation.made import MadeReport
from metashot.evaluation.statistics import FEW_EPISODES
from metashot.evaluation.strangers import StrangerReport
from metashot.evaluation.timing import SecondsOfATask
from metashot.files.outputs import WRITTEN_BY, write_output
from metashot.problems import IN_PERCENT
from metashot.version import __version__

_COLUMN = 15  # letters of the first column of a table


@dataclass(frozen=True)
class AfterSteps:
    """The score after a number of inner steps: of a policy, after updates, or after earlier episodes of a trial."""

    steps: int
    score: float
    ci95: float | None
    episodes: int


class Measure(NamedTuple):
    """A mean over episodes, with the half-width of its 95 % interval."""

    mean: float
    ci95: float | None


@dataclass(frozen=True, repr=False)
class Report:
    """A score with everything that is needed to judge and reproduce it.

    `print(report)` shows it as a table, a notebook shows it as Markdown, and `write` saves it as JSON.
    """

    metric: str  # the name of the score, such as accuracy or mse
    score: float
    ci95: float | None
    loss: float
    episodes: int
    ways: Amount | None  # None where tasks have no classes
    shots: Amount
    queries: Amount
    unequal_support: float | None
    unequal_queries: float | None
    sampling: str | None  # how episodes are drawn (`EpisodeSampler.sampling`); None where tasks have no classes
    transductive: bool
    external_data: str | None  # data beyond the training split that the weights were trained on, such as ImageNet-1k
    seen_classes: SeenClasses | None  # the number of the split's classes that the learner was trained on
    algo: str
    data: str
    split: str
    episode_seed: int
    training_seed: int | None  # None where the checkpoint does not store it
    checkpoint: str
    step: int
    seconds: float
    version: str
    worst_episodes: float  # the mean score of the worst 5 %
    calibration_error: float | None  # the expected calibration error of the predicted class's probability
    seconds_of_a_task: SecondsOfATask | None
    inner_steps: list[AfterSteps]  # empty without an inner loop
    strangers: StrangerReport | None  # None without strangers
    classes: list[ClassAccuracy]  # the classes of the split that had queries
    measures: Mapping[str, Measure] = field(default_factory=dict)  # by name; beside the score, where the problem has more
    made: MadeReport | None = None  # None for learners that make no examples
    acting: ActingReport | None = None  # None for learners that answer queries

    @property
    def noun(self) -> str:
        """The plural noun for tasks."""
        return "episodes" if self.acting is None else "worlds"

    @property
    def takes_updates(self) -> bool:
        """Whether it is a policy that is updated with trajectories."""
        return self.acting is not None and self.acting.adapts_by == "updates" and len(self.inner_steps) > 1

    @property
    def over(self) -> str:
        """What follows an interval."""
        return f" (95 % interval over {self.noun})"

    @property
    def few_episodes(self) -> bool:
        """Whether there are too few episodes for the interval to be trusted."""
        return self.episodes < FEW_EPISODES

    @property
    def worst_class(self) -> ClassAccuracy | None:
        """The class with the lowest accuracy; None where tasks have no classes."""
        return min(self.classes, key=lambda of_class: of_class.accuracy) if self.classes else None

    def content(self) -> dict[str, Any]:
        """The values as plain containers, as in report.json; the score comes first, under the metric's name."""
        values = asdict(self)
        values["seconds_of_a_task"] = self.seconds_of_a_task and self.seconds_of_a_task._asdict()
        values["strangers"] = self.strangers and self.strangers.content()
        for name in ("made", "acting"):
            part: MadeReport | ActingReport | None = getattr(self, name)
            values[name] = part and part.content()
            if part is None:
                del values[name]
        values["classes"] = [of_class._asdict() for of_class in self.classes]
        values["worst_class"] = self.worst_class and self.worst_class._asdict()
        values["seen_classes"] = self.seen_classes and self.seen_classes._asdict()
        values["few_episodes"] = self.few_episodes
        del values["measures"]
        for name, measure in self.measures.items():
            values |= {name: measure.mean, f"{name}_ci95": measure.ci95}
        return {values.pop("metric"): values.pop("score")} | values

    def write(self, path: Path) -> None:
        """Write the report as JSON."""
        write_output(path, as_json(self.content()).encode())

    def metrics(self) -> dict[str, float]:
        """The metrics for loggers: all reproducible values, so no times."""
        interval = {} if self.ci95 is None else {"test/ci95": self.ci95}
        more = {
            "worst_episodes": self.worst_episodes,
            "calibration_error": self.calibration_error,
            "worst_class": self.worst_class and self.worst_class.accuracy,
            **{name: measure.mean for name, measure in self.measures.items()},
            **({} if self.made is None else self.made.metrics()),
            **({} if self.acting is None else self.acting.metrics()),
            **({f"{self.metric}_before": self.inner_steps[0].score} if self.takes_updates else {}),
        }
        return {
            f"test/{self.metric}": self.score,
            **interval,
            "test/loss": self.loss,
            "test/episodes": self.episodes,
            **{f"test/{name}": value for name, value in more.items() if value is not None},
        }

    def lines(self, paths: dict[str, Path]) -> str:
        """The report as a table of two columns.

        Args:
            paths: Files to list below the report, by what they are called.

        Returns:
            The table as lines of text.
        """
        rows = [(name, in_one_line(str(value))) for name, value in {**self.rows(), **paths}.items()]
        rows.insert(1, (self.metric, self._with_interval(self.metric, self.score, self.ci95)))
        width = max(_COLUMN, *(len(name) for name, _ in rows))
        return "\n".join(f"{name:<{width}} {value}" for name, value in rows)

    def __str__(self) -> str:
        return self.lines({})

    def __repr__(self) -> str:
        return (
            f"<Report: {self.algo} on {self.data}, {self.metric} {score_with_interval(self.metric, self.score, self.ci95)}>"
        )

    def _repr_markdown_(self) -> str:
        """The same table in Markdown, which notebooks display."""
        scored = self._with_interval(self.metric, self.score, self.ci95)
        (name, where), *others = self.rows().items()
        rows = [(name, where), (self.metric, scored), *others]
        return "\n".join(
            ["| | |", "|---|---|", *(f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows)]
        )

    def rows(self) -> dict[str, str]:
        """The rows of the table, without the score: what was scored, and `details`."""
        where = {
            self.algo: f"on {self.data}, {self.split} split",
            "seeds": f"{self.episode_seed} of the {self.noun}, {_known(self.training_seed)} of the training",
        }
        if self.acting is not None:
            worlds = {
                **({"family": self.acting.family} if self.acting.family else {}),
                "worlds": f"{self.episodes}{few_episodes(self.episodes)}",
                "trajectories": self._trajectories(self.acting),
            }
            return where | worlds | self.details()
        return {
            **where,
            "episodes": f"{self.episodes}{few_episodes(self.episodes)}",
            **({} if self.ways is None else {"ways": format_amount(self.ways)}),
            "shots": format_amount(self.shots),
            "queries": format_amount(self.queries) + ("" if self.ways is None else " per class"),
            **self.unequal(),
            **({"sampling": self.sampling} if self.sampling not in (None, "sorted") else {}),
            "transductive": str(self.transductive).lower(),
            **(
                {}
                if self.external_data is None
                else {"external data": f"{self.external_data}, which may have the classes of the {self.split} split"}
            ),
            **({} if self.seen_classes is None else {"seen classes": str(self.seen_classes)}),
            **self.details(),
        }

    def asked(self) -> str:
        """One line that describes the data and the episodes."""
        few = few_episodes(self.episodes)
        data = self.data if self.acting is None else self.acting.family or self.data
        where = f"{data}, {self.split} split, {self.noun} of seed {self.episode_seed}: {self.episodes} {self.noun}{few}"
        if self.acting is not None:
            return f"{where}, {self.queries} trajectories judged in each"
        shape = (
            f"{format_amount(self.shots)} shots"
            if self.ways is None
            else f"{format_amount(self.ways)}-way {format_amount(self.shots)}-shot"
        )
        unequal = "".join(f", {name} ({value})" for name, value in self.unequal().items())
        return f"{where}, {shape}, {format_amount(self.queries)} queries{unequal}"

    @property
    def tried(self) -> int:
        """How many trajectories a policy has tried in a world before those that judge it at the end."""
        last = self.inner_steps[-1].steps if self.inner_steps else 0
        return (
            last * self.shots if self.acting and self.acting.adapts_by == "updates" and isinstance(self.shots, int) else last
        )

    def _trajectories(self, acting: ActingReport) -> str:
        return acting.trajectories(format_amount(self.shots), format_amount(self.queries), len(self.inner_steps) > 1)

    def _with_interval(self, metric: str, score: float, ci95: float | None) -> str:
        without = ONE_EPISODE if self.acting is None else ONE_WORLD
        return score_with_interval(metric, score, ci95, " (95 % interval)", without)

    def unequal(self) -> dict[str, str]:
        """What has unequal shares of the classes, and how they are drawn."""
        given = {"support": self.unequal_support, "queries": self.unequal_queries}
        return {f"unequal {name}": f"Dirichlet {value:g}" for name, value in given.items() if value is not None}

    def seen_in_short(self) -> str:
        """The number of classes that were seen in training, for a table's column; "-" for regression."""
        seen = self.seen_classes
        return "-" if seen is None else "unknown" if seen.seen is None else str(seen)

    def details(self) -> dict[str, str]:
        """The rows below the setup: inner steps, measures, worst episodes and class, calibration and times."""
        details = {} if self.made is None else self.made.rows()
        if self.acting is not None and len(self.inner_steps) > 1:
            for at in self.inner_steps:
                details[self.acting.after(at.steps)] = self._with_interval(self.metric, at.score, at.ci95)
        elif self.inner_steps and self.acting is None:
            at_steps = ", ".join(f"{at.steps}: {plain_score(self.metric, at.score)}" for at in self.inner_steps)
            episodes = self.inner_steps[0].episodes
            of_some = f" (first {episodes} episodes)" if episodes < self.episodes else ""
            details["inner steps"] = at_steps + of_some
        for name, measure in self.measures.items():
            details[name.replace("_", " ")] = self._with_interval(name, *measure)
        details["worst 5 %"] = f"{plain_score(self.metric, self.worst_episodes)}, the mean of those {self.noun}"
        if self.worst_class is not None:
            worst = self.worst_class
            details["worst class"] = f"{plain_score('accuracy', worst.accuracy)} of {worst.queries} queries, {worst.name}"
        if self.calibration_error is not None:
            details["calibration"] = f"{100 * self.calibration_error:.2f} % expected calibration error"
        if self.strangers is not None:
            details |= self.strangers.rows()
        if self.seconds_of_a_task is not None:
            adapting, answering, _ = (1000 * seconds for seconds in self.seconds_of_a_task)
            details["a task takes"] = f"{adapting:.1f} ms to adapt and {answering:.1f} ms to answer"
        if self.acting is not None:
            details |= self.acting.rows()
            details["a world takes"] = f"{1000 * self.seconds / self.episodes:.1f} ms on average, to adapt and to be judged"
        return details


def few_episodes(episodes: int) -> str:
    """The remark that follows a small number of episodes."""
    return f" (fewer than {FEW_EPISODES}: too few for the interval to be trusted)" if episodes < FEW_EPISODES else ""


def _known(seed: int | None) -> str:
    return "unknown" if seed is None else str(seed)


def plain_score(metric: str, score: float) -> str:
    return f"{100 * score:.2f} %" if metric in IN_PERCENT else f"{score:.4f}"


def as_json(content: dict[str, Any]) -> str:
    return json.dumps(_without_nan(content | {WRITTEN_BY: f"metashot {__version__}"}), indent=2) + "\n"


def _without_nan(value: Any) -> Any:
    """Replace non-finite values by None, since JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


ONE_EPISODE, ONE_WORLD = "one episode has no interval", "one world has no interval"


def score_with_interval(metric: str, score: float, ci95: float | None, suffix: str = "", without: str = ONE_EPISODE) -> str:
    """Format a score with the half-width of its 95 % interval.

    Args:
        metric: The name of the score; shares such as accuracies are printed in percent.
        score: The score.
        ci95: The half-width of its interval, or None.
        suffix: Text that follows the interval.
        without: The reason to print where there is no interval.
    """
    if metric in IN_PERCENT:
        value, interval = f"{100 * score:.2f} %", "" if ci95 is None else f"{100 * ci95:.2f}"
    else:
        value, interval = f"{score:.4f}", "" if ci95 is None else f"{ci95:.4f}"
    return f"{value} ± {interval}{suffix}" if interval else f"{value} ({without})"

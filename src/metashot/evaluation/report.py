"""The report of a scored split: one file for machines, a few lines for people."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from metashot.episodes import Amount, shown
from metashot.run_folder import write_text


@dataclass(frozen=True)
class Report:
    """A score with all that is needed to trust it and to get it again."""

    metric: str  # what the score is: accuracy, or mse in regression
    score: float
    ci95: float | None
    loss: float
    episodes: int
    ways: Amount | None  # none in regression
    shots: Amount
    queries: Amount
    unequal_support: float | None
    unequal_queries: float | None
    transductive: bool
    algo: str
    data: str
    split: str
    seed: int
    checkpoint: str
    step: int
    seconds: float
    version: str

    def write(self, path: Path) -> None:
        """As JSON, in which the score stands first and under its name."""
        values = asdict(self)
        content = {values.pop("metric"): values.pop("score")} | values
        write_text(path, json.dumps(content, indent=2) + "\n")

    def metrics(self) -> dict[str, float]:
        """What the loggers are told."""
        interval = {} if self.ci95 is None else {"test/ci95": self.ci95}
        return {f"test/{self.metric}": self.score, **interval, "test/loss": self.loss, "test/episodes": self.episodes}

    def lines(self, paths: dict[str, Path]) -> str:
        """A table of two columns: what, and how much."""
        unequal = {"support": self.unequal_support, "queries": self.unequal_queries}
        rows = {
            f"{self.algo}": f"on {self.data}, {self.split} split, seed {self.seed}",
            self.metric: score_with_interval(self.metric, self.score, self.ci95, " (95 % interval)"),
            "episodes": self.episodes,
            **({} if self.ways is None else {"ways": shown(self.ways)}),
            "shots": shown(self.shots),
            "queries": shown(self.queries) + ("" if self.ways is None else " a class"),
            **{f"unequal {name}": f"Dirichlet {value:g}" for name, value in unequal.items() if value is not None},
            "transductive": str(self.transductive).lower(),
            **paths,
        }
        return "\n".join(f"{name:<15} {value}" for name, value in rows.items())


def score_with_interval(metric: str, score: float, ci95: float | None, said: str = "") -> str:
    """A score as every printed one looks: accuracies in percent, each with the half-width of its 95 % interval."""
    if metric == "accuracy":
        value, interval = f"{100 * score:.2f} %", "" if ci95 is None else f"{100 * ci95:.2f}"
    else:
        value, interval = f"{score:.4f}", "" if ci95 is None else f"{ci95:.4f}"
    return f"{value} ± {interval}{said}" if interval else f"{value} (one episode has no interval)"

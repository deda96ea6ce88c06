"""The report of a scored split: one file for machines, a few lines for people."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from metashot.run_folder import write_text


@dataclass(frozen=True)
class Report:
    """An accuracy with all that is needed to trust it and to get it again."""

    accuracy: float
    ci95: float | None
    loss: float
    episodes: int
    ways: int
    shots: int
    queries: int
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
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")

    def metrics(self) -> dict[str, float]:
        """What the loggers are told."""
        interval = {} if self.ci95 is None else {"test/ci95": self.ci95}
        return {"test/accuracy": self.accuracy, **interval, "test/loss": self.loss, "test/episodes": self.episodes}

    def lines(self, paths: dict[str, Path]) -> str:
        """A table of two columns: what, and how much."""
        interval = " (one episode has no interval)" if self.ci95 is None else f" ± {100 * self.ci95:.2f} (95 % interval)"
        rows = {
            f"{self.algo}": f"on {self.data}, {self.split} split, seed {self.seed}",
            "accuracy": f"{100 * self.accuracy:.2f} %{interval}",
            "episodes": self.episodes,
            "ways": self.ways,
            "shots": self.shots,
            "queries": f"{self.queries} a class",
            "transductive": str(self.transductive).lower(),
            **paths,
        }
        return "\n".join(f"{name:<13} {value}" for name, value in rows.items())

"""Scores over a grid of ways and shots in one table, with one row per episode shape and one column per checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metashot.evaluation.comparison import Comparison, aligned
from metashot.evaluation.markdown import table
from metashot.evaluation.report import few_episodes, score_with_interval


@dataclass(frozen=True)
class Grid:
    """The comparisons of a grid of ways and shots."""

    cells: Sequence[Comparison]  # one per episode shape

    def content(self) -> dict[str, Any]:
        """The values as plain containers, as in report.json."""
        return {"grid": [cell.content() for cell in self.cells]}

    def lines(self) -> str:
        """The grid as text for a terminal."""
        return "\n".join([self._asked(), *aligned(self._rows()), *self._checkpoints()])

    def for_people(self) -> str:
        """The grid as Markdown, followed by the comparison of checkpoints for each shape where there are several."""
        head, *rows = self._rows()
        parts = [
            "# Ways and shots",
            self._asked(),
            table(head, rows),
            "\n".join(f"- {line}" for line in self._checkpoints()),
        ]
        if len(self.cells[0].scored) > 1:
            parts += [cell.for_people().replace("# ", "## ").strip() for cell in self.cells]
        return "\n\n".join(parts) + "\n"

    def _asked(self) -> str:
        report = self.cells[0].scored[0].evaluation.report
        where = f"{report.data}, {report.split} split, {report.noun} of seed {report.episode_seed}"
        where += f", {report.episodes} {report.noun} each{few_episodes(report.episodes)}"
        where += "".join(f", {name} ({value})" for name, value in report.unequal().items())
        return f"{where}; {report.metric} with its 95 % interval over {report.noun}"

    def _rows(self) -> list[list[str]]:
        scored = self.cells[0].scored
        several = len(scored) > 1
        names = [f"{place} {one.evaluation.report.algo}" for place, one in enumerate(scored, 1)]
        rows = [["ways", "shots", *(names if several else [self.cells[0].metric])]]
        for cell in self.cells:
            reports = [one.evaluation.report for one in cell.scored]
            scores = [score_with_interval(report.metric, report.score, report.ci95) for report in reports]
            rows.append([str(reports[0].ways), str(reports[0].shots), *scores])
        return rows

    def _checkpoints(self) -> list[str]:
        return [
            f"{place}: {one.path}, transductive {str(one.evaluation.report.transductive).lower()}, "
            f"seen classes {one.evaluation.report.seen_in_short()}"
            for place, one in enumerate(self.cells[0].scored, 1)
        ]

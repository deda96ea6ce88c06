"""RESULTS.md: the tables of all results, beside the published ones, and the table of headline cells in README.md."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from metashot.evaluation.markdown import escaped, table
from metashot.evaluation.statistics import mean_and_interval, standard_error
from metashot.files.outputs import DOCUMENT_END
from metashot.results.comparisons import Ranked, in_short, on_the_same_episodes, ranked
from metashot.results.families import Column, columns_of, heading_of_score, higher_is_better, is_below, printed, scale_of
from metashot.results.storage import Kept, Record, Result
from metashot.results.tables import Cell, Plan, Published, PublishedResults, Table, published_of

_SHAPE = ("ways", "shots")
_COSTS = ("time", "memory", "recipe", "checkpoint")
_HEADLINE = ("command", "task", "measured", "published", "`transductive`", "time")
_COMPARED = ("", "algorithm", "measured", "better than", "not told apart from")
_DASH, _MINUS = "–", "\N{MINUS SIGN}"
_NOT_KNOWN = "not known"
_EXTERNAL = "with external data"
_REPLACED = "Earlier tests, of recipes that were changed after them:"
_INTRODUCTION = """# Results

Published results beside those that are measured here. This file is generated from the reports in `results/`:

    python -m metashot.results                                # writes it again
    python -m metashot.results minutes=120 root=FOLDER        # measures what is missing, for two hours

{counts}

A cell is a **recipe**, which is trained and tested by

    python train.py experiment=RECIPE data.root=FOLDER

where `FOLDER` has `omniglot/`, `cifar-fs/` and others. A recipe says where it departs from the paper and why. Where one
training serves several cells, their recipes differ in the test alone, and the checkpoint is tested again. A recipe *after*
another one starts from the run of that, in `runs/results/`, or where `init_from=RUN` says.

- **measured** is the accuracy in percent, or the score that the heading names, on test episodes of unseen classes with 15
  queries per class, with the checkpoint that was best on validation episodes, and its 95 % interval over episodes. All
  settings come from papers and their code, or were chosen on validation classes. Tests did decide, however, which recipes
  were revised or given a longer run: those more than a point below the published result. Their earlier results are listed
  below the tables; each means that the test split was used once more for that cell. Where there are several training seeds,
  the mean and its standard error over seeds follow.
- **published** is what the paper reports, with its 95 % interval if it has one, and its source ([below](#sources)).
  *t* marks results that are transductive: the queries of an episode can see each other, through batch normalisation or
  because they are answered together. *s* marks results on another split of the classes: their differences say little, and
  are not counted above.
- **difference** is in points. Where it is below {minus}1, an explanation stands below the table. Near 100 %, less than a
  point can be much: 99.2 instead of 99.9 % is eight times the errors.
- **time** is the processor time of the whole command, with validation and test, which is what it takes on one core with
  nothing beside it; a cell without it shares the training of another one. In brackets stands what the training of a missing
  cell would take, from the speed of a few steps. The letter is the [machine](#machines), and **memory** the most that the
  process took.
- **checkpoint** is the beginning of the SHA-256 digest of the file that was tested.

Below each table, algorithms are compared on the test episodes that they share: paired t-tests of all pairs of a group, after
Holm's correction, at a level of 5 % for all pairs together; numbers under *better than* are those of the first column. The
tests compare these checkpoints, not other training seeds."""


class Numbered:
    """Numbers texts in the order in which they are first used."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __getitem__(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


@dataclass(frozen=True)
class Page:
    """Everything that the tables are made of.

    Attributes:
        plan: The cells.
        published: The published results.
        kept: The reports.
    """

    plan: Plan
    published: PublishedResults
    kept: Kept

    def document(self) -> str:
        """The whole of RESULTS.md."""
        sources, machines = Numbered(), Numbered()
        tables = [part for one in self.plan.tables.values() for part in self._of_table(one, sources, machines)]
        parts = [
            _INTRODUCTION.format(counts=self._counts(), minus=_MINUS),
            *tables,
            "## Sources",
            "\n".join(f"{number}. {text}" for number, text in enumerate(sources.texts, 1)),
            "## Machines",
            "\n".join(f"- **{_letter(number)}**: {escaped(text)}" for number, text in enumerate(machines.texts, 1)),
        ]
        return "\n\n".join(parts) + f"\n\n{DOCUMENT_END}"

    def headline(self) -> str:
        """The table of headline cells."""
        rows = []
        for cell in map(self.plan.named, self.plan.headline):
            result, record, published = self.kept.results.get(cell.name), self._record(cell), self.of_paper(cell)
            rows.append(
                [
                    f"`python train.py experiment={cell.recipe}`",
                    ", ".join(part for part in (cell.table.short, cell.task) if part),
                    _DASH if result is None else _score(result),
                    _DASH if published is None else f"{_published(published)} ({published.paper})",
                    "" if result is None else str(result.report["transductive"]).lower(),
                    "" if record is None else _time(record.processor_seconds),
                ]
            )
        return table(_HEADLINE, rows)

    def below(self) -> list[Cell]:
        """The cells that are measured, and more than a point worse than what is published."""
        return [cell for cell in self._shown() if self._is_below(cell)]

    def of_paper(self, cell: Cell) -> Published | None:
        """The published result of a cell."""
        return published_of(cell, self.published)

    def _shown(self, of: Table | None = None) -> list[Cell]:
        """The cells that have a line: those of the first seed, without the longer schedules that are not yet measured."""
        shown = [
            cell
            for cell in self.plan.cells
            if cell.seed == 0 and (of is None or cell.table == of) and (not cell.variant or cell.name in self.kept.results)
        ]
        rows = list(dict.fromkeys((cell.table.name, cell.row, cell.variant) for cell in shown))
        return sorted(
            shown,
            key=lambda cell: (rows.index((cell.table.name, cell.row, cell.variant)), cell.table.columns.index(cell.column)),
        )

    def _counts(self) -> str:
        compared = [cell for cell in self._shown() if not cell.variant and self._is_comparable(cell)]
        reached = sum(self._is_reached(cell) for cell in compared)
        below = sum(map(self._is_below, compared))
        repeated = sum(cell.seed > 0 for cell in self.plan.cells)
        longer = sum(bool(cell.variant) and not cell.seed for cell in self.plan.cells)
        found = sum(cell.name in self.kept.results for cell in self.plan.cells)
        return (
            f"{found} of {len(self.plan.cells)} cells are measured. Of all cells, {repeated} repeat a training with another "
            f"seed, and count towards the line of the first one, and {longer} are longer runs, which have a line once they "
            f"are measured. Of the {len(compared)} measured cells with a published result on the same split, without the "
            f"longer runs, {reached} reach it, {len(compared) - reached - below} fall short by at most one point, and "
            f"{below} by more."
        )

    def _is_comparable(self, cell: Cell) -> bool:
        published = self.of_paper(cell)
        return published is not None and not published.other_split and self._difference(cell) is not None

    def _difference(self, cell: Cell) -> float | None:
        """Measured less published, in points or in the unit of the score."""
        result, published = self.kept.results.get(cell.name), self.of_paper(cell)
        if result is None or published is None:
            return None
        return scale_of(result.metric) * float(result.report[published.measure or result.metric]) - published.score

    def _is_below(self, cell: Cell) -> bool:
        gap, published = self._difference(cell), self.of_paper(cell)
        return gap is not None and published is not None and is_below(self._metric(cell), gap, published.score)

    def _is_reached(self, cell: Cell) -> bool:
        gap = self._difference(cell)
        return gap is not None and (gap >= 0 if higher_is_better(self._metric(cell)) else gap <= 0)

    def _metric(self, cell: Cell) -> str:
        return self.kept.results[cell.name].metric

    def _record(self, cell: Cell) -> Record | None:
        result = self.kept.results.get(cell.name)
        return None if result is None else self.kept.records.get(result.training)

    def _of_table(self, of: Table, sources: Numbered, machines: Numbered) -> Iterator[str]:
        shown = self._shown(of)
        external = [cell for cell in shown if self._has_external_data(cell)]
        yield f"## {of.title}"
        yield of.about
        for cells, heading in (
            ([cell for cell in shown if cell not in external], ""),
            (external, f"{of.title}, {_EXTERNAL}"),
        ):
            if not cells:
                continue
            if heading:
                yield f"### {heading}"
            results = [self.kept.results[cell.name] for cell in cells if cell.name in self.kept.results]
            columns = columns_of([result.report for result in results])
            yield table(
                [
                    *("algorithm", *(_SHAPE if of.has_shapes else ()), "published"),
                    *(heading_of_score([result.metric for result in results]), "difference", "episodes"),
                    *(column.heading for column in columns),
                    *_COSTS,
                ],
                [self._line(cell, columns, sources, machines) for cell in cells],
            )
            yield from self._comparisons(cells)
        if notes := [note for row in dict.fromkeys(cell.row for cell in shown) for note in self._notes(of, row)]:
            yield "\n".join(notes)
        if replaced := [(cell, one) for cell in shown for one in self.kept.replaced.get(cell.name, ())]:
            yield _REPLACED
            yield table(
                ["algorithm", *(_SHAPE if of.has_shapes else ()), "measured then", "checkpoint", "what was changed"],
                [
                    [
                        *(f"`{cell.row}`", *map(str, cell.shape or ()), _score(one), f"`{one.checkpoint[:12]}`"),
                        self.plan.replaced.get(f"{of.name}/{cell.row}", ""),
                    ]
                    for cell, one in replaced
                ],
            )

    def _has_external_data(self, cell: Cell) -> bool:
        result = self.kept.results.get(cell.name)
        return cell.row in cell.table.external if result is None else result.report.get("external_data") is not None

    def _line(self, cell: Cell, columns: Sequence[Column], sources: Numbered, machines: Numbered) -> list[str]:
        result, record, published = self.kept.results.get(cell.name), self._record(cell), self.of_paper(cell)
        gap = self._difference(cell)
        own = record if result is not None and result.training == cell.name else None
        return [
            f"`{cell.row}`" + (f" ({cell.variant})" if cell.variant else ""),
            *map(str, cell.shape or ()),
            "" if published is None else f"{_published(published)} [{sources[published.cited]}]",
            "" if result is None else _score(result) + self._over_seeds(cell),
            "" if gap is None else f"{gap:+.2f}".replace("-", _MINUS),
            "" if result is None else f"{result.report['episodes']:,}",
            *(column.cell(None if result is None else result.report) for column in columns),
            self._time(cell, own, machines),
            "" if record is None or result is None or result.training != cell.name else _memory(record.peak_memory),
            f"`{cell.recipe}`"
            + "".join(f" `{argument}`" for argument in cell.arguments)
            + ("" if cell.starts_from is None else f" after `{cell.starts_from}`"),
            "" if result is None else f"`{result.checkpoint[:12]}`",
        ]

    def _time(self, cell: Cell, record: Record | None, machines: Numbered) -> str:
        """What the training named after a cell took; in brackets, what it would take."""
        if record is not None:
            return f"{_time(record.processor_seconds)} {_letter(machines[record.machine])}"
        cost = None if cell.name in self.kept.results else self.kept.costs.get(cell.name)
        return "" if cost is None else f"({duration(cost.seconds)} {_letter(machines[cost.machine])})"

    def _over_seeds(self, cell: Cell) -> str:
        """The mean over training seeds and its standard error, where there are several."""
        same = [one for one in self.plan.cells if (one.recipe, one.variant) == (cell.recipe, cell.variant)]
        scores = [self.kept.results[one.name].score for one in same if one.name in self.kept.results]
        if len(scores) < 2:
            return ""
        return (
            f"; {printed(self._metric(cell), mean_and_interval(scores)[0], standard_error(scores))} over {len(scores)} seeds"
        )

    def _comparisons(self, cells: Sequence[Cell]) -> Iterator[str]:
        for column in dict.fromkeys(cell.column for cell in cells):
            measured = {
                cell.row: self.kept.results[cell.name]
                for cell in cells
                if cell.column == column and not cell.variant and cell.name in self.kept.results
            }
            for group in on_the_same_episodes(measured):
                task, first = next(cell.task for cell in cells if cell.column == column), next(iter(group.values()))
                among = f"{first.report['episodes']:,} {'worlds' if 'acting' in first.report else 'episodes'}:"
                yield f"**{task}**, on the same {among}" if task else f"On the same {among}"
                order = ranked(group, higher_is_better(first.metric))
                yield table(_COMPARED, [_compared(place, one) for place, one in enumerate(order, 1)])

    def _notes(self, of: Table, row: str) -> Iterator[str]:
        """Why cells of a row are below what is published, with their learning curves and the longer runs that are queued."""
        below = [cell for cell in self.below() if cell.table == of and cell.row == row]
        if not below:
            return
        which = ", ".join(" ".join(part for part in (cell.task, cell.variant) if part) for cell in below if cell.task)
        yield f"- `{row}`{f' ({which})' if which else ''}: {self.plan.explanations.get(f'{of.name}/{row}', '')}".rstrip()
        for training in dict.fromkeys(self.kept.results[cell.name].training for cell in below):
            record = self.kept.records.get(training)
            if record is not None:
                points = ", ".join(
                    f"{step:,}: {scale_of(record.metric) * score:.1f}" for step, score, *_ in record.validation
                )
                yield f"  - Validation of `{training}` after steps: {points}."
        for cell in self.plan.cells:
            if cell.table == of and cell.row == row and cell.variant and cell.name not in self.kept.results:
                cost = self.kept.costs.get(cell.name)
                takes = "" if cost is None else f", about {duration(cost.seconds)}"
                changed = shlex.join(cell.arguments)
                yield f"  - Queued: `python train.py experiment={cell.recipe} {changed}`{takes}."


def _compared(place: int, one: Ranked) -> list[str]:
    better, not_told = in_short(one.better_than) or _DASH, in_short(one.not_told_from) or _DASH
    return [str(place), f"`{one.name}`", _score(one.result), better, not_told]


def _score(result: Result) -> str:
    return printed(result.metric, result.score, result.ci95) + (" *t*" if result.report["transductive"] else "")


def _published(published: Published) -> str:
    """A published result with as many decimals as the paper gives."""
    given = [value for value in (published.score, published.interval) if value is not None]
    places = max(1, *(len(f"{value:g}".partition(".")[2]) for value in given))
    marks = (" *t*" if published.transductive else "") + (" *s*" if published.other_split else "")
    return " ± ".join(f"{value:.{places}f}" for value in given) + marks


def _time(seconds: float | None) -> str:
    return _NOT_KNOWN if seconds is None else duration(seconds)


def _memory(size: int | None) -> str:
    return _NOT_KNOWN if size is None else f"{size / 2**30:.1f} GiB"


def duration(seconds: float) -> str:
    """A duration in the unit that suits it."""
    minutes = round(seconds / 60)
    if minutes >= 120:
        return f"{seconds / 3600:.1f} h"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


def _letter(number: int) -> str:
    return chr(ord("A") + number - 1)

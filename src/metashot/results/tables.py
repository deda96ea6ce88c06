"""What is measured: the tables of RESULTS.md, the order in which their cells are measured, and the published results."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SHAPE = re.compile(r"(\d+)w(\d+)s")  # the ways and shots of a column, such as 20w1s
NO_COLUMN = ""  # of a cell, where tasks have no classes


@dataclass(frozen=True)
class Published:
    """A published result.

    Attributes:
        score: In percent, or in the unit of the score.
        interval: The half-width of its 95 % interval; None where the paper gives none.
        source: The paper, and where it reports the result of another one.
        checked: Where the numbers were seen.
        transductive: Whether the queries of an episode could see each other.
        remark: What differs from the cell beside which it stands; empty if nothing does.
        measure: The value of reports beside which it stands, such as `trial_return`; None for the score.
        other_split: Whether its classes are split in another way than those of the table.
    """

    score: float
    interval: float | None
    source: str
    checked: str
    transductive: bool
    remark: str
    measure: str | None = None
    other_split: bool = False

    @property
    def paper(self) -> str:
        """The paper in short, such as `Finn et al. 2017`."""
        return self.source.partition(",")[0]

    @property
    def cited(self) -> str:
        """The source, with what differs from the cell and where the numbers were seen."""
        remark = f"{self.remark[:1].upper()}{self.remark[1:]}"
        return " ".join(f"{part.rstrip('.')}." for part in (self.source, remark, f"Seen: {self.checked}") if part)


# By table, row and column.
PublishedResults = Mapping[str, Mapping[str, Mapping[str, Published]]]


@dataclass(frozen=True)
class Table:
    """A table of results on one data set.

    Attributes:
        name: The folder of its recipes below conf/experiment, and of its reports.
        title: Its heading.
        short: The name of the data in other tables.
        about: What stands below the heading: the split, and how it differs from those of the papers.
        columns: The shapes of its cells, such as `5w1s`; a single empty one where tasks have no classes.
        published: The name of its published results.
        external: The rows whose learners use data beyond the training split.
    """

    name: str
    title: str
    short: str
    about: str
    columns: tuple[str, ...]
    published: str | None
    external: tuple[str, ...] = ()

    @property
    def has_shapes(self) -> bool:
        """Whether its tasks have classes."""
        return self.columns != (NO_COLUMN,)


@dataclass(frozen=True)
class Cell:
    """One number: a recipe that is trained and tested.

    Attributes:
        table: The table in which it stands.
        row: The first part of the recipe's name: the algorithm, and where there are several recipes of it, a variant.
        column: The second part, such as `20w1s`; empty where tasks have no classes.
        seed: The training seed.
        arguments: What is changed in the recipe, such as a longer schedule.
        variant: The name of that change; empty without one.
        starts_from: The recipe whose run it starts from; None if it starts from nothing.
    """

    table: Table
    row: str
    column: str
    seed: int = 0
    arguments: tuple[str, ...] = ()
    variant: str = ""
    starts_from: str | None = None

    @property
    def recipe(self) -> str:
        """The value of `experiment=`."""
        return "_".join(part for part in (f"{self.table.name}/{self.row}", self.column) if part)

    @property
    def name(self) -> str:
        """The recipe with what makes this cell another one: the name of its report."""
        parts = (self.recipe, self.variant, f"seed{self.seed}" if self.seed else "")
        return "-".join(part for part in parts if part)

    @property
    def overrides(self) -> tuple[str, ...]:
        """The arguments of train.py, apart from where the data are and what it starts from."""
        return (f"experiment={self.recipe}", *self.arguments, *((f"seed={self.seed}",) if self.seed else ()))

    @property
    def shape(self) -> tuple[int, int] | None:
        """Ways and shots; None where tasks have no classes."""
        found = SHAPE.fullmatch(self.column)
        return None if found is None else (int(found[1]), int(found[2]))

    @property
    def task(self) -> str:
        """Ways and shots in words; empty where tasks have no classes."""
        return "" if self.shape is None else f"{self.shape[0]}-way {self.shape[1]}-shot"


def published_of(cell: Cell, published: PublishedResults) -> Published | None:
    """The published result of a cell; None if there is none."""
    return published.get(cell.table.published or "", {}).get(cell.row, {}).get(cell.column)


@dataclass(frozen=True)
class Plan:
    """All tables, and their cells in the order in which they are measured."""

    tables: Mapping[str, Table]
    cells: Sequence[Cell]
    headline: Sequence[str]  # recipes
    explanations: Mapping[str, str]  # by row, as `omniglot/relation`: why cells are below what is published
    replaced: Mapping[str, str] = field(default_factory=dict)  # by row: why its recipe was changed after a test

    def named(self, recipe: str) -> Cell:
        """The first cell with a recipe."""
        return next(cell for cell in self.cells if cell.recipe == recipe)

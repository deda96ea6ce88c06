"""The line of each recipe that says what its training costs, which is written from the reports."""

import re
from collections.abc import Iterator
from pathlib import Path

from metashot.files.paths import printable
from metashot.results.authors_files import read_text, rewrite
from metashot.results.document import duration
from metashot.results.storage import Kept
from metashot.results.tables import Cell, Plan
from metashot.results.trainings import training_of

_MARK = "# Cost: "


def cost_line(cell: Cell, plan: Plan, kept: Kept) -> str | None:
    """What a recipe says of its cost.

    Args:
        cell: The cell of the recipe.
        plan: All cells.
        kept: The reports.

    Returns:
        The line: what its training took, with validation and test, or else what it would take; None if neither is known.
    """
    result = kept.results.get(cell.name)
    name = training_of(cell, plan.cells, Path()).name if result is None else result.training
    record, cost = kept.records.get(name), kept.costs.get(name)
    if record is not None and record.processor_seconds is not None:
        takes, machine = duration(record.processor_seconds), record.machine
    elif cost is not None:
        takes, machine = f"about {duration(cost.seconds)} of training", cost.machine
    else:
        return None
    after = "" if cell.starts_from is None else f", after the training of {cell.starts_from}"
    return f"{_MARK}{takes}{after} ({machine.partition(', Python')[0]})."


def with_cost_line(recipe: str, line: str | None) -> str:
    """The text of a recipe with another line on its cost, which is the last one of the comment at its beginning.

    Args:
        recipe: The text.
        line: The line; None if nothing is known of its cost, and what the recipe says of it stays.
    """
    if line is None:
        return recipe
    lines = [one for one in re.findall(r"[^\n]*\n|[^\n]+", recipe) if not one.startswith(_MARK)]
    comment = next((place for place, one in enumerate(lines) if not one.startswith("#")), len(lines))
    end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    before = "".join(lines[:comment])
    return before + ("" if before.endswith("\n") or not before else end) + line + end + "".join(lines[comment:])


def texts_of_recipes(plan: Plan, folder: Path) -> list[tuple[Cell, Path, str]]:
    """The cell, the file and the text of each recipe.

    Args:
        plan: The cells.
        folder: The folder of the recipes.

    Raises:
        BadInput: if a recipe is not there, or cannot be read.
    """
    return [
        (cell, path, read_text(path, _named(path), "the folder conf/experiment of a clone"))
        for cell in plan.cells
        if not cell.arguments and not cell.seed
        for path in [folder / f"{cell.recipe}.yaml"]
    ]


def recipes_with_costs(plan: Plan, kept: Kept, folder: Path) -> Iterator[tuple[Path, str, str]]:
    """The file of each recipe, what it says, and what it should say.

    Args:
        plan: The cells.
        kept: The reports.
        folder: The folder of the recipes.

    Raises:
        BadInput: if a recipe is not there, or cannot be read.
    """
    for cell, path, text in texts_of_recipes(plan, folder):
        yield path, text, with_cost_line(text, cost_line(cell, plan, kept))


def write_costs(plan: Plan, kept: Kept, folder: Path) -> int:
    """Write the lines of all recipes.

    Returns:
        How many recipes have changed.

    Raises:
        BadInput: if a recipe is not there, or cannot be read or written; none has been changed in the first two cases.
    """
    changed = [(path, new) for path, old, new in recipes_with_costs(plan, kept, folder) if new != old]
    for path, new in changed:
        rewrite(path, new, _named(path))
    return len(changed)


def _named(path: Path) -> str:
    return f"recipes: {printable(path)}"

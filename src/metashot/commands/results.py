"""python -m metashot.results: measures cells that are missing, and writes their tables."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from metashot import configuration
from metashot.bad_input import GaveUp
from metashot.files.outputs import refuse_to_replace, write_output
from metashot.files.paths import place_to_write, printable
from metashot.process.interruption import STOP
from metashot.results.budget import Budget
from metashot.results.checks import chosen_cells, refuse_missing_recipes
from metashot.results.commands import Conditions
from metashot.results.costs_in_recipes import texts_of_recipes, write_costs
from metashot.results.document import Page
from metashot.results.machine import machine
from metashot.results.marked_part import MarkedPart
from metashot.results.plan_files import read_plan, read_published, refuse_unknown_table
from metashot.results.queue import Queue
from metashot.results.storage import Kept, read_everything
from metashot.results.tables import Cell

_NAMED = 6  # missing cells that are printed
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def measure_and_write(composed: DictConfig) -> None:
    """Measure missing cells as far as the time goes, and write the tables.

    Args:
        composed: the composed configuration.

    Raises:
        BadInput: if a file cannot be used, or a run was trained in another way than its recipe says.
        GaveUp: if a command failed.
    """
    config = configuration.plain(composed)
    plan, published = read_plan(), read_published()
    refuse_missing_recipes(plan)
    refuse_unknown_table(plan, published)
    cells = chosen_cells(config["cells"], plan)
    page = place_to_write(config["page"], "page")
    refuse_to_replace(page, "page", "document")
    readme = None if config["readme"] is None else MarkedPart(Path(config["readme"]), BEGIN, END, "readme")
    results, runs = place_to_write(config["results"], "results"), place_to_write(config["runs"], "runs")
    conditions = Conditions(config["root"], config["device"], config["threads"])
    queue = Queue(plan, results, runs, conditions, lambda line: print(line, flush=True))
    read_everything(results, plan, published)  # a damaged report is refused before hours of training
    recipes = None if config["recipes"] is None else Path(config["recipes"])
    if recipes is not None:
        texts_of_recipes(plan, recipes)  # a folder without recipes is refused, too
    minutes = config["minutes"]
    # Costs alone are measured however long that takes: a few steps of each training.
    budget = Budget(time.monotonic() + 60 * minutes if minutes else math.inf, 60 * config["training_minutes"])
    failed: list[str] = []
    if minutes or config["costs"]:
        machine(conditions.threads, conditions.device)  # refuses a GPU that is not there
        STOP.message, STOP.waits_for = "stopped; the same call continues", "what runs has kept a checkpoint"
    if config["costs"]:
        failed += queue.measure_costs(cells, budget)
    if minutes:
        failed += queue.measure(cells, budget)
    STOP.waits_for = None
    STOP.check()
    written = Page(plan, published, read_everything(results, plan, published))
    write_output(page, written.document().encode(), "page", "document")
    if readme is not None:
        readme.replace(written.headline())
        print(f"readme: {printable(Path(config['readme']))} (lines: {len(plan.headline)})")
    if recipes is not None:
        print(f"recipes: {printable(recipes)} (changed lines on costs: {write_costs(plan, written.kept, recipes)})")
    missing = [cell for cell in cells if cell.name not in written.kept.results]
    print(f"page: {printable(page)} ({len(cells) - len(missing)} of {len(cells)} cells are measured)")
    if missing:
        print(f"missing: {_in_short(missing, written.kept)}")
    if failed:
        raise GaveUp(f"{len(failed)} training{'s' if len(failed) > 1 else ''} failed: {failed[0]}")


def _in_short(missing: Sequence[Cell], kept: Kept) -> str:
    """The first missing cells, and what is known of the time that all would take."""
    named = ", ".join(cell.name for cell in missing[:_NAMED])
    more = f", and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    costs = [kept.costs[cell.name].seconds for cell in missing if cell.name in kept.costs]
    known = f"; {len(costs)} of their trainings would take {sum(costs) / 3600:.1f} hours" if costs else ""
    return f"{named}{more}{known} (costs=true measures what trainings would take)"

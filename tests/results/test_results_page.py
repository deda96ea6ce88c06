"""RESULTS.md, and the table in README.md, are those that the kept reports give: nobody edits a number by hand."""

from pathlib import Path

import pytest

from metashot.commands.results import BEGIN, END
from metashot.configuration.buildable import CONF
from metashot.results.costs_in_recipes import cost_line, recipes_with_costs
from metashot.results.document import Page
from metashot.results.marked_part import MarkedPart
from metashot.results.plan_files import read_plan, read_published
from metashot.results.storage import read_everything
from tests.results.test_plan import FEWER, FEWEST_EPISODES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def page() -> Page:
    plan = read_plan()
    published = read_published()
    return Page(plan, published, read_everything(ROOT / "results", plan, published))


def test_results_page_is_the_one_that_the_reports_give(page: Page) -> None:
    assert page.kept.results, "results/ has no report"
    written = ROOT / "RESULTS.md"
    assert written.is_file(), "RESULTS.md is missing: python -m metashot.results writes it"
    assert written.read_text(encoding="utf-8") == page.document(), "python -m metashot.results writes it again"


def test_table_of_readme_is_the_one_that_the_reports_give(page: Page) -> None:
    readme = ROOT / "README.md"
    if BEGIN in readme.read_text(encoding="utf-8") or END in readme.read_text(encoding="utf-8"):
        part = MarkedPart(readme, BEGIN, END, "readme")
        assert part.text == page.headline(), "python -m metashot.results readme=README.md writes it again"


STALE = "python -m metashot.results recipes=conf/experiment writes it again"


def test_recipes_of_measured_cells_say_what_their_training_took(page: Page) -> None:
    measured = [cell for cell in page.plan.cells if cell.name in page.kept.results and not cell.seed and not cell.arguments]
    for cell in measured:
        recipe = (CONF / "experiment" / f"{cell.recipe}.yaml").read_text(encoding="utf-8")
        assert cost_line(cell, page.plan, page.kept) in recipe.splitlines(), f"{cell.recipe}: {STALE}"


@pytest.mark.long
def test_all_recipes_say_what_is_known_of_their_cost(page: Page) -> None:
    for path, found, expected in recipes_with_costs(page.plan, page.kept, CONF / "experiment"):
        assert found == expected, f"{path}: {STALE}"


def test_every_report_belongs_to_a_cell_and_every_result_to_a_training(page: Page) -> None:
    """A report that no cell has would be lost silently, and a result without its training has no time and no checkpoint."""
    names = {cell.name for cell in page.plan.cells}
    kept = {f"{path.parts[-2]}/{path.stem}" for path in (ROOT / "results").glob("*/*.json")}
    assert kept <= names, f"reports of no cell: {kept - names}"
    for kind in ("trainings", "costs"):
        found = {f"{path.parts[-3]}/{path.stem}" for path in (ROOT / "results").glob(f"*/{kind}/*.json")}
        assert found <= names, f"{kind} of no cell: {found - names}"
    assert {result.training for result in page.kept.results.values()} <= page.kept.records.keys()


def test_every_result_has_two_thousand_episodes_and_unseen_classes(page: Page) -> None:
    for result in page.kept.results.values():
        assert result.report["episodes"] >= FEWEST_EPISODES or result.name.partition("/")[0] in FEWER, result.name
        seen = result.report.get("seen_classes")
        assert seen is None or seen["seen"] == 0, result.name


def test_every_cell_more_than_a_point_below_what_is_published_is_explained(page: Page) -> None:
    rows = {f"{cell.table.name}/{cell.row}" for cell in page.below()}
    assert rows <= {row for row, text in page.plan.explanations.items() if text.strip()}, "say why in tables.yaml"


def test_every_test_of_an_earlier_recipe_has_its_line_with_what_was_changed(page: Page) -> None:
    files = {f"{path.parts[-3]}/{path.stem.rpartition('.')[0]}" for path in (ROOT / "results").glob("*/replaced/*.json")}
    assert files == page.kept.replaced.keys()
    count = sum(len(tests) for tests in page.kept.replaced.values())
    assert count == len(list((ROOT / "results").glob("*/replaced/*.json")))
    rows = {f"{cell.table.name}/{cell.row}" for cell in page.plan.cells if cell.name in files}
    assert rows == {row for row, text in page.plan.replaced.items() if text.strip()}

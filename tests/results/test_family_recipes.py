"""Recipes of families: each is in the plan and composes, and the queue measures learners that have nothing to train."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from metashot import configuration
from metashot.checkpoints.recipes import TRAINING
from metashot.configuration import Container
from metashot.configuration.buildable import CONF
from metashot.configuration.composing import composed
from metashot.results.budget import Budget
from metashot.results.commands import Conditions
from metashot.results.plan_files import read_plan, read_published
from metashot.results.queue import Queue
from metashot.results.storage import Record, Result, read_cost, read_everything
from metashot.results.tables import Cell
from tests.results.test_plan import FEWER, FEWEST_EPISODES

PLAN = read_plan()
FAMILIES = (
    *("navigation", "bandits", "mazes", "cartpole", "halfcheetah_direction", "sinusoid", "curves", "cifarfs_made_learners"),
    *("cifarfs_features", "glyphs", "omniglot_lake", "glosses", "languages"),
)
CELLS = [cell for cell in PLAN.cells if cell.table.name in FAMILIES or cell.row == "metalstm"]
FEW = ("data.test.episodes=20", "data.val.episodes=2")


@pytest.fixture(scope="module")
def composed_recipes() -> dict[str, Container]:
    return {cell.recipe: composed(TRAINING, cell.overrides) for cell in CELLS}


def test_every_recipe_of_a_family_is_accepted_and_has_its_test_episodes(composed_recipes: dict[str, Container]) -> None:
    for cell in CELLS:
        config = composed_recipes[cell.recipe]
        configuration.check(config)
        assert config["data"]["test"]["episodes"] == (40 if cell.table.name in FEWER else FEWEST_EPISODES), cell.recipe


def test_ways_and_shots_of_a_name_are_those_of_the_test(composed_recipes: dict[str, Container]) -> None:
    for cell in CELLS:
        data = composed_recipes[cell.recipe]["data"]
        assert cell.shape is None or (data["test"].get("ways") or data["ways"], data["shots"]) == cell.shape, cell.recipe


def test_rows_with_external_data_are_those_with_public_weights(composed_recipes: dict[str, Container]) -> None:
    public = ("Pretrained", "WordVectors", "Signatures")
    for cell in CELLS:
        backbone = composed_recipes[cell.recipe]["backbone"]["_target_"].rpartition(".")[2]
        assert (backbone in public) == (cell.row in cell.table.external), cell.recipe


@pytest.mark.parametrize(
    ("name", "has_files"),
    [("bandits/random", False), ("sinusoid/maml", False), ("curves/cnp", False), ("glosses/mean_5w1s", True)],
)
def test_recipes_get_the_folder_of_the_data_sets_where_they_can_use_it(
    composed_recipes: dict[str, Container], name: str, has_files: bool
) -> None:
    arguments = Conditions("DATA", "cpu", 1).arguments_for(composed_recipes[name])
    assert arguments == ("trainer=cpu", *(["data.root=DATA"] if has_files else []))
    composed(TRAINING, (f"experiment={name}", *arguments))  # is accepted


def test_a_recipe_sets_keys_of_its_own_at_the_top(composed_recipes: dict[str, Container]) -> None:
    assert composed_recipes["omniglot_lake/mann_5w1s"]["freeze_backbone"] is True


def test_every_file_of_a_family_is_a_cell() -> None:
    files = {f"{name}/{path.stem}" for name in FAMILIES for path in (CONF / "experiment" / name).glob("*.yaml")}
    assert files == {cell.recipe for cell in CELLS if cell.table.name in FAMILIES}


def test_families_come_last_and_stand_where_their_published_results_are() -> None:
    first = min(PLAN.cells.index(cell) for cell in CELLS)
    assert list(PLAN.cells[first:]) == CELLS
    published = read_published()
    for cell in CELLS:
        assert cell.column in cell.table.columns
        assert cell.table.published is None or cell.table.published in published
    for name in ("bandits", "mazes", "omniglot_lake"):
        assert set(published[name]) <= {cell.row for cell in CELLS if cell.table.name == name}
    assert published["bandits"]["rl2"][""].score == 6.7


def measured(cell: Cell, folder: Path) -> tuple[Result, Record]:
    """What is kept of a cell after the queue has measured it."""
    said: list[str] = []
    plan = replace(PLAN, cells=[cell])
    # A folder of data sets, as one call for all cells has: worlds and functions have no use for it.
    queue = Queue(plan, folder / "results", folder / "runs", Conditions(str(folder), "cpu", 1), said.append)
    assert queue.measure([cell], Budget(time.monotonic() + 600, 600)) == [], said
    kept = read_everything(folder / "results", plan, {})
    return kept.results[cell.name], kept.records[cell.name]


def test_a_rule_without_weights_is_measured(tmp_path: Path) -> None:
    cell = replace(PLAN.named("bandits/random"), arguments=FEW)
    result, record = measured(cell, tmp_path)
    assert (result.metric, len(result.scores), result.report["acting"]["environment_steps_in_training"]) == ("return", 20, 0)
    assert (record.steps, record.best_step, len(record.checkpoint)) == (0, 0, 64)
    cost = read_cost(tmp_path / "results", cell.name)
    assert cost is not None
    assert cost.seconds == 0  # nothing is trained


@pytest.mark.long
def test_numbers_are_measured_with_their_learning_curve(tmp_path: Path) -> None:
    short = ("trainer.max_steps=2", "trainer.validate_every=1", "data.tasks_per_step=2")
    result, record = measured(replace(PLAN.named("sinusoid/maml"), arguments=(*FEW, *short)), tmp_path)
    assert (result.metric, len(result.scores)) == ("mse", 20)
    assert [step for step, *_ in record.validation] == [1, 2]

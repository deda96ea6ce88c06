"""What is measured: the queue, the recipes, the published results and the explanations fit together."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from metashot.configuration.buildable import CONF
from metashot.results.plan_files import read_plan, read_published
from metashot.results.tables import Cell, Plan
from metashot.results.trainings import configuration_of, training_differences, training_of

RESNET = ("cifarfs_resnet12", "fc100_resnet12")
# Published rows of our tables that no recipe has, and why.
NOT_PLANNED = {
    "cifarfs/boil": "an algorithm here, with recipes for Omniglot alone",
    "cifarfs/lrd2": "no algorithm here: `r2d2` is ridge regression alone, and `logistic` trains nothing through it",
    **{f"{table}/{row}": "here, without a recipe for ResNet-12" for table in RESNET for row in ("maml", "r2d2", "svm")},
    **{f"{table}/rfs_distill": "no algorithm or option here distils a backbone" for table in RESNET},
    "fc100_resnet12/tadam": "no algorithm here",
}
NO_TABLE = {"miniimagenet": "a data set here, for which there are no recipes"}
FEWEST_EPISODES = 2000
FEWER = {"halfcheetah_direction": "it has two tasks, and 2,000 times either would take hours of simulated physics"}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return read_plan()


@pytest.fixture(autouse=True, scope="module")
def fast_yaml() -> Iterator[None]:
    """OmegaConf reads conf/ eight times faster with the loader in C."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml, "SafeLoader", getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        yield


def test_every_cell_has_its_recipe_and_every_recipe_of_a_table_is_in_the_queue(plan: Plan) -> None:
    files = {path.relative_to(CONF / "experiment").with_suffix("").as_posix() for path in CONF.glob("experiment/*/*.yaml")}
    recipes = {cell.recipe for cell in plan.cells}
    assert recipes == files


def test_names_are_those_of_one_cell_each_and_fit_a_file(plan: Plan) -> None:
    assert [name for name, times in Counter(cell.name for cell in plan.cells).items() if times > 1] == []
    for cell in plan.cells:
        assert Path(cell.name).parts[0] == cell.table.name
        assert len(Path(cell.name).parts) == 2


def test_columns_are_those_of_their_table(plan: Plan) -> None:
    for cell in plan.cells:
        assert cell.column in cell.table.columns, cell.name


def test_published_rows_are_rows_or_are_said_not_to_be_planned(plan: Plan) -> None:
    published = read_published()
    for table in plan.tables.values():
        if table.published is None:
            continue
        rows = {cell.row for cell in plan.cells if cell.table == table}
        planned = {f"{table.published}/{row}" for row in published[table.published] if row not in rows}
        assert planned == {name for name in NOT_PLANNED if name.startswith(f"{table.published}/")}


def test_published_results_stand_in_a_column(plan: Plan) -> None:
    tables = {table.published: table for table in plan.tables.values() if table.published is not None}
    published = read_published()
    assert published.keys() - tables.keys() == NO_TABLE.keys()
    for name, rows in published.items():
        if name in NO_TABLE:
            continue
        for row, columns in rows.items():
            assert columns, f"{name}/{row} has no number"
            assert set(columns) <= set(tables[name].columns), f"{name}/{row}"
            assert all(one.source and one.checked for one in columns.values())
            if tables[name].has_shapes:
                assert all(0 < one.score <= 100 for one in columns.values()), f"{name}/{row} is not in percent"


def test_starts_and_headline_cells_and_explanations_name_what_is_there(plan: Plan) -> None:
    recipes = {cell.recipe for cell in plan.cells}
    rows = {f"{cell.table.name}/{cell.row}" for cell in plan.cells}
    starts = {cell.starts_from for cell in plan.cells if cell.starts_from is not None}
    assert starts <= recipes
    assert set(plan.headline) <= recipes
    assert plan.explanations.keys() <= rows
    assert set(yaml.safe_load((CONF.parent / "src/metashot/results/tables.yaml").read_text())["starts"]) <= rows
    places = {cell.recipe: place for place, cell in reversed(list(enumerate(plan.cells)))}
    for cell in plan.cells:
        assert cell.starts_from is None or places[cell.starts_from] < places[cell.recipe], (
            f"{cell.name} starts from a later one"
        )


def composed(cells: list[Cell]) -> None:
    for cell in cells:
        config = configuration_of(cell)
        test = config["data"]["test"]
        assert test["episodes"] >= FEWEST_EPISODES or cell.table.name in FEWER, cell.name
        if cell.shape is None:
            continue
        queries = test.get("queries") or config["data"].get("queries")
        assert (test["ways"] or config["data"]["ways"], test["shots"] or config["data"]["shots"]) == cell.shape, cell.name
        assert queries == 15, cell.name


def shared(plan: Plan, cells: list[Cell]) -> None:
    for cell in cells:
        training = training_of(cell, plan.cells, Path("runs"))
        assert (training.cell.table, training.cell.row, training.cell.seed) == (cell.table, cell.row, cell.seed)
        assert training_differences(training.config, configuration_of(cell)) == []
        assert training.config["seed"] == cell.seed
        if cell.starts_from is None:
            assert training.config["init_from"] is None, cell.name
        else:
            assert training.start is not None
            assert training.start.cell.recipe == cell.starts_from
            # As train.py alone finds it: where the queue keeps that run, whose backbone the recipe has, too.
            assert training.config["init_from"] == f"runs/results/{cell.starts_from}"
            assert training.config["backbone"] == training.start.config["backbone"], cell.name


SOME = ("omniglot/protonet_", "omniglot_vinyals/protonet_20w1s", "omniglot/maml_5w", "cifarfs/metabaseline_", "glyphs/")


def test_some_recipes_are_what_their_names_say_and_share_what_is_trained_alike(plan: Plan) -> None:
    some = [cell for cell in plan.cells if cell.recipe.startswith(SOME)]
    composed(some)
    shared(plan, some)
    named = {cell.name: training_of(cell, plan.cells, Path("runs")).name for cell in some}
    assert {named[f"omniglot/protonet_{column}"] for column in ("5w1s", "5w5s", "20w5s")} == {"omniglot/protonet_20w1s"}
    assert named["omniglot_vinyals/protonet_20w1s-seed1"] == "omniglot_vinyals/protonet_20w1s-seed1"
    assert named["omniglot/maml_5w5s"] == "omniglot/maml_5w5s"


@pytest.mark.long
def test_all_recipes_are_what_their_names_say_and_share_what_is_trained_alike(plan: Plan) -> None:
    composed(list(plan.cells))
    shared(plan, list(plan.cells))

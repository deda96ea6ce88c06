"""Every key of the results command is checked before anything is measured, with one message that names it."""

from pathlib import Path
from typing import Any

import pytest

from metashot.bad_input import BadInput
from metashot.checkpoints.recipes import RESULTS
from metashot.configuration.composing import composed
from metashot.results.checks import chosen_cells, refuse_missing_recipes, refuse_results
from tests.results.made import cell, plan

PLAN = plan(cell("protonet"), cell("maml"), cell("maml", seed=1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("minutes=-1", "minutes=-1 cannot be used"),
        ("minutes=.nan", r"minutes=\.nan cannot be used"),
        ("minutes=.inf", r"minutes=\.inf cannot be used"),
        ("minutes=soon", "minutes=soon cannot be used"),
        ("minutes=true", "minutes=true cannot be used"),
        ("minutes=null", "minutes="),
        ("training_minutes=-0.1", "training_minutes=-0.1 cannot be used"),
        ("training_minutes=[1]", "training_minutes="),
        ("costs=1", "costs=1 cannot be used; allowed: true or false"),
        ("device=tpu", "device=tpu cannot be used; allowed: cpu or gpu"),
        ("threads=0", "threads=0 cannot be used"),
        ("threads=1.5", "threads=1.5 cannot be used"),
        ("threads=99999", "threads=99999 cannot be used"),
        ("runs=null", "runs="),
        ("results=null", "results="),
        ("results=''", "results= is empty"),
        ("runs={here}/file", "runs=.*file is a file; allowed: a folder"),
        ("results={here}/file", "results=.*file is a file; allowed: a folder"),
        ("page=3", "page=3"),
        ("readme=3", "readme=3"),
        ("recipes=3", "recipes=3"),
        ("recipes=[a]", "recipes="),
        ("recipes=''", "recipes= is empty"),
        ("recipes={here}/file", "recipes=.*file is not a folder; allowed: the folder conf/experiment"),
        ("results=runs/results", "results=runs/results and runs=runs/results are the same folder"),
        ("results=nowhere", "results=nowhere does not exist, and there is nothing to write a page from"),
        ("root=nowhere", "root=nowhere is not a folder"),
        ("root=3", "root=3"),
        ("cells=3", "cells=3 cannot be used"),
        ("cells=null", "cells="),
    ],
)
def test_a_bad_value_is_refused_with_its_key(tmp_path: Path, given: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    config = composed(RESULTS, [given.format(here=tmp_path)])
    with pytest.raises(BadInput, match=message):
        refuse_results(config)


def test_the_defaults_are_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    refuse_results(composed(RESULTS, []))
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("all", [0, 1, 2]),
        ("*", [0, 1, 2]),
        ("omniglot/maml_*", [1, 2]),
        (["omniglot/maml_5w1s", "omniglot/protonet_5w1s"], [0, 1]),
        (["omniglot/maml_5w1s", "all"], [0, 1, 2]),
    ],
)
def test_cells_are_chosen_by_name_in_the_order_of_the_queue(given: Any, found: list[int]) -> None:
    assert chosen_cells(given, PLAN) == [PLAN.cells[place] for place in found]


@pytest.mark.parametrize(
    ("given", "meant"),
    [("omniglot", "omniglot/*"), ("omniglot/", "omniglot/*"), ("omniglot/maml", "omniglot/maml_*"), ("omni", "omni*")],
)
def test_a_name_that_begins_others_is_continued(given: str, meant: str) -> None:
    with pytest.raises(BadInput) as refused:
        chosen_cells(given, PLAN)
    assert f"(did you mean {meant}?)" in str(refused.value)
    assert chosen_cells(meant, PLAN)


def test_a_cell_without_a_recipe_is_refused() -> None:
    refuse_missing_recipes(PLAN)
    with pytest.raises(BadInput, match="the queue has omniglot/mamml_5w1s, and there is no conf/experiment/omniglot/mamml"):
        refuse_missing_recipes(plan(cell("maml"), cell("mamml")))


@pytest.mark.parametrize("given", ["omniglot/mamll_5w1s", "", "Omniglot/*", ["omniglot/*", "glyphs/*"], []], ids=str)
def test_a_name_that_fits_no_cell_is_refused(given: Any) -> None:
    with pytest.raises(BadInput, match=r"cells=.*; allowed: all, or names such as"):
        chosen_cells(given, PLAN)


def test_the_closest_cell_is_suggested() -> None:
    with pytest.raises(BadInput, match=r"did you mean omniglot/maml_5w1s\?"):
        chosen_cells("omniglot/mamll_5w1s", PLAN)

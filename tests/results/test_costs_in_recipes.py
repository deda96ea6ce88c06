"""What a recipe says of its cost is what was measured."""

from dataclasses import replace
from pathlib import Path

import pytest

from metashot.bad_input import BadInput
from metashot.results.costs_in_recipes import cost_line, with_cost_line, write_costs
from metashot.results.storage import Cost
from tests.results.made import cell, kept, plan, record, result

ONE, SHARED, STARTED, FREE = (
    cell("protonet", "20w1s"),
    cell("protonet"),
    cell("maml", starts_from="omniglot/anil_5w1s"),
    cell("anil"),
)
PLAN = plan(ONE, SHARED, STARTED, FREE)
MACHINE = "A processor (AVX2), 1 thread on 2 cores, Python 3.11.7, torch 2.15.0"
KEPT = kept(
    result(ONE, [0.5, 0.75]),
    replace(result(SHARED, [0.5, 0.75]), training=ONE.name),
    result(STARTED, [0.5, 0.75]),
    records={
        ONE.name: record(ONE, machine=MACHINE, processor_seconds=660.0),
        STARTED.name: record(STARTED, machine=MACHINE),
    },
    costs={FREE.name: Cost(1500.0, MACHINE)},
)
HEADER = "# @package _global_\n# Prototypical networks.\n"
REST = "defaults:\n  - _self_\n\n# Cost of another kind\nalgo:\n  scale: 20 # Cost: none\n"


def test_line_says_what_the_training_of_a_cell_took_or_would_take() -> None:
    took = "# Cost: 11 min (A processor (AVX2), 1 thread on 2 cores)."
    assert cost_line(ONE, PLAN, KEPT) == took
    assert cost_line(SHARED, PLAN, KEPT) == took
    after = "# Cost: 2 min, after the training of omniglot/anil_5w1s (A processor (AVX2), 1 thread on 2 cores)."
    assert cost_line(STARTED, PLAN, KEPT) == after
    assert cost_line(FREE, PLAN, KEPT) == "# Cost: about 25 min of training (A processor (AVX2), 1 thread on 2 cores)."
    assert cost_line(FREE, PLAN, kept()) is None


def test_line_is_the_last_one_of_the_first_comment() -> None:
    line = "# Cost: 11 min (A processor)."
    assert with_cost_line(HEADER + REST, line) == f"{HEADER}{line}\n{REST}"
    assert with_cost_line(f"{HEADER}# Cost: an hour.\n{REST}", line) == f"{HEADER}{line}\n{REST}"
    assert with_cost_line(f"{HEADER}{line}\n{REST}", line) == f"{HEADER}{line}\n{REST}"
    assert with_cost_line(f"{HEADER}{line}\n{REST}", None) == f"{HEADER}{line}\n{REST}"
    assert with_cost_line(HEADER, line) == f"{HEADER}{line}\n"


def test_the_rest_of_a_recipe_stays_as_it_is() -> None:
    line = "# Cost: 11 min (A processor)."
    strange = "# One\u2028two\x0cthree\n"
    assert with_cost_line(HEADER + strange + REST, line) == f"{HEADER}{strange}{line}\n{REST}"
    windows = (HEADER + REST).replace("\n", "\r\n")
    assert with_cost_line(windows, line) == f"{HEADER}{line}\n{REST}".replace("\n", "\r\n")
    assert with_cost_line(HEADER + "a: 1", line) == f"{HEADER}{line}\na: 1"
    assert with_cost_line(HEADER.rstrip("\n"), line) == f"{HEADER}{line}\n"


def recipes_in(folder: Path) -> dict[Path, str]:
    written = {}
    for one in PLAN.cells:
        path = folder / f"{one.recipe}.yaml"
        path.parent.mkdir(exist_ok=True)
        written[path] = f"{HEADER}# Cost: nobody knows.\n# Departs from the paper.\n{REST}"
        path.write_text(written[path])
    return written


def test_lines_of_all_recipes_are_written_once(tmp_path: Path) -> None:
    before = recipes_in(tmp_path)
    last = list(before)[-1]
    last.chmod(0o640)
    assert write_costs(PLAN, KEPT, tmp_path) == len(before)
    for one, (path, text) in zip(PLAN.cells, before.items(), strict=True):
        expected = text.replace("# Cost: nobody knows.\n", "").replace("paper.\n", f"paper.\n{cost_line(one, PLAN, KEPT)}\n")
        assert path.read_text() == expected
    assert last.stat().st_mode & 0o777 == 0o640
    assert write_costs(PLAN, KEPT, tmp_path) == 0


def test_nothing_is_written_where_a_recipe_is_missing_or_no_text(tmp_path: Path) -> None:
    before = recipes_in(tmp_path)
    last = list(before)[-1]
    last.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match=r"anil_5w1s\.yaml is no text file in UTF-8"):
        write_costs(PLAN, KEPT, tmp_path)
    last.unlink()
    with pytest.raises(BadInput, match=r"anil_5w1s\.yaml does not exist; allowed: the folder conf/experiment of a clone"):
        write_costs(PLAN, KEPT, tmp_path)
    last.mkdir()
    with pytest.raises(BadInput, match="cannot be read"):
        write_costs(PLAN, KEPT, tmp_path)
    assert [path.read_text() for path in before if path != last] == [text for path, text in before.items() if path != last]

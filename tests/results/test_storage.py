"""Reports of results: they come back as they were kept, and whatever else lies there is refused and stays as it is."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metashot.bad_input import BadInput
from metashot.results.storage import (
    REPLACED,
    Cost,
    place_of,
    read_cost,
    read_everything,
    read_record,
    read_result,
    write_cost,
    write_record,
    write_result,
)
from metashot.results.tables import Cell, Published
from tests.results.made import TABLE, cell, plan, record, result

CELL = cell("protonet")
ACCURACIES = [correct / 75 for correct in range(76)]


@pytest.mark.parametrize(
    "scores", [ACCURACIES, [0.1, 1 / 3, 0.7000000001], [0.0, 1.0]], ids=["counts", "other numbers", "bounds"]
)
def test_a_result_comes_back_exactly(tmp_path: Path, scores: list[float]) -> None:
    given = result(CELL, scores)
    write_result(tmp_path, given)
    assert read_result(tmp_path, CELL.name) == given


def test_accuracies_are_kept_as_counts(tmp_path: Path) -> None:
    write_result(tmp_path, result(CELL, ACCURACIES))
    assert json.loads(place_of(tmp_path, CELL.name).read_text())["scores"] == {"of": 75, "correct": list(range(76))}


def test_records_and_costs_come_back_exactly(tmp_path: Path) -> None:
    given = record(CELL, arguments=["a=b"], commit="0123456789ab+")
    write_record(tmp_path, CELL.name, given)
    write_cost(tmp_path, CELL.name, Cost(1.5, "A processor"))
    assert read_record(tmp_path, CELL.name) == given
    assert read_cost(tmp_path, CELL.name) == Cost(1.5, "A processor")
    assert read_everything(tmp_path, plan(CELL), {}).costs == {CELL.name: Cost(1.5, "A processor")}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scores", [[1e200, 3e200], [1e308, 1e308, 1e308], [-1e200, 1e200], [1e308]], ids=str)
def test_scores_whose_mean_or_variance_is_not_finite_are_refused_without_a_warning(
    tmp_path: Path, scores: list[float]
) -> None:
    write_result(tmp_path, result(CELL, ACCURACIES))
    place = place_of(tmp_path, CELL.name)
    sinusoid = Cell(replace(TABLE, columns=("",)), "protonet", "")
    content = json.loads(place.read_text()) | {"name": sinusoid.name, "training": sinusoid.name, "metric": "mse"}
    content["report"] |= {"mse": 1.0, "ci95": None, "episodes": len(scores)}
    place_of(tmp_path, sinusoid.name).write_text(json.dumps(content | {"scores": scores}))
    with pytest.raises(BadInput, match=r"mse=.* is too large"):
        read_result(tmp_path, sinusoid.name)


def test_a_record_of_a_training_whose_time_is_not_known_comes_back(tmp_path: Path) -> None:
    given = record(CELL, arguments=[], seconds=None, processor_seconds=None, peak_memory=None)
    write_record(tmp_path, CELL.name, given)
    assert read_record(tmp_path, CELL.name) == given


def test_a_result_without_its_checkpoint_is_refused(tmp_path: Path) -> None:
    write_result(tmp_path, result(CELL, ACCURACIES))
    place = place_of(tmp_path, CELL.name)
    content = json.loads(place.read_text())
    del content["checkpoint"]
    place.write_text(json.dumps(content))
    with pytest.raises(BadInput, match="checkpoint"):
        read_result(tmp_path, CELL.name)


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_result(tmp_path, CELL.name) is None
    assert read_record(tmp_path / "nowhere", CELL.name) is None
    assert read_cost(tmp_path, CELL.name) is None


def changed(**values: Any) -> Callable[[dict[str, Any]], str]:
    return lambda content: json.dumps(content | values)


def without(key: str) -> Callable[[dict[str, Any]], str]:
    return lambda content: json.dumps({name: value for name, value in content.items() if name != key})


HOSTILE: dict[str, Callable[[dict[str, Any]], str]] = {
    "empty": lambda content: "",
    "half of it": lambda content: json.dumps(content)[:200],
    "a list": lambda content: "[1]",
    "deeply nested": lambda content: "[" * 100_000,
    "a huge number": lambda content: '{"scores": ' + "9" * 10_000 + "}",
    "not UTF-8": lambda content: "\udcff",
    "not ours": without("written_by"),
    "of another cell": changed(name="omniglot/maml_5w1s"),
    "a path for a training": changed(training="../../etc/passwd"),
    "a number for a training": changed(training=1),
    "lines in a text": changed(training="omniglot/a\n| b |"),
    "no scores": changed(scores=[]),
    "scores that are text": changed(scores=["0.5"]),
    "scores that are not finite": changed(scores=[float("nan")]),
    "counts of nothing": changed(scores={"of": 0, "correct": [1]}),
    "counts beyond floats": changed(scores={"of": 1, "correct": [10**400]}),
    "counts without their number": changed(scores={"correct": [1]}),
    "no report": without("report"),
    "a text for a report": changed(report="text"),
    "a report without its score": changed(report={}),
    "a text for its score": lambda content: json.dumps(content | {"report": content["report"] | {"accuracy": "1"}}),
    "a text for transductive": lambda content: json.dumps(content | {"report": content["report"] | {"transductive": "x"}}),
    "a score by hand": lambda content: json.dumps(content | {"report": content["report"] | {"accuracy": 0.9}}),
    "made of another kind": lambda content: json.dumps(content | {"report": content["report"] | {"made": 5}}),
    "a text for the steps": lambda content: json.dumps(
        content | {"report": content["report"] | {"acting": {"environment_steps_in_training": "<b>"}}}
    ),
    "other shots": lambda content: json.dumps(content | {"report": content["report"] | {"shots": 2}}),
    "without transductive": lambda content: json.dumps(
        content | {"report": {key: value for key, value in content["report"].items() if key != "transductive"}}
    ),
    "one key more": changed(strange=1),
    "one key less": without("episodes"),
    "a long checkpoint": changed(checkpoint="0" * 100_000),
    "a checkpoint that is no digest": changed(checkpoint="`|<b>x"),
    "the training of another table": changed(training="cifarfs/protonet_5w1s"),
    "the training of another row": changed(training="omniglot/maml_5w1s"),
    "another number of episodes": lambda content: json.dumps(content | {"report": content["report"] | {"episodes": -1}}),
    "an interval by hand": lambda content: json.dumps(content | {"report": content["report"] | {"ci95": 1e-9}}),
    "an interval below zero": lambda content: json.dumps(content | {"report": content["report"] | {"ci95": -1}}),
    "accuracies above 1": lambda content: json.dumps(
        content | {"scores": [50.0] * 76, "report": content["report"] | {"accuracy": 50.0, "ci95": 0.0}}
    ),
    "accuracies below 0": lambda content: json.dumps(
        content | {"scores": [-5.0] * 76, "report": content["report"] | {"accuracy": -5.0, "ci95": 0.0}}
    ),
    "more correct answers than queries": lambda content: json.dumps(
        content | {"scores": {"of": 1, "correct": [2] * 76}, "report": content["report"] | {"accuracy": 2.0, "ci95": 0.0}}
    ),
    "a measure that is not a number": lambda content: json.dumps(
        content | {"report": content["report"] | {"return": 1.0, "trial_return": float("nan"), "trial_return_ci95": 0.1}}
    ),
    "an infinite likelihood": lambda content: json.dumps(
        content
        | {
            "report": content["report"]
            | {"log_likelihood": float("inf"), "log_likelihood_ci95": 0.1, "coverage": 0.9, "coverage_ci95": 0.1}
        }
    ),
    "a share above 1": lambda content: json.dumps(
        content
        | {
            "report": content["report"]
            | {"log_likelihood": 0.5, "log_likelihood_ci95": 0.1, "coverage": 95.0, "coverage_ci95": 0.1}
        }
    ),
    "another score": lambda content: json.dumps(
        content | {"metric": "mse", "report": content["report"] | {"mse": content["report"]["accuracy"]}}
    ),
}


@pytest.mark.parametrize("damage", HOSTILE.values(), ids=HOSTILE)
def test_a_damaged_or_foreign_report_is_refused_with_its_name_and_stays(
    tmp_path: Path, damage: Callable[[dict[str, Any]], str]
) -> None:
    write_result(tmp_path, result(CELL, ACCURACIES))
    place = place_of(tmp_path, CELL.name)
    content = damage(json.loads(place.read_text())).encode(errors="surrogateescape")
    place.write_bytes(content)
    with pytest.raises(
        BadInput, match=r"protonet_5w1s\.json cannot be read as a report of results: .*; delete it"
    ) as refused:
        read_result(tmp_path, CELL.name)
    assert len(str(refused.value)) < 3000
    assert place.read_bytes() == content


@pytest.mark.parametrize(
    "values",
    [
        {"machine": "a\nb"},
        {"seconds": "1"},
        {"peak_memory": float("inf")},
        {"processor_seconds": -1.0},
        {"validation": [[1, 2]]},
        {"validation": [["1", 0.5, 0.1]]},
        {"validation": [[1, 50.0, 0.1]]},
        {"validation": 5},
        {"checkpoint": None},
        {"commit": 7},
        {"strange": 1},
    ],
    ids=str,
)
def test_a_damaged_record_is_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    write_record(tmp_path, CELL.name, record(CELL))
    place = place_of(tmp_path, CELL.name, "trainings")
    place.write_text(json.dumps(json.loads(place.read_text()) | values))
    with pytest.raises(BadInput, match="cannot be read as a report of results"):
        read_record(tmp_path, CELL.name)


@pytest.mark.parametrize(
    "values", [{"seconds": -1}, {"seconds": None}, {"machine": 1}, {"tasks": -1}, {"tasks": 1.5}, {"tasks": True}], ids=str
)
def test_a_damaged_cost_is_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    write_cost(tmp_path, CELL.name, Cost(1.0, "A processor"))
    place = place_of(tmp_path, CELL.name, "costs")
    place.write_text(json.dumps(json.loads(place.read_text()) | values))
    with pytest.raises(BadInput, match="cannot be read as a report of results"):
        read_cost(tmp_path, CELL.name)


def test_what_could_not_be_read_again_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nan is not a finite number"):
        write_result(tmp_path, result(CELL, [0.5, float("nan")]))
    given = result(CELL, ACCURACIES)
    without_one = {key: value for key, value in given.report.items() if key != "transductive"}
    with pytest.raises(ValueError, match="has no 'transductive'"):
        write_result(tmp_path, replace(given, report=without_one))
    with pytest.raises(ValueError, match="nan is not a finite number"):
        write_record(tmp_path, CELL.name, record(CELL, validation=[[1, float("nan"), 0.1]]))
    assert list(tmp_path.rglob("*.json")) == []


@pytest.mark.parametrize("value", [{}, {"regret": "high"}, {"regret": None}], ids=["missing", "a text", "null"])
def test_a_report_without_the_value_beside_which_a_published_result_stands_is_refused(
    tmp_path: Path, value: dict[str, Any]
) -> None:
    write_result(tmp_path, result(CELL, ACCURACIES, **value))
    beside = Published(59.5, None, "Finn et al. 2017", "the paper", False, "", "regret")
    published = {"omniglot": {"protonet": {"5w1s": beside}}}
    with pytest.raises(BadInput, match=r"protonet_5w1s\.json cannot be read .* \(measure=regret\); delete it"):
        read_everything(tmp_path, plan(CELL), published)
    read_everything(tmp_path, plan(CELL), {"omniglot": {"protonet": {"5w1s": replace(beside, measure="accuracy")}}})


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    place = place_of(tmp_path, CELL.name)
    place.parent.mkdir(parents=True)
    with place.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(BadInput, match="larger than"):
        read_result(tmp_path, CELL.name)


def test_a_pipe_or_a_folder_in_the_place_of_a_report_is_refused(tmp_path: Path) -> None:
    place = place_of(tmp_path, CELL.name)
    place.parent.mkdir(parents=True)
    os.mkfifo(place)
    with pytest.raises(BadInput, match="a pipe"):
        read_result(tmp_path, CELL.name)
    place.unlink()
    place.mkdir()
    with pytest.raises(BadInput, match="directory"):
        read_result(tmp_path, CELL.name)


def test_a_file_that_is_not_ours_is_never_replaced(tmp_path: Path) -> None:
    place = place_of(tmp_path, CELL.name)
    place.parent.mkdir(parents=True)
    place.write_text('{"mine": 1}')
    with pytest.raises(BadInput, match="metashot did not write it"):
        write_result(tmp_path, result(CELL, ACCURACIES))
    assert place.read_text() == '{"mine": 1}'
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "omniglot").write_text("a file")
    with pytest.raises(BadInput, match="cannot be written"):
        write_result(tmp_path, result(CELL, ACCURACIES))


def test_reports_of_trainings_and_costs_have_other_places_than_results() -> None:
    assert len({place_of(Path("results"), CELL.name, kind) for kind in ("", "trainings", "costs")}) == 3


def test_tests_of_earlier_recipes_are_read_in_their_order(tmp_path: Path) -> None:
    assert read_everything(tmp_path, plan(CELL), {}).replaced == {}
    tests = [result(CELL, [0.5, 0.25]), result(CELL, [0.5, 0.75])]
    for number, one in enumerate(tests, 1):
        write_result(tmp_path, one)
        place = place_of(tmp_path, f"{CELL.name}.{number}", REPLACED)
        place.parent.mkdir(exist_ok=True)
        place_of(tmp_path, CELL.name).rename(place)
    found = read_everything(tmp_path, plan(CELL), {})
    assert found.results == {}
    assert found.replaced == {CELL.name: tests}
    place.write_text("{}")
    with pytest.raises(BadInput, match="cannot be read as a report of results"):
        read_everything(tmp_path, plan(CELL), {})

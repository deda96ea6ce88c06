"""The reports of results: small JSON files with the scores of all test episodes, and without weights."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from metashot.bad_input import BadInput, in_one_line
from metashot.evaluation.statistics import mean_and_interval
from metashot.files.outputs import WRITTEN_BY, write_output
from metashot.files.paths import open_file, printable, read_file, reason_of
from metashot.results.families import IN_PERCENT, columns_of
from metashot.results.tables import SHAPE, Plan, PublishedResults, published_of
from metashot.version import __version__

TRAININGS, COSTS = "trainings", "costs"  # the folders of what is known of trainings, in that of a table
REPLACED = "replaced"  # the folder of the tests of earlier recipes: CELL.1.json, CELL.2.json and so on
_MOST_BYTES = 2**24
_LONGEST = 1000  # characters of a text in a report
_LARGEST = 1e100  # of a score: the squares of much larger ones, and so their variance, are not finite
_DIGEST = re.compile(r"[0-9a-f]{12,64}")
_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_DAMAGES = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
_OURS = f"metashot {__version__}"
Kind = TypeVar("Kind")
# What a report says of a single machine or a single run's folder, and what is too long to keep.
_NOT_KEPT = ("checkpoint", "seconds", "seconds_of_a_task", "strangers", "classes", "few_episodes", WRITTEN_BY)


@dataclass(frozen=True)
class Record:
    """A training, as it is kept.

    Attributes:
        recipe: The recipe that was trained.
        seed: Its seed.
        arguments: What was changed in the recipe.
        started_from: The name of the training from whose run it started; None if it started from nothing.
        seconds: What train.py took, with validation and the test of its own cell; None, as the next two, where it went on
            after the command that measures was killed.
        processor_seconds: What it took of the processor, on all cores together.
        peak_memory: The most memory of the process, in bytes.
        machine: The processor, the number of threads and the versions.
        steps: The training steps.
        best_step: The step of the checkpoint with the best validation score.
        metric: The name of the validation score.
        validation: The learning curve: step, score, and half-width of the 95 % interval.
        checkpoint: The SHA-256 digest of that checkpoint's file.
        commit: The revision of the code; None where it is not a clone.
    """

    recipe: str
    seed: int
    arguments: Sequence[str]
    started_from: str | None
    seconds: float | None
    processor_seconds: float | None
    peak_memory: int | None
    machine: str
    steps: int
    best_step: int
    metric: str
    validation: Sequence[Sequence[float]]
    checkpoint: str
    commit: str | None


@dataclass(frozen=True)
class Cost:
    """What a training would take, from the speed of a few of its steps.

    Attributes:
        seconds: The seconds of its steps alone.
        machine: On what machine.
        tasks: The number of tasks that it sees, by which a recipe that was changed later is told; None if it was not kept.
    """

    seconds: float
    machine: str
    tasks: int | None = None


@dataclass(frozen=True)
class Result:
    """The test of a cell, as it is kept.

    Attributes:
        name: The name of the cell.
        training: The name of the training whose checkpoint was tested.
        metric: The name of the score.
        report: The values of report.json that are kept.
        episodes: A digest of the test episodes: where two are equal, so are the episodes, and scores can be paired.
        scores: The score of each episode.
        checkpoint: The SHA-256 digest of the checkpoint's file.
    """

    name: str
    training: str
    metric: str
    report: Mapping[str, Any]
    episodes: str
    scores: Sequence[float]
    checkpoint: str

    @property
    def score(self) -> float:
        return float(self.report[self.metric])

    @property
    def ci95(self) -> float | None:
        found: float | None = self.report["ci95"]
        return found


@dataclass(frozen=True)
class Kept:
    """Everything that is kept: results by the name of their cell, and records and costs by that of their training.

    `replaced` has the tests of a cell's earlier recipes, the oldest first.
    """

    results: Mapping[str, Result]
    records: Mapping[str, Record]
    costs: Mapping[str, Cost]
    replaced: Mapping[str, Sequence[Result]] = field(default_factory=dict)


def kept_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a report that are kept."""
    return {key: value for key, value in report.items() if key not in _NOT_KEPT}


def place_of(folder: Path, name: str, kind: str = "") -> Path:
    """The file of a result, or of what is known of a training for the other kinds."""
    table, _, own = name.partition("/")
    return folder / table / kind / f"{own}.json"


def write_result(folder: Path, result: Result) -> None:
    """Keep the test of a cell. Accuracies are kept as counts of correct answers, which are shorter and as exact.

    Raises:
        BadInput: the file cannot be written, or has been written by somebody else.
        ValueError: reading it would be refused.
    """
    content = asdict(result) | {"scores": [_number(score) for score in result.scores]}
    counts = _counts(result)
    if counts is not None:
        content["scores"] = {"of": counts[0], "correct": counts[1]}
    _write(place_of(folder, result.name), content, lambda read: _as_result(read, result.name))


def read_result(folder: Path, name: str) -> Result | None:
    """The kept test of a cell; None if it has not been measured.

    Raises:
        BadInput: the file is none of ours, or is damaged.
    """
    return _read(place_of(folder, name), lambda content: _as_result(content, name))


def read_replaced(folder: Path, name: str) -> list[Result]:
    """The tests of a cell's earlier recipes, the oldest first.

    Raises:
        BadInput: a file is none of ours, or is damaged.
    """
    found: list[Result] = []
    while one := _read(place_of(folder, f"{name}.{len(found) + 1}", REPLACED), lambda content: _as_result(content, name)):
        found.append(one)
    return found


def write_record(folder: Path, name: str, record: Record) -> None:
    """Keep what is known of a training.

    Raises:
        BadInput: the file cannot be written, or has been written by somebody else.
        ValueError: reading it would be refused.
    """
    _write(place_of(folder, name, TRAININGS), asdict(record), _as_record)


def read_record(folder: Path, name: str) -> Record | None:
    """What is kept of a training; None if it has not been trained.

    Raises:
        BadInput: the file is none of ours, or is damaged.
    """
    return _read(place_of(folder, name, TRAININGS), _as_record)


def write_cost(folder: Path, name: str, cost: Cost) -> None:
    """Keep what a training would take."""
    _write(place_of(folder, name, COSTS), asdict(cost), _as_cost)


def read_cost(folder: Path, name: str) -> Cost | None:
    """What a training would take; None if it has not been measured.

    Raises:
        BadInput: the file is none of ours, or is damaged.
    """
    return _read(place_of(folder, name, COSTS), _as_cost)


def read_everything(folder: Path, plan: Plan, published: PublishedResults) -> Kept:
    """Read all reports.

    Raises:
        BadInput: one of them is none of ours, is damaged, or lacks the value beside which a published result stands.
    """
    results = {cell.name: read_result(folder, cell.name) for cell in plan.cells}
    for cell in plan.cells:
        result, beside = results[cell.name], published_of(cell, published)
        if result is not None and beside is not None and beside.measure is not None:
            try:
                _number(result.report[beside.measure])
            except (KeyError, ValueError) as error:
                reason = f"{_reason(error)}, beside which its published result stands (measure={beside.measure})"
                raise _broken(place_of(folder, cell.name), reason) from error
    trainings = {result.training for result in results.values() if result is not None}
    return Kept(
        {name: result for name, result in results.items() if result is not None},
        {name: record for name in trainings if (record := read_record(folder, name)) is not None},
        {name: cost for name in results if (cost := read_cost(folder, name)) is not None},
        {name: replaced for name in results if (replaced := read_replaced(folder, name))},
    )


def digest_of(path: Path) -> str:
    """The SHA-256 digest of a file."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def digest_of_episodes(data: Mapping[str, Any], report: Mapping[str, Any], classes: Sequence[str]) -> str:
    """A digest of everything that the test episodes of a run follow from.

    Args:
        data: The configuration of the data.
        report: The report of the test.
        classes: The names of the classes of each episode; empty where tasks have no classes.
    """
    keys = ("ways", "shots", "queries", "unequal_support", "unequal_queries", "sampling")
    # What a policy tries before it is judged is its own matter: the worlds, and how often it is judged, are the same.
    shape = [None if key == "shots" and "acting" in report else report[key] for key in keys]
    drawn = [data["name"], data.get("source"), report["split"], report["episode_seed"], report["episodes"], shape]
    return hashlib.sha256(json.dumps([drawn, list(classes)], sort_keys=True).encode()).hexdigest()


def _counts(result: Result) -> tuple[int, list[int]] | None:
    """The number of queries of an episode, and how many of them were answered correctly in each; None for other scores."""
    ways, queries = result.report.get("ways"), result.report.get("queries")
    if result.metric not in IN_PERCENT or not isinstance(ways, int) or not isinstance(queries, int):
        return None
    correct = [round(score * ways * queries) for score in result.scores]
    exact = all(count / (ways * queries) == score for count, score in zip(correct, result.scores, strict=True))
    return (ways * queries, correct) if exact else None


def _write(path: Path, content: dict[str, Any], checked: Callable[[dict[str, Any]], Kind]) -> None:
    try:
        checked(json.loads(json.dumps(content)))
    except _DAMAGES as error:
        raise ValueError(_reason(error)) from error
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in {**content, WRITTEN_BY: _OURS}.items()]
    write_output(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def _read(path: Path, checked: Callable[[dict[str, Any]], Kind]) -> Kind | None:
    """Read a file as anybody may have written it, and check all that is used of it."""
    try:
        content = json.loads(read_file(path, _MOST_BYTES))
        if not isinstance(content, dict) or not isinstance(content.pop(WRITTEN_BY, None), str):
            raise ValueError("metashot did not write it")
        return checked(content)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _broken(path, reason_of(error)) from error
    except _DAMAGES as error:
        raise _broken(path, _reason(error)) from error


def _reason(damage: BaseException) -> str:
    return (f"it has no {damage}" if isinstance(damage, KeyError) else str(damage))[:_LONGEST]


def _as_result(content: dict[str, Any], name: str) -> Result:
    scores = content["scores"]
    if isinstance(scores, dict):
        scores = [_number(correct) / _number(scores["of"]) for correct in _list(scores["correct"])]
    _refuse_other_keys(content, Result)
    result = Result(**content | {"scores": [_score(score, content["metric"]) for score in _list(scores)]})
    _refuse_other_texts(result, "name", "training", "metric", "episodes", "checkpoint")
    if result.name != name:
        raise ValueError(f"it is that of {result.name}")
    if not _NAME.fullmatch(result.training):
        raise ValueError(f"training={result.training} is not the name of a training")
    if name.rpartition("_")[0] != result.training.rpartition("_")[0]:
        raise ValueError(f"training={result.training} is that of another row")
    if not _DIGEST.fullmatch(result.checkpoint):
        raise ValueError("checkpoint is not a digest")
    if not isinstance(result.report, dict) or not result.scores:
        raise ValueError("it has no report, or no scores")
    for value in (result.report[result.metric], *([] if result.report["ci95"] is None else [result.report["ci95"]])):
        _number(value)
    _refuse_other_numbers(result.report)
    if result.report["episodes"] != len(result.scores) or not isinstance(result.report["transductive"], bool):
        raise ValueError("episodes is not the number of its scores, or transductive neither true nor false")
    mean, interval = mean_and_interval(result.scores)
    if not math.isclose(result.score, mean, rel_tol=1e-6, abs_tol=1e-9):
        raise ValueError(f"its score, {result.score}, is not the mean of its scores, {mean}")
    if result.ci95 is not None and not math.isclose(result.ci95, interval or 0.0, rel_tol=1e-6, abs_tol=1e-9):
        raise ValueError(f"ci95={result.ci95} is not the interval of its scores, {interval}")
    _refuse_other_shape(result)
    for column in columns_of([result.report]):
        column.cell(result.report)  # fails where a value has another type
    return result


def _refuse_other_numbers(report: Any, key: str = "") -> None:
    """Refuse numbers that are not finite anywhere in a report, and shares such as accuracies outside 0 to 1."""
    if isinstance(report, dict):
        for name, value in report.items():
            _refuse_other_numbers(value, name)
    elif isinstance(report, list):
        for value in report:
            _refuse_other_numbers(value)
    elif isinstance(report, float) and not math.isfinite(report):
        raise ValueError(f"{key}={report} is not a finite number")
    elif key in IN_PERCENT and report is not None:
        _score(report, key)


def _refuse_other_shape(result: Result) -> None:
    """Refuse a test with other ways and shots than the name says."""
    said = SHAPE.search(result.name.rpartition("_")[2].partition("-")[0])
    if said is not None:
        if result.metric not in IN_PERCENT:
            raise ValueError(f"metric={result.metric} is no score of classes")
        tested = (result.report["ways"], result.report["shots"])
        if tested != (int(said[1]), int(said[2])):
            raise ValueError(f"{result.name} was tested with {tested[0]} ways and {tested[1]} shots")


def _as_record(content: dict[str, Any]) -> Record:
    _refuse_other_keys(content, Record)
    record = Record(**content)
    _refuse_other_texts(record, "recipe", "machine", "metric", "checkpoint")
    optional = [name for name in ("started_from", "commit") if getattr(record, name) is not None]
    _refuse_other_texts(record, *optional)
    used = [name for name in ("seconds", "processor_seconds", "peak_memory") if getattr(record, name) is not None]
    for name in ("seed", *used, "steps", "best_step"):
        if _number(getattr(record, name)) < 0:
            raise ValueError(f"{name}={getattr(record, name)} is below zero")
    for step, *values in map(_list, _list(record.validation)):
        if not isinstance(step, int) or len(values) != 2:
            raise ValueError("a point of validation is not a step, a score and an interval")
        _score(values[0], record.metric)
        _number(values[1])
    _list(record.arguments)
    return record


def _as_cost(content: dict[str, Any]) -> Cost:
    _refuse_other_keys(content, Cost)
    cost = Cost(**content)
    _refuse_other_texts(cost, "machine")
    if _number(cost.seconds) < 0:
        raise ValueError(f"seconds={cost.seconds} is below zero")
    if cost.tasks is not None and (type(cost.tasks) is not int or cost.tasks < 0):
        raise ValueError(f"tasks={str(cost.tasks)[:40]} is no number of tasks")
    return cost


def _refuse_other_keys(content: dict[str, Any], kind: type[Result | Record | Cost]) -> None:
    strange = content.keys() - {one.name for one in fields(kind)}
    if strange:
        raise ValueError(f"it has a key that no report has: {min(strange)}")


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:_LONGEST]} is not a finite number")
    return float(value)


def _score(value: Any, metric: Any) -> float:
    score = _number(value)
    if metric in IN_PERCENT and not 0 <= score <= 1:
        raise ValueError(f"{metric}={score} is not from 0 to 1")
    if abs(score) > _LARGEST:
        raise ValueError(f"{metric}={score} is too large: the variance of such scores is not finite")
    return score


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{str(value)[:_LONGEST]} is not a list")
    return value


def _refuse_other_texts(of: Result | Record | Cost, *names: str) -> None:
    """Refuse what is no text, or not a single line of a length that a table has room for."""
    assert set(names) <= {one.name for one in fields(of)}
    for name in names:
        value = getattr(of, name)
        if not isinstance(value, str) or len(value) > _LONGEST or in_one_line(value) != value:
            raise ValueError(f"{name} is not a text of one line")


def _broken(path: Path, reason: str) -> BadInput:
    return BadInput(f"{printable(path)} cannot be read as a report of results: {reason}; delete it to measure it again")

"""The reports of results: small JSON files with the scores of all test episodes, and without weights."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from metashot.bad_input import BadInput
from metashot.files.outputs import WRITTEN_BY, write_output
from metashot.files.paths import printable, read_file
from metashot.results.tables import Plan
from metashot.version import __version__

TRAININGS, COSTS = "trainings", "costs"  # the folders of what is known of trainings, in that of a table
_MOST_BYTES = 2**24
_OURS = f"metashot {__version__}"
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
        seconds: What train.py took, with validation and the test of its own cell.
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
    seconds: float
    processor_seconds: float
    peak_memory: int
    machine: str
    steps: int
    best_step: int
    metric: str
    validation: Sequence[Sequence[float]]
    checkpoint: str
    commit: str | None


@dataclass(frozen=True)
class Cost:
    """What a training would take: the seconds of its steps alone, from the speed of a few of them, and on what machine."""

    seconds: float
    machine: str


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
    """

    name: str
    training: str
    metric: str
    report: Mapping[str, Any]
    episodes: str
    scores: Sequence[float]

    @property
    def score(self) -> float:
        return float(self.report[self.metric])

    @property
    def ci95(self) -> float | None:
        found: float | None = self.report["ci95"]
        return found


@dataclass(frozen=True)
class Kept:
    """Everything that is kept: results by the name of their cell, and records and costs by that of their training."""

    results: Mapping[str, Result]
    records: Mapping[str, Record]
    costs: Mapping[str, Cost]


def kept_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a report that are kept."""
    return {key: value for key, value in report.items() if key not in _NOT_KEPT}


def place_of(folder: Path, name: str, kind: str = "") -> Path:
    """The file of a result, or of what is known of a training for the other kinds."""
    table, _, own = name.partition("/")
    return folder / table / kind / f"{own}.json"


def write_result(folder: Path, result: Result) -> None:
    """Keep the test of a cell. Accuracies are kept as counts of correct answers, which are shorter and as exact."""
    content = asdict(result)
    counts = _counts(result)
    if counts is not None:
        content["scores"] = {"of": counts[0], "correct": counts[1]}
    _write(place_of(folder, result.name), content)


def read_result(folder: Path, name: str) -> Result | None:
    """The kept test of a cell; None if it has not been measured."""
    path = place_of(folder, name)
    content = _read(path)
    if content is None:
        return None
    try:
        scores = content["scores"]
        if isinstance(scores, dict):
            scores = [correct / scores["of"] for correct in scores["correct"]]
        return Result(**content | {"scores": [float(score) for score in scores]})
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise _broken(path, error) from error


def write_record(folder: Path, name: str, record: Record) -> None:
    """Keep what is known of a training."""
    _write(place_of(folder, name, TRAININGS), asdict(record))


def read_record(folder: Path, name: str) -> Record | None:
    """What is kept of a training; None if it has not been trained."""
    path = place_of(folder, name, TRAININGS)
    content = _read(path)
    try:
        return None if content is None else Record(**content)
    except TypeError as error:
        raise _broken(path, error) from error


def write_cost(folder: Path, name: str, cost: Cost) -> None:
    """Keep what a training would take."""
    _write(place_of(folder, name, COSTS), asdict(cost))


def read_cost(folder: Path, name: str) -> Cost | None:
    """What a training would take; None if it has not been measured."""
    path = place_of(folder, name, COSTS)
    content = _read(path)
    try:
        return None if content is None else Cost(**content)
    except TypeError as error:
        raise _broken(path, error) from error


def read_everything(folder: Path, plan: Plan) -> Kept:
    """Read all reports."""
    results = {cell.name: read_result(folder, cell.name) for cell in plan.cells}
    trainings = {result.training for result in results.values() if result is not None}
    return Kept(
        {name: result for name, result in results.items() if result is not None},
        {name: record for name in trainings if (record := read_record(folder, name)) is not None},
        {name: cost for name in results if (cost := read_cost(folder, name)) is not None},
    )


def digest_of(path: Path) -> str:
    """The SHA-256 digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    if result.metric != "accuracy" or not isinstance(ways, int) or not isinstance(queries, int):
        return None
    correct = [round(score * ways * queries) for score in result.scores]
    exact = all(count / (ways * queries) == score for count, score in zip(correct, result.scores, strict=True))
    return (ways * queries, correct) if exact else None


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in {**content, WRITTEN_BY: _OURS}.items()]
    write_output(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(read_file(path, _MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise _broken(path, error) from error
    if not isinstance(content, dict) or content.pop(WRITTEN_BY, None) is None:
        raise _broken(path, "metashot did not write it")
    return content


def _broken(path: Path, reason: object) -> BadInput:
    return BadInput(f"{printable(path)} cannot be read as a report of results: {reason}; delete it to measure it again")

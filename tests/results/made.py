"""Made results, for tests of what is written of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from metashot.evaluation.statistics import mean_and_interval
from metashot.results.storage import Kept, Record, Result
from metashot.results.tables import Cell, Plan, Table

TABLE = Table("omniglot", "Omniglot", "Omniglot", "About it.", ("5w1s", "20w1s"), "omniglot")
REPORT: dict[str, Any] = {"ways": 5, "shots": 1, "queries": 15, "transductive": False, "external_data": None}


def cell(row: str, column: str = "5w1s", **named: Any) -> Cell:
    return Cell(TABLE, row, column, **named)


def plan(*cells: Cell, explanations: dict[str, str] | None = None) -> Plan:
    return Plan({TABLE.name: TABLE}, cells, [cells[0].recipe], explanations or {})


def result(of: Cell, scores: Sequence[float], episodes: str = "the same", **report: Any) -> Result:
    score, ci95 = mean_and_interval(scores)
    whole = {"accuracy": score, "ci95": ci95, "episodes": len(scores), **REPORT, **report}
    return Result(of.name, of.name, "accuracy", whole, episodes, list(scores), "c0ffee" * 10)


def record(of: Cell, **changed: Any) -> Record:
    made = Record(
        of.recipe,
        of.seed,
        of.arguments,
        None,
        100.0,
        90.0,
        2**30,
        "A processor",
        200,
        100,
        "accuracy",
        [[100, 0.5, 0.01], [200, 0.625, 0.01]],
        "c0ffee" * 10,
        None,
    )
    return replace(made, **changed)


def kept(*results: Result, records: dict[str, Record] | None = None, costs: dict[str, Any] | None = None) -> Kept:
    return Kept({one.name: one for one in results}, records or {}, costs or {})

"""tables.yaml and published.yaml, which authors edit: what is measured, and what is published."""

from collections import Counter
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml

from metashot.arguments import AtLeast, AtMost, Matching, Seed, check_value
from metashot.bad_input import BadInput, closest, in_one_line, one_of
from metashot.files.paths import reason_of
from metashot.results.tables import NO_COLUMN, SHAPE, Cell, Plan, Published, PublishedResults, Table

HERE = Path(__file__).parent
TABLES, PUBLISHED = HERE / "tables.yaml", HERE / "published.yaml"
_SCORE = "score"  # what stands instead of ways and shots where tasks have no classes
_Percent, _INTERVAL = Annotated[float, AtLeast(0), AtMost(100)], Annotated[float, AtLeast(0)] | None
_Name = Annotated[str, Matching(r"\w+", "letters, digits and _")]  # of a folder or a file
_TEXTS = list[str]
# The keys of each part and their types, with those first that have to be there.
_OF_THE_PLAN = {"tables": dict, "queue": list, "starts": dict, "headline": list, "explanations": dict, "replaced": dict}
_OF_A_TABLE = {"title": str, "short": str, "about": str, "columns": _TEXTS, "published": str, "external": _TEXTS}
_OF_THE_QUEUE = {
    "table": str,
    "rows": _TEXTS,
    "cells": _TEXTS,
    "seeds": list[Seed],
    "variant": str,
    "arguments": _TEXTS,
}
_OF_A_RESULT = {
    "source": str,
    "checked": str,
    "transductive": bool,
    "remark": str,
    "measure": str,
    "other_split": bool,
}


class _Loader(yaml.SafeLoader):  # in Python, which says so where brackets are too deep
    """Reads YAML, and refuses a key that is given twice, of which only the second one would count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        known = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is a list; allowed: text", key.start_mark)
            if key.value in known:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            known.add(key.value)
        found: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return found


def read_plan(path: Path = TABLES) -> Plan:
    """Read what is measured.

    Raises:
        BadInput: the file cannot be read, or something in it does not fit the rest.
    """
    content = _read(path)
    _refuse_other_keys(content, _OF_THE_PLAN, len(_OF_THE_PLAN) - 1, path.name)
    content = {"replaced": {}} | content
    for name in content["tables"]:
        check_value(name, _Name, f"{path.name}: tables", "names of letters, digits and _")
    tables = {name: _table(name, one, f"{path.name}: tables.{name}") for name, one in content["tables"].items()}
    starts = content["starts"]
    for key in ("starts", "explanations", "replaced"):
        check_value(content[key], dict[str, str], f"{path.name}: {key}")
    check_value(content["headline"], _TEXTS, f"{path.name}: headline")
    cells = [
        cell
        for place, entry in enumerate(content["queue"], 1)
        for cell in _cells(entry, tables, starts, f"{path.name}: entry {place} of the queue")
    ]
    plan = Plan(tables, cells, content["headline"], content["explanations"], content["replaced"])
    _refuse_what_does_not_fit(plan, starts, path.name)
    return plan


def read_published(path: Path = PUBLISHED) -> PublishedResults:
    """Read the published results.

    Raises:
        BadInput: the file cannot be read, or a result in it is not one.
    """
    content = _read(path)
    for table, rows in content.items():
        for name, where in ((table, "the name of a table"), *((row, f"{table}: the name of a row") for row in _keys(rows))):
            check_value(name, _Name, f"{path.name}: {where}", "letters, digits and _, as in maml_long")
    return {
        table: {row: _published(given, f"{path.name}: {table}.{row}") for row, given in _mapping(rows, table, path).items()}
        for table, rows in content.items()
    }


def _table(name: str, one: Any, where: str) -> Table:
    _refuse_other_keys(one, _OF_A_TABLE, 3, where)
    columns = tuple(one.get("columns", [NO_COLUMN]))
    for column in columns:
        if one.get("columns") is not None and not SHAPE.fullmatch(column):
            raise BadInput(f"{where}.columns={column} cannot be used; allowed: ways and shots, as in 5w1s")
    return Table(
        name, one["title"], one["short"], one["about"].strip(), columns, one.get("published"), tuple(one.get("external", ()))
    )


def _cells(entry: Any, tables: dict[str, Table], starts: dict[str, str], where: str) -> Iterator[Cell]:
    """The cells of an entry of the queue."""
    _refuse_other_keys(entry, _OF_THE_QUEUE, 2, where)
    if entry["table"] not in tables:
        raise BadInput(f"{where}: unknown table={entry['table']}; allowed: {one_of(tables, entry['table'])}")
    table = tables[entry["table"]]
    columns = entry.get("cells", [] if table.has_shapes else [NO_COLUMN])
    for column in columns or ["null"]:
        if column not in table.columns:
            allowed = ", ".join(table.columns) if table.has_shapes else f"none, since {table.name} has no columns"
            raise BadInput(f"{where}: cells={column} cannot be used; allowed: {allowed}")
    for key in ("rows", "cells", "seeds"):
        if entry.get(key) == []:
            raise BadInput(f"{where}: {key}=[] names none")
    for name in (*entry["rows"], *([entry["variant"]] if "variant" in entry else [])):
        check_value(name, _Name, f"{where}: the name", "letters, digits and _, as in maml_long")
    if bool(entry.get("variant")) != bool(entry.get("arguments")):
        raise BadInput(f"{where}: variant, the name of a change, and arguments, what is changed, belong together")
    for row in entry["rows"]:
        for seed in entry.get("seeds", [0]):
            for column in columns:
                start, arguments = starts.get(f"{table.name}/{row}"), tuple(entry.get("arguments", ()))
                yield Cell(table, row, column, seed, arguments, entry.get("variant", NO_COLUMN), start)


def _refuse_what_does_not_fit(plan: Plan, starts: dict[str, str], file: str) -> None:
    """Refuse a cell that is there twice, and names of rows and recipes that no cell has."""
    for name, times in Counter(cell.name for cell in plan.cells).items():
        if times > 1:
            raise BadInput(f"{file}: {name} is in the queue {times} times")
    places = {cell.recipe: place for place, cell in reversed(list(enumerate(plan.cells)))}
    rows, recipes = {f"{cell.table.name}/{cell.row}" for cell in plan.cells}, {cell.recipe for cell in plan.cells}
    for key, given, allowed in (
        ("starts", starts.keys(), rows),
        ("starts", starts.values(), recipes),
        ("headline", plan.headline, recipes),
        ("explanations", plan.explanations.keys(), rows),
        ("replaced", plan.replaced.keys(), rows),
    ):
        for name in given:
            if name not in allowed:
                kind = "row" if allowed is rows else "recipe"
                raise BadInput(f"{file}: {key} names {name}, a {kind} that is not in the queue{closest(allowed, name)}")
    for cell in plan.cells:
        if cell.starts_from is not None and places[cell.starts_from] >= places[cell.recipe]:
            raise BadInput(f"{file}: {cell.recipe} starts from {cell.starts_from}, which is not before it in the queue")
    for table in plan.tables.values():
        for name in table.external:
            if f"{table.name}/{name}" not in rows:
                raise BadInput(f"{file}: tables.{table.name}.external names {name}, a row that is not in the queue")
    if len(set(plan.headline)) < len(plan.headline):
        raise BadInput(f"{file}: headline names a recipe twice")


def refuse_unknown_table(plan: Plan, published: PublishedResults) -> None:
    """Refuse a table that names published results which are not there, or leaves out those of its own name."""
    for table in plan.tables.values():
        if table.published is None and table.name in published:
            named = f"tables.{table.name} has no key published"
            raise BadInput(f"{TABLES.name}: {named}, and {PUBLISHED.name} has {table.name}: add published: {table.name}")
        if table.published is not None and table.published not in published:
            named = f"tables.{table.name}.published={table.published}"
            raise BadInput(f"{TABLES.name}: {named} is not in {PUBLISHED.name}{closest(published, table.published)}")


def _published(given: Any, where: str) -> dict[str, Published]:
    """The published results of a row, by column."""
    columns = (
        [column for column in given if column == _SCORE or SHAPE.fullmatch(str(column))] if isinstance(given, dict) else []
    )
    _refuse_other_keys(given, {**_OF_A_RESULT, **dict.fromkeys(columns, list)}, 3, where)
    if not columns:
        raise BadInput(f"{where} has no number; allowed: ways and shots, as in 5w1s: [98.7, 0.4], or {_SCORE}")
    found = {}
    for column in columns:
        value = given[column]
        if len(value) != 2:
            raise BadInput(f"{where}.{column}={value} cannot be used; allowed: [mean, half-width of the interval or null]")
        check_value(value[0], float if column == _SCORE else _Percent, f"{where}.{column}[0]")
        check_value(value[1], _INTERVAL, f"{where}.{column}[1]")
        found[NO_COLUMN if column == _SCORE else column] = Published(
            value[0],
            value[1],
            given["source"],
            given["checked"].strip(),
            given["transductive"],
            given.get("remark", ""),
            given.get("measure"),
            given.get("other_split", False),
        )
    return found


def _refuse_other_keys(given: Any, kinds: dict[str, Any], required: int, where: str) -> None:
    """Refuse a part without one of its first `required` keys, with an unknown key, or with a value of another type."""
    if not isinstance(given, dict):
        raise BadInput(f"{where} is not a list of keys and values; allowed: {', '.join(kinds)}")
    for key in list(kinds)[:required]:
        if key not in given:
            raise BadInput(f"{where}: missing key {key}")
    for key, value in given.items():
        if key not in kinds:
            raise BadInput(f"{where}: unknown key {key}; allowed: {one_of(kinds, str(key))}")
        if kinds[key] not in (dict, list):
            check_value(value, kinds[key], f"{where}.{key}")
        elif not isinstance(value, kinds[key]):
            raise BadInput(f"{where}.{key} is not a {'list' if kinds[key] is list else 'list of keys and values'}")


def _keys(given: Any) -> list[Any]:
    return list(given) if isinstance(given, dict) else []


def _mapping(given: Any, name: str, path: Path) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise BadInput(f"{path.name}: {name} has no rows")
    return given


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        raise BadInput(f"{path.name}{line}: {in_one_line(str(getattr(error, 'problem', error)))}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name} cannot be read: {reason_of(error)}") from error
    except (ValueError, KeyError, RecursionError) as error:  # a date or a number that is none, or brackets too deep
        raise BadInput(f"{path.name} cannot be read: {in_one_line(str(error))}") from error
    return _mapping(content, "the file", path)

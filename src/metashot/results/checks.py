"""Checks of the results command that need no torch."""

from fnmatch import fnmatchcase
from typing import Annotated, Literal

from metashot.arguments import AtLeast, AtMost, check_value
from metashot.bad_input import BadInput, closest
from metashot.configuration import Container
from metashot.configuration.buildable import CONF
from metashot.files.paths import given_path, place_to_write, printable
from metashot.results.tables import Cell, Plan

_Minutes = Annotated[float, AtLeast(0), AtMost(1e6)]
ALL = "all"


def refuse_results(config: Container) -> None:
    """Raise `BadInput` where the command cannot be run."""
    check_value(config["cells"], str | list[str], "cells", "all, a name such as omniglot/maml_*, or a list of names")
    check_value(config["minutes"], _Minutes, "minutes")
    check_value(config["training_minutes"], _Minutes, "training_minutes")
    check_value(config["costs"], bool, "costs", "true or false")
    check_value(config["threads"], Annotated[int, AtLeast(1), AtMost(1024)], "threads")
    check_value(config["device"], Literal["cpu", "gpu"], "device", "cpu or gpu")
    for key in ("runs", "results", "page"):
        check_value(config[key], str, key)
    for key in ("root", "readme", "recipes"):
        check_value(config[key], str | None, key)
    runs, results = (place_to_write(config[key], key) for key in ("runs", "results"))
    for key, folder in (("runs", runs), ("results", results)):
        if folder.exists() and not folder.is_dir():
            raise BadInput(f"{key}={printable(folder)} is a file; allowed: a folder, which is made if it does not exist")
    if results.resolve() == runs.resolve():
        named = f"results={printable(results)} and runs={printable(runs)}"
        raise BadInput(f"{named} are the same folder; allowed: two folders")
    if config["recipes"] is not None and not given_path(config["recipes"], "recipes").is_dir():
        raise BadInput(f"recipes={config['recipes']} is not a folder; allowed: the folder conf/experiment of a clone")
    if config["root"] is not None and not given_path(config["root"], "root").is_dir():
        raise BadInput(f"root={config['root']} is not a folder; allowed: the folder with omniglot/, cifar-fs/ and others")
    # Last, since a folder that nobody named may be missing: what was given is told first.
    if not (config["minutes"] or config["costs"] or results.exists()):
        raise BadInput(
            f"results={printable(results)} does not exist, and there is nothing to write a page from; allowed: the folder "
            "of the reports, or minutes= to measure some"
        )


def chosen_cells(given: str | list[str], plan: Plan) -> list[Cell]:
    """The cells that `cells=` names, in the order in which they are measured.

    Raises:
        BadInput: a name fits none of them.
    """
    patterns = [given] if isinstance(given, str) else given
    if not patterns:
        raise BadInput("cells=[] names no cell; allowed: all, or names such as omniglot/protonet_20w1s")
    if ALL in patterns:
        return list(plan.cells)
    for pattern in patterns:
        if not any(fnmatchcase(cell.name, pattern) for cell in plan.cells):
            # As a table, or the beginning of several names; then another name.
            longer = (f"{pattern.rstrip('/')}/*", f"{pattern}_*", f"{pattern}*")
            fits = next((one for one in longer if pattern and any(fnmatchcase(cell.name, one) for cell in plan.cells)), None)
            near = f" (did you mean {fits}?)" if fits else closest({cell.name for cell in plan.cells}, pattern)
            raise BadInput(
                f"cells={pattern} fits no cell; allowed: all, or names such as omniglot/protonet_20w1s, with * for any "
                f"text{near}"
            )
    return [cell for cell in plan.cells if any(fnmatchcase(cell.name, pattern) for pattern in patterns)]


def refuse_missing_recipes(plan: Plan) -> None:
    """Refuse a queue with a cell that has no recipe."""
    for cell in plan.cells:
        if not (CONF / "experiment" / f"{cell.recipe}.yaml").is_file():
            raise BadInput(f"tables.yaml: the queue has {cell.recipe}, and there is no conf/experiment/{cell.recipe}.yaml")

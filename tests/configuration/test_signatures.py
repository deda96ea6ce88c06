"""Signatures that are read from source files are those of the imported classes."""

import importlib
import inspect
import subprocess
import sys
import types
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest

from metashot.arguments import Node
from metashot.configuration import signatures
from metashot.configuration.buildable import buildable

TARGETS = sorted(set().union(*buildable().values()))
CONSTANTS = ("asks", "solves", "trains", "needs_start", "needs_features", "has_weights", "supervised")


def imported(target: str) -> type[Any]:
    module, _, name = target.rpartition(".")
    found: type[Any] = getattr(importlib.import_module(module), name)
    return found


def parameters_of_imported(kind: type[Any]) -> dict[str, tuple[str, bool]]:
    """What `inspect` and `typing` say; a class that hands `**others` on takes the arguments of the one it derives from."""
    found: dict[str, tuple[str, bool]] = {}
    for base in kind.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        given = inspect.signature(base.__init__).parameters  # type: ignore[misc]
        hints = get_type_hints(base.__init__, include_extras=True)  # type: ignore[misc]
        kinds = [p.kind for p in given.values()]
        own = {
            name: (written(hints.get(name, Any)), p.default is p.empty)
            for name, p in given.items()
            if name != "self" and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        }
        found = own | found
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return found


def written(hint: Any) -> str:
    """A type in one form, in which a class of metashot and what stands for it are the same."""
    if isinstance(hint, type) and issubclass(hint, Node) and hint is not Node:
        return hint.target
    if get_origin(hint) is Annotated:
        return f"Annotated[{written(get_args(hint)[0])}, {get_args(hint)[1:]}]"
    if get_origin(hint) in (Union, types.UnionType):
        return " | ".join(written(option) for option in get_args(hint))
    if get_origin(hint) is list:
        return f"list[{written(get_args(hint)[0])}]"
    if isinstance(hint, type) and get_origin(hint) is None:
        return f"{hint.__module__}.{hint.__qualname__}"
    return str(hint)


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_read_is_what_the_imported_class_is_called_with(target: str) -> None:
    read = signatures.parameters_of(target)
    assert {name: (written(p.annotation), p.required) for name, p in read.items()} == parameters_of_imported(
        imported(target)
    )


def full_name(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(full_name, value))
    return f"{value.__module__}.{value.__qualname__}" if isinstance(value, type) else value


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_are_those_of_the_imported_class(name: str) -> None:
    having = [target for target in TARGETS if name in dir(imported(target))]
    assert having
    for target in having:
        assert signatures.constant(target, name) == full_name(getattr(imported(target), name)), target


def test_whether_a_class_derives_from_another_is_read() -> None:
    assert signatures.derives_from("metashot.algorithms.gradient.mamlpp.MAMLpp", "metashot.algorithms.base.Algorithm")
    assert signatures.derives_from("metashot.sources.images.cifarfs.CifarFS", "metashot.sources.source.DataSource")
    assert not signatures.derives_from("metashot.backbones.mlp.MLP", "metashot.algorithms.base.Algorithm")


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "metashot",
        "",
        "metashot.nowhere.X",
        "metashot.checkpoints.run_folder.write_text",
        "metashot.bad_input.Nothing",
    ],
)
def test_what_is_no_class_is_not_found(target: str) -> None:
    with pytest.raises(signatures.NoSuchClass):
        signatures.parameters_of(target)


def test_reading_every_signature_imports_nothing_slow(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom metashot.configuration import signatures\nfrom metashot.configuration.buildable import buildable\n"
        "for targets in buildable().values():\n    for target in targets:\n        signatures.parameters_of(target)\n"
        "problem = signatures.constant('metashot.data.regression.RegressionEpisodes', 'asks')\n"
        "assert signatures.constant(problem, 'kind') == 'regression'\n"
        "print({'torch', 'pytorch_lightning', 'matplotlib', 'wandb'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"

"""Reads the signatures of classes from their source files, without importing them.

A configuration is checked against the signatures of the classes that it names. Most derive from classes of torch or
Lightning, whose import takes many seconds, which a mistyped key should not have to wait for. The results are those of
`inspect` and `typing` for the imported class (`tests/configuration/test_signatures.py` compares them for every class).
"""

import ast
import builtins
import importlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Any

from metashot.arguments import node_of
from metashot.bad_input import BadInput

_IMPORTABLE = ("typing", "collections.abc", "metashot.arguments")  # modules that are cheap to import
_UNKNOWN_CLASS = object  # stands for a class outside metashot


@dataclass(frozen=True)
class Parameter:
    """A parameter: its annotation (a type, a range or a `Node`), and whether it is required."""

    annotation: Any
    required: bool


@dataclass(frozen=True)
class _Class:
    module: str
    tree: ast.ClassDef

    @property
    def target(self) -> str:
        return f"{self.module}.{self.tree.name}"


class NoSuchClass(Exception):
    """There is no class of that name in the source file of its module."""


class NotUnderstood(BadInput):
    """A source file, perhaps of a plug-in, uses syntax that is not supported here."""


def parameters_of(target: str) -> dict[str, Parameter]:
    """The parameters of a class by name, including those of its base class if its constructor has `**kwargs`.

    Args:
        target: the full name of the class.

    Raises:
        NoSuchClass: there is no such class.
    """
    parameters: dict[str, Parameter] = {}
    for kind in _ancestry(_class(target)):
        function = _member(kind, "__init__")
        if not isinstance(function, ast.FunctionDef):
            continue
        parameters = dict(_parameters(function, kind.module)) | parameters
        if function.args.kwarg is None:
            break
    return parameters


def constant(target: str, name: str) -> Any:
    """A constant of a class or of one of its base classes.

    Args:
        target: the full name of the class.
        name: the name of the constant.

    Returns:
        Its value, with the full names of classes in place of the classes.

    Raises:
        NoSuchClass: there is no such class.
        AttributeError: the class has no such constant.
    """
    for kind in _ancestry(_class(target)):
        member = _member(kind, name)
        value = member.value if isinstance(member, ast.Assign | ast.AnnAssign) else None
        if value is not None:
            return _constant(value, kind.module)
    raise AttributeError(f"{target} has no constant {name}")


def alias(target: str) -> Any:
    """The value of a type alias.

    Args:
        target: its full name, such as `metashot.sources.splitting.Split`.

    Raises:
        NoSuchClass: there is no such module.
    """
    module, _, name = target.rpartition(".")
    return _named(name, module)


def derives_from(target: str, base: str) -> bool:
    """Whether the class `target` is `base` or derives from it."""
    return any(kind.target == base for kind in _ancestry(_class(target)))


def _parameters(function: ast.FunctionDef, module: str) -> Iterator[tuple[str, Parameter]]:
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    first_default = len(positional) - len(given.defaults)
    for place, argument in enumerate(positional):
        if argument.arg != "self":
            yield argument.arg, Parameter(_annotation(argument, module), place < first_default)
    for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        yield argument.arg, Parameter(_annotation(argument, module), default is None)


def _annotation(argument: ast.arg, module: str) -> Any:
    return Any if argument.annotation is None else _evaluated(argument.annotation, module)


def _evaluated(node: ast.expr, module: str) -> Any:
    """The value of an annotation."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return _named(name, module)
        case ast.Tuple(elts=items):
            return tuple(_evaluated(item, module) for item in items)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluated(operand, module)
        case ast.BinOp(left=left, op=operation, right=right):
            return _combined(_evaluated(left, module), operation, _evaluated(right, module))
        case ast.Subscript(value=value, slice=inner):
            return _evaluated(value, module)[_evaluated(inner, module)]
        case ast.Call(func=function, args=arguments, keywords=[]):
            return _evaluated(function, module)(*(_evaluated(argument, module) for argument in arguments))
        case ast.Attribute():
            return _UNKNOWN_CLASS
    raise NotUnderstood(f"{module} has an annotation that is not understood: {ast.unparse(node)}")


def _combined(left: Any, operation: ast.operator, right: Any) -> Any:
    match operation:
        case ast.BitOr():
            return reduce(or_, (left, right))
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Pow():
            return left**right
    raise NotUnderstood(f"annotations with {type(operation).__name__} are not understood")


def _named(name: str, module: str) -> Any:
    """The value of a name in a module: a type, a range, or a `Node` for a class of metashot."""
    found = _definition(name, module)
    match found:
        case None:
            if not hasattr(builtins, name):
                raise NotUnderstood(f"{module} uses the undefined name {name} in an annotation")
            return getattr(builtins, name)
        case _Class():
            return node_of(found.target)
        case ast.ImportFrom(module=origin):
            return (
                getattr(importlib.import_module(origin), _original(found, name)) if origin in _IMPORTABLE else _UNKNOWN_CLASS
            )
        case ast.Import():
            return _UNKNOWN_CLASS
    value, place = found
    return _evaluated(value, place)


@cache
def _definition(name: str, module: str) -> Any:
    """The definition of a name: a class, the expression and module of an alias, an import from elsewhere, or None."""
    for statement in reversed(_tree(module).body):
        match statement:
            case ast.ClassDef(name=defined) if defined == name:
                return _Class(module, statement)
            case ast.Assign(targets=[ast.Name(id=defined)], value=value) if defined == name:
                return value, module
            case ast.AnnAssign(target=ast.Name(id=defined), value=ast.expr() as value) if defined == name:
                return value, module
            case ast.ImportFrom() if _original(statement, name):
                origin = _origin(statement, module)
                inside = origin.partition(".")[0] in ("metashot", module.partition(".")[0]) and origin not in _IMPORTABLE
                return _definition(_original(statement, name), origin) if inside else statement
            case ast.Import(names=names) if any((alias.asname or alias.name) == name for alias in names):
                return statement
    return None


def _origin(statement: ast.ImportFrom, module: str) -> str:
    """The full name of the module that a statement imports from."""
    package = module if _file(module).name == "__init__.py" else module.rpartition(".")[0]
    relative = f"{'.' * statement.level}{statement.module or ''}"
    return importlib.util.resolve_name(relative, package) if statement.level else str(statement.module)


def _original(statement: ast.ImportFrom, name: str) -> str:
    return next((alias.name for alias in statement.names if (alias.asname or alias.name) == name), "")


def _constant(node: ast.expr, module: str) -> Any:
    if isinstance(node, ast.Tuple):
        return tuple(_constant(item, module) for item in node.elts)
    if isinstance(node, ast.Name):
        found = _definition(node.id, module)
        return found.target if isinstance(found, _Class) else _constant(*found)
    return ast.literal_eval(node)


def _ancestry(kind: _Class) -> Iterator[_Class]:
    """The class, then its base classes in metashot, nearest first."""
    yield kind
    for base in kind.tree.bases:
        named = base.value if isinstance(base, ast.Subscript) else base
        found = _definition(named.id, kind.module) if isinstance(named, ast.Name) else None
        if isinstance(found, _Class):
            yield from _ancestry(found)


def _member(kind: _Class, name: str) -> ast.stmt | None:
    for statement in reversed(kind.tree.body):
        match statement:
            case ast.FunctionDef(name=defined) if defined == name:
                return statement
            case ast.Assign(targets=[ast.Name(id=defined)]) | ast.AnnAssign(target=ast.Name(id=defined)) if defined == name:
                return statement
    return None


def _class(target: str) -> _Class:
    module, _, name = target.rpartition(".")
    found = _definition(name, module) if module else None
    if not isinstance(found, _Class) or found.target != target:
        raise NoSuchClass(f"there is no class {target}")
    return found


@cache
def _tree(module: str) -> ast.Module:
    try:
        return ast.parse(_file(module).read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError) as error:
        raise NotUnderstood(f"the module {module} cannot be read: {error}") from error


@cache
def _file(module: str) -> Path:
    """The source file of a module. `find_spec` of the module itself would import its parent packages."""
    package, *inside = module.split(".")
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError) as error:
        raise NoSuchClass(f"there is no module {module}") from error
    if found is not None and found.origin is not None and all(part.isidentifier() for part in inside):
        if not inside and found.origin.endswith(".py"):
            return Path(found.origin)
        for folder in found.submodule_search_locations or ():
            place = Path(folder, *inside)
            for file in (place / "__init__.py", place.with_suffix(".py")):
                if inside and file.is_file():
                    return file
    raise NoSuchClass(f"there is no module {module}")

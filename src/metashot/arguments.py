"""What an argument may be: ranges that stand in a signature, and the check of given values against it.

A class says `inner_steps: Annotated[int, AtLeast(1)]`, and a configuration that gives it 0 is refused with the key's name
before anything is built.
"""

import inspect
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from metashot.bad_input import BadInput, one_of


@dataclass(frozen=True)
class AtLeast:
    limit: float

    def __contains__(self, value: float) -> bool:
        return value >= self.limit

    def __str__(self) -> str:
        return f"of at least {self.limit:g}"


@dataclass(frozen=True)
class AtMost:
    limit: float

    def __contains__(self, value: float) -> bool:
        return value <= self.limit

    def __str__(self) -> str:
        return f"and at most {self.limit:.10g}"


@dataclass(frozen=True)
class Above:
    limit: float

    def __contains__(self, value: float) -> bool:
        return value > self.limit

    def __str__(self) -> str:
        return f"above {self.limit:g}"


@dataclass(frozen=True)
class Below:
    limit: float

    def __contains__(self, value: float) -> bool:
        return value < self.limit

    def __str__(self) -> str:
        return f"and below {self.limit:g}"


# Upper limits lie far above what anybody trains with: a slip of the finger is refused before it takes all memory.
Count = Annotated[int, AtLeast(1), AtMost(10**9)]
Steps = Annotated[int, AtLeast(1), AtMost(10_000)]  # of adapting to one task
Episodes = Annotated[int, AtLeast(1), AtMost(10**7)]
Watched = Annotated[int, AtLeast(0), AtMost(10**7)]  # episodes, of those that are answered
Tasks = Annotated[int, AtLeast(1), AtMost(100_000)]  # at once
Images = Annotated[int, AtLeast(1), AtMost(100_000)]  # of a class in an episode, or points of a curve
Side = Annotated[int, AtLeast(1), AtMost(1024)]  # pixels
Channels = Annotated[int, AtLeast(1), AtMost(2048)]  # of a convolution
Units = Annotated[int, AtLeast(1), AtMost(16_384)]  # of a fully connected layer
Concentration = Annotated[float, AtLeast(1e-6), AtMost(1e6)]  # of a Dirichlet distribution
Seed = Annotated[int, AtLeast(0), AtMost(2**32 - 1)]
Positive = Annotated[float, Above(0)]
NotNegative = Annotated[float, AtLeast(0)]


def parameters_of(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a function or class is called with, annotations and all. A class that hands `**others` on to the one it derives
    from takes what that one takes."""
    if not inspect.isclass(target):
        return _of_function(target)
    parameters: dict[str, inspect.Parameter] = {}
    for kind in target.__mro__:
        if "__init__" in vars(kind) and kind is not object:
            own = _of_function(kind.__init__)  # type: ignore[misc]
            own.pop("self")
            parameters = own | parameters
            if all(p.kind is not p.VAR_KEYWORD for p in inspect.signature(kind.__init__).parameters.values()):  # type: ignore[misc]
                break
    return parameters


def _of_function(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    hints = get_type_hints(function, include_extras=True)
    return {
        name: parameter.replace(annotation=hints.get(name, Any))
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }


def check_arguments(target: Callable[..., Any], given: Mapping[str, Any], key: str, supplied: frozenset[str]) -> None:
    """Refuse `given` if `target` cannot be called with it. `supplied` are the arguments that the program adds itself."""
    parameters = {name: parameter for name, parameter in parameters_of(target).items() if name not in supplied}
    for name, value in given.items():
        if name not in parameters:
            raise BadInput(f"unknown key {key}.{name}; allowed under {key}: {one_of(parameters, name)}")
        check_value(value, parameters[name].annotation, f"{key}.{name}")
    missing = [name for name, p in parameters.items() if p.default is p.empty and name not in given]
    if missing:
        raise BadInput(f"missing key {key}.{missing[0]}: give it on the command line or in the configuration file of {key}")


def check_value(value: Any, hint: Any, key: str) -> None:
    """Refuse a value that is not what `hint` says."""
    if not _fits(value, hint):
        raise BadInput(f"{key}={_shown(value)} cannot be used; allowed: {_described(hint)}")


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _fits(value, arguments[0]) and (value is None or all(value in allowed for allowed in arguments[1:]))
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in arguments)
    if hint is type(None):
        return value is None
    if hint is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and abs(value) <= sys.float_info.max  # NaN is not
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    # An object: a node of the configuration that is built, and checks its own arguments.
    return not inspect.isclass(hint) or (isinstance(value, dict) and "_target_" in value)


def _described(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return " ".join([_described(arguments[0]), *map(str, arguments[1:])])
    if origin in (Union, types.UnionType):
        return " or ".join(_described(option) for option in arguments)
    if origin is Literal:
        return ", ".join(_shown(option) for option in arguments)
    if origin is list:
        return f"a list, each {_described(arguments[0])}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    if hint not in names and inspect.isclass(hint):
        return f"keys below it ({', '.join(parameters_of(hint))})"
    return names.get(hint, str(hint))


def _shown(value: Any) -> str:
    """A value as one writes it on the command line."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)

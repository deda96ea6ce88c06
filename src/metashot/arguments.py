"""Ranges of arguments, as annotations in signatures, and checks of values against them.

A class annotates `inner_steps: Annotated[int, AtLeast(1)]`, and a configuration with 0 is refused, with the key's
name, before anything is built.
"""

import inspect
import re
import sys
import types
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from metashot.bad_input import BadInput

_MAX_QUOTED = 200  # characters of a value that a message quotes


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


@dataclass(frozen=True)
class Matching:
    """Text that a regular expression matches completely; `meaning` describes it in messages."""

    pattern: str
    meaning: str

    def __contains__(self, value: str) -> bool:
        return re.fullmatch(self.pattern, value, re.ASCII) is not None

    def __str__(self) -> str:
        return self.meaning


class Node:
    """The type of an argument that is built from a node of the configuration; `node_of` makes it for a class."""

    target: str  # the full name of the class


@cache
def node_of(target: str) -> type[Node]:
    return type(target.rpartition(".")[2], (Node,), {"target": target})


# Upper limits lie far above what anybody trains with: a typing error is refused before it takes all memory.
Count = Annotated[int, AtLeast(1), AtMost(10**9)]
Steps = Annotated[int, AtLeast(1), AtMost(10_000)]  # inner steps on one task
Episodes = Annotated[int, AtLeast(1), AtMost(10**7)]
Watched = Annotated[int, AtLeast(0), AtMost(10**7)]  # number of episodes that are also scored after each inner step
Tasks = Annotated[int, AtLeast(1), AtMost(100_000)]  # at once
Images = Annotated[int, AtLeast(1), AtMost(100_000)]  # of a class in an episode, or points of a curve
Horizon = Annotated[int, AtLeast(1), AtMost(10_000)]  # steps of a trajectory
Strangers = Annotated[int, AtLeast(0), AtMost(10_000)]  # classes beside those of an episode
Share = Annotated[float, AtLeast(0), AtMost(1)]
Rate = Annotated[float, Above(0), Below(1)]  # of false alarms
Side = Annotated[int, AtLeast(1), AtMost(1024)]  # pixels
Channels = Annotated[int, AtLeast(1), AtMost(2048)]  # of a convolution
Units = Annotated[int, AtLeast(1), AtMost(16_384)]  # of a fully connected layer
Buckets = Annotated[int, AtLeast(2), AtMost(2**22)]  # into which tokens are hashed
TokensOfText = Annotated[int, AtLeast(1), AtMost(16_384)]  # the most that are read of a text
Concentration = Annotated[float, AtLeast(1e-6), AtMost(1e6)]  # of a Dirichlet distribution
Seed = Annotated[int, AtLeast(0), AtMost(2**32 - 1)]
_MOST = 1e30  # whose products with usual numbers are still below the largest one of 32 bits
Positive = Annotated[float, Above(0), AtMost(_MOST)]
NotNegative = Annotated[float, AtLeast(0), AtMost(_MOST)]


def check_value(value: Any, hint: Any, key: str, described: str = "") -> None:
    """Refuse a value that does not have the annotated type and range.

    Args:
        value: the value.
        hint: the annotation.
        key: the key of the value, for the message.
        described: a description of the allowed values; by default that of the annotation.

    Raises:
        BadInput: the value is not allowed.
    """
    if not _fits(value, hint):
        raise BadInput(f"{key}={_as_typed(value)} cannot be used; allowed: {described or _described(hint)}")


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
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(name, arguments[0]) and _fits(item, arguments[1]) for name, item in value.items()
        )
    # Nodes are checked on their own.
    return not inspect.isclass(hint) or (isinstance(value, dict) and "_target_" in value)


def _described(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return " ".join([_described(arguments[0]), *map(str, arguments[1:])])
    if origin in (Union, types.UnionType):
        return " or ".join(_described(option) for option in arguments)
    if origin is Literal:
        return ", ".join(_as_typed(option) for option in arguments)
    if origin is list:
        return f"a list, each {_described(arguments[0])}"
    if origin is dict:
        return f"keys below it, each {_described(arguments[1])}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return names.get(hint, str(hint))


def _as_typed(value: Any) -> str:
    """A value as it is typed on the command line."""
    if value is None:
        return "null"
    try:
        text = str(value)
    except ValueError:  # Python converts no integer of more than 4,300 digits
        return "a number of thousands of digits"
    text = text.lower() if isinstance(value, bool) else text
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}..."

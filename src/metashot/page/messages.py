"""What the page sends as JSON, checked in every part: it may come from anybody who can open a connection."""

import ast
import base64
import binascii
import json
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from metashot.applied.labels import is_plain
from metashot.bad_input import BadInput, in_one_line, shown
from metashot.checkpoints.stored import can_be_stored

MOST_EXAMPLES, MOST_CLASSES = 10_000, 1000
MOST_QUERIES = 1000
_LONGEST_NAME = 1000  # characters, as of a label in a fitted learner's file
_LONGEST_ID = 64

Label = Hashable  # as learners can save it


@dataclass(frozen=True)
class GivenClass:
    """A class with its examples, as the page names them."""

    name: str
    label: Label  # in the learner; the name unless the learner that was loaded has another
    items: list[str]


@dataclass(frozen=True)
class FitCall:
    learner: str
    tab: str
    classes: list[GivenClass]


@dataclass(frozen=True)
class KeptCall:
    """A call about a fit that is kept."""

    learner: str
    tab: str
    fit: int


@dataclass(frozen=True)
class AnswerCall(KeptCall):
    items: list[str]
    unknown: float | None
    steps: bool


@dataclass(frozen=True)
class PixelsCall:
    learner: str
    items: list[bytes]


def fit_call(body: bytes) -> FitCall:
    """Read what api/fit was sent.

    Raises:
        BadInput: It is not what the page sends.
    """
    given = _object(_parsed(body), "the request", ("learner", "tab", "classes"))
    classes = [_class(one, f"class {place}") for place, one in enumerate(_list(given["classes"], "classes", MOST_CLASSES))]
    if len(classes) < 2:
        raise BadInput("at least two classes are needed")
    if (count := sum(len(one.items) for one in classes)) > MOST_EXAMPLES:
        raise BadInput(f"{count:,} examples were given; allowed: at most {MOST_EXAMPLES:,}")
    _refuse_repeated([one.name for one in classes], "named")
    _refuse_repeated([one.label for one in classes], "labelled")
    return FitCall(_id(given["learner"], "learner"), _id(given["tab"], "tab"), classes)


def answer_call(body: bytes) -> AnswerCall:
    """Like `fit_call`, for api/answer."""
    given = _object(_parsed(body), "the request", ("learner", "tab", "fit", "items", "unknown", "steps"))
    if not isinstance(given["steps"], bool):
        raise _unusable("steps", given["steps"], "true or false")
    items = [_id(one, "items") for one in _list(given["items"], "items", MOST_QUERIES)]
    if not items:
        raise BadInput("no queries were given; at least one is needed")
    kept = _kept(given)
    return AnswerCall(kept.learner, kept.tab, kept.fit, items, _rate(given["unknown"]), given["steps"])


def kept_call(body: bytes) -> KeptCall:
    """Like `fit_call`, for api/save and api/graph."""
    return _kept(_object(_parsed(body), "the request", ("learner", "tab", "fit")))


def pixels_call(body: bytes) -> PixelsCall:
    """Like `fit_call`, for api/pixels."""
    given = _object(_parsed(body), "the request", ("learner", "items"))
    items = [_decoded(one) for one in _list(given["items"], "items", MOST_EXAMPLES)]
    return PixelsCall(_id(given["learner"], "learner"), items)


def _kept(given: Mapping[str, Any]) -> KeptCall:
    if type(given["fit"]) is not int or not 0 <= given["fit"] < 2**53:
        raise _unusable("fit", given["fit"], "the number of a fit")
    return KeptCall(_id(given["learner"], "learner"), _id(given["tab"], "tab"), given["fit"])


def _class(given: Any, what: str) -> GivenClass:
    found = _object(given, what, ("name", "items"), ("label",))
    name = found["name"]
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
        raise _unusable(f"the name of {what}", name, f"text of 1 to {_LONGEST_NAME:,} characters")
    label: Label = _as_label(found["label"], what) if "label" in found else name
    for text in (name, label):
        if isinstance(text, str) and not _is_unicode(text):
            raise _unusable(f"the name of {what}", text, "Unicode text")
    items = [_id(one, "items") for one in _list(found["items"], f"the items of {what}", MOST_EXAMPLES)]
    if not items:
        raise BadInput(f"{what}, {shown(name)}, has no examples; each class needs at least one")
    return GivenClass(name, label, items)


def told_label(label: Label, name: str) -> dict[str, str]:
    """What the page is told of a label that is not its name, and gives back: the label as Python writes it.

    JSON would change some numbers. Labels that cannot be told, such as infinity, become their names.
    """
    if isinstance(label, str) and label == name:
        return {}
    try:
        text = repr(label)
        is_told = len(text) <= _LONGEST_NAME and repr(ast.literal_eval(text)) == text
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        is_told = False
    return {"label": text} if is_told else {}


def _as_label(given: Any, what: str) -> Label:
    """The label that `told_label` has told the page."""
    allowed = "text, a number, True, False, None, or a tuple of these, as Python writes it"
    if not isinstance(given, str) or len(given) > _LONGEST_NAME:
        raise _unusable(f"the label of {what}", given, allowed)
    try:
        label = ast.literal_eval(given)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise _unusable(f"the label of {what}", given, allowed) from None
    if not is_plain(label) or not can_be_stored([label]):
        raise _unusable(f"the label of {what}", given, allowed)
    hashable: Label = label
    return hashable


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_repeated(labels: list[Any], how: str) -> None:
    if len(set(labels)) < len(labels):
        repeated = next(label for label in labels if labels.count(label) > 1)
        raise BadInput(f"two classes are {how} {shown(repeated)}: give each another name")


def _rate(given: Any) -> float | None:
    if given is None:
        return None
    if not isinstance(given, int | float) or isinstance(given, bool) or not 0 < given < 1:
        raise _unusable("unknown", given, "null, or a rate of false alarms such as 0.05")
    return float(given)


def _id(given: Any, what: str) -> str:
    if not isinstance(given, str) or not 0 < len(given) <= _LONGEST_ID or not given.isascii() or not given.isprintable():
        raise _unusable(what, given, f"an identifier of at most {_LONGEST_ID} characters")
    return given


def _decoded(given: Any) -> bytes:
    try:
        return base64.b64decode(given, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise _unusable("items", given, "pixels in base64") from None


def _list(given: Any, what: str, most: int) -> list[Any]:
    if not isinstance(given, list):
        raise _unusable(what, given, "a list")
    if len(given) > most:
        raise BadInput(f"{what} has {len(given):,} entries; allowed: at most {most:,}")
    return given


def _object(given: Any, what: str, needed: tuple[str, ...], others: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise _unusable(what, given, f"an object with the keys {', '.join(needed)}")
    missing = [key for key in needed if key not in given]
    strange = [key for key in given if key not in needed and key not in others]
    if missing or strange:
        which = f"lacks the key {missing[0]}" if missing else f"has the unknown key {shown(strange[0])}"
        raise BadInput(f"{what} {which}; allowed: {', '.join((*needed, *others))}")
    return given


def _unusable(what: str, given: Any, allowed: str) -> BadInput:
    return BadInput(f"{what}={shown(given)} cannot be used; allowed: {allowed}")


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_without_repeats)
    except BadInput:
        raise
    except RecursionError:
        raise BadInput("the request is nested too deeply") from None
    except (ValueError, UnicodeDecodeError) as error:  # damaged, or with a number of thousands of digits
        raise BadInput(f"the request is not JSON: {in_one_line(str(error))[:200]}") from None


def _refuse(constant: str) -> NoReturn:
    raise BadInput(f"the request has the number {constant}; allowed: finite numbers")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _refuse(text[:50])
    return number


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BadInput("the request has a key twice")
    return found

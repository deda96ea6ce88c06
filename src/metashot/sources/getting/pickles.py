"""Reads the pickles of few-shot data sets without running code from them and without loading them into memory.

A pickle is a program for a small stack machine. This module implements that machine for plain containers and numpy arrays
only: it never imports what a file names, and an array is a read-only view of the mapped file if the file stores the array's
raw bytes.
"""

import math
import mmap
import re
import struct
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from metashot.bad_input import BadInput
from metashot.sources.getting.pickle_program import Damaged, Piece, instructions, utf8

_LARGEST_KEY = 2**31
# The memory that the program's objects may take, in bytes: per byte of the file, and in addition. An empty list takes 80
# bytes and one byte of program; the objects of data sets take at most 10 bytes per byte of the file.
_ROOM, _ROOM_OF_ANY = 16, 2**26
_TUPLE, _LIST, _DICT, _SET, _ORDERED, _ENTRY, _ARRAY, _DTYPE = 64, 120, 248, 240, 400, 64, 128, 160
_T = TypeVar("_T")
_GETS = ("GET", "BINGET", "LONG_BINGET")
_SCALARS = (str, bytes, int, float, bool, type(None), np.generic)


Take = Callable[[NDArray[Any], int | None], Any]


def read_pickle(path: Path, take: Take | None = None) -> Any:
    """Read the plain containers and arrays of a pickle; large arrays are memory-mapped from the file, not read.

    The result equals `pickle.load(file, encoding="latin1")`: strings of Python 2 become `str`. Arrays are read-only and keep
    their byte order. The file must not change while they are in use.

    Args:
        path: the pickle.
        take: called with each numeric array as it is created, and with the position of its first byte in the file, or None
            if the file stores it in another form. Its result replaces the array, so that half a million images need not be
            kept.

    Returns:
        The pickled object.

    Raises:
        BadInput: if the file cannot be read, is damaged, or needs anything but plain containers and arrays.
    """
    try:
        with path.open("rb") as file:
            if not file.seek(0, 2):
                raise BadInput(f"{path} is empty, not a pickle: fetch or copy the file again")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; check the path and its permissions") from error
    try:
        return _Machine(data, take).run()
    except _Refused as error:
        raise BadInput(f"{path}: this pickle {error!s:.300}; it was not loaded") from error
    # The exceptions of Python and numpy for invalid numbers, strings and shapes in a damaged program.
    except (Damaged, LookupError, TypeError, ValueError, OverflowError, struct.error) as error:
        reason = f"{error!s:.300}"
        raise BadInput(f"{path} is damaged or not a pickle: {reason}; fetch or copy the file again") from error


class _Refused(Exception):
    """The pickle is valid, but needs something other than plain containers and arrays."""


# The functions that the program may call, each reimplemented here.


class _Function:
    """A function that a pickle may name."""

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.name = name
        self.call = call


class _Unfinished:
    """An array or dtype that has been created but not yet given its state."""

    __slots__ = ("finish", "value")

    def __init__(self, finish: Callable[["_Machine", Any], Any]) -> None:
        self.finish = finish
        self.value: Any = None


def _array(machine: "_Machine", *_: Any) -> _Unfinished:
    return _Unfinished(_array_from_state)


def _array_from_state(machine: "_Machine", state: Any) -> Any:
    _, shape, dtype, fortran, content = state
    return machine.taken_array(content, dtype, shape, "F" if fortran else "C", None)


def _array_from_buffer(machine: "_Machine", content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> Any:
    return machine.taken_array(content, dtype, shape, "F" if order == "F" else "C", axes)


def _scalar(machine: "_Machine", dtype: Any, content: Any) -> Any:
    return machine.array(content, dtype, (), "C")[()]


def _dtype(machine: "_Machine", code: Any, *_: Any) -> _Unfinished:
    if not re.fullmatch(r"[biufcSU][1-9]\d{0,8}|O[48]?", code):
        raise _Refused(f"holds an array of dtype {code[:20]!r}; numbers, booleans, strings and plain objects can be read")
    machine.make_room(_DTYPE)
    return _Unfinished(partial(_dtype_from_state, code))


def _dtype_from_state(code: str, machine: "_Machine", state: Any) -> np.dtype[Any]:
    byte_order = state[1]
    if byte_order not in ("<", ">", "|", "="):
        raise Damaged("it describes a dtype that does not exist")
    return np.dtype(object) if code[0] == "O" else np.dtype(byte_order + code)


def _encoded(machine: "_Machine", text: Any, encoding: Any) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"wants text in the encoding {encoding[:20]!r}, which Python does not use for bytes")
    return machine.copy_of(bytes, str.encode(machine.settled(text), "latin-1"))


def _bytes(machine: "_Machine") -> bytes:
    return b""  # Python 3 uses this name only for empty bytes, in the protocols of Python 2


def _bytearray(machine: "_Machine", content: Any = b"", encoding: Any = None) -> bytearray:
    return machine.copy_of(bytearray, machine.settled(content) if encoding is None else _encoded(machine, content, encoding))


def _set(machine: "_Machine", members: Any = ()) -> set[Any]:
    machine.make_room(_SET + _ENTRY * len(members))
    return machine.copy_of(set, [machine.key(member) for member in members])


def _frozenset(machine: "_Machine", members: Any = ()) -> frozenset[Any]:
    machine.make_room(_SET + _ENTRY * len(members))
    return machine.copy_of(frozenset, [machine.key(member) for member in members])


def _ordered(machine: "_Machine", pairs: Any = ()) -> OrderedDict[Any, Any]:
    machine.make_room(_ORDERED + _ENTRY * len(pairs))
    return machine.copy_of(OrderedDict, [(machine.key(key), machine.settled(value)) for key, value in pairs])


def _no_call(machine: "_Machine", *_: Any) -> Any:
    raise Damaged("it makes an array without saying how")


_FUNCTIONS = {
    (module, name): _Function(f"{module}.{name}", call)
    for modules, name, call in (
        (("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct", _array),
        (("numpy.core.multiarray", "numpy._core.multiarray"), "scalar", _scalar),
        (("numpy.core.numeric", "numpy._core.numeric"), "_frombuffer", _array_from_buffer),
        (("numpy",), "ndarray", _no_call),
        (("numpy",), "dtype", _dtype),
        (("_codecs",), "encode", _encoded),
        (("__builtin__", "builtins"), "bytes", _bytes),
        (("__builtin__", "builtins"), "bytearray", _bytearray),
        (("__builtin__", "builtins"), "set", _set),
        (("__builtin__", "builtins"), "frozenset", _frozenset),
        (("collections",), "OrderedDict", _ordered),
    )
    for module in modules
}


# The machine.


class _Machine:
    """The stack, the memo and the marks while a pickle is read."""

    def __init__(self, data: mmap.mmap, take: Take | None) -> None:
        self.data = data
        self.take = take
        self.mapped = np.frombuffer(data, np.uint8)
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under the marks
        self.memo: dict[int, Any] = {}
        self.memoized = 0
        self.copied = 0
        self.room = _ROOM * len(data) + _ROOM_OF_ANY
        # A pickle memoizes every object but reuses few. Only reused objects are kept: a list of half a million images would
        # otherwise have ten times as many memo entries.
        self.wanted = {key for name, key in instructions(data) if name in _GETS}

    def run(self) -> Any:
        name = ""
        try:
            for name, argument in instructions(self.data):
                if name not in _OPERATIONS:
                    raise _Refused(f"uses {name}, which arrays and plain containers do not need")
                _OPERATIONS[name](self, argument)
        except IndexError as error:
            raise Damaged(f"{name} asks for more values than there are") from error
        return self.settled(self.stack.pop())

    # Values

    def settled(self, value: Any) -> Any:
        """A value that may be put into a container: strings are read, and nothing internal to the machine is left in it."""
        kind = type(value)
        if kind is tuple:
            # Inner tuples were settled when this one was created, so the recursion is shallow however deep they are nested.
            self.make_room(8 * len(value))
            return tuple(map(self.settled, value)) if any(type(item) in _OWN for item in value) else value
        if kind is Piece:
            if value.value is None:
                value.value = value.decode(self.data[value.start : value.stop])
            return value.value
        if kind is _Function:
            raise _Refused(f"wants to load {value.name}, which is not an array or a plain container")
        if kind is _Unfinished:
            raise Damaged("it uses an array before it is there")
        return value

    def key(self, value: Any) -> Any:
        """A settled value that is safe to hash; hashing a very deep tuple would crash Python."""
        value = self.settled(value)
        for item in value if type(value) is tuple else (value,):
            if isinstance(item, int) and abs(item) >= _LARGEST_KEY:  # an attacker could choose numbers with equal hashes
                raise _Refused(f"uses numbers from {_LARGEST_KEY:,} on as keys")
            if not isinstance(item, _SCALARS):
                raise _Refused(
                    f"uses a {type(item).__name__} as a key, and only text, numbers and tuples of them can be one"
                )
        return value

    def charge(self, size: int) -> None:
        """Account for a copy of the file's content, since a few bytes of program could make endless copies."""
        self.copied += size
        if self.copied > 4 * len(self.data):
            raise Damaged("it copies its content again and again")

    def make_room(self, size: int) -> None:
        """Account for the memory of an object, which a few bytes of program can create."""
        self.room -= size
        if self.room < 0:
            raise _Refused(f"holds far more containers than a data set of {len(self.data):,} bytes")

    def copy_of(self, kind: Callable[[Any], _T], content: Any) -> _T:
        self.charge(len(content))
        return kind(content)

    def taken_array(self, content: Any, dtype: Any, shape: Any, order: Literal["C", "F"], axes: Any) -> Any:
        array = self.array(content, dtype, shape, order)
        if axes is not None:
            array = array.transpose(axes)
        if self.take is None or array.dtype.hasobject:
            return array
        return self.take(array, content.start if _lies_in_the_file(content) else None)

    def array(self, content: Any, dtype: Any, shape: Any, order: Literal["C", "F"]) -> NDArray[Any]:
        """Create an array, as a view of the file if its content has not been read."""
        if not isinstance(dtype, np.dtype):
            raise Damaged("an array lacks its dtype")
        if type(shape) is not tuple or len(shape) > 32 or not all(type(size) is int and size >= 0 for size in shape):
            raise Damaged("an array has an impossible shape")
        self.make_room(_ARRAY)
        array = self.objects(content, shape) if dtype.hasobject else self.numbers(content, dtype, shape, order)
        array.flags.writeable = False
        return array

    def objects(self, content: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        if type(content) is not list:
            raise Damaged("an array of objects lacks its objects")
        array = np.empty(len(content), object)
        for index, item in enumerate(self.copy_of(list, content)):
            array[index] = item
        return array.reshape(shape)  # numpy lists the objects of Fortran arrays row by row, too

    def numbers(self, content: Any, dtype: np.dtype[Any], shape: tuple[int, ...], order: Literal["C", "F"]) -> NDArray[Any]:
        buffer: Any = self.mapped
        if _lies_in_the_file(content):
            start, stop = content.start, content.stop
        else:
            content = self.settled(content)
            buffer = _encoded(self, content, "latin1") if type(content) is str else content
            if not isinstance(buffer, bytes | bytearray):
                raise Damaged(f"the content of an array is a {type(buffer).__name__}")
            start, stop = 0, len(buffer)
        if math.prod(shape) * dtype.itemsize != stop - start:
            raise Damaged(f"an array of shape {shape} and dtype {dtype} has {stop - start:,} bytes")
        if dtype.kind == "U" and stop > start:
            self.charge(stop - start)
            characters: NDArray[np.uint32] = np.ndarray((stop - start) // 4, dtype.str[0] + "u4", buffer, start)
            if characters.max() > 0x10FFFF:  # numpy would only fail when the text is used
                raise Damaged("an array of text holds characters that do not exist")
        return np.ndarray(shape, dtype, buffer, start, order=order)

    # Instructions

    def container(self, *kinds: type) -> Any:
        if not isinstance(self.stack[-1], kinds):
            raise Damaged("it adds to something that is no container")
        return self.stack[-1]

    def push(self, argument: Any) -> None:
        self.stack.append(argument)

    def push_container(self, kind: Callable[[], Any], size: int) -> None:
        self.make_room(size)
        self.stack.append(kind())

    def mark(self, _: None) -> None:
        self.make_room(_LIST)
        self.below.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def taken(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise IndexError
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def pop(self, _: None) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.marked()

    def add_tuple(self, items: list[Any]) -> None:
        self.make_room(_TUPLE + 8 * len(items))
        self.stack.append(tuple([self.settled(item) if type(item) is tuple else item for item in items]))

    def add_items(self, items: list[Any]) -> None:
        self.container(list).extend(map(self.settled, items))

    def add_pairs(self, items: list[Any]) -> None:
        self.make_room(_ENTRY * (len(items) // 2))
        keys = map(self.key, items[::2])
        self.container(dict).update(zip(keys, map(self.settled, items[1::2]), strict=True))

    def add_members(self, items: list[Any]) -> None:
        self.make_room(_ENTRY * len(items))
        self.container(set).update(map(self.key, items))

    def make(self, kind: Callable[[], Any], size: int, add: Callable[["_Machine", list[Any]], None]) -> None:
        items = self.marked()
        self.push_container(kind, size)
        add(self, items)

    def put(self, key: int) -> None:
        self.memoized += 1
        if key in self.wanted:
            self.memo[key] = self.stack[-1]

    def get(self, key: int) -> None:
        if key not in self.memo:
            raise Damaged(f"it asks for value {key}, which it never made")
        value = self.memo[key]
        finished = type(value) is _Unfinished and value.value is not None
        self.stack.append(value.value if finished else value)

    def name(self, module: Any, name: Any) -> None:
        if not all(part.isidentifier() for part in f"{module}.{name}".split(".")):
            raise Damaged("it names something that can have no such name")
        if (module, name) not in _FUNCTIONS:
            raise _Refused(f"wants to load {module}.{name}, which is not an array or a plain container")
        self.stack.append(_FUNCTIONS[module, name])

    def instance(self, module_and_name: tuple[str, str]) -> None:
        self.name(*module_and_name)
        raise _Refused("makes an object of a class, which is not an array or a plain container")

    def reduce(self, _: None) -> None:
        function, arguments = self.taken(2)
        if type(function) is not _Function or type(arguments) is not tuple:
            raise Damaged("it calls something that is no function")
        self.stack.append(function.call(self, *arguments))

    def build(self, _: None) -> None:
        unfinished, state = self.taken(2)
        if type(unfinished) is not _Unfinished:
            raise Damaged("it gives a state to something that has none")
        unfinished.value = unfinished.finish(self, state)
        self.stack.append(unfinished.value)

    def begin(self, protocol: int) -> None:
        if protocol > 5:
            raise Damaged(f"it says to be of protocol {protocol}, the newest is 5")


def _lies_in_the_file(content: Any) -> bool:
    """Whether the content of an array is part of the file and needs no decoding."""
    return type(content) is Piece and content.decode is not utf8


_OWN = (Piece, _Function, _Unfinished)

_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"), _Machine.push),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _Machine.push),
    **dict.fromkeys(("BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _Machine.push),
    **dict.fromkeys(_GETS, _Machine.get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    "MEMOIZE": lambda machine, _: machine.put(machine.memoized),
    "PROTO": _Machine.begin,
    "FRAME": lambda machine, length: None,
    "STOP": lambda machine, _: None,
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": lambda machine, _: machine.marked().clear(),
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.add_tuple(machine.taken(1)),
    "TUPLE2": lambda machine, _: machine.add_tuple(machine.taken(2)),
    "TUPLE3": lambda machine, _: machine.add_tuple(machine.taken(3)),
    "TUPLE": lambda machine, _: machine.add_tuple(machine.marked()),
    "EMPTY_LIST": lambda machine, _: machine.push_container(list, _LIST),
    "LIST": lambda machine, _: machine.make(list, _LIST, _Machine.add_items),
    "APPEND": lambda machine, _: machine.add_items(machine.taken(1)),
    "APPENDS": lambda machine, _: machine.add_items(machine.marked()),
    "EMPTY_DICT": lambda machine, _: machine.push_container(dict, _DICT),
    "DICT": lambda machine, _: machine.make(dict, _DICT, _Machine.add_pairs),
    "SETITEM": lambda machine, _: machine.add_pairs(machine.taken(2)),
    "SETITEMS": lambda machine, _: machine.add_pairs(machine.marked()),
    "EMPTY_SET": lambda machine, _: machine.push_container(set, _SET),
    "ADDITEMS": lambda machine, _: machine.add_members(machine.marked()),
    "FROZENSET": lambda machine, _: machine.push(_frozenset(machine, machine.marked())),
    "GLOBAL": lambda machine, module_and_name: machine.name(*module_and_name),
    "STACK_GLOBAL": lambda machine, _: machine.name(*map(machine.settled, machine.taken(2))),
    "INST": _Machine.instance,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}

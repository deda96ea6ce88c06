"""Archives that torch has saved, read without torch's own unpickler: plain containers and dense tensors, and nothing else.

An archive may come from anybody. So nothing that it names is imported or called, and all that is taken from it is bounded by
what its file holds: no member is compressed, no tensor is larger than its bytes, no container stands for more than it has.
"""

import errno
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, ClassVar

_MOST_PICKLED = 2**24  # bytes of the pickle, which holds no tensors
_MOST_INSTRUCTIONS = 2_000_000  # of it
_MOST_VALUES = 200_000  # in all containers, where one that is named twice counts twice
_DEEPEST = 100  # containers in one another
_MOST_DIMENSIONS, _LARGEST = 8, 2**48  # of a tensor: how many, and how large any is
_DTYPES = {  # of torch's storages, with the bytes of an element
    "DoubleStorage": ("float64", 8),
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
}
_BYTES = dict(_DTYPES.values())
# Instructions of pickle that build containers, strings, numbers and tensors; each argument lies in the pickle as it is.
_INSTRUCTIONS = frozenset(
    {
        *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
        *("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "SETITEM", "SETITEMS", "APPEND", "APPENDS"),
        *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
        *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE"),
    }
)
_PLAIN = (str, int, float, bool, type(None))


class Unusable(Exception):
    """A file is not an archive that can be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A tensor as the archive describes it: all but its values."""

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    storage: str  # the name of its bytes in the archive
    bytes: int  # of the storage, which other tensors may share

    @property
    def claimed(self) -> int:
        """The bytes that the tensor would have alone."""
        return prod(self.shape) * _BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class _Storage:
    dtype: str
    key: str
    length: int


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of storage."""

    dtype: str


def outline(path: Path) -> Any:
    """What a whole archive holds, with an `Outline` in the place of each tensor. Does not import torch.

    Raises:
        Unusable: if the file is damaged, is not such an archive, or holds anything else.
    """
    with _opened(path) as archive:
        if broken := archive.testzip():  # the checksums show a single flipped bit
            raise Unusable(f"it is damaged ({broken} inside it does not match its checksum)")
        return _settled(_contents(archive), lambda tensor: tensor)


def read_archive(path: Path) -> Any:
    """What an archive holds, with its tensors on the CPU.

    Raises:
        Unusable: if the file is damaged, is not such an archive, or holds anything else.
    """
    import torch

    with _opened(path) as archive:
        root = _root(archive)
        storages: dict[str, torch.Tensor] = {}

        def tensor(described: Outline) -> torch.Tensor:
            dtype: torch.dtype = getattr(torch, described.dtype)
            if described.storage not in storages:
                name = f"{root}data/{described.storage}"
                values = torch.empty(archive.getinfo(name).file_size // dtype.itemsize, dtype=dtype)
                _read_into(archive, name, memoryview(values.view(torch.uint8).numpy()))  # type: ignore[arg-type]
                storages[described.storage] = values
            stored = storages[described.storage]
            if not stored.numel():
                return torch.empty(described.shape, dtype=dtype)
            return stored.as_strided(described.shape, described.stride, described.offset)

        return _settled(_contents(archive), tensor)


def _read_into(archive: zipfile.ZipFile, name: str, target: memoryview) -> None:
    """Fill the memory of a tensor; at the end of a member its checksum is checked."""
    with archive.open(name) as member:
        filled = 0
        while count := member.readinto(target[filled:]):  # type: ignore[attr-defined]
            filled += count
        if filled < len(target) or member.read(1):
            raise Unusable(f"it is damaged ({name} inside it is not as long as it says)")


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    if not path.is_file():  # a pipe would be waited for
        raise Unusable("it is not a regular file")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise Unusable("it has compressed members, which torch.save does not write")
            if sum(member.file_size for member in members) > path.stat().st_size:
                raise Unusable("its members are larger than the file")
            if len({member.filename for member in members}) < len(members):
                raise Unusable("it has several members of one name")
            yield archive
    except Unusable:
        raise
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # zipfile's own, and that of a place before a file's beginning
            raise Unusable(f"it is damaged ({_first_line(error)})") from error
        raise Unusable(f"it cannot be read: {error.strerror or error}") from error
    # What a damaged file makes zipfile, pickle and struct raise.
    except (EOFError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise Unusable(f"it is damaged ({_first_line(error)})") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, pickle.UnpicklingError, AssertionError) as error:
        raise Unusable(f"it is damaged ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _root(archive: zipfile.ZipFile) -> str:
    """The name of the folder that all members lie in."""
    pickled = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickled) != 1:
        raise Unusable("it is not an archive that torch.save wrote")
    return pickled[0].removesuffix("data.pkl")


def _contents(archive: zipfile.ZipFile) -> Any:
    root = _root(archive)
    if archive.getinfo(f"{root}data.pkl").file_size > _MOST_PICKLED:
        raise Unusable(f"it describes its contents in more than {_MOST_PICKLED:,} bytes")
    names = set(archive.namelist())
    if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
        raise Unusable("its numbers are written in another byte order")
    for name in names:
        if not name.startswith(f"{root}data/"):
            archive.read(name)  # checks its checksum; those of the tensors are checked when they are read
    return _Unpickler(archive, root).load()


class _Unpickler(pickle._Unpickler):  # in Python: the one in C takes memory for whatever number a pickle names
    stack: list[Any]  # since the last mark

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        self.archive, self.root = archive, root
        content = archive.read(f"{root}data.pkl")
        for number, (instruction, _, place) in enumerate(pickletools.genops(content)):
            if instruction.name not in _INSTRUCTIONS or number > _MOST_INSTRUCTIONS:
                raise Unusable(f"it holds more than plain containers and tensors ({instruction.name} at byte {place:,})")
        super().__init__(archive.open(f"{root}data.pkl"))

    # What a dictionary has as keys is hashed: of deep tuples and of chosen numbers that takes for ever.
    def _set_item(self) -> None:
        _refuse_other_keys([self.stack[-2]])
        super().load_setitem()  # type: ignore[misc]

    def _set_items(self) -> None:
        _refuse_other_keys(self.stack[::2])
        super().load_setitems()  # type: ignore[misc]

    def _call(self) -> None:
        function, arguments = self.stack[-2:]
        if not (function is OrderedDict and arguments == ()) and function is not _described:
            raise Unusable("it holds more than plain containers and tensors: it calls what it names")
        super().load_reduce()  # type: ignore[misc]

    def _set_state(self) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if type(built) is not OrderedDict or type(state) is not dict or list(state) != ["_metadata"]:
            raise Unusable("it holds more than plain containers and tensors: it sets what an object holds")
        built._metadata = state["_metadata"]  # type: ignore[attr-defined]

    dispatch: ClassVar[Any] = {
        **pickle._Unpickler.dispatch,  # type: ignore[attr-defined]
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.REDUCE[0]: _call,
        pickle.BUILD[0]: _set_state,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _described
        if module == "torch" and name in _DTYPES:
            return _Kind(name)
        raise Unusable(f"it holds more than plain containers and tensors: it names {module}.{name}")

    def persistent_load(self, described: Any) -> _Storage:
        word, kind, key, _, length = described
        if word != "storage" or not isinstance(kind, _Kind) or not isinstance(key, str) or type(length) is not int:
            raise Unusable("a tensor in it is not described as torch does")
        dtype, size = _DTYPES[kind.dtype]
        if self.archive.getinfo(f"{self.root}data/{key}").file_size != length * size:
            raise Unusable(f"a tensor in it has other than {length} values")
        return _Storage(dtype, key, length)


def _described(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Outline:
    if type(shape) is not tuple or type(stride) is not tuple or not len(shape) == len(stride) <= _MOST_DIMENSIONS:
        raise Unusable("a tensor in it is not described as torch does")
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, _Storage) or any(type(number) is not int or not 0 <= number < _LARGEST for number in numbers):
        raise Unusable("a tensor in it is not described as torch does")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if prod(shape) and (last >= storage.length or prod(shape) > storage.length):
        raise Unusable(f"a tensor in it claims the shape {list(shape)[:8]}, but has {storage.length} values")
    return Outline(storage.dtype, shape, stride, offset, storage.key, storage.length * _BYTES[storage.dtype])


def _refuse_other_keys(keys: list[Any]) -> None:
    if not all(type(key) is str or (type(key) is int and abs(key) < 2**31) for key in keys):
        raise Unusable("it holds a dictionary whose keys are neither text nor small numbers")


def _settled(content: Any, tensor: Callable[[Outline], Any]) -> Any:
    """A copy made of plain containers, with whatever `tensor` makes of each tensor."""
    count = 0

    def settled(value: Any, depth: int) -> Any:
        nonlocal count
        count += 1
        if count > _MOST_VALUES or depth > _DEEPEST:
            raise Unusable("it holds more values than a checkpoint has")
        if type(value) in _PLAIN:
            return value
        if type(value) in (list, tuple):
            return type(value)(settled(item, depth + 1) for item in value)
        if type(value) in (dict, OrderedDict):
            copied = type(value)((settled(key, depth + 1), settled(item, depth + 1)) for key, item in dict.items(value))
            if type(value) is OrderedDict and "_metadata" in vars(value):
                copied._metadata = _versions(settled(vars(value)["_metadata"], depth + 1))
            return copied
        if isinstance(value, Outline):
            return tensor(value)
        raise Unusable(f"it holds more than plain containers and tensors: a {type(value).__name__}")

    return settled(content, 0)


def _versions(metadata: Any) -> Any:
    """What torch notes of a module's parts beside its weights: their versions."""
    parts = metadata.values() if isinstance(metadata, dict) else [None]
    if not all(isinstance(part, dict) and type(part.get("version", 1)) is int for part in parts):
        raise Unusable("it notes of its modules what torch does not")
    return metadata

"""Reads archives of `torch.save` without torch's unpickler: plain containers and dense tensors, and nothing else.

An archive is not trusted. Nothing that it names is imported or called, and the size of its contents is bounded by the size
of its file: no member is compressed, no tensor is larger than its storage, and containers hold a limited number of values.
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

_MAX_PICKLE_BYTES = 2**24  # of the pickle, which holds no tensors
_MAX_INSTRUCTIONS = 2_000_000  # of the pickle
_MAX_VALUES = 200_000  # in all containers; one that is referenced twice counts twice
_MAX_DEPTH = 100  # of nested containers
_MAX_DIMENSIONS, _MAX_SIZE = 8, 2**48  # of a tensor: its number of dimensions, and each size, stride and offset
_DTYPES = {  # torch's storage types: the dtype and the bytes of an element
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
# The pickle instructions that build containers, strings, numbers and tensors.
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
    """The file is not a usable archive; the message says why."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A tensor as the archive describes it, without its values."""

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    storage: str  # the name of its storage in the archive
    bytes: int  # size of the storage, which other tensors may share

    @property
    def claimed_bytes(self) -> int:
        """The bytes that the tensor would take in a storage of its own."""
        return prod(self.shape) * _BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class _Storage:
    dtype: str
    key: str
    length: int


@dataclass(frozen=True, slots=True)
class _StorageType:
    """The type of a storage, before its size is known."""

    dtype: str


def outline(path: Path) -> Any:
    """Read an archive and verify all its checksums, without importing torch.

    Args:
        path: the file.

    Returns:
        Its contents, with an `Outline` in place of each tensor.

    Raises:
        Unusable: the file is damaged, is not such an archive, or holds anything else.
    """
    with _opened(path) as archive:
        if broken := archive.testzip():  # the checksums show a single flipped bit
            raise Unusable(f"it is damaged ({broken} inside it does not match its checksum)")
        return _plain_copy(_contents(archive), lambda tensor: tensor)


def read_archive(path: Path) -> Any:
    """Read an archive.

    Args:
        path: the file.

    Returns:
        Its contents, with tensors on the CPU.

    Raises:
        Unusable: the file is damaged, is not such an archive, or holds anything else.
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

        return _plain_copy(_contents(archive), tensor)


def _read_into(archive: zipfile.ZipFile, name: str, target: memoryview) -> None:
    """Read a member into the memory of a tensor. Reading to its end verifies its checksum."""
    with archive.open(name) as member:
        filled = 0
        while count := member.readinto(target[filled:]):  # type: ignore[attr-defined]
            filled += count
        if filled < len(target) or member.read(1):
            raise Unusable(f"it is damaged ({name} inside it does not have the length that it states)")


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    if not path.is_file():  # reading a pipe could block
        raise Unusable("it is not a regular file")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise Unusable("it has compressed members, which torch.save does not write")
            if sum(member.file_size for member in members) > path.stat().st_size:
                raise Unusable("its members are larger than the file")
            if len({member.filename for member in members}) < len(members):
                raise Unusable("it has several members with the same name")
            yield archive
    except Unusable:
        raise
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # raised by zipfile, and for a negative file position
            raise Unusable(f"it is damaged ({_first_line(error)})") from error
        raise Unusable(f"it cannot be read: {error.strerror or error}") from error
    # Errors that zipfile, pickle and struct raise for a damaged file.
    except (EOFError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise Unusable(f"it is damaged ({_first_line(error)})") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, pickle.UnpicklingError, AssertionError) as error:
        raise Unusable(f"it is damaged ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _root(archive: zipfile.ZipFile) -> str:
    """The name of the top folder of the archive, with a slash."""
    pickled = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickled) != 1:
        raise Unusable("it is not an archive that torch.save wrote")
    return pickled[0].removesuffix("data.pkl")


def _contents(archive: zipfile.ZipFile) -> Any:
    root = _root(archive)
    if archive.getinfo(f"{root}data.pkl").file_size > _MAX_PICKLE_BYTES:
        raise Unusable(f"its pickle has more than {_MAX_PICKLE_BYTES:,} bytes")
    names = set(archive.namelist())
    if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
        raise Unusable("its numbers are written in another byte order")
    for name in names:
        if not name.startswith(f"{root}data/"):
            archive.read(name)  # verifies its checksum; checksums of tensors are verified when those are read
    return _Unpickler(archive, root).load()


class _Unpickler(pickle._Unpickler):  # in Python: the C version allocates memory for any size that a pickle names
    stack: list[Any]  # since the last mark

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        self.archive, self.root = archive, root
        content = archive.read(f"{root}data.pkl")
        for number, (instruction, _, place) in enumerate(pickletools.genops(content)):
            if instruction.name not in _INSTRUCTIONS or number > _MAX_INSTRUCTIONS:
                raise Unusable(f"it holds more than plain containers and tensors ({instruction.name} at byte {place:,})")
        super().__init__(archive.open(f"{root}data.pkl"))

    # Keys are hashed, which takes forever for deep tuples and for maliciously chosen numbers.
    def _set_item(self) -> None:
        _refuse_unsafe_keys([self.stack[-2]])
        super().load_setitem()  # type: ignore[misc]

    def _set_items(self) -> None:
        _refuse_unsafe_keys(self.stack[::2])
        super().load_setitems()  # type: ignore[misc]

    def _call(self) -> None:
        function, arguments = self.stack[-2:]
        if not (function is OrderedDict and arguments == ()) and function is not _tensor_outline:
            raise Unusable("it holds more than plain containers and tensors: it calls a function")
        super().load_reduce()  # type: ignore[misc]

    def _set_state(self) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if type(built) is not OrderedDict or type(state) is not dict or list(state) != ["_metadata"]:
            raise Unusable("it holds more than plain containers and tensors: it sets the state of an object")
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
            return _tensor_outline
        if module == "torch" and name in _DTYPES:
            return _StorageType(name)
        raise Unusable(f"it holds more than plain containers and tensors: it names {module}.{name}")

    def persistent_load(self, described: Any) -> _Storage:
        word, kind, key, _, length = described
        if word != "storage" or not isinstance(kind, _StorageType) or not isinstance(key, str) or type(length) is not int:
            raise Unusable("a tensor in it is not described as torch describes tensors")
        dtype, size = _DTYPES[kind.dtype]
        if self.archive.getinfo(f"{self.root}data/{key}").file_size != length * size:
            raise Unusable(f"a tensor in it does not have {length} values")
        return _Storage(dtype, key, length)


def _tensor_outline(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Outline:
    if type(shape) is not tuple or type(stride) is not tuple or not len(shape) == len(stride) <= _MAX_DIMENSIONS:
        raise Unusable("a tensor in it is not described as torch describes tensors")
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, _Storage) or any(
        type(number) is not int or not 0 <= number < _MAX_SIZE for number in numbers
    ):
        raise Unusable("a tensor in it is not described as torch describes tensors")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if prod(shape) and (last >= storage.length or prod(shape) > storage.length):
        raise Unusable(f"a tensor in it claims the shape {list(shape)[:8]}, but has {storage.length} values")
    return Outline(storage.dtype, shape, stride, offset, storage.key, storage.length * _BYTES[storage.dtype])


def _refuse_unsafe_keys(keys: list[Any]) -> None:
    if not all(type(key) is str or (type(key) is int and abs(key) < 2**31) for key in keys):
        raise Unusable("it holds a dictionary whose keys are neither text nor small integers")


def _plain_copy(content: Any, tensor: Callable[[Outline], Any]) -> Any:
    """A copy in plain containers, with `tensor` applied to each outline."""
    count = 0

    def copy_of(value: Any, depth: int) -> Any:
        nonlocal count
        count += 1
        if count > _MAX_VALUES or depth > _MAX_DEPTH:
            raise Unusable("it holds more values than a checkpoint has")
        if type(value) in _PLAIN:
            return value
        if type(value) in (list, tuple):
            return type(value)(copy_of(item, depth + 1) for item in value)
        if type(value) in (dict, OrderedDict):
            copied = type(value)((copy_of(key, depth + 1), copy_of(item, depth + 1)) for key, item in dict.items(value))
            if type(value) is OrderedDict and "_metadata" in vars(value):
                copied._metadata = _versions(copy_of(vars(value)["_metadata"], depth + 1))
            return copied
        if isinstance(value, Outline):
            return tensor(value)
        raise Unusable(f"it holds more than plain containers and tensors: a {type(value).__name__}")

    return copy_of(content, 0)


def _versions(metadata: Any) -> Any:
    """The metadata that torch stores with a state_dict: the versions of a module's parts."""
    parts = metadata.values() if isinstance(metadata, dict) else [None]
    if not all(isinstance(part, dict) and type(part.get("version", 1)) is int for part in parts):
        raise Unusable("the metadata of its modules are not of the form that torch writes")
    return metadata

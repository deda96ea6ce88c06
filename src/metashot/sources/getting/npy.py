"""Reads arrays in numpy's format without running code and without allocating memory on the word of a header."""

import io
import math
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Header(NamedTuple):
    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]


def read_header(file: BinaryIO | Any) -> Header:
    """Read the header of an .npy file and leave the file positioned at the first byte of the array.

    Args:
        file: the file, at its beginning.

    Returns:
        The header.

    Raises:
        ValueError, EOFError and others of that kind: if it is not an .npy file.
    """
    version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return Header(*read(file))  # type: ignore[no-untyped-call]


def array_in(content: bytes) -> NDArray[Any]:
    """Read an array from the content of an .npy file.

    Args:
        content: the content of the file.

    Returns:
        The array, which shares the memory of `content`.

    Raises:
        ValueError, EOFError and others of that kind: if it is not an .npy file, holds Python objects, or does not have the
            length that its header announces.
    """
    file = io.BytesIO(content)
    header = read_header(file)
    if header.dtype.hasobject:
        raise ValueError("it holds Python objects, which could run code")
    start, claimed = file.tell(), math.prod(header.shape) * header.dtype.itemsize
    if len(content) - start != claimed:
        raise EOFError(f"it has {len(content) - start} bytes for an array of the shape {header.shape}")
    if not claimed:
        return np.empty(header.shape, header.dtype)
    flat = np.frombuffer(content, header.dtype, offset=start)
    return flat.reshape(header.shape, order="F" if header.is_fortran else "C")

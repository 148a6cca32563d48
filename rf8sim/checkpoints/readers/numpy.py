"""Reading NumPy's files, .npy and .npz. Python objects in them are never loaded: they are pickles, which run code."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ...formats.floats import ARRAY_LAYOUTS
from ..errors import CheckpointError
from ..tensor_info import CHUNK_ELEMENTS, NOT_MEASURED, Stream, TensorInfo
from .streams import Opener, byte_stream, open_at

__all__ = ["read_npy", "read_npz"]

_NUMPY_FLOATS = tuple(name for name in ARRAY_LAYOUTS if hasattr(np, name))


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of a .npy stream: shape, whether in Fortran order, dtype. ValueError if it is none."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"version {version[0]}.{version[1]} of the .npy format holds records, not numbers")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _numpy_reason(dtype: np.dtype[Any]) -> str | None:
    """Say why arrays of a dtype are not measured; None if they are."""
    if dtype.hasobject:
        return "Python objects (a pickle) are never loaded"
    if dtype.name in _NUMPY_FLOATS:
        return None
    if dtype.names is not None:
        return "records, not numbers"
    if dtype.kind == "V":
        return f"raw {dtype.itemsize}-byte items: NumPy files lose bfloat16 and float8 types; use safetensors"
    return f"{dtype.name} {NOT_MEASURED}"


def _numpy_tensor(
    path: Path, name: str, file: IO[bytes], stored: int, reopen: Opener, packed: bool = False
) -> TensorInfo:
    """Describe one .npy stream, opened at its beginning; `stored` is its length in the container."""
    try:
        shape, fortran, dtype = _npy_header(file)
    except (ValueError, EOFError, SyntaxError, tokenize.TokenError, TypeError, OverflowError, MemoryError) as error:
        raise CheckpointError(f"{path}: {name!r} is not a NumPy array, or is damaged: {_first_line(error)}") from None
    reason, begin = _numpy_reason(dtype), file.tell()
    if not dtype.hasobject and stored != begin + math.prod(shape) * dtype.itemsize:
        raise CheckpointError(f"{path}: {name!r} is truncated or damaged: its length is not its header's")
    if dtype.hasobject or dtype.names is not None or dtype.kind not in "fiub":
        return TensorInfo(name, dtype.name, shape, path, reason)

    def open_at_data() -> IO[bytes]:
        again = reopen()
        again.read(begin)
        return again

    stream, turned = byte_stream(path, name, dtype, open_at_data), fortran and len(shape) > 1
    if turned:
        stream = _in_c_order(stream, shape, dtype.newbyteorder("="))
    return TensorInfo(name, dtype.name, shape, path, reason, stream, divisible=not (turned or packed))


def _in_c_order(fortran: Stream, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Stream:
    """Turn a source in Fortran order into one in C order, through a temporary file rather than memory."""
    import tempfile

    def stream(sizes: Iterable[int], skip: int = 0) -> Iterator[NDArray[Any]]:
        total = math.prod(shape)
        with tempfile.TemporaryFile() as file:
            steps = (min(CHUNK_ELEMENTS, total - start) for start in range(0, total, CHUNK_ELEMENTS))
            for piece in fortran(steps):
                file.write(piece.data)
            file.flush()
            flat = np.memmap(file, dtype=dtype, mode="r", shape=shape, order="F").flat
            position = skip
            for size in sizes:
                yield np.array(flat[position : position + size])
                position += size

    return stream


def read_npy(path: Path) -> Iterator[TensorInfo]:
    """Read a .npy file: one tensor, named by the file."""
    with path.open("rb") as file:
        tensor = _numpy_tensor(path, path.stem, file, path.stat().st_size, partial(open_at, path, 0))
    if tensor.skipped is not None:
        raise CheckpointError(f"{path}: {tensor.skipped}")
    yield tensor


def read_npz(path: Path) -> Iterator[TensorInfo]:
    """Read the members of a .npz archive, compressed or not."""

    def open_member(name: str) -> IO[bytes]:
        with zipfile.ZipFile(path) as archive:  # its file stays open until the last member is closed
            return archive.open(name)

    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.filename.endswith(".npy"):
                    continue
                with archive.open(member) as file:
                    name, reopen = member.filename.removesuffix(".npy"), partial(open_member, member.filename)
                    yield _numpy_tensor(path, name, file, member.file_size, reopen, packed=True)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError) as error:
        message = f"{path}: not a whole .npz archive (truncated or damaged): {error}"
        raise CheckpointError(message) from None

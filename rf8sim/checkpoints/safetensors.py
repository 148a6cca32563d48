"""The safetensors container, written a piece at a time and sealed.

A file is eight bytes with the header's length, the header (JSON: where each tensor lies, and a ``__metadata__`` of
strings), and the tensors' bytes. Its own library writes whole tensors from memory; here tensors of known sizes are
written in any order, in pieces, and the header at the end into a space left for it.

A *seal* is a SHA-256 in a file, over the file's other bytes: those of a header, or of a JSON index. With the checksums
of the tensors' bytes in the header, no byte of a file can change unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .._base.files import goes_to_file
from ..formats.floats import SAFETENSORS_LAYOUTS

__all__ = [
    "DTYPES", "NO_SEAL", "SEAL", "Entry", "Header", "Writer",
    "dtype_of", "header_room", "is_one_file", "parsed_header", "read_header", "seal", "seal_of", "stored_type",
]  # fmt: skip

SEAL = "rf8sim_seal"
"""The key of a seal."""

DTYPES = {
    **{stored: str(layout.dtype_name) for stored, layout in SAFETENSORS_LAYOUTS.items()},
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16",
    "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip
"""safetensors' types, and what numpy and ml_dtypes call them."""

NO_SEAL = "0" * 64
"""What stands for a seal before there is one."""

# A quotation mark in a JSON string is escaped, so this is the key itself and never a part of somebody's string.
_SEALED = re.compile(rb'("' + SEAL.encode() + rb'":\s?")([0-9a-f]{64})(")')
_LONGEST_HEADER = 100_000_000  # the limit of safetensors' own reader


def dtype_of(stored: str) -> np.dtype[Any]:
    """Return the numpy dtype of one of `DTYPES`, little-endian."""
    layout = SAFETENSORS_LAYOUTS.get(stored)
    dtype = np.dtype(DTYPES[stored]) if layout is None or layout.dtype is None else layout.dtype
    return dtype.newbyteorder("<")


def stored_type(name: str) -> str:
    """Return which of `DTYPES` a numpy type is called.

    Raises
    ------
    ValueError
        If safetensors does not have it.
    """
    for stored, dtype in DTYPES.items():
        if dtype == name:
            return stored
    raise ValueError(f"safetensors has no type for {name} numbers")


def is_one_file(output: Path) -> bool:
    """Return whether a checkpoint is written to one .safetensors file, or else to a folder.

    Raises
    ------
    ValueError
        If it is named as another kind of file.
    """
    return goes_to_file(output, (".safetensors",), "the output is a .safetensors file or a folder")


def _itemsize(stored: str) -> int:
    return dtype_of(stored).itemsize if stored in DTYPES else 1


def seal(data: bytes) -> bytes:
    """Return JSON text that holds a seal of zeros with the seal in its place."""
    return _SEALED.sub(rb"\g<1>" + hashlib.sha256(data).hexdigest().encode() + rb"\g<3>", data, count=1)


def seal_of(data: bytes) -> str | None:
    """Return the seal in JSON text; None if there is none, or the text has changed since it was sealed."""
    seals = [match[2] for match in _SEALED.finditer(data)]
    if len(seals) != 1:
        return None
    digest = hashlib.sha256(_SEALED.sub(rb"\g<1>" + NO_SEAL.encode() + rb"\g<3>", data)).hexdigest()
    return digest if digest == seals[0].decode() else None


@dataclass(frozen=True)
class Entry:
    """A tensor in a file.

    Attributes
    ----------
    name, dtype : str
        Its name, and its type, one of `DTYPES`.
    shape : tuple of int
        Its shape.
    begin, end : int
        Its bytes, counted from the end of the header.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int = 0
    end: int = 0

    @property
    def nbytes(self) -> int:
        """The bytes that its shape and type need; of a type that is not known here, those that it has."""
        if self.dtype not in DTYPES:
            return self.end - self.begin
        return math.prod(self.shape) * dtype_of(self.dtype).itemsize


@dataclass(frozen=True)
class Header:
    """What a file says of itself: its tensors, its strings, the raw bytes of the header with its length."""

    path: Path
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    raw: bytes = field(repr=False)

    def open_at(self, name: str) -> IO[bytes]:
        """Open the file where a tensor begins."""
        file = self.path.open("rb")
        file.seek(len(self.raw) + self.entries[name].begin)
        return file

    def read(self, name: str) -> NDArray[Any]:
        """Read a whole tensor; one of a type that is not known here as its bytes."""
        entry = self.entries[name]
        with self.open_at(name) as file:
            data = file.read(entry.end - entry.begin)
        if len(data) != entry.nbytes:
            raise ValueError(f"{self.path}: ends in the middle of tensor {name!r}")
        if entry.dtype not in DTYPES:
            return np.frombuffer(data, np.uint8)
        return np.frombuffer(data, dtype_of(entry.dtype)).reshape(entry.shape)


def read_header(path: Path) -> Header:
    """Read a header and check that it and the file's length belong together.

    Raises
    ------
    ValueError
        If not; the message names the file and says what is wrong.
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or not 0 < length <= min(size - 8, _LONGEST_HEADER):
            raise ValueError(f"{path}: not a whole safetensors file: its header is truncated or damaged")
        raw = prefix + file.read(length)
    return parsed_header(path, raw, size)


def parsed_header(path: Path, raw: bytes, size: int) -> Header:
    """Return the header of a file of some size from its bytes, which begin with its length; check it as `read_header`.

    Raises
    ------
    ValueError
        As `read_header`.
    """
    try:
        table = json.loads(raw[8:])
        metadata = table.pop("__metadata__", None) or {}
        entries = {
            name: Entry(name, entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
            for name, entry in table.items()
        }
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("a string was expected")
        if not all(type(length) is int and length >= 0 for entry in entries.values() for length in entry.shape):
            raise ValueError("a shape is made of numbers that are not negative")
        position = 0
        for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.end)):
            if entry.begin != position or entry.end - entry.begin != entry.nbytes:
                raise ValueError(f"the place of {entry.name!r} is not that of its shape")
            position = entry.end
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: not a safetensors file: its header is damaged: {error}") from None
    if size != len(raw) + position:
        what = "truncated" if size < len(raw) + position else "too long"
        raise ValueError(f"{path}: {what}: its header says {len(raw) + position} bytes, it has {size}")
    return Header(path, entries, metadata, raw)


def header_room(entries: Sequence[Entry], spare: int) -> int:
    """Return the length of the header that `Writer` gives these tensors, with ``spare`` bytes of metadata."""
    longest = len(json.dumps([(e.name, e.shape) for e in entries])) + 150 * len(entries)
    return -(-(longest + spare) // 8) * 8


class Writer:
    """Writes a sealed file: tensors in any order, each in pieces; the header last.

    Parameters
    ----------
    path : Path
        The file, which must not exist.
    entries : sequence of Entry
        The tensors. One of shape ``(-1,)`` and type U8 has as many bytes as will be written to it.
    spare : int
        Bytes to leave for metadata.

    Notes
    -----
    Tensors lie by the size of their elements, large ones first, so that all are aligned, as other readers expect.
    Those of unknown sizes are of single bytes and go last, in the order in which they are written.
    """

    def __init__(self, path: Path, entries: Sequence[Entry], spare: int) -> None:
        self.path = path
        self.digests: dict[str, str] = {}
        self._entries: dict[str, Entry] = {}
        self._hash = hashlib.sha256()
        self._current, self._position = "", 0
        known = sorted((e for e in entries if -1 not in e.shape), key=lambda e: -_itemsize(e.dtype))
        self._open_ended = {e.name for e in entries if -1 in e.shape}
        self._end = 0
        for entry in known:
            self._place(entry, entry.nbytes)
        self._header = header_room(entries, spare)
        if self._header > _LONGEST_HEADER:
            raise ValueError(
                f"{path}: its header would have {self._header} bytes, safetensors allows {_LONGEST_HEADER}"
            )
        self._file = path.open("xb")

    def _place(self, entry: Entry, nbytes: int) -> None:
        self._entries[entry.name] = Entry(entry.name, entry.dtype, entry.shape, self._end, self._end + nbytes)
        self._end += nbytes

    def begin(self, name: str) -> None:
        """Go to where a tensor of a known size begins; `write` continues from there."""
        self._current, self._position, self._hash = name, self._entries[name].begin, hashlib.sha256()
        self._file.seek(8 + self._header + self._position)

    def write(self, piece: NDArray[Any]) -> None:
        """Write the next piece of the tensor that was begun; after the last one its checksum is known."""
        data = np.ascontiguousarray(piece, dtype=piece.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data
        self._file.write(data)
        self._hash.update(data)
        self._position += data.nbytes
        if self._position == self._entries[self._current].end:
            self.digests[self._current] = self._hash.hexdigest()

    def put(self, name: str, values: NDArray[Any]) -> None:
        """Write a whole tensor, or the bytes of one of unknown size."""
        if name in self._open_ended:
            self.extend(name, [values.tobytes()])
            return
        self.begin(name)
        self.write(values)
        if not values.size:
            self.digests[name] = self._hash.hexdigest()

    def extend(self, name: str, pieces: Iterable[bytes]) -> int:
        """Write one of unknown size, a piece after another; return its size."""
        self._file.seek(8 + self._header + self._end)
        size, digest = 0, hashlib.sha256()
        for piece in pieces:
            self._file.write(piece)
            digest.update(piece)
            size += len(piece)
        self._place(Entry(name, "U8", (size,)), size)
        self.digests[name] = digest.hexdigest()
        return size

    def finish(self, metadata: Mapping[str, str]) -> str:
        """Write the header, flush all to the disk and return the seal."""
        missing = self._entries.keys() - self.digests.keys() | self._open_ended - self._entries.keys()
        assert not missing, f"tensors were not written: {sorted(missing)}"
        table: dict[str, Any] = {"__metadata__": {**metadata, SEAL: NO_SEAL}}
        for entry in self._entries.values():
            table[entry.name] = {
                "dtype": entry.dtype,
                "shape": list(entry.shape),
                "data_offsets": [entry.begin, entry.end],
            }
        text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= self._header, "the space left for the header is too small"
        raw = seal(self._header.to_bytes(8, "little") + text.ljust(self._header))
        sealed = seal_of(raw)
        assert sealed is not None, "a header must hold its own seal"
        self._file.seek(0)
        self._file.write(raw)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return sealed

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

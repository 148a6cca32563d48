"""Reading GGUF files: weights of llama.cpp's types, read as the numbers they stand for."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..containers import package
from ..errors import CheckpointError
from ..tensor_info import NOT_MEASURED, Coded, Stream, TensorInfo
from .gguf_layouts import block_decoder
from .streams import byte_stream, open_at

__all__ = ["GgufPart", "Place", "gguf_parts", "read_gguf"]

_PIECE = 1 << 16
"""Elements decoded at a time: a multiple of the elements of a block, and few enough for the processor's cache."""

_LARGE = 1 << 18
"""Elements from which a tensor is decoded by the compiled loop, whose loading takes a second."""

_PLAIN = {"F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16", "I8": "int8", "I16": "int16",
          "I32": "int32", "I64": "int64"}  # fmt: skip
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.gguf)$", re.IGNORECASE)
_STRING, _ARRAY, _UINT32 = 8, 9, 4
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of the scalars of a file's metadata, by the number of their type."""


class Place(NamedTuple):
    """A tensor of a file: its name, its shape as NumPy has it, its type's number, and where its bytes begin."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


class GgufPart(NamedTuple):
    """A GGUF file: its tensors, its metadata (each value's bytes, the number of its type first), and its alignment."""

    path: Path
    tensors: list[Place]
    metadata: dict[str, bytes]
    alignment: int


def read_gguf(path: Path) -> Iterator[TensorInfo]:
    """List the tensors of a GGUF file, and those of the other parts of a model that is split into several."""
    for part in gguf_parts(path):
        for place in part.tensors:
            yield _tensor(part.path, place)


def gguf_parts(path: Path) -> list[GgufPart]:
    """Read the headers of a GGUF file, or of all parts of a model that is split into several.

    Raises
    ------
    CheckpointError
        If the package gguf is not installed, a part is missing, or one is damaged.
    """
    package("gguf", path)
    return [_header_of(part) for part in _parts(path)]


def _parts(path: Path) -> list[Path]:
    """Return the files of a split model, in order; the file alone where it is not split."""
    match = _PART.match(path.name)
    if match is None:
        return [path]
    stem, count, suffix = match["stem"], match["count"], match["suffix"]
    parts = [path.with_name(f"{stem}-{number:05}-of-{count}{suffix}") for number in range(1, int(count) + 1)]
    missing = next((part for part in parts if not part.is_file()), None)
    if missing is not None:
        raise CheckpointError(f"{path}: the part {missing.name!r} of the model is missing: put it beside this one")
    return parts or [path]


# --- the header -------------------------------------------------------------------------------------------------------


class _Header:
    """Reads the fields of a header one after the other."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.file, self.left = path, file, path.stat().st_size

    def bytes(self, count: int) -> bytes:
        if count > self.left:
            raise self.damaged("it ends within its header")
        self.left -= count
        data = self.file.read(count)
        if len(data) != count:
            raise self.damaged("it ends within its header")
        return data

    def number(self, form: str) -> int:
        value: int = struct.unpack(f"<{form}", self.bytes(struct.calcsize(form)))[0]
        return value

    def text(self) -> str:
        try:
            return self.bytes(self.number("Q")).decode("utf-8")
        except UnicodeDecodeError:
            raise self.damaged("a name in its header is no text") from None

    def pass_value(self, kind: int, depth: int = 0) -> None:
        """Pass over a value of the metadata."""
        if kind == _STRING:
            self.bytes(self.number("Q"))
        elif kind in _SIZES:
            self.bytes(_SIZES[kind])
        elif kind == _ARRAY and depth < 4:
            items, count = self.number("I"), self.number("Q")
            if items in _SIZES:
                self.bytes(count * _SIZES[items])
                return
            if 8 * count > self.left:
                raise self.damaged("it ends within its header")
            for _ in range(count):
                self.pass_value(items, depth + 1)
        else:
            raise self.damaged(f"its header has a value of the unknown type {kind}")

    def damaged(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: not a whole GGUF file (truncated or damaged): {what}")


def _header_of(path: Path) -> GgufPart:
    """Read a file's header and check that the file has the bytes of all tensors."""
    with path.open("rb") as file:
        header = _Header(path, file)
        if file.read(4) != b"GGUF":
            raise CheckpointError(f"{path}: not a GGUF file: it does not begin with 'GGUF'")
        header.left -= 4
        version = header.number("I")
        if version not in (2, 3):
            what = "it is big-endian" if version & 0xFFFF == 0 else f"it is of version {version}"
            raise CheckpointError(f"{path}: {what}; GGUF files of versions 2 and 3, little-endian, are read")
        tensors, fields, alignment = header.number("Q"), header.number("Q"), 32
        metadata = {}
        for _ in range(fields):
            key, start = header.text(), file.tell()
            kind = header.number("I")
            header.pass_value(kind)
            metadata[key] = _between(file, start)
            if key == "general.alignment" and kind == _UINT32:
                [alignment] = struct.unpack("<I", metadata[key][4:])
        places = []
        for _ in range(tensors):
            name, axes = header.text(), header.number("I")
            if axes > 8:
                raise header.damaged(f"tensor {name!r} has {axes} axes")
            shape = tuple(header.number("Q") for _ in range(axes))[::-1]
            places.append(Place(name, shape, header.number("I"), header.number("Q")))
        if alignment <= 0 or alignment & (alignment - 1):
            raise header.damaged(f"its alignment is {alignment}")
        begin, size = -(-file.tell() // alignment) * alignment, path.stat().st_size
    placed = [place._replace(offset=begin + place.offset) for place in places]
    for place in placed:
        sizes = _type_of(place.kind)
        if sizes is not None and place.offset + _nbytes(place, *sizes[1:]) > size:
            raise CheckpointError(f"{path}: truncated or damaged: ends in the middle of tensor {place.name!r}")
    return GgufPart(path, placed, metadata, alignment)


def _between(file: IO[bytes], start: int) -> bytes:
    """Return what was read of a file since a place."""
    end = file.tell()
    file.seek(start)
    return file.read(end - start)


def _type_of(kind: int) -> tuple[str, int, int] | None:
    """Return a type's name, the elements of a block, and its bytes; None for an unknown number."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        member = GGMLQuantizationType(kind)
    except ValueError:
        return None
    return (member.name, *GGML_QUANT_SIZES[member])


def _nbytes(place: Place, block: int, size: int) -> int:
    return math.prod(place.shape) // block * size


# --- the tensors ------------------------------------------------------------------------------------------------------


def _tensor(path: Path, place: Place) -> TensorInfo:
    described = _type_of(place.kind)
    if described is None:
        return TensorInfo(place.name, f"type {place.kind}", place.shape, path, f"type {place.kind} of GGUF is unknown")
    kind, block, size = described
    opener = partial(open_at, path, place.offset)
    if kind in _PLAIN:
        import ml_dtypes

        dtype = np.dtype(getattr(ml_dtypes, _PLAIN[kind], _PLAIN[kind]))
        stored = dtype if kind == "BF16" else dtype.newbyteorder("<")
        skipped = f"{dtype.name} {NOT_MEASURED}" if kind.startswith("I") else None
        stream = byte_stream(path, place.name, stored, opener)
        return TensorInfo(place.name, dtype.name, place.shape, path, skipped, stream, divisible=True)
    if not place.shape or place.shape[-1] % block:
        raise CheckpointError(f"{path}: damaged: rows of tensor {place.name!r} are no whole blocks of {kind}")
    if not _decodable(place.kind):
        return TensorInfo(place.name, kind, place.shape, path, f"{kind} is not a type that gguf.dequantize decodes")
    coded = Coded(f"GGUF {kind}", (place.name,), 8 * size / block, (path,))
    decoded = _decoded(place, block, byte_stream(path, place.name, np.dtype(f"V{size}"), opener))
    return TensorInfo(place.name, "float32", place.shape, path, None, decoded, True, coded)


def _decodable(kind: int) -> bool:
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import _type_traits

    return GGMLQuantizationType(kind) in _type_traits


def _decoded(place: Place, block: int, blocks: Stream) -> Stream:
    """Return the numbers of a source of blocks: pieces begin and end anywhere, blocks are decoded whole."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    kind = GGMLQuantizationType(place.kind)
    quick = block_decoder(kind.name) if math.prod(place.shape) >= _LARGE else None

    def numbers(data: NDArray[Any]) -> NDArray[np.float32]:
        decoded = None if quick is None else quick(data.view(np.uint8).reshape(data.size, -1))
        if decoded is not None:
            return decoded.reshape(-1)
        with np.errstate(all="ignore"):
            row: NDArray[np.float32] = dequantize(data.view(np.uint8).reshape(1, -1), kind)
        return row.reshape(-1)

    def stream(sizes: Iterable[int], skip: int = 0) -> Iterator[NDArray[Any]]:
        position = skip
        for size in sizes:
            values = np.empty(size, np.float32)
            first, last = position // block, -(-(position + size) // block)
            cuts = [min(_PIECE // block, last - start) for start in range(first, last, _PIECE // block)]
            done, offset = 0, position - first * block
            for data in blocks(cuts, first):
                piece = numbers(data)[offset : offset + size - done]
                values[done : done + piece.size] = piece
                done, offset = done + piece.size, 0
            position += size
            yield values

    return stream

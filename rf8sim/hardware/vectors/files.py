"""Vectors as text: lines of hexadecimal digits, as TestFloat, ``$readmemh``, spreadsheets and JSON want them.

A field has as many digits as its port needs, so a code of 6 bits has two. ``testfloat`` is the form of Berkeley
TestFloat: operands, result and flags in uppercase hexadecimal, one space between, a vector a line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..golden.ports import Bits, Patterns, Port, unsigned

__all__ = ["FLAGS", "FORMS", "SUFFIXES", "Form", "Hashed", "fields", "form_of", "from_digits", "lines", "to_digits"]

FLAGS = Port("flags", Bits("bits:8", 8))
"""The column of flags: two digits."""

_DIGITS = np.frombuffer(b"0123456789ABCDEF", dtype=np.uint8)


class Form(NamedTuple):
    """How vectors are written.

    Attributes
    ----------
    start, between, end : str
        Before the first field, between fields, after the last.
    comments : bool
        Whether the file can say in ``//`` comments what it is.
    summary : str
        What it is for.
    """

    start: str
    between: str
    end: str
    comments: bool
    summary: str


FORMS = {
    "testfloat": Form("", " ", "\n", False, "TestFloat's lines: operands, result, flags"),
    "tv": Form("", "_", "\n", True, "one underscored word a vector, for $readmemh"),
    "mem": Form("", "_", "\n", True, "two files for $readmemh: .in.mem operands, .out.mem results"),
    "csv": Form("", ",", "\n", False, "a column a field, with their names"),
    "json": Form(' ["', '","', '"]', False, "an object with the manifest and an array a vector"),
}
"""The forms of files of vectors."""

SUFFIXES = {".txt": "testfloat", ".tv": "tv", ".mem": "mem", ".csv": "csv", ".json": "json"}
"""The form that a file's suffix says."""


def form_of(path: Path) -> str:
    """Return the form that the suffix of a file says, TestFloat's if it has none; refuse a suffix that says nothing.

    Examples
    --------
    >>> form_of(Path("mul.tv")), form_of(Path("mul"))
    ('tv', 'testfloat')
    >>> form_of(Path("mul.hex"))
    Traceback (most recent call last):
    ...
    ValueError: mul.hex: the suffix .hex is none of .txt, .tv, .mem, .csv, .json: choose one of these, or a `form`
    """
    if path.suffix and path.suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise ValueError(f"{path}: the suffix {path.suffix} is none of {known}: choose one of these, or a `form`")
    return SUFFIXES.get(path.suffix, "testfloat")


def to_digits(port: Port, patterns: Patterns) -> NDArray[np.uint8]:
    """Return the hexadecimal digits of a field, as numbers, shape (vectors, digits), the highest first."""
    lanes = patterns[:, None] if port.lanes == 1 else patterns[:, ::-1]  # lane 0 is the lowest
    width = port.kind.bits
    if port.lanes == 1 or width % 4 == 0:
        each = -(-width // 4)
        shifts = np.arange(4 * (each - 1), -1, -4).astype(lanes.dtype)
        digits = lanes[:, :, None] >> shifts & lanes.dtype.type(15)
        return digits.astype(np.uint8).reshape(len(lanes), -1)
    places = np.arange(width - 1, -1, -1).astype(lanes.dtype)
    bits = (lanes[:, :, None] >> places & lanes.dtype.type(1)).reshape(len(lanes), -1)
    padded = np.pad(bits, ((0, 0), (4 * port.digits - bits.shape[1], 0)))
    return (padded.reshape(len(lanes), -1, 4) @ np.array([8, 4, 2, 1], lanes.dtype)).astype(np.uint8)


def from_digits(port: Port, digits: NDArray[np.uint8]) -> tuple[Patterns, NDArray[np.bool_]]:
    """Return the patterns of a field's digits, and where the digits say more than its bits hold."""
    width, each = port.kind.bits, -(-port.kind.bits // 4)
    dtype = unsigned(4 * each)
    if port.lanes == 1 or width % 4 == 0:
        lanes = np.zeros((len(digits), port.lanes), dtype=dtype)
        for lane in range(port.lanes):
            first = (port.lanes - 1 - lane) * each
            for place in range(first, first + each):
                lanes[:, lane] = lanes[:, lane] << dtype.type(4) | digits[:, place]
        beyond = (lanes >> dtype.type(width)).any(axis=1) if width % 4 else np.zeros(len(digits), np.bool_)
    else:
        bits = (digits[:, :, None] >> np.array([3, 2, 1, 0], np.uint8) & 1).reshape(len(digits), 4 * port.digits)
        beyond = bits[:, : -port.bits].any(axis=1) if bits.shape[1] > port.bits else np.zeros(len(digits), np.bool_)
        by_lane = bits[:, -port.bits :].reshape(len(digits), port.lanes, width)[:, ::-1]
        lanes = np.zeros((len(digits), port.lanes), dtype=dtype)
        for place in range(width):
            lanes = lanes << dtype.type(1) | by_lane[:, :, place]
    patterns = lanes.astype(unsigned(width))
    return (patterns if port.lanes > 1 else patterns[:, 0]), beyond


def fields(form: Form, columns: Sequence[tuple[Port, Patterns]]) -> bytes:
    """Return lines of fields."""
    start, between, end = (np.frombuffer(text.encode(), np.uint8) for text in form[:3])
    size = len(columns[0][1])
    parts: list[NDArray[np.uint8]] = [np.broadcast_to(start, (size, start.size))]
    for place, (port, patterns) in enumerate(columns):
        if place:
            parts.append(np.broadcast_to(between, (size, between.size)))
        parts.append(_DIGITS[to_digits(port, patterns)])
    parts.append(np.broadcast_to(end, (size, end.size)))
    return np.concatenate(parts, axis=1).tobytes()


def lines(
    form: str,
    manifest: dict[str, Any],
    names: Sequence[str],
    blocks: Iterable[Sequence[tuple[Port, Patterns]]],
) -> Iterator[bytes]:
    """Return the whole text of a file in pieces.

    Parameters
    ----------
    form : str
        A key of `FORMS`.
    manifest : dict
        What the vectors are: a comment or an object in the file, where the form can hold one.
    names : sequence of str
        Names of the columns.
    blocks : iterable
        Columns of successive vectors.

    Yields
    ------
    bytes
        A piece.
    """
    kind = FORMS[form]
    if form == "json":
        yield f'{{\n"manifest": {json.dumps(manifest)},\n"columns": {json.dumps(list(names))},\n"vectors": ['.encode()
    if form == "csv":
        yield (",".join(names) + "\n").encode()
    if kind.comments:
        yield "".join(f"// {line}\n" for line in comment(manifest, names)).encode()
    body, first = hashlib.sha256(), True
    for columns in blocks:
        text = fields(kind, columns)
        if form == "json" and text:
            rows = text.decode().replace('"] ["', '"],\n ["')
            text = f"{'' if first else ','}\n{rows}".encode()
            first = False
        body.update(text)
        yield text
    if form == "json":
        yield b"\n]\n}\n"
    if kind.comments:
        yield f"// sha256 of the lines above: {body.hexdigest()}\n".encode()


def comment(manifest: dict[str, Any], names: Sequence[str]) -> Iterator[str]:
    """Yield what a manifest says, as lines of a comment."""
    for key, value in manifest.items():
        if key not in ("operands", "result", "classes"):
            yield f"{key}: {value}"
    yield f"a vector: {'_'.join(names)}"


class Hashed:
    """Pieces of a file that remember their SHA-256 once they have all been written."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = pieces
        self.sha256 = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            self.sha256.update(piece)
            yield piece

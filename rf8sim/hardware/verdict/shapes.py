"""The shapes of lines, thousands at a time: each character replaced by its kind, and lines of one shape together.

A kind is a hexadecimal digit, an unknown bit, a separator, a mark of comments, or any other character. A file has few
shapes, so many lines are judged at the price of one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIGIT", "PREFIX", "UNKNOWN", "Grouped", "digits_of", "grouped", "rows", "shapes_of"]

_HEX = b"0123456789abcdefABCDEF"
_HEX_VALUES = bytes(int(chr(byte), 16) if byte in _HEX else 255 for byte in range(256))
DIGIT, UNKNOWN, PREFIX = b"0", b"x", b"\x01"
"""The kinds of digits, of unknown bits, and of both characters of a ``0x`` before digits."""

_KINDS = bytes(
    b"0"[0] if byte in _HEX else b"x"[0] if byte in b"xXzZuUwW?" else b" "[0] if byte in b" \t\r\n\v\f_,"
    else byte if byte in b"#/" else b"o"[0]
    for byte in range(256)
)  # fmt: skip
_MARKED = _KINDS[:1] + PREFIX + _KINDS[2:]
_PREFIXED = re.compile(rb"(?<![^\s_,])0[xX](?=[0-9A-Fa-fxXzZuUwW?])")

_FEW = 16  # lines of a length up to which each is translated for itself
_LONG = 1 << 9  # bytes of a line from which on it is translated for itself
_PEELED = 8  # shapes of a length that are told apart without sorting
_MIX = np.uint64(0x9E3779B97F4A7C15)


class Grouped(NamedTuple):
    """Lines by their shape.

    Attributes
    ----------
    shapes : list of bytes
        Each shape that there is.
    which : ndarray of int64
        Of each line, the index of its shape.
    """

    shapes: list[bytes]
    which: NDArray[np.int64]


def shapes_of(texts: Sequence[bytes]) -> list[bytes]:
    """Return the shape of each line.

    Examples
    --------
    >>> shapes_of([b"7F 3", b"7F,xx", b"at 5 ns"])
    [b'00 0', b'00 xx', b'0o 0 oo']
    """
    return [_shape(text) for text in texts]


def _shape(text: bytes) -> bytes:
    """Translate one line, the prefix of each field that has one marked."""
    if b"0x" not in text and b"0X" not in text:
        return text.translate(_KINDS)
    return _PREFIXED.sub(PREFIX * 2, text.replace(PREFIX, b"o")).translate(_MARKED)


def digits_of(characters: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the value of each character that is a hexadecimal digit, and 255 for others.

    Examples
    --------
    >>> digits_of(np.frombuffer(b"7fF g", np.uint8)).tolist()
    [7, 15, 15, 255, 255]
    """
    return _translated(characters, _HEX_VALUES)


def _translated(characters: NDArray[np.uint8], table: bytes) -> NDArray[np.uint8]:
    """Return a writeable array of the same shape, each byte replaced."""
    translated = bytearray(characters.tobytes()).translate(table)  # several times as fast as indexing
    return np.frombuffer(translated, np.uint8).reshape(characters.shape)


def rows(data: NDArray[np.uint8], starts: NDArray[np.int64], length: int) -> NDArray[np.uint8]:
    """Return lines of one length as the rows of a table.

    Parameters
    ----------
    data : ndarray of uint8
        Where the lines are.
    starts : ndarray of int64, shape (lines,)
        Where each begins.
    length : int
        Bytes of each.

    Returns
    -------
    ndarray of uint8, shape (lines, length)
        A view where the lines follow one another.
    """
    first, last = int(starts[0]), int(starts[-1])
    if last - first == (starts.size - 1) * length and (starts[1:] - starts[:-1] == length).all():
        return data[first : last + length].reshape(-1, length)
    return np.lib.stride_tricks.sliding_window_view(data, length)[starts]


def grouped(data: NDArray[np.uint8], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Grouped:
    """Group lines by their shape.

    Parameters
    ----------
    data : ndarray of uint8
        Where the lines are.
    starts, stops : ndarray of int64, shape (lines,)
        Where each begins and ends.

    Returns
    -------
    Grouped
        Shapes in any order.
    """
    shapes: dict[bytes, int] = {}
    which = np.zeros(starts.size, np.int64)
    lengths = np.minimum(stops - starts, _LONG)
    counts = np.bincount(lengths, minlength=_LONG + 1)
    counts[_LONG] = 0
    for line in np.flatnonzero(counts[lengths] < _FEW).tolist():
        text = data[starts[line] : stops[line]].tobytes()
        which[line] = shapes.setdefault(_shape(text), len(shapes))
    for length in np.flatnonzero(counts >= _FEW).tolist():
        here = np.flatnonzero(lengths == length)
        kinds = _kinds(rows(data, starts[here], length))
        for members in _alike(kinds):
            which[here[members]] = shapes.setdefault(kinds[members[0]].tobytes(), len(shapes))
    return Grouped(list(shapes), which)


def _kinds(table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the kinds of the characters of lines of one length, prefixes marked."""
    kinds = _translated(table, _KINDS)
    flat = np.ascontiguousarray(table).ravel()
    if table.shape[1] < 3 or not ((flat[:-1] == ord("0")) & (flat[1:] | 0x20 == ord("x"))).any():
        return kinds
    prefixed = (table[:, :-2] == ord("0")) & (table[:, 1:-1] | 0x20 == ord("x"))
    after = kinds[:, 2:]
    prefixed &= (after == DIGIT[0]) | (after == UNKNOWN[0])
    prefixed[:, 1:] &= kinds[:, :-3] == ord(" ")
    kinds[:, :-2][prefixed] = PREFIX[0]
    kinds[:, 1:-1][prefixed] = PREFIX[0]
    return kinds


def _alike(kinds: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """Return the numbers of equal rows, an array for each different row."""
    count, length = kinds.shape
    padded = np.zeros((count, -(-length // 8) * 8), np.uint8)
    padded[:, :length] = kinds
    words = padded.view(np.uint64)
    alike = _hashed(words)
    if all((words[members] == words[members[0]]).all() for members in alike):
        return alike
    which = np.unique(words, axis=0, return_inverse=True)[1].ravel()  # two rows of one hash
    return [np.flatnonzero(which == number) for number in range(int(which.max()) + 1)]


def _hashed(words: NDArray[np.uint64]) -> list[NDArray[np.int64]]:
    """Return the numbers of rows that have the same hash."""
    keys = np.zeros(len(words), np.uint64)
    for column in words.T:
        keys = (keys ^ column) * _MIX
        keys ^= keys >> np.uint64(32)
    alike: list[NDArray[np.int64]] = []
    rest = np.arange(keys.size)
    while rest.size and len(alike) < _PEELED:
        same = keys[rest] == keys[rest[0]]
        alike.append(rest[same])
        rest = rest[~same]
    if rest.size:
        order = rest[np.argsort(keys[rest], kind="stable")]
        alike += np.split(order, np.flatnonzero(keys[order][1:] != keys[order][:-1]) + 1)
    return alike

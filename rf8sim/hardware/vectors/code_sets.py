"""Codes of a format that vectors are made of: corners, specials, neighbours, opposites."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...codec.codec import random_words
from ...formats import Format
from ..golden.ports import Codes, Port, unsigned

__all__ = [
    "any_codes",
    "core_codes",
    "corner_codes",
    "extremes",
    "finite_codes",
    "format_of",
    "nearest_codes",
    "negated_codes",
    "ordered_codes",
    "shrunk_codes",
    "special_codes",
    "walking_ones",
]  # fmt: skip

Array = NDArray[np.float64]
CodeArray = NDArray[np.unsignedinteger[Any]]


def format_of(port: Port) -> Format:
    """Return the format of an operand that holds codes."""
    assert isinstance(port.kind, Codes)
    return port.kind.format


@lru_cache(maxsize=32)
def core_codes(fmt: Format) -> CodeArray:
    """Return the codes where faults live: zeros, NaN, infinities, extremes, one, the ends of octaves, aliases."""
    values, codes = fmt.values, np.arange(1 << fmt.bits)
    finite = np.isfinite(values)
    wanted = [codes[~finite][:4], codes[values == 0], codes[np.abs(values) == 1], codes[fmt.canonical != codes][[0, -1]]
              if np.any(fmt.canonical != codes) else codes[:0]]  # fmt: skip
    for side in fmt.sides:
        places = {0, 1, 2, side.codes.size - 2, side.codes.size - 1, side.codes.size // 2, side.codes.size // 3}
        wanted.append(side.codes[[place for place in sorted(places) if 0 <= place < side.codes.size]].astype(np.int64))
    if fmt.subnormals_below:
        wanted.append(codes[np.abs(values) == fmt.subnormals_below])
    return np.unique(np.concatenate(wanted)).astype(fmt.code_dtype)


@lru_cache(maxsize=32)
def special_codes(fmt: Format) -> NDArray[np.int64]:
    """Return the codes of infinities and NaN; of many NaNs the canonical one, and of each run the ends and quarters."""
    codes = np.flatnonzero(~np.isfinite(fmt.values))
    if fmt.bits <= 8:
        return codes
    nans = codes[np.isnan(fmt.values[codes])]
    if nans.size > 8:
        runs = np.split(nans, np.flatnonzero(np.diff(nans) > 1) + 1)
        ends = [run[[0, run.size // 4, (run.size - 1) // 2, run.size // 2, -1]] for run in runs]
        nans = np.unique([*np.concatenate(ends).tolist(), fmt.nan])
    return np.union1d(codes[np.isinf(fmt.values[codes])], nans)


@lru_cache(maxsize=32)
def corner_codes(fmt: Format, reach: int = 1) -> CodeArray:
    """Return the core, specials, and the neighbours of zero, of the least normal number, of one and of the largest.

    ``reach`` is how many neighbours to either side.
    """
    wanted: list[NDArray[Any]] = [core_codes(fmt), special_codes(fmt)]
    steps = np.arange(-reach, reach + 1)
    for side in fmt.sides:
        points = np.array([0.0, 1.0, fmt.subnormals_below or fmt.smallest, side.magnitudes[-1]])
        ranks = (np.searchsorted(side.magnitudes, points)[:, None] + steps).ravel()
        wanted.append(side.codes[np.unique(np.clip(ranks, 0, side.codes.size - 1))])
    return np.unique(np.concatenate(wanted)).astype(fmt.code_dtype)


def walking_ones(bits: int) -> CodeArray:
    """Return patterns with a single one, and with a single zero."""
    top, ones = (1 << bits) - 1, [1 << place for place in range(bits)]
    return np.array(sorted({*ones, *(top ^ value for value in ones)}), dtype=unsigned(bits))


def extremes(fmt: Format) -> tuple[int, int, int, int]:
    """Return the codes of zero (or what is nearest), the smallest, the largest and the lowest value."""
    values = np.where(np.isfinite(fmt.values), fmt.values, 0.0)
    zero = fmt.zero if fmt.zero is not None else int(fmt.sides[0].codes[0])
    smallest = int(np.flatnonzero(fmt.values == fmt.smallest)[0])
    return zero, smallest, int(fmt.canonical[np.argmax(values)]), int(fmt.canonical[np.argmin(values)])


@lru_cache(maxsize=32)
def ordered_codes(fmt: Format) -> CodeArray:
    """Return the canonical codes of the finite values in ascending order."""
    finite = np.unique(fmt.canonical)
    finite = finite[np.isfinite(fmt.values[finite])]
    order: CodeArray = finite[np.argsort(fmt.values[finite], kind="stable")]
    return order


@lru_cache(maxsize=32)
def _ordered_values(fmt: Format) -> Array:
    return fmt.values[ordered_codes(fmt)]


def nearest_codes(fmt: Format, values: Array, further: int = 0) -> CodeArray:
    """Return the code of the largest finite value not above each number, or one some places further up."""
    order, ascending = ordered_codes(fmt), _ordered_values(fmt)
    place = np.searchsorted(ascending, np.nan_to_num(values), side="right") - 1 + further
    nearest: CodeArray = order[np.clip(place, 0, order.size - 1)]
    return nearest


def any_codes(fmt: Format, seed: int, size: int) -> CodeArray:
    """Return so many uniform bytes, or pairs of bytes for a format of more than 8 bits: always the same ones."""
    per_word = 4 // fmt.code_dtype.itemsize
    words = random_words(seed, -(-size // per_word)).astype("<u4")
    return words.view(fmt.code_dtype.newbyteorder("<"))[:size].astype(fmt.code_dtype)


def finite_codes(fmt: Format) -> CodeArray:
    """Map each byte, or pair of bytes, to a code, one of a finite value."""
    codes = np.arange(1 << 8 * fmt.code_dtype.itemsize) % (1 << fmt.bits)
    finite = np.flatnonzero(np.isfinite(fmt.values))
    return np.where(np.isfinite(fmt.values[codes]), codes, finite[codes % finite.size]).astype(fmt.code_dtype)


def negated_codes(fmt: Format) -> CodeArray:
    """Map each code to that of the opposite value, or to itself."""
    place = {value: code for code, value in reversed(list(enumerate(fmt.values.tolist())))}
    return np.array([place.get(-value, code) for code, value in enumerate(fmt.values.tolist())], dtype=fmt.code_dtype)


def shrunk_codes(fmt: Format) -> CodeArray:
    """Return four maps from codes to codes: of the same rank, of 3/4, 1/2 and 1/4 of it."""
    maps = np.tile(np.arange(1 << fmt.bits, dtype=fmt.code_dtype), (4, 1))
    for side in fmt.sides:
        ranks = np.arange(side.codes.size)
        for quarter in range(1, 4):
            maps[quarter, side.codes] = side.codes[ranks * (4 - quarter) // 4]
    return maps

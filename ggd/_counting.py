"""Counting an array of any supported type into a histogram: a few conversions round two kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Counts", "summaries"]

_CHUNK = 1 << 22  # elements converted at a time
_PIECE = 1 << 18  # elements under which another thread costs more than it saves
_FEW = 1 << 14  # elements up to which numpy sorts them
_NO_EXTREMES = (2**31 - 1, -(2**31))


@dataclass
class Counts:
    """What `ggd.histogram.MagnitudeHistogram` holds of a piece of the data, under the same names."""

    keys: NDArray[np.uint16] = field(default_factory=lambda: np.empty(0, np.uint16))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    low_sums: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    low_bits: int = 0
    zero_count: int = 0
    nan_count: int = 0
    inf_count: int = 0
    clamped_low: int = 0
    clamped_high: int = 0
    min: float = math.nan
    max: float = math.nan


def summaries(x: NDArray[Any], threads: int = 1) -> Iterator[Counts]:
    """Yield counts that together hold the values of an array; see `MagnitudeHistogram.update`.

    Parameters
    ----------
    x : ndarray
        Any shape and layout.
    threads : int
        The most that count at once.

    Yields
    ------
    Counts

    Raises
    ------
    ValueError
        If the type is not supported or there is no thread; nothing is yielded before that.

    Examples
    --------
    >>> [part.zero_count for part in summaries(np.zeros((2, 3), np.float32))]
    [6]
    """
    if threads < 1:
        raise ValueError(f"counting needs at least one thread, got {threads!r}")
    if x.dtype.name.startswith(("float8_", "float6_", "float4_")):
        x = x.astype(np.float32)  # exact
    name = x.dtype.name
    x = x.ravel(order="K")
    step = max(-(-x.size // threads), _PIECE)
    if name in ("bfloat16", "float16"):
        count: Callable[[NDArray[Any]], Counts] = _summarize_16_bit
    elif name == "float32":
        count = _summarize_float32
    elif name == "float64" or x.dtype.kind in "iu":
        step, count = min(step, _CHUNK), _summarize_float64
    else:
        raise ValueError(
            f"a histogram takes float32, float64, float16, bfloat16 or integers, got {name}: convert the array first"
        )
    pieces = (x[start : start + step] for start in range(0, x.size, step))
    if threads == 1 or x.size <= step:
        yield from map(count, pieces)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(count, pieces)


def _summarize_few(x: NDArray[Any]) -> Counts:
    """Count few values by sorting them, which costs less than tables of all cells, and no compiled code."""
    values = x.astype(np.float32)
    bits = np.sort(values.view(np.uint32))
    magnitude = bits & np.uint32(0x7FFFFFFF)
    finite = magnitude < 0x7F800000
    h = Counts()
    h.zero_count, h.inf_count = (int(np.count_nonzero(magnitude == pattern)) for pattern in (0, 0x7F800000))
    h.nan_count = bits.size - int(np.count_nonzero(finite)) - h.inf_count
    if np.any(finite):
        values = bits[finite].view(np.float32)
        h.min, h.max = float(values.min()) + 0.0, float(values.max()) + 0.0
    bits = bits[finite & (magnitude > 0)]
    keys, low = (bits >> np.uint32(16)).astype(np.uint16), (bits & np.uint32(0xFFFF)).astype(np.int64)
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])) if keys.size else np.empty(0, np.int64)
    h.keys, h.counts = keys[starts], np.diff(np.append(starts, keys.size))
    h.low_sums = np.add.reduceat(low, starts) if keys.size else low
    h.low_bits = int(np.bitwise_or.reduce(low))
    return h


def _summarize_float32(x: NDArray[Any]) -> Counts:
    if x.size <= _FEW:
        return _summarize_few(x)
    from ggd import _kernels  # loads numba

    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.int32)
    counts, low_sums, occurs = _tables()
    _kernels.count_cells(bits, counts, low_sums, occurs)
    return _occupied(counts, low_sums, occurs)


def _tables() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return what the kernels update: counts and sums of all cells, and what is found beside them."""
    return np.zeros(65536, np.int64), np.zeros(65536, np.int64), np.array([*_NO_EXTREMES, 0, 0, 0, 0], dtype=np.int64)


def _occupied(counts: NDArray[np.int64], low_sums: NDArray[np.int64], occurs: NDArray[np.int64]) -> Counts:
    """Return the histogram of the tables; the counts are changed."""
    smallest, largest, low_bits, infinities, plus, minus = occurs.tolist()
    counts[0x0000] -= plus
    counts[0x8000] -= minus
    h = Counts()
    h.zero_count, h.inf_count, h.low_bits = plus + minus, infinities, low_bits
    keys = np.flatnonzero(counts)
    # The cells of the largest exponent hold the infinities and NaN.
    finite = (keys & 0x7FFF) < 0x7F80
    h.nan_count = int(counts[keys[~finite]].sum()) - infinities
    keys = keys[finite]
    h.keys, h.counts, h.low_sums = keys.astype(np.uint16), counts[keys], low_sums[keys]
    if (smallest, largest) != _NO_EXTREMES:
        h.min, h.max = _from_ordered(smallest), _from_ordered(largest)
    return h


def _from_ordered(ordered: int) -> float:
    """Return the float32 value of an ordered integer of `count_cells`, with zero unsigned."""
    pattern = ordered if ordered >= 0 else (ordered ^ 0x7FFFFFFF) & 0xFFFFFFFF
    return float(np.array(pattern, dtype=np.uint32).view(np.float32)) + 0.0


def _summarize_16_bit(x: NDArray[Any]) -> Counts:
    """Count the 65,536 patterns, then place each pattern once."""
    if x.size <= _FEW:
        return _summarize_few(x)
    from ggd import _kernels  # loads numba

    counts = np.zeros(65536, np.int64)
    _kernels.count_patterns(np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("=")).view(np.uint16), counts)
    patterns = np.flatnonzero(counts)
    counts = counts[patterns]
    if x.dtype.name == "bfloat16":
        value = (patterns.astype(np.uint32) << np.uint32(16)).view(np.float32)
    else:
        value = patterns.astype(np.uint16).view(np.float16).astype(np.float32)
    h = Counts()
    finite, zero = np.isfinite(value), value == 0
    h.zero_count = int(counts[zero].sum())
    h.nan_count = int(counts[np.isnan(value)].sum())
    h.inf_count = int(counts[np.isinf(value)].sum())
    if np.any(finite):
        h.min, h.max = float(value[finite].min()) + 0.0, float(value[finite].max()) + 0.0
    inside = finite & ~zero
    bits, counts = value[inside].view(np.uint32), counts[inside]
    h.low_bits = int(np.bitwise_or.reduce(bits & np.uint32(0xFFFF)))
    keys = (bits >> np.uint32(16)).astype(np.uint16)  # ascending, as the patterns are
    first = np.flatnonzero(np.diff(keys, prepend=np.uint16(0)))  # 0 is the key of no number of 16 bits
    h.keys = keys[first]
    if first.size:
        h.counts = np.add.reduceat(counts, first)
        h.low_sums = np.add.reduceat(counts * (bits & np.uint32(0xFFFF)).astype(np.int64), first)
    return h


def _summarize_float64(x: NDArray[Any]) -> Counts:
    if x.size <= _FEW:
        return _summarize_clamped(np.asarray(x, dtype=np.float64))
    from ggd import _kernels  # loads numba

    counts, low_sums, occurs = _tables()
    extremes = np.array([np.inf, -np.inf])
    lost = _kernels.count_cells_rounded(np.ascontiguousarray(x, dtype=np.float64), counts, low_sums, occurs, extremes)
    h = _occupied(counts, low_sums, occurs)
    if lost or h.inf_count or h.nan_count:
        return _summarize_clamped(np.asarray(x, dtype=np.float64))
    if x.size:
        h.min, h.max = (extremes + 0.0).tolist()
    return h


def _summarize_clamped(x: NDArray[np.float64]) -> Counts:
    """Count values of which some are not finite or beyond the range of float32."""
    with np.errstate(over="ignore", under="ignore"):
        y = x.astype(np.float32)
    finite = np.isfinite(x)
    high = finite & np.isinf(y)
    low = (y == 0) & (x != 0)
    limits = np.finfo(np.float32)
    y[high] = np.copysign(limits.max, y[high])
    y[low] = np.copysign(limits.smallest_subnormal, y[low])
    h = _summarize_float32(y)
    h.clamped_high, h.clamped_low = int(np.count_nonzero(high)), int(np.count_nonzero(low))
    if np.any(finite):
        h.min, h.max = float(x[finite].min()) + 0.0, float(x[finite].max()) + 0.0
    return h

"""Counting an array of any supported type into a histogram: a few conversions round two kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggd import _kernels
from ggd.histogram import MagnitudeHistogram

__all__ = ["summaries"]

_CHUNK = 1 << 20  # elements converted to float32 at a time
_NO_EXTREMES = (2**31 - 1, -(2**31))


def summaries(x: NDArray[Any]) -> Iterator[MagnitudeHistogram]:
    """Yield histograms that together hold the values of an array; see `MagnitudeHistogram.update`.

    Parameters
    ----------
    x : ndarray
        Any shape and layout.

    Yields
    ------
    MagnitudeHistogram

    Raises
    ------
    ValueError
        If the type is not supported; nothing is yielded before that.

    Examples
    --------
    >>> [h.count for h in summaries(np.zeros((2, 3), np.float32))]
    [6]
    """
    name = x.dtype.name
    x = x.ravel(order="K")
    if name in ("bfloat16", "float16"):
        yield _summarize_16_bit(x, name)
    elif name == "float32":
        yield _summarize_float32(x)
    elif name == "float64" or x.dtype.kind in "iu":
        for start in range(0, x.size, _CHUNK):
            yield _summarize_float64(x[start : start + _CHUNK].astype(np.float64, copy=False))
    else:
        raise ValueError(
            f"a histogram takes float32, float64, float16, bfloat16 or integers, got {name}: convert the array first"
        )


def _summarize_float32(x: NDArray[Any]) -> MagnitudeHistogram:
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.int32)
    counts, low_sums = np.zeros(65536, np.int64), np.zeros(65536, np.int64)
    found = np.array([*_NO_EXTREMES, 0, 0, 0, 0], dtype=np.int64)
    _kernels.count_cells(bits, counts, low_sums, found)
    smallest, largest, low_bits, infinities, plus, minus = found.tolist()
    counts[0x0000] -= plus
    counts[0x8000] -= minus
    h = MagnitudeHistogram()
    h.zero_count, h.inf_count, h.low_bits = plus + minus, infinities, low_bits
    # The cells of the largest exponent hold the infinities and NaN.
    finite = (np.arange(65536) & 0x7FFF) < 0x7F80
    h.nan_count = int(counts[~finite].sum()) - infinities
    occupied = (counts > 0) & finite
    h.keys = np.flatnonzero(occupied).astype(np.uint16)
    h.counts, h.low_sums = counts[occupied], low_sums[occupied]
    if (smallest, largest) != _NO_EXTREMES:
        h.min, h.max = _from_ordered(smallest), _from_ordered(largest)
    return h


def _from_ordered(ordered: int) -> float:
    """Return the float32 value of an ordered integer of `count_cells`, with zero unsigned."""
    pattern = ordered if ordered >= 0 else (ordered ^ 0x7FFFFFFF) & 0xFFFFFFFF
    return float(np.array(pattern, dtype=np.uint32).view(np.float32)) + 0.0


def _summarize_16_bit(x: NDArray[Any], name: str) -> MagnitudeHistogram:
    """Count the 65,536 patterns, then place each pattern once."""
    counts = np.zeros(65536, np.int64)
    _kernels.count_patterns(np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("=")).view(np.uint16), counts)
    patterns = np.flatnonzero(counts)
    counts = counts[patterns]
    if name == "bfloat16":
        value = (patterns.astype(np.uint32) << np.uint32(16)).view(np.float32)
    else:
        value = patterns.astype(np.uint16).view(np.float16).astype(np.float32)
    h = MagnitudeHistogram()
    finite, zero = np.isfinite(value), value == 0
    h.zero_count = int(counts[zero].sum())
    h.nan_count = int(counts[np.isnan(value)].sum())
    h.inf_count = int(counts[np.isinf(value)].sum())
    if np.any(finite):
        h.min, h.max = float(value[finite].min()) + 0.0, float(value[finite].max()) + 0.0
    inside = finite & ~zero
    bits, counts = value[inside].view(np.uint32), counts[inside]
    h.low_bits = int(np.bitwise_or.reduce(bits & np.uint32(0xFFFF)))
    h.keys, place = np.unique((bits >> np.uint32(16)).astype(np.uint16), return_inverse=True)
    h.counts, h.low_sums = np.zeros(h.keys.size, np.int64), np.zeros(h.keys.size, np.int64)
    np.add.at(h.counts, place, counts)
    np.add.at(h.low_sums, place, counts * (bits & np.uint32(0xFFFF)).astype(np.int64))
    return h


def _summarize_float64(x: NDArray[np.float64]) -> MagnitudeHistogram:
    with np.errstate(over="ignore", under="ignore"):
        y = x.astype(np.float32)
    h = _summarize_float32(y)
    if not x.size or h.inf_count or h.nan_count or np.count_nonzero(x) != x.size - h.zero_count:
        return _summarize_clamped(x, y)
    h.min, h.max = float(x.min()) + 0.0, float(x.max()) + 0.0
    return h


def _summarize_clamped(x: NDArray[np.float64], y: NDArray[np.float32]) -> MagnitudeHistogram:
    """Count values of which some are not finite or beyond the range of float32; y is changed."""
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

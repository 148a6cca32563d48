"""Searching scales: those that are stored, and of them the one of the least squared error on the data."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._base.threads import in_pieces
from ..codec.dispatch import distinct_numbers, least_error
from ..codec.rounding import RoundingMode, as_rounding, check_choices
from ..codec.thresholds import cell_table, search_table
from ..formats import Format
from .blocks import Block
from .numbers import stored_number
from .scheme import Scheme

__all__ = ["Numbers", "in_octaves", "judged_mode", "least_error_scales", "nearest_stored", "numbers_of"]

# Scales are searched from eight octaves below that of rule `max` to half the format's range above it (the middle of a
# posit's range is its most precise part), then in finer steps around the best.
_OCTAVES_BELOW = 8
_STEPS_OF_OCTAVE = (4, 32)
_RECURRING = 512  # elements of a group in 16 bits from which on it pays to count equal ones


class Numbers(NamedTuple):
    """Groups of numbers one after the other: how often each occurs (nothing for once), and where groups begin."""

    x: NDArray[np.float64]
    weights: NDArray[np.float64]
    starts: NDArray[np.int64]


def numbers_of(data: NDArray[Any], groups: NDArray[np.float64], scheme: Scheme) -> Numbers:
    """Return the groups of a tensor; of long rows in 16 bits, in which numbers recur, each number once.

    Where a number and its negative have the same error, they count as one.
    """
    assert scheme.scales is not None
    block: Block = scheme.scales.block
    count, length = groups.shape
    in_rows = block is not None and set(block[:-1]) <= {1} and data.shape[-1:] == (length,)
    if not (in_rows and data.dtype.itemsize == 2 and data.dtype.kind not in "iu" and length >= _RECURRING):
        return Numbers(groups.reshape(-1), np.empty(0), np.arange(0, groups.size + 1, max(length, 1)))
    with np.errstate(invalid="ignore"):  # signalling NaNs are among them
        numbers = np.arange(1 << 16, dtype=np.uint16).view(data.dtype).astype(np.float64)
    numbers[~np.isfinite(numbers)] = 0.0
    patterns = np.ascontiguousarray(data).view(np.uint16).reshape(count, length)
    if _is_mirrored(scheme.format, judged_mode(scheme)):
        patterns = patterns & np.uint16(0x7FFF)
    distinct = Numbers(np.empty(groups.size), np.empty(groups.size), np.empty(count + 1, np.int64))
    distinct_numbers(patterns, numbers, *distinct)
    return distinct


def least_error_scales(
    numbers: Numbers, base: NDArray[np.float64], unit: NDArray[np.float64] | float, scheme: Scheme
) -> NDArray[np.float64]:
    """Search, for each block, the scale of the least squared error."""
    chosen, least = base, np.full(base.size, np.inf)
    _try_scales(numbers, base[:, None], np.zeros(1, np.int64), scheme, least)
    coarse, fine = (1, 1) if in_octaves(scheme) else _STEPS_OF_OCTAVE
    rounds = [np.arange(-_OCTAVES_BELOW * coarse, (scheme.format.octaves / 2 + 1) * coarse) / coarse]
    if fine > coarse:
        rounds.append(np.arange(1 - fine // coarse, fine // coarse) / fine)
    for octaves in rounds:
        scales = nearest_stored((chosen / unit)[:, None] * 2.0**octaves, scheme) * np.reshape(unit, (-1, 1))
        # Likely ones first, so that the others are given up early.
        order = np.argsort(np.abs(octaves + 0.4), kind="stable")
        best = _try_scales(numbers, scales, order, scheme, least)
        chosen = np.where(best >= 0, np.take_along_axis(scales, np.maximum(best, 0)[:, None], axis=1)[:, 0], chosen)
    return chosen


def _try_scales(
    numbers: Numbers,
    scales: NDArray[np.float64],
    order: NDArray[np.int64],
    scheme: Scheme,
    least: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return the column of the best scale of each block, -1 where ``least`` is not undercut; it is updated."""
    tables, best = _search_tables(scheme.format, judged_mode(scheme)), np.empty(least.size, np.int64)
    x, weights, starts = numbers

    def work(start: int, stop: int) -> None:
        part = slice(start, stop)
        bounds = starts[start : stop + 1]
        least_error(x, weights, bounds, scales[part], order, tables, least[part], best[part])

    in_pieces(work, least.size, weight=max(int(starts[-1]) // least.size, 1) * order.size)
    return best


@lru_cache(maxsize=256)
def _search_tables(fmt: Format, mode: RoundingMode) -> tuple[Any, ...]:
    """Return what the kernel rounds float64 by: a cell table or the steps of a search, and the values of the codes."""
    _, overflow = check_choices(fmt, as_rounding(mode))
    values = np.resize(np.append(fmt.values, np.nan), 1 << 8 * fmt.code_dtype.itemsize)
    cells = cell_table(fmt, mode, overflow, "float64")
    if cells is not None:
        return (*cells, np.empty(0, np.uint64), np.empty(0, fmt.code_dtype), values)
    steps = search_table(fmt, mode, overflow, "float64")
    nothing = np.empty(0, np.uint64), np.empty(0, fmt.code_dtype), np.uint64(0)
    return (*nothing, steps.first, steps.result, values)


@lru_cache(maxsize=256)
def _is_mirrored(fmt: Format, mode: RoundingMode) -> bool:
    """Return whether each negative number is rounded to the negative of what its magnitude is rounded to."""
    threshold, result, _, _, _, values = _search_tables(fmt, mode)
    if not threshold.size:  # steps of a search: formats with so many values gain little
        return False
    (positive, negative), sign = np.split(threshold, 2), np.uint64(1 << 63)
    upper, lower = np.split(values[result], 2)
    return np.array_equal(positive | sign, negative | sign) and np.array_equal(upper, -lower, equal_nan=True)


def judged_mode(scheme: Scheme) -> RoundingMode:
    """Return the mode whose error counts."""
    mode = RoundingMode(scheme.rounding)
    return RoundingMode.NEAREST_EVEN if mode is RoundingMode.STOCHASTIC else mode


def in_octaves(scheme: Scheme) -> bool:
    """Whether scales are powers of two."""
    assert scheme.scales is not None
    return scheme.scales.format == "e8m0fnu"


def nearest_stored(scale: NDArray[np.float64], scheme: Scheme) -> NDArray[np.float64]:
    """Return the nearest scales that are stored; of powers of two, by their logarithms."""
    assert scheme.scales is not None
    with np.errstate(under="ignore", over="ignore"):
        if in_octaves(scheme):
            scale = np.exp2(np.round(np.log2(np.maximum(scale, np.finfo(np.float64).tiny))))
        return stored_number(scale, scheme.scales.format)

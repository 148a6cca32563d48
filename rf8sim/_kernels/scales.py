"""The search for scales: the squared error of groups of numbers at several scales, as far as it matters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_PARTS = (8, 64)  # least and most elements after which a scale that cannot be the best is given up


@njit(nogil=True, cache=True, error_model="numpy")
def least_error(x: Any, weights: Any, starts: Any, scales: Any, order: Any, tables: Any, least: Any, best: Any) -> None:
    """Find, for each group of numbers, the scale of the least squared error.

    ``x``: the groups one after the other, from ``starts`` on, which ends with their end; ``weights``: of each number,
    or none. ``scales``: the candidates of each group; ``order``: in which to try them; of several with the same error
    the one of the lowest column is the best. ``tables``: a cell table (threshold, result, shift) of float64, or a
    search table's first patterns and results, and the values of the codes. ``least`` holds an error to be undercut for
    each group, and becomes the least one; ``best`` its column, -1 where no candidate is better. Sums go from element
    to element.
    """
    threshold, result, shift, first, step, values = tables
    quotient = np.empty(_PARTS[1])
    patterns = quotient.view(np.uint64)
    for i in range(least.size):
        row = x[starts[i] : starts[i + 1]]
        limit, found = least[i], -1
        length = min(max(row.size // 8, _PARTS[0]), _PARTS[1])
        for c in order:
            scale, total = scales[i, c], 0.0
            for start in range(0, row.size, length):
                part = row[start : start + length]
                for j in range(part.size):
                    quotient[j] = part[j] / scale
                for j in range(part.size):
                    pattern = patterns[j]
                    if first.size:
                        low, high = 0, first.size
                        while low < high:
                            middle = (low + high) >> 1
                            if first[middle] <= pattern:
                                low = middle + 1
                            else:
                                high = middle
                        code = step[low - 1]
                    else:
                        cell = pattern >> shift
                        code = result[cell + cell + np.uint64(pattern >= threshold[cell])]
                    off = part[j] - values[code] * scale
                    square = off * off
                    if weights.size:
                        square *= weights[starts[i] + start + j]
                    total += square
                if total > limit:
                    break
            if total < limit or (total == limit and 0 <= c < found):
                limit, found = total, c
        least[i], best[i] = limit, found


@njit(nogil=True, cache=True)
def distinct_numbers(patterns: Any, numbers: Any, x: Any, weights: Any, starts: Any) -> None:
    """Write the distinct 16-bit patterns of each row as numbers, in the order of their first place, and their counts.

    ``numbers``: what each pattern stands for. ``starts``: where the numbers of each row begin, and the end of all.
    """
    counts, found = np.zeros(1 << 16, np.uint32), np.empty((1 << 16) + 1, np.uint16)
    place = 0
    for i in range(patterns.shape[0]):
        distinct = 0
        for pattern in patterns[i]:
            found[distinct] = pattern
            distinct += counts[pattern] == 0
            counts[pattern] += np.uint32(1)
        starts[i] = place
        for pattern in found[:distinct]:
            x[place], weights[place] = numbers[pattern], counts[pattern]
            counts[pattern] = 0
            place += 1
    starts[patterns.shape[0]] = place

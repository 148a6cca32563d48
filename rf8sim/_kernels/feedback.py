"""Rounding that counts the bits of each code, and hands what a column is off by on to the columns that follow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_BLOCK = 64  # columns whose errors are handed on together, a multiple of 4
_TILE = 512  # columns that they are added to at a time


@njit(nogil=True, cache=True, error_model="numpy")
def choose_values(
    x: Any, blocks: Any, table: Any, bits: Any, price: Any, weights: Any, feedback: Any, ranks: Any, errors: Any
) -> None:
    """Choose the value of each number that costs least, column after column.

    As q, a value times the scale of its place plus its offset, a number u costs ``weights[j] * (u - q)**2`` and
    ``price[row] * bits`` of the value. u is x, plus ``feedback[i, j]`` times what x is off by in each earlier column i
    if ``feedback`` has rows. Sums go from column to column, so that no cut of the rows changes a bit.

    ``blocks``: scale and offset of each number. ``table``: the ascending values, and the quotient from which each but
    the first is the nearest one. ``ranks``: place in the table of what was chosen. ``errors``: weighted squares of
    each row.
    """
    scale, offset = blocks
    values, edges = table
    rows, columns = x.shape
    least, free = bits.min(), not price.any()
    wanted = x.copy()
    off = np.zeros((rows, _BLOCK))
    errors[:] = 0.0
    for start in range(0, columns, _BLOCK):
        stop = min(start + _BLOCK, columns)
        for row in range(rows):
            total, rate = errors[row], price[row]
            for column in range(start, stop):
                number, unit, shift = wanted[row, column], scale[row, column], offset[row, column]
                weight = weights[column]
                quotient = (number - shift) / unit
                low, high = 0, edges.size
                while low < high:
                    middle = (low + high) >> 1
                    if edges[middle] <= quotient:
                        low = middle + 1
                    else:
                        high = middle
                best = low
                gap = number - (values[low] * unit + shift)
                error = weight * (gap * gap)
                if not free:
                    cost = error + rate * bits[low]
                    for side in (-1, 1):
                        rank = low + side
                        while 0 <= rank < values.size:
                            gap = number - (values[rank] * unit + shift)
                            square = weight * (gap * gap)
                            if square + rate * least >= cost:
                                break
                            if square + rate * bits[rank] < cost:
                                best, error, cost = rank, square, square + rate * bits[rank]
                            rank += side
                ranks[row, column] = best
                total += error
                if feedback.size:
                    gap = x[row, column] - (values[best] * unit + shift)
                    off[row, column - start] = gap
                    for k in range(column + 1, stop):
                        wanted[row, k] += feedback[column, k] * gap
            errors[row] = total
        if feedback.size == 0:
            continue
        off[:, stop - start :] = 0.0
        for tile in range(stop, columns, _TILE):
            end = min(tile + _TILE, columns)
            for row in range(rows):
                target = wanted[row, tile:end]
                for i in range(0, _BLOCK, 4):
                    a, b, c, d = off[row, i], off[row, i + 1], off[row, i + 2], off[row, i + 3]
                    first, second = feedback[start + i, tile:end], feedback[start + i + 1, tile:end]
                    third, fourth = feedback[start + i + 2, tile:end], feedback[start + i + 3, tile:end]
                    for k in range(target.size):
                        target[k] += ((a * first[k] + b * second[k]) + c * third[k]) + d * fourth[k]

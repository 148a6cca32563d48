"""Reading the tensors that together stand for one weight: codes, scales, zero points."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..packing import unpack
from ..tensor_info import TensorInfo

__all__ = [
    "Decode", "Meaning", "Parts", "affine", "block_of", "exponents", "read", "read_rows", "row_scales", "row_words",
    "rows_in",
]  # fmt: skip

Decode = Callable[[range], NDArray[np.float32]]
"""From successive rows, the last axis being a row, to their numbers, of shape (rows, columns)."""

Parts = Mapping[str, TensorInfo]
"""The tensors of one weight by what they are: ``codes``, and the suffixes of its companions."""


class Meaning(NamedTuple):
    """What the tensors of one weight stand for.

    Attributes
    ----------
    shape : tuple of int
        Of the weight.
    words : str
        How it is stored: ``e4m3fn, a float32 scale for 128 x 128``.
    decode : callable
        Its numbers; nothing but scales stays in memory.
    by_rows : bool
        Whether a few rows can be read without all the others.
    """

    shape: tuple[int, ...]
    words: str
    decode: Callable[[], Decode]
    by_rows: bool = True


def read(info: TensorInfo) -> NDArray[Any]:
    """Read a tensor whole, of its shape."""
    return info.elements(0, info.size).reshape(info.shape)


def read_rows(info: TensorInfo, rows: range) -> NDArray[Any]:
    """Read successive rows of a tensor, its last axis being a row."""
    columns = info.shape[-1] if info.shape else 1
    return info.elements(rows.start * columns, len(rows) * columns).reshape(len(rows), columns)


def row_words(info: TensorInfo, rows: range, count: int, bits: int) -> NDArray[np.uint8]:
    """Read rows of packed codes: ``count`` codes of ``bits`` bits in each, the first in the lowest bits."""
    words = read_rows(info, rows)
    return unpack(words.view(np.uint8).reshape(len(rows), -1)[:, : -(-count * bits // 8)], count, bits)


def exponents(codes: NDArray[Any]) -> NDArray[np.float32]:
    """Return the powers of two of E8M0 codes; NaN for 255."""
    if codes.dtype.kind not in "iu":
        return codes.astype(np.float32)
    powers = np.ldexp(np.float32(1), np.minimum(codes.astype(np.int32), 254) - 127)
    return np.where(codes == 255, np.float32(np.nan), powers).astype(np.float32)


def block_of(length: int, scales: int, usual: int | None = None) -> int | None:
    """Return how many elements of an axis share one of so many scales; None if that cannot be.

    The last block may be short, so several lengths can fit: the usual one goes first, then whole blocks of a power of
    two, then 128.

    Examples
    --------
    >>> block_of(576, 5), block_of(4096, 128), block_of(576, 9), block_of(7, 1), block_of(10, 11)
    (128, 32, 64, 7, None)
    """
    if scales == 1:
        return max(length, 1)
    if not 0 < scales <= length:
        return None
    exact = length // scales if length % scales == 0 else 0
    whole = exact if exact.bit_count() == 1 else 0
    return next((block for block in (usual, whole, 128, exact) if block and -(-length // block) == scales), None)


def row_scales(
    scales: NDArray[Any], shape: tuple[int, ...], blocks: tuple[int, ...]
) -> Callable[[range], NDArray[Any]]:
    """Return the scales of every element of successive rows, made from an array with a scale for each block."""
    width, columns = blocks[-1], shape[-1]

    def rows_of(rows: range) -> NDArray[Any]:
        places = np.unravel_index(np.arange(rows.start, rows.stop), shape[:-1]) if shape[:-1] else ()
        chosen = scales[tuple(place // block for place, block in zip(places, blocks[:-1], strict=True))]
        chosen = chosen.reshape(len(rows), -1)
        if chosen.shape[1] == 1:
            return chosen
        return np.repeat(chosen, width, axis=1)[:, :columns]

    return rows_of


def affine(
    codes: NDArray[Any], zeros: NDArray[np.float32], scales: NDArray[np.float32], groups: NDArray[np.int64] | int
) -> NDArray[np.float32]:
    """Return codes less their zero points, times their scales.

    Parameters
    ----------
    codes : ndarray, shape (rows, columns)
        Integers.
    zeros, scales : ndarray of float32, shape (rows, groups)
        One of each for a group of a row.
    groups : int or ndarray of int, shape (columns,)
        How many successive columns make a group, or which group each column is of.

    Examples
    --------
    >>> scales = np.float32([[2.0, 10.0]])
    >>> affine(np.uint8([[1, 2, 3, 4]]), np.float32([[1.0, 0.0]]), scales, 2).tolist()
    [[0.0, 2.0, 30.0, 40.0]]
    """
    numbers = codes.astype(np.float32)
    if isinstance(groups, int) and numbers.shape[1] % groups == 0:
        by_group = numbers.reshape(len(numbers), -1, groups)
        by_group -= zeros[:, :, None]
        by_group *= scales[:, :, None]
        return numbers
    which = np.arange(numbers.shape[1]) // groups if isinstance(groups, int) else groups
    numbers -= zeros[:, which]
    numbers *= scales[:, which]
    return numbers


def rows_in(shape: tuple[int, ...]) -> int:
    """Return how many rows a weight has, its last axis being a row."""
    return math.prod(shape[:-1])

"""Which elements of a tensor share a scale: the geometry of blocks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Block",
    "expand",
    "grouped",
    "layout",
    "matrix_shape",
    "row_pieces",
    "row_step",
    "scale_rows",
    "scale_shape",
    "ungrouped",
]

Block = tuple[int, ...] | None
"""Elements that share a scale along each of the last axes, -1 for a whole axis; None for all elements."""


def layout(block: Block, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape in which a tensor is cut into blocks, and the sizes of a block along each of its axes.

    A tensor of four axes or more is taken as a matrix, axis 0 by all the rest, unless the block has an entry for each
    axis.

    Examples
    --------
    >>> layout((1, 32), (8, 100)), layout((1, -1), (6, 3, 5, 5)), layout((1, -1, -1), (4, 6, 8))
    (((8, 100), (1, 32)), ((6, 75), (1, 75)), ((4, 6, 8), (1, 6, 8)))
    """
    if block is None:
        return (math.prod(shape),), (max(math.prod(shape), 1),)
    view = shape or (1,)
    if len(view) != len(block) and len(view) > 3:
        view = (view[0], math.prod(view[1:]))
    sizes = ((1,) * len(view) + block)[-len(view) :]
    return view, tuple(max(length, 1) if size == -1 else size for size, length in zip(sizes, view, strict=True))


def scale_shape(block: Block, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the scales of a tensor; where a scale is one for a channel it broadcasts with the tensor.

    Examples
    --------
    >>> scale_shape((1, 32), (8, 100)), scale_shape((1, -1), (6, 3, 5, 5)), scale_shape(None, (8, 100))
    ((8, 4), (6, 1, 1, 1), ())
    """
    if block is None or not shape:
        return ()
    view, sizes = layout(block, shape)
    grid = tuple(-(-length // size) for length, size in zip(view, sizes, strict=True))
    return grid + (1,) * (len(shape) - len(grid))


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the shape of a tensor as the matrix whose rows are its channels.

    Examples
    --------
    >>> matrix_shape((5,)), matrix_shape((8, 4)), matrix_shape((2, 8, 4)), matrix_shape((6, 3, 5, 5))
    ((1, 5), (8, 4), (16, 4), (6, 75))
    """
    if len(shape) < 2:
        return 1, math.prod(shape)
    if len(shape) == 3:
        return shape[0] * shape[1], shape[2]
    return shape[0], math.prod(shape[1:])


def row_pieces(block: Block, shape: tuple[int, ...], elements: int) -> list[range] | None:
    """Cut the matrix of a tensor (`matrix_shape`) into rows that can be quantized one piece after the other.

    Each piece holds whole blocks, so that a scheme of that block gives for the piece, as a matrix, the scales of the
    tensor; those of successive pieces follow each other.

    Parameters
    ----------
    block : tuple of int or None
        The block.
    shape : tuple of int
        The tensor's shape.
    elements : int
        The most elements of a piece, unless whole blocks have more.

    Returns
    -------
    list of range or None
        Rows of each piece; None where blocks do not lie in the matrix: the tensor is then one piece in its own shape.

    Examples
    --------
    >>> row_pieces((1, 32), (5, 64), 128), row_pieces((-1, 1), (2, 3, 4), 100)
    ([range(0, 2), range(2, 4), range(4, 5)], [range(0, 3), range(3, 6)])
    >>> row_pieces((1, -1, -1), (4, 6, 8), 100) is None
    True
    """
    rows, step = matrix_shape(shape)[0], row_step(block, shape, elements)
    if step is None:
        return None
    return [range(row, min(row + step, rows)) for row in range(0, max(rows, 1), max(step, 1))]


def row_step(block: Block, shape: tuple[int, ...], elements: int) -> int | None:
    """Return how many rows a piece of `row_pieces` has, which may be more than there are.

    Examples
    --------
    >>> row_step((128, 128), (512, 64), 10_000), row_step((1, -1, -1), (4, 6, 8), 100) is None
    (128, True)
    """
    rows, columns = matrix_shape(shape)
    size = 1 if block is None else block[-2]
    if block is not None and len(block) > 2 and len(shape) > 2:
        return None
    unit = shape[1] if len(shape) == 3 else rows  # blocks do not reach from one expert into the next
    step = max(elements // max(columns, 1), 1)
    if size == -1 or (size > 1 and unit % size and len(shape) == 3):
        return unit
    return max(step // size, 1) * size if size > 1 else step


def scale_rows(block: Block, shape: tuple[int, ...], rows: range) -> slice:
    """Return which rows of the scales, as a matrix, belong to a piece of `row_pieces`.

    Examples
    --------
    >>> scale_rows((128, 128), (300, 64), range(128, 300)), scale_rows((2, 4), (2, 3, 8), range(3, 6))
    (slice(1, 3, None), slice(2, 4, None))
    """
    height = matrix_shape(shape)[0]
    if block is None or not rows:
        return slice(0, 1)
    unit = shape[1] if len(shape) == 3 else height
    size = unit if block[-2] == -1 else block[-2]
    first, last = (row // unit * -(-unit // size) + row % unit // size for row in (rows[0], rows[-1]))
    return slice(first, last + 1)


def grouped(x: NDArray[Any], block: Block, fill: float = 0.0) -> NDArray[np.float64]:
    """Return a tensor as float64 with one block in each row, in the order of the scales.

    Not finite numbers become ``fill``, and short blocks are padded with it.
    """
    array = np.array(x, dtype=np.float64)
    array[~np.isfinite(array)] = fill
    view, sizes = layout(block, x.shape)
    array = array.reshape(view)
    short = [(0, -length % size) for length, size in zip(view, sizes, strict=True)]
    if any(end for _, end in short):
        array = np.pad(array, short, constant_values=fill)
    split: list[int] = []
    for length, size in zip(array.shape, sizes, strict=True):
        split += [length // size, size]
    axes = range(len(sizes))
    moved = array.reshape(split).transpose([2 * axis for axis in axes] + [2 * axis + 1 for axis in axes])
    return moved.reshape(-1, math.prod(sizes))


def expand(scale: NDArray[Any], block: Block, shape: tuple[int, ...], rows: slice | None = None) -> NDArray[Any]:
    """Return the scale of each element of a tensor, or of some indices of its first axis.

    Parameters
    ----------
    scale : ndarray
        Of `scale_shape`.
    block : tuple of int or None
        The block.
    shape : tuple of int
        The tensor's shape.
    rows : slice, optional
        Indices of axis 0.

    Returns
    -------
    ndarray
        In a shape that broadcasts with the tensor, or with those rows of it.
    """
    if scale.size == 1:
        return scale.reshape(())
    view, sizes = layout(block, shape)
    grid = tuple(-(-length // size) for length, size in zip(view, sizes, strict=True))
    out = scale.reshape(grid)
    first = range(*rows.indices(shape[0])) if rows is not None else range(view[0])
    if grid[0] > 1:
        out = out[np.arange(first.start, first.stop) // sizes[0]]
    for axis in range(1, len(view)):
        if grid[axis] > 1:
            out = np.repeat(out, sizes[axis], axis=axis)[(slice(None),) * axis + (slice(view[axis]),)]
    if len(view) == len(shape):
        return out
    if all(length == 1 for length in out.shape[1:]):
        return out.reshape(out.shape[:1] + (1,) * (len(shape) - 1))
    return out.reshape(out.shape[:1] + shape[1:])


def ungrouped(values: NDArray[Any], block: Block, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return one number for each row of `grouped` in the shape of the scales."""
    return values.reshape(scale_shape(block, shape))

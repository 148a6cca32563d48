"""Cutting a tensor into pieces that hold whole blocks of several schemes at once, and reading them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checkpoints.checkpoint import CHUNK_ELEMENTS, TensorInfo
from ..quantization.blocks import Block, matrix_shape, row_step
from ..quantization.scheme import Scheme

__all__ = ["Piece", "cut", "every_nth_row", "pieces", "row_units", "undivided", "widened"]


class Piece(NamedTuple):
    """A piece of a tensor, as a part of the matrix whose rows are its channels.

    Attributes
    ----------
    row : int
        Row of the matrix in which it begins.
    offset : int
        Place of its first element in the tensor, in C order.
    values : ndarray, shape (rows, columns)
        The elements; 8-bit floats as float32, which holds them exactly.
    """

    row: int
    offset: int
    values: NDArray[Any]


def block_of(scheme: Scheme) -> Block:
    """Return the block of the scales; None where there are none, or one."""
    return None if scheme.scales is None else scheme.scales.block


def undivided(scheme: Scheme, shape: tuple[int, ...]) -> bool:
    """Return whether a tensor of a shape can only be quantized in one piece.

    Examples
    --------
    >>> from rf8sim import as_scheme
    >>> undivided(as_scheme("int8/1x*x*"), (4, 6, 8)), undivided(as_scheme("int8/1x*x*"), (24, 8))
    (True, False)
    """
    several_outer = (
        scheme.scales is not None and scheme.scales.outer is not None and scheme.scales.outer.block is not None
    )
    return several_outer or row_step(block_of(scheme), shape, 1) is None


def cut(
    schemes: Iterable[Scheme], shape: tuple[int, ...], elements: int, rows: range | None = None
) -> list[tuple[int, int, int, int]]:
    """Cut the matrix of a tensor into pieces that hold whole blocks of all schemes.

    Parameters
    ----------
    schemes : iterable of Scheme
        None of which is `undivided`.
    shape : tuple of int
        Shape of the tensor.
    elements : int
        The most elements of a piece, unless whole blocks have more.
    rows : range, optional
        Rows of the matrix to cut; they begin with a block. By default all.

    Returns
    -------
    list of tuple of int
        Row, column, height and width of each piece, in the order of the elements. Only a row that is longer than a
        piece, and no channel of a scheme, is cut itself.

    Examples
    --------
    >>> from rf8sim import as_scheme
    >>> cut([as_scheme("mxfp4")], (5, 64), 128)
    [(0, 0, 2, 64), (2, 0, 2, 64), (4, 0, 1, 64)]
    >>> cut([as_scheme("mxfp4")], (100,), 40), cut([as_scheme("int8/channel")], (100,), 40)
    ([(0, 0, 1, 32), (0, 32, 1, 32), (0, 64, 1, 32), (0, 96, 1, 4)], [(0, 0, 1, 100)])
    """
    blocks = [block_of(scheme) for scheme in schemes]
    height, columns = matrix_shape(shape)
    rows = range(height) if rows is None else rows
    unit, most = row_units(blocks, shape)
    widths = [1 if block is None else block[-1] for block in blocks]
    if columns > elements and unit == 1 and -1 not in widths:
        multiple = math.lcm(*widths)
        step = max(elements // multiple, 1) * multiple
        starts = range(0, columns, step)
        return [(row, start, 1, min(step, columns - start)) for row in rows for start in starts]
    step = min(max(elements // max(columns, 1) // unit, 1) * unit, most)
    return [(row, 0, min(step, rows.stop - row), columns) for row in range(rows.start, rows.stop, step)]


def row_units(blocks: Iterable[Block], shape: tuple[int, ...]) -> tuple[int, int]:
    """Return of how many rows of the matrix pieces are multiples, so that they hold whole blocks, and their most rows.

    Examples
    --------
    >>> row_units([(128, 128)], (512, 64)), row_units([(128, 128)], (4, 200, 64)), row_units([None], (5, 8))
    ((128, 512), (200, 200), (1, 5))
    """
    rows, columns = matrix_shape(shape)
    unit, most = 1, max(rows, 1)
    for block in dict.fromkeys(blocks):
        enough = (rows + max(block or (1,))) * columns  # for one piece, where blocks may lie in one
        smallest, largest = row_step(block, shape, 1), row_step(block, shape, enough)
        if smallest and largest and rows:
            unit, most = math.lcm(unit, min(smallest, rows)), min(most, largest, rows)
    return min(unit, most), most


def pieces(
    tensor: TensorInfo, places: Sequence[tuple[int, int, int, int]], elements: int, rows: range
) -> Iterator[Piece]:
    """Read the pieces that `cut` placed.

    Parameters
    ----------
    tensor : TensorInfo
        The tensor.
    places : list of tuple of int
        From `cut`; together they are the rows ``rows`` of the matrix.
    elements : int
        The most elements that are read at a time.
    rows : range
        Successive rows of the matrix.

    Yields
    ------
    Piece
        The pieces in order.
    """
    columns = matrix_shape(tensor.shape)[1]
    chunks = (widened(chunk.values).reshape(-1) for chunk in tensor.chunks(elements, rows=rows))
    data = _recut(chunks, (height * width for _, _, height, width in places))
    for (row, column, height, width), flat in zip(places, data, strict=True):
        yield Piece(row, row * columns + column, flat.reshape(height, width))


def _recut(chunks: Iterator[NDArray[Any]], sizes: Iterable[int]) -> Iterator[NDArray[Any]]:
    """Yield arrays of given sizes from those that come."""
    waiting: list[NDArray[Any]] = []
    count = 0
    for size in sizes:
        while count < size:
            waiting.append(next(chunks))
            count += waiting[-1].size
        joined = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
        yield joined[:size]
        count -= size
        waiting = [joined[size:]] if count else []


def every_nth_row(tensor: TensorInfo, every: int, elements: int = CHUNK_ELEMENTS) -> TensorInfo:
    """Return rows 0, ``every``, 2 ``every`` and so on of the matrix of a tensor, as a tensor of two axes.

    Parameters
    ----------
    tensor : TensorInfo
        A tensor of two axes or more.
    every : int
        At least 1; with 1 the tensor is returned as it is.
    elements : int
        The most elements that are read at a time.

    Returns
    -------
    TensorInfo
        Read in chunks, as the tensor is.
    """
    if every == 1:
        return tensor
    height, columns = tensor.matrix_shape

    def selected() -> Iterator[NDArray[Any]]:
        for chunk in tensor.chunks(elements):
            if chunk.values.shape[1] == columns or chunk.row % every == 0:
                yield chunk.values[-chunk.row % every :: every].reshape(-1)

    def stream(sizes: Iterable[int], skip: int = 0) -> Iterator[NDArray[Any]]:
        data = _recut(selected(), [skip, *sizes] if skip else sizes)
        if skip:
            next(data)
        return data

    return replace(tensor, shape=(-(-height // every), columns), _stream=stream, divisible=False)


def widened(values: NDArray[Any]) -> NDArray[Any]:
    """Return 8-bit floats as float32, which holds them exactly."""
    return values.astype(np.float32) if values.dtype.itemsize == 1 else values

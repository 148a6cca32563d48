"""A tensor of a checkpoint: what it is, and reading it in chunks of a bounded size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from ..quantization.blocks import matrix_shape
from .errors import CheckpointError

__all__ = ["CHUNK_ELEMENTS", "NOT_MEASURED", "Chunk", "Coded", "Stream", "TensorInfo"]

CHUNK_ELEMENTS = 1 << 20
"""The most elements that are held in memory at a time."""

NOT_MEASURED = "is not a floating-point type that is measured"
"""Why a tensor of another type is skipped."""


class Stream(Protocol):
    """A source of elements: passes over some, then yields pieces of the sizes given, flat, in C order."""

    def __call__(self, sizes: Iterable[int], skip: int = 0) -> Iterator[NDArray[Any]]:
        """Pass over ``skip`` elements, then yield pieces of these sizes."""


class Chunk(NamedTuple):
    """A piece of a tensor, seen as the matrix of its channels (`TensorInfo.matrix_shape`).

    Attributes
    ----------
    row, column : int
        Where the piece begins in that matrix; the column is 0 unless one row alone exceeds the limit.
    values : ndarray, shape (rows, columns)
        The elements, in the stored dtype, native byte order, C-contiguous and writable.
    """

    row: int
    column: int
    values: NDArray[Any]


class Coded(NamedTuple):
    """How another tool stored a weight.

    Attributes
    ----------
    words : str
        The format of its codes and its scales, for people.
    parts : tuple of str
        Names of its tensors in the file: codes, scales, zero points.
    bits : float
        Stored bits for each element.
    files : tuple of Path
        The files that hold its tensors.
    """

    words: str
    parts: tuple[str, ...]
    bits: float
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a checkpoint: what it is, and how to read it.

    Attributes
    ----------
    name : str
        Its name in the file.
    dtype : str
        The stored type, in NumPy's and ml_dtypes' words where they have one (``float32``, ``bfloat16``).
    shape : tuple of int
        Its shape.
    source : Path
        The file that holds it.
    skipped : str or None
        Why it cannot be measured (integers, for one); None for a tensor that can.
    divisible : bool
        Whether reading can begin at any row at no cost: not in an archive, nor in Fortran order.
    coded : Coded or None
        How another tool stored it, if it is quantized: it is read as the numbers that its codes and scales stand for.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    source: Path
    skipped: str | None = None
    _stream: Stream | None = field(default=None, repr=False, compare=False)
    divisible: bool = field(default=False, repr=False, compare=False)
    coded: Coded | None = None

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it is read from."""
        return (self.source,) if self.coded is None else self.coded.files

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """The shape as the matrix whose rows are the channels (`rf8sim.quantization.blocks.matrix_shape`)."""
        return matrix_shape(self.shape)

    def chunks(self, elements: int = CHUNK_ELEMENTS, multiple: int = 1, rows: range | None = None) -> Iterator[Chunk]:
        """Read the tensor piece by piece: whole rows together, or parts of a row that alone is too large.

        Parameters
        ----------
        elements : int
            The most elements in a piece (a row is cut only if it is larger).
        multiple : int
            Where a row is cut, it is cut at a multiple of this number (of a block size, for one).
        rows : range, optional
            Successive rows to read alone; by default all of them.

        Yields
        ------
        Chunk
            The pieces in order; none for a tensor without elements.

        Raises
        ------
        CheckpointError
            If the tensor is one that is skipped, or the file ends early or is damaged.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> from rf8sim.checkpoints.checkpoint import open_checkpoint
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/w.npy", np.arange(6.0).reshape(3, 2))
        ...     [tensor] = open_checkpoint(f"{folder}/w.npy")
        ...     [(chunk.row, chunk.values.tolist()) for chunk in tensor.chunks(elements=4)]
        [(0, [[0.0, 1.0], [2.0, 3.0]]), (2, [[4.0, 5.0]])]
        """
        if self.skipped is not None or self._stream is None:
            raise CheckpointError(f"{self.source}: tensor {self.name!r} is not read: {self.skipped}")
        height, columns = self.matrix_shape
        rows = range(height) if rows is None else rows
        if height * columns == 0:
            return
        pieces: list[tuple[int, int, int, int]]
        if columns <= elements:
            step = max(1, elements // columns)
            pieces = [(row, 0, min(step, rows.stop - row), columns) for row in range(rows.start, rows.stop, step)]
        else:
            step = max(multiple, elements // multiple * multiple)
            cuts = range(0, columns, step)
            pieces = [(row, cut, 1, min(step, columns - cut)) for row in rows for cut in cuts]
        data = self._stream((height * width for _, _, height, width in pieces), rows.start * columns)
        for (row, column, height, width), flat in zip(pieces, data, strict=True):
            yield Chunk(row, column, flat.reshape(height, width))

    def row_chunks(self, pieces: Sequence[range]) -> Iterator[Chunk]:
        """Read successive rows of the matrix, a chunk for each range, in one pass.

        Parameters
        ----------
        pieces : sequence of range
            Rows, each range beginning where the one before ends.

        Yields
        ------
        Chunk
            The rows of each range.

        Raises
        ------
        CheckpointError
            As for `chunks`.
        """
        if self.skipped is not None or self._stream is None:
            raise CheckpointError(f"{self.source}: tensor {self.name!r} is not read: {self.skipped}")
        columns = self.matrix_shape[1]
        if self.size:
            data = self._stream((len(piece) * columns for piece in pieces), pieces[0].start * columns)
            for piece, flat in zip(pieces, data, strict=True):
                yield Chunk(piece.start, 0, flat.reshape(len(piece), columns))

    def elements(self, start: int, count: int) -> NDArray[Any]:
        """Read successive elements of the flat tensor as they are stored, also of one that is not measured.

        Raises
        ------
        CheckpointError
            If it is of a type that numpy has not, or the file is damaged.
        """
        if self._stream is None:
            raise CheckpointError(f"{self.source}: tensor {self.name!r} cannot be read: {self.skipped}")
        [piece] = self._stream([count], start)
        return piece

    def stored(self, elements: int = CHUNK_ELEMENTS, start: int = 0, stop: int | None = None) -> Iterator[NDArray[Any]]:
        """Read the tensor as it is stored, also one that is not measured.

        Parameters
        ----------
        elements : int
            The most elements in a piece.
        start, stop : int, optional
            The elements of the flat tensor to read; by default all.

        Yields
        ------
        ndarray
            The pieces in order, flat; none for a tensor without elements.

        Raises
        ------
        CheckpointError
            If it is of a type that numpy has not, or the file is damaged.
        """
        if self._stream is None:
            raise CheckpointError(f"{self.source}: tensor {self.name!r} cannot be carried over: {self.skipped}")
        stop = self.size if stop is None else stop
        yield from self._stream((min(elements, stop - place) for place in range(start, stop, elements)), start)

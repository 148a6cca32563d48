"""The errors of several schemes at once on numbers of 16 bits: a table of all patterns says what each one costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .._base.memory import aligned_zeros
from .metrics import RowErrors, element_errors
from .scaling import Chosen
from .scheme import Scheme
from .tensor import QuantizedTensor, quantize

if TYPE_CHECKING:
    from ggd import MagnitudeHistogram

__all__ = ["PatternErrors"]

_COLUMNS = 16  # of a group of the kernel


class PatternErrors:
    """Adds up the errors of each row of a matrix of 16-bit floats that may come in pieces, in several schemes at once.

    The sums are those of `RowErrors` in every bit; elements that are not finite are passed over.

    Parameters
    ----------
    dtype : dtype
        float16 or bfloat16.
    schemes : sequence of tuple of Scheme and Chosen
        Schemes without random rounding, each with its scales: none, or one for all elements.
    rows : int
        Rows of the matrix.
    summary : ggd.MagnitudeHistogram, optional
        Of the elements: only what occurs is put in the tables, which then cost less than a thousand elements do.

    Examples
    --------
    >>> from rf8sim import as_scheme
    >>> from rf8sim.quantization.scaling import choose_scales
    >>> x = np.array([[1.0, 1.1], [2.0, 2.0]], np.float16)
    >>> scheme = as_scheme("rf8/none")
    >>> errors = PatternErrors(x.dtype, [(scheme, choose_scales(x, scheme))], 2)
    >>> errors.add(x)
    >>> errors.of_schemes()[0].squared_errors.round(6).tolist()
    [0.000645, 0.5]
    """

    def __init__(
        self,
        dtype: DTypeLike,
        schemes: Sequence[tuple[Scheme, Chosen]],
        rows: int,
        summary: MagnitudeHistogram | None = None,
    ) -> None:
        patterns = np.arange(1 << 16, dtype=np.uint16).view(dtype)
        with np.errstate(invalid="ignore"):  # signalling NaNs are among them
            numbers = patterns.astype(np.float32)
        occurring = np.flatnonzero(_present(numbers, summary))
        present, numbers = patterns[occurring], numbers[occurring]
        self._places = np.full(patterns.size, present.size, np.uint16)  # the last place is that of all others
        self._places[occurring] = np.arange(present.size)
        self.quantized: list[QuantizedTensor] = [quantize(present, scheme, scale=scales) for scheme, scales in schemes]
        self._errors = [element_errors(numbers, quantized) for quantized in self.quantized]
        columns: list[NDArray[np.float64]] = []
        self._columns: list[list[int]] = []
        for elements in self._errors:
            # Squares are those of all schemes, but for elements that become infinite or NaN.
            squares, *errors = elements.addends
            known = [i for i in sorted({of[0] for of in self._columns}) if np.array_equal(columns[i], squares)]
            columns += [*([] if known else [squares]), *errors]
            end = len(columns)
            self._columns.append([*(known[:1] or [end - 3]), end - 2, end - 1])
        groups = -(-len(columns) // _COLUMNS)
        self._tables = aligned_zeros((groups, present.size + 1, _COLUMNS))
        for place, column in enumerate(columns):
            self._tables[place // _COLUMNS, :-1, place % _COLUMNS] = column
        self._sums = np.zeros((rows, groups, _COLUMNS))
        self._counts = np.zeros(present.size + 1, np.int64)

    def add(self, x: NDArray[Any], row: int = 0) -> None:
        """Add a piece.

        Parameters
        ----------
        x : ndarray, shape (n, columns)
            The elements, of the dtype of the tables.
        row : int
            The row of the matrix that is the first of the piece.
        """
        from .._kernels.lanes import pattern_sums

        patterns = np.ascontiguousarray(x).view(np.uint16)
        pattern_sums(patterns, self._places, self._tables, self._sums[row : row + len(x)], self._counts)

    def of_schemes(self) -> list[RowErrors]:
        """Return the errors in each scheme."""
        sums, counts = self._sums.reshape(len(self._sums), -1), self._counts[:-1]
        occurs = counts > 0
        return [
            RowErrors.of_elements(
                quantized.format, elements, counts, sums[:, columns], elements.addends[2, occurs].max(initial=0.0)
            )
            for quantized, elements, columns in zip(self.quantized, self._errors, self._columns, strict=True)
        ]


def _present(numbers: NDArray[np.float32], summary: MagnitudeHistogram | None) -> NDArray[np.bool_]:
    """Return which patterns are finite, and of a summary lie in one of its cells: the upper halves of float32."""
    finite = np.isfinite(numbers)
    if summary is None:
        return finite
    occupied = np.zeros(1 << 16, np.bool_)
    occupied[summary.keys] = True
    inside: NDArray[np.bool_] = (numbers == 0) | occupied[numbers.view(np.uint32) >> np.uint32(16)]
    return finite & inside

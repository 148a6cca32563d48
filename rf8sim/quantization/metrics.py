"""What quantization cost: error measures of a tensor, as sums that merge."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codec.inputs import as_data
from ..formats import Format
from .scaling import QuantizedTensor

__all__ = ["QuantizationError", "RowErrors", "measure"]


@dataclass(frozen=True, eq=False)
class QuantizationError:
    """Sums over the elements of a tensor and its quantized copy; ``a | b`` is that of both together.

    Attributes
    ----------
    count : int
        Elements that are finite before and after.
    nonzero : int
        Those that are not zero.
    relative_count : int
        Those that are not zero before or after: only they have a relative error.
    underflow : int
        Nonzero elements that became zero.
    overflow : int
        Elements beyond the largest or below the lowest value of the scaled format, infinities included.
    sum_squares, sum_squared_error : float
        Of the elements, and of the errors.
    sum_relative_error, max_relative_error : float
        Over the elements that have one.
    code_counts : ndarray of int64, shape (256,)
        How often each code occurs.

    Examples
    --------
    >>> import numpy as np, rf8sim
    >>> x = np.random.default_rng(0).normal(size=10_000)
    >>> error = measure(x, rf8sim.quantize(x, "rf8"))
    >>> round(error.sqnr_db, 1), error.underflow_share, error.overflow_share
    (28.5, 0.0, 0.0)
    """

    count: int
    nonzero: int
    relative_count: int
    underflow: int
    overflow: int
    sum_squares: float
    sum_squared_error: float
    sum_relative_error: float
    max_relative_error: float
    code_counts: NDArray[np.int64]

    def __or__(self, other: QuantizationError) -> QuantizationError:
        return QuantizationError(
            self.count + other.count,
            self.nonzero + other.nonzero,
            self.relative_count + other.relative_count,
            self.underflow + other.underflow,
            self.overflow + other.overflow,
            self.sum_squares + other.sum_squares,
            self.sum_squared_error + other.sum_squared_error,
            self.sum_relative_error + other.sum_relative_error,
            max(self.max_relative_error, other.max_relative_error),
            self.code_counts + other.code_counts,
        )

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise ratio in dB; inf without error, nan without signal."""
        if self.sum_squares == 0:
            return math.nan
        return math.inf if self.sum_squared_error == 0 else 10 * math.log10(self.sum_squares / self.sum_squared_error)

    @property
    def mse(self) -> float:
        """Mean squared error."""
        return self.sum_squared_error / self.count if self.count else math.nan

    @property
    def mean_relative_error(self) -> float:
        """Mean of ``|x - y| / |x|`` over the elements that do not become zero."""
        return self.sum_relative_error / self.relative_count if self.relative_count else math.nan

    @property
    def underflow_share(self) -> float:
        """Share of all elements that are not zero and became zero."""
        return self.underflow / self.count if self.count else math.nan

    @property
    def overflow_share(self) -> float:
        """Share of all elements that were out of range."""
        return self.overflow / self.total if self.total else math.nan

    @property
    def total(self) -> int:
        """All elements, those included that are not finite."""
        return int(self.code_counts.sum())

    @property
    def entropy_bits(self) -> float:
        """Entropy of the codes in bits per weight: what an ideal entropy coder of single codes would need."""
        counts = self.code_counts[self.code_counts > 0].astype(np.float64)
        if not counts.size:
            return math.nan
        share = counts / counts.sum()
        return float(-np.sum(share * np.log2(share))) + 0.0


def measure(x: ArrayLike, quantized: QuantizedTensor) -> QuantizationError:
    """Compare a tensor with its quantized copy.

    Parameters
    ----------
    x : array_like
        The tensor, of the shape of ``quantized``.
    quantized : QuantizedTensor
        Its quantized copy.

    Returns
    -------
    QuantizationError
        The sums. They do not depend on the number of threads.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> import rf8sim
    >>> measure([1.0, 3.0, 0.0], rf8sim.quantize([1.0, 3.0, 0.0], "rf8", scaling="none")).overflow
    1
    """
    data = as_data(x)
    if data.shape != quantized.shape:
        raise ValueError(
            f"the tensor has shape {data.shape}, its quantized copy {quantized.shape}: they must be the same"
        )
    rows = functools.partial(_as_rows, scaling=quantized.scaling, axis=quantized.axis)
    matrix = rows(data)
    errors = RowErrors(quantized.format, matrix.shape[0])
    errors.add(
        matrix, rows(quantized.codes), quantized.scale, quantized.block_size if quantized.scaling == "block" else 0
    )
    return errors.total()


def _as_rows(array: NDArray[Any], scaling: str, axis: int) -> NDArray[Any]:
    """Return an array as a matrix: a channel in each row, or the axis of the blocks along the rows, or one row."""
    if scaling == "channel":
        return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    if scaling == "block":
        return np.moveaxis(array, axis, -1).reshape(math.prod(array.shape) // max(array.shape[axis], 1), -1)
    return array.reshape(1, -1)


class RowErrors:
    """Adds up the error of each row of a matrix that may come in pieces; the pieces change no bit of the sums.

    Parameters
    ----------
    fmt : Format
        Of the codes.
    rows : int
        Rows of the matrix.
    finite_only : bool
        Pass over elements that are not finite, as if they were not there; otherwise infinities count as overflow.

    Examples
    --------
    >>> import numpy as np, rf8sim
    >>> x = np.array([[1.0, 1.1], [2.0, 2.0]])
    >>> errors = RowErrors(rf8sim.get_format("rf8"), 2)
    >>> for column in range(2):
    ...     part = x[:, [column]]
    ...     errors.add(part, rf8sim.encode(part, "rf8"), np.ones(1, np.float32))
    >>> errors.squared_errors.round(6).tolist(), errors.total().overflow
    ([0.000625, 0.5], 2)
    """

    def __init__(self, fmt: Format, rows: int, finite_only: bool = False) -> None:
        self._fmt, self._finite_only, self._codes = fmt, finite_only, np.zeros(256, dtype=np.int64)
        self._sums, self._counts = np.zeros((rows, 4)), np.zeros((rows, 5), dtype=np.int64)
        self._values = np.resize(np.append(fmt.values, np.nan), 256)

    @classmethod
    def of_parts(cls, parts: Sequence[RowErrors]) -> RowErrors:
        """Return the errors of a matrix from those of successive rows of it."""
        whole = cls(parts[0]._fmt, 0, parts[0]._finite_only)
        whole._sums = np.concatenate([part._sums for part in parts])
        whole._counts = np.concatenate([part._counts for part in parts])
        whole._codes = np.sum([part._codes for part in parts], axis=0)
        return whole

    @property
    def squares(self) -> NDArray[np.float64]:
        """The sum of squares of each row."""
        return self._sums[:, 0]

    @property
    def squared_errors(self) -> NDArray[np.float64]:
        """The sum of squared errors of each row."""
        return self._sums[:, 1]

    def add(
        self, x: NDArray[Any], codes: NDArray[np.uint8], scale: NDArray[np.float32], block: int = 0, row: int = 0
    ) -> None:
        """Add a piece.

        Parameters
        ----------
        x : ndarray, shape (n, columns)
            The elements, of any type that a tensor may have.
        codes : ndarray of uint8, shape (n, columns)
            Their codes.
        scale : ndarray of float32
            One for all, one for each row, or, row after row, one for each block.
        block : int
            Elements of a row that share a scale; 0 for all of them.
        row : int
            The row of the matrix that is the first of the piece.
        """
        from .._kernels.errors import row_errors

        own, (height, width) = slice(row, row + x.shape[0]), x.shape
        if not x.size:
            return
        block = block or width
        scales = scale.reshape(1 if scale.size == 1 else height, -1)
        data = np.ascontiguousarray(x, dtype=np.float32 if x.dtype.kind not in "iu" and x.dtype.itemsize < 8 else None)
        if data.dtype != np.float32:
            data = data.astype(np.float64, copy=False)
        row_errors(
            data, np.ascontiguousarray(codes), self._values, self._fmt.min, self._fmt.max, scales, block,
            self._finite_only, self._sums[own], self._counts[own], self._codes,
        )  # fmt: skip

    def total(self) -> QuantizationError:
        """Return the sums of all rows together; sums of floats are correctly rounded from those of the rows."""
        finite, nonzero, relative, underflow, overflow = self._counts.sum(axis=0).tolist()
        squares, errors, relatives = (_sum(self._sums[:, i]) for i in range(3))
        largest = float(self._sums[:, 3].max(initial=0.0))
        return QuantizationError(
            finite, nonzero, relative, underflow, overflow, squares, errors, relatives, largest, self._codes.copy()
        )


def _sum(values: NDArray[np.float64]) -> float:
    return math.fsum(values) if np.isfinite(values).all() else float(np.sum(values))

"""What quantization cost: error measures of a tensor, as sums that merge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codec.inputs import as_data
from ..formats import Format
from .blocks import expand, layout
from .records import Count, ExtendedFloat
from .tensor import QuantizedTensor

__all__ = ["ElementErrors", "QuantizationError", "RowErrors", "element_errors", "measure"]


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
    code_counts : ndarray of int64, shape (256,), or (65536,) for a format of more than 8 bits
        How often each code occurs.

    Examples
    --------
    >>> import numpy as np, rf8sim
    >>> x = np.random.default_rng(0).normal(size=10_000)
    >>> error = measure(x, rf8sim.quantize(x, "rf8"))
    >>> round(error.sqnr_db, 1), error.underflow_share, error.overflow_share
    (28.5, 0.0, 0.0)
    """

    count: Count
    nonzero: Count
    relative_count: Count
    underflow: Count
    overflow: Count
    sum_squares: ExtendedFloat
    sum_squared_error: ExtendedFloat
    sum_relative_error: ExtendedFloat
    max_relative_error: ExtendedFloat
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
    >>> measure([1.0, 3.0, 0.0], rf8sim.quantize([1.0, 3.0, 0.0], "rf8/none")).overflow
    1
    """
    if not isinstance(quantized, QuantizedTensor):
        raise TypeError(
            "measure compares a tensor with what quantize returns for it (measure(x, quantize(x, 'int8'))), got "
            f"{type(quantized).__name__}"
        )
    data = as_data(x)
    if data.shape != quantized.shape:
        raise ValueError(
            f"the tensor has shape {data.shape}, its quantized copy {quantized.shape}: they must be the same"
        )
    shape = row_shape(quantized)
    errors = RowErrors(quantized.format, shape[0])
    scale, offset, block = row_scales(quantized)
    errors.add(data.reshape(shape), quantized.codes.reshape(shape), scale, offset, block)
    return errors.total()


def row_shape(quantized: QuantizedTensor) -> tuple[int, int]:
    """Return the shape of a tensor as a matrix in whose rows its blocks lie: all axes but the last, by the last."""
    scales = quantized.scheme.scales
    view, _ = layout(None if scales is None else scales.block, quantized.shape)
    return math.prod(view[:-1]), view[-1]


def row_scales(quantized: QuantizedTensor) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, int]:
    """Return scales and offsets as `RowErrors.add` takes them for `row_shape`, and the block size.

    Returns
    -------
    scale, offset : ndarray of float64, shape (1 or rows, blocks)
        One row for all where there is one scale; the offset is None without zero points.
    block : int
        Elements of a row that share a scale; 0 for all of them.
    """
    scales, scale, offset = quantized.scheme.scales, quantized.scale, quantized.offset
    if scales is None or scale.size == 1:
        return scale.reshape(1, 1).astype(np.float64), None if offset is None else offset.reshape(1, 1), 0
    view, sizes = layout(scales.block, quantized.shape)
    grid = tuple(-(-length // size) for length, size in zip(view, sizes, strict=True))
    rows, blocks = math.prod(view[:-1]), grid[-1]

    def spread(numbers: NDArray[Any]) -> NDArray[np.float64]:
        leading = expand(numbers.reshape(grid), (*sizes[:-1], 1), (*view[:-1], blocks))
        return np.broadcast_to(leading, (*view[:-1], blocks)).reshape(rows, blocks).astype(np.float64)

    return spread(scale), None if offset is None else spread(offset), sizes[-1]


class ElementErrors(NamedTuple):
    """What elements add to `RowErrors`, each by itself.

    Attributes
    ----------
    codes : ndarray of uint8 or uint16, shape (n,)
        Their codes.
    results : ndarray of float64, shape (n,)
        What they become.
    addends : ndarray of float64, shape (3, n)
        Square, squared error, relative error; zeros for what becomes infinite or NaN.
    tallies : ndarray of int64, shape (5, n)
        Whether they are finite, not zero, with a relative error, underflows, overflows.
    """

    codes: NDArray[Any]
    results: NDArray[np.float64]
    addends: NDArray[np.float64]
    tallies: NDArray[np.int64]


def element_errors(x: NDArray[np.float32], quantized: QuantizedTensor) -> ElementErrors:
    """Return the errors of finite elements, with one scale for all, to the bits of the loop of `RowErrors`."""
    fmt, value, codes = quantized.format, x.astype(np.float64), quantized.codes
    factor = float(quantized.scale.item())
    shift = 0.0 if quantized.offset is None else float(quantized.offset.item())
    bottom, top = sorted((fmt.min * factor + shift, fmt.max * factor + shift))
    with np.errstate(all="ignore"):
        results = fmt.values[codes] * factor + shift
        off = np.abs(value - results)
        addends = np.array([value * value, off * off, off / np.abs(value)])
    finite = np.isfinite(results)
    nonzero = finite & (value != 0)
    related = nonzero & (results != 0)
    addends[:2, ~finite] = addends[2, ~related] = 0.0
    beyond = (value > top) | (value < bottom)
    tallies = np.array([finite, nonzero, related, nonzero & ~related, beyond], np.int64)
    return ElementErrors(codes, results, addends, tallies)


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
        size = 1 << 8 * fmt.code_dtype.itemsize
        self._fmt, self._finite_only, self._codes = fmt, finite_only, np.zeros(size, dtype=np.int64)
        self._sums, self._counts = np.zeros((rows, 4)), np.zeros((rows, 5), dtype=np.int64)
        self._values = np.resize(np.append(fmt.values, np.nan), size)

    @classmethod
    def of_parts(cls, parts: Sequence[RowErrors]) -> RowErrors:
        """Return the errors of a matrix from those of successive rows of it."""
        joined = cls(parts[0]._fmt, 0, parts[0]._finite_only)
        joined._sums = np.concatenate([part._sums for part in parts])
        joined._counts = np.concatenate([part._counts for part in parts])
        joined._codes = np.sum([part._codes for part in parts], axis=0)
        return joined

    @classmethod
    def of_elements(
        cls,
        fmt: Format,
        elements: ElementErrors,
        counts: NDArray[np.int64],
        sums: NDArray[np.float64],
        largest: float,
    ) -> RowErrors:
        """Return the errors of a matrix from counts of elements that fall under few cases.

        Parameters
        ----------
        fmt : Format
            Of the codes.
        elements : ElementErrors
            An element of each case.
        counts : ndarray of int64, shape (n,)
            How often each case occurs in the matrix.
        sums : ndarray of float64, shape (rows, 3)
            The sums of squares, squared errors and relative errors of each row.
        largest : float
            The largest relative error.
        """
        joined = cls(fmt, len(sums))
        joined._sums[:, :3] = sums
        joined._sums[:1, 3] = largest
        joined._counts[:1] = elements.tallies @ counts
        np.add.at(joined._codes, elements.codes, counts)
        return joined

    @property
    def sums(self) -> NDArray[np.float64]:
        """The sums of squares, squared errors and relative errors of each row, shape (rows, 3)."""
        return self._sums[:, :3]

    @property
    def squares(self) -> NDArray[np.float64]:
        """The sum of squares of each row."""
        return self._sums[:, 0]

    @property
    def squared_errors(self) -> NDArray[np.float64]:
        """The sum of squared errors of each row."""
        return self._sums[:, 1]

    def add(
        self,
        x: NDArray[Any],
        codes: NDArray[Any],
        scale: NDArray[Any],
        offset: NDArray[np.float64] | None = None,
        block: int = 0,
        row: int = 0,
    ) -> None:
        """Add a piece.

        Parameters
        ----------
        x : ndarray, shape (n, columns)
            The elements, of any type that a tensor may have.
        codes : ndarray of uint8 or uint16, shape (n, columns)
            Their codes.
        scale : ndarray of float32 or float64
            One for all, one for each row, or, row after row, one for each block.
        offset : ndarray of float64, optional
            What is added to ``scale * value``, of as many numbers.
        block : int
            Elements of a row that share a scale; 0 for all of them.
        row : int
            The row of the matrix that is the first of the piece.
        """
        from .._kernels.errors import row_errors

        rows, (height, width) = slice(row, row + x.shape[0]), x.shape
        if not x.size:
            return
        block = block or width
        scales = scale.reshape(1 if scale.size == 1 else height, -1).astype(np.float64)
        offsets = np.zeros_like(scales) if offset is None else np.ascontiguousarray(offset.reshape(scales.shape))
        data = np.ascontiguousarray(x, dtype=np.float32 if x.dtype.kind not in "iu" and x.dtype.itemsize < 8 else None)
        if data.dtype != np.float32:
            data = data.astype(np.float64, copy=False)
        row_errors(
            data, np.ascontiguousarray(codes), self._values, self._fmt.min, self._fmt.max, (scales, offsets), block,
            self._finite_only, self._sums[rows], self._counts[rows], self._codes,
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

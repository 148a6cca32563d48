"""What quantization cost: error measures of a tensor, as sums that merge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _kernels
from ._checks import as_data
from .codec import decode
from .scaling import QuantizedTensor, by_rows, expand_scale

__all__ = ["QuantizationError", "measure"]


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
    fmt = quantized.format
    expanded = expand_scale(quantized.scale, data.shape, quantized.scaling, quantized.axis, quantized.block_size)
    sums, counts = np.zeros(4), np.zeros(5, dtype=np.int64)

    def step(part: Any, scale: NDArray[np.float32]) -> None:
        wide = scale.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            quotient = np.ascontiguousarray(data[part].astype(np.float64) / wide)
        result = decode(quantized.codes[part], fmt, dtype=np.float64, threads=1)
        factor = np.ascontiguousarray(np.broadcast_to(wide, quotient.shape))
        _kernels.error_sums(quotient.ravel(), result.ravel(), factor.ravel(), fmt.min, fmt.max, sums, counts)

    by_rows(step, data.shape, expanded, threads=1)
    finite, nonzero, relative, underflow, overflow = counts.tolist()
    codes = np.bincount(quantized.codes.ravel(), minlength=256)
    signal, error, relative_error, largest = sums.tolist()
    return QuantizationError(
        finite, nonzero, relative, underflow, overflow, signal, error, relative_error, largest, codes.astype(np.int64)
    )

"""The one-pass summary of an array: exact, mergeable, independent of order, chunks and threads."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ggd._cells import Cells, area_between, magnitude_edges
from ggd._storing import Stored
from ggd.arrays import as_numpy

if TYPE_CHECKING:
    from ggd._counting import Counts
    from ggd.distribution import GGD

__all__ = ["MagnitudeHistogram"]


class MagnitudeHistogram(Stored):
    """Counts and exact sums of an array's values, in cells keyed by the top 16 bits of their float32 pattern.

    A cell is a sign, an exponent and the first 7 bits of the fraction, so its relative width is at most 2^-7;
    with each count goes the integer sum of the other 16 bits, so the sum of the values of a cell is exact.
    bfloat16, float16 and float32 are represented without loss of range; a bfloat16 array is represented
    completely. float64 and integer values are rounded to float32 first (relative error 2^-24); a nonzero one
    beyond float32's range is put in the nearest nonzero finite cell and counted in `clamped_low` or
    `clamped_high`. Zeros, NaN and infinities are counted apart and are in no cell. Only occupied cells are
    stored: of real weights some thousands, about 100 kB.

    Attributes
    ----------
    keys : ndarray of uint16, shape (k,)
        Occupied cells, ascending as unsigned integers.
    counts, low_sums : ndarray of int64, shape (k,)
        Number of values of each cell, and the sum of the low 16 bits of their patterns.
    low_bits : int
        Bitwise or of the low 16 bits of all values: its lowest set bit is the grid that they are on.
    zero_count, nan_count, inf_count, clamped_low, clamped_high : int
        Zeros of either sign; NaN; infinities; values that were too small, and too large, for float32.
    min, max : float
        Exact extremes of the finite values, zeros included; NaN if there are none.

    Examples
    --------
    >>> x = np.array([0.5, -0.25, 0.0, np.nan], dtype=np.float32)
    >>> h = MagnitudeHistogram.from_array(x)
    >>> h.count, h.zero_count, h.nan_count, h.min, h.max, h.abs_sum
    (3, 1, 1, -0.25, 0.5, 0.75)
    >>> h == MagnitudeHistogram.from_array(x[:2]) | MagnitudeHistogram.from_array(x[2:])
    True
    """

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __init__(self) -> None:
        self.keys = np.empty(0, np.uint16)
        self.counts = np.empty(0, np.int64)
        self.low_sums = np.empty(0, np.int64)
        self.low_bits = 0
        self.zero_count = 0
        self.nan_count = 0
        self.inf_count = 0
        self.clamped_low = 0
        self.clamped_high = 0
        self.min = math.nan
        self.max = math.nan
        self._cells: tuple[tuple[object, ...], Cells] | None = None  # of what they are computed, and the cells

    # Building.

    @classmethod
    def from_array(cls, x: ArrayLike, *, threads: int = 1) -> MagnitudeHistogram:
        """Summarize an array.

        Parameters
        ----------
        x : array_like
            Any shape; float32, float64, float16, bfloat16 (ml_dtypes) or an integer type.
        threads : int
            The most that count at once, each 2 MB of memory; the result is the same for every number.

        Returns
        -------
        MagnitudeHistogram

        Raises
        ------
        ValueError
            If x is not of such a type, or there is no thread.

        Examples
        --------
        >>> MagnitudeHistogram.from_array([1.0, 2.0, -4.0]).abs_sum
        7.0
        """
        histogram = cls()
        histogram.update(x, threads=threads)
        return histogram

    def update(self, x: ArrayLike, *, threads: int = 1) -> None:
        """Add the values of an array.

        Parameters
        ----------
        x : array_like
            As in `from_array`.
        threads : int
            As in `from_array`.

        Raises
        ------
        ValueError
            If x is not of a supported type, or there is no thread; the histogram is then unchanged.

        Examples
        --------
        >>> h = MagnitudeHistogram()
        >>> for chunk in np.split(np.arange(6.0), 3):
        ...     h.update(chunk)
        >>> h.count, h.abs_sum
        (6, 15.0)
        """
        from ggd._counting import summaries

        for part in summaries(as_numpy(x), threads):
            self._add(part)

    def _add(self, other: MagnitudeHistogram | Counts) -> None:
        if not self.keys.size:
            keys, counts, low_sums = other.keys, other.counts, other.low_sums
        else:
            keys, counts, low_sums = self._merged(other)
        # A cell's low sum is below 2^16 times its count, so it cannot overflow before 2^47 values are in one
        # cell.
        if np.any(counts < 0) or np.any(counts >= 1 << 47):
            raise OverflowError("a histogram cell cannot count 2**47 values or more")
        self.keys, self.counts, self.low_sums = keys, counts, low_sums
        self.low_bits |= other.low_bits
        for name in ("zero_count", "nan_count", "inf_count", "clamped_low", "clamped_high"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.min = float(np.fmin(self.min, other.min))
        self.max = float(np.fmax(self.max, other.max))

    def _merged(
        self, other: MagnitudeHistogram | Counts
    ) -> tuple[NDArray[np.uint16], NDArray[np.int64], NDArray[np.int64]]:
        """Return the cells of both, with their counts and sums."""
        occupied = np.zeros(65536, np.bool_)
        occupied[self.keys] = occupied[other.keys] = True
        keys = np.flatnonzero(occupied).astype(np.uint16)
        place = np.empty(65536, np.int32)
        place[keys] = np.arange(keys.size)
        counts, low_sums = np.zeros(keys.size, np.int64), np.zeros(keys.size, np.int64)
        parts: tuple[MagnitudeHistogram | Counts, ...] = (self, other)
        for part in parts:
            counts[place[part.keys]] += part.counts
            low_sums[place[part.keys]] += part.low_sums
        return keys, counts, low_sums

    def __ior__(self, other: MagnitudeHistogram) -> MagnitudeHistogram:
        if not isinstance(other, MagnitudeHistogram):
            return NotImplemented
        self._add(other)
        return self

    def __or__(self, other: MagnitudeHistogram) -> MagnitudeHistogram:
        if not isinstance(other, MagnitudeHistogram):
            return NotImplemented
        result = MagnitudeHistogram()
        result._add(self)
        result._add(other)
        return result

    def scaled(self, factor: float) -> MagnitudeHistogram:
        """Return the summary of the data times a positive number, without the data.

        The mean of a cell moves exactly (to float32's 2^-24), and its values with it; moments agree with those of the
        data times the number to twice the error of `abs_moment`.

        Parameters
        ----------
        factor : float
            Positive and finite.

        Returns
        -------
        MagnitudeHistogram
            Values that leave the range of float32 are put at its end, as those of float64 data are.

        Raises
        ------
        ValueError
            If the factor is not positive and finite.

        Examples
        --------
        >>> h = MagnitudeHistogram.from_array([1.0, -4.0, 0.0]).scaled(0.5)
        >>> h.abs_sum, h.min, h.zero_count
        (2.5, -2.0, 1)
        """
        if not 0.0 < factor < math.inf:
            raise ValueError(f"a summary is scaled by a positive finite number, got {factor!r}")
        cells, limits = self.cells(), np.finfo(np.float32)
        with np.errstate(over="ignore", under="ignore"):
            magnitude = np.clip(np.abs(cells.mean) * factor, float(limits.smallest_subnormal), float(limits.max))
            patterns = np.copysign(magnitude, cells.mean).astype(np.float32).view(np.uint32)
        keys, place = np.unique(patterns >> np.uint32(16), return_inverse=True)
        result = self | MagnitudeHistogram()
        result.keys = keys.astype(np.uint16)
        result.counts, result.low_sums = np.zeros(keys.size, np.int64), np.zeros(keys.size, np.int64)
        np.add.at(result.counts, place, cells.counts)
        np.add.at(result.low_sums, place, cells.counts * (patterns & np.uint32(0xFFFF)).astype(np.int64))
        result.low_bits = 1  # the data have left the grid that they were on
        result.min, result.max = self.min * factor, self.max * factor
        return result

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MagnitudeHistogram) and self.to_dict() == other.to_dict()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_cells": None}

    def __repr__(self) -> str:
        counted = f"count={self.count}, cells={self.keys.size}, min={self.min!r}, max={self.max!r}"
        return f"MagnitudeHistogram({counted})"

    # What it knows.

    @property
    def count(self) -> int:
        """Number of finite values, zeros included."""
        return self.nonzero_count + self.zero_count

    @property
    def nonzero_count(self) -> int:
        """Number of finite values that are not zero."""
        return int(self.counts.sum())

    @property
    def size(self) -> int:
        """Number of values seen, NaN and infinities included."""
        return self.count + self.nan_count + self.inf_count

    @property
    def abs_max(self) -> float:
        """Largest magnitude of a finite value; NaN if there are none."""
        return max(abs(self.min), abs(self.max))

    def cells(self) -> Cells:
        """Return the occupied cells as numbers, in ascending order; they are computed once.

        Returns
        -------
        Cells
            Arrays that cannot be written to.

        Examples
        --------
        >>> cells = MagnitudeHistogram.from_array([1.0, 1.0, -2.0]).cells()
        >>> cells.counts, cells.mean
        (array([1, 2]), array([-2.,  1.]))
        """
        source = self.keys, self.counts, self.low_sums, self.low_bits
        if self._cells is None or any(old is not new for old, new in zip(self._cells[0], source, strict=True)):
            self._cells = source, self._computed_cells()
        return self._cells[1]

    def _computed_cells(self) -> Cells:
        negative = self.keys >= 0x8000
        order = np.concatenate([np.flatnonzero(negative)[::-1], np.flatnonzero(~negative)])
        keys, count = self.keys[order], self.counts[order]
        sign = np.where(keys >= 0x8000, -1.0, 1.0)
        edges, widths = magnitude_edges()
        near = edges[keys & 0x7FFF]
        width = widths[keys & 0x7FFF]
        offset = self.low_sums[order] / count / 65536.0  # mean place in the cell, 0 to 1
        magnitude = near + width * offset
        # Within a cell the density is all but linear and the values sit evenly on a grid of that step, unless
        # the mean says that they cannot: no variance exceeds (mean - near)(far - mean). The sample's own mean
        # takes one degree of freedom.
        step = (self.low_bits & -self.low_bits) / 65536.0 if self.low_bits else 1.0
        variance = np.clip(offset * (1.0 - step - offset), 0.0, (1.0 - step * step) / 12.0)
        spread = variance * (width / magnitude) ** 2 * (1.0 - 1.0 / count)
        ends = sign * near, sign * (near + width)
        cells = Cells(count, sign * magnitude, np.minimum(*ends), np.maximum(*ends), spread)
        for column in cells:
            column.flags.writeable = False  # they are shared
        return cells

    def _exact_sum(self, *, signed: bool) -> Fraction:
        total = 0
        for key, count, low in zip(self.keys.tolist(), self.counts.tolist(), self.low_sums.tolist(), strict=True):
            exponent = (key >> 7) & 0xFF
            leading = (key & 0x7F) | (0x80 if exponent else 0)
            part = ((leading << 16) * count + low) << max(exponent - 1, 0)
            total += -part if signed and key >= 0x8000 else part
        return Fraction(total, 1 << 149)  # in units of the smallest subnormal

    @property
    def abs_sum_exact(self) -> Fraction:
        """Sum of magnitudes, exact for 32- and 16-bit floats; of other types, that of the rounded values."""
        return self._exact_sum(signed=False)

    @property
    def abs_sum(self) -> float:
        """Sum of magnitudes, correctly rounded."""
        return float(self.abs_sum_exact)

    @property
    def sum_exact(self) -> Fraction:
        """Sum, exact as `abs_sum_exact` is."""
        return self._exact_sum(signed=True)

    @property
    def mean(self) -> float:
        """Mean of the finite values, correctly rounded; NaN if there are none."""
        return float(self.sum_exact / self.count) if self.count else math.nan

    @property
    def var(self) -> float:
        """Variance of the finite values about their mean, over their number; error as of `abs_moment`."""
        if not self.count:
            return math.nan
        cells, mean = self.cells(), self.mean
        squares = cells.counts * ((cells.mean - mean) ** 2 + cells.spread * cells.mean**2)
        return (math.fsum(squares) + self.zero_count * mean**2) / self.count

    @property
    def std(self) -> float:
        """Square root of `var`."""
        return math.sqrt(self.var)

    def abs_moment(self, p: float) -> float:
        r"""Return the mean of \|x\|^p over the finite values, zeros included.

        Parameters
        ----------
        p : float
            Positive order.

        Returns
        -------
        float
            NaN if there are no finite values. Exact to double precision for p = 1 and for values that are
            alone in their cell or on a bfloat16 grid. Otherwise the values of a cell are taken as spread
            evenly round their exact mean, which leaves a relative error of at most 6e-6 p \|p - 1\| in
            contrived data, and of about 3e-6 p \|p - 1\| / sqrt(n) for n values from a smooth density.

        Raises
        ------
        ValueError
            If p is not positive.

        Examples
        --------
        >>> MagnitudeHistogram.from_array([1.0, -4.0]).abs_moment(0.5)
        1.5
        """
        if not p > 0:
            raise ValueError(f"the order of an absolute moment of data must be positive, got {p!r}")
        if not self.count:
            return math.nan
        cells = self.cells()
        terms = cells.counts * np.abs(cells.mean) ** p * (1.0 + 0.5 * p * (p - 1.0) * cells.spread)
        return math.fsum(terms) / self.count

    def ecdf(self, x: ArrayLike) -> Any:
        """Return the share of finite values that are at most x.

        Parameters
        ----------
        x : array_like

        Returns
        -------
        float or ndarray of float64
            Exact at the ends of cells; linear in between. NaN if there are no finite values.

        Examples
        --------
        >>> MagnitudeHistogram.from_array([-1.0, 0.0, 3.0, 4.0]).ecdf([-2.0, 0.0, 3.5])
        array([0.  , 0.5 , 0.75])
        """
        x = np.asarray(x, dtype=np.float64)
        if not self.count:
            return np.full(x.shape, math.nan)[()]
        position, below = self._steps()
        place = np.searchsorted(position, x, side="right")
        position = np.concatenate([[-np.inf], position, [np.inf]])
        below = np.concatenate([[0.0], below, [float(self.count)]])
        x0, x1, y0, y1 = position[place], position[place + 1], below[place], below[place + 1]
        with np.errstate(invalid="ignore", divide="ignore"):
            inside = np.isfinite(x0) & np.isfinite(x1) & (y1 > y0)
            part = np.where(inside, (x - x0) / (x1 - x0), 0.0)
        result = np.where(np.isnan(x), np.nan, (y0 + part * (y1 - y0)) / self.count)
        return float(result) if result.ndim == 0 else result

    def quantile(self, q: ArrayLike) -> Any:
        """Return quantiles of the finite values.

        Parameters
        ----------
        q : array_like
            Probabilities in [0, 1].

        Returns
        -------
        float or ndarray of float64
            Within one cell of the exact one: relative error at most 2^-7. 0 and 1 give `min` and `max`
            exactly. NaN if there are no finite values.

        Raises
        ------
        ValueError
            If a probability is outside [0, 1].

        Examples
        --------
        >>> MagnitudeHistogram.from_array(np.ones(9)).quantile([0.0, 0.5, 1.0])
        array([1., 1., 1.])
        """
        q = np.asarray(q, dtype=np.float64)
        if not np.all((q >= 0.0) & (q <= 1.0)):
            raise ValueError("a quantile is asked for with probabilities from 0 to 1")
        if not self.count:
            return np.full(q.shape, math.nan)[()]
        position, below = self._steps()
        target = q * self.count
        place = np.clip(np.searchsorted(below, target, side="left"), 1, below.size - 1)
        y0, y1 = below[place - 1], below[place]
        part = np.clip((target - y0) / np.where(y1 > y0, y1 - y0, 1.0), 0.0, 1.0)
        x0, x1 = position[place - 1], position[place]
        result = np.clip(x0 + part * (x1 - x0), self.min, self.max)
        result = np.where(q == 0.0, self.min, np.where(q == 1.0, self.max, result))
        return float(result) if result.ndim == 0 else result

    def _steps(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the corners of the empirical distribution function: places, and counts of values up to each.

        A jump is a place that comes twice. Zeros, and a cell whose values are all at its near end, are jumps.
        """
        cells = self.cells()
        negative = int(np.count_nonzero(cells.mean < 0))
        left, right, count = (
            np.insert(array, negative, zero)
            for array, zero in ((cells.left, 0.0), (cells.right, 0.0), (cells.counts, self.zero_count))
        )
        atom = np.insert(np.abs(cells.mean) == np.minimum(np.abs(cells.left), np.abs(cells.right)), negative, True)
        near = np.where(np.insert(cells.mean, negative, 0.0) < 0, right, left)
        left, right = np.where(atom, near, left), np.where(atom, near, right)
        above = np.cumsum(count).astype(np.float64)
        places, numbers = np.stack([left, right], 1), np.stack([above - count, above], 1)
        return np.asarray(places.ravel()), np.asarray(numbers.ravel())

    def ks(self, distribution: GGD) -> float:
        """Return the Kolmogorov-Smirnov distance to a distribution.

        Parameters
        ----------
        distribution : GGD
            Or anything with a vectorized ``cdf``.

        Returns
        -------
        float
            Largest difference of the distribution functions at the ends of cells and at jumps; the distance
            over all places exceeds it by at most the largest share of one cell, and for smooth data by far
            less. NaN if there are no finite values.

        Examples
        --------
        >>> from ggd import GGD
        >>> h = MagnitudeHistogram.from_array(GGD(1.0).sample(10_000, seed=0).astype(np.float32))
        >>> h.ks(GGD(1.0)) < 0.02 < h.ks(GGD(2.0))
        True
        """
        if not self.count:
            return math.nan
        position, below = self._steps()
        return float(np.max(np.abs(below / self.count - np.asarray(distribution.cdf(position)))))

    def wasserstein(self, distribution: GGD) -> float:
        r"""Return the Wasserstein distance of order 1 to a distribution: the area between the distribution functions.

        Parameters
        ----------
        distribution : GGD
            Or anything with a vectorized ``cdf``.

        Returns
        -------
        float
            In the unit of the data; NaN if there are no finite values. Values are known to a cell of relative width
            2^-7, so the distance of the data themselves differs by at most 2^-7 of the mean of \|x\|, and for smooth
            data by far less (the means of cells are not used). The area out to the range of float32 is counted: where
            a distribution has no mean, there is no end to it.

        Examples
        --------
        All values at zero: the mean magnitude.

        >>> from ggd import GGD
        >>> round(MagnitudeHistogram.from_array(np.zeros(3)).wasserstein(GGD(1.0, 2.0)), 4)
        2.0
        """
        if not self.count:
            return math.nan
        position, below = self._steps()
        return area_between(position, below / self.count, distribution.cdf)

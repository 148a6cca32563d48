"""The errors of several schemes at once on float32 numbers: between two steps of any scheme none changes its result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._base.memory import aligned_zeros
from ..codec.rounding import Rounding, check_choices
from ..codec.thresholds import step_table
from .metrics import ElementErrors, RowErrors, element_errors
from .scaling import Chosen
from .scheme import Scheme
from .tensor import QuantizedTensor, quantize

if TYPE_CHECKING:
    from ggd import MagnitudeHistogram

__all__ = ["IntervalErrors", "Steps", "find_steps"]

_LANES = 8  # schemes that the kernel measures at once
_NEGATIVE = 1 << 31  # the pattern of -0


class Steps(NamedTuple):
    """The intervals of float32 patterns in which a scheme changes nothing.

    Attributes
    ----------
    first : ndarray of uint32
        The first pattern of each interval, ascending, from 0 on.
    quantized : QuantizedTensor
        The elements of these patterns.
    errors : ElementErrors
        Their errors. All elements of an interval have the same code and are counted alike.
    """

    first: NDArray[np.uint32]
    quantized: QuantizedTensor
    errors: ElementErrors


def find_steps(scheme: Scheme, scales: Chosen, summary: MagnitudeHistogram) -> Steps | None:
    """Find where the code of a number changes, within the range of a tensor.

    The thresholds of the format times the scale say where about; `quantize` decides, so the steps are exact for every
    format, scale and rounding mode. That needs no more than that it never decreases, or never increases.

    Parameters
    ----------
    scheme : Scheme
        A scheme without random rounding.
    scales : Chosen
        Its scales: none, or one for all elements.
    summary : ggd.MagnitudeHistogram
        Of the tensor.

    Returns
    -------
    Steps or None
        The steps between the finite elements; None if one of these becomes infinite or NaN.

    Examples
    --------
    >>> import ggd
    >>> from rf8sim import as_scheme
    >>> summary = ggd.MagnitudeHistogram.from_array([0.0, 2.25])
    >>> steps = find_steps(as_scheme("int8/none"), Chosen(()), summary)
    >>> steps.first[:5].view(np.float32).tolist(), steps.quantized.codes[:5].tolist()
    ([0.0, 1.401298464324817e-45, 0.5000000596046448, 1.5, -0.0], [0, 0, 1, 2, 0])
    """
    points = _likely_steps(scheme, scales, summary)
    while True:
        x = points.astype(np.uint32).view(np.float32)
        quantized = quantize(x, scheme, scale=scales)
        errors = element_errors(x, quantized)
        alike = (np.diff(quantized.codes.astype(np.int64)) == 0) & (np.diff(errors.tallies) == 0).all(axis=0)
        distance = np.diff(points)
        unknown = ~alike & (distance > 1) & (points[1:] != _NEGATIVE)
        if not unknown.any():
            break
        points = np.sort(np.concatenate([points, points[:-1][unknown] + distance[unknown] // 2]))
    if not errors.tallies[0].all():
        return None
    kept = np.append(True, ~alike | (points[1:] == _NEGATIVE))
    errors = ElementErrors(errors.codes[kept], errors.results[kept], errors.addends[:, kept], errors.tallies[:, kept])
    return Steps(points[kept].astype(np.uint32), replace(quantized, codes=errors.codes), errors)


def _likely_steps(scheme: Scheme, scales: Chosen, summary: MagnitudeHistogram) -> NDArray[np.int64]:
    """Return patterns from the smallest to the largest of both signs, among them those around each threshold."""
    fmt = scheme.format
    steps = step_table(fmt, *check_choices(fmt, Rounding(scheme.rounding, scheme.overflow)), "float64")
    scale = QuantizedTensor(np.zeros(1, fmt.code_dtype), scales.scales, scheme, scales.zero)
    factor, shift = float(scale.scale.item()), 0.0 if scale.offset is None else float(scale.offset.item())
    with np.errstate(all="ignore"):
        thresholds = np.concatenate([steps.first.view(np.float64), [fmt.min, fmt.max]]) * factor + shift
        x = np.concatenate([thresholds[np.isfinite(thresholds)], [0.0, -0.0]]).astype(np.float32)
    near = (x.view(np.uint32).astype(np.int64)[:, None] + np.arange(-1, 2)).reshape(-1)
    largest = np.array([max(0.0, summary.max), max(0.0, -summary.min)], np.float32)
    plus, minus = largest.view(np.uint32).astype(np.int64) + np.array([0, _NEGATIVE])
    inside = ((near >= 0) & (near <= plus)) | ((near >= _NEGATIVE) & (near <= minus))
    return np.unique(np.concatenate([[0, plus, _NEGATIVE, minus], near[inside]]))


class IntervalErrors:
    """Adds up the errors of each row of a float32 matrix that may come in pieces, in several schemes at once.

    The sums are those of `RowErrors` in every bit.

    Parameters
    ----------
    schemes : sequence of Steps
        Those of each scheme, for the range of the finite elements.
    rows : int
        Rows of the matrix.
    all_finite : bool
        Whether no element is infinite or NaN. Such are passed over, and looked for only if this is False.

    Examples
    --------
    >>> import ggd
    >>> from rf8sim import as_scheme
    >>> x = np.array([[1.0, 1.1], [2.0, 2.0]], np.float32)
    >>> steps = find_steps(as_scheme("rf8/none"), Chosen(()), ggd.MagnitudeHistogram.from_array(x))
    >>> errors = IntervalErrors([steps], 2)
    >>> errors.add(x)
    >>> errors.of_schemes()[0].squared_errors.round(6).tolist()
    [0.000625, 0.5]
    """

    def __init__(self, schemes: Sequence[Steps], rows: int, all_finite: bool = True) -> None:
        self.quantized, self._all_finite = [steps.quantized for steps in schemes], all_finite
        self._lanes = [None, *schemes]  # a lane of zeros, for the squares
        self._groups = [_Group(self._lanes[at : at + _LANES], rows) for at in range(0, len(self._lanes), _LANES)]

    def add(self, x: NDArray[Any], row: int = 0) -> None:
        """Add a piece.

        Parameters
        ----------
        x : ndarray of float32, shape (n, columns)
            The elements.
        row : int
            The row of the matrix that is the first of the piece.
        """
        data = np.ascontiguousarray(x, np.float32)
        for first, part in [(0, data)] if self._all_finite else _finite_parts(data):
            for group in self._groups:
                group.add(part, row + first)

    def of_schemes(self) -> list[RowErrors]:
        """Return the errors in each scheme."""
        squares = self._groups[0].sums[:, 0, 0]
        return [
            self._groups[at // _LANES].errors(steps, at % _LANES, squares)
            for at, steps in enumerate(self._lanes)
            if steps is not None
        ]


def _finite_parts(x: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield rows, and the first one's number: those that are finite together, of others alone what is finite."""
    finite, start = np.isfinite(x), 0
    for row in np.flatnonzero(~finite.all(axis=1)).tolist():
        if start < row:
            yield start, x[start:row]
        rest = x[row, finite[row]].reshape(1, -1)
        rest.flags.writeable = x.flags.writeable  # for the kernel it would be another type, compiled anew
        yield row, rest
        start = row + 1
    if start < len(x):
        yield start, x[start:]


class _Group:
    """As many schemes as the kernel measures at once: their intervals cut by each other's, and their sums."""

    def __init__(self, schemes: Sequence[Steps | None], rows: int) -> None:
        self.first = np.unique(np.concatenate([[0], *(steps.first for steps in schemes if steps is not None)]))
        self._results = aligned_zeros((self.first.size, _LANES))
        for lane, steps in enumerate(schemes):
            if steps is not None:
                self._results[:, lane] = steps.errors.results[self._interval(steps)]
        # Of each 65,536 patterns: how many steps lie before the second of them.
        before = np.cumsum(np.bincount((self.first + 0xFFFF) >> 16, minlength=1 << 16))
        self._index = np.append(self.first, 1 << 32).astype(np.uint64), before.astype(np.uint32) - np.uint32(1)
        self.sums, self._largest = np.zeros((rows, 2, _LANES)), np.zeros(_LANES)
        self._counts = np.zeros(self.first.size, np.int64)

    def _interval(self, steps: Steps) -> NDArray[np.int64]:
        """Return in which interval of a scheme each interval lies."""
        return np.searchsorted(steps.first, self.first, side="right") - 1

    def add(self, x: NDArray[np.float32], row: int) -> None:
        from .._kernels.lanes import interval_sums

        rows = slice(row, row + len(x))
        interval_sums(x, self._index, self._results, self.sums[rows], self._largest, self._counts)

    def errors(self, steps: Steps, lane: int, squares: NDArray[np.float64]) -> RowErrors:
        """Return the errors in the scheme of a lane."""
        counts = np.zeros(steps.first.size, np.int64)
        np.add.at(counts, self._interval(steps), self._counts)
        sums = np.stack([squares, *self.sums[:, :, lane].T], axis=1)
        return RowErrors.of_elements(steps.quantized.format, steps.errors, counts, sums, float(self._largest[lane]))

"""Choosing the scales of a tensor: from its largest magnitudes, its data, or a density fitted to it."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._base.threads import in_pieces
from ..codec.boundaries import place
from ..codec.dispatch import distinct_numbers, least_error
from ..codec.inputs import as_data
from ..codec.rounding import RoundingMode, as_rounding, check_choices
from ..codec.thresholds import cell_table, search_table
from ..formats import Format
from .blocks import expand, grouped, ungrouped
from .numbers import number_dtype, number_format, number_range, stored_number
from .rules import RULES
from .scheme import Scheme, as_scheme

if TYPE_CHECKING:
    from ggd import MagnitudeHistogram

__all__ = [
    "Chosen",
    "choose_scales",
    "equal_deviations",
    "expected_error",
    "outer_scales",
    "quantizer",
    "scales_from_histogram",
]

# Scales are searched from eight octaves below that of rule `max` to half the format's range above it (the middle of a
# posit's range is its most precise part), then in finer steps around the best.
_OCTAVES_BELOW = 8
_STEPS_OF_OCTAVE = (4, 32)
_RECURRING = 512  # elements of a group in 16 bits from which on it pays to count equal ones


class Chosen(NamedTuple):
    """Scales of a tensor.

    Attributes
    ----------
    scales : tuple of ndarray of float32
        Of each of `Scheme.levels`, of `Scheme.scale_shapes`.
    zero : ndarray of float32 or None
        The zero points, of the shape of the first scales.
    """

    scales: tuple[NDArray[np.float32], ...]
    zero: NDArray[np.float32] | None = None


def choose_scales(
    x: ArrayLike,
    scheme: str | Format | Scheme,
    *,
    outer: NDArray[np.float32] | None = None,
    pooled: MagnitudeHistogram | None = None,
) -> Chosen:
    """Choose the scales that `quantize` would use.

    Parameters
    ----------
    x : array_like
        The tensor. Numbers that are not finite choose nothing.
    scheme : str, Format or Scheme
        How it is stored. For ``stochastic`` rounding the scale is that of ``nearest-even``.
    outer : ndarray of float32, optional
        The outer scale, of shape (), where x is a part of a tensor; from `outer_scales`.
    pooled : ggd.MagnitudeHistogram, optional
        Where x is some of the blocks of a tensor and the rule is ``ggd``: the `equal_deviations` of all of them, so
        that the parts of a tensor get the scales of the tensor.

    Returns
    -------
    Chosen
        The scales; a block without finite nonzero numbers gets scale 1.

    Raises
    ------
    ValueError
        If the scheme cannot be read.
    TypeError
        If x is not real numbers.

    Examples
    --------
    >>> from rf8sim.quantization.scaling import choose_scales
    >>> float(choose_scales(np.array([0.1, -254.0]), "int8/tensor:float32,max").scales[0])
    2.0
    """
    scheme = as_scheme(scheme)
    data = as_data(x)
    if scheme.scales is None:
        return Chosen(())
    shapes = scheme.scale_shapes(data.shape)
    if data.size == 0:
        zero = None if scheme.scales.zero is None else np.zeros(shapes[0], np.float32)
        return Chosen(tuple(np.ones(shape, np.float32) for shape in shapes), zero)
    if scheme.scales.block is None and RULES[scheme.scales.rule].target == "search":
        from ggd import MagnitudeHistogram

        return scales_from_histogram(MagnitudeHistogram.from_array(data), scheme)
    if scheme.scales.zero is not None:
        return _ranges(data, scheme, scheme.scales.zero)
    groups = grouped(data, scheme.scales.block)
    largest = np.max(np.abs(groups), axis=1)
    wanted = _wanted(groups if RULES[scheme.scales.rule].target == "min" else largest, scheme)
    if scheme.scales.outer is not None and outer is None:
        chosen = np.where(largest > 0, wanted, 0.0)  # a block of zeros chooses nothing
        outer = _outer(ungrouped(chosen, scheme.scales.block, data.shape), scheme)
    unit: NDArray[np.float64] | float = 1.0
    if outer is not None:
        assert scheme.scales.outer is not None
        unit = (
            np.broadcast_to(expand(outer, scheme.scales.outer.block, shapes[0]), shapes[0])
            .reshape(-1)
            .astype(np.float64)
        )
    base = _stored(wanted / unit, scheme) * unit
    if scheme.scales.rule == "mse":
        base = _least_error(_numbers(data, groups), base, unit, scheme)
    elif scheme.scales.rule == "ggd":
        base = _expected(groups, base, unit, scheme, pooled)
    inner = np.where(largest > 0, base / unit, 1.0)
    first = ungrouped(inner, scheme.scales.block, data.shape).astype(np.float32)
    return Chosen((first,) if outer is None else (first, np.asarray(outer, dtype=np.float32)))


def scales_from_histogram(histogram: MagnitudeHistogram, scheme: str | Format | Scheme) -> Chosen:
    """Choose one scale for a tensor from its summary, without the data.

    Parameters
    ----------
    histogram : ggd.MagnitudeHistogram
        The tensor's summary.
    scheme : str, Format or Scheme
        A scheme with one scale and no zero point. For rule ``mse`` each cell of the summary (a relative width of 2**-7)
        stands at its mean; for ``signed`` the extreme element is that of the summary.

    Returns
    -------
    Chosen
        One scale, of shape (); 1 if there is no finite nonzero number.

    Examples
    --------
    >>> import ggd
    >>> histogram = ggd.MagnitudeHistogram.from_array([0.1, -254.0])
    >>> float(scales_from_histogram(histogram, "int8/tensor:float32,max").scales[0])
    2.0
    """
    scheme = as_scheme(scheme)
    if scheme.scales is None:
        return Chosen(())
    largest = np.array([histogram.abs_max])
    if not largest[0] > 0:
        return Chosen((np.ones((), dtype=np.float32),))
    extreme = np.array([[histogram.max if histogram.max >= -histogram.min else histogram.min]])
    base = _stored(_wanted(extreme if RULES[scheme.scales.rule].target == "min" else largest, scheme), scheme)
    if scheme.scales.rule == "mse":
        cells = histogram.cells()
        numbers = _Numbers(cells.mean, cells.counts.astype(np.float64), np.array([0, cells.mean.size]))
        base = _least_error(numbers, base, 1.0, scheme)
    elif scheme.scales.rule == "ggd":
        rms = np.sqrt([histogram.abs_moment(2.0)])
        base = _expected_scale(_fitted_shape(histogram), rms, base, 1.0, scheme)
    return Chosen((base.reshape(()).astype(np.float32),))


def outer_scales(histogram: MagnitudeHistogram, scheme: Scheme) -> NDArray[np.float32] | None:
    """Return the one outer scale of a tensor from its summary; None where the scheme has none.

    Parameters
    ----------
    histogram : ggd.MagnitudeHistogram
        The tensor's summary.
    scheme : Scheme
        How it is stored.

    Returns
    -------
    ndarray of float32, shape ()
        The scale that `choose_scales` would choose for the tensor.

    Raises
    ------
    ValueError
        If the scheme has more than one outer scale: those come from the data.
    """
    if scheme.scales is None or scheme.scales.outer is None:
        return None
    if scheme.scales.outer.block is not None:
        raise ValueError(f"the outer scales of {scheme} are several: choose them from the data")
    if not histogram.abs_max > 0:
        return np.ones((), np.float32)
    largest = np.array([histogram.abs_max])
    return _outer(_wanted(largest[:, None] if RULES[scheme.scales.rule].target == "min" else largest, scheme), scheme)


# --- from the largest magnitude ---------------------------------------------------------------------------------------


def _wanted(largest: NDArray[np.float64], scheme: Scheme) -> NDArray[np.float64]:
    """Return the scale of each block before it is rounded; 1 for a block of zeros.

    ``largest`` are largest magnitudes or, for the rule of the extreme element, the blocks themselves.
    """
    assert scheme.scales is not None
    target, fmt = RULES[scheme.scales.rule].target, scheme.format
    if target == "min":
        place = np.argmax(np.abs(largest), axis=1)
        extreme = np.take_along_axis(largest, place[:, None], axis=1)[:, 0]
        with np.errstate(under="ignore"):
            return np.where(extreme != 0, extreme, fmt.min) / fmt.min
    safe = np.where(largest > 0, largest, fmt.max)
    if target == "emax":
        safe = _rounded_to_element(safe, fmt) if scheme.scales.rule == "even" else safe
        return safe / 2.0 ** math.floor(math.log2(fmt.max))
    with np.errstate(under="ignore"):
        return safe / fmt.max


def _rounded_to_element(largest: NDArray[np.float64], fmt: Format) -> NDArray[np.float64]:
    """Round magnitudes to the digits of the format's top octave, ties away from zero, where that is a power of two."""
    magnitudes = fmt.sides[0].magnitudes
    top = magnitudes[magnitudes >= 2.0 ** math.floor(math.log2(fmt.max))]
    step = (top[1] - top[0]) / top[0] if top.size > 1 else 1.0
    fraction, exponent = np.frexp(largest)
    return np.where(2 * fraction >= 2 - step / 2, np.ldexp(1.0, exponent), largest)


def _stored(scale: NDArray[np.float64], scheme: Scheme) -> NDArray[np.float64]:
    """Round scales as the rule says: up, ``max`` never lets the largest magnitude leave the range."""
    assert scheme.scales is not None
    return stored_number(scale, scheme.scales.format, RULES[scheme.scales.rule].rounding or scheme.scales.rounding)


def _outer(wanted: NDArray[np.float64], scheme: Scheme) -> NDArray[np.float32]:
    """Choose the outer scales so that the largest scale of each of their blocks maps to the largest that is stored."""
    assert scheme.scales is not None
    assert scheme.scales.outer is not None
    outer = scheme.scales.outer
    largest = np.max(grouped(np.abs(wanted), outer.block), axis=1)
    scale = stored_number(largest / number_range(scheme.scales.format)[1], outer.format, outer.rounding)
    return ungrouped(np.where(largest > 0, scale, 1.0), outer.block, wanted.shape).astype(np.float32)


def _ranges(data: NDArray[Any], scheme: Scheme, number: str) -> Chosen:
    """Choose scales and zero points that map the range of each block to that of the integers."""
    assert scheme.scales is not None
    scales, fmt = scheme.scales, scheme.format
    low = np.min(grouped(data, scales.block, fill=np.inf), axis=1)
    high = np.max(grouped(data, scales.block, fill=-np.inf), axis=1)
    nothing = low > high
    low, high = np.where(nothing, 0.0, low), np.where(nothing, 0.0, high)
    integer = number_dtype(number) is None
    if integer:  # zero has a code of its own
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    width = np.where(high > low, high - low, fmt.max - fmt.min)
    scale = _stored(width / (fmt.max - fmt.min), scheme)
    if integer:
        stored = number_format(number)
        assert stored is not None
        zero = np.clip(np.rint(fmt.min - low / scale), stored.min, stored.max)
    else:
        minimum = low - scale * fmt.min
        zero = np.where(minimum != 0, stored_number(np.where(minimum != 0, minimum, 1.0), number), 0.0)
    shape = data.shape
    first = ungrouped(scale, scales.block, shape).astype(np.float32)
    return Chosen((first,), ungrouped(zero, scales.block, shape).astype(np.float32))


# --- the least error on the data --------------------------------------------------------------------------------------


class _Numbers(NamedTuple):
    """Groups of numbers one after the other: how often each occurs (nothing for once), and where groups begin."""

    x: NDArray[np.float64]
    weights: NDArray[np.float64]
    starts: NDArray[np.int64]


def _numbers(data: NDArray[Any], groups: NDArray[np.float64]) -> _Numbers:
    """Return the groups of a tensor; of long ones in 16 bits, in which numbers recur, each number once."""
    count, length = groups.shape
    in_rows = groups.size == data.size and data.shape[-1:] == (length,)
    if not (in_rows and data.dtype.itemsize == 2 and data.dtype.kind not in "iu" and length >= _RECURRING):
        return _Numbers(groups.reshape(-1), np.empty(0), np.arange(0, groups.size + 1, max(length, 1)))
    with np.errstate(invalid="ignore"):  # signalling NaNs are among them
        numbers = np.arange(1 << 16, dtype=np.uint16).view(data.dtype).astype(np.float64)
    numbers[~np.isfinite(numbers)] = 0.0
    patterns = np.ascontiguousarray(data).view(np.uint16).reshape(count, length)
    found = _Numbers(np.empty(groups.size), np.empty(groups.size), np.empty(count + 1, np.int64))
    distinct_numbers(patterns, numbers, *found)
    return found


def _least_error(
    numbers: _Numbers, base: NDArray[np.float64], unit: NDArray[np.float64] | float, scheme: Scheme
) -> NDArray[np.float64]:
    """Search, for each block, the scale of the least squared error."""
    chosen, least = base, np.full(base.size, np.inf)
    _try_scales(numbers, base[:, None], np.zeros(1, np.int64), scheme, least)
    coarse, fine = (1, 1) if _in_octaves(scheme) else _STEPS_OF_OCTAVE
    rounds = [np.arange(-_OCTAVES_BELOW * coarse, (scheme.format.octaves / 2 + 1) * coarse) / coarse]
    if fine > coarse:
        rounds.append(np.arange(1 - fine // coarse, fine // coarse) / fine)
    for octaves in rounds:
        scales = _nearest((chosen / unit)[:, None] * 2.0**octaves, scheme) * np.reshape(unit, (-1, 1))
        # Likely ones first, so that the others are given up early.
        order = np.argsort(np.abs(octaves + 0.4), kind="stable")
        best = _try_scales(numbers, scales, order, scheme, least)
        chosen = np.where(best >= 0, np.take_along_axis(scales, np.maximum(best, 0)[:, None], axis=1)[:, 0], chosen)
    return chosen


def _try_scales(
    numbers: _Numbers,
    scales: NDArray[np.float64],
    order: NDArray[np.int64],
    scheme: Scheme,
    least: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return the column of the best scale of each block, -1 where ``least`` is not undercut; it is updated."""
    tables, best = _search_tables(scheme.format, _mode(scheme)), np.empty(least.size, np.int64)
    x, weights, starts = numbers

    def work(start: int, stop: int) -> None:
        part = slice(start, stop)
        bounds = starts[start : stop + 1]
        least_error(x, weights, bounds, scales[part], order, tables, least[part], best[part])

    in_pieces(work, least.size, weight=max(int(starts[-1]) // least.size, 1) * order.size)
    return best


@lru_cache(maxsize=256)
def _search_tables(fmt: Format, mode: RoundingMode) -> tuple[Any, ...]:
    """Return what the kernel rounds float64 by: a cell table or the steps of a search, and the values of the codes."""
    _, overflow = check_choices(fmt, as_rounding(mode))
    values = np.resize(np.append(fmt.values, np.nan), 1 << 8 * fmt.code_dtype.itemsize)
    cells = cell_table(fmt, mode, overflow, "float64")
    if cells is not None:
        return (*cells, np.empty(0, np.uint64), np.empty(0, fmt.code_dtype), values)
    steps = search_table(fmt, mode, overflow, "float64")
    nothing = np.empty(0, np.uint64), np.empty(0, fmt.code_dtype), np.uint64(0)
    return (*nothing, steps.first, steps.result, values)


def _mode(scheme: Scheme) -> RoundingMode:
    """Return the mode whose error counts."""
    mode = RoundingMode(scheme.rounding)
    return RoundingMode.NEAREST_EVEN if mode is RoundingMode.STOCHASTIC else mode


def _in_octaves(scheme: Scheme) -> bool:
    """Whether scales are powers of two."""
    assert scheme.scales is not None
    return scheme.scales.format == "e8m0fnu"


def _nearest(scale: NDArray[np.float64], scheme: Scheme) -> NDArray[np.float64]:
    """Return the nearest scales that are stored; of powers of two, by their logarithms."""
    assert scheme.scales is not None
    with np.errstate(under="ignore", over="ignore"):
        if _in_octaves(scheme):
            scale = np.exp2(np.round(np.log2(np.maximum(scale, np.finfo(np.float64).tiny))))
        return stored_number(scale, scheme.scales.format)


# --- the least expected error under a density -------------------------------------------------------------------------


def equal_deviations(x: ArrayLike, scheme: str | Format | Scheme) -> MagnitudeHistogram:
    """Return the summary of a tensor whose blocks are brought to the same deviation; summaries merge.

    Parameters
    ----------
    x : array_like
        The tensor.
    scheme : str, Format or Scheme
        How it is stored.

    Returns
    -------
    ggd.MagnitudeHistogram
        What rule ``ggd`` fits its shape to: pooling different scales as they are would look heavy-tailed.

    Examples
    --------
    >>> equal_deviations([[1.0, -1.0], [100.0, 100.0]], "rf8/channel").abs_max
    1.0
    """
    scheme = as_scheme(scheme)
    groups = grouped(as_data(x), None if scheme.scales is None else scheme.scales.block)
    return _at_equal_deviations(groups, _deviations(groups))


def _expected(
    groups: NDArray[np.float64],
    base: NDArray[np.float64],
    unit: NDArray[np.float64] | float,
    scheme: Scheme,
    pooled: MagnitudeHistogram | None,
) -> NDArray[np.float64]:
    rms = _deviations(groups)
    shape = _fitted_shape(_at_equal_deviations(groups, rms) if pooled is None else pooled)
    return _expected_scale(shape, rms, base, unit, scheme)


def _deviations(groups: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.sqrt(np.mean(np.square(groups), axis=1)))


def _at_equal_deviations(groups: NDArray[np.float64], rms: NDArray[np.float64]) -> MagnitudeHistogram:
    from ggd import MagnitudeHistogram

    # Zeros that pad a block take no part in the fit.
    return MagnitudeHistogram.from_array(groups / np.where(rms > 0, rms, 1.0)[:, None])


def _fitted_shape(histogram: MagnitudeHistogram) -> float | None:
    from ggd import fit

    result = fit(histogram)
    return float(result.shape) if result.trusted else None


def _expected_scale(
    shape: float | None,
    deviation: NDArray[np.float64],
    base: NDArray[np.float64],
    unit: NDArray[np.float64] | float,
    scheme: Scheme,
) -> NDArray[np.float64]:
    """Return the scale of least expected error for each standard deviation; ``base`` where there is no fit."""
    if shape is None:
        return base
    octaves, error = expected_error(scheme.format, _mode(scheme), round(shape, 3))
    safe = np.where(deviation > 0, deviation, 1.0)
    if _in_octaves(scheme):
        # Of the powers of two near the optimum, the one with the least expected error.
        middle = np.round(np.log2(safe) + octaves[np.argmin(error)])
        candidates = middle[:, None] + np.arange(-3, 4)
        expected = np.interp(candidates - np.log2(safe)[:, None], octaves, error, left=np.inf, right=np.inf)
        exponent = np.take_along_axis(candidates, np.argmin(expected, axis=1)[:, None], axis=1)[:, 0]
        scale = _nearest(np.exp2(np.clip(exponent, -1000, 1000)) / unit, scheme) * unit
    else:
        scale = _nearest(safe * 2.0 ** octaves[np.argmin(error)] / unit, scheme) * unit
    return np.where(deviation > 0, scale, base)


@lru_cache(maxsize=128)
def expected_error(fmt: Format, mode: RoundingMode, shape: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return base-2 logarithms of scales, and the expected squared error at each for unit standard deviation."""
    from ggd import GGD, expected_mse_scaled

    # From the largest value at one standard deviation to the middle of the format's range well below one.
    octaves = np.arange(0, max(12, fmt.octaves / 2 + 6), 1 / 32) - math.log2(fmt.max)
    error = expected_mse_scaled(GGD.from_std(shape, 1.0), *quantizer(fmt, mode), np.exp2(octaves))
    return octaves, error


def quantizer(fmt: Format, mode: RoundingMode) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ascending values of a format and the boundaries between them, as `ggd.expected_mse` takes them."""
    values, edges = [], []
    for negative, side in zip((True, False), reversed(fmt.sides), strict=True):
        crossings = place(fmt, mode, negative).nearest[: side.codes.size - 1].tolist()
        if negative and fmt.signed:
            values += [-value for value in side.magnitudes[:0:-1].tolist()]
            edges += [-edge for edge in reversed(crossings)]
        elif not negative:
            values += side.magnitudes.tolist()
            edges += crossings
    return np.array(values), np.array(edges)

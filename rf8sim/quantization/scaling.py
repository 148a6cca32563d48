"""Choosing the scales of a tensor: from its largest magnitudes, its data, or a density fitted to it."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codec.boundaries import place
from ..codec.inputs import as_data
from ..codec.rounding import RoundingMode
from ..formats import Format
from .blocks import expand, grouped, ungrouped
from .numbers import number_dtype, number_format, number_range, stored_number
from .rules import RULES
from .scale_search import Numbers, in_octaves, judged_mode, least_error_scales, nearest_stored, numbers_of
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
    largest = np.maximum(groups.max(axis=1), -groups.min(axis=1))
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
        base = least_error_scales(numbers_of(data, groups, scheme), base, unit, scheme)
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
        # A copy, since the kernel would be compiled once more for an array that cannot be written to.
        numbers = Numbers(cells.mean.copy(), cells.counts.astype(np.float64), np.array([0, cells.mean.size]))
        base = least_error_scales(numbers, base, 1.0, scheme)
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
    octaves, error = expected_error(scheme.format, judged_mode(scheme), round(shape, 3))
    safe = np.where(deviation > 0, deviation, 1.0)
    if in_octaves(scheme):
        # Of the powers of two near the optimum, the one with the least expected error.
        middle = np.round(np.log2(safe) + octaves[np.argmin(error)])
        candidates = middle[:, None] + np.arange(-3, 4)
        expected = np.interp(candidates - np.log2(safe)[:, None], octaves, error, left=np.inf, right=np.inf)
        exponent = np.take_along_axis(candidates, np.argmin(expected, axis=1)[:, None], axis=1)[:, 0]
        scale = nearest_stored(np.exp2(np.clip(exponent, -1000, 1000)) / unit, scheme) * unit
    else:
        scale = nearest_stored(safe * 2.0 ** octaves[np.argmin(error)] / unit, scheme) * unit
    # The tail beyond the data is the fit's guess: of scales that are expected to do nearly as well, the one that clips
    # nothing that was seen.
    with np.errstate(divide="ignore"):
        relative = np.log2(base / safe)
    as_good = np.interp(relative, octaves, error, left=np.inf, right=np.inf) <= _NEARLY * error.min()
    return np.where((deviation > 0) & ~(as_good & (base > scale)), scale, base)


_NEARLY = 1.1
"""Expected errors whose ratio is below this are taken as equal: 0.4 dB."""


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

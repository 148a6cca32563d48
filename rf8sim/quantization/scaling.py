"""Scaled tensors: ``x ~ scale * decode(code)``, with one scale for a tensor, a channel or a block."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._base import display as _display
from .._base.checks import as_data, choose
from .._base.threads import in_pieces
from .._kernels import codec as _kernels
from ..codec.codec import decode, encode
from ..codec.rounding import Rounding, RoundingMode, check_choices
from ..codec.thresholds import boundaries
from ..formats import Format, get_format

if TYPE_CHECKING:
    from ggd import MagnitudeHistogram

__all__ = [
    "SCALE_RULES",
    "SCALINGS",
    "QuantizedTensor",
    "choose_scale",
    "equal_deviations",
    "expected_error",
    "quantize",
    "scale_from_histogram",
]

SCALINGS = ("tensor", "channel", "block", "none")
SCALE_RULES = ("max", "mse", "ggd")

# Elements that one step of quantization holds as float64.
_STEP = 1 << 15
# Scales are searched from eight octaves below that of rule `max` to half the format's range above it (the middle of a
# posit's range is its most precise part), then in finer steps around the best.
_OCTAVES_BELOW = 8
_STEPS_OF_OCTAVE = (4, 32)


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """Codes and scales of a tensor.

    Parameters
    ----------
    codes : ndarray of uint8
        The codes, of the tensor's shape.
    scale : ndarray of float32
        Of shape ``()`` for one scale; with every axis but ``axis`` of length 1 for channels; of the codes' shape with
        ``axis`` divided by the block size, rounded up, for blocks.
    format : Format
        The format of the codes.
    scaling : str
        ``tensor``, ``channel``, ``block`` or ``none``.
    axis : int
        The axis of the channels, or along which blocks lie.
    block_size : int
        Elements in a block.
    rounding : str
        The mode that made the codes.

    Examples
    --------
    >>> import numpy as np, rf8sim
    >>> q = rf8sim.quantize(np.array([[0.5, -0.25], [30.0, 40.0]]), "rf8", scaling="channel", axis=0)
    >>> q.exponents.ravel().tolist(), q.dequantize().tolist()
    ([-1, 5], [[0.5, -0.25], [30.0, 40.0]])
    >>> q.bits_per_weight
    12.0
    """

    codes: NDArray[np.uint8] = field(repr=False)
    scale: NDArray[np.float32] = field(repr=False)
    format: Format
    scaling: str
    axis: int = 0
    block_size: int = 32
    rounding: str = "nearest-even"

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.codes.shape

    @property
    def exponents(self) -> NDArray[np.int8]:
        """The base-2 logarithms of the scales, where the format's scales are powers of two.

        Raises
        ------
        ValueError
            If they are not.
        """
        if not self.format.power_of_two_scale:
            raise ValueError(f"the scales of {self.format.name!r} are float32 numbers, not powers of two: use .scale")
        return (np.frexp(self.scale)[1] - 1).astype(np.int8)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits for each element: the codes at the format's width, and the scales at 8 or 32 bits."""
        scale_bits = 0 if self.scaling == "none" else (8 if self.format.power_of_two_scale else 32)
        return self.format.bits + scale_bits * self.scale.size / max(self.codes.size, 1)

    def dequantize(self, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Return ``scale * decode(codes)``, computed in float64 and rounded once to ``dtype``.

        Parameters
        ----------
        dtype : dtype
            float32, float64, float16 or bfloat16.

        Returns
        -------
        ndarray
            Of the tensor's shape.
        """
        out = np.empty(self.shape, dtype=dtype)
        expanded = expand_scale(self.scale, self.shape, self.scaling, self.axis, self.block_size)

        def step(part: slice, scale: NDArray[np.float32]) -> None:
            with np.errstate(over="ignore", invalid="ignore"):
                out[part] = decode(self.codes[part], self.format, dtype=np.float64, threads=1) * scale

        by_rows(step, self.shape, expanded)
        return out

    def __repr__(self) -> str:
        return (
            f"QuantizedTensor({self.format.name}, shape {self.shape}, {self.scaling} scaling, "
            f"{self.scale.size} scales, {self.bits_per_weight:.4g} bits per weight)"
        )

    def _repr_html_(self) -> str:
        codes = self.codes.ravel()
        counts = np.bincount(codes, minlength=1)
        share = counts[counts > 0] / max(codes.size, 1)
        rows: list[tuple[str, object]] = [
            ("shape", " × ".join(map(str, self.shape)) or "scalar"),
            ("scaling", f"{self.scaling}, {self.scale.size} scales"),
            ("bits per weight", f"{self.bits_per_weight:.4g}"),
            ("entropy of the codes", f"{abs(-np.sum(share * np.log2(share))):.3f} bits"),
            ("codes in use", f"{np.count_nonzero(counts)} of {self.format.values.size}"),
        ]
        if self.scale.size:
            rows.append(("scales", f"{self.scale.min():g} to {self.scale.max():g}"))
        return _display.facts(f"QuantizedTensor, {self.format.name}, rounded {self.rounding}", rows)


def quantize(
    x: ArrayLike,
    fmt: str | Format,
    *,
    scaling: str = "tensor",
    axis: int = 0,
    block_size: int = 32,
    scale_rule: str = "max",
    rounding: str = "nearest-even",
    overflow: str = "saturate",
    seed: int = 0,
    offset: int = 0,
    scale: ArrayLike | None = None,
    threads: int | None = None,
) -> QuantizedTensor:
    """Choose scales for a tensor and encode ``x / scale``.

    The quotient is formed in float64. For scales that are powers of two it is exact; for others it is rounded to 53
    bits, which for float32 data and decision boundaries of at most 28 bits changes no decision.

    Parameters
    ----------
    x : array_like
        The tensor: float64, float32, float16, bfloat16 or integers.
    fmt : str or Format
        The format.
    scaling : str
        ``tensor`` (one scale), ``channel`` (one for each index of ``axis``), ``block`` (one for each ``block_size``
        consecutive elements along ``axis``, the last block may be shorter) or ``none`` (scale 1).
    axis : int
        The channel axis, or the axis along which blocks lie.
    block_size : int
        Elements in a block.
    scale_rule : str
        ``max``: the largest magnitude maps to the largest value. ``mse``: the least squared error on the data (for
        ``tensor``, on the one-pass summary of the data). ``ggd``: the least expected squared error under a generalized
        Gaussian fitted to the tensor, with the standard deviation of each channel or block.
    rounding, overflow, seed, offset, threads
        As for `encode`.
    scale : array_like, optional
        Scales to use instead of choosing them, of the shape that `QuantizedTensor` documents.

    Returns
    -------
    QuantizedTensor
        Codes and scales.

    Raises
    ------
    ValueError
        If an option is unknown or out of range, or x holds NaN and the format has none.
    TypeError
        If x is not real numbers.

    Examples
    --------
    >>> import numpy as np, rf8sim
    >>> x = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    >>> q = rf8sim.quantize(x, "e4m3fn", scaling="block", axis=1, block_size=32)
    >>> q
    QuantizedTensor(e4m3fn, shape (64, 64), block scaling, 128 scales, 9 bits per weight)
    """
    fmt = get_format(fmt)
    check_choices(fmt, Rounding(rounding, overflow))
    data = as_data(x)
    axis, block_size = _checked_layout(data, scaling, axis, block_size)
    if scale is None:
        chosen = choose_scale(
            data, fmt, scaling=scaling, axis=axis, block_size=block_size, scale_rule=scale_rule, rounding=rounding
        )
    else:
        chosen = _checked_scale(scale, _scale_shape(data.shape, scaling, axis, block_size))
    if data.dtype.itemsize == 2 and data.size > 1 << 16 and chosen.size == 1 and rounding != "stochastic":
        found = _by_pattern(data, float(chosen.item()), fmt, rounding, overflow, threads)
        if found is not None:
            return QuantizedTensor(found, chosen, fmt, scaling, axis, block_size, str(rounding))
    codes = np.empty(data.shape, dtype=np.uint8)
    expanded = expand_scale(chosen, data.shape, scaling, axis, block_size)
    row = math.prod(data.shape[1:])

    def step(part: slice, piece_scale: NDArray[np.float32]) -> None:
        wide = piece_scale.astype(np.float64)
        quotient = data[part] if scaling == "none" else data[part].astype(np.float64) / wide
        first = offset + (part.start * row if data.ndim else 0)
        codes[part] = encode(quotient, fmt, rounding=Rounding(rounding, overflow, seed, first), threads=1)

    try:
        by_rows(step, data.shape, expanded, threads)
    except ValueError:
        # Say where in the whole tensor, not in a piece of it.
        encode(data, fmt, rounding="nearest-even")
        raise
    return QuantizedTensor(codes, chosen, fmt, scaling, axis, block_size, str(rounding))


def _by_pattern(
    data: NDArray[Any], scale: float, fmt: Format, rounding: str, overflow: str, threads: int | None
) -> NDArray[np.uint8] | None:
    """Quantize elements of 16 bits with one scale by a table of all 65,536; None if one of them has no code."""
    patterns = np.ascontiguousarray(data).view(np.uint16)
    with np.errstate(invalid="ignore"):  # signalling NaNs are among them
        every = np.arange(1 << 16, dtype=np.uint16).view(data.dtype).astype(np.float64) / scale
    without = np.isnan(every)
    if fmt.nan is None:
        if without[patterns].any():
            return None
        every[without] = 0.0
    table = encode(every, fmt, rounding=Rounding(rounding, overflow), threads=1)
    flat, codes = patterns.reshape(-1), np.empty(data.size, dtype=np.uint8)
    in_pieces(lambda start, stop: _kernels.look_up(flat[start:stop], table, codes[start:stop]), flat.size, threads)
    return codes.reshape(data.shape)


def choose_scale(
    x: ArrayLike,
    fmt: str | Format,
    *,
    scaling: str = "tensor",
    axis: int = 0,
    block_size: int = 32,
    scale_rule: str = "max",
    rounding: str = "nearest-even",
    whole: MagnitudeHistogram | None = None,
) -> NDArray[np.float32]:
    """Choose the scales that `quantize` would use.

    Parameters
    ----------
    x, fmt, scaling, axis, block_size, scale_rule, rounding
        As for `quantize`. For ``stochastic`` rounding the scale is that of ``nearest-even``.
    whole : ggd.MagnitudeHistogram, optional
        Where x is some of the channels or blocks of a tensor and the rule is ``ggd``: the `equal_deviations` of all of
        them, so that the pieces of a tensor get the scales of the whole.

    Returns
    -------
    ndarray of float32
        Of the shape that `QuantizedTensor` documents; a group without finite nonzero numbers gets scale 1.

    Raises
    ------
    ValueError
        As for `quantize`.

    Examples
    --------
    >>> import numpy as np, rf8sim.quantization.scaling
    >>> float(rf8sim.quantization.scaling.choose_scale(np.array([0.1, -254.0]), "int8"))
    2.0
    """
    fmt = get_format(fmt)
    choose("scale rule", scale_rule, SCALE_RULES)
    data = as_data(x)
    axis, block_size = _checked_layout(data, scaling, axis, block_size)
    shape = _scale_shape(data.shape, scaling, axis, block_size)
    if scaling == "none" or data.size == 0:
        return np.ones(shape, dtype=np.float32)
    if scaling == "tensor" and scale_rule != "max":
        from ggd import MagnitudeHistogram

        return scale_from_histogram(MagnitudeHistogram.from_array(data), fmt, scale_rule, rounding)
    groups = _grouped(data, scaling, axis, block_size)
    # A group without finite nonzero numbers keeps scale 1.
    largest = np.max(np.abs(groups), axis=1)
    base = _max_scale(largest, fmt)
    if scale_rule == "mse":
        chosen = _least_error(groups, None, base, fmt, rounding)
    elif scale_rule == "ggd":
        chosen = _expected(groups, base, fmt, rounding, whole)
    else:
        chosen = base
    chosen = np.where(largest > 0, chosen, 1.0)
    if scaling == "block":  # groups run over the other axes first; the block's number goes where the axis was
        other = data.shape[:axis] + data.shape[axis + 1 :]
        return np.ascontiguousarray(np.moveaxis(chosen.reshape(*other, -1), -1, axis), dtype=np.float32)
    return chosen.reshape(shape).astype(np.float32)


def scale_from_histogram(
    histogram: MagnitudeHistogram, fmt: str | Format, scale_rule: str = "max", rounding: str = "nearest-even"
) -> NDArray[np.float32]:
    """Choose one scale for a tensor from its summary, without the data.

    Parameters
    ----------
    histogram : ggd.MagnitudeHistogram
        The tensor's summary.
    fmt : str or Format
        The format.
    scale_rule : str
        ``max``, ``mse`` or ``ggd``, as for `quantize`. For ``mse`` each cell of the summary (a relative width of 2**-7)
        stands at its mean.
    rounding : str
        The mode whose error counts.

    Returns
    -------
    ndarray of float32, shape ()
        The scale; 1 if there is no finite nonzero number.

    Examples
    --------
    >>> import ggd, rf8sim.quantization.scaling
    >>> histogram = ggd.MagnitudeHistogram.from_array([0.1, -254.0])
    >>> float(rf8sim.quantization.scaling.scale_from_histogram(histogram, "int8"))
    2.0
    """
    fmt = get_format(fmt)
    choose("scale rule", scale_rule, SCALE_RULES)
    largest = np.array([histogram.abs_max])
    if not largest[0] > 0:
        return np.ones((), dtype=np.float32)
    chosen = base = _max_scale(largest, fmt)
    if scale_rule == "mse":
        cells = histogram.cells()
        chosen = _least_error(cells.mean[None, :], cells.counts.astype(np.float64), base, fmt, rounding)
    elif scale_rule == "ggd":
        rms = np.sqrt([histogram.abs_moment(2.0)])
        chosen = _expected_scale(_fitted_shape(histogram), rms, base, fmt, rounding)
    return chosen.reshape(()).astype(np.float32)


# --- how a scale is chosen --------------------------------------------------------------------------------------------


def _max_scale(largest: NDArray[np.float64], fmt: Format) -> NDArray[np.float64]:
    """Return the scale that maps the largest magnitude to the largest value, or just below it."""
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        if fmt.power_of_two_scale:
            fraction, exponent = np.frexp(largest)
            own_fraction, own_exponent = math.frexp(fmt.max)
            return _power(exponent - own_exponent + (fraction > own_fraction))
        scale = _as_scale(largest / fmt.max, fmt)
        above = np.nextafter(scale.astype(np.float32), np.float32(np.inf)).astype(np.float64)
        return _as_scale(np.where(scale * fmt.max < largest, above, scale), fmt)


def _power(exponent: NDArray[Any]) -> NDArray[np.float64]:
    power: NDArray[np.float64] = np.exp2(np.clip(exponent, -128, 127).astype(np.float64))
    return power


def _as_scale(scale: NDArray[np.float64], fmt: Format) -> NDArray[np.float64]:
    """Return the nearest scale that is stored: a power of two of an int8 exponent, or a positive float32."""
    if fmt.power_of_two_scale:
        return _power(np.round(np.log2(scale)))
    limits = np.finfo(np.float32)
    return np.clip(scale, limits.smallest_subnormal, limits.max).astype(np.float32).astype(np.float64)


def _least_error(
    groups: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
    base: NDArray[np.float64],
    fmt: Format,
    rounding: str,
) -> NDArray[np.float64]:
    """Search, for each group, the scale of the least squared error."""
    mode = RoundingMode.NEAREST_EVEN if rounding == RoundingMode.STOCHASTIC else RoundingMode(rounding)

    def error(scale: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            values = decode(encode(groups / scale[:, None], fmt, rounding=mode), fmt, dtype=np.float64)
            squared = np.square(groups - values * scale[:, None])
        total: NDArray[np.float64] = np.sum(squared if weights is None else squared * weights, axis=1)
        return total

    least, chosen = error(base), base
    coarse, fine = (1, 1) if fmt.power_of_two_scale else _STEPS_OF_OCTAVE
    rounds = [np.arange(-_OCTAVES_BELOW * coarse, (fmt.octaves / 2 + 1) * coarse) / coarse]
    if fine > coarse:
        rounds.append(np.arange(1 - fine // coarse, fine // coarse) / fine)
    for octaves in rounds:
        centre = chosen
        for octave in octaves:
            scale = _as_scale(centre * 2.0**octave, fmt)
            new = error(scale)
            better = new < least
            least, chosen = np.where(better, new, least), np.where(better, scale, chosen)
    return chosen


def _expected(
    groups: NDArray[np.float64],
    base: NDArray[np.float64],
    fmt: Format,
    rounding: str,
    whole: MagnitudeHistogram | None,
) -> NDArray[np.float64]:
    rms = _deviations(groups)
    shape = _fitted_shape(_at_equal_deviations(groups, rms) if whole is None else whole)
    return _expected_scale(shape, rms, base, fmt, rounding)


def equal_deviations(x: ArrayLike, *, scaling: str, axis: int = 0, block_size: int = 32) -> MagnitudeHistogram:
    """Return the summary of a tensor whose channels or blocks are brought to the same deviation; summaries merge.

    Parameters
    ----------
    x, scaling, axis, block_size
        As for `quantize`; ``channel`` or ``block``.

    Returns
    -------
    ggd.MagnitudeHistogram
        What rule ``ggd`` fits its shape to: pooling different scales as they are would look heavy-tailed.

    Examples
    --------
    >>> equal_deviations([[1.0, -1.0], [100.0, 100.0]], scaling="channel").abs_max
    1.0
    """
    data = as_data(x)
    axis, block_size = _checked_layout(data, scaling, axis, block_size)
    groups = _grouped(data, scaling, axis, block_size)
    return _at_equal_deviations(groups, _deviations(groups))


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
    shape: float | None, deviation: NDArray[np.float64], base: NDArray[np.float64], fmt: Format, rounding: str
) -> NDArray[np.float64]:
    """Return the scale of least expected error for each standard deviation; ``base`` where there is no fit."""
    if shape is None:
        return base
    mode = RoundingMode.NEAREST_EVEN if rounding == RoundingMode.STOCHASTIC else RoundingMode(rounding)
    octaves, error = expected_error(fmt, mode, round(shape, 3))
    safe = np.where(deviation > 0, deviation, 1.0)
    if fmt.power_of_two_scale:
        # Of the powers of two near the optimum, the one with the least expected error.
        middle = np.round(np.log2(safe) + octaves[np.argmin(error)])
        candidates = middle[:, None] + np.arange(-3, 4)
        expected = np.interp(candidates - np.log2(safe)[:, None], octaves, error, left=np.inf, right=np.inf)
        exponent = np.take_along_axis(candidates, np.argmin(expected, axis=1)[:, None], axis=1)[:, 0]
        scale = _power(exponent)
    else:
        scale = _as_scale(safe * 2.0 ** octaves[np.argmin(error)], fmt)
    return np.where(deviation > 0, scale, base)


@lru_cache(maxsize=128)
def expected_error(fmt: Format, mode: RoundingMode, shape: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return base-2 logarithms of scales, and the expected squared error at each for unit standard deviation."""
    from ggd import GGD, expected_mse_scaled

    values, edges = [], []
    for negative, side in zip((True, False), reversed(fmt.sides), strict=True):
        own = [float(b.rational) + float(b.root) * math.sqrt(2) for b in boundaries(fmt, mode, negative)]
        own = own[: side.codes.size - 1]
        if negative and fmt.signed:
            values += [-value for value in side.magnitudes[:0:-1].tolist()]
            edges += [-edge for edge in reversed(own)]
        elif not negative:
            values += side.magnitudes.tolist()
            edges += own
    # From the largest value at one standard deviation to the middle of the format's range well below one.
    octaves = np.arange(0, max(12, fmt.octaves / 2 + 6), 1 / 32) - math.log2(fmt.max)
    error = expected_mse_scaled(GGD.from_std(shape, 1.0), np.array(values), np.array(edges), np.exp2(octaves))
    return octaves, error


# --- tensors and their groups -----------------------------------------------------------------------------------------


def _checked_layout(data: NDArray[Any], scaling: str, axis: int, block_size: int) -> tuple[int, int]:
    choose("scaling", scaling, SCALINGS)
    if scaling in ("channel", "block"):
        if not -data.ndim <= axis < data.ndim:
            raise ValueError(f"axis {axis} is out of range for a tensor of {data.ndim} dimensions ({scaling} scaling)")
        axis %= data.ndim
    if scaling == "block" and block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    return axis, block_size


def _scale_shape(shape: tuple[int, ...], scaling: str, axis: int, block_size: int) -> tuple[int, ...]:
    if scaling == "channel":
        return tuple(length if i == axis else 1 for i, length in enumerate(shape))
    if scaling == "block":
        return tuple(-(-length // block_size) if i == axis else length for i, length in enumerate(shape))
    return ()


def _checked_scale(scale: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float32]:
    array = np.asarray(scale, dtype=np.float32)
    if array.shape != shape or not np.all(np.isfinite(array) & (array > 0)):
        raise ValueError(f"scale must be positive finite numbers of shape {shape}, got shape {array.shape}")
    return array


def expand_scale(
    scale: NDArray[np.float32], shape: tuple[int, ...], scaling: str, axis: int, block_size: int
) -> NDArray[np.float32]:
    """Return the scales in a shape that broadcasts with the tensor."""
    if scaling == "block":
        return np.repeat(scale, block_size, axis=axis)[(slice(None),) * axis + (slice(shape[axis]),)]
    return scale


def by_rows(step: Any, shape: tuple[int, ...], scale: NDArray[np.float32], threads: int | None = None) -> None:
    """Call ``step(rows, their scales)`` over slices of bounded size of the first axis, in threads if worth it."""
    if not shape:
        step(..., scale)
        return
    row = max(math.prod(shape[1:]), 1)
    rows = max(1, _STEP // row)

    def work(start: int, stop: int) -> None:
        for first in range(start, stop, rows):
            part = slice(first, min(first + rows, stop))
            step(part, scale[part] if scale.ndim and scale.shape[0] == shape[0] else scale)

    in_pieces(work, shape[0], threads, weight=row)


def _grouped(data: NDArray[Any], scaling: str, axis: int, block_size: int) -> NDArray[np.float64]:
    """Return the tensor as float64 in one row a group, not-finite numbers as zeros, short blocks padded with zeros."""
    array = data.astype(np.float64)
    array[~np.isfinite(array)] = 0.0
    if scaling == "tensor":
        return array.reshape(1, -1)
    if scaling == "channel":
        return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    moved = np.moveaxis(array, axis, -1)
    short = -moved.shape[-1] % block_size
    return np.pad(moved, [(0, 0)] * (moved.ndim - 1) + [(0, short)]).reshape(-1, block_size)

"""Quantized tensors: codes and scales as a `Scheme` says, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._base import display
from .._base.threads import in_pieces
from ..codec import dispatch as _kernels
from ..codec.codec import decode, encode
from ..codec.inputs import as_data
from ..codec.rounding import Rounding
from ..formats import Format
from .blocks import expand
from .numbers import is_stored, number_dtype
from .scaling import Chosen, choose_scales
from .scheme import Scheme, as_scheme

__all__ = ["QuantizedTensor", "quantize"]

# Elements that one step of quantization holds as float64.
_STEP = 1 << 15


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """Codes and scales of a tensor: ``x ~ scale * value``, or ``scale * (value - zero)``, or ``scale * value + zero``.

    Parameters
    ----------
    codes : ndarray of uint8, or of uint16 for a format of more than 8 bits
        The codes, of the tensor's shape.
    scales : tuple of ndarray of float32
        For each of `Scheme.levels`, of `Scheme.scale_shapes`; empty where the scheme has no scale.
    scheme : Scheme
        How the tensor is stored.
    zero : ndarray of float32, optional
        The zero points of a scheme that has them, of the shape of the first scales.

    Examples
    --------
    >>> import numpy as np, rf8sim
    >>> q = rf8sim.quantize(np.array([[0.5, -0.25], [30.0, 40.0]]), "rf8/channel:e8m0fnu,max")
    >>> q.exponents.ravel().tolist(), q.dequantize().tolist()
    ([-1, 5], [[0.5, -0.25], [30.0, 40.0]])
    >>> q.bits_per_weight
    12.0
    """

    codes: NDArray[Any] = field(repr=False)
    scales: tuple[NDArray[np.float32], ...] = field(repr=False)
    scheme: Scheme
    zero: NDArray[np.float32] | None = field(default=None, repr=False)

    @property
    def format(self) -> Format:
        """The format of the codes."""
        return self.scheme.format

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.codes.shape

    @property
    def scale(self) -> NDArray[Any]:
        """What decoded values are multiplied by, of the shape of the first scales, (): 1 where there are none.

        float32; float64 where scales have scales, which holds the product of the two exactly.
        """
        if len(self.scales) < 2:
            return self.scales[0] if self.scales else np.ones((), np.float32)
        assert self.scheme.scales is not None
        assert self.scheme.scales.outer is not None
        first = self.scales[0]
        outer = expand(self.scales[1], self.scheme.scales.outer.block, first.shape)
        return first.astype(np.float64) * outer.astype(np.float64)

    @property
    def offset(self) -> NDArray[np.float64] | None:
        """What is added after the scale, of the shape of the first scales; None without zero points."""
        if self.zero is None:
            return None
        assert self.scheme.scales is not None
        assert self.scheme.scales.zero is not None
        zero = self.zero.astype(np.float64)
        return zero if number_dtype(self.scheme.scales.zero) is not None else -zero * self.scale

    @property
    def exponents(self) -> NDArray[np.int8]:
        """The base-2 logarithms of the scales, where they are powers of two.

        Raises
        ------
        ValueError
            If they are not.
        """
        if self.scheme.scales is None or self.scheme.scales.format != "e8m0fnu":
            raise ValueError(f"the scales of {self.scheme} are not powers of two: use .scale")
        return (np.frexp(self.scales[0])[1] - 1).astype(np.int8)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits for each element: codes at the format's width, scales and zero points at theirs."""
        return self.scheme.bits_per_weight(self.shape)

    def dequantize(self, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Return the numbers that the tensor stands for, computed in float64 and rounded once to ``dtype``.

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
        scale, offset = self.scale, self.offset

        def step(part: slice) -> None:
            with np.errstate(over="ignore", invalid="ignore"):
                values = decode(self.codes[part], self.format, dtype=np.float64, threads=1)
                values = values * _rows(scale, self.scheme, self.shape, part)
                out[part] = values if offset is None else values + _rows(offset, self.scheme, self.shape, part)

        _by_rows(step, self.shape)
        return out

    def __repr__(self) -> str:
        return (
            f"QuantizedTensor({self.scheme}, shape {self.shape}, {self.scale.size if self.scales else 0} scales, "
            f"{self.bits_per_weight:.4g} bits per weight)"
        )

    def _repr_html_(self) -> str:
        counts = np.bincount(self.codes.ravel(), minlength=1)
        share = counts[counts > 0] / max(self.codes.size, 1)
        rows: list[tuple[str, object]] = [
            ("shape", " × ".join(map(str, self.shape)) or "scalar"),
            ("stored as", f"{self.scheme.text}, {self.scale.size if self.scales else 0} scales"),
            ("bits per weight", f"{self.bits_per_weight:.4g}"),
            ("entropy of the codes", f"{abs(-np.sum(share * np.log2(share))):.3f} bits"),
            ("codes in use", f"{np.count_nonzero(counts)} of {self.format.values.size}"),
        ]
        if self.scale.size:
            rows.append(("scales", f"{self.scale.min():g} to {self.scale.max():g}"))
        return display.facts(f"QuantizedTensor, {self.scheme}, rounded {self.scheme.rounding}", rows)


def quantize(
    x: ArrayLike,
    scheme: str | Format | Scheme,
    *,
    scale: Chosen | ArrayLike | None = None,
    seed: int = 0,
    offset: int = 0,
    threads: int | None = None,
) -> QuantizedTensor:
    """Choose scales for a tensor and encode it.

    The quotient ``x / scale`` is formed in float64. For scales that are powers of two it is exact where it is a normal
    float64 number; for others it is rounded to 53 bits, which for float32 data and decision boundaries of at most 28
    bits changes no decision. Not exact are integers beyond 2**53 with a scale, which are rounded to float64 first, and
    quotients below 2**-1022, which are rounded to subnormal numbers or to zero. Without scales (``int8/none``) all
    input is encoded exactly.

    Parameters
    ----------
    x : array_like
        The tensor: float64, float32, float16, bfloat16 or integers.
    scheme : str, Format or Scheme
        How it is to be stored: a named scheme (``mxfp4``), a text form (``int8/channel``), a format (one scale for the
        tensor, of least squared error), or a `Scheme`.
    scale : Chosen or array_like, optional
        Scales to use instead of choosing them: of the first shape of `Scheme.scale_shapes`, or all levels as
        `choose_scales` returns them. A Python float stands for the float32 next to it; any other number must be one
        that the scheme stores.
    seed, offset : int
        Of stochastic rounding, as for `rf8sim.encode`.
    threads : int, optional
        At most this many threads; the result does not depend on it.

    Returns
    -------
    QuantizedTensor
        Codes and scales.

    Raises
    ------
    ValueError
        If the scheme cannot be read, a given scale is one that it does not store, or x holds NaN and the format has
        none.
    TypeError
        If x is not real numbers.

    Examples
    --------
    >>> import numpy as np, rf8sim
    >>> x = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    >>> rf8sim.quantize(x, "e4m3fn/1x32")
    QuantizedTensor(e4m3fn/1x32, shape (64, 64), 128 scales, 9 bits per weight)
    >>> rf8sim.quantize(x, "mxfp4")
    QuantizedTensor(mxfp4, shape (64, 64), 128 scales, 4.25 bits per weight)
    """
    scheme = as_scheme(scheme)
    data = as_data(x)
    chosen = choose_scales(data, scheme) if scale is None else _checked(scale, scheme, data.shape)
    fmt = scheme.format
    codes = np.empty(data.shape, dtype=fmt.code_dtype)
    result = QuantizedTensor(codes, chosen.scales, scheme, chosen.zero)
    factor, shift = result.scale, result.offset
    table = None
    if data.dtype.itemsize == 2 and data.size > 1 << 16 and factor.size == 1 and shift is None:
        table = None if scheme.rounding == "stochastic" else _table_of_patterns(data, float(factor.item()), scheme)
    if table is not None:
        index, flat = np.ascontiguousarray(data).view(np.uint16).reshape(-1), codes.reshape(-1)
        in_pieces(lambda start, stop: _kernels.look_up(index[start:stop], table, flat[start:stop]), flat.size, threads)
        return result
    row = math.prod(data.shape[1:])
    rounding = Rounding(scheme.rounding, scheme.overflow, seed, offset)

    def step(part: slice) -> None:
        quotient = data[part]
        if scheme.scales is not None:
            wide = _rows(factor, scheme, data.shape, part).astype(np.float64)
            quotient = data[part].astype(np.float64)
            if shift is not None:
                quotient = quotient - _rows(shift, scheme, data.shape, part)
            quotient = quotient / wide
        first = part.start * row if data.ndim else 0
        codes[part] = encode(quotient, fmt, rounding=rounding.at(first), threads=1)

    try:
        _by_rows(step, data.shape, threads)
    except ValueError:
        encode(data, fmt)  # says where in the tensor, not in a piece of it
        raise
    return result


def _rows(numbers: NDArray[Any], scheme: Scheme, shape: tuple[int, ...], part: slice) -> NDArray[Any]:
    """Return the scales or offsets of some rows of a tensor, in a shape that broadcasts with them."""
    if scheme.scales is None or not shape:
        return numbers
    return expand(numbers, scheme.scales.block, shape, part)


def _by_rows(step: Any, shape: tuple[int, ...], threads: int | None = None) -> None:
    """Call ``step(rows)`` over slices of bounded size of the first axis, in threads if worth it."""
    if not shape:
        step(...)
        return
    row = max(math.prod(shape[1:]), 1)
    rows = max(1, _STEP // row)

    def work(start: int, stop: int) -> None:
        for first in range(start, stop, rows):
            step(slice(first, min(first + rows, stop)))

    in_pieces(work, shape[0], threads, weight=row)


def _table_of_patterns(data: NDArray[Any], scale: float, scheme: Scheme) -> NDArray[Any] | None:
    """Return the codes of all 65,536 patterns of a 16-bit dtype; None if an element has no code."""
    fmt = scheme.format
    with np.errstate(invalid="ignore"):  # signalling NaNs are among them
        every = np.arange(1 << 16, dtype=np.uint16).view(data.dtype).astype(np.float64) / scale
    without = np.isnan(every)
    if fmt.nan is None:
        if without[np.ascontiguousarray(data).view(np.uint16)].any():
            return None
        every[without] = 0.0
    return encode(every, fmt, rounding=Rounding(scheme.rounding, scheme.overflow), threads=1)


def _checked(scale: Chosen | ArrayLike | float, scheme: Scheme, shape: tuple[int, ...]) -> Chosen:
    """Return given scales, each of which the scheme must store."""
    if not isinstance(scale, Chosen):
        given = np.asarray(scale, np.float32 if isinstance(scale, float) else None)  # as numpy has it beside float32
        scale = Chosen((given.astype(np.float64),))
    chosen = scale
    shapes, levels = scheme.scale_shapes(shape), scheme.levels
    if len(chosen.scales) != len(levels):
        raise ValueError(f"scheme {scheme} has {len(levels)} levels of scales, got {len(chosen.scales)}")
    for array, scale_shape, level in zip(chosen.scales, shapes, levels, strict=True):
        array = np.asarray(array)
        if array.shape != scale_shape:
            raise ValueError(
                f"the scales of {scheme} for a tensor of shape {shape} have shape {scale_shape}, got {array.shape}"
            )
        if not np.all(np.isfinite(array) & ((array > 0) | (level.rule == "signed"))):
            raise ValueError("scales must be positive finite numbers")
        stored = is_stored(array, level.format)
        if not stored.all():
            wrong = array[~stored].flat[0]
            raise ValueError(f"scheme {scheme} stores its scales as {level.format}, which has no {float(wrong):.9g}")
    needs = scheme.scales is not None and scheme.scales.zero is not None
    if needs != (chosen.zero is not None):
        raise ValueError(
            f"scheme {scheme} has {'' if needs else 'no '}zero points: give scales as `choose_scales` does"
        )
    if chosen.zero is not None and chosen.zero.shape != shapes[0]:
        raise ValueError(f"zero points must have shape {shapes[0]}, got {chosen.zero.shape}")
    return Chosen(tuple(np.asarray(array, np.float32) for array in chosen.scales), chosen.zero)

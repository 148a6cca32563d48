"""Fake quantization of a tensor: the codec's own tables, looked up by PyTorch, and a straight-through gradient."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..codec.codec import decode
from ..codec.rounding import Overflow, Rounding, RoundingMode, as_rounding, check_choices
from ..codec.thresholds import step_table, stochastic_table
from ..formats import Format, get_format

__all__ = ["fake_quantize", "scale_for"]


class _Pattern(NamedTuple):
    """A dtype's name in the tables, its bits as torch and numpy hold them, and the pattern of its infinity."""

    name: str
    bits: torch.dtype
    unsigned: Any
    signed: Any
    infinity: int

    @property
    def sign(self) -> Any:
        """Pattern of the sign bit."""
        return self.unsigned(1 << (8 * np.dtype(self.unsigned).itemsize - 1))


_PATTERNS = {
    torch.float64: _Pattern("float64", torch.int64, np.uint64, np.int64, 0x7FF << 52),
    torch.float32: _Pattern("float32", torch.int32, np.uint32, np.int32, 0xFF << 23),
    torch.float16: _Pattern("float16", torch.int16, np.uint16, np.int16, 0x1F << 10),
    torch.bfloat16: _Pattern("bfloat16", torch.int16, np.uint16, np.int16, 0xFF << 7),
}


def _sortable(first: Any, dtype: torch.dtype) -> Tensor:
    """Return bit patterns as signed integers in the same order: the sign bit flipped."""
    pattern = _PATTERNS[dtype]
    return torch.from_numpy((first.astype(pattern.unsigned) ^ pattern.sign).view(pattern.signed))


def _values(codes: Any, first: Any, fmt: Format, dtype: torch.dtype) -> Tensor:
    """Return the value of each step that starts at a pattern.

    The codec refuses NaN for a format that has none; here, where to refuse is to wait for the device, it stays NaN.
    """
    pattern = _PATTERNS[dtype]
    values = decode(codes, fmt, dtype=np.float64)
    if fmt.nan is None:
        magnitude = first.astype(pattern.unsigned) & ~pattern.sign
        values = np.where(magnitude > pattern.unsigned(pattern.infinity), np.nan, values)
    return torch.from_numpy(values)


@lru_cache(maxsize=512)
def _steps(
    fmt: Format, mode: RoundingMode, overflow: Overflow, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the patterns from which the steps after the first start, and the value of every step."""
    steps = step_table(fmt, mode, overflow, _PATTERNS[dtype].name)
    values = _values(steps.result, steps.first, fmt, dtype).to(dtype)
    return _sortable(steps.first[1:], dtype).to(device), values.to(device)


@lru_cache(maxsize=64)
def _intervals(fmt: Format, overflow: Overflow, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """Return where the intervals of stochastic rounding start, their lower magnitudes, widths, and both values."""
    table = stochastic_table(fmt, overflow, _PATTERNS[dtype].name)
    first, number = table.steps
    low, high = (_values(table.codes[number] >> shift & 0xFF, first, fmt, dtype) for shift in (0, 8))
    lower, gap = (torch.from_numpy(np.ascontiguousarray(column[number])) for column in (table.lower, table.gap))
    wide = torch.float32 if device.type == "mps" else torch.float64
    columns = (column.to(wide).to(device) for column in (lower, gap, low, high))
    return _sortable(first[1:], dtype).to(device), *columns


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _constant_steps(
    fmt: Format | str, rounding: str | Rounding, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    fmt = get_format(fmt)
    return _steps(fmt, *check_choices(fmt, rounding), dtype, device)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _constant_intervals(
    fmt: Format | str, rounding: str | Rounding, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, ...]:
    fmt = get_format(fmt)
    return _intervals(fmt, check_choices(fmt, rounding)[1], dtype, device)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _is_stochastic(rounding: str | Rounding) -> bool:
    chosen = as_rounding(rounding)
    if chosen.seed or chosen.offset or chosen.words is not None or chosen.bits != 32:
        raise ValueError("PyTorch's generator draws the words: leave out seed, offset, words and bits of the rounding")
    return chosen.stochastic


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _limits(fmt: Format | str) -> tuple[float, float]:
    fmt = get_format(fmt)
    return fmt.min, fmt.max


def _place(x: Tensor, first: Tensor) -> Tensor:
    """Return the number of the step in which each element lies."""
    patterns = x.contiguous().view(_PATTERNS[x.dtype].bits)
    return torch.bucketize(patterns ^ torch.iinfo(patterns.dtype).min, first, right=True)


class _StraightThrough(torch.autograd.Function):
    """Return the rounded numbers; pass the gradient where the input is within the format's range."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rounded: Tensor, inside: Tensor) -> Tensor:
        ctx.save_for_backward(inside)
        return rounded.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return torch.where(inside, gradient, torch.zeros_like(gradient)), None, None


def fake_quantize(
    x: Tensor,
    fmt: str | Format = "rf8",
    *,
    scale: Tensor | float | None = None,
    rounding: str | Rounding = "nearest-even",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Round a tensor to the values of a format, with a straight-through gradient.

    The result is ``decode(encode(x))`` of the codec bit for bit, and with a scale it is ``quantize(x, fmt,
    scale=scale).dequantize()``: the quotient in float64 (in float32 on devices that have no float64). NaN stays NaN,
    also where the format has none.

    Parameters
    ----------
    x : Tensor
        float64, float32, float16 or bfloat16, of any shape, on any device.
    fmt : str or Format
        The format. Under `torch.compile`, its name.
    scale : Tensor or float, optional
        Positive; broadcast against x. Without one x itself is rounded.
    rounding : str or Rounding
        As for `rf8sim.encode`, without its random words. Under `torch.compile`, its text form: ``"up/nan"``.
    generator : torch.Generator, optional
        Draws the words of ``stochastic``, 32 bits for each element; by default PyTorch's own.

    Returns
    -------
    Tensor
        Of x's shape, dtype and device. Its gradient with respect to x is 1 from the format's lowest to its largest
        value (times the scale), and 0 beyond and at NaN.

    Raises
    ------
    ValueError
        If the format, mode or option is unknown or they do not fit each other.
    TypeError
        If x is not a tensor of one of the four dtypes.

    Examples
    --------
    >>> x = torch.tensor([[0.1, 0.2], [30.0, 40.0]])
    >>> fake_quantize(x, "int8", scale=x.abs().amax(1, keepdim=True) / 127)
    tensor([[ 0.1008,  0.2000],
            [29.9213, 40.0000]])
    """
    if not isinstance(x, Tensor) or x.dtype not in _PATTERNS:
        got = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"fake_quantize takes a float64, float32, float16 or bfloat16 tensor, got {got}")
    if scale is None:
        plain = x.detach()
    else:
        wide = torch.float32 if x.device.type == "mps" else torch.float64
        factor = torch.as_tensor(scale, dtype=wide, device=x.device)
        plain = x.detach().to(wide) / factor
    if _is_stochastic(rounding):
        rounded = _stochastic(plain, fmt, rounding, generator)
    else:
        first, values = _constant_steps(fmt, rounding, plain.dtype, plain.device)
        rounded = values[_place(plain, first)]
    low, high = _limits(fmt)
    inside = (plain >= low) & (plain <= high)
    if scale is not None:
        rounded = (rounded * factor).to(x.dtype)
    result: Tensor = _StraightThrough.apply(x, rounded, inside)  # type: ignore[no-untyped-call, unused-ignore]
    return result


def _stochastic(x: Tensor, fmt: str | Format, rounding: str | Rounding, generator: torch.Generator | None) -> Tensor:
    device = x.device if generator is None else generator.device
    words = torch.randint(0, 1 << 32, x.shape, dtype=torch.int64, generator=generator, device=device)
    return _stochastic_by(x, words.to(x.device), fmt, rounding)


def _stochastic_by(x: Tensor, words: Tensor, fmt: str | Format, rounding: str | Rounding) -> Tensor:
    """Take the upper neighbour where ``floor(p * 2**32) + word >= 2**32``, decided as the codec's kernel does."""
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    first, lower, gap, low, high = _constant_intervals(fmt, rounding, wide.dtype, x.device)
    number = _place(wide, first)
    exact = gap.dtype
    width = gap[number]
    complement = words ^ 0xFFFFFFFF
    distance = (wide.abs().to(exact) - lower[number]) * 2.0**32
    upper, rest = (complement >> 16).to(exact) * 65536.0, (complement & 0xFFFF).to(exact) + 1.0
    up = (distance - upper * width >= rest * width) & (width > 0)
    return torch.where(up, high[number], low[number]).to(x.dtype)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _is_power_scaled(fmt: str | Format) -> bool:
    return get_format(fmt).power_of_two_scale


def scale_for(largest: Tensor, fmt: str | Format) -> Tensor:
    """Return the scale that maps the largest magnitude to the largest value; 1 where it is zero."""
    scale: Tensor = torch.where(largest > 0, largest, torch.ones_like(largest)) / _limits(fmt)[1]
    if _is_power_scaled(fmt):
        fraction, exponent = torch.frexp(scale)
        scale = torch.ldexp(torch.ones_like(scale), torch.where(fraction == 0.5, exponent - 1, exponent))
    return scale

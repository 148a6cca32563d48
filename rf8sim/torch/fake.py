"""Fake quantization of a tensor: the codec's own tables, looked up by PyTorch, and a straight-through gradient."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..codec.codec import decode
from ..codec.rounding import Overflow, Rounding, RoundingMode, check_choices
from ..codec.thresholds import step_table, stochastic_table
from ..formats import FloatLayout, Format, get_format
from ..formats.floats import ARRAY_LAYOUTS
from ..quantization.blocks import Block, layout
from ..quantization.numbers import number_dtype
from ..quantization.scaling import Chosen, choose_scales
from ..quantization.scheme import Scheme, as_scheme

__all__ = ["choose_for", "factors", "fake_quantize", "round_at", "scale_for"]


class _Pattern(NamedTuple):
    """A dtype's layout, and its bits as torch and numpy hold them."""

    layout: FloatLayout
    bits: torch.dtype
    unsigned: Any
    signed: Any

    @property
    def name(self) -> str:
        """The dtype's name in the tables."""
        return self.layout.name

    @property
    def sign(self) -> Any:
        """Pattern of the sign bit."""
        return self.unsigned(self.layout.sign_mask)

    @property
    def infinity(self) -> Any:
        """Pattern of infinity."""
        return self.unsigned(self.layout.infinity)


_PATTERNS = {
    getattr(torch, str(layout.torch_name)): _Pattern(
        layout,
        getattr(torch, f"int{layout.bits}"),
        layout.pattern_dtype.type,
        np.dtype(f"int{layout.bits}").type,
    )
    for layout in ARRAY_LAYOUTS.values()
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
        values = np.where(magnitude > pattern.infinity, np.nan, values)
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
    low, high = (_values(table.codes[number] >> shift & 0xFFFF, first, fmt, dtype) for shift in (0, 16))
    lower, gap = (torch.from_numpy(np.ascontiguousarray(column[number])) for column in (table.lower, table.gap))
    wide = torch.float32 if device.type == "mps" else torch.float64
    columns = (column.to(wide).to(device) for column in (lower, gap, low, high))
    return _sortable(first[1:], dtype).to(device), *columns


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _constant_steps(
    fmt: Format | str, rounding: str, overflow: str, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    fmt = get_format(fmt)
    return _steps(fmt, *check_choices(fmt, Rounding(rounding, overflow)), dtype, device)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _constant_intervals(
    fmt: Format | str, overflow: str, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, ...]:
    fmt = get_format(fmt)
    return _intervals(fmt, check_choices(fmt, Rounding("stochastic", overflow))[1], dtype, device)


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
    scheme: str | Format | Scheme = "rf8",
    *,
    scale: Tensor | float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Round a tensor to the numbers that a scheme stores, with a straight-through gradient.

    The result is ``quantize(x, scheme).dequantize()`` bit for bit: the quotient in float64 (in float32 on devices that
    have no float64). NaN stays NaN, also where the format has none.

    Parameters
    ----------
    x : Tensor
        float64, float32, float16 or bfloat16, of any shape, on any device.
    scheme : str, Format or Scheme
        How it is stored: ``"rf8/none"`` rounds x itself; ``"rf8"``, ``"int8/channel"``, ``"mxfp4"`` choose scales on
        the CPU from the data, which `torch.compile` cannot: give it ``scale``.
    scale : Tensor or float, optional
        Positive; broadcast against x, in place of the scales that the scheme would choose.
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
        If the scheme cannot be read.
    TypeError
        If x is not a tensor of one of the four dtypes.

    Examples
    --------
    >>> x = torch.tensor([[0.1, 0.2], [30.0, 40.0]])
    >>> fake_quantize(x, "int8/channel,max")
    tensor([[ 0.0992,  0.2000],
            [29.9213, 40.0000]])
    """
    if not isinstance(x, Tensor) or x.dtype not in _PATTERNS:
        got = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"fake_quantize takes a float64, float32, float16 or bfloat16 tensor, got {got}")
    stored = _constant_scheme(scheme)
    if scale is not None or stored.scales is None:
        return round_at(x, stored, scale, None, generator)
    chosen = choose_for(x, stored)
    levels = tuple(torch.from_numpy(np.array(array)).to(x.device) for array in chosen.scales)
    zero = None if chosen.zero is None else torch.from_numpy(np.array(chosen.zero)).to(x.device)
    return round_at(x, stored, *factors(stored, levels, zero, tuple(x.shape)), generator)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _constant_scheme(scheme: str | Format | Scheme) -> Scheme:
    return as_scheme(scheme)


def choose_for(x: Tensor, scheme: Scheme) -> Chosen:
    """Return the scales that the codec chooses for a tensor."""
    data = x.detach().cpu()
    return choose_scales((data.float() if data.dtype is torch.bfloat16 else data).numpy(), scheme)


def factors(
    scheme: Scheme, levels: tuple[Tensor, ...], zero: Tensor | None, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor | None]:
    """Return what decoded values are multiplied by and what is added then, in shapes that broadcast with a tensor.

    Parameters
    ----------
    scheme : Scheme
        One that has scales.
    levels : tuple of Tensor
        The scales of each of `Scheme.levels`.
    zero : Tensor or None
        The zero points.
    shape : tuple of int
        The tensor's shape.

    Returns
    -------
    scale, offset : Tensor
        float64 (float32 on devices that have no float64); the offset is None without zero points.
    """
    scales = scheme.scales
    assert scales is not None
    scale = levels[0].to(_wide(levels[0]))
    if scales.outer is not None:
        scale = scale * _expanded(levels[1].to(scale.dtype), scales.outer.block, tuple(scale.shape))
    offset = None
    if zero is not None:
        assert scales.zero is not None
        added = zero.to(scale.dtype) if number_dtype(scales.zero) is not None else -zero.to(scale.dtype) * scale
        offset = _expanded(added, scales.block, shape)
    return _expanded(scale, scales.block, shape), offset


def _wide(x: Tensor) -> torch.dtype:
    """Return the dtype of quotients: float64, or float32 on devices that have no float64."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def _expanded(scale: Tensor, block: Block, shape: tuple[int, ...]) -> Tensor:
    """Return the scale of each element, as `rf8sim.quantization.blocks.expand` does, in PyTorch."""
    if scale.numel() == 1:
        return scale.reshape(())
    view, sizes = layout(block, shape)
    out = scale.reshape([-(-length // size) for length, size in zip(view, sizes, strict=True)])
    for axis, (length, size) in enumerate(zip(view, sizes, strict=True)):
        if out.shape[axis] > 1:
            out = out.repeat_interleave(size, axis).narrow(axis, 0, length)
    if len(view) == len(shape):
        return out
    return out.expand(view).reshape(shape) if out.shape[1] > 1 else out.reshape(-1, *(1,) * (len(shape) - 1))


def round_at(
    x: Tensor,
    scheme: Scheme,
    scale: Tensor | float | None,
    offset: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Round a tensor at given scales and offsets, which broadcast with it."""
    fmt: str | Format = scheme.format.name if torch.compiler.is_compiling() else scheme.format
    if scale is None:
        plain = x.detach()
    else:
        factor = torch.as_tensor(scale, dtype=_wide(x), device=x.device)
        plain = x.detach().to(factor.dtype)
        plain = (plain if offset is None else plain - offset) / factor
    if scheme.rounding == "stochastic":
        rounded = _stochastic(plain, fmt, scheme.overflow, generator)
    else:
        first, values = _constant_steps(fmt, scheme.rounding, scheme.overflow, plain.dtype, plain.device)
        rounded = values[_place(plain, first)]
    low, high = _limits(fmt)
    inside = (plain >= low) & (plain <= high)
    if scale is not None:
        rounded = rounded * factor
        rounded = (rounded if offset is None else rounded + offset).to(x.dtype)
    result: Tensor = _StraightThrough.apply(x, rounded, inside)  # type: ignore[no-untyped-call, unused-ignore]
    return result


def _stochastic(x: Tensor, fmt: str | Format, overflow: str, generator: torch.Generator | None) -> Tensor:
    device = x.device if generator is None else generator.device
    words = torch.randint(0, 1 << 32, x.shape, dtype=torch.int64, generator=generator, device=device)
    return _stochastic_by(x, words.to(x.device), fmt, overflow)


def _stochastic_by(x: Tensor, words: Tensor, fmt: str | Format, overflow: str) -> Tensor:
    """Take the upper neighbour where ``floor(p * 2**32) + word >= 2**32``, decided as the codec's kernel does."""
    wide = x.float() if _PATTERNS[x.dtype].layout.bits == 16 else x
    first, lower, gap, low, high = _constant_intervals(fmt, str(overflow), wide.dtype, x.device)
    number = _place(wide, first)
    exact = gap.dtype
    width = gap[number]
    complement = words ^ 0xFFFFFFFF
    distance = (wide.abs().to(exact) - lower[number]) * 2.0**32
    upper, rest = (complement >> 16).to(exact) * 65536.0, (complement & 0xFFFF).to(exact) + 1.0
    up = (distance - upper * width >= rest * width) & (width > 0)
    return torch.where(up, high[number], low[number]).to(x.dtype)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _in_octaves(scheme: Scheme) -> bool:
    return scheme.scales is not None and scheme.scales.format == "e8m0fnu"


def scale_for(largest: Tensor, scheme: Scheme) -> Tensor:
    """Return the scale that maps the largest magnitude to the largest value; 1 where it is zero."""
    scale: Tensor = torch.where(largest > 0, largest, torch.ones_like(largest)) / _limits(scheme.format)[1]
    if _in_octaves(scheme):
        fraction, exponent = torch.frexp(scale)
        scale = torch.ldexp(torch.ones_like(scale), torch.where(fraction == 0.5, exponent - 1, exponent))
    return scale

"""Fake quantization of a tensor: rounded to what a scheme stores, with a straight-through gradient."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ggd.torch_shards import gathered

from ..formats import Format
from ..quantization.blocks import Block, scale_shape
from ..quantization.numbers import number_dtype
from ..quantization.scaling import Chosen, choose_scales
from ..quantization.scheme import Scheme
from .rounding import FLOATS, choose, expanded, key_of, round_blocks, scheme_of, wide

__all__ = ["choose_for", "constant_key", "drawn_seed", "factors", "fake_quantize", "round_at", "scale_for"]


class _StraightThrough(torch.autograd.Function):
    """Return the rounded numbers; pass the gradient where nothing was beyond the ends of the format.

    The gradient of a scale is that of LSQ (Esser et al. 2020, "Learned step size quantization", eq. 3), without its
    normalization: the value, less the quotient where that was inside.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, scale: Tensor | None, offset: Tensor | None, rounded: Tensor, inside: Tensor) -> Tensor:
        return rounded.detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, scale, offset, rounded, inside = inputs
        ctx.save_for_backward(inside, *((x, scale, offset, rounded) if ctx.needs_input_grad[1] else (None,) * 4))
        ctx.shapes = [None if given is None else (given.shape, given.dtype) for given in (scale, offset)]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inside, x, scale, offset, rounded = ctx.saved_tensors
        passed = gradient if _is_all(inside) else torch.where(inside, gradient, 0.0)
        of_scale = of_offset = None
        if ctx.needs_input_grad[1]:
            slope = _slope(inside, x, scale, offset, rounded)
            of_scale = _summed(gradient.to(slope.dtype) * slope, *ctx.shapes[0])
        if ctx.needs_input_grad[2]:
            of_offset = _summed(gradient - passed, *ctx.shapes[1])
        return passed, of_scale, of_offset, None, None


class _WithTangents(_StraightThrough):
    """The same with a derivative of forward mode, which `torch.compile` does not trace."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, scale, offset, rounded, inside = inputs
        ctx.save_for_forward(inside, x, scale, offset, rounded)
        _StraightThrough.setup_context(ctx, inputs, output)

    @staticmethod
    def jvp(ctx: Any, x: Tensor | None, scale: Tensor | None, offset: Tensor | None, *_: Any) -> Tensor:
        inside, number, factor, shift, rounded = ctx.saved_tensors
        tangent = torch.zeros_like(rounded) if x is None else torch.where(inside, x, torch.zeros_like(x))
        if scale is not None:
            tangent = tangent + (_slope(inside, number, factor, shift, rounded) * scale).to(tangent.dtype)
        if offset is not None:
            tangent = tangent + torch.where(inside, torch.zeros_like(offset), offset).to(tangent.dtype)
        return tangent


def _is_all(mask: Tensor) -> bool:
    """Return whether a mask is seen to be true throughout: only where that is cheaper than a copy of the gradient."""
    if torch.compiler.is_compiling() or type(mask) is not Tensor or mask.device.type != "cpu":
        return False
    if torch._C._functorch.is_functorch_wrapped_tensor(mask):  # of grad, vmap or jvp: no number yet
        return False
    return bool(mask.numpy().all())


def _slope(inside: Tensor, x: Tensor, scale: Tensor, offset: Tensor | None, rounded: Tensor) -> Tensor:
    """Return the derivative of each result by its scale."""
    shift = 0.0 if offset is None else offset
    values, quotient = (rounded - shift) / scale, (x - shift) / scale
    return torch.where(inside, values - quotient, values)


def _summed(gradient: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    return gradient.sum_to_size(shape).to(dtype)


def fake_quantize(
    x: Tensor,
    scheme: str | Format | Scheme = "rf8",
    *,
    scale: Tensor | float | None = None,
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
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
        the CPU from the data.
    scale : Tensor or float, optional
        Positive; one for each block of the scheme, or broadcast against x, in place of the scales that the scheme would
        choose. One that requires a gradient gets it.
    generator : torch.Generator, optional
        Draws the seed of ``stochastic``; by default PyTorch's own.
    seed : int or Tensor, optional
        The seed itself, from 0 to 2**63 - 1: the result is then that of ``quantize(x, scheme, seed=seed)``.

    Returns
    -------
    Tensor
        Of x's shape, dtype and device. Its gradient with respect to x is 1 where x does not round beyond the ends of
        the format, and 0 there and at NaN.

    Raises
    ------
    ValueError
        If the scheme cannot be read, or a scale that is a number is not positive and finite.
    TypeError
        If x is not a tensor of one of the four dtypes.

    Examples
    --------
    >>> x = torch.tensor([[0.1, 0.2], [30.0, 40.0]])
    >>> fake_quantize(x, "int8/channel,max")
    tensor([[ 0.0992,  0.2000],
            [29.9213, 40.0000]])
    """
    if not isinstance(x, Tensor) or x.dtype not in FLOATS:
        got = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"fake_quantize takes a float64, float32, float16 or bfloat16 tensor, got {got}")
    if isinstance(scale, float | int) and not 0 < scale < math.inf:
        raise ValueError(f"a scale is positive and finite, got {scale!r}")
    key = constant_key(scheme)
    drawn = drawn_seed(key, generator, seed)
    if scale is not None or not _has_scales(key):
        return round_at(x, key, scale, None, drawn)
    chosen, offset = choose(x.detach(), key)
    return round_at(x, key, chosen, offset if _has_zero(key) else None, drawn)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def constant_key(scheme: str | Format | Scheme) -> str:
    """Return the key of a scheme, a constant to a compiler."""
    return key_of(scheme)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _draws(key: str) -> bool:
    return scheme_of(key).rounding == "stochastic"


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _has_scales(key: str) -> bool:
    return scheme_of(key).scales is not None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _has_zero(key: str) -> bool:
    scales = scheme_of(key).scales
    return scales is not None and scales.zero is not None


def drawn_seed(key: str, generator: torch.Generator | None = None, seed: int | Tensor | None = None) -> Tensor | None:
    """Return the seed of a scheme that draws, by default from a generator; None for another scheme."""
    if not _draws(key):
        return None
    if seed is not None:
        return torch.as_tensor(seed, dtype=torch.int64)
    device = "cpu" if generator is None else generator.device
    return torch.randint(0, 1 << 62, (), dtype=torch.int64, generator=generator, device=device)


def choose_for(x: Tensor, scheme: Scheme) -> Chosen:
    """Return the scales that the codec chooses for a tensor."""
    data = gathered(x.detach()).cpu()
    return choose_scales((data.float() if data.dtype is torch.bfloat16 else data).numpy(), scheme)


def factors(scheme: Scheme, levels: tuple[Tensor, ...], zero: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return what decoded values are multiplied by and what is added then, one for each block.

    Parameters
    ----------
    scheme : Scheme
        One that has scales.
    levels : tuple of Tensor
        The scales of each of `Scheme.levels`.
    zero : Tensor or None
        The zero points.

    Returns
    -------
    scale, offset : Tensor
        float64 (float32 on devices that have no float64); the offset is None without zero points.
    """
    scales = scheme.scales
    assert scales is not None
    scale = levels[0].to(wide(levels[0].device))
    if scales.outer is not None:
        scale = scale * expanded(levels[1].to(scale.dtype), scales.outer.block, tuple(scale.shape))
    if zero is None:
        return scale, None
    assert scales.zero is not None
    return scale, zero.to(scale.dtype) if number_dtype(scales.zero) is not None else -zero.to(scale.dtype) * scale


def round_at(
    x: Tensor,
    key: str,
    scale: Tensor | float | None,
    offset: Tensor | None = None,
    seed: Tensor | None = None,
) -> Tensor:
    """Round a tensor at given scales and offsets, one for each block of the scheme or such as broadcast with it."""
    factor = None if scale is None else torch.as_tensor(scale, device=x.device).to(wide(x.device))
    detached = (None if given is None else given.detach() for given in (factor, offset))
    rounded, inside = round_blocks(x.detach(), *detached, seed, key)
    spread = (None if given is None else _spread(given, x, key) for given in (factor, offset))
    function = _StraightThrough if torch.compiler.is_compiling() else _WithTangents
    result: Tensor = function.apply(x, *spread, rounded, inside)  # type: ignore[no-untyped-call, unused-ignore]
    return result


def _spread(numbers: Tensor, x: Tensor, key: str) -> Tensor | None:
    """Return numbers whose gradient is wanted in a shape that broadcasts with x; None for others."""
    if not numbers.requires_grad and (torch.compiler.is_compiling() or not _has_tangent(numbers)):
        return None
    block = _block(key)
    return expanded(numbers, block, tuple(x.shape)) if numbers.shape == scale_shape(block, tuple(x.shape)) else numbers


def _has_tangent(numbers: Tensor) -> bool:
    return forward_ad.unpack_dual(numbers).tangent is not None  # type: ignore[no-untyped-call, unused-ignore]


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _block(key: str) -> Block:
    scales = scheme_of(key).scales
    return None if scales is None else scales.block


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _in_octaves(key: str) -> bool:
    scales = scheme_of(key).scales
    return scales is not None and scales.format == "e8m0fnu"


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _largest_value(key: str) -> float:
    return scheme_of(key).format.max


def scale_for(largest: Tensor, scheme: str | Scheme) -> Tensor:
    """Return the scale that maps the largest magnitude to the largest value; 1 where it is zero."""
    key = constant_key(scheme)
    scale: Tensor = torch.where(largest > 0, largest, torch.ones_like(largest)) / _largest_value(key)
    if _in_octaves(key):
        fraction, exponent = torch.frexp(scale)
        scale = torch.ldexp(torch.ones_like(scale), torch.where(fraction == 0.5, exponent - 1, exponent))
    return scale

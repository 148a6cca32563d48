"""Rounding of tensors as operators of PyTorch, which compile, export and vmap take as they are.

On the CPU they are the codec's compiled loops; on other devices PyTorch looks up the codec's tables. The bits are the
same.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ggd.arrays import memory_of

from .._base.threads import in_pieces
from ..codec import dispatch as kernels
from ..codec.codec import decode, encode, whole_table
from ..codec.rounding import Overflow, Rounding, RoundingMode, check_choices
from ..codec.thresholds import cell_table, overflow_start, step_table, stochastic_table
from ..formats import FloatLayout, Format
from ..formats.floats import ARRAY_LAYOUTS
from ..quantization.blocks import Block, expand, layout, scale_shape
from ..quantization.keys import key_of, scheme_of
from ..quantization.scaling import choose_scales
from ..quantization.scheme import Scheme
from ..quantization.tensor import QuantizedTensor

__all__ = ["FLOATS", "choose", "expanded", "key_of", "limits", "round_blocks", "scheme_of", "words_of"]

_STEP = 1 << 15  # elements that one step holds as float64


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


FLOATS = {
    getattr(torch, str(layout.torch_name)): _Pattern(
        layout,
        getattr(torch, f"int{layout.bits}"),
        layout.pattern_dtype.type,
        np.dtype(f"int{layout.bits}").type,
    )
    for layout in ARRAY_LAYOUTS.values()
}
"""The dtypes that are rounded."""

# --- tables of other devices ------------------------------------------------------------------------------------------


def _sortable(first: Any, dtype: torch.dtype) -> Tensor:
    """Return bit patterns as signed integers in the same order: the sign bit flipped."""
    pattern = FLOATS[dtype]
    return torch.from_numpy((first.astype(pattern.unsigned) ^ pattern.sign).view(pattern.signed))


def _values(codes: Any, first: Any, fmt: Format, dtype: torch.dtype) -> Tensor:
    """Return the value of each step that starts at a pattern.

    The codec refuses NaN for a format that has none; here, where to refuse is to wait for the device, it stays NaN.
    """
    pattern = FLOATS[dtype]
    values = decode(codes, fmt, dtype=np.float64)
    if fmt.nan is None:
        magnitude = first.astype(pattern.unsigned) & ~pattern.sign
        values = np.where(magnitude > pattern.infinity, np.nan, values)
    return torch.from_numpy(values)


@lru_cache(maxsize=512)
def steps(
    fmt: Format, mode: RoundingMode, overflow: Overflow, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the patterns from which the steps after the first start, and the value of every step."""
    table = step_table(fmt, mode, overflow, FLOATS[dtype].name)
    values = _values(table.result, table.first, fmt, dtype).to(dtype)
    return _sortable(table.first[1:], dtype).to(device), values.to(device)


@lru_cache(maxsize=64)
def intervals(fmt: Format, overflow: Overflow, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """Return where the intervals of stochastic rounding start, their lower magnitudes, widths, and both values."""
    table = stochastic_table(fmt, overflow, FLOATS[dtype].name)
    first, number = table.steps
    low, high = (_values(table.codes[number] >> shift & 0xFFFF, first, fmt, dtype) for shift in (0, 16))
    lower, gap = (torch.from_numpy(np.ascontiguousarray(column[number])) for column in (table.lower, table.gap))
    exact = wide(device)
    columns = (column.to(exact).to(device) for column in (lower, gap, low, high))
    return _sortable(first[1:], dtype).to(device), *columns


@lru_cache(maxsize=512)
def limits(fmt: Format, mode: RoundingMode, overflow: Overflow, dtype: torch.dtype) -> tuple[float, float]:
    """Return the lowest and the largest number of a dtype that do not round beyond the ends of a format.

    Where the grid does not go on beyond the largest value, as of posits and quantiles, that value is the end.
    """
    return -_end(fmt, mode, overflow, dtype, True), _end(fmt, mode, overflow, dtype, False)


def _end(fmt: Format, mode: RoundingMode, overflow: Overflow, dtype: torch.dtype, negative: bool) -> float:
    """Return the largest magnitude of a dtype on a side that does not round beyond the end."""
    # Below the zero of an unsigned format saturation gives what rounding would: zero.
    to_zero = negative and not fmt.signed and fmt.zero is not None and overflow is Overflow.SATURATE
    start = overflow_start(fmt, mode, negative, Overflow.IEEE if to_zero else overflow)
    end = math.nextafter(start, 0.0) if math.isfinite(start) else float(fmt.sides[negative].magnitudes[-1])
    nearest = torch.tensor(end, dtype=torch.float64).to(dtype)
    if float(nearest) > end:
        nearest = (nearest.view(FLOATS[dtype].bits) - 1).view(dtype)
    return float(nearest)


def wide(device: torch.device) -> torch.dtype:
    """Return the dtype of quotients: float64, or float32 on devices that have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def _place(x: Tensor, first: Tensor) -> Tensor:
    """Return the number of the step in which each element lies."""
    patterns = x.contiguous().view(FLOATS[x.dtype].bits)
    return torch.bucketize(patterns ^ torch.iinfo(patterns.dtype).min, first, right=True)


# --- random words -----------------------------------------------------------------------------------------------------

_LOW = 0xFFFFFFFF


def words_of(seed: Tensor, size: int, device: torch.device) -> Tensor:
    """Return the words of `rf8sim.codec.codec.random_words` as int64, drawn on a device: Philox4x32-10.

    Examples
    --------
    >>> [hex(word) for word in words_of(torch.tensor(0), 4, torch.device("cpu")).tolist()]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    key = seed.to(device)
    k0, k1 = key & _LOW, key >> 32 & _LOW
    block = torch.arange(-(-size // 4), device=device)
    c0, c1 = block & _LOW, block >> 32
    c2, c3 = torch.zeros_like(block), torch.zeros_like(block)
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57  # of 64 bits, whatever their sign
        c0, c1, c2, c3 = (p1 >> 32 & _LOW) ^ c1 ^ k0, p1 & _LOW, (p0 >> 32 & _LOW) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = k0 + 0x9E3779B9 & _LOW, k1 + 0xBB67AE85 & _LOW
    return torch.stack((c0, c1, c2, c3), 1).reshape(-1)[:size]


# --- rounding by PyTorch ----------------------------------------------------------------------------------------------


def expanded(scale: Tensor, block: Block, shape: tuple[int, ...]) -> Tensor:
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


def _of_blocks(scheme: Scheme, shape: tuple[int, ...], given: tuple[int, ...]) -> bool:
    """Return whether numbers of a shape are one for each block of a tensor, and not such as broadcast with it."""
    return scheme.scales is not None and given == scale_shape(scheme.scales.block, shape)


def rounded_by_tables(
    x: Tensor, scale: Tensor | None, offset: Tensor | None, seed: Tensor | None, key: str
) -> tuple[Tensor, Tensor]:
    """Round on any device, by tables that PyTorch looks up."""
    scheme, shape = scheme_of(key), tuple(x.shape)
    plain = x
    if scale is not None:
        if _of_blocks(scheme, shape, tuple(scale.shape)):
            assert scheme.scales is not None
            scale = expanded(scale, scheme.scales.block, shape)
            offset = None if offset is None else expanded(offset, scheme.scales.block, shape)
        plain = x.to(scale.dtype)
        plain = (plain if offset is None else plain - offset) / scale
    mode, overflow = check_choices(scheme.format, Rounding(scheme.rounding, scheme.overflow))
    if seed is not None:
        words = words_of(seed, plain.numel(), x.device).reshape(shape)
        rounded = stochastic_by(plain, words, scheme.format, overflow)
    else:
        first, values = steps(scheme.format, mode, overflow, plain.dtype, plain.device)
        rounded = values[_place(plain, first)]
    low, high = limits(scheme.format, mode, overflow, plain.dtype)
    inside = (plain >= low) & (plain <= high)
    if scale is not None:
        rounded = rounded * scale
        rounded = (rounded if offset is None else rounded + offset).to(x.dtype)
    return rounded.contiguous(), inside.contiguous()


def stochastic_by(x: Tensor, words: Tensor, fmt: Format, overflow: Overflow) -> Tensor:
    """Take the upper neighbour where ``floor(p * 2**32) + word >= 2**32``, decided as the codec's kernel does."""
    numbers = x.float() if FLOATS[x.dtype].layout.bits == 16 else x
    first, lower, gap, low, high = intervals(fmt, overflow, numbers.dtype, x.device)
    number = _place(numbers, first)
    exact = gap.dtype
    width = gap[number]
    complement = words ^ _LOW
    distance = (numbers.abs().to(exact) - lower[number]) * 2.0**32
    upper, rest = (complement >> 16).to(exact) * 65536.0, (complement & 0xFFFF).to(exact) + 1.0
    up = (distance - upper * width >= rest * width) & (width > 0)
    return torch.where(up, high[number], low[number]).to(x.dtype)


# --- rounding by the codec --------------------------------------------------------------------------------------------


_NUMPY = {
    torch.float64: np.float64, torch.float32: np.float32, torch.float16: np.float16,
    torch.bfloat16: ml_dtypes.bfloat16, torch.bool: np.bool_,
}  # fmt: skip


def _array(x: Tensor) -> NDArray[Any]:
    """Return a tensor of the CPU as an array over the same memory."""
    return memory_of(x, _NUMPY[x.dtype])


def _rounded_by_codec(
    x: Tensor, scale: Tensor | None, offset: Tensor | None, seed: Tensor | None, key: str
) -> tuple[Tensor, Tensor]:
    """Round on the CPU, by the codec."""
    scheme, shape = scheme_of(key), tuple(x.shape)
    x = x.contiguous()
    result, inside = torch.empty(shape, dtype=x.dtype), torch.empty(shape, dtype=torch.bool)
    rounding = Rounding(scheme.rounding, scheme.overflow, 0 if seed is None else int(seed))
    mode, overflow = check_choices(scheme.format, rounding)
    ends = limits(scheme.format, mode, overflow, x.dtype if scale is None else torch.float64)
    arrays = _array(x), _array(result), _array(inside)
    factor, shift = (None if given is None else given.detach().to(torch.float64).numpy() for given in (scale, offset))
    group = _group(factor, scheme, shape)
    cells = None
    if group and factor is not None and shift is None and seed is None and _is_much(x):
        cells = cell_table(scheme.format, mode, overflow, "float64")
    if cells is not None and factor is not None:
        _round_groups(arrays, factor, group, scheme.format, tuple(cells), ends)
    elif x.numel():
        _round_by_rows(arrays, factor, shift, scheme, rounding, ends)
    return result, inside


def _is_much(x: Tensor) -> bool:
    """Return whether a tensor is large enough, and of a dtype, for a loop compiled for rounding with scales."""
    return x.numel() >= kernels.LARGE and x.dtype in (torch.float32, torch.float64)


def _group(scale: NDArray[np.float64] | None, scheme: Scheme, shape: tuple[int, ...]) -> int:
    """Return how many elements in a row, in memory, share each scale; 0 where others lie between them."""
    if scale is None:
        return 0
    if scale.size == 1:
        return math.prod(shape)
    if _of_blocks(scheme, shape, scale.shape):
        assert scheme.scales is not None
        view, sizes = layout(scheme.scales.block, shape)
    else:
        view = shape
        given = (1,) * (len(shape) - scale.ndim) + scale.shape
        sizes = tuple(length if one == 1 else 1 for length, one in zip(shape, given, strict=True))
    outer = next((axis for axis in range(len(view)) if sizes[axis] != 1), len(view) - 1)
    whole_axes = all(sizes[axis] == view[axis] for axis in range(outer + 1, len(view)))
    return math.prod(sizes[outer:]) if whole_axes and view[outer] % sizes[outer] == 0 else 0


def _round_groups(
    arrays: tuple[NDArray[Any], ...],
    scale: NDArray[np.float64],
    group: int,
    fmt: Format,
    cells: tuple[Any, ...],
    ends: tuple[float, float],
) -> None:
    """Round groups of elements, each at its own scale; a single group in pieces, for several threads."""
    flat, values = np.ascontiguousarray(scale).reshape(-1), whole_table(fmt.values)
    x, out, inside = (array.reshape(-1, group) for array in arrays)

    def work(start: int, stop: int) -> None:
        part = np.s_[:, start:stop] if flat.size == 1 else np.s_[start:stop]
        factors = flat if flat.size == 1 else flat[start:stop]
        kernels.round_groups(x[part], factors, cells, values, ends, out[part], inside[part])

    if flat.size == 1:
        in_pieces(work, group, torch.get_num_threads())
    else:
        in_pieces(work, flat.size, torch.get_num_threads(), weight=group)


def _round_by_rows(
    arrays: tuple[NDArray[Any], ...],
    scale: NDArray[np.float64] | None,
    offset: NDArray[np.float64] | None,
    scheme: Scheme,
    rounding: Rounding,
    ends: tuple[float, float],
) -> None:
    """Round any tensor, a few indices of its first axis at a time."""
    shape = arrays[0].shape
    blocks = scale is not None and scale.size > 1 and _of_blocks(scheme, shape, scale.shape)
    if scale is None or scale.size == 1 or not shape:
        arrays = tuple(array.reshape(-1) for array in arrays)
        scale, offset = (None if given is None else given.reshape(()) for given in (scale, offset))
    rows = len(arrays[0])
    row = arrays[0].size // rows
    height = max(1, _STEP // row)

    def of_rows(numbers: NDArray[Any] | None, part: slice) -> NDArray[Any] | None:
        if numbers is None or numbers.ndim == 0:
            return numbers
        if blocks:
            assert scheme.scales is not None
            return expand(numbers, scheme.scales.block, shape, part)
        return np.broadcast_to(numbers, shape)[part]

    def work(start: int, stop: int) -> None:
        for first in range(start, stop, height):
            part = slice(first, min(first + height, stop))
            x, out, inside = (array[part] for array in arrays)
            drawn = rounding.at(first * row)
            _round_rows(x, of_rows(scale, part), of_rows(offset, part), scheme.format, drawn, ends, out, inside)

    in_pieces(work, rows, torch.get_num_threads(), weight=row)


def _round_rows(
    x: NDArray[Any],
    scale: NDArray[Any] | None,
    offset: NDArray[Any] | None,
    fmt: Format,
    rounding: Rounding,
    ends: tuple[float, float],
    out: NDArray[Any],
    inside: NDArray[np.bool_],
) -> None:
    """Round a few rows, and say which elements do not round beyond the ends of the format."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        plain = x
        if scale is not None:
            plain = x.astype(np.float64)
            if offset is not None:
                plain -= offset
            plain /= scale
        np.greater_equal(plain, ends[0], out=inside)
        inside &= plain <= ends[1]
        missing = None
        if fmt.nan is None and not inside.all():
            missing = np.isnan(plain)
            plain = np.where(missing, plain.dtype.type(0), plain)
        codes = encode(plain, fmt, rounding=rounding, threads=1)
        if scale is None:
            decode(codes, fmt, dtype=out.dtype, threads=1, out=out)
        else:
            values = decode(codes, fmt, dtype=np.float64, threads=1)
            values *= scale
            if offset is not None:
                values += offset
            out[...] = values
        if missing is not None:
            out[missing] = np.nan


# --- operators --------------------------------------------------------------------------------------------------------


@torch.library.custom_op("rf8sim::round_blocks", mutates_args=())
def round_blocks(
    x: Tensor, scale: Tensor | None, offset: Tensor | None, seed: Tensor | None, key: str
) -> tuple[Tensor, Tensor]:
    """Round a tensor, and say which elements do not round beyond the ends of the format.

    Parameters
    ----------
    x : Tensor
        The elements.
    scale, offset : Tensor, optional
        float64 (float32 on devices without): one for each block of the scheme, or such as broadcast with x. Elements
        stand for ``scale * value + offset``.
    seed : Tensor, optional
        Of ``stochastic``, an int64: element i in row-major order gets word i of `rf8sim.codec.codec.random_words`.
    key : str
        Of the scheme, from `key_of`.

    Returns
    -------
    rounded : Tensor
        Of x's shape and dtype.
    inside : Tensor of bool
    """
    return rounded_by_tables(x, scale, offset, seed, key)


round_blocks.register_kernel("cpu")(_rounded_by_codec)


@round_blocks.register_fake
def _(x: Tensor, scale: Tensor | None, offset: Tensor | None, seed: Tensor | None, key: str) -> tuple[Tensor, Tensor]:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    return out, torch.empty_like(out, dtype=torch.bool)


@torch.library.custom_op("rf8sim::choose_scales", mutates_args=())
def choose(x: Tensor, key: str) -> tuple[Tensor, Tensor]:
    """Choose the scales of a tensor, on the CPU, and return the scale and the offset of each block.

    Parameters
    ----------
    x : Tensor
        The elements.
    key : str
        Of a scheme that has scales, from `key_of`.

    Returns
    -------
    scale, offset : Tensor
        As `round_blocks` takes them; the offset is empty where the scheme has no zero points.
    """
    scheme = scheme_of(key)
    data = _array(x.cpu().contiguous())
    chosen = choose_scales(data, scheme)
    stored = QuantizedTensor(np.empty(x.shape, scheme.format.code_dtype), chosen.scales, scheme, chosen.zero)
    offset = np.empty(0) if stored.offset is None else stored.offset
    scale, offset_ = (torch.tensor(np.asarray(a, np.float64)) for a in (stored.scale, offset))
    return scale.to(x.device, wide(x.device)), offset_.to(x.device, wide(x.device))


@choose.register_fake
def _(x: Tensor, key: str) -> tuple[Tensor, Tensor]:
    scheme = scheme_of(key)
    assert scheme.scales is not None
    shape = scheme.scale_shapes(tuple(x.shape))[0]
    scale = x.new_empty(shape, dtype=wide(x.device))
    return scale, scale.new_empty(0 if scheme.scales.zero is None else shape)


def _each(operator: Any) -> Any:
    """Return a rule of vmap that takes one sample after the other: scales and words are those of each alone."""

    def rule(info: Any, in_dims: Any, *arguments: Any) -> Any:
        samples = (
            (a if dim is None else a.select(dim, index) for a, dim in zip(arguments, in_dims, strict=True))
            for index in range(info.batch_size)
        )
        results = [operator(*sample) for sample in samples]
        return tuple(torch.stack(column) for column in zip(*results, strict=True)), (0, 0)

    return rule


round_blocks.register_vmap(_each(round_blocks))
choose.register_vmap(_each(choose))

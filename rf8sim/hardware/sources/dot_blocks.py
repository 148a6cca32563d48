"""Vectors of the dot products: exact ones of several formats, and MX blocks summed as matrix engines sum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...formats import get_format
from .block import Block, packed, signal

__all__ = ["OPERANDS", "Operand", "aligned_sums", "dot_blocks"]

_SEED = 0xD07
_LANES = 16
_NAN = np.uint32(0x7FC00000)

Ints = NDArray[np.int64]


class Operand(NamedTuple):
    """A format as `dot_product` sees it.

    Attributes
    ----------
    name : str
        In the names of blocks.
    number : int
        The module's WEIGHT.
    bits : int
        Of a code.
    units : ndarray of int, shape (2**bits,)
        Values in units of the last place; NaN as the number that its bits would be.
    nan : ndarray of bool, shape (2**bits,)
        Which codes are NaN.
    product : int
        Bits of a product with one of the format, in two's complement; with an INT8 number ``mixed``.
    mixed : int
        See ``product``.
    """

    name: str
    number: int
    bits: int
    units: Ints
    nan: NDArray[np.bool_]
    product: int
    mixed: int


def _operand(name: str, fmt: str, number: int, fraction: int, widths: tuple[int, int]) -> Operand:
    values = get_format(fmt).values
    nan = np.isnan(values)
    units = np.ldexp(np.where(nan, 0.0, values), fraction).astype(np.int64)
    if fmt == "e4m3fn":
        units[nan] = np.where(np.flatnonzero(nan) < 128, 1, -1) * (480 << fraction)
    return Operand(name, number, get_format(fmt).bits, units, nan, *widths)


OPERANDS = (
    _operand("rf8", "rf8", 0, 19, (41, 28)),
    _operand("e4m3", "e4m3fn", 1, 9, (37, 26)),
    _operand("int8", "int8", 2, 0, (16, 16)),
    _operand("e2m1", "e2m1fn", 3, 1, (9, 12)),
)
"""The formats of `dot_product`, in the order of its parameter WEIGHT."""


def dot_blocks() -> Iterator[Block]:
    """Yield the blocks.

    Exact dot products of 16 of each format with itself and with INT8, RF8's with INT8 at every number of pipeline
    stages: random codes, the largest sums of both signs, each lane alone, NaN in each lane. MX blocks of 32 at several
    numbers of fraction bits and stages: c from far above the products to far below, sums that cancel, zeros, scales
    from end to end, overflow, subnormal results, infinities and NaN.
    """
    rf8, e4m3, int8, e2m1 = OPERANDS
    for stages in range(4):
        yield _exact(rf8, int8, stages)
    for operand in (e4m3, e2m1):
        yield _exact(operand, int8, 1)
    for operand in OPERANDS:
        yield _exact(operand, operand, 1)
    for first, second in ((e4m3, int8), (e4m3, e4m3), (e2m1, e2m1)):
        yield _exact(first, second, 2, scaled=True)
    for fraction, stages in ((13, 0), (25, 0), (25, 1), (25, 2), (25, 3), (25, 4)):
        yield _aligned(32, fraction, stages)
    yield _aligned(16, 23, 4)


def _codes(operand: Operand, size: int, rng: np.random.Generator) -> Ints:
    """Return random codes; the first vectors are of the largest and smallest values, then of single lanes."""
    codes = rng.integers(0, 1 << operand.bits, (size, _LANES))
    rare = rng.random(codes.shape) < 0.002
    codes = np.where(operand.nan[codes] & ~rare, 0x2B, codes)
    finite = np.where(operand.nan, 0, operand.units)
    zero = int(np.flatnonzero(finite == 0)[0])
    for lane in range(_LANES):
        codes[8 + lane] = zero
        codes[8 + lane, lane] = rng.integers(0, 1 << operand.bits)
        if operand.nan.any():
            codes[8 + _LANES + lane] = zero
            codes[8 + _LANES + lane, lane] = np.flatnonzero(operand.nan)[0]
    return codes


def _exact(first: Operand, second: Operand, stages: int, scaled: bool = False) -> Block:
    rng = np.random.default_rng(_SEED)
    a, b = _codes(first, 600, rng), _codes(second, 600, rng)
    ends = [np.argmax(np.where(x.nan, 0, x.units)) for x in (first, second)]
    lows = [np.argmin(np.where(x.nan, 0, x.units)) for x in (first, second)]
    for row, (x, y) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        a[row], b[row] = (ends[0], lows[0])[x], (ends[1], lows[1])[y]
    same = first is second
    sums = (first.units[a] * second.units[b]).sum(axis=1)
    nan = (first.nan[a] | second.nan[b]).any(axis=1)
    width = (first.product if same else first.mixed) + 4
    outputs = {"sum": signal(width, sums)}
    inputs = {"a": packed(first.bits, a), "b": packed(second.bits, b)}
    scales = np.full((2, len(a)), 127)
    if scaled:
        scales = rng.integers(0, 256, scales.shape)
        nan |= (scales == 255).any(axis=0)
    inputs |= {"scale_a": signal(8, scales[0]), "scale_b": signal(8, scales[1])}
    outputs |= {"exponent": signal(10, scales.sum(axis=0) - 254), "nan": signal(1, nan)}
    choices = {"WEIGHT": first.number, "INT8": int(not same or first.name == "int8"), "SCALED": int(scaled),
               "STAGES": stages}  # fmt: skip
    name = ("mx_" if scaled else "") + first.name + ("" if same else f"_{second.name}")
    return Block(f"{name}_dot_{stages}", "dot_product", inputs, outputs, choices, latency=max(stages, 1))


def aligned_sums(
    a: NDArray[np.float64], b: NDArray[np.float64], scale: Ints, c: NDArray[np.float32], fraction: int
) -> NDArray[np.uint32]:
    """Return patterns of float32 sums of products and c, shifted to the largest exponent, cut there, cut to float32.

    Parameters
    ----------
    a, b : ndarray of float64, shape (vectors, lanes)
        Values of E4M3.
    scale : ndarray of int, shape (vectors,)
        Exponent that multiplies every product.
    c : ndarray of float32, shape (vectors,)
        The running sums.
    fraction : int
        Bits that are kept below the largest exponent, at most 40.

    Examples
    --------
    >>> import numpy as np
    >>> ones, c = np.ones((1, 2)), np.array([2.0**-13 + 2.0**-14], np.float32)
    >>> aligned_sums(ones, ones, np.zeros(1, np.int64), c, 13).view(np.float32).tolist()
    [2.0001220703125]
    """
    with np.errstate(invalid="ignore"):
        products = a * b
        special = (products * 0).sum(axis=1) + c
        exponents = [np.maximum(np.frexp(np.where(np.isfinite(x), x, 1.0))[1] - 1, -6) for x in (a, b)]
    tops = np.where(products == 0, -1000, exponents[0] + exponents[1] + scale[:, None])
    wide = np.where(np.isfinite(c), c, 0.0).astype(np.float64)
    own = np.maximum(np.where(wide == 0, -126, np.frexp(wide)[1] - 1), -126)
    top = np.maximum(tops.max(axis=1), own)
    products = np.where(np.isfinite(products), products, 0.0)
    terms = np.trunc(np.ldexp(products, (scale + fraction - top)[:, None])).astype(np.int64)
    total = terms.sum(axis=1) + np.trunc(np.ldexp(wide, fraction - top)).astype(np.int64)
    exact = np.ldexp(total.astype(np.float64), top - fraction)
    with np.errstate(over="ignore"):
        nearest = np.abs(exact).astype(np.float32)
    cut = nearest.view(np.uint32) - (nearest.astype(np.float64) > np.abs(exact))
    cut = np.where(np.abs(exact) >= 2.0**128, np.uint32(0x7F800000), cut)
    patterns = np.where(total < 0, cut | np.uint32(1 << 31), cut).astype(np.uint32)
    patterns = np.where(np.isinf(special), c.view(np.uint32), patterns)
    return np.where(np.isnan(special), _NAN, patterns)


def _aligned(lanes: int, fraction: int, stages: int) -> Block:
    rng = np.random.default_rng(_SEED + fraction)
    size = 320 if stages in (0, 4) else 120
    values = get_format("e4m3fn").values
    a, b = rng.integers(0, 256, (2, size, lanes))
    rare = rng.random(a.shape) < 0.0003
    a = np.where(np.isnan(values[a]) & ~rare, 0x81, a)
    b = np.where(np.isnan(values[b]) & ~rare, 0x01, b)
    kind = np.arange(size) % 8
    a[kind == 1] &= 0x9F  # small values: subnormal ones among them
    half = lanes // 2
    a[kind == 2, half:], b[kind == 2, half:] = a[kind == 2, :half] ^ 0x80, b[kind == 2, :half]  # sums that cancel
    a[kind == 3] = np.where(rng.random((np.count_nonzero(kind == 3), lanes)) < 0.9, 0x80, a[kind == 3])  # few products
    a[kind == 4] = 0x00
    scales = rng.integers(124, 131, (2, size))
    far = (kind >= 4) & (rng.random(size) < 0.7)
    scales[:, far] = rng.integers(0, 256, (2, np.count_nonzero(far)))
    sums = np.abs(values[a] * values[b]).max(axis=1, initial=2.0**-18, where=~np.isnan(values[a] * values[b]))
    place = np.frexp(sums)[1] - 1 + scales.sum(axis=0) - 254
    fields = np.clip(place + 127 + rng.integers(-fraction - 12, fraction + 13, size), 0, 254)
    c = (fields << 23) + rng.integers(0, 1 << 23, size) + (rng.integers(0, 2, size) << 31)
    c[::9] = 0
    c[5::97] = np.resize([0x80000000, 0x7F800000, 0xFF800000, 0x7F800001, 1, 0x80000001, 0x7F7FFFFF], c[5::97].size)
    c = c.astype(np.uint32)
    result = aligned_sums(values[a], values[b], scales.sum(axis=0) - 254, c.view(np.float32), fraction)
    result = np.where((scales == 255).any(axis=0), _NAN, result)
    inputs = {
        "a": packed(8, a), "b": packed(8, b), "scale_a": signal(8, scales[0]), "scale_b": signal(8, scales[1]),
        "c": signal(32, c),
    }  # fmt: skip
    choices = {"LANES": lanes, "FRACTION": fraction, "STAGES": stages}
    name = f"mxfp8_dot_{lanes}_{fraction}_{stages}"
    return Block(name, "mxfp8_dot", inputs, {"result": signal(32, result)}, choices, latency=max(stages, 1))

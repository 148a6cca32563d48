"""Vectors of the blocks that add products of two 8-bit floats to a float32 number, rounded once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...arithmetic.operations import exact_sum
from ...formats import get_format
from .block import Block, signal

__all__ = ["fma_blocks", "rounded_sum"]

_SEED = 0xF8A
_NAN = np.uint32(0x7FC00000)
_NAMES = ("e4m3fn", "e5m2")

Floats = NDArray[np.float64]


def rounded_sum(a: Floats, b: Floats) -> NDArray[np.uint32]:
    """Return patterns of ``a + b`` in float32, rounded once to nearest even; NaN is 7fc00000.

    The sum is rounded to odd in 53 bits first, which are more than twice those of float32: nothing is rounded twice.

    Examples
    --------
    >>> import numpy as np
    >>> rounded_sum(np.array([1.0, 1.0]), np.array([2.0**-24, 2.0**-24 + 2.0**-70])).view(np.float32).tolist()
    [1.0, 1.0000001192092896]
    """
    with np.errstate(invalid="ignore", over="ignore"):
        total = exact_sum(a, b)
        patterns = total.astype(np.float32).view(np.uint32)
    return np.where(np.isnan(total), _NAN, patterns)


def fma_blocks() -> Iterator[Block]:
    """Yield the blocks.

    Each pair of E4M3 codes, and a fifth of the others, has a third operand near its product; others cancel it exactly
    or but for a few places, lie a distance away at which the sum is a tie, or are zeros, subnormal numbers,
    infinities, NaN and extremes.
    """
    yield _adder()
    for first, second in ((0, 0), (0, 1), (1, 1)):
        yield _fma(first, second)
    yield _mac(0, 0)
    yield _mac(1, 1)


def _special_floats() -> NDArray[np.uint32]:
    patterns = [0, 1, 0x7FFFFF, 0x800000, 0x3F800000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0x7F800001]
    both = [*patterns, *(pattern | 1 << 31 for pattern in patterns)]
    return np.array(both, np.uint32)


def _values(patterns: NDArray[np.uint32]) -> Floats:
    with np.errstate(invalid="ignore"):
        return patterns.view(np.float32).astype(np.float64)


def _near(values: Floats, rng: np.random.Generator) -> NDArray[np.uint32]:
    """Return a float32 number for each value: of any significand and sign, at most 30 octaves away."""
    exponents = np.frexp(np.where(np.isfinite(values) & (values != 0), values, 1.0))[1] + 126
    fields = np.clip(exponents + rng.integers(-30, 31, values.size), 0, 254).astype(np.uint32)
    low = rng.integers(0, 1 << 23, values.size, np.uint32)
    low[::3] &= np.uint32(0x700000)  # of few bits: ties
    sign = rng.integers(0, 2, values.size, np.uint32)
    patterns: NDArray[np.uint32] = sign << np.uint32(31) | fields << np.uint32(23) | low
    return patterns


def _against(values: Floats, rng: np.random.Generator) -> NDArray[np.uint32]:
    """Return the float32 number that cancels each value, a few places off."""
    with np.errstate(invalid="ignore"):
        patterns = (-values).astype(np.float32).view(np.uint32)
    moved = (patterns.astype(np.int64) + rng.integers(-2, 3, values.size)) & 0xFFFFFFFF
    return np.where(np.isfinite(values) & (values != 0), moved, patterns).astype(np.uint32)


def _adder() -> Block:
    rng = np.random.default_rng(_SEED)
    special = _special_floats()
    a = rng.integers(0, 1 << 32, 20000, np.uint32)
    b = np.concatenate([_near(_values(a[:12000]), rng), _against(_values(a[12000:16000]), rng), a[16000:] + 1])
    large = rng.integers(0x7F000000, 0x7F800000, 4000, np.uint32)
    a = np.concatenate([a, large, np.repeat(special, special.size)])
    b = np.concatenate([b, large[::-1], np.tile(special, special.size)])
    finite = np.isfinite(_values(a)) & np.isfinite(_values(b))
    a, b = a[finite], b[finite]
    answer = {"sum": signal(32, rounded_sum(_values(a), _values(b)))}
    return Block("float32_add", "float32_add", {"a": signal(32, a), "b": signal(32, b)}, answer)


def _fma(first: int, second: int) -> Block:
    rng = np.random.default_rng(_SEED)
    x, y = (get_format(_NAMES[choice]).values for choice in (first, second))
    step = 1 if first == second == 0 else 5
    a, b = np.divmod(np.arange(0, 1 << 16, step), 256)
    some = rng.permutation(a.size)[:8192]
    special = _special_floats()
    few = np.array([0x00, 0x01, 0x38, 0x3C, 0x7B, 0x7C, 0x7E, 0x7F])
    few = np.concatenate([few, few | 0x80])
    with np.errstate(invalid="ignore"):
        products = x[a] * y[b]
    i, j, k = (axis.ravel() for axis in np.meshgrid(few, few, np.arange(special.size), indexing="ij"))
    a, b = np.concatenate([a, a[some], i]), np.concatenate([b, b[some], j])
    c = np.concatenate([_near(products, rng), _against(products[some], rng), special[k]])
    with np.errstate(invalid="ignore"):
        results = rounded_sum(x[a] * y[b], _values(c))
    inputs = {"a": signal(8, a), "b": signal(8, b), "c": signal(32, c)}
    choices = {"A_E5M2": first, "B_E5M2": second}
    name = f"float8_fma_{_NAMES[first]}" + (f"_{_NAMES[second]}" if second != first else "")
    return Block(name, "float8_fma", inputs, {"result": signal(32, results)}, choices)


def _mac(first: int, second: int) -> Block:
    """Make a stream of sums of 64 products in the middle, of finite codes but for a few."""
    rng = np.random.default_rng(_SEED)
    x, y = (get_format(_NAMES[choice]).values for choice in (first, second))
    a, b = rng.integers(0, 256, (2, 4000))
    rare = rng.random(a.size) < 0.01
    a, b = (np.where(np.isfinite(v[c]) | rare, c, 0x2B) for v, c in ((x, a), (y, b)))
    clear, valid = rng.random(a.size) < 1 / 64, rng.random(a.size) < 0.9
    clear[0] = True
    total, sums = np.zeros(1, np.uint32), np.empty(a.size, np.uint32)
    for index in range(a.size):
        if clear[index]:
            total = np.zeros(1, np.uint32)
        if valid[index]:
            with np.errstate(invalid="ignore"):
                product = x[a[index : index + 1]] * y[b[index : index + 1]]
            total = rounded_sum(product, _values(total))
        sums[index] = total[0]
    inputs = {"clear": signal(1, clear), "valid": signal(1, valid), "a": signal(8, a), "b": signal(8, b)}
    choices = {"A_E5M2": first, "B_E5M2": second}
    return Block(f"float8_mac_{_NAMES[first]}", "float8_mac", inputs, {"sum": signal(32, sums)}, choices, latency=1)

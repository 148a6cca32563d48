"""Patterns of any kind of operand that vectors are made of: codes of a format, floats and integers alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...codec.codec import random_words
from ...codec.rounding import Rounding
from ..golden.floats import round_to_layout
from ..golden.ports import Codes, Fixed, Float, Kind, Patterns, unsigned
from .code_sets import any_codes, core_codes, corner_codes, extremes, finite_codes, nearest_codes, negated_codes
from .code_sets import special_codes as special_codes_of

__all__ = [
    "any_patterns", "core_patterns", "corner_patterns", "ends", "finite_patterns", "moved", "nearest_patterns",
    "negated", "short_odds", "special_numbers", "special_patterns",
]  # fmt: skip

Array = NDArray[np.float64]

_DOWNWARD = Rounding("toward-zero", "saturate")
_MODERATE = 20  # exponents of ordinary floats, about 0, so that their products and sums stay in range


def nearest_patterns(kind: Kind, values: Array, further: int = 0) -> Patterns:
    """Return patterns of the finite numbers next to given ones, toward zero, or some places further away from zero.

    Examples
    --------
    >>> from rf8sim.hardware.golden.ports import get_kind
    >>> [hex(p) for p in nearest_patterns(get_kind("float32"), np.array([1.0, -1e60]), 1).tolist()]
    ['0x3f800001', '0xff7fffff']
    """
    if isinstance(kind, Codes):
        codes: Patterns = nearest_codes(kind.format, values, further)
        return codes
    if isinstance(kind, Float):
        patterns = round_to_layout(np.nan_to_num(values), kind.layout, _DOWNWARD).patterns.astype(np.int64)
        magnitude = (patterns & kind.layout.magnitude_mask) + further
        shifted = np.clip(magnitude, 0, kind.layout.largest_pattern) | (patterns & kind.layout.sign_mask)
        narrow: Patterns = shifted.astype(unsigned(kind.bits))
        return narrow
    assert isinstance(kind, Fixed)
    low, high = (-(2.0 ** (kind.bits - 1)), 2.0 ** (kind.bits - 1) - 1) if kind.signed else (0.0, 2.0**kind.bits - 1)
    steps = np.clip(np.trunc(np.ldexp(np.nan_to_num(values), kind.fraction)) + further, low, high)
    return kind.wrapped(steps.astype(np.int64))


def moved(kind: Kind, patterns: Patterns, by: int) -> Patterns:
    """Return patterns of numbers some places further."""
    return nearest_patterns(kind, kind.values(patterns), by)


def special_patterns(kind: Kind) -> NDArray[np.uint64]:
    """Return the patterns where faults live: zeros, the smallest and largest numbers, infinities, NaNs of each sort."""
    if isinstance(kind, Codes):
        return np.union1d(core_codes(kind.format), special_codes_of(kind.format)).astype(np.uint64)
    if isinstance(kind, Float):
        layout, normal = kind.layout, 1 << kind.layout.mantissa_bits
        one = layout.bias << layout.mantissa_bits
        magnitudes = [0, 1, 2, normal - 1, normal, normal + 1, one, one + 1, layout.largest_pattern]
        magnitudes += [layout.infinity, layout.infinity + 1, layout.infinity + normal // 2, layout.magnitude_mask]
        return np.array([sign | x for sign in (0, layout.sign_mask) for x in magnitudes], np.uint64)
    top, half = (1 << kind.bits) - 1, 1 << (kind.bits - 1)
    return np.unique(np.array([0, 1, 2, top, top - 1, half, half - 1, half + 1], np.uint64))


def special_numbers(kind: Kind) -> NDArray[Any]:
    """Return the patterns of infinities and NaN: of many NaNs some."""
    if isinstance(kind, Codes):
        return special_codes_of(kind.format)
    patterns = special_patterns(kind)
    return patterns[~np.isfinite(kind.values(patterns.astype(unsigned(kind.bits))))]


def core_patterns(kind: Kind) -> NDArray[Any]:
    """Return the patterns of the core of a format, or those where faults live."""
    return core_codes(kind.format) if isinstance(kind, Codes) else special_patterns(kind)


def corner_patterns(kind: Kind, level: int) -> NDArray[Any]:
    """Return the corners of a format; of a float what is special, and more neighbours of it at level 2."""
    if isinstance(kind, Codes):
        return corner_codes(kind.format, level)
    patterns = special_patterns(kind)
    if level == 1:
        return patterns
    near = [np.clip(patterns.astype(np.int64) + by, 0, (1 << kind.bits) - 1) for by in (-2, -1, 1, 2)]
    return np.unique(np.concatenate([patterns, *near]).astype(np.uint64))


def ends(kind: Kind) -> tuple[int, int, int, int]:
    """Return the patterns of zero, the smallest, the largest and the lowest number."""
    if isinstance(kind, Codes):
        return extremes(kind.format)
    assert isinstance(kind, Float)
    largest = kind.layout.largest_pattern
    return 0, 1, largest, largest | kind.layout.sign_mask


def any_patterns(kind: Kind, seed: int, size: int) -> Patterns:
    """Return so many uniform patterns: always the same ones."""
    if isinstance(kind, Codes):
        codes: Patterns = any_codes(kind.format, seed, size)
        return codes
    return (random_words(seed, size) & np.uint32((1 << kind.bits) - 1)).astype(unsigned(kind.bits))


def finite_patterns(kind: Kind, drawn: Patterns) -> Patterns:
    """Return finite numbers of uniform patterns: of floats those about 1, every second one with few digits."""
    if isinstance(kind, Codes):
        codes: Patterns = finite_codes(kind.format)[drawn]
        return codes
    assert isinstance(kind, Float)
    layout, raw = kind.layout, drawn.astype(np.int64)
    reach = min(_MODERATE, layout.bias - 1)
    field = layout.bias - reach + (raw >> layout.mantissa_bits) % (2 * reach + 1)
    tail = raw & layout.mantissa_mask
    digits = np.where(raw & 1, 0, raw % (layout.mantissa_bits + 1))
    magnitude = (field << layout.mantissa_bits) | (tail >> digits << digits)
    finite: Patterns = (magnitude | (raw & layout.sign_mask)).astype(unsigned(kind.bits))
    return finite


def negated(kind: Kind, patterns: Patterns) -> Patterns:
    """Return the patterns of the opposite numbers, or the same ones where a format has none."""
    if isinstance(kind, Codes):
        codes: Patterns = negated_codes(kind.format)[patterns]
        return codes
    assert isinstance(kind, Float)
    return patterns ^ patterns.dtype.type(kind.layout.sign_mask)


def short_odds(seed: int, digits: NDArray[np.int64]) -> Array:
    """Return odd integers of so many binary digits each: always the same ones.

    Examples
    --------
    >>> short_odds(1, np.array([1, 2, 10])).astype(int).tolist()
    [1, 3, 705]
    """
    words = random_words(seed, digits.size).astype(np.int64)
    top = np.int64(1) << (digits - 1)
    odd: Array = (top | (words & (top - 1)) | 1).astype(np.float64)
    return odd

"""A multiplier as a hardware engineer would write it, from the specification alone, and the faults one can make in it.

It knows fields, integers and shifts, and nothing of the library: what is found in it was not put there by what finds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]

SIGNIFICAND = np.array([12, 14, 15, 16, 17, 18, 20, 24])  # 16 m
# Ranks 0 to 112: zero, then r = 1 to 7 for each exponent field, in units of 2**-38; then the next value of the grid.
RANKED = np.array([0, *(int(SIGNIFICAND[r]) << (E + 19) for E in range(16) for r in range(1, 8)), 14 << (16 + 19)])
CODES = np.array([0, *(E << 3 | r for E in range(16) for r in range(1, 8))])
FAULTS: dict[str, str] = {
    "ties away": "rounds nearest-away",
    "ties toward zero": "ties toward zero",
    "truncates": "rounds toward-zero",
    "jams": "rounds to-odd",
    "rounds up": "rounds up",
    "rounds down": "rounds down",
    "overflow is NaN": "overflow gives NaN",
    "overflow wraps": "overflow wraps",
    "aliases": "aliases not canonical",
    "residual inverted": "sign of residual of a and b",
    "residual of a inverted": "sign of residual of a",
    "residual inverted on output": "sign of residual in the result",
    "bias one less": "exponent one too large",
    "bias one more": "exponent one too small",
    "residual off by one": "residual one too large in the result",
    "sign on zero": "sign kept on zero",
    "NaN of a is a number": "NaN read as a number of a",
    "NaN of b is zero": "NaN read as zero of b",
    "lowest octave flushed": "subnormals flushed of a and b",
    "lowest octave of the result flushed": "subnormal results flushed",
    "sticky lost": "truncated to 6 bits",
    "sign of b": "sign of b",
    "top bit stuck": "bit 6 of the result stuck at 0",
    "late": "late by 1",
}
"""Each fault, and the name of the hypothesis that must be proved."""


def multiply(a: Codes, b: Codes, fault: str | None = None) -> Codes:
    """Multiply RF8 codes, rounding to nearest even and saturating, with a fault or without."""
    assert fault is None or fault in FAULTS
    x, y = a.astype(np.int64), b.astype(np.int64)
    fields = [[operand >> 3 & 15, operand & 7] for operand in (x, y)]
    nan = (x == 0x80) | (y == 0x80)
    zero = [operand == 0 for operand in (x, y)]
    if fault == "NaN of a is a number":
        nan = y == 0x80
    if fault == "NaN of b is zero":
        nan, zero[1] = x == 0x80, zero[1] | (y == 0x80)
    if fault == "lowest octave flushed":
        zero = [zero[0] | ((fields[0][0] == 0) & (x != 0x80)), zero[1] | ((fields[1][0] == 0) & (y != 0x80))]
    (ea, ra), (eb, rb) = fields
    significands = [SIGNIFICAND[ra], SIGNIFICAND[rb]]
    if fault in ("residual inverted", "residual of a inverted"):
        significands[0] = 32 - significands[0]
    if fault == "residual inverted":
        significands[1] = 32 - significands[1]
    product = significands[0] * significands[1] << (ea + eb)
    product = np.where(zero[0] | zero[1], 0, product)
    if fault == "bias one less":
        product <<= 1
    twice = 2 * product
    if fault == "bias one more":
        twice = product
    if fault == "sticky lost":
        # Six bits of the normalized product reach the rounder, and nothing tells it what lay below.
        length = np.frexp(np.maximum(product, 1).astype(float))[1]
        drop = np.maximum(length - 6, 0)
        twice = 2 * (product >> drop << drop)
    sign = (x ^ y) >> 7
    if fault == "sign of b":
        sign = y >> 7
    rank = _round(twice, sign, fault)
    over = rank == 113
    code = CODES[np.minimum(rank, 112)]
    if fault == "overflow wraps":
        code = np.where(over, _unbounded(product) & 0x7F, code)
    if fault == "aliases":
        code = np.where((code & 7 == 7) & (code < 0x78), (code >> 3) + 1 << 3, code)
    if fault == "residual inverted on output":
        code = np.where(code == 0, 0, (code & ~7) | (6 - (code & 7) & 7))
    if fault == "residual off by one":
        code = np.where((code != 0) & (code & 7 < 7), code + 1, code)
    if fault == "lowest octave of the result flushed":
        rank = np.where(code < 8, 0, rank)
        code = np.where(code < 8, 0, code)
    signed = code | sign << 7
    if fault != "sign on zero":
        signed = np.where(rank == 0, 0, signed)
    if fault == "overflow is NaN":
        signed = np.where(over, 0x80, signed)
    signed = np.where(nan, 0x80, signed)
    if fault == "top bit stuck":
        signed &= ~0x40
    if fault == "late":
        signed = np.concatenate([[0], signed[:-1]])
    return signed.astype(np.uint8)


def _round(twice: NDArray[np.int64], sign: NDArray[np.int64], fault: str | None) -> NDArray[np.int64]:
    """Return ranks, 113 for what is beyond the largest value; magnitudes come doubled."""
    below = np.searchsorted(2 * RANKED, twice, side="right") - 1
    exact = 2 * RANKED[np.minimum(below, 113)] == twice
    below = np.minimum(below, 113)
    middles = RANKED[:-1] + RANKED[1:]
    middle = middles[np.minimum(below, 112)]
    upper = {
        "truncates": np.zeros(twice.shape, bool), "rounds up": sign == 0, "rounds down": sign == 1,
        "jams": below % 2 == 0,
    }.get(fault or "")  # fmt: skip
    if upper is None:
        at_tie = {"ties away": True, "ties toward zero": False}.get(fault or "", below % 2 == 1)
        upper = (twice > middle) | ((twice == middle) & at_tie)
    return np.minimum(below + (upper & ~exact & (below < 113)), 113)


def _unbounded(product: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the code of a product beyond the largest value as if the exponent field had a fifth bit."""
    # Halved four times and doubled: a product of two values of the top octaves has these bits to spare.
    octaves_lower = 2 * product >> 4
    return CODES[np.minimum(_round(octaves_lower, np.zeros_like(product), None), 112)] + (4 << 3)

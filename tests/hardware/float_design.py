"""A multiplier and an adder of IEEE floats of 16 bits as a designer writes them, with faults to switch on.

They share no code with the library: integers, fields and shifts. Results round to nearest even; overflow is infinite.
"""

import numpy as np

MULTIPLIER_FAULTS = {
    "ties away": "rounds nearest-away",
    "truncates": "rounds toward-zero",
    "no sticky bit": "truncated to 13 bits",
    "flushes operands": "subnormals flushed of a and b",
    "flushes results": "subnormal results flushed",
    "saturates": "overflow gives the largest value and an infinity stays",
    "operand bit stuck": "bit 9 of b stuck at 0",
    "result bit stuck": "bit 11 of the result stuck at 1",
}
ADDER_FAULTS = {
    "ties away": "rounds nearest-away",
    "no sticky bit": "smaller operand aligned to 11 bits",
    "flushes operands": "subnormals flushed of a and b",
    "subtracts": "computes a - b",
}
UNKNOWN_FAULTS = ("lost carry",)
"""Faults that no hypothesis has."""


def fields(x, mantissa, fault=""):
    """Sign, significand and exponent of its last place of finite numbers."""
    x = x.astype(np.int64)
    field, fraction = x >> mantissa & ((1 << (15 - mantissa)) - 1), x & ((1 << mantissa) - 1)
    significand = np.where(field > 0, fraction | 1 << mantissa, 0 if fault == "flushes operands" else fraction)
    return x >> 15, significand, np.maximum(field, 1)


def rounded(sign, significand, exponent, mantissa, fault):
    """The code of significand * 2**exponent, in units of the smallest number."""
    length = np.frexp(significand.astype(np.float64))[1].astype(np.int64)
    if fault == "no sticky bit":
        drop = np.maximum(length - mantissa - 3, 0)
        significand = significand >> drop << drop
    unit = np.where(significand > 0, np.maximum(exponent + length - mantissa - 1, 0), 0)
    down, up = np.clip(unit - exponent, 0, 62), np.maximum(exponent - unit, 0)
    kept, rest, half = significand >> down << up, significand & ((1 << down) - 1), 1 << down >> 1
    above = (rest > half) | ((rest == half) & (down > 0) & ((kept & 1 == 1) | (fault == "ties away")))
    carry = above & (fault != "truncates")
    if fault == "lost carry":
        carry &= kept + 1 < 2 << mantissa
    code = (unit << mantissa) + kept + carry
    infinity = ((1 << (15 - mantissa)) - 1) << mantissa
    largest = infinity - 1 if fault in ("saturates", "truncates") else infinity
    code = np.where(code >= infinity, largest, code)
    if fault == "flushes results":
        code = np.where(code < 1 << mantissa, 0, code)
    return sign << 15 | code


def multiply(a, b, mantissa, nan, fault=""):
    if fault == "operand bit stuck":
        b = b & ~np.uint16(1 << 9)
    infinity = ((1 << (15 - mantissa)) - 1) << mantissa
    bias = (1 << (14 - mantissa)) - 1
    (sa, x, ea), (sb, y, eb) = (fields(operand, mantissa, fault) for operand in (a, b))
    sign = sa ^ sb
    # In units of the smallest number: 2**(1 - bias - mantissa).
    code = rounded(sign, x * y, ea + eb - 1 - bias - mantissa, mantissa, fault)
    ia, ib = (operand & 0x7FFF == infinity for operand in (a, b))
    na, nb = (operand & 0x7FFF > infinity for operand in (a, b))
    code = np.where(ia | ib, sign << 15 | infinity, code)
    code = np.where(na | nb | (ia & (y == 0)) | (ib & (x == 0)), nan, code)
    if fault == "result bit stuck":
        code = code | 1 << 11
    return code.astype(np.uint16)


def add(a, b, mantissa, nan, fault=""):
    if fault == "subtracts":
        b = b ^ np.uint16(1 << 15)
    infinity = ((1 << (15 - mantissa)) - 1) << mantissa
    swap = a & 0x7FFF < b & 0x7FFF
    large, small = np.where(swap, b, a), np.where(swap, a, b)
    (sa, x, ea), (sb, y, eb) = (fields(operand, mantissa, fault) for operand in (large, small))
    apart = np.minimum(ea - eb, mantissa + 8)
    x, y = x << 3, y << 3
    lost = (y & ((1 << apart) - 1) != 0) & (fault != "no sticky bit")
    total = np.where(sa == sb, x + (y >> apart | lost), x - (y >> apart | lost))
    sign = np.where(total == 0, sa & sb, sa)
    code = rounded(sign, total, ea - 1 - 3, mantissa, "" if fault == "no sticky bit" else fault)
    ia, ib = (operand & 0x7FFF == infinity for operand in (large, small))
    code = np.where(ia, sa << 15 | infinity, code)
    na = (large & 0x7FFF > infinity) | (small & 0x7FFF > infinity)
    return np.where(na | (ia & ib & (sa != sb)), nan, code).astype(np.uint16)

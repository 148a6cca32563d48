"""Units of 8-bit operands and a 32-bit or 16-bit result as a hardware engineer writes them, with faults.

They know fields, Python integers and shifts: a term is a signed integer times a power of two. E4M3 in, float32 added.
"""

import numpy as np

NAN = 0x7FC00000


def e4m3(code):
    """The sign, significand and exponent of the last place of a code; None for NaN."""
    if code & 127 == 127:
        return None
    field, fraction = code >> 3 & 15, code & 7
    significand = fraction | 8 if field else fraction
    return (-significand if code & 128 else significand), max(field, 1) - 10


def binary32(pattern, flush=False):
    """The same of float32; the exponent is None for an infinity, and all is None for NaN."""
    field, fraction = pattern >> 23 & 255, pattern & 0x7FFFFF
    if field == 255:
        return None if fraction else ((-1 if pattern >> 31 else 1), None)
    significand = fraction | 1 << 23 if field else (0 if flush else fraction)
    return (-significand if pattern >> 31 else significand), max(field, 1) - 150


def pack(value, place, mantissa=23, fault=""):
    """Round ``value * 2**place`` to a float of 8 exponent bits."""
    if value == 0:
        return 0
    sign, magnitude = value < 0, abs(value)
    bits = mantissa + 1
    if fault == "rounded to bfloat16 first":
        return pack(value, place, 7) << 16
    drop = max(magnitude.bit_length() - bits, -126 - mantissa - place)
    if drop > 0:
        kept, rest, half = magnitude >> drop, magnitude & ((1 << drop) - 1), 1 << (drop - 1)
        if fault == "sticky lost":  # the bit after the last one is all the rounder sees
            rest &= half
        up = rest > half or (rest == half and kept & 1)
        if fault == "truncates":
            up = False
        if fault == "away":
            up = rest >= half
        if fault == "carry of rounding lost" and kept + up == 1 << bits:
            kept, up = 1 << mantissa, False
        kept += up
    else:
        kept = magnitude << -drop
    place += drop
    if kept == 1 << bits:
        kept, place = kept >> 1, place + 1
    field = place + 127 + mantissa if kept >> mantissa else 0
    if fault == "subnormal results flushed" and not field:
        kept = 0
    if field >= 255:
        field, kept = 255, 0
    return sign << (8 + mantissa) | (field << mantissa) + (kept & ((1 << mantissa) - 1))


def added(terms, anchor=None, fraction=None, wrap=None):
    """Add terms; with ``fraction``, what lies so many bits below the exponent ``anchor`` is shifted out."""
    terms = [(value, place) for value, place in terms if value]
    if not terms:
        return 0, 0
    lowest = min(place for _, place in terms)
    if fraction is not None:
        lowest = anchor - fraction
    total = 0
    for value, place in terms:
        shift = place - lowest
        part = abs(value) << shift if shift >= 0 else abs(value) >> -shift
        total += -part if value < 0 else part
    if wrap is not None:
        top = 1 << (anchor + wrap - lowest)
        total = -(-total % top) if total < 0 else total % top
    return total, lowest


def top(term):
    """The exponent of the first bit of a product or a number."""
    value, place = term
    return abs(value).bit_length() - 1 + place if value else -(10**4)


def product_top(x, y):
    """The sum of the exponents of two factors."""
    return top(x) + top(y) if x[0] and y[0] else -(10**4)


def fma(fault="", mantissa=23):
    """``a * b + c`` of E4M3 codes and a float32 (or bfloat16) c."""
    up = 23 - mantissa

    def one(a, b, c):
        x, y = e4m3(a), e4m3(b)
        if fault == "c subtracted":
            c ^= 1 << (31 - up)
        if fault == "c left out":
            c = (a ^ b) >> 7 << (31 - up)
        z = binary32(c << up, fault == "c flushed")
        if x is None or y is None or z is None:
            return NAN >> up
        product = (x[0] * y[0], x[1] + y[1])
        if z[1] is None:
            return (255 << 23 | (z[0] < 0) << 31) >> up
        negative = [value < 0 or (value == 0 and minus) for value, minus in (
            (product[0], (a ^ b) >> 7), (z[0], c >> (31 - up)))]  # fmt: skip
        anchor = fraction = wrap = None
        exponents = product_top(x, y), top(z)
        if fault == "shifted out":
            anchor, fraction = max(exponents), 24
        if fault == "aligned to the product":
            anchor, fraction = exponents[0], 16
        if fault == "carry lost":
            anchor, wrap = max(exponents), 1
        if fault in ("aligned to the product", "carry lost") and not product[0]:
            anchor = fraction = wrap = None
        total, place = added([product, z], anchor, fraction, wrap)
        if not total and not (product[0] or z[0]):
            return all(negative) << (31 - up)
        return pack(total, place, mantissa, fault)

    return lambda a, b, c: np.array([one(*row) for row in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)])


def dot(fault="", fraction=None, block=None, bits=None):
    """A sum of products in float32; with ``fraction``, of an engine that cuts terms below the largest exponent."""

    def one(row_a, row_b, c):
        pairs = [(e4m3(a), e4m3(b)) for a, b in zip(row_a, row_b, strict=True)]
        if any(x is None or y is None for x, y in pairs):
            return NAN
        addend = (0, 0) if c is None else binary32(c)
        if addend is None:
            return NAN
        if addend[1] is None:
            return 255 << 23 | (addend[0] < 0) << 31
        terms = [(x[0] * y[0], x[1] + y[1]) for x, y in pairs]
        if fault == "c first":
            running = addend
            for term in terms:
                running = binary32(pack(*added([running, term])))
            return pack(*running)
        if fault == "c last":
            running = binary32(pack(*added(terms)))
            return pack(*added([running, addend]))
        if fraction is None:
            return pack(*added([*terms, addend]), fault=fault)
        running, size = (0, 0), block or len(terms)
        for start in range(0, len(terms), size):
            part = slice(start, start + size)
            fields = [max(x[1] + 3, -6) + max(y[1] + 3, -6) if x[0] and y[0] else -(10**4) for x, y in pairs[part]]
            anchor = max(*fields, top(running))
            if fault == "normalized":
                anchor = max(*map(top, terms[part]), top(running))
            if fault == "first":
                anchor = fields[0] if fields[0] > -(10**4) else -1000
            if fault == "products":
                anchor = max(fields) if max(fields) > -(10**4) else -1000
            if anchor == -(10**4):
                continue
            total, place = added([*terms[part], running], anchor, fraction, bits)
            pattern = pack(total, place, fault="truncates")
            running = binary32(pattern) if pattern & 0x7FFFFFFF else (0, 0)
        return pack(*running)

    def design(a, b, c=None):
        rows = zip(a.tolist(), b.tolist(), [None] * len(a) if c is None else c.tolist(), strict=True)
        return np.array([one(*row) for row in rows])

    return design

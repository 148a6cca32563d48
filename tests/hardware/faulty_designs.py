"""Designs with faults, for a campaign: a table from a name to the operation, the design and what its diagnosis must be.

Designs are written with fields, integers, fractions of float64 and tables of values: they share no code with the
hypotheses. Small formats (E4M3, RF8 and INT8) keep float64 exact throughout.
"""

from typing import Any, NamedTuple

import float_design
import numpy as np
import rf8_design

from rf8sim import Rounding
from rf8sim.formats import get_format


class Seeded(NamedTuple):
    """A fault: the vectors, the design's answers, and what must be said of it.

    ``expected`` is the name of a proved cause; ``@`` and a piece of the condition of an exact place; or ``?``.
    """

    operation: str
    fmt: Any
    options: dict
    design: Any
    expected: str


# --- a rounder of E4M3 and of any small table, written over ----------------------------------------------------------


def side_of(fmt):
    """Ascending magnitudes of the nonnegative values, and their codes."""
    values = get_format(fmt).values
    codes = np.flatnonzero(np.isfinite(values) & (values >= 0) & ~np.signbit(values))
    order = codes[np.argsort(values[codes], kind="stable")]
    _, first = np.unique(values[order], return_index=True)
    codes = np.array([get_format(fmt).canonical[code] for code in order[first]])
    return values[codes], codes


def rounded(fmt, x, fault="", nan=None):
    """Codes of numbers, to nearest even and saturating; ``fault`` is one of the rounder's."""
    table, codes = side_of(fmt)
    form = get_format(fmt)
    magnitude = np.abs(np.nan_to_num(x, posinf=np.inf, neginf=-np.inf))
    low = np.searchsorted(table, magnitude, side="right") - 1
    high = np.minimum(low + 1, table.size - 1)
    middle = (table[low] + table[high]) / 2
    if fault == "quarter":
        middle = table[low] + (table[high] - table[low]) / 4
    if fault == "geometric":
        middle = np.where(low > 0, np.sqrt(table[low] * table[high]), middle)
    even = codes[low] % 2 == 0 if form.depth is None else low % 2 == 0
    up = (magnitude > middle) | ((magnitude == middle) & ~even)
    if fault == "away":
        up = magnitude > table[low]
    if fault == "half up":
        up = (magnitude > middle) | ((magnitude == middle) & (x > 0))
    if fault == "odd":
        up = ~even
    if fault == "truncate negatives":
        up &= x > 0
    if fault == "no rounding of subnormals":
        up &= magnitude >= (form.subnormals_below or 0)
    rank = np.where((low == high) | ~up | (magnitude == table[low]), low, high)
    if fault == "carry lost":
        rank = np.where(up & (codes[high] % 8 == 0) & (rank == high) & (magnitude >= (form.subnormals_below or 0))
                        & (low != high), low, rank)  # fmt: skip
    if fault == "no zero":
        rank = np.where((rank == 0) & (magnitude > 0), 1, rank)
    code = codes[rank]
    sign = 1 << (form.bits - 1)
    minus = np.signbit(x) & ((rank > 0) | (form.negative_zero is not None))
    if fault == "sign on zero":
        minus = np.signbit(x)
    code = np.where(minus, code | sign, code)
    if fault == "overflow NaN":
        beyond = table[-1] + (table[-1] - table[-2]) / 2
        code = np.where(magnitude >= beyond if form.depth is None else magnitude > beyond, form.nan, code)
    return np.where(np.isnan(x), form.nan if nan is None else nan, code)


def value(fmt, codes):
    return get_format(fmt).values[codes]


def product(fmt, fault="", change=None, **options):
    """A multiplier: ``change`` is put on operands' values."""

    def design(a, b):
        x, y = value(fmt, a), value(fmt, b)
        with np.errstate(all="ignore"):
            return rounded(fmt, x * y if change is None else change(x, y, a, b), fault, **options)

    return design


def total(fmt, fault="", change=None):
    def design(a, b):
        x, y = value(fmt, a), value(fmt, b)
        return rounded(fmt, x + y if change is None else change(x, y, a, b), fault)

    return design


def after(design, change):
    """A design whose answers are changed; ``change`` takes them and the operands."""
    return lambda *operands: change(design(*operands), *operands)


def mended(right, faulty, where):
    """A design that is faulty where a condition on its operands holds."""
    return lambda *operands: np.where(where(*operands), faulty(*operands), right(*operands))


E4M3 = "e4m3fn"
MULTIPLY, ADD = product(E4M3), total(E4M3)


def swapped(code, i, j):
    code = code.astype(int)
    changed = code & ~(1 << i | 1 << j)
    return changed | (code >> i & 1) << j | (code >> j & 1) << i


def turned(code):
    return sum((code >> bit & 1) << (7 - bit) for bit in range(8))


def field(a):
    return a >> 3 & 15


def fma(change=None, fault=""):
    def design(a, b, c):
        x, y, z = (value("rf8", codes) for codes in (a, b, c))
        with np.errstate(all="ignore"):
            return rounded("rf8", x * y + z if change is None else change(x, y, z), fault)

    return design


def dot(change=None, fault=""):
    def design(a, b):
        x, y = value("rf8", a), value("rf8", b)
        return rounded("rf8", (x * y).sum(axis=1) if change is None else change(x, y), fault)

    return design


def integers(bits, change=None):
    """A dot product of INT8 in an accumulator of some bits."""

    def design(a, b):
        x, y = a.astype(np.int8).astype(np.int64), b.astype(np.int8).astype(np.int64)
        return ((x * y).sum(axis=1) if change is None else change(x, y)) & ((1 << bits) - 1)

    return design


def encoder(change=None, fault="", fmt="rf8"):
    def design(x):
        numbers = x.view(np.float32).astype(np.float64)
        return rounded(fmt, numbers if change is None else change(numbers), fault)

    return design


def accumulator(fault="", change=None, clears_if=None):
    """A register, a clear, and products of RF8; ``change`` is put on values and codes."""

    def design(clear, a, b):
        x, y = value("rf8", a), value("rf8", b)
        products = x * y if change is None else change(x, y, a, b)
        register, last, results = 0.0, 0.0, []
        before = 0
        clears = (clear if clears_if is None else clear & clears_if(a, b)).tolist()
        for place, (clears_now, term) in enumerate(zip(clears, products.tolist(), strict=True)):
            now = {
                "late": before, "early": clears[place + 1] if place + 1 < len(clears) else 0, "never": 0,
            }.get(fault, clears_now)  # fmt: skip
            before = clears_now
            if now and not (fault == "keeps NaN" and register != register):
                register = 0.0
            if fault == "forgets NaN" and register != register:
                register = last
            last = register
            register += 0.0 if fault == "loses" and clears_now and term == term else term
            if fault == "narrow":
                register = float(np.float16(register))
            if fault == "truncates products":
                register = np.trunc(register * 2.0**20) / 2.0**20
            results.append(register)
        return rounded("rf8", np.array(results))

    return design


def nearest_float16(x):
    return x.astype(np.float16).astype(np.float64)


def sequential(x, y):
    register = np.zeros(len(x))
    for lane in range(x.shape[1]):
        register = nearest_float16(register + x[:, lane] * y[:, lane])
    return register


def in_bfloat16(x, y):
    """Products added in turn, each sum rounded to eight bits of significand."""
    register = np.zeros(len(x))
    for lane in range(x.shape[1]):
        fraction, exponent = np.frexp(register + x[:, lane] * y[:, lane])
        register = np.ldexp(np.rint(fraction * 256), exponent - 8)
    return register


def in_float32(x, y):
    register = np.zeros(len(x), np.float32)
    for lane in range(x.shape[1]):
        register = (register + (x[:, lane] * y[:, lane]).astype(np.float32)).astype(np.float32)
    return register.astype(np.float64)


def saturating(x, y):
    """A sum of 16 bits that stays at its bound."""
    return np.clip((x * y).sum(axis=1), -(1 << 15), (1 << 15) - 1)


def saturating_each(x, y):
    register = np.zeros(len(x), np.int64)
    for lane in range(x.shape[1]):
        register = np.clip(register + x[:, lane] * y[:, lane], -(1 << 15), (1 << 15) - 1)
    return register


def drawn(change):
    """A multiplier of RF8 that adds a random word of 8 bits, which is changed, to the fraction between neighbours."""

    def design(a, b, word):
        x = np.nan_to_num(value("rf8", a) * value("rf8", b), nan=0.0)
        table, codes = side_of("rf8")
        magnitude = np.minimum(np.abs(x), table[-1])
        low = np.searchsorted(table, magnitude, side="right") - 1
        high = np.minimum(low + 1, table.size - 1)
        share = np.floor(256 * (magnitude - table[low]) / np.where(low == high, 1, table[high] - table[low]))
        code = codes[np.where((share + change(word.astype(int)) >= 256) & (magnitude > 0), high, low)]
        code = np.where(np.signbit(x) & (code > 0), code | 128, code)
        return np.where(np.isnan(value("rf8", a) * value("rf8", b)), get_format("rf8").nan, code)

    return design


def lane_off(lane):
    def change(x, y):
        products = x * y
        products[:, lane] = 0
        return products.sum(axis=1)

    return change


IEEE = {"rounding": "ieee"}
DECODE = {"result": "fixed:3.19"}
DOT8 = {"result": "fixed:20.0", "n": 2000}


def decoded(change):
    """A decoder of RF8 into 22 bits of fixed point; ``change`` takes integers and codes."""

    def design(a):
        integer = np.nan_to_num(value("rf8", a) * 2.0**19).astype(np.int64)
        return change(integer, a) & ((1 << 22) - 1)

    return design


def converted(change=None, fault=""):
    """A converter from E5M2 to E4M3."""

    def design(a):
        x = value("e5m2", a)
        return rounded(E4M3, x if change is None else change(x, a), fault)

    return design


TO_E4M3 = {"result": E4M3}
SEEDED: dict[str, Seeded] = {
    f"rf8 multiplier: {fault}": Seeded(
        "multiply", "rf8", {}, lambda a, b, fault=fault: rf8_design.multiply(a, b, fault), name
    )
    for fault, name in rf8_design.FAULTS.items()
}
for _operation, _fmt, _mantissa, _faults, _design in (
    ("multiply", "float16", 10, float_design.MULTIPLIER_FAULTS, float_design.multiply),
    ("add", "bfloat16", 7, float_design.ADDER_FAULTS, float_design.add),
):
    for _fault, _name in (*_faults.items(), ("lost carry", "@rounding carries into the next octave")):
        SEEDED[f"{_fmt} {_operation}: {_fault}"] = Seeded(
            _operation, _fmt, IEEE,
            lambda a, b, m=_mantissa, d=_design, f=_fault, n=_fmt: d(a, b, m, get_format(n).nan, f), _name,
        )  # fmt: skip


def _add(unit, operation, fmt, options, faults):
    for name, (design, expected) in faults.items():
        SEEDED[f"{unit}: {name}"] = Seeded(operation, fmt, options, design, expected)


_add("e4m3 multiplier", "multiply", E4M3, {}, {
    "away from zero": (product(E4M3, "away"), "rounds away from zero"),
    "half up": (product(E4M3, "half up"), "ties up"),
    "geometric mean": (product(E4M3, "geometric"), "boundary at the geometric mean"),
    "boundary at a quarter": (product(E4M3, "quarter"), "boundary at 1/4, even there"),
    "jams": (product(E4M3, "odd"), "@the result is inexact"),
    "truncates negative results": (product(E4M3, "truncate negatives"), "rounds toward-zero"),
    "carry lost": (product(E4M3, "carry lost"), "@rounding carries into the next octave"),
    "never zero": (product(E4M3, "no zero"), "never rounds to zero"),
    "subnormals truncated": (product(E4M3, "no rounding of subnormals"), "rounds toward-zero"),
    "overflow is NaN": (product(E4M3, "overflow NaN"), "overflow gives NaN"),
    "or of signs": (product(E4M3, change=lambda x, y, a, b: np.copysign(np.abs(x * y), np.where(
        np.signbit(x) | np.signbit(y), -1, 1))), "signs or"),
    "sign of a": (product(E4M3, change=lambda x, y, a, b: np.copysign(x * y, x)), "sign of a"),
    "another NaN": (product(E4M3, nan=0xFF), "NaN answered as FF"),
    "adds": (product(E4M3, change=lambda x, y, a, b: x + y), "computes a + b"),
    "exponent field 7 of a": (mended(MULTIPLY, product(E4M3, change=lambda x, y, a, b: 2 * x * y),
                                     lambda a, b: field(a) == 7), "exponent one too large"),
    "exponent field 3 of b": (mended(MULTIPLY, product(E4M3, change=lambda x, y, a, b: x * y / 2),
                                     lambda a, b: field(b) == 3), "exponent one too small"),
    "either exponent field 9": (mended(MULTIPLY, product(E4M3, change=lambda x, y, a, b: 2 * x * y),
                                       lambda a, b: (field(a) == 9) | (field(b) == 9)), "exponent one too large"),
    "bits 2 and 5 swapped": (after(MULTIPLY, lambda code, a, b: swapped(code, 2, 5)),
                             "bits 2 and 5 of the result swapped"),
    "bits reversed": (after(MULTIPLY, lambda code, a, b: turned(code)), "bits reversed"),
    "bit 3 inverted": (after(MULTIPLY, lambda code, a, b: code ^ 8), "inverted bit 3 of the result"),
    "bit 0 stuck at 1": (after(MULTIPLY, lambda code, a, b: code | 1), "bit 0 of the result stuck at 1"),
    "constant": (after(MULTIPLY, lambda code, a, b: code * 0 + 0x38), "constant"),
    "echo": (lambda a, b: b, "echo of b"),
    "one code": (after(MULTIPLY, lambda code, a, b: np.where(code == 0x3A, 0x3B, code)), "code 3A answered as 3B"),
    "one operand": (lambda a, b: MULTIPLY(np.where(a == 0x5C, 0x5D, a), b), "5C of a read as 5D"),
    "one product": (after(MULTIPLY, lambda code, a, b: code ^ ((a == 0x41) & (b == 0x2B))), "@a is 41 and b is 2B"),
    "early": (after(MULTIPLY, lambda code, a, b: np.append(code[1:], 0)), "early by 1"),
    "late by 9": (after(MULTIPLY, lambda code, a, b: np.append(np.zeros(9, int), code[:-9])), "late by 9"),
    "noise": (after(MULTIPLY, lambda code, a, b: code ^ (np.random.default_rng(7).random(code.size) < 0.02)), "?"),
    "hash of operands": (after(MULTIPLY, lambda code, a, b: code ^ (
        (a.astype(int) * 40503 + b.astype(int) * 30011 >> 7 & 31) == 5)), "?"),
    "two faults": (mended(product(E4M3, "overflow NaN"), product(E4M3, "half up"), lambda a, b: a < 128), "?"),
})  # fmt: skip
_add("e4m3 adder", "add", E4M3, {}, {
    "subtracts": (total(E4M3, change=lambda x, y, a, b: x - y), "computes a - b"),
    "away from zero": (total(E4M3, "away"), "rounds away from zero"),
    "flushes operands": (total(E4M3, change=lambda x, y, a, b: np.add(*(
        np.where(np.abs(z) < 2.0**-6, z * 0, z) for z in (x, y)))), "subnormals flushed of a and b"),
    "wrong where signs differ": (mended(ADD, total(E4M3, "away"), lambda a, b: (a ^ b) >= 128),
                                 "rounds away from zero"),
    "carry lost": (total(E4M3, "carry lost"), "@rounding carries into the next octave"),
    "smaller dropped at distance 4": (total(E4M3, change=lambda x, y, a, b: np.where(
        np.maximum(field(a), 1).astype(int) - np.maximum(field(b), 1) == 4, x, x + y)),
        "smaller operand aligned to 4 bits"),
})  # fmt: skip
_add("int8 adder", "add", "int8", {}, {
    "wraps": (lambda a, b: a + b, "overflow wraps"),
    "saturates at -127": (lambda a, b: np.clip(a.astype(np.int8).astype(int) + b.astype(np.int8), -127, 127) & 255,
                          "saturates symmetrically"),
})  # fmt: skip
_add("rf8 fma", "fma", "rf8", {"n": 2000}, {
    "product rounded": (fma(lambda x, y, z: value("rf8", rounded("rf8", x * y)) + z), "product rounded first"),
    "c subtracted": (fma(lambda x, y, z: x * y - z), "c subtracted"),
    "product subtracted": (fma(lambda x, y, z: z - x * y), "product subtracted"),
    "c ignored": (fma(lambda x, y, z: x * y + 0 * z), "c ignored"),
    "truncates negatives": (fma(fault="truncate negatives"), "rounds toward-zero"),
    "overflow is NaN": (fma(fault="overflow NaN"), "overflow gives NaN"),
    "sign on zero": (fma(fault="sign on zero"), "sign kept on zero"),
})  # fmt: skip
_add("e5m2 to e4m3 converter", "decode", "e5m2", TO_E4M3, {
    "away from zero": (converted(fault="away"), "rounds away from zero"),
    "one exponent": (converted(lambda x, a: np.where(a >> 2 & 31 == 12, 2 * x, x)), "exponent one too large"),
    "infinity is NaN": (converted(lambda x, a: np.where(np.isinf(x), np.nan, x)), "@a is infinite"),
    "one code": (after(converted(), lambda code, a: np.where(a == 0x3D, 0x40, code)), "3D of a read as 40"),
})  # fmt: skip
_add("rf8 decoder", "decode", "rf8", DECODE, {
    "exponent off by one": (decoded(lambda x, a: x * 2), "exponent one too large"),
    "one code wrong": (decoded(lambda x, a: x + (a == 0x44)), "code 001100 answered as 001101"),
    "one's complement": (decoded(lambda x, a: x - (x < 0)), "@"),
    "one exponent field": (decoded(lambda x, a: np.where(field(a) == 11, x >> 1, x)), "exponent one too small"),
})  # fmt: skip
_add("rf8 encoder", "encode", "rf8", {"n": 500}, {
    "away from zero": (encoder(fault="away"), "rounds away from zero"),
    "half up": (encoder(fault="half up"), "ties up"),
    "sign on zero": (encoder(fault="sign on zero"), "sign kept on zero"),
    "overflow is NaN": (encoder(fault="overflow NaN"), "overflow gives NaN"),
    "exponent off by one": (encoder(lambda x: x / 2), "exponent one too small"),
    "truncates negatives": (encoder(fault="truncate negatives"), "rounds toward-zero"),
})  # fmt: skip
_add("rf8 dot of 4", "dot:4", "rf8", {"n": 2000}, {
    "lane 2 left out": (dot(lane_off(2)), "lane 2 ignored"),
    "lanes of b reversed": (dot(lambda x, y: (x * y[:, ::-1]).sum(axis=1)), "lanes reversed"),
    "sums in float16": (dot(sequential), "partial sums rounded to float16"),
    "sums in bfloat16": (dot(in_bfloat16), "partial sums rounded to bfloat16"),
    "away from zero": (dot(fault="away"), "rounds away from zero"),
})  # fmt: skip
_add("int8 dot of 8", "dot:8", "int8", DOT8, {
    "18 bits": (after(integers(18), lambda x, a, b: (x ^ 1 << 17) - (1 << 17) & 0xFFFFF), "accumulator of 18 bits"),
    "16 bits": (after(integers(16), lambda x, a, b: (x ^ 1 << 15) - (1 << 15) & 0xFFFFF), "accumulator of 16 bits"),
    "one's complement": (integers(20, lambda x, y: (x * y - (x * y < 0)).sum(axis=1)), "one's complement"),
    "lane 5 left out": (integers(20, lane_off(5)), "lane 5 ignored"),
    "unsigned b": (integers(20, lambda x, y: (x * (y & 255)).sum(axis=1)), "?"),
})  # fmt: skip
_add("int8 dot of 8 in 16 bits", "dot:8", "int8", {"result": "fixed:16.0", "n": 2000}, {
    "saturates": (integers(16, saturating), "sum saturates"),
    "saturates each time": (integers(16, saturating_each), "partial sums saturate"),
})  # fmt: skip
_add("e5m2 dot of 16", "dot:16", "e5m2", {"n": 2000}, {
    "sums in float32": (lambda a, b: rounded("e5m2", in_float32(value("e5m2", a), value("e5m2", b))),
                        "partial sums rounded to float32"),
})  # fmt: skip
_add("rf8 multiplier that draws", "multiply", "rf8", {"rounding": Rounding("stochastic", bits=8), "n": 2000}, {
    "word shifted": (drawn(lambda word: word << 1 & 255), "word shifted left"),
    "word reversed": (drawn(turned), "word reversed"),
    "word inverted": (drawn(lambda word: word ^ 255), "word inverted"),
    "carry one too early": (drawn(lambda word: word + 1), "word one too large"),
})  # fmt: skip
_add("rf8 accumulator", "accumulate", "rf8", {"n": 1500}, {
    "clear late": (accumulator("late"), "clear a vector late"),
    "clear early": (accumulator("early"), "clear a vector early"),
    "clear never": (accumulator("never"), "clear ignored"),
    "keeps NaN": (accumulator("keeps NaN"), "clear keeps NaN"),
    "forgets NaN": (accumulator("forgets NaN"), "NaN not sticky"),
    "float16 register": (accumulator("narrow"), "sum rounded to float16 at each step"),
    "products truncated": (accumulator("truncates products"), "?"),
    "exponent field 3 of b": (accumulator(change=lambda x, y, a, b: x * np.where(field(b) == 3, y / 2, y)),
                              "exponent one too small of b"),
    "bit 0 of a where b is negative": (accumulator(
        change=lambda x, y, a, b: np.where(b >= 128, value("rf8", a | 1), x) * y), "bit 0 of a stuck at 1"),
    "clear ignored where a is negative": (accumulator(clears_if=lambda a, b: a < 128), "clear ignored"),
})  # fmt: skip

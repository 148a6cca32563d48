"""What the linear algebra must give: one sum after the other, in Fractions, as its documentation reads.

Nothing is shared with the code under test but the tables of values and the oracle of the formats.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from rf8sim.formats import format_names, get_format
from rf8sim.reference import floor_log2, philox4x32, power_of_two, round_value

FLOATS = {"float32": (24, -126, 127), "float16": (11, -14, 15), "bfloat16": (8, -126, 127), "tf32": (11, -126, 127)}


def float_of(kind: str) -> tuple[int, int, int] | None:
    """Precision and the smallest and largest exponents of a binary floating-point type; None if it is another thing."""
    widths = re.fullmatch(r"e(\d+)m(\d+)", kind)
    if kind in FLOATS or widths is None or kind in format_names():
        return FLOATS.get(kind)
    largest = 2 ** (int(widths[1]) - 1) - 1
    return int(widths[2]) + 1, 1 - largest, largest


def word_of(seed: int, output: int, step: int) -> int:
    """The random word of one rounding."""
    block = output // 4
    counter = (block & 0xFFFFFFFF, block >> 32, step, 0)
    return philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))[output % 4]


def round_float(x: Fraction, kind: str, mode: str, word: int) -> float:
    """Round a nonzero number to a binary floating-point type."""
    floating = float_of(kind)
    assert floating is not None
    precision, smallest, largest = floating
    unit = power_of_two(max(floor_log2(abs(x)), smallest) - precision + 1)
    count, rest = divmod(abs(x), unit)
    rest /= unit
    up = {
        "nearest-even": rest > Fraction(1, 2) or (rest == Fraction(1, 2) and count % 2 == 1),
        "nearest-away": rest >= Fraction(1, 2),
        "toward-zero": False,
        "up": rest > 0 and x > 0,
        "down": rest > 0 and x < 0,
        "to-odd": rest > 0 and count % 2 == 0,
        "stochastic": math.floor(rest * 2**24) + word % 2**24 >= 2**24,
    }[mode]
    magnitude = (count + up) * unit
    sign = -1.0 if x < 0 else 1.0
    if magnitude >= power_of_two(largest + 1):
        finite = mode == "toward-zero" or mode == ("up" if x < 0 else "down")
        biggest = float(power_of_two(largest + 1) - power_of_two(largest - precision + 1))
        return sign * (biggest if finite else math.inf)
    return sign * float(magnitude)


def settle(
    terms: list[float | Fraction], accumulator: str, mode: str, overflow: str, unit: Fraction, word: int
) -> float:
    """Sum exactly and round into the accumulator once."""
    special = [x for x in terms if isinstance(x, float) and not math.isfinite(x)]
    if special:
        value: float | Fraction = sum(special)
    else:
        value = sum((Fraction(x) for x in terms), Fraction(0))
        if value == 0:
            minus = all(x == 0 and isinstance(x, float) and math.copysign(1.0, x) < 0 for x in terms)
            value = -0.0 if minus else 0.0
    if isinstance(value, float) and math.isnan(value):
        return value
    if accumulator.startswith("int:"):
        if isinstance(value, float) and math.isinf(value):
            return value
        _, width, *option = accumulator.split(":")
        n, count = int(width), Fraction(value) / unit
        assert count.denominator == 1
        integer = int(count)
        if option:
            integer = (integer + 2 ** (n - 1)) % 2**n - 2 ** (n - 1)
        return float(max(-(2 ** (n - 1)), min(2 ** (n - 1) - 1, integer)) * unit)
    if float_of(accumulator) is not None:
        return round_float(value, accumulator, mode, word) if isinstance(value, Fraction) else value
    code = round_value(value, accumulator, mode, overflow, word, 24)
    return float(get_format(accumulator).values[code])


def unit_of(values: np.ndarray) -> Fraction:
    """The largest power of two that divides every finite value."""
    denominators = [Fraction(v) for v in values.tolist() if math.isfinite(v) and v]
    unit = power_of_two(200)
    for value in denominators:
        while (value / unit).denominator != 1:
            unit /= 2
    return unit


def dot(
    a: list[float],
    b: list[float],
    accumulator: str,
    order: str = "sequential",
    mode: str = "nearest-even",
    overflow: str = "saturate",
    unit: Fraction = Fraction(1),
    word: Callable[[int], int] = lambda step: 0,
    first: int = 1,
    held: tuple[str, str] | None = None,
) -> float | Fraction:
    """One dot product; `word` gives the random word of a sum's number. ``exact`` gives a Fraction.

    `held` is what products are rounded to, and how.
    """
    products = [x * y for x, y in zip(a, b, strict=True)]  # exact: the values are float32 numbers
    if held is not None:
        products = [settle([x], *held, overflow, Fraction(1), 0) for x in products]
    if accumulator == "exact":
        special = [x for x in products if not math.isfinite(x)]
        return sum(special) if special else sum(map(Fraction, products), Fraction(0))
    step = first - 1

    def rounded(*terms: float | Fraction) -> float:
        nonlocal step
        step += 1
        return settle(list(terms), accumulator, mode, overflow, unit, word(step))

    if order == "pairwise":
        level: list[float] = products
        if not level:
            return 0.0
        while True:
            padded = level + [0.0] * (len(level) % 2)
            level = [rounded(padded[i], padded[i + 1]) for i in range(0, len(padded), 2)]
            if len(level) == 1:
                return level[0]
    block = 1 if order == "sequential" else int(order.partition(":")[2])
    total = 0.0
    for start in range(0, len(products), block):
        total = rounded(total, *products[start : start + block])
    return total


def matmul(
    a: np.ndarray, b: np.ndarray, accumulator: str, order: str = "sequential", mode: str = "nearest-even",
    overflow: str = "saturate", unit: Fraction = Fraction(1), seed: int = 0, first: int = 0,
    held: tuple[str, str] | None = None,
) -> np.ndarray:  # fmt: skip
    """Every output of one matrix product, as float64; ``exact`` rounded to nearest even."""
    out = np.empty((a.shape[0], b.shape[1]))
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            index = first + i * b.shape[1] + j
            row, column = a[i].tolist(), b[:, j].tolist()
            value = dot(
                row, column, accumulator, order, mode, overflow, unit, lambda step, n=index: word_of(seed, n, step),
                held=held,
            )  # fmt: skip
            out[i, j] = float(value)
    return out


def same(got: np.ndarray, expected: np.ndarray, what: str = "") -> None:
    """Fail unless the numbers are the same, signs of zeros and NaN included; name the first that differ."""
    assert got.shape == expected.shape, what
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    nan = np.isnan(got) & np.isnan(expected)
    wrong = ~nan & ((got != expected) | (np.signbit(got) != np.signbit(expected)))
    if wrong.any():
        first = tuple(np.argwhere(wrong)[0].tolist())
        raise AssertionError(
            f"{what}: {int(wrong.sum())} of {wrong.size} differ; at {first} got {got[first]!r}, "
            f"expected {expected[first]!r}"
        )

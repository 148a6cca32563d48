"""The projections of IEEE P3109, written from sections 4.7.3 to 4.7.5 of its interim report, version 4.0."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

import rf8sim
from rf8sim import Rounding, RoundingMode, get_format, reference
from rf8sim.arithmetic.codes import Flags
from rf8sim.codec.rounding import Overflow
from rf8sim.codec.thresholds import step_table
from rf8sim.formats import Format, p3109_format

ROUNDING = {
    "nearest-even": "NearestTiesToEven", "nearest-away": "NearestTiesToAway", "toward-zero": "TowardZero",
    "up": "TowardPositive", "down": "TowardNegative", "to-odd": "ToOdd", "stochastic": "Stochastic",
}  # fmt: skip
SATURATION = {"saturate": "SatFinite", "propagate": "SatPropagate", "ieee": "SatNone"}


def round_to_precision(x: Fraction, precision: int, bias: int, mode: str, draw: tuple[str, int, int]) -> Fraction:
    """RoundToPrecision, of a number that is not zero; `draw` is a variant, N and R."""
    exponent = reference.floor_log2(abs(x))
    q = max(exponent, 1 - bias) - precision + 1
    significand = abs(x) / Fraction(2) ** q
    floor = math.floor(significand)
    rest = significand - floor
    even = floor % 2 == 0 if precision > 1 else floor == 0 or (q + bias) % 2 == 0
    variant, n, r = draw
    away = {
        "TowardZero": False, "TowardPositive": rest > 0 and x > 0, "TowardNegative": rest > 0 and x < 0,
        "NearestTiesToAway": rest >= Fraction(1, 2),
        "NearestTiesToEven": rest > Fraction(1, 2) or (rest == Fraction(1, 2) and not even),
        "ToOdd": rest > 0 and even,
        "Stochastic": {
            "A": math.floor(rest * 2**n) + r >= 2**n,
            "B": math.floor(rest * 2 ** (n + 1)) + 2 * r + 1 >= 2 ** (n + 1),
            "C": round(rest * 2**n) + r >= 2**n,
        }[variant],
    }[mode]  # fmt: skip
    return (1 if x > 0 else -1) * (floor + away) * Fraction(2) ** q


def saturate(sat: str, mode: str, x: Fraction | float, low: Fraction, high: Fraction, kind: str) -> Fraction | float:
    """Saturate: the report's rules in its order; `kind` is se, sf, ue or uf."""
    signed, extended = kind[0] == "s", kind[1] == "e"
    if low <= x <= high:
        return x
    if sat == "SatFinite":
        return low if x < low else high
    if sat == "SatPropagate":
        if x == math.inf and extended:
            return x
        if x == -math.inf and signed and extended:
            return x
        return low if x < low else high
    if x == math.inf:
        return x if extended else high
    if x == -math.inf:
        return x if signed and extended else low if signed else math.nan
    if mode == "ToOdd" and kind == "ue" and x > high:
        return high
    if mode in ("TowardZero", "TowardNegative") and x > high:
        return high
    if mode in ("TowardZero", "TowardPositive") and x < low:
        return low
    if x < low:
        return (-math.inf if extended else low) if signed else math.nan
    return math.inf if extended else high


def precise(
    x: Fraction | float, shape: tuple[int, int, str], mode: str, draw: tuple[str, int, int]
) -> Fraction | float:
    """RoundToPrecision of any number, in a format of these bits, precision and kind."""
    bits, precision, kind = shape
    bias = 2 ** (bits - precision - (kind[0] == "s")) if kind[0] == "u" else 2 ** (bits - precision - 1)
    return x if isinstance(x, float) or not x else round_to_precision(x, precision, bias, ROUNDING[mode], draw)


def project(
    given: list[Fraction | float], fmt: Format, shape: tuple[int, int, str], mode: str,
    draw: tuple[str, int, int] = ("A", 1, 0),
) -> Iterator[tuple[str, list[int]]]:  # fmt: skip
    """The codes of numbers, with each way to saturate."""
    codes: dict[float, int] = {}
    for code, value in enumerate(fmt.values.tolist()):
        codes.setdefault(value, code)
    finite = [value for value in codes if math.isfinite(value)]
    low, high = Fraction(min(finite)), Fraction(max(finite))
    rounded = [precise(x, shape, mode, draw) for x in given]
    for sat, name in SATURATION.items():
        results = [saturate(name, ROUNDING[mode], x, low, high, shape[2]) for x in rounded]
        wanted = [fmt.nan if math.isnan(result) else codes[float(result)] for result in results]
        assert None not in wanted
        yield sat, wanted


def numbers(fmt: Format) -> list[Fraction | float]:
    """Values, eighths of the way between them, what lies beyond and below, and infinities."""
    grid = sorted({Fraction(v) for v in fmt.values.tolist() if math.isfinite(v)})
    step = grid[-1] - grid[-2]
    grid = [*grid, *(grid[-1] + step * j for j in (1, 2, 4, 8))]
    between = [low + (high - low) * j / 8 for low, high in pairwise(grid) for j in range(8)]
    positive = [x for x in between if x >= 0]
    return [*positive, *(-x for x in positive if x), math.inf, -math.inf]


SHAPES = [
    (bits, precision, kind) for bits in (3, 4, 5) for precision in range(1, bits + 1) for kind in
    ("se", "sf", "ue", "uf") if precision <= bits - (kind[0] == "s")
] + [(6, 2, kind) for kind in ("se", "sf", "ue", "uf")] + [(8, 4, "se"), (8, 3, "ue")]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "binary{}p{}{}".format(*shape))
def test_conversions(shape: tuple[int, int, str]) -> None:
    bits, precision, kind = shape
    fmt = p3109_format(precision, bits, signed=kind[0] == "s", extended=kind[1] == "e")
    given = numbers(fmt)
    x = np.array([float(number) for number in given])
    for mode in ROUNDING:
        if mode == "stochastic":
            continue
        for sat, wanted in project(given, fmt, shape, mode):
            got = rf8sim.encode(x, fmt, rounding=Rounding(mode, sat))
            assert got.tolist() == wanted, (mode, sat)
            assert [reference.round_value(number, fmt, mode, sat) for number in given] == wanted, (mode, sat)


@pytest.mark.parametrize("variant", ["A", "B", "C"])
@pytest.mark.parametrize("shape", [(5, 3, "se"), (4, 2, "ue"), (5, 1, "sf"), (5, 2, "uf")])
def test_stochastic_conversions(shape: tuple[int, int, str], variant: str) -> None:
    """Every word of 1 to 4 bits: what is an eighth of the way lies on ties of the words."""
    bits, precision, kind = shape
    fmt = p3109_format(precision, bits, signed=kind[0] == "s", extended=kind[1] == "e")
    given = numbers(fmt)
    for n in (1, 2, 3):
        for r in range(1 << n):
            for sat, wanted in project(given, fmt, shape, "stochastic", (variant, n, r)):
                for dtype in (np.float32, np.float64):
                    x = np.array([float(number) for number in given], dtype)
                    words = np.full(x.size, r + (1 << n) * 5, np.uint32)
                    rounding = Rounding("stochastic", sat, words=words, bits=n, variant=variant)
                    assert rf8sim.encode(x, fmt, rounding=rounding).tolist() == wanted, (sat, n, r)


@pytest.mark.parametrize("variant", ["B", "C"])
@pytest.mark.parametrize("operation", ["add", "multiply", "divide", "sqrt"])
@pytest.mark.parametrize("name", ["binary8p3se", "e4m3fn", "binary10p4se"])
def test_stochastic_operations(name: str, operation: str, variant: str) -> None:
    fmt, rng = get_format(name), np.random.default_rng(4)
    count = 600
    codes = rng.integers(0, fmt.values.size, (2, count)).astype(fmt.code_dtype)
    operands = codes[:1] if operation == "sqrt" else codes
    for n in (1, 2, 5):
        words = rng.integers(0, 1 << 32, count, dtype=np.uint32)
        rounding = Rounding("stochastic", "saturate", words=words, bits=n, variant=variant)
        got = getattr(rf8sim, operation)(*operands, fmt, rounding=rounding)
        for i in range(count):
            x = getattr(reference, operation)(*(reference.number(int(row[i]), fmt) for row in operands))
            if math.isinf(x) and operation == "divide" and not fmt.divides_by_zero and codes[1, i] in (0, 0x80):
                x = math.nan
            wanted = reference.round_value(x, fmt, "stochastic", "saturate", int(words[i]), n, variant)
            assert got[i] == wanted, (i, n)


def test_variants_differ_on_ties_alone() -> None:
    """Half a unit of the word: B goes up, C to the even word, A down."""
    x = np.full(4, 1 + 1 / 32, np.float32)  # an eighth of the way from 1 to 1.25
    codes = {}
    for variant in "ABC":
        rounding = Rounding("stochastic", words=np.arange(4, dtype=np.uint32), bits=2, variant=variant)
        codes[variant] = rf8sim.decode(rf8sim.encode(x, "e5m2", rounding=rounding), "e5m2").tolist()
    assert codes == {"A": [1.0] * 4, "B": [1.0, 1.0, 1.0, 1.25], "C": [1.0] * 4}
    drawn = rf8sim.encode(x, "e5m2", rounding=Rounding("stochastic", seed=3, bits=2, variant="B"))
    words = rf8sim.codec.codec.random_words(3, 4)
    given = rf8sim.encode(x, "e5m2", rounding=Rounding("stochastic", words=words, bits=2, variant="B"))
    assert drawn.tolist() == given.tolist()


FAR_APART = {
    f"2**-{k}": Format(f"apart_{k}", 2, "user", "", np.array([0.0, 2.0**-k * (1 + 2.0**-22), 1.0, np.nan]))
    for k in (40, 60)
}


@pytest.mark.parametrize("fmt", [*FAR_APART.values(), get_format("posit(16,5)"), get_format("takum8")], ids=str)
def test_draws_between_values_that_lie_far_apart(fmt: Format) -> None:
    """Their distance has more bits than the kernel's products hold: the word next to the number decides exactly."""
    rng = np.random.default_rng(0)
    lower, upper = (Fraction(float(fmt.values[code])) for code in (1, 2))
    words = rng.integers(0, 1 << 32, 300, dtype=np.uint32)
    points = [float(lower + (upper - lower) * Fraction((1 << 32) - word, 1 << 32)) for word in words.tolist()]
    x = np.nextafter(points, rng.choice([0.0, math.inf], 300))
    x[::3] = np.array(points)[::3]
    got = rf8sim.encode(x, fmt, rounding=Rounding("stochastic", words=words))
    pairs = zip(x.tolist(), words.tolist(), strict=True)
    wanted = [reference.round_value(v, fmt, "stochastic", word=word) for v, word in pairs]
    assert got.tolist() == wanted


def test_division_by_zero_is_nan() -> None:
    """Its zero has no sign: `Divide` of the report; IEEE 754's formats give infinity."""
    for name, wanted in (("binary8p3se", True), ("binary8p4ue", True), ("e5m2", False)):
        one, zero = rf8sim.encode([1.0, 0.0], name)
        value, flags = rf8sim.divide(one, zero, name, rounding="nearest-even/ieee", flags=True)
        assert np.isnan(rf8sim.decode(value, name)) == wanted
        assert flags == Flags.DIVIDE_BY_ZERO


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="variant 'B' compares one bit more: give `bits` from 1 to 31"):
        Rounding("stochastic", variant="B")
    with pytest.raises(ValueError, match="variant 'B' is of the mode 'stochastic'"):
        Rounding(variant="B", bits=8)
    with pytest.raises(ValueError, match="'ieee' is an overflow option, not a mode: write 'nearest-even/ieee'"):
        rf8sim.encode([1.0], "e5m2", rounding="ieee")
    with pytest.raises(ValueError, match="variant"):
        Rounding("stochastic", variant="D", bits=3)
    with pytest.raises(ValueError, match="neither infinity nor NaN"):
        rf8sim.encode([1.0], "e2m1fn", rounding="nearest-even/ieee")


def test_the_text_of_an_option_is_as_good_as_the_member() -> None:
    """Tables are kept by option: the first that asked, with a text, must not leave another's table behind."""
    fmt = p3109_format(3, 7, extended=True)
    for option in ("saturate", "propagate", "ieee", "infinity", "nan"):
        by_text = step_table(fmt, RoundingMode.UP, option, "float32")
        step_table.cache_clear()
        by_member = step_table(fmt, RoundingMode.UP, Overflow(option), "float32")
        np.testing.assert_array_equal(by_text.result, by_member.result)

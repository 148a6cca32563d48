"""Exact results of more than 53 bits beside boundaries that float64 does not have, against rational numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

import rf8sim
from rf8sim import Accumulation, OperandScales, RoundingMode, get_format, reference
from rf8sim.codec.boundaries import boundaries
from rf8sim.codec.undecided import decides
from rf8sim.formats import Format, format_names
from rf8sim.hardware.golden.golden import golden

RESIDUAL = ("rf8", "rf8_e3", "rf6", "rf(5,2)", "rf(6,8)")
# The midpoint of the third and the fourth value, 1/2 + 2**-61, is no float64.
APART = Format("apart", 3, "user", "", np.array([0.0, 2.0**-63, 2.0**-60, 0.5, 1.0, 1.5, 2.0, np.nan]))
GAP = Format("gap", 2, "user", "", np.array([0.0, 2.0**-60, 1.0, np.nan]))
MODES = [mode.value for mode in RoundingMode if mode is not RoundingMode.STOCHASTIC]


def modes_of(fmt: Format) -> list[str]:
    return [mode for mode in MODES if mode != "residual" or fmt.family == "residual"]


def beside_boundaries(fmt: Format, mode: str, fraction: int, signed: bool) -> Iterator[int]:
    """Yield integers of 2**-fraction at each boundary and next to it."""
    for negative in (False, True)[: 1 + (signed and fmt.signed)]:
        for boundary in boundaries(fmt, RoundingMode(mode), negative):
            first = boundary.ceiling(-fraction)
            yield from (-n if negative else n for n in range(first - 2, first + 2))


@pytest.mark.parametrize("source", [
    *(f"fixed:{integer}.{width - integer}" for width in range(50, 65) for integer in (2, 4)), "ufixed:2.54",
    "ufixed:0.64", "fixed:1.63",
])  # fmt: skip
@pytest.mark.parametrize("fmt", ["rf8", GAP], ids=str)
def test_encode_of_fixed_point(source: str, fmt: str | Format) -> None:
    for mode in modes_of(get_format(fmt)):
        model = golden("encode", fmt, source=source, rounding=mode)
        kind = model.operands[0].kind
        low, high = (-(1 << kind.bits - 1), 1 << kind.bits - 1) if source[0] == "f" else (0, 1 << kind.bits)
        integers = beside_boundaries(get_format(fmt), mode, kind.fraction, source[0] == "f")
        patterns = [n % (1 << kind.bits) for n in integers if low <= n < high]
        answers, _ = model.compute([np.array(patterns, np.uint64)])
        wanted = [reference.round_with_flags(kind.number(pattern), get_format(fmt), mode) for pattern in patterns]
        assert list(zip(answers.results.tolist(), answers.flags.tolist(), strict=True)) == wanted


def test_the_published_case_of_fixed_4_60() -> None:
    model = golden("encode", "rf8", source="fixed:4.60", rounding="residual")
    assert model.compute([np.array([0x00216A09E667F3BC], np.uint64)])[0].results.tolist() == [0x43]


def test_stochastic_encode_of_64_bits() -> None:
    """The carry of 32 bits between values of 24 digits: 56 bits decide, beside the points where words part."""
    rng = np.random.default_rng(5)
    fmt = get_format("nf4")
    model = golden("encode", fmt, source="fixed:2.62", rounding=rf8sim.Rounding("stochastic", bits=32))
    kind = model.operands[0].kind
    positive = sorted(Fraction(v) for v in fmt.values.tolist() if v >= 0)
    patterns, words = [], []
    for lower, upper in pairwise(positive):
        for steps in rng.integers(1, 1 << 32, 60).tolist():
            first = math.ceil((lower + (upper - lower) * Fraction(steps, 1 << 32)) * 2**62)
            patterns += [first - 1, first]
            words += [(1 << 32) - steps] * 2
    answers, _ = model.compute([np.array(patterns, np.uint64), np.array(words, np.uint32)])
    wanted = [reference.round_value(kind.number(pattern), fmt, "stochastic", word=word)
              for pattern, word in zip(patterns, words, strict=True)]  # fmt: skip
    assert answers.results.tolist() == wanted


def test_stochastic_quotients_of_24_digits() -> None:
    """At the word that decides, all pairs: some lie so near to it that 53 bits of the quotient are too few."""
    fmt = get_format("nf8")
    model = golden("divide", fmt, rounding=rf8sim.Rounding("stochastic", bits=32))
    codes = np.flatnonzero(fmt.values != 0).astype(np.uint8)
    a, b = (x.ravel() for x in np.meshgrid(codes, codes))
    drawn, first = model.first_word_up([a, b])
    x, y = ([Fraction(v) for v in fmt.values[c].tolist()] for c in (a, b))
    for index in np.flatnonzero(drawn & (first < 1 << 32)).tolist():
        word, quotient = int(first[index]), x[index] / y[index]
        at, below = (reference.round_value(quotient, fmt, "stochastic", word=w) for w in (word, word - 1))
        assert at != below, (index, word)


def spelled(x: Fraction, fmt: Format, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return codes of two vectors, of powers of two, whose products sum to x cut off to as many bits as there are."""
    exponents = {math.log2(v): code for code, v in reversed(list(enumerate(fmt.values.tolist())))
                 if v > 0 and math.frexp(v)[0] == 0.5}  # fmt: skip
    a, b = np.zeros((2, lanes), fmt.code_dtype)
    for lane in range(lanes):
        k = reference.rationals.floor_log2(x) if x else 0
        pair = next(((i, k - i) for i in exponents if k - i in exponents), None) if x > 0 else None
        if pair is None:
            break
        a[lane], b[lane] = exponents[pair[0]], exponents[pair[1]]
        x -= Fraction(2) ** k
    return a, b


@pytest.mark.parametrize("name", ["rf(5,2)", "rf(4,2)", "rf8_e3"])
def test_dot_products_beside_irrational_boundaries(name: str) -> None:
    fmt = get_format(name)
    model, unlike = golden("dot:64", fmt, rounding="residual"), 0
    points = boundaries(fmt, RoundingMode.RESIDUAL, False)
    rows = [spelled(Fraction(point.ceiling(-62 - k) - below, 2 ** (62 + k)), fmt, 64)
            for point in points[1:] for below in (0, 1) for k in (0, 8)]  # fmt: skip
    a, b = (np.stack(column) for column in zip(*rows, strict=True))
    exact = [sum(Fraction(x) * Fraction(y) for x, y in zip(fmt.values[p], fmt.values[q], strict=True))
             for p, q in zip(a, b, strict=True)]  # fmt: skip
    wanted = [reference.round_with_flags(x, fmt, "residual") for x in exact]
    answers, _ = model.compute([a, b])
    assert list(zip(answers.results.tolist(), answers.flags.tolist(), strict=True)) == wanted
    for row, (code, _) in enumerate(wanted):
        got = rf8sim.matmul(a[row], b[row], fmt, result=fmt, rounding="residual")
        assert int(got) == code
        unlike += code != rf8sim.encode(float(exact[row]), fmt, rounding="residual")
    stream = golden("accumulate", fmt, rounding="residual")
    clear = np.zeros(a.shape, np.uint8)
    clear[:, 0] = 1
    sums, _ = stream.compute([clear.ravel(), a.ravel(), b.ravel()])
    assert sums.results.reshape(a.shape)[:, -1].tolist() == [code for code, _ in wanted]
    assert name != "rf(5,2)" or unlike > 0, "no case that a float64 would get wrong"


@pytest.mark.parametrize("operation", ["add", "subtract", "divide"])
@pytest.mark.parametrize("mode", ["nearest-even", "nearest-away"])
def test_tables_beside_a_midpoint_that_float64_does_not_have(operation: str, mode: str) -> None:
    codes = np.arange(8)
    a, b = (x.ravel() for x in np.meshgrid(codes, codes))
    got, flags = getattr(rf8sim, operation)(a, b, APART, result=APART, rounding=mode, flags=True)
    if operation == "divide":
        operate = reference.divide
    else:

        def operate(x: reference.Number, y: reference.Number) -> reference.Number:
            return reference.add(x, y if operation == "add" else -y)

    for x, y, code, raised in zip(a.tolist(), b.tolist(), got.tolist(), flags.tolist(), strict=True):
        exact = operate(reference.number(x, APART), reference.number(y, APART))
        if operation == "divide" and math.isinf(exact):
            exact = math.nan
        wanted = reference.round_with_flags(exact, APART, mode)
        assert (code, raised & 7) == wanted, (x, y)


def test_fma_beside_a_midpoint_that_float64_does_not_have() -> None:
    a, b, c = (x.ravel() for x in np.meshgrid(*[np.arange(7)] * 3))
    got = rf8sim.fma(a, b, c, APART)
    values = [Fraction(v) for v in APART.values[:7].tolist()]
    wanted = [reference.round_value(values[x] * values[y] + values[z], APART) for x, y, z in zip(a, b, c, strict=True)]
    assert got.tolist() == wanted


@pytest.mark.parametrize("order", ["sequential", "pairwise", "blocked:3"])
@pytest.mark.parametrize("name", ["apart", "rf(5,2)"])
def test_accumulators_of_a_format(order: str, name: str) -> None:
    fmt, mode = (APART, "nearest-even") if name == "apart" else (get_format(name), "residual")
    rng = np.random.default_rng(2)
    codes = np.flatnonzero(np.isfinite(fmt.values))
    a, b = rng.choice(codes, (40, 7)), rng.choice(codes, (7, 30))
    accumulation = Accumulation(fmt, order=order, rounding=mode)
    got = rf8sim.matmul(a, b, fmt, accumulator=accumulation)

    def rounded(x: Fraction) -> Fraction:
        return Fraction(float(fmt.values[reference.round_value(x, fmt, mode)]))

    for i in range(40):
        for j in range(30):
            terms = [Fraction(float(fmt.values[x])) * Fraction(float(fmt.values[y]))
                     for x, y in zip(a[i], b[:, j], strict=True)]  # fmt: skip
            if order == "pairwise":
                while True:
                    terms = [rounded(sum(terms[k : k + 2], Fraction(0))) for k in range(0, len(terms), 2)]
                    if len(terms) == 1:
                        break
                total = terms[0]
            else:
                total, block = Fraction(0), 3 if order == "blocked:3" else 1
                for k in range(0, 7, block):
                    total = rounded(total + sum(terms[k : k + block]))
            assert Fraction(float(got[i, j])) == total, (i, j)


@pytest.mark.parametrize("mode", ["nearest-even", "toward-zero", "up"])
def test_a_scale_that_is_no_power_of_two_after_a_sum_of_more_than_53_bits(mode: str) -> None:
    """The boundary divided by the scale is no float64, so a sum rounded to odd does not say on which side it lies."""
    fmt, into = get_format("rf(5,2)"), get_format("e4m3fn")
    for scale in np.float32([1 / 3, 1.7, 0.7]):
        for point in boundaries(into, RoundingMode(mode), False)[20:50:3]:
            for below in (0, 1):
                ratio = point.rational / Fraction(float(scale))
                x = Fraction((ratio * 2**62).__floor__() - below, 2**62)
                a, b = spelled(x, fmt, 64)
                exact = sum(Fraction(p) * Fraction(q) for p, q in zip(fmt.values[a], fmt.values[b], strict=True))
                wanted = reference.round_value(exact * Fraction(float(scale)), into, mode)
                got = rf8sim.matmul(a, b, fmt, result=into, rounding=mode, scales=OperandScales(a=scale))
                assert int(got) == wanted


def test_which_formats_float64_decides() -> None:
    for name in format_names():
        fmt = get_format(name)
        for mode in modes_of(fmt):
            assert decides(fmt, mode) == (mode != "residual"), (name, mode)
    assert not decides(APART, "nearest-even")
    assert decides(APART, "up")
    assert decides(get_format("rf8"), "stochastic")
    assert not decides(get_format("nf4"), "stochastic")


def test_draws_that_float64_does_not_hold_are_refused() -> None:
    codes = np.zeros((3, 3), np.uint8)
    accumulation = Accumulation(APART, rounding="stochastic")
    with pytest.raises(ValueError, match="use another accumulator or mode"):
        rf8sim.matmul(codes, codes, APART, accumulator=accumulation)


def one_of_each_family() -> list[str]:
    return list({get_format(name).family: name for name in reversed(format_names())}.values())


@pytest.mark.parametrize("name", [*one_of_each_family(), "e5m2"])
def test_sums_of_more_than_53_bits_in_every_mode(name: str) -> None:
    """At a boundary and one unit of 2**-62 to either side, a sum of 64 products has the oracle's code and flags."""
    operand, fmt = get_format("rf(5,2)"), get_format(name)
    for mode in modes_of(fmt):
        rows = []
        for negative in (False, True)[: 1 + fmt.signed]:
            points = [point for point in boundaries(fmt, RoundingMode(mode), negative) if 2 < point.ceiling(-8) < 4096]
            for point in points[:: -(-len(points) // 5)]:
                first = point.ceiling(-62)
                for n in (first - 1, first, first + 1):
                    a, b = spelled(Fraction(n, 2**62), operand, 64)
                    rows.append((rf8sim.encode(-operand.values[a], operand) if negative else a, b))
        assert rows
        a, b = (np.stack(column) for column in zip(*rows, strict=True))
        exact = [sum(Fraction(x) * Fraction(y) for x, y in zip(operand.values[p], operand.values[q], strict=True))
                 for p, q in zip(a, b, strict=True)]  # fmt: skip
        answers, _ = golden("dot:64", operand, result=name, rounding=mode).compute([a, b])
        wanted = [reference.round_with_flags(x or 0.0, fmt, mode) for x in exact]
        assert list(zip(answers.results.tolist(), answers.flags.tolist(), strict=True)) == wanted, mode
        assert max(x.numerator.bit_length() for x in exact if x) > 53

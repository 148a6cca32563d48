"""Operations on codes against exact arithmetic: every pair of codes, every mode, every overflow option, every flag."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from arithmetic_oracle import ONE, TWO, choices, exact, expected, formats_of, outcomes, raised, rounded, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracle_helpers import modes, overflows

import rf8sim
from rf8sim import reference
from rf8sim._base import threads as _parallel
from rf8sim.arithmetic import operations
from rf8sim.arithmetic.codes import OPERATIONS, Flags, operation_table
from rf8sim.formats import Format, format_names, get_format

# Operands, and the result. The last is the case that makes RF8 hardware small: RF8 weights, int8 activations.
FORMATS = [
    ("rf8", "rf8", "rf8"),
    ("e4m3fn", "e4m3fn", "e4m3fn"),
    ("e5m2", "e5m2", "e5m2"),
    pytest.param("rf8", "e4m3fn", "e5m2", marks=pytest.mark.slow),
    pytest.param("e5m2", "e4m3fn", "uint8", marks=pytest.mark.slow),
    pytest.param("rf8", "int8", "rf8", marks=pytest.mark.slow),
]
PAIRS = [("rf8", "rf8"), ("e4m3fn", "e4m3fn"), ("e5m2", "e5m2"), ("rf8", "e4m3fn"), ("rf8", "int8")]


def same(got: NDArray[Any], wanted: NDArray[Any], what: str, into: Format | None = None) -> None:
    """Fail with the first operand codes on which two tables differ."""
    assert got.shape == wanted.shape
    wrong = np.argwhere(got != wanted)
    if wrong.size:
        lines = [f"{what}: {len(wrong)} of {got.size} differ; the first:"]
        for where in wrong[:5]:
            one, other = int(got[tuple(where)]), int(wanted[tuple(where)])
            values = f" ({into.values[one]!r} for {into.values[other]!r})" if into else f" ({Flags(one)!r})"
            lines.append(f"  codes {[hex(code) for code in where]}: {one:#04x}, expected {other:#04x}{values}")
        raise AssertionError("\n".join(lines))


def bracket(v: float, bits: int) -> tuple[Fraction, Fraction]:
    """Where the exact result is if the last bit of `v` only says that there is more."""
    m = Fraction(v)
    last = Fraction(m.numerator & -m.numerator, m.denominator)
    # 53 bits, the last of them 1.
    assert last * 2**bits <= abs(m)
    return m - last, m + last


# ---------------------------------------------------------------- exact results


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("operation", [*TWO, "sqrt"])
def test_intermediate_results_are_exact_or_odd(operation: str, first: str, second: str) -> None:
    """A result that is no float64 is bracketed, closer than any boundary of 26 bits, by one whose last bit is set."""
    formats = formats_of(operation, first, second)
    a = formats[0].values[:, None] if len(formats) == 2 else formats[0].values
    b = formats[1].values[None, :] if len(formats) == 2 else a
    with np.errstate(all="ignore"):
        got = OPERATIONS[operation].exact(a, b)
    exactly = whole(operation, formats)
    # Equal quotients of different pairs may be cut off at different bits: each is looked at.
    bits = got.view(np.int64).ravel().tolist()
    found = dict(zip(zip(exactly.index.ravel().tolist(), bits, strict=True), got.ravel().tolist(), strict=True))
    inexact = 0
    for (place, _), value in found.items():
        result = exactly.results[place][0]
        if not isinstance(result, Fraction):
            assert repr(value) == repr(result), (operation, value, result)
        elif Fraction(value) != result:
            inexact += 1
            assert np.float64(value).view(np.int64) & 1
            low, high = bracket(value, 52)
            assert low < result < high
    assert (inexact > 0) == (operation in ("divide", "sqrt"))


def test_roots_of_all_significands_are_rounded_to_odd() -> None:
    for first in range(1 << 23, 1 << 24, 1 << 20):
        n = np.arange(first, first + (1 << 20), dtype=np.int64)
        for extra in (0, 1):  # even and odd exponents
            number = np.ldexp(n.astype(np.float64), extra)
            root = operations._root(number, n)
            assert np.all(np.abs(root * root / number - 1) < 2.0**-40)
            # In units of 2**-82 what is left of the number fits in 64 bits, in which the number itself is 0.
            integer, last = np.ldexp(root, 41).astype(np.int64), np.where(root < 4096, 1, 2)
            rest = -integer * integer
            odd = root.view(np.int64) & 1 == 1
            assert np.all((np.abs(rest) < 2 * last * integer) & ((rest == 0) | odd))


def test_round_to_odd_of_sums_beyond_53_bits() -> None:
    """Only sums of e8m0fnu, and fma of wide formats, are that wide."""
    values = get_format("e8m0fnu").values[:-1:7]
    a, b = (np.ascontiguousarray(x) for x in np.broadcast_arrays(values[:, None], values[None, :]))
    for sign in (1.0, -1.0):
        got = operations.exact_sum(a, sign * b)
        inexact = 0
        for x, y, v in zip(a.ravel().tolist(), (sign * b).ravel().tolist(), got.ravel().tolist(), strict=True):
            result = Fraction(x) + Fraction(y)
            if Fraction(v) == result:
                continue
            inexact += 1
            assert np.float64(v).view(np.int64) & 1
            assert Fraction(np.nextafter(v, -np.inf)) < result < Fraction(np.nextafter(v, np.inf))
        assert inexact > 500


def test_no_quotient_or_root_comes_near_an_irrational_boundary() -> None:
    """The mode `residual` has boundaries in sqrt(2): the ends of each bracket must get the same code."""
    residual = [get_format(name) for name in ("rf8", "rf8_e3", "rf6", "rf(4,4,12)", "rf(5,2)", "rf(2,16)")]

    def both_ends_agree(value: NDArray[np.float64], bits: int) -> None:
        value = np.unique(value[np.isfinite(value) & (value != 0)])
        exponent = np.frexp(value)[1]
        value, exponent = (x[np.ldexp(value, bits - 1 - exponent) % 1 != 0] for x in (value, exponent))  # inexact ones
        half = np.ldexp(1.0, exponent - bits)
        for into in residual:
            low, high = (rf8sim.encode(end, into, rounding="residual") for end in (value - half, value + half))
            np.testing.assert_array_equal(low, high)

    tables = [get_format(name) for name in format_names()] + residual[3:]
    for first in tables:
        with np.errstate(all="ignore"):
            both_ends_agree(operations._root(first.values, first.values), 31)
            for second in tables:
                both_ends_agree(operations._quotient(first.values[:, None], second.values[None, :]), 39)


# ---------------------------------------------------------------- whole tables


@pytest.mark.parametrize("operation", [*TWO, *ONE])
@pytest.mark.parametrize(("first", "second", "result"), FORMATS)
def test_every_pair_in_every_mode_against_the_oracle(operation: str, first: str, second: str, result: str) -> None:
    formats, into = formats_of(operation, first, second), get_format(result)
    for rounding, overflow in choices(into):
        table = operation_table(operation, formats, result=result, rounding=rf8sim.Rounding(rounding, overflow))
        codes, flags, missing = expected(operation, formats, into, rounding, overflow)
        what = f"{operation} {first}, {second} -> {result}, {rounding}, {overflow}"
        here = tuple(slice(size) for size in codes.shape)
        same(table.missing[here], missing, f"missing NaN of {what}")
        same(table.codes[here][~missing], codes[~missing], f"codes of {what}", into)
        same(table.flags[here], flags, f"flags of {what}")


def test_compare_orders_every_pair_by_value() -> None:
    for first, second in PAIRS:
        a, b = ([reference.number(code, name) for code in range(256)] for name in (first, second))
        wanted = [[2 if x != x or y != y else (x > y) - (x < y) for y in b] for x in a]
        codes = np.arange(256, dtype=np.uint8)
        got = rf8sim.compare(codes[:, None], codes, (first, second))
        assert got.dtype == np.int8
        np.testing.assert_array_equal(got, np.array(wanted))


# ---------------------------------------------------------------- rules that a table could hide


def value(operation: str, a: float, b: float, fmt: str, **options: Any) -> float:
    """Operate on two numbers; checks that they are values of the format."""
    codes = rf8sim.encode(
        [a, b], fmt, rounding=rf8sim.Rounding(overflow="infinity" if np.isinf([a, b]).any() else "saturate")
    )
    np.testing.assert_array_equal(rf8sim.decode(codes, fmt), [a, b])
    result = options.get("result") or fmt
    return float(rf8sim.decode(getattr(rf8sim, operation)(codes[0], codes[1], fmt, **options), result))


def test_zeros_have_the_signs_of_ieee_754() -> None:
    assert repr(value("add", 1.5, -1.5, "e4m3fn")) == "0.0"
    assert repr(value("add", 1.5, -1.5, "e4m3fn", rounding="down")) == "-0.0"
    assert repr(value("subtract", 0.0, 0.0, "e4m3fn", rounding="down")) == "-0.0"
    assert repr(value("add", -0.0, -0.0, "e4m3fn", rounding="up")) == "-0.0"
    assert repr(value("multiply", -1.0, 0.0, "e4m3fn")) == "-0.0"
    assert repr(value("minimum", 0.0, -0.0, "e4m3fn")) == repr(value("minimum", -0.0, 0.0, "e4m3fn")) == "-0.0"
    assert repr(value("maximum", 0.0, -0.0, "e4m3fn")) == repr(value("maximum", -0.0, 0.0, "e4m3fn")) == "0.0"
    assert repr(value("add", 1.5, -1.5, "rf8", rounding="down")) == "0.0"  # it has one zero
    minus_one, one, zero = (int(rf8sim.encode(x, "e5m2")) for x in (-1.0, 1.0, 0.0))
    for rounding, code in (("nearest-even", 0x00), ("down", 0x80)):
        assert int(rf8sim.fma(one, minus_one, one, "e5m2", rounding=rounding)) == code
        assert int(rf8sim.fma(minus_one, zero, zero, "e5m2", rounding=rounding)) == code


@pytest.mark.parametrize(("overflow", "infinite", "finite"), [
    ("saturate", 57344.0, 57344.0), ("propagate", np.inf, 57344.0), ("ieee", np.inf, np.inf),
    ("infinity", np.inf, np.inf), ("nan", np.nan, np.nan),
])  # fmt: skip
def test_infinities_become_what_overflow_says(overflow: str, infinite: float, finite: float) -> None:
    """Those that an operation only selects, or whose sign it changes, stay."""
    rounding = rf8sim.Rounding(overflow=overflow)
    np.testing.assert_array_equal(value("add", np.inf, 1.0, "e5m2", rounding=rounding), infinite)
    np.testing.assert_array_equal(value("divide", -1.0, 0.0, "e5m2", rounding=rounding), -infinite)
    np.testing.assert_array_equal(value("add", 57344.0, 57344.0, "e5m2", rounding=rounding), finite)
    inf, one = 0x7C, 0x3C
    assert rf8sim.negate(inf, "e5m2", rounding=rounding) == inf | 0x80
    assert rf8sim.maximum(inf, one, "e5m2", rounding=rounding) == inf
    wanted = rf8sim.encode(np.inf, "e5m2", rounding=rounding)
    assert rf8sim.fma(inf, one, one, "e5m2", rounding=rounding) == wanted
    assert rf8sim.matmul([[inf]], [[one]], "e5m2", result="e5m2", rounding=rounding) == wanted
    code, flags = rf8sim.add(inf, one, "e5m2", rounding=rounding, flags=True)
    assert code == wanted
    assert flags == (0 if wanted == inf else Flags.OVERFLOW | Flags.INEXACT)


@pytest.mark.parametrize(("mode", "above", "below"), [
    ("nearest-even", np.nan, np.nan), ("toward-zero", 448.0, -448.0), ("up", np.nan, -448.0), ("down", 448.0, np.nan),
])  # fmt: skip
def test_ieee_overflow_of_a_format_without_infinity(mode: str, above: float, below: float) -> None:
    """What LLVM and RISC-V do for E4M3: NaN to nearest, the largest value inward."""
    got = rf8sim.decode(rf8sim.encode([1e3, -1e3], "e4m3fn", rounding=f"{mode}/ieee"), "e4m3fn")
    np.testing.assert_array_equal(got, [above, below])


def test_division_by_zero_is_nan_without_infinity() -> None:
    codes, flags = rf8sim.divide([0x7B, 0x00, 0x80], [0x00, 0x00, 0x00], "rf8", flags=True)
    assert codes.tolist() == [0x80] * 3
    assert flags.tolist() == [Flags.DIVIDE_BY_ZERO, Flags.INVALID, 0]


def test_flags_of_known_cases() -> None:
    def flags(operation: str, a: float, b: float, fmt: str, **options: Any) -> Flags:
        codes = rf8sim.encode([a, b], fmt)
        return Flags(int(getattr(rf8sim, operation)(codes[0], codes[1], fmt, flags=True, **options)[1]))

    assert flags("add", 1.0, 0.5, "rf8") == Flags(0)
    assert flags("add", 1.0, 1.0, "rf8") == Flags.OVERFLOW | Flags.INEXACT
    assert flags("multiply", 2.0**-15, 0.125, "rf8") == Flags.UNDERFLOW | Flags.INEXACT
    assert flags("multiply", 2.0**-15, 0.125, "rf8", rounding="up") == Flags.UNDERFLOW | Flags.INEXACT
    # Tiny but exact: no underflow. Tiny before rounding, the smallest normal after it: underflow.
    assert flags("multiply", 2.0**-7, 0.5, "e4m3fn") == Flags(0)
    assert flags("multiply", 2.0**-6, 0.9375, "e4m3fn", rounding="up") == Flags.UNDERFLOW | Flags.INEXACT
    assert flags("subtract", 3.0, 5.0, "uint8") == Flags.OVERFLOW | Flags.INEXACT
    assert flags("subtract", 3.0, 3.0, "uint8") == Flags(0)
    # Out of an unsigned format's range, however small: an overflow, no underflow.
    smallest, minus_half = 0x00, int(rf8sim.encode(-0.5, "rf8"))
    got = rf8sim.multiply(smallest, minus_half, ("e8m0fnu", "rf8"), flags=True)
    assert [int(x) for x in got] == [smallest, Flags.OVERFLOW | Flags.INEXACT]


def test_a_format_without_nan_refuses_only_what_needs_one() -> None:
    a, b = rf8sim.encode([6.0, 7.0], "int8"), rf8sim.encode([2.0, -3.0], "int8")
    assert rf8sim.decode(rf8sim.divide(a, b, "int8"), "int8").tolist() == [3.0, -2.0]
    out = np.full((2, 2), 99, dtype=np.uint8)
    with pytest.raises(ValueError, match=r"divide gives NaN, first at index \(1, 0\), and format 'int8' has no NaN"):
        rf8sim.divide(a, [[1, 2], [0, 2]], "int8", out=out)
    assert np.all(out == 99)
    assert int(rf8sim.divide(a[0], 0, "int8", result="rf8")) == 0x80
    with pytest.raises(ValueError, match=r"fma gives NaN, first at index \(1\), and format 'int8'"):
        rf8sim.fma([0x7B, 0x80], 0x7B, 1, ("rf8", "rf8", "int8"))
    with pytest.raises(ValueError, match="sqrt gives NaN"):
        rf8sim.sqrt(b, "int8")


# ---------------------------------------------------------------- fma

_THIRDS = (0.0, -0.0, 1.0, -1.0, 0.5, -0.0625, 1.5, -1.25, 448.0)


def thirds(fmt: Format) -> list[int]:
    """Third operands: zeros, extremes of both signs, ones that make ties and cancel, NaN, infinity."""
    wanted = [*_THIRDS, fmt.max, fmt.min, fmt.smallest, -fmt.smallest]
    codes = {int(code) for code in rf8sim.encode(np.array(wanted), fmt)}
    special = np.flatnonzero(~np.isfinite(fmt.values))[:2].tolist()
    return sorted(codes | set(special))


@pytest.mark.parametrize("name", ["rf8", "e4m3fn", "e5m2"])
def test_fma_of_every_pair_with_telling_third_operands(name: str) -> None:
    fmt = get_format(name)
    products = whole("multiply", (fmt, fmt))
    numbers = [reference.number(code, fmt) for code in range(256)]
    nan = np.isnan(fmt.values)
    codes = np.arange(256, dtype=np.uint8)
    for turn, third in enumerate(thirds(fmt)):
        # Each third operand meets a quarter of the modes and overflow options, the next one another quarter.
        for rounding, overflow in list(choices(fmt))[turn % 4 :: 4]:
            results = [
                (result if result != result else reference.add(result, numbers[third], rounding), 0)
                for result, _ in products.results
            ]
            columns = zip(*outcomes(results, fmt, rounding, overflow), strict=True)
            wanted, flags, _ = (np.array(column)[products.index] for column in columns)
            invalid = np.array([result != result for result, _ in results])[products.index]
            invalid &= ~(nan[:, None] | nan[None, :] | nan[third])
            got = rf8sim.fma(
                codes[:, None], codes, third, fmt, flags=True, rounding=rf8sim.Rounding(rounding, overflow)
            )
            what = f"fma {name} + {numbers[third]}, {rounding}, {overflow}"
            same(got[0], wanted.astype(np.uint8), what, fmt)
            same(got[1], (flags | invalid * Flags.INVALID).astype(np.uint8), f"flags of {what}")


@given(data=st.data())
@settings(max_examples=250, deadline=None)
def test_fma_of_any_formats(data: st.DataObject) -> None:
    fmts = [get_format(data.draw(st.sampled_from(format_names()))) for _ in range(3)]
    into = get_format(data.draw(st.sampled_from([name for name in format_names() if get_format(name).nan is not None])))
    codes = [data.draw(st.integers(0, (1 << fmt.bits) - 1)) for fmt in fmts]
    rounding = data.draw(st.sampled_from(modes(into)))
    overflow = data.draw(st.sampled_from(overflows(into)))
    x, y, z = (reference.number(code, fmt) for code, fmt in zip(codes, fmts, strict=True))
    product = reference.multiply(x, y)
    result = reference.add(product, z, rounding)
    flags = int(Flags.INVALID) if result != result and not any(one != one for one in (x, y, z)) else 0
    code, more = reference.round_with_flags(result, into, rounding, overflow)
    got = rf8sim.fma(*codes, tuple(fmts), result=into, flags=True, rounding=rf8sim.Rounding(rounding, overflow))
    assert [int(one) for one in got] == [code, flags | more]


@given(data=st.data())
@settings(max_examples=250, deadline=None)
def test_any_operation_of_any_formats(data: st.DataObject) -> None:
    operation = data.draw(st.sampled_from([*TWO, *ONE]))
    fmts = [get_format(data.draw(st.sampled_from(format_names()))) for _ in range(2 if operation in TWO else 1)]
    into = get_format(data.draw(st.sampled_from(format_names())))
    codes = [data.draw(st.integers(0, (1 << fmt.bits) - 1)) for fmt in fmts]
    rounding, overflow = data.draw(st.sampled_from(list(choices(into))))
    numbers = tuple(reference.number(code, fmt) for code, fmt in zip(codes, fmts, strict=True))
    result = exact(operation, *numbers, rounding=rounding)
    code, flags, missing = rounded.__wrapped__(result, raised(operation, numbers, result), into, rounding, overflow)
    table = operation_table(operation, tuple(fmts), result=into, rounding=rf8sim.Rounding(rounding, overflow))
    where = tuple(codes)
    assert bool(table.missing[where]) == missing
    assert int(table.flags[where]) == flags
    assert missing or int(table.codes[where]) == code


# ---------------------------------------------------------------- peers

PEERS = {
    "e4m3fn": "nan", "e4m3": "infinity", "e4m3fnuz": "nan", "e4m3b11fnuz": "nan", "e5m2": "infinity",
    "e5m2fnuz": "nan", "e3m4": "infinity",
}  # fmt: skip


@pytest.mark.parametrize("operation", ["add", "subtract", "multiply", "divide"])
def test_ml_dtypes_computes_the_same_and_never_rounds_twice(operation: str) -> None:
    """ml_dtypes works in float32 and rounds that. Of 65,536 pairs none is rounded differently for it.

    A quotient of significands of 5 bits is no closer to a tie than 2**-11 of it, and a sum that needs more than 24 bits
    has its small operand far below the place of a tie.
    """
    codes = np.arange(256, dtype=np.uint8)
    for name, overflow in PEERS.items():
        fmt = get_format(name)
        peer = codes.view(getattr(ml_dtypes, f"float8_{name}"))
        with np.errstate(all="ignore"):
            wanted = getattr(np, operation)(peer[:, None], peer[None, :])
        got = getattr(rf8sim, operation)(codes[:, None], codes, name, rounding=rf8sim.Rounding(overflow=overflow))
        nan = np.isnan(fmt.values)
        both = nan[got] & np.isnan(wanted.astype(np.float32))  # NaN is one value, whatever its code
        different = int(np.count_nonzero((got != wanted.view(np.uint8)) & ~both))
        assert different == 0, (name, different)


def test_fma_in_float32_and_in_two_steps_rounds_twice() -> None:
    """Of 984,064 triples of finite e5m2, 1,192 come out differently by way of float32, 59,740 by a rounded product."""
    codes = np.arange(256, dtype=np.uint8)
    values = get_format("e5m2").values.astype(np.float32)
    finite = np.flatnonzero(np.isfinite(values)).astype(np.uint8)
    a, b = finite[:, None], finite[None, :]
    in_float32 = in_steps = 0
    with np.errstate(all="ignore"):
        for c in finite[::16]:
            once = rf8sim.fma(a, b, c, "e5m2", rounding=rf8sim.Rounding(overflow="ieee"))
            single = (values[a] * values[b] + values[c]).astype(ml_dtypes.float8_e5m2).view(np.uint8)
            peer = codes.view(ml_dtypes.float8_e5m2)
            steps = (peer[a] * peer[b] + peer[c]).view(np.uint8)
            nan = np.isnan(values[once])
            in_float32 += int(np.count_nonzero((once != single) & ~nan))
            in_steps += int(np.count_nonzero((once != steps) & ~nan))
    assert (in_float32, in_steps) == (1_192, 59_740)


# ---------------------------------------------------------------- arrays


def test_broadcasting_layouts_and_shapes() -> None:
    rng = np.random.default_rng(1)
    table = operation_table("add", "rf8").codes
    for shape_a, shape_b in [
        ((), ()),
        ((), (3,)),
        ((0,), (1,)),
        ((4, 1), (3,)),
        ((2, 0, 3), (1, 3)),
        ((5, 1, 2), (4, 1)),
    ]:
        a, b = (rng.integers(0, 256, shape, dtype=np.uint8) for shape in (shape_a, shape_b))
        got, flags = rf8sim.add(a, b, "rf8", flags=True)
        wanted = table[tuple(np.broadcast_arrays(a, b))]
        assert got.shape == flags.shape == wanted.shape
        np.testing.assert_array_equal(got, wanted)
        fused, raised_by = rf8sim.fma(a, 0x7B, b, "rf8", flags=True)
        assert fused.shape == raised_by.shape == wanted.shape
        np.testing.assert_array_equal(fused, wanted)  # 1.0 * a + b
        np.testing.assert_array_equal(raised_by, flags)
        assert rf8sim.sqrt(a, "rf8").shape == shape_a
        assert rf8sim.compare(a, b, "rf8").shape == wanted.shape
    base = rng.integers(0, 256, (6, 8, 2), dtype=np.uint8)
    a, b = base[::-2, ::3, 0], base[:3, 1:4, 1].astype(np.int64)
    np.testing.assert_array_equal(rf8sim.add(a, b, "rf8"), table[a, b])
    np.testing.assert_array_equal(rf8sim.add(a.T, b.T, "rf8"), table[a, b].T)
    with pytest.raises(ValueError, match=r"operands of shapes \(2,\) and \(3,\) do not broadcast"):
        rf8sim.add([1, 2], [1, 2, 3], "rf8")
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(\) and \(3,\)"):
        rf8sim.fma([1, 2], 1, [1, 2, 3], "rf8")


def test_out_takes_any_layout_and_may_be_an_operand() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 256, (2, 40), dtype=np.uint8)
    wanted, raised_by = rf8sim.multiply(a, b, "rf8", flags=True)
    out = np.empty(40, dtype=np.uint8)
    assert rf8sim.multiply(a, b, "rf8", out=out) is out
    np.testing.assert_array_equal(out, wanted)
    wide = np.zeros(80, dtype=np.uint8)
    rf8sim.multiply(a, b, "rf8", out=wide[::2])
    np.testing.assert_array_equal(wide[::2], wanted)
    assert not wide[1::2].any()
    same_place = a.copy()
    _, flags = rf8sim.multiply(same_place, b, "rf8", out=same_place, flags=True)
    np.testing.assert_array_equal(same_place, wanted)
    np.testing.assert_array_equal(flags, raised_by)
    for operation in (lambda x, y, out: rf8sim.add(x, y, "rf8", out=out),
                      lambda x, y, out: rf8sim.fma(0x7B, x, y, "rf8", out=out)):  # fmt: skip
        shifted = a.copy()
        operation(shifted[:-1], b[:-1], shifted[1:])
        np.testing.assert_array_equal(shifted[1:], operation(a[:-1], b[:-1], None))
    frozen = out.copy()
    frozen.flags.writeable = False
    for bad in (np.empty(39, np.uint8), np.empty(40, np.int8), frozen):
        with pytest.raises(ValueError, match="out must be a writable uint8 array of shape"):
            rf8sim.multiply(a, b, "rf8", out=bad)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    size = 2 * _parallel.SMALLEST_PIECE + 12_345
    a, b = rng.integers(0, 256, (2, size), dtype=np.uint8)
    runs = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(_parallel, "available_threads", lambda threads=threads: threads)
        runs.append((*rf8sim.divide(a, b, "rf8", flags=True), rf8sim.sqrt(a, "e4m3fn"), rf8sim.compare(a, b, "rf8"),
                     *rf8sim.fma(a, b, b[::-1], "rf8", flags=True)))  # fmt: skip
    for run in runs[1:]:
        for one, other in zip(runs[0], run, strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(runs[0][0], operation_table("divide", "rf8").codes[a, b])


# ---------------------------------------------------------------- refusals


def test_unknown_options_are_refused_in_one_sentence() -> None:
    for message, call in {
        "unknown operation 'mutliply': did you mean 'multiply'": lambda: operation_table("mutliply", "rf8"),
        "unknown format": lambda: rf8sim.add(1, 2, "rf9"),
        "unknown rounding mode 'nearest': did you mean": lambda: rf8sim.add(1, 2, "rf8", rounding="nearest"),
        "unknown overflow option 'wrap'": lambda: rf8sim.add(1, 2, "rf8", rounding=rf8sim.Rounding(overflow="wrap")),
        "for the RF family only": lambda: rf8sim.add(1, 2, "rf8", result="int8", rounding="residual"),
        "has no infinity": lambda: rf8sim.fma(1, 2, 3, "rf8", rounding=rf8sim.Rounding(overflow="infinity")),
        "'int8' has no NaN code": lambda: rf8sim.negate(
            1, "rf8", result="int8", rounding=rf8sim.Rounding(overflow="nan")
        ),
        "'stochastic' draws one of two: use draw_table": lambda: operation_table("add", "rf8", rounding="stochastic"),
        "codes of e2m1fn run from 0 to 15": lambda: rf8sim.add(16, 2, "e2m1fn"),
        "codes of rf8 run from 0 to 255": lambda: rf8sim.fma(1, 2, -3, "rf8"),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="encode the data first"):
        rf8sim.add([0.5], [1], "rf8")


def test_tables_cannot_be_written() -> None:
    for column in operation_table("add", "rf8"):
        with pytest.raises(ValueError, match="read-only"):
            column[0, 0] = 1

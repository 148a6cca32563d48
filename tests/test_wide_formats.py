"""Formats of 9 to 16 bits in the codec, in arithmetic and in what is built on them."""

from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

import rf8sim
from rf8sim import reference
from rf8sim.arithmetic import codes as arithmetic
from rf8sim.codec.boundaries import BEYOND, boundaries, place
from rf8sim.codec.rounding import Overflow, fits
from rf8sim.codec.thresholds import float32_decides
from rf8sim.formats import Format, format_names, get_format, get_layout

WIDE = [name for name in format_names(16) if get_format(name).bits > 8]
OTHERS = ["binary12p5se", "binary10p4uf", "posit(12,1)", "rf(8,8)", "rf(9,16,250)", "q(8,7)", "int(11)", "lns(5,8)"]
DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
DETERMINISTIC = [str(mode) for mode in rf8sim.RoundingMode if mode != "stochastic"]


def modes_of(fmt: Format) -> list[str]:
    return [mode for mode in DETERMINISTIC if mode != "residual" or fmt.depth is not None]


def overflows_of(fmt: Format) -> list[str]:
    return [str(option) for option in Overflow if fits(fmt, rf8sim.Rounding(overflow=option))]


def float32_patterns(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << 32, count, dtype=np.uint32).view(np.float32)


# --- boundaries and codec -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_boundaries_by_arrays_are_those_of_fractions() -> None:
    """Every first pattern and integer, of every named format, mode and side."""
    layouts = [get_layout(name) for name in ("float16", "bfloat16", "float32", "float64", "e8m13", "e4m3")]
    for name in [*format_names(), "rf(2,16)", "rf(1,16,4)", "quantile(8,0.3)"]:
        fmt = get_format(name)
        for mode in modes_of(fmt):
            for negative in (False, True)[: 1 + fmt.signed]:
                placed, exact = place(fmt, rf8sim.RoundingMode(mode), negative), boundaries(fmt, mode, negative)
                zeros = np.zeros(len(exact), dtype=np.int64)
                for unit in (-40, -3, 0, 5):
                    wanted = [point.ceiling(unit) for point in exact]
                    got = placed.ceilings(zeros + unit).tolist()
                    assert got == [n if n < 1 << 64 else int(BEYOND) for n in wanted], (name, mode, negative, unit)
                for layout in layouts:
                    patterns = placed.patterns(layout).astype(np.int64)
                    here, before = (layout.values(np.maximum(patterns - step, 0)).tolist() for step in (0, 1))
                    for pattern, value, last, point in zip(patterns.tolist(), here, before, exact, strict=True):
                        if layout.max < point.rational or pattern > layout.largest_pattern:
                            assert pattern == layout.infinity
                            continue
                        assert goes_up(Fraction(value), point), (name, mode, layout.name, pattern)
                        assert pattern == 0 or not goes_up(Fraction(last), point), (name, mode, layout.name, pattern)


def goes_up(x: Fraction, point: object) -> bool:
    distance = x - point.rational
    if not point.root:
        return distance > 0 or (distance == 0 and point.inclusive)
    if distance * point.root <= 0:
        return point.root < 0 and distance >= 0
    return (distance**2 > 2 * point.root**2) == (point.root > 0)


@pytest.mark.parametrize("lower", [1 + 2.0**-23, 1 - 2.0**-24])
def test_a_midpoint_of_more_than_53_bits(lower: float) -> None:
    """Between 1 and 2**31 lies one that float64 does not hold: its nearest float64 is above it, or below."""
    fmt = Format("far_apart", 2, "user", "", np.array([0.0, lower, 2.0**31, np.nan]))
    nearest = 2.0**30 + 0.5
    assert Fraction(lower) + 2**31 != 2 * Fraction(nearest)
    x = np.array([np.nextafter(nearest, 0), nearest, np.nextafter(nearest, np.inf)])
    for mode in ("nearest-even", "nearest-away"):
        wanted = [reference.round_value(value, fmt, mode) for value in x.tolist()]
        assert rf8sim.encode(x, fmt, rounding=mode).tolist() == wanted
        assert rf8sim.encode(np.array([2**30, 2**30 + 1]), fmt, rounding=mode).tolist() == [1, 2]


@pytest.mark.parametrize("name", [*WIDE, *OTHERS])
def test_thresholds_and_their_neighbours(name: str) -> None:
    """In each mode, at some thresholds and beside them in float32 and float64, against the oracle."""
    fmt = get_format(name)
    rng = np.random.default_rng(5)
    for mode in modes_of(fmt):
        for negative in (False, True)[: 1 + fmt.signed]:
            placed = place(fmt, rf8sim.RoundingMode(mode), negative)
            chosen = np.unique(np.append(rng.integers(0, placed.point.size, 25), [0, 1, placed.point.size - 1]))
            for dtype in (np.float32, np.float64):
                if dtype == np.float32 and not fmt.fits_float32:
                    continue
                layout, kind = get_layout(dtype.__name__), np.dtype(f"u{np.dtype(dtype).itemsize}")
                first = placed.patterns(layout)[chosen].astype(np.int64)
                near = np.clip(first[:, None] + [-1, 0, 1], 0, layout.largest_pattern).ravel().astype(kind)
                x = near.view(dtype) * (-1 if negative else 1)
                for overflow in overflows_of(fmt):
                    got = rf8sim.encode(x, fmt, rounding=rf8sim.Rounding(mode, overflow))
                    want = [reference.round_value(value, fmt, mode, overflow) for value in x.astype(float).tolist()]
                    assert got.dtype == np.uint16
                    assert got.tolist() == want, (mode, overflow, dtype)


@pytest.mark.parametrize("name", DTYPES)
def test_casts_of_numpy_and_ml_dtypes(name: str) -> None:
    fmt, x = get_format(name), float32_patterns(1, 1 << 20)
    check_cast(fmt, x)
    every = np.arange(1 << 16, dtype=np.uint16)
    values = every.view(DTYPES[name])
    np.testing.assert_array_equal(rf8sim.decode(every, fmt), values.astype(np.float32))
    np.testing.assert_array_equal(rf8sim.encode(values, fmt, rounding="nearest-even/ieee"), fmt.canonical)
    for other in DTYPES.values():  # of every 16-bit input
        check_cast(fmt, every.view(other))


@pytest.mark.slow
@pytest.mark.parametrize("name", DTYPES)
def test_casts_of_a_hundred_million_numbers(name: str) -> None:
    """Every 41st pattern of the 2**32, and as many as a sixth of those at random."""
    for first in range(0, 1 << 32, 41 << 22):
        patterns = np.arange(first, min(first + (41 << 22), 1 << 32), 41, dtype=np.uint64).astype(np.uint32)
        check_cast(get_format(name), patterns.view(np.float32))
    for seed in range(4):
        check_cast(get_format(name), float32_patterns(10 + seed, 1 << 22))


def check_cast(fmt: Format, x: np.ndarray) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        cast = x.astype(np.float32).astype(DTYPES[fmt.name]).view(np.uint16)
    np.testing.assert_array_equal(rf8sim.encode(x, fmt, rounding="nearest-even/ieee"), fmt.canonical[cast])


@pytest.mark.parametrize("name", [*WIDE, *OTHERS])
def test_values_come_back(name: str) -> None:
    fmt = get_format(name)
    codes = np.arange(1 << fmt.bits)
    dtype = np.float32 if fmt.fits_float32 else np.float64
    values = rf8sim.decode(codes, fmt, dtype=dtype)
    kept = np.isfinite(values)
    for mode in modes_of(fmt):
        np.testing.assert_array_equal(rf8sim.encode(values[kept], fmt, rounding=mode), fmt.canonical[kept])
    integers = np.unique(values[kept & (values != 0) & (values == np.rint(values)) & (np.abs(values) < 2.0**62)])
    np.testing.assert_array_equal(rf8sim.encode(integers.astype(np.int64), fmt), rf8sim.encode(integers, fmt))
    if not fmt.fits_float32:
        with pytest.raises(ValueError, match="decode with dtype='float64'"):
            rf8sim.decode(codes, fmt)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "posit16_es2", "rf(8,8)", "takum16", "int16"])
def test_stochastic_draws(name: str) -> None:
    """Each draw against the oracle, with given words of 8 and 32 bits."""
    fmt, rng = get_format(name), np.random.default_rng(2)
    x = rng.normal(size=300).astype(np.float32) * np.float32(fmt.max if fmt.family == "integer" else 1.0)
    words = rng.integers(0, 1 << 32, 300, dtype=np.uint32)
    for bits in (8, 32):
        got = rf8sim.encode(x, fmt, rounding=rf8sim.Rounding("stochastic", words=words, bits=bits))
        want = [
            reference.round_value(value, fmt, "stochastic", word=word, random_bits=bits)
            for value, word in zip(x.astype(float).tolist(), words.tolist(), strict=True)
        ]
        assert got.tolist() == want


# --- operations ---------------------------------------------------------------------------------------------


def operands(fmt: Format, count: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes of all kinds: at random, of near exponents, and the extremes with everything."""
    rng = np.random.default_rng(seed)
    some = rng.integers(0, 1 << fmt.bits, (3, count))
    near = np.clip(some[0] + rng.integers(-40, 41, count), 0, (1 << fmt.bits) - 1)
    middle, infinite = 1 << (fmt.bits - 1), np.flatnonzero(np.isinf(fmt.values))
    edges = np.concatenate([np.arange(-3, 4) % (1 << fmt.bits), middle + np.arange(-3, 4), infinite, infinite - 1])
    first = np.concatenate([some[0], some[0], np.repeat(edges, edges.size)])
    second = np.concatenate([some[1], near, np.tile(edges, edges.size)])
    third = rng.permutation(np.concatenate([some[2], near, np.repeat(edges, edges.size)]))
    return tuple(column.astype(fmt.code_dtype) for column in (first, second, third))


@pytest.mark.parametrize("name", DTYPES)
def test_operations_of_numpy_and_ml_dtypes(name: str) -> None:
    fmt = get_format(name)
    a, b, _ = operands(fmt, 200_000)
    x, y = a.view(DTYPES[name]), b.view(DTYPES[name])
    with np.errstate(all="ignore"):
        results = {"add": x + y, "subtract": x - y, "multiply": x * y, "divide": x / y, "sqrt": np.sqrt(x)}
        order = (x > y).astype(int) - (x < y) + 2 * (np.isnan(x) | np.isnan(y))
    for operation, wanted in results.items():
        given = (a,) if operation == "sqrt" else (a, b)
        got = getattr(rf8sim, operation)(*given, fmt, rounding="nearest-even/ieee")
        np.testing.assert_array_equal(got, fmt.canonical[wanted.view(np.uint16)], operation)
    np.testing.assert_array_equal(rf8sim.compare(a, b, fmt), order)


def exact(operation: str, numbers: list[reference.Number], mode: str) -> reference.Number:
    if operation == "fma":
        return reference.add(reference.multiply(*numbers[:2]), numbers[2], mode)
    if operation == "subtract":
        return reference.add(numbers[0], -numbers[1], mode)
    if operation == "add":
        return reference.add(*numbers, mode)
    return getattr(reference, operation)(*numbers)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "dlfloat16", "posit16_es1", "rf(8,8)", "int16", "uq(3,7)"])
def test_operations_and_flags_against_the_oracle(name: str) -> None:
    fmt = get_format(name)
    columns = operands(fmt, 12)
    for mode in modes_of(fmt):
        for operation in ("add", "subtract", "multiply", "divide", "fma", "minimum"):
            given = columns if operation == "fma" else columns[:2]
            rows, codes, flags = [], [], []
            for row in zip(*(column.tolist() for column in given), strict=True):
                result = exact(operation, [reference.number(code, fmt) for code in row], mode)
                if operation == "divide" and fmt.sides[0].infinity is None and math.isinf(float(result)):
                    continue  # what a format without infinity gives is in `test_arithmetic`
                if fmt.nan is None and math.isnan(float(result)):
                    continue
                code, raised = reference.round_with_flags(result, fmt, mode)
                if operation == "minimum" and math.isinf(float(result)):
                    code, raised = int(np.flatnonzero(fmt.values == float(result))[0]), 0
                rows.append(row), codes.append(code), flags.append(raised)
            arrays = np.array(rows, dtype=fmt.code_dtype).T
            got, raised = getattr(rf8sim, operation)(*arrays, fmt, rounding=mode, flags=True)
            assert got.tolist() == codes, (mode, operation)
            assert (raised & 7).tolist() == flags, (mode, operation)
            assert getattr(rf8sim, operation)(*arrays, fmt, rounding=mode).tolist() == codes, (mode, operation)


@pytest.mark.parametrize("name", [*WIDE, *OTHERS])
def test_the_kernel_is_the_slower_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where float32 decides, results of the kernel are those rounded from float64 in every bit; so are quotients."""
    fmt = get_format(name)
    columns, fused = operands(fmt, 3_000), arithmetic._fused
    divisible = tuple(column[(fmt.values[columns[1]] != 0) | (fmt.nan is not None)] for column in columns[:2])
    used: dict[str, set[bool]] = {}

    def counted(*arguments: object) -> bool:
        fast = fused(*arguments)
        used.setdefault(operation, set()).add(fast)
        return fast

    for mode in modes_of(fmt):
        for overflow in overflows_of(fmt):
            rounding = rf8sim.Rounding(mode, overflow)
            for operation in ("add", "subtract", "multiply", "fma", "divide"):
                given = {"fma": columns, "divide": divisible}.get(operation, columns[:2])
                monkeypatch.setattr(arithmetic, "_fused", counted)
                fast = getattr(rf8sim, operation)(*given, fmt, rounding=rounding)
                monkeypatch.setattr(arithmetic, "_fused", lambda *_: False)
                np.testing.assert_array_equal(fast, getattr(rf8sim, operation)(*given, fmt, rounding=rounding))
    decided = {float32_decides(fmt, rf8sim.RoundingMode(mode)) for mode in modes_of(fmt)}
    assert {operation: fast for operation, fast in used.items() if operation != "divide"} == dict.fromkeys(
        ("add", "subtract", "multiply", "fma"), decided
    )
    assert True in used["divide"]


@pytest.mark.parametrize(
    "name", ["float16", "bfloat16", "dlfloat16", "posit16_es1", "posit16_es2", "takum16", "rf(8,8)"]
)
def test_quotients_next_to_thresholds_against_the_oracle(name: str) -> None:
    """Dividends next to a divisor times a threshold, so that the quotient is as close to it as two values allow."""
    fmt, rng = get_format(name), np.random.default_rng(9)
    order = np.argsort(fmt.values[np.isfinite(fmt.values)], kind="stable")
    codes = np.flatnonzero(np.isfinite(fmt.values))[order].astype(fmt.code_dtype)
    values = fmt.values[codes]
    for mode in modes_of(fmt):
        points = place(fmt, rf8sim.RoundingMode(mode), False).nearest
        wanted = rng.choice(points[np.isfinite(points)], 60) * rng.choice([-1, 1], 60)
        b = rng.choice(codes[values != 0], 60)
        near = np.searchsorted(values, wanted * fmt.values[b])
        a = codes[np.clip(near[:, None] + [-1, 0, 1], 0, codes.size - 1)].ravel()
        b = np.repeat(b, 3)
        some = operands(fmt, 20)
        a, b = np.concatenate([a, some[0][:200]]), np.concatenate([b, some[1][:200]])
        for overflow in overflows_of(fmt):
            expected = []
            for pair in zip(a.tolist(), b.tolist(), strict=True):
                x, y = (reference.number(code, fmt) for code in pair)
                quotient = reference.divide(x, y)
                if fmt.sides[0].infinity is None and y == 0 and x == x:  # without infinities x / 0 is NaN
                    expected.append(fmt.nan)
                else:
                    expected.append(reference.round_with_flags(quotient, fmt, mode, overflow)[0])
            assert rf8sim.divide(a, b, fmt, rounding=rf8sim.Rounding(mode, overflow)).tolist() == expected, mode


def test_quotients_a_trillionth_from_a_threshold() -> None:
    """Thresholds of takum16 have 53 bits: these quotients are nearer to one than 2**-39 of it."""
    fmt = get_format("takum16")
    pairs = [(2195, 9956), (7944, 23161), (11759, 8476), (19678, 15167), (12049, 9060), (27220, 8542)]
    expected = [
        reference.round_with_flags(reference.divide(*(reference.number(code, fmt) for code in pair)), fmt)[0]
        for pair in pairs
    ]
    assert expected == [2455, 6731, 23260, 20286, 22820, 28092]
    a, b = np.array(pairs, dtype=np.uint16).T
    assert rf8sim.divide(a, b, fmt).tolist() == expected
    assert rf8sim.divide(rf8sim.negate(a, fmt), b, fmt).tolist() == rf8sim.negate(expected, fmt).tolist()


@pytest.mark.parametrize("above", [False, True])
def test_a_quotient_that_float64_rounds_to_a_threshold(above: bool) -> None:
    """The midpoint of two values of 24 bits each is the quotient rounded to 53 bits, and not the exact one."""
    rng = np.random.default_rng(3)
    while True:
        n, m = (int(i) for i in rng.integers(1 << 23, 1 << 24, 2))
        midpoint = n / m
        bits = int(math.ldexp(math.frexp(midpoint)[0], 53))
        odd_side = (Fraction(n, m) > Fraction(midpoint)) == above
        if odd_side and Fraction(n, m) != Fraction(midpoint) and 0 < bits % (1 << 29) < 1 << 24:
            break
    low = math.ldexp(bits % (1 << 29), math.frexp(midpoint)[1] - 53)
    values = [0.0, 2 * low, 2 * (midpoint - low), 16.0] if not above else [2 * low, 2 * (midpoint - low), 16.0, 32.0]
    into = Format("close", 2, "integer", "two values with a midpoint of 53 bits", np.array(values), beyond=64.0)
    integers = np.arange(512.0)
    integers[510:] = n, m
    wide = Format("wide", 9, "integer", "integers", integers, beyond=2.0**24)
    got = rf8sim.divide([510], [511], (wide, wide), result=into)
    assert got.tolist() == [reference.round_with_flags(Fraction(n, m), into)[0]]
    assert got.tolist() == [1]  # a tie would go the other way, to the even rank


def test_what_share_memory_is_read_first() -> None:
    a, b, _ = operands(get_format("float16"), 500)
    wanted, flags = rf8sim.add(a, b, "float16", flags=True)
    place_of_a = a.copy()
    got, raised = rf8sim.add(place_of_a, b, "float16", flags=True, out=place_of_a)
    assert got is place_of_a
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(raised, flags)


def test_stochastic_operations() -> None:
    fmt, rng = get_format("bfloat16"), np.random.default_rng(8)
    a, b = (rf8sim.encode(rng.normal(size=200), fmt) for _ in range(2))
    words = rng.integers(0, 1 << 32, 200, dtype=np.uint32)
    got = rf8sim.divide(a, b, fmt, rounding=rf8sim.Rounding("stochastic", words=words))
    for i, code in enumerate(got.tolist()):
        quotient = reference.divide(reference.number(int(a[i]), fmt), reference.number(int(b[i]), fmt))
        assert code == reference.round_with_flags(quotient, fmt, "stochastic", word=int(words[i]))[0]


# --- products, quantization ---------------------------------------------------------------------------------


def test_products_of_matrices() -> None:
    rng = np.random.default_rng(4)
    for name in ("float16", "bfloat16", "posit16_es2", "int16"):
        fmt = get_format(name)
        a, b = (rf8sim.encode(rng.normal(size=shape) * 50, fmt) for shape in ((3, 40), (40, 2)))
        x, y = (fmt.values[codes] for codes in (a, b))
        wanted = [
            [sum(Fraction(p) * Fraction(q) for p, q in zip(row, column, strict=True)) for column in y.T] for row in x
        ]
        np.testing.assert_array_equal(rf8sim.matmul(a, b, fmt), np.array(wanted, dtype=float))
        codes = rf8sim.matmul(a, b, fmt, result=fmt)
        assert codes.tolist() == [[reference.round_value(total, fmt) for total in row] for row in wanted]


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("rounding", ["nearest-even", "down", "stochastic"])
def test_a_format_accumulates_as_its_layout(name: str, rounding: str) -> None:
    """Sums into a table of 65,536 values are those into a float of the same name."""
    rng = np.random.default_rng(4)
    a, b = (rf8sim.encode(rng.normal(size=shape), "e4m3fn") for shape in ((4, 60), (60, 5)))
    results = [
        rf8sim.matmul(a, b, "e4m3fn", accumulator=rf8sim.Accumulation(into, rounding=rounding))
        for into in (name, get_format(name))
    ]
    if rounding == "stochastic":  # 24 bits of a word are compared in either way
        assert np.mean(results[0] == results[1]) > 0.9
    else:
        np.testing.assert_array_equal(*results)


def test_quantization_and_its_error() -> None:
    x = np.random.default_rng(6).normal(size=(64, 96)).astype(np.float32)
    for name, dtype in DTYPES.items():
        quantized = rf8sim.quantize(x, rf8sim.Scheme(name, None))
        np.testing.assert_array_equal(quantized.dequantize(), x.astype(dtype).astype(np.float32))
        error = rf8sim.measure(x, quantized)
        assert error.code_counts.shape == (65536,)
        assert error.code_counts.sum() == x.size
        off = x.astype(float) - x.astype(dtype).astype(float)
        assert error.sqnr_db == pytest.approx(10 * math.log10(np.sum(x.astype(float) ** 2) / np.sum(off**2)))
        assert quantized.bits_per_weight == 16
    scaled = rf8sim.quantize(x, "int16/channel")
    assert rf8sim.measure(x, scaled).sqnr_db > 90


@pytest.mark.torch
def test_fake_quantization_is_the_codec() -> None:
    torch = pytest.importorskip("torch")
    from rf8sim.torch import fake_quantize

    x = float32_patterns(3, 5_000)
    x = x[np.isfinite(x)]
    for name in ("float16", "bfloat16", "posit16_es2"):
        rounded = fake_quantize(torch.from_numpy(x), f"{name}/none").numpy()
        np.testing.assert_array_equal(rounded, rf8sim.decode(rf8sim.encode(x, name), name))


# --- what is not there says so ------------------------------------------------------------------------------


def test_what_takes_8_bits_refuses_more() -> None:
    refused = {
        "tables are of formats of at most 8 bits": lambda: arithmetic.operation_table("add", "float16"),
        "scale rule 'ggd' is for formats of at most 8 bits": lambda: rf8sim.as_scheme("float16/channel,ggd"),
    }
    for message, call in refused.items():
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match="codes of int4 run from 0 to 15, got 16 to 16"):
        rf8sim.decode(np.array([16], np.uint16), "int4")
    with pytest.raises(ValueError, match="out must be a writable uint16 array"):
        rf8sim.encode(np.ones(3), "float16", out=np.zeros(3, np.uint8))

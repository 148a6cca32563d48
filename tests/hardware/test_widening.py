"""Wide results, mixed operands, scales and accumulators: right by rational arithmetic written from IEEE 754."""

import io
import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

import rf8sim
from rf8sim import Rounding, reference
from rf8sim.formats import get_format, get_layout
from rf8sim.hardware.golden.floats import round_to_layout
from rf8sim.hardware.golden.golden import golden
from rf8sim.hardware.golden.ports import Bits, unsigned
from rf8sim.hardware.vectors.vectors import vectors
from rf8sim.hardware.verdict.verify import verify

MODES = ("nearest-even", "nearest-away", "toward-zero", "up", "down", "to-odd")
OVERFLOWS = ("saturate", "propagate", "ieee", "infinity", "nan")
LAYOUTS = ("float32", "tf32", "e8m13", "e5m12", "e10m20")
INEXACT, UNDERFLOW, OVERFLOW, INVALID = 1, 2, 4, 16


# --- IEEE 754-2019 in integers ----------------------------------------------------------------------------------------


def integer_of(x, mode, negative):
    """Round a rational number, without sign, to an integer (section 4.3)."""
    low = x.numerator // x.denominator
    rest = x - low
    upper = {
        "nearest-even": rest > Fraction(1, 2) or (rest == Fraction(1, 2) and low % 2),
        "nearest-away": rest >= Fraction(1, 2),
        "toward-zero": False,
        "up": rest > 0 and not negative,
        "down": rest > 0 and negative,
        "to-odd": rest > 0 and low % 2 == 0,
    }[mode]
    return low + bool(upper), rest != 0, rest == Fraction(1, 2)


def exponent_of(x):
    """The exponent of the leading bit."""
    guess = x.numerator.bit_length() - x.denominator.bit_length()
    return guess if Fraction(2) ** guess <= x else guess - 1


def rounded(x, layout, mode, overflow, after=False):
    """The pattern and the flags of an exact result, and whether it is a tie."""
    e, m = layout.exponent_bits, layout.mantissa_bits
    bias, top = (1 << (e - 1)) - 1, ((1 << e) - 1) << m
    nan, sign = top | 1 << (m - 1), 1 << (e + m)
    if isinstance(x, float) and math.isnan(x):
        return nan, 0, False
    negative = math.copysign(1, x) < 0 if isinstance(x, float) else x < 0
    inward = mode == "toward-zero" or mode == ("up" if negative else "down")
    infinite = isinstance(x, float) and math.isinf(x)
    beyond = {"saturate": top - 1, "propagate": top if infinite else top - 1, "infinity": top, "nan": nan,
              "ieee": top - 1 if inward and not infinite else top}[overflow]  # fmt: skip
    signed = sign * negative if beyond != nan else 0
    if infinite:
        return signed | beyond, 0 if beyond == top else INEXACT | OVERFLOW, False
    x = abs(Fraction(x))
    if x == 0:
        return sign * negative, 0, False
    exponent = max(exponent_of(x), 1 - bias)
    whole, inexact, tie = integer_of(x / Fraction(2) ** (exponent - m), mode, negative)
    pattern = (exponent + bias - 1 << m) + whole
    if pattern >= top:
        return signed | beyond, INEXACT | OVERFLOW, tie
    tiny = x < Fraction(2) ** (1 - bias)
    if after and tiny:
        own = exponent_of(x)
        tiny = integer_of(x / Fraction(2) ** (own - m), mode, negative)[0] * Fraction(2) ** (own - m) < Fraction(2) ** (
            1 - bias
        )
    return sign * negative | pattern, INEXACT * inexact | UNDERFLOW * (inexact and tiny), tie


# --- rounding alone ---------------------------------------------------------------------------------------------------


def numbers_at_boundaries(layout):
    """Numbers, midpoints and what lies beside them, at every kind of exponent."""
    rng = np.random.default_rng(layout.bits)
    edges = [0, 1, 2, layout.mantissa_mask, layout.mantissa_mask + 1, layout.largest_pattern - 1, layout.infinity - 1]
    drawn = rng.integers(0, layout.infinity - 1, 40).tolist()
    values = layout.values(np.array(edges + drawn, np.uint64)).tolist()
    above = layout.values(np.array([min(p + 1, layout.infinity - 1) for p in edges + drawn], np.uint64)).tolist()
    points = [*values, *((low + high) / 2 for low, high in zip(values, above, strict=True))]
    points += [2 * layout.max, layout.max * (1 + 2.0 ** -(layout.mantissa_bits + 2)), layout.smallest_subnormal / 4]
    normal = layout.smallest_normal
    points += [math.nextafter(normal, 0), normal * (1 - 2.0 ** -(layout.mantissa_bits + 2))]
    beside = [math.nextafter(x, by) for x in points for by in (0.0, math.inf)]
    every = [*points, *beside, math.inf, math.nan]
    return np.array([*every, *(-x for x in every)])


@pytest.mark.parametrize("name", LAYOUTS)
def test_floats_are_rounded_as_ieee_754_says(name):
    layout = get_layout(name)
    values = numbers_at_boundaries(layout)
    choices = [*product(MODES, ["ieee"]), *product(["nearest-even", "up"], OVERFLOWS)]
    for (mode, overflow), after in product(choices, (False, True)):
        got = round_to_layout(values, layout, Rounding(mode, overflow), tiny_after=after)
        for x, *answer in zip(
            values.tolist(), got.patterns.tolist(), got.flags.tolist(), got.ties.tolist(), strict=True
        ):
            pattern, flags, tie = rounded(x, layout, mode, overflow, after)
            assert answer == [pattern, flags, tie], (name, mode, overflow, after, x.hex())


# --- operations -------------------------------------------------------------------------------------------------------


def drawn_operands(model, seed, count):
    """Any patterns; where an operand is a float, mostly numbers about as large as the products."""
    rng = np.random.default_rng(seed)
    operands = []
    for port in model.operands:
        shape = (count, port.lanes) if port.lanes > 1 else (count,)
        patterns = rng.integers(0, 1 << port.kind.bits, shape, dtype=np.uint64)
        layout = getattr(port.kind, "layout", None)
        if layout is not None:
            field = rng.integers(layout.bias - 12, layout.bias + 12, shape).astype(np.uint64) << np.uint64(
                layout.mantissa_bits
            )
            small = (patterns & np.uint64(layout.sign_mask | layout.mantissa_mask)) | field
            any_pattern = np.arange(count).reshape(-1, *[1] * (len(shape) - 1)) % 8 == 0
            patterns = np.where(any_pattern, patterns, small)
        operands.append(patterns.astype(unsigned(port.kind.bits)))
    return operands


def exact_number(operation, mode, n):
    """The exact result of one vector, from the numbers of its operands by name."""
    a, b = n["a"], n.get("b", [0.0])
    add, multiply = reference.add, reference.multiply
    match operation.partition(":")[0]:
        case "add":
            return add(a[0], b[0], mode)
        case "subtract":
            return add(a[0], -b[0], mode)
        case "multiply":
            return multiply(a[0], b[0])
        case "divide":
            return reference.divide(a[0], b[0])
        case "sqrt":
            return reference.sqrt(a[0])
        case "minimum":
            return reference.minimum(a[0], b[0])
        case "maximum":
            return reference.maximum(a[0], b[0])
        case "fma":
            return add(multiply(a[0], b[0]), n["c"][0], mode)
        case "convert":
            return a[0]
    total = 0.0
    scale = multiply(n["scale_a"][0], n["scale_b"][0]) if "scale_a" in n else Fraction(1)
    for x, y in zip(a, b, strict=True):
        total = add(total, multiply(multiply(x, y), scale))
    return add(total, n["c"][0]) if "c" in n else total


def numbers_of(model, operands, row):
    return {
        port.name: [port.kind.number(int(lane)) for lane in np.atleast_1d(patterns[row])]
        for port, patterns in zip(model.operands, operands, strict=True)
        if not isinstance(port.kind, Bits)
    }


def check(operation, fmt, mode="nearest-even", overflow=None, count=40, **options):
    """Some vectors of an operation, against the oracle."""
    rounding = mode if overflow is None else Rounding(mode, overflow)
    rounding = options.pop("rounding", rounding)
    model = golden(operation, fmt, rounding=rounding, **options)
    operands = drawn_operands(model, count, count)
    answers, _ = model.compute(operands)
    kind = model.result.kind
    for row in range(count):
        numbers = numbers_of(model, operands, row)
        exact = exact_number(operation, mode, numbers)
        nans = any(isinstance(x, float) and math.isnan(x) for lanes in numbers.values() for x in lanes)
        flags = INVALID * (isinstance(exact, float) and math.isnan(exact) and not nans)
        if operation == "divide" and not nans and numbers["b"][0] == 0 and abs(numbers["a"][0]) not in (0, math.inf):
            flags = 8
        after = options.get("tininess") == "after"
        if model.into is None:
            pattern, raised, tie = rounded(exact, kind.layout, mode, model.rounding.overflow, after)
            assert bool(answers.ties[row]) == tie
        else:
            kept = operation in ("minimum", "maximum") and np.isinf(model.into.values).any()  # an infinity stays one
            overflow = "propagate" if kept else model.rounding.overflow
            pattern, raised = reference.round_with_flags(exact, model.into, mode, overflow)
        got = int(answers.results[row]), int(answers.flags[row])
        assert got == (pattern, raised | flags), (operation, fmt, mode, row, numbers)


WIDENED = [
    ("dot:4", "e4m3fn", "float32"), ("dot:4", ("e4m3fn", "e5m2"), "tf32"), ("multiply", "e4m3fn", "bfloat16"),
    ("multiply", ("e4m3fn", "e5m2"), "float16"), ("multiply", "float16", "float32"), ("add", "bfloat16", "tf32"),
    ("subtract", "float16", "e8m13"), ("divide", "e4m3fn", "float32"), ("divide", "float16", "float32"),
    ("fma", ("e4m3fn", "e4m3fn", "float32"), "float32"), ("fma", ("e4m3fn", "e5m2", "bfloat16"), "bfloat16"),
    ("fma", ("rf8", "int8", "int32"), "float32"), ("fma", ("float16", "float16", "float32"), "float32"),
    ("fma", ("bfloat16", "bfloat16", "e8m13"), "tf32"), ("dot:3", ("rf8", "int8", "float32"), "float32"),
    ("sqrt", "float16", "float32"), ("sqrt", "rf8", "tf32"), ("convert", "float32", "tf32"),
    ("block_dot:4", "e2m1fn", "float32"), ("block_dot:3", ("e4m3fn", "e5m2", "float32"), "float32"),
    ("add", "float32", "float32"), ("subtract", ("float32", "tf32"), "e8m13"), ("multiply", "float32", "float32"),
    ("multiply", ("e4m3fn", "float32"), "tf32"), ("divide", "float32", "float32"),
    ("divide", ("e9m20", "e5m12"), "e10m20"),
    ("fma", "float32", "float32"), ("fma", ("tf32", "rf8", "e8m13"), "float32"), ("sqrt", "float32", "float32"),
    ("dot:3", "tf32", "float32"), ("dot:2", ("e4m3fn", "float32", "float32"), "tf32"),
    ("block_dot:2", "float32", "float32"),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "fmt", "result"), WIDENED, ids=lambda x: str(x))
def test_widened_results_are_the_oracle_in_every_mode(operation, fmt, result):
    for mode in MODES:
        check(operation, fmt, mode, result=result)
    for overflow in ("saturate", "ieee"):
        check(operation, fmt, "up", overflow, result=result, count=30)


@pytest.mark.parametrize(
    ("operation", "fmt", "result"),
    [
        ("convert", "float32", "e4m3fn"), ("convert", "int32", "float16"), ("convert", "e5m2", "rf8"),
        ("convert", "bfloat16", "e4m3fn"), ("sqrt", "float16", "float16"), ("sqrt", "rf8", "rf8"),
        ("maximum", ("e5m2", "e4m3fn"), "e5m2"), ("dot:1", "rf8", "rf8"),
        ("add", "float32", "bfloat16"), ("multiply", ("float32", "rf8"), "rf8"), ("divide", "tf32", "float16"),
        ("sqrt", "float32", "e4m3fn"), ("fma", "float32", "bfloat16"), ("minimum", ("float32", "tf32"), "e5m2"),
        ("dot:3", "float32", "float16"),
        ("block_dot:4", "e4m3fn", "bfloat16"),
    ],
)  # fmt: skip
def test_operations_into_formats_are_the_oracle(operation, fmt, result):
    for mode in MODES:
        check(operation, fmt, mode, result=result)


def test_an_extreme_of_one_format_is_an_operand():
    for operation in ("minimum", "maximum"):
        check(operation, "float16", rounding=None, count=300)
        check(operation, "e5m2", rounding=None, count=300)
    with pytest.raises(ValueError, match="`rounding` changes nothing: a result in e5m2 is exact"):
        golden("minimum", "e5m2", rounding="up")


def test_scales_of_e4m3_are_operands():
    check("block_dot:4", "e2m1fn", result="float32", scale="e4m3fn")
    check("block_dot:4", "e4m3fn", result="float32", scale=("e4m3fn", "e8m0fnu"))


def test_comparisons():
    model = golden("compare", "e5m2")
    a, b = (rf8sim.encode(x, "e5m2") for x in ([1.0, 2.0, -0.0, np.nan, np.inf], [2.0, 1.0, 0.0, 1.0, np.inf]))
    assert model.compute([a, b])[0].results.tolist() == [1, 4, 2, 8, 2]
    assert model.result.bits == 4


def test_integer_sums_wrap():
    """``rf8`` times ``int8`` plus a sum in units of the products, and ``int8`` twice plus ``int32``."""
    for fmt, result, unit in (
        (("rf8", "int8", "fixed:13.19"), "fixed:13.19", 19),
        (("int8", "int8", "int32"), "int32", 0),
    ):
        model = golden("fma", fmt, result=result)
        a, b, c = operands = drawn_operands(model, 7, 4000)
        assert model.result.kind.name == "fixed:13.19" if unit else "fixed:32.0"
        values = [get_format(name).values[codes] for name, codes in zip(fmt[:2], (a, b), strict=True)]
        products = np.nan_to_num(values[0] * values[1]) * 2**unit
        expected = (products.astype(np.int64) + c.view(np.int32)) & 0xFFFFFFFF
        nan = np.isnan(values[0])
        np.testing.assert_array_equal(model.compute(operands)[0].results, np.where(nan, 0, expected))


# --- accumulators -----------------------------------------------------------------------------------------------------

ACCUMULATORS = [
    ("dot:8", "e4m3fn", "float32"), ("dot:8", ("e4m3fn", "e5m2"), "hopper-fp8"), ("dot:5", "int8", "int:16"),
    ("dot:5", "int8", "int:16:wrap"), ("dot:5", "rf8", rf8sim.Accumulation("float16", order="pairwise")),
    ("dot:8", "e4m3fn", rf8sim.Accumulation("bfloat16", order="blocked:4")), ("dot:6", "float16", "aligned:24:4"),
    ("dot:4", "rf8", "rf8"),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "fmt", "accumulator"), ACCUMULATORS, ids=str)
def test_sums_are_those_of_the_library(operation, fmt, accumulator):
    model = golden(operation, fmt, accumulator=accumulator)
    a, b = drawn_operands(model, 3, 60)
    answers, _ = model.compute([a, b])
    for row, pattern in enumerate(answers.results):
        value = float(rf8sim.dot(a[row], b[row], fmt, accumulator=accumulator))
        number = float(model.result.kind.values(np.array([pattern]))[0])
        assert number == value or (math.isnan(number) and math.isnan(value)), row


def test_sums_start_from_an_addend():
    """In sequence in float32: numpy's own additions of exact products."""
    model = golden("dot:4", ("e4m3fn", "e4m3fn", "float32"), accumulator="float32")
    a, b, c = drawn_operands(model, 5, 300)
    values = get_format("e4m3fn").values.astype(np.float32)
    with np.errstate(all="ignore"):
        total = c.view(np.float32)
        for lane in range(4):
            total = total + values[a[:, lane]] * values[b[:, lane]]
    got = model.compute([a, b, c])[0].results.view(np.float32)
    np.testing.assert_array_equal(got, total)


def test_scaled_sums_of_an_accumulator():
    """The block is summed in float32, its sum times both scales is rounded once."""
    model = golden("block_dot:4", "e4m3fn", accumulator="float32", result="bfloat16")
    a, b, scale_a, scale_b = drawn_operands(model, 6, 100)
    scale_a, scale_b = ((scale % 20 + 117).astype(np.uint8) for scale in (scale_a, scale_b))
    answers, _ = model.compute([a, b, scale_a, scale_b])
    for row, code in enumerate(answers.results.tolist()):
        total = float(rf8sim.dot(a[row], b[row], "e4m3fn", accumulator="float32"))
        scaled = (
            total
            if math.isnan(total)
            else Fraction(total) * Fraction(2) ** (int(scale_a[row]) + int(scale_b[row]) - 254)
        )
        assert code == reference.round_value(scaled, "bfloat16"), row


# --- conventions ------------------------------------------------------------------------------------------------------


def converted(x, result, **options):
    model = golden("convert", "float32", result=result, **options)
    answers, _ = model.compute([np.array([x], np.float32).view(np.uint32)])
    return int(answers.results[0])


def test_a_profile_is_overflow_and_nan():
    cases = {"riscv": (0x7F, 0x7F, 0x7E00), "cuda": (0x7F, 0x7F, 0x7FFF), "ocp": (0x7F, 0x7E, 0x7E00)}
    for profile, patterns in cases.items():
        got = tuple(converted(np.nan, result, profile=profile) for result in ("e4m3fn", "e5m2", "float16"))
        assert got == patterns, profile
    assert [converted(1e6, "e4m3fn", profile=profile) for profile in ("riscv", "cuda", "ocp")] == [0x7F, 0x7F, 0x7E]
    assert converted(1e6, "e5m2", profile="riscv") == 0x7C
    assert converted(1e6, "e5m2", profile="riscv", rounding="nearest-even/saturate") == 0x7B
    model = golden("convert", "float32", result="binary8p4se", profile="p3109")
    assert int(model.compute([np.array([np.nan], np.float32).view(np.uint32)])[0].results[0]) == 0x80
    cuda = golden("fma", ("e4m3fn", "e4m3fn", "float32"), result="float32", profile="cuda")
    nan = [np.array([0x7F], np.uint8), np.array([0], np.uint8), np.array([0], np.uint32)]
    assert int(cuda.compute(nan)[0].results[0]) == 0x7FFFFFFF


@pytest.mark.parametrize(("fmt", "result"), [("e4m3fn", "e4m3fn"), ("float16", "float16"), ("e5m2", "e5m2")])
def test_tininess_after_rounding(fmt, result):
    """Underflow is raised where the result, rounded as though exponents had no bound, is below the smallest normal."""
    layout = get_layout(result)
    for mode in MODES:
        before, after = (golden("multiply", fmt, rounding=mode, tininess=when) for when in ("before", "after"))
        rng = np.random.default_rng(1)
        a, b = (
            rng.integers(0, 1 << before.operands[0].bits, 1 << 15).astype(unsigned(before.operands[0].bits))
            for _ in "ab"
        )
        first, second = (model.compute([a, b])[0] for model in (before, after))
        np.testing.assert_array_equal(first.results, second.results)
        with np.errstate(invalid="ignore"):
            products = get_format(fmt).values[a] * get_format(fmt).values[b]
        places = np.flatnonzero((first.flags & UNDERFLOW) != 0)
        cleared = first.flags != second.flags
        assert np.all((first.flags ^ second.flags)[cleared] == UNDERFLOW)
        for place in places[:: max(places.size // 100, 1)].tolist() + np.flatnonzero(cleared)[:50].tolist():
            x = Fraction(products[place])
            own = exponent_of(abs(x))
            unit = Fraction(2) ** (own - layout.mantissa_bits)
            tiny = integer_of(abs(x) / unit, mode, x < 0)[0] * unit < Fraction(2) ** layout.emin
            assert bool(second.flags[place] & UNDERFLOW) == tiny, (mode, place)


@pytest.mark.parametrize("result", ["float32", "tf32", "e8m13"])
def test_tininess_of_a_float_beside_its_smallest_normal_number(result):
    """What rounds up to it in full precision is tiny before rounding alone; what is exact there is tiny after too."""
    layout = get_layout(result)
    shares = np.array([1 - 2.0 ** -(layout.mantissa_bits + 3), 1 - 2.0 ** -(layout.mantissa_bits + 1)])
    patterns = (layout.smallest_normal * np.concatenate([shares, -shares])).view(np.uint64)
    for mode, after in (("nearest-even", [1, 3, 1, 3]), ("toward-zero", [3] * 4), ("up", [1, 3, 3, 3])):
        for tininess, flags in (("before", [3] * 4), ("after", after)):
            model = golden("convert", "float64", result=result, rounding=mode, tininess=tininess)
            assert model.compute([patterns])[0].flags.tolist() == flags, (mode, tininess)


def test_signalling_nans_raise_invalid():
    for fmt, signalling, quiet in (("e5m2", 0x7D, 0x7E), ("float16", 0x7C01, 0x7E00), ("e4m3", 0x79, 0x7C)):
        for operation in ("add", "multiply", "minimum", "compare"):
            model = golden(operation, fmt, signalling="invalid")
            one = rf8sim.encode([1.0, 1.0], fmt)
            flags = model.compute([np.array([signalling, quiet], one.dtype), one])[0].flags
            assert flags.tolist() == [INVALID, 0], (fmt, operation)
            usual = golden(operation, fmt).compute([np.array([signalling, quiet], one.dtype), one])[0].flags
            assert usual.tolist() == [0, 0]


# --- cases that others met --------------------------------------------------------------------------------------------


def test_saturating_conversions_to_e4m3():
    """ucb-bar/saturn-vectors 101: 672 and 448512 saturate alike, and overflow follows the rounding mode."""
    assert [converted(x, "e4m3fn", rounding="nearest-even/saturate") for x in (672.0, 448512.0)] == [0x7E, 0x7E]
    assert converted(672.0, "e4m3fn", profile="riscv") == 0x7F
    assert converted(672.0, "e4m3fn", profile="riscv", rounding="toward-zero") == 0x7E


def test_a_bfloat16_beyond_e4m3_toward_zero():
    """riscv-isa-sim 2284: 0x5BF8 in bfloat16, toward zero and not saturating, is the largest number."""
    x = np.array([0x5BF8], np.uint16)
    for mode, code in (("toward-zero", 0x7E), ("nearest-even", 0x7F)):
        model = golden("convert", "bfloat16", result="e4m3fn", profile="riscv", rounding=mode)
        assert int(model.compute([x])[0].results[0]) == code


def test_the_canonical_nan_of_e5m2():
    """riscv-isa-sim 2268: the mantissa is all ones."""
    model = golden("add", "e5m2", profile="riscv")
    infinities = np.array([0x7C], np.uint8), np.array([0xFC], np.uint8)
    answers, _ = model.compute(infinities)
    assert (int(answers.results[0]), int(answers.flags[0])) == (0x7F, INVALID)


def test_hopper_keeps_14_bits():
    """DeepGEMM 37, DeepSeek-V3 197: a product is lost 14 bits below the largest, though float32 would hold the sum."""
    fmt, tests = "e4m3fn", ((448.0, 2.0**-4, 0.0), (448.0, 2.0**-5, 0.0), (448.0, 7.5, 7.5))
    for large, small, kept in tests:
        a, b = np.zeros((1, 32), np.uint8), np.full((1, 32), 0x38, np.uint8)
        a[0, :2] = rf8sim.encode([large, small], fmt)
        engine, wide = (golden("dot:32", fmt, accumulator=name, result="float32") for name in ("hopper-fp8", "float32"))
        results = [float(model.compute([a, b])[0].results.view(np.float32)[0]) for model in (engine, wide)]
        floor = math.floor(small * 32) / 32  # 13 bits below 256
        assert results == [large + (kept or floor), large + small]


def test_a_scaled_dot_product_with_an_addend():
    """cvfpu 17 (MXDOTP): products of a block, times both E8M0 scales, plus float32, rounded once."""
    model = golden("block_dot:8", ("e5m2", "e5m2", "float32"), result="float32")
    a = rf8sim.encode([[1.5] * 8], "e5m2")
    b = rf8sim.encode([[2.0, -2.0, 1.0, 0.25, 0, 0, 0, 0]], "e5m2")
    scales = [np.array([127 + shift], np.uint8) for shift in (3, -20)]
    c = np.array([1.0], np.float32)
    answers, _ = model.compute([a, b, *scales, c.view(np.uint32)])
    assert answers.results.view(np.float32)[0] == np.float32(1 + 1.875 * 2.0**-17)


# --- where faults live ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "fmt", "result"),
    [
        ("fma", ("e4m3fn", "e4m3fn", "float32"), "float32"), ("dot:4", "e4m3fn", "float32"),
        ("dot:4", ("e4m3fn", "e5m2", "float32"), "tf32"), ("block_dot:4", "e2m1fn", "e4m3fn"),
    ],
)  # fmt: skip
def test_classes_are_what_they_are_called(operation, fmt, result):
    asked = vectors(operation, fmt, result=result, n=0)
    start, checked = 0, 0
    for name, size in asked.classes.items():
        operands = [column[start : start + size] for column in asked.operands]
        answers, _ = asked.model.compute(operands)
        start += size
        if name.startswith("ties"):
            assert answers.ties.all()
            checked += size
        if name.startswith("near ties"):
            assert np.mean(answers.ties) < 0.2
        if name == ("cancellation" if operation == "fma" else "cancellation with c"):
            values = asked.model.result.kind.values(answers.results)
            addend = asked.model.operands[-1].kind.values(operands[-1])
            assert np.mean(np.abs(values) < np.abs(addend) / 1024) > 0.9
    assert checked > 300
    again = vectors(operation, fmt, result=result, n=100, seed=3)
    np.testing.assert_array_equal(again.results, vectors(operation, fmt, result=result, n=100, seed=3).results)
    assert len(vectors(operation, fmt, result=result, n=0, level=2)) > len(asked)


@pytest.mark.parametrize(
    ("operation", "options"),
    [
        ("dot:4", {"fmt": ("e4m3fn", "e5m2", "float32"), "result": "float32"}), ("compare", {"fmt": "rf6"}),
        ("block_dot:4", {"fmt": "e2m1fn", "result": "float32"}), ("sqrt", {"fmt": "rf8"}),
        ("convert", {"fmt": "float32", "result": "tf32"}), ("dot:8", {"fmt": "e4m3fn", "accumulator": "hopper-fp8"}),
        ("fma", {"fmt": ("int8", "int8", "int32"), "result": "int32"}),
    ],
)  # fmt: skip
def test_a_verdict_sees_one_wrong_bit(operation, options):
    asked = vectors(operation, n=50, **options)
    lines = b"".join(asked.text(flags=False)).splitlines()
    assert verify(asked, io.BytesIO(b"\n".join(lines) + b"\n")).passed
    *operands, result = lines[-7].split()
    lines[-7] = b" ".join([*operands, b"%0*X" % (len(result), int(result, 16) ^ 1)])
    verdict = verify(asked, io.BytesIO(b"\n".join(lines) + b"\n"))
    assert (verdict.passed, verdict.wrong_results) == (False, 1)


SOFTFLOAT = {"nearest-even": "NEAR_EVEN", "nearest-away": "NEAR_MAX_MAG", "toward-zero": "MIN_MAG", "up": "MAX",
             "down": "MIN"}  # fmt: skip


@pytest.mark.parametrize("tininess", ["before", "after"])
@pytest.mark.parametrize(
    ("operation", "fmt", "result"),
    [
        ("fma", ("float16", "float16", "float32"), "float32"), ("divide", "float16", "float32"),
        ("add", "bfloat16", "float32"), ("sqrt", "float16", "float32"), ("fma", "float16", "float16"),
        ("divide", "float16", "float16"), ("multiply", "float16", "float16"),
    ],
)  # fmt: skip
def test_softfloat_agrees(operation, fmt, result, tininess):
    """Berkeley SoftFloat: float16 and float32 results, with flags, in the modes that its Python package has."""
    softfloat = pytest.importorskip("softfloatpy")
    kind, width = (softfloat.Float32, 4) if result == "float32" else (softfloat.Float16, 2)
    name = {"fma": "mul_add", "multiply": "mul", "divide": "div", "add": "add", "sqrt": "sqrt"}[operation]
    function = getattr(softfloat, f"f{8 * width}_{name}")
    softfloat.set_tininess_mode(getattr(softfloat.TininessMode, f"{tininess.upper()}_ROUNDING"))
    for mode, other in SOFTFLOAT.items():
        softfloat.set_rounding_mode(getattr(softfloat.RoundingMode, other))
        options = {"result": result, "rounding": f"{mode}/ieee", "tininess": tininess, "signalling": "invalid"}
        model = golden(operation, fmt, **options)
        operands = drawn_operands(model, 9, 150)
        answers, _ = model.compute(operands)
        wide = [
            port.kind.values(patterns).astype(f"f{width}").view(f"u{width}").tolist()
            for port, patterns in zip(model.operands, operands, strict=True)
        ]
        for row, numbers in enumerate(zip(*wide, strict=True)):
            softfloat.set_exception_flags(0)
            value = function(*(kind.from_bytes(x.to_bytes(width, "big")) for x in numbers))
            got, flags = int.from_bytes(value.to_bytes(), "big"), int(softfloat.get_exception_flags())
            right = int(answers.results[row])
            if model.result.kind.is_nan(answers.results[row : row + 1])[0]:
                assert model.result.kind.is_nan(np.array([got], answers.results.dtype))[0]
            else:
                assert (right, int(answers.flags[row])) == (got, flags), (mode, row, numbers)

"""Wide results, mixed operands, scales and accumulators: right by rational arithmetic written from IEEE 754."""

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
            patterns = np.where(np.arange(count) % 8 == 0, patterns, small)
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

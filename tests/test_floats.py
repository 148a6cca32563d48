"""The table of float layouts against numpy, ml_dtypes, PyTorch and safetensors; accumulators of any layout."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import linalg_oracle as oracle
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loops import looped

import rf8sim
from rf8sim.arithmetic.accumulators import get_accumulator
from rf8sim.arithmetic.error_analysis import matmul_error, unit_roundoff
from rf8sim.formats import FloatLayout, get_layout, layout_names
from rf8sim.formats.floats import ARRAY_LAYOUTS, SAFETENSORS_LAYOUTS, Specials, layouts
from rf8sim.reference import power_of_two

TYPED = [layout for layout in layouts() if layout.dtype is not None]
"""Layouts that numpy or ml_dtypes has: a second source."""

NARROW = [layout for layout in TYPED if layout.bits <= 16]


def ids(layout: FloatLayout) -> str:
    return layout.name


def same(got: np.ndarray, expected: np.ndarray) -> None:
    """Fail unless two arrays of float64 are the same numbers, signs of zeros included."""
    oracle.same(got, np.asarray(expected))


# --- the table against others -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", TYPED, ids=ids)
def test_limits_are_those_of_numpy_and_ml_dtypes(layout):
    info = ml_dtypes.finfo(layout.dtype)
    assert layout.bits == info.bits
    assert layout.mantissa_bits == info.nmant
    assert layout.max == float(info.max)
    assert layout.smallest_normal == float(info.smallest_normal)
    assert layout.smallest_subnormal == float(info.smallest_subnormal)
    assert layout.emin == info.minexp
    assert layout.emax == info.maxexp - 1 == math.frexp(layout.max)[1] - 1
    if layout.signed:
        assert layout.exponent_bits == info.nexp


@pytest.mark.parametrize("layout", [layout for layout in TYPED if layout.bits > 8], ids=ids)
def test_patterns_are_those_of_numpy_and_ml_dtypes(layout):
    def pattern(value: float) -> int:
        return int(np.array([value], dtype=layout.dtype).view(layout.pattern_dtype)[0])

    assert layout.pattern_dtype.itemsize == layout.dtype.itemsize
    assert layout.infinity == pattern(math.inf)
    assert layout.sign_mask == pattern(-0.0)
    assert layout.sign_mask | layout.infinity == pattern(-math.inf)
    assert layout.largest_pattern == pattern(layout.max)
    assert layout.nan == pattern(math.nan) & layout.magnitude_mask
    assert layout.bias << layout.mantissa_bits == pattern(1.0)


@pytest.mark.parametrize("layout", NARROW, ids=ids)
def test_every_pattern_of_at_most_16_bits_decodes_as_by_numpy_and_ml_dtypes(layout):
    patterns = np.arange(1 << layout.bits).astype(layout.pattern_dtype)
    with np.errstate(invalid="ignore"):
        expected = patterns.view(layout.dtype).astype(np.float64)
    same(layout.values(patterns), expected)
    if layout.nan is not None:
        assert np.isnan(expected[layout.nan])
    assert expected[layout.largest_pattern] == layout.max
    if layout.has_infinity:
        assert expected[layout.infinity] == np.inf
    else:
        assert not np.isinf(expected).any()


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_wide_patterns_decode_as_by_numpy(name):
    layout, rng = get_layout(name), np.random.default_rng(0)
    patterns = rng.integers(0, 1 << 64, 100_000, dtype=np.uint64).astype(layout.pattern_dtype)
    edges = [0, 1, layout.mantissa_mask, layout.mantissa_mask + 1, layout.largest_pattern, layout.infinity, layout.nan]
    edges += [layout.sign_mask | pattern for pattern in edges]
    patterns = np.concatenate([patterns, np.array(edges, layout.pattern_dtype)])
    with np.errstate(invalid="ignore"):
        same(layout.values(patterns), patterns.view(layout.dtype).astype(np.float64))


def test_tf32_is_float32_with_a_short_mantissa():
    layout, wide = get_layout("tf32"), get_layout("float32")
    patterns = np.arange(1 << layout.bits, dtype=np.uint32)
    with np.errstate(invalid="ignore"):
        expected = (patterns << np.uint32(13)).view(np.float32).astype(np.float64)
    same(layout.values(patterns), expected)
    assert (layout.bits, layout.dtype, layout.dtype_name, layout.pattern_dtype) == (19, None, None, np.uint32)
    assert (layout.emin, layout.emax, layout.bias) == (wide.emin, wide.emax, wide.bias)


@pytest.mark.parametrize("name", [name for name in layout_names() if name in rf8sim.format_names()])
def test_a_format_of_a_layouts_name_has_its_values(name):
    layout, fmt = get_layout(name), rf8sim.get_format(name)
    same(layout.values(np.arange(1 << layout.bits)), fmt.values)
    assert (fmt.max, fmt.smallest, fmt.bits) == (layout.max, layout.smallest_subnormal, layout.bits)


def test_binary8_has_the_values_that_p3109_lists():
    """IEEE P3109's interim report: the largest of precisions 3, 4, 5 and 1.0 at code 0x40."""
    for precision, largest in ((3, 49152.0), (4, 224.0), (5, 15.0)):
        layout = get_layout(f"binary8p{precision}")
        assert layout.name == f"binary8p{precision}se"
        values = layout.values(np.array([0x00, 0x40, 0x7E, 0x7F, 0x80, 0xFF]))
        same(values, np.array([0.0, 1.0, largest, np.inf, np.nan, -np.inf]))


def test_names_of_pytorch_and_safetensors():
    torch = pytest.importorskip("torch")
    from safetensors.torch import save

    for layout in TYPED:
        assert hasattr(torch, layout.dtype_name) == (layout.torch_name is not None)
        if layout.torch_name is not None:
            assert layout.torch_name == layout.dtype_name
            header = save({"x": torch.zeros(2, dtype=getattr(torch, layout.torch_name))})
            assert f'"dtype":"{layout.safetensors_name}"'.encode() in header
            assert SAFETENSORS_LAYOUTS[layout.safetensors_name] is layout


def test_arrays_that_encode_as_they_are():
    assert list(ARRAY_LAYOUTS) == ["float64", "float32", "bfloat16", "float16"]
    for name, layout in ARRAY_LAYOUTS.items():
        assert layout.dtype.name == name
        assert rf8sim.encode(np.ones(3, layout.dtype), "rf8").tolist() == [0x7B] * 3


# --- names ------------------------------------------------------------------------------------------------------------


@looped("exponent", range(2, 12))
@looped("mantissa", [1, 2, 7, 13, 23, 52])
def test_parsed_names(exponent, mantissa):
    layout = get_layout(f"e{exponent}m{mantissa}")
    assert (layout.exponent_bits, layout.mantissa_bits) == (exponent, mantissa)
    assert layout.bits == 1 + exponent + mantissa
    assert layout.bias == layout.emax == 1 - layout.emin == 2 ** (exponent - 1) - 1
    assert Fraction(layout.max) == (2 - power_of_two(-mantissa)) * power_of_two(layout.emax)
    assert Fraction(layout.smallest_subnormal) == power_of_two(layout.emin - mantissa)
    ends = np.array([1, layout.mantissa_mask + 1, layout.largest_pattern, layout.infinity, layout.nan], np.uint64)
    same(layout.values(ends), [layout.smallest_subnormal, layout.smallest_normal, layout.max, np.inf, np.nan])


def test_a_parsed_name_of_a_line_of_the_table_is_that_line():
    names = {"e11m52": "float64", "e8m23": "float32", "e8m10": "tf32", "e8m7": "bfloat16", "e5m10": "float16"}
    for parsed, name in (*names.items(), ("e5m2", "e5m2"), ("e4m3", "e4m3")):
        assert get_layout(parsed) is get_layout(name)
    assert get_layout("e8m13") is get_layout("e8m13")
    assert get_layout(get_layout("tf32")).name == "tf32"
    assert "e8m13" not in layout_names()


def test_a_float_of_ones_own():
    layout = FloatLayout("e5m4b20", 5, 4, 5, Specials.NONE)
    assert (layout.bits, layout.bias, layout.emin, layout.emax) == (10, 20, -19, 11)
    assert (layout.nan, layout.has_infinity, layout.max) == (None, False, 2.0**12 - 2.0**7)
    with pytest.raises(ValueError, match="'e5m4b20' has no infinity"):
        _ = layout.infinity
    assert FloatLayout("half", 5, 10).exact_in(get_layout("float16"))


def test_exact_in_is_so_for_all_values():
    for first, second in itertools.product(NARROW, NARROW):
        values = np.unique(first.values(np.arange(1 << first.bits)))
        values = values[np.isfinite(values) & (values > 0)]
        with np.errstate(over="ignore"):
            kept = values.astype(second.dtype).astype(np.float64) == values
        assert first.exact_in(second) == kept.all(), (first.name, second.name)


@pytest.mark.parametrize(("name", "message"), [
    ("bf16", "unknown float layout 'bf16': did you mean 'bfloat16'?"),
    ("float61", "did you mean 'float64'?"),
    ("xyzzy", "unknown float layout 'xyzzy': expected float64, float32, tf32, bfloat16, float16, an 8-bit float, or "),
    ("e8", "such as e8m13"), ("E8M7", "unknown float layout"), ("e08m07", "unknown float layout"),
    ("e12m3", "'e12m3': expected 2 to 11 exponent bits and 1 to 52 mantissa bits"),
    ("e1m3", "2 to 11 exponent bits"), ("e8m0", "1 to 52 mantissa bits"), ("e8m53", "1 to 52 mantissa bits"),
])  # fmt: skip
def test_unknown_names(name, message):
    with pytest.raises(ValueError) as caught:
        get_layout(name)
    assert message in str(caught.value)


def test_no_name():
    with pytest.raises(TypeError, match="given by its name, not as int"):
        get_layout(16)


# --- accumulators of any layout ---------------------------------------------------------------------------------------

ACCUMULATORS = ("e8m13", "e2m1", "e3m8", "e4m11", "e6m9", "e8m1", "e8m23", "e9m14", "e10m27")
WIDE = ("e8m30", "e10m50", "e5m50")
"""Too wide for the 24 random bits of stochastic rounding."""

NEAREST = ("nearest-even", "nearest-away")
MODES = (*NEAREST, "toward-zero", "up", "down", "to-odd")
ORDERS = ("sequential", "pairwise", "blocked:3")


def operand(rng: np.random.Generator, shape: tuple[int, int], layout: FloatLayout, finite: bool = True) -> np.ndarray:
    """Numbers whose products lie about what a layout turns at: zero, its subnormals, its largest value."""
    near = np.array([layout.emin - layout.mantissa_bits, layout.emin, 0, layout.emax])[rng.integers(0, 4, shape)]
    exponent = np.clip(near // 2 + rng.integers(-3, 4, shape), -140, 120)
    digits = rng.integers(0, 1 << 12, shape) | 1 << rng.integers(0, 12, shape)
    x = np.ldexp((digits * rng.choice([-1.0, 1.0], shape)).astype(np.float32), exponent - 11).astype(np.float32)
    x[rng.random(shape) < 0.05] = 0.0
    if not finite:
        x[rng.random(shape) < 0.03] = np.inf
        x[rng.random(shape) < 0.01] = np.nan
    return x


def check(accumulator: str, order: str, mode: str, seed: int = 0, shape: tuple[int, int, int] = (3, 11, 5),
          finite: bool = True) -> np.ndarray:  # fmt: skip
    rng, layout = np.random.default_rng(seed), get_layout(accumulator)
    rows, depth, columns = shape
    a, b = operand(rng, (rows, depth), layout, finite), operand(rng, (depth, columns), layout, finite)
    summed = rf8sim.Accumulation(accumulator, order=order, rounding=rf8sim.Rounding(mode, seed=seed))
    got = rf8sim.matmul(a, b, "float32", accumulator=summed)
    with np.errstate(invalid="ignore"):
        expected = oracle.matmul(a.astype(float), b.astype(float), accumulator, order, mode, seed=seed)
    oracle.same(got, expected, f"{accumulator}, {order}, {mode}, seed {seed}")
    return got


@looped("mode", MODES)
@looped("order", ORDERS)
@pytest.mark.parametrize("accumulator", [*ACCUMULATORS, *WIDE])
def test_sums_are_those_of_fractions(accumulator, order, mode):
    for finite in (True, False):
        check(accumulator, order, mode, finite=finite)


@looped("order", ORDERS)
@looped("accumulator", ACCUMULATORS)
def test_stochastic_sums_are_those_of_fractions(accumulator, order):
    check(accumulator, order, "stochastic", 2**40 + 1)


@given(st.data())
def test_any_layout(data):
    exponent, mantissa = data.draw(st.integers(2, 10)), data.draw(st.integers(1, 50))
    name = f"e{exponent}m{mantissa}"
    mode = data.draw(st.sampled_from(MODES if mantissa > 27 else (*MODES, "stochastic")))
    order, seed = data.draw(st.sampled_from(ORDERS)), data.draw(st.integers(0, 2**32))
    finite = name in rf8sim.format_names() or data.draw(st.booleans())  # e4m3 is a format, which makes a code of NaN
    check(name, order, mode, seed, shape=(2, 9, 3), finite=finite)


def test_the_sums_of_these_tests_meet_subnormals_overflow_and_ties():
    """What `operand` draws does reach every part of a layout."""
    for accumulator in ("e4m11", "e6m9", "e2m1"):
        layout = get_layout(accumulator)
        got = np.abs(np.concatenate([check(accumulator, "sequential", "nearest-even", s).ravel() for s in range(5)]))
        one = np.abs(check(accumulator, "sequential", "nearest-even", 9, (40, 1, 40)))
        assert (got == np.inf).any() or (one == np.inf).any()
        assert ((one > 0) & (one < layout.smallest_normal)).any()
        assert (one == 0).any()


@pytest.mark.parametrize("accumulator", ["e8m13", "e6m9", "e4m11", "e10m50"])
def test_ties_subnormals_and_overflow_one_by_one(accumulator):
    """Each case is a product of exact powers of two and a short number, worked out by hand."""
    layout = get_layout(accumulator)
    m = layout.mantissa_bits

    def rounded(*terms: float, mode: str = "nearest-even") -> float:
        ones = np.ones((1, len(terms)), np.float32)
        column = np.array(terms, np.float32)[:, None]
        assert (column.ravel() == terms).all()
        return float(
            rf8sim.matmul(ones, column, "float32", accumulator=rf8sim.Accumulation(accumulator, rounding=mode))[0, 0]
        )

    if m < 24:  # 1 + half a unit is a tie, to even down; 1 + 3/2 units up
        unit = 2.0**-m
        assert rounded(1 + unit / 2) == 1.0
        assert rounded(1 + unit / 2, mode="nearest-away") == rounded(1 + 3 * unit / 4) == 1 + unit
        assert rounded(1 + 3 * unit / 2) == 1 + 2 * unit
        assert rounded(1 + 3 * unit / 2, mode="toward-zero") == 1 + unit
    else:
        assert rounded(1.0, 2.0 ** -(m + 1)) == 1.0
        assert rounded(1.0, 2.0 ** -(m + 1), mode="nearest-away") == 1 + 2.0**-m
        assert rounded(1.0, 2.0**-100, mode="up") == 1 + 2.0**-m
    if layout.emin - m > -140:
        smallest = layout.smallest_subnormal
        assert [rounded(x * smallest) for x in (0.5, 0.75, 1.5, 2.5)] == [0.0, smallest, 2 * smallest, 2 * smallest]
        assert rounded(layout.smallest_normal, -smallest) == layout.smallest_normal - smallest
    if layout.emax < 127:
        top = 2.0**layout.emax
        assert rounded(top, top) == math.inf
        assert rounded(top, top, mode="toward-zero") == rounded(top, top, mode="down") == layout.max
        assert rounded(-top, -top, mode="up") == -layout.max
        assert rounded(layout.max, top * 2.0 ** -(m + 2)) == layout.max
        assert rounded(layout.max, top * 2.0 ** -(m + 1)) == math.inf


@pytest.mark.parametrize("order", ["sequential", "pairwise", "blocked:1", "blocked:2"])
@pytest.mark.parametrize("m", [30, 40, 50])
def test_a_tie_of_a_wide_layout_is_decided_by_what_float64_cannot_hold(m, order):
    """1, and half a unit and 2**-54 in one product: rounded to 53 bits first, the sum would be a tie, and go to 1."""
    half = 2.0 ** -(m + 1)
    column = np.array([[1.0], [half + 2.0**-54]], np.float32)
    got = rf8sim.matmul(
        np.ones((1, 2), np.float32), column, "float32", accumulator=rf8sim.Accumulation(f"e8m{m}", order=order)
    )
    assert column[1, 0] > half
    assert got.item() == 1 + 2 * half


@pytest.mark.parametrize(("parsed", "name"), [("e8m23", "float32"), ("e8m10", "tf32"), ("e5m10", "float16"),
                                              ("e8m7", "bfloat16")])  # fmt: skip
def test_a_parsed_name_sums_as_the_type_of_that_layout(parsed, name):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape).astype(np.float32) for shape in ((20, 300), (300, 20)))
    for order in ORDERS:
        got, expected = (
            rf8sim.matmul(a, b, "float32", accumulator=rf8sim.Accumulation(held, order=order))
            for held in (parsed, name)
        )
        assert got.dtype == expected.dtype == np.float32
        oracle.same(got, expected)


def test_a_name_of_a_format_too_is_the_format():
    """e5m2 has 8 bits: as an accumulator it saturates, as before there were layouts."""
    assert get_accumulator("e5m2").format is not None
    assert get_accumulator("e5m3").floating is get_layout("e5m3")
    a = np.full((1, 2), 240.0, np.float32)
    assert rf8sim.matmul(a, a.T, "float32", accumulator="e5m2").item() == 57344.0
    assert rf8sim.matmul(a, a.T, "float32", accumulator="e5m3").item() == math.inf


def test_wide_accumulators_give_float64():
    a = np.array([[1.0, 2.0**-40]], np.float32)
    ones = np.ones((2, 1), np.float32)
    got = rf8sim.matmul(a, ones, "float32", accumulator="e8m45")
    assert (got.dtype, got.item()) == (np.float64, 1 + 2.0**-40)
    assert rf8sim.matmul(a, ones, "float32", accumulator="e9m8").dtype == np.float64
    assert rf8sim.matmul(a, ones, "float32", accumulator="e7m20").dtype == np.float32


@pytest.mark.parametrize("held", ["e8m13", "e4m6", "e10m50"])
def test_products_are_rounded_to_a_layout_first(held):
    rng = np.random.default_rng(1)
    a, b = operand(rng, (4, 9), get_layout(held)), operand(rng, (9, 5), get_layout(held))
    for accumulator, order in itertools.product(("exact", "float32", "e6m9"), ORDERS):
        summed = rf8sim.Accumulation(accumulator, order=order, products=held)
        got = rf8sim.matmul(a, b, "float32", accumulator=summed)
        with np.errstate(invalid="ignore", over="ignore"):
            expected = oracle.matmul(a.astype(float), b.astype(float), accumulator, order, held=(held, "nearest-even"))
        oracle.same(got, expected, f"{held}, {accumulator}, {order}")


@pytest.mark.parametrize("block", [None, 4])
def test_scales_with_a_layout(block):
    """A scaled sum of tf32 and of e8m13 is that of float32 where all sums fit the narrow one."""
    rng = np.random.default_rng(2)
    a, b = (rng.integers(-3, 4, shape).astype(np.float32) for shape in ((3, 8), (8, 2)))
    blocks = 1 if block is None else 2
    scale_a, scale_b = (rng.integers(1, 4, s).astype(np.float32) for s in ((3, blocks), (blocks, 2)))
    expected = rf8sim.matmul(a, b, "float32", scales=rf8sim.OperandScales(scale_a, scale_b, block))
    for accumulator in ("tf32", "e8m13", "e8m40", "float32"):
        got = rf8sim.matmul(
            a, b, "float32", scales=rf8sim.OperandScales(scale_a, scale_b, block), accumulator=accumulator
        )
        oracle.same(got, expected, accumulator)


def test_errors_of_a_layout_have_a_unit_and_a_bound():
    assert unit_roundoff("e8m13") == (2.0**-14, 2.0 ** (-126 - 14))
    assert unit_roundoff("e6m9", "up") == (2.0**-9, 2.0 ** (-30 - 9))
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(64, 64)).astype(np.float32) for _ in range(2))
    error = matmul_error(a, b, "rf8", accumulator="e8m13")
    assert error.accumulation.any()
    assert (np.abs(error.accumulation) <= error.bound).all()


@pytest.mark.parametrize(("accumulator", "message"), [
    ("float64", "accumulator 'float64': expected a float e{E}m{M} of 2 to 10 exponent bits and 1 to 50 mantissa bits"),
    ("e11m20", "use 'exact' for a wider one"), ("e8m51", "1 to 50 mantissa bits"), ("e1m4", "2 to 10 exponent bits"),
    ("e8m0", "1 to 50 mantissa bits"), ("e200m3", "2 to 10 exponent bits"),
    ("e8", "unknown accumulator 'e8'"), ("fp32", "unknown accumulator 'fp32': did you mean 'float32'"),
    ("fp8", "did you mean 'e4m3fn' or 'e5m2'"),
])  # fmt: skip
def test_layouts_that_no_accumulator_has(accumulator, message):
    a = np.ones((1, 1), np.float32)
    with pytest.raises(ValueError) as caught:
        rf8sim.matmul(a, a, "float32", accumulator=accumulator)
    assert message in str(caught.value)


def test_other_names_of_floats_are_these_floats():
    for alias, name in (("fp16", "float16"), ("bf16", "bfloat16"), ("e5m10", "float16")):
        assert get_accumulator(alias).floating is get_layout(name)


def test_stochastic_rounding_needs_room_for_its_random_bits():
    a = np.ones((1, 1), np.float32)
    with pytest.raises(ValueError, match="'e8m28': at most 27 mantissa bits leave room for its 24 random bits"):
        rf8sim.matmul(a, a, "float32", accumulator=rf8sim.Accumulation("e8m28", rounding="stochastic"))
    assert rf8sim.matmul(a, a, "float32", accumulator=rf8sim.Accumulation("e8m27", rounding="stochastic")).item() == 1.0

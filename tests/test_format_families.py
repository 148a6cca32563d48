"""Families of formats by parameters: every code against a second source, and one grammar for all of them."""

from __future__ import annotations

import hashlib
import itertools
import math
from fractions import Fraction

import ml_dtypes
import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from test_formats import interpolated_posits, same_values

from rf8sim.formats import (
    Format,
    format_aliases,
    format_grammar,
    format_names,
    get_format,
    get_layout,
    register,
)
from rf8sim.formats.minifloat import NanCodes
from rf8sim.reference import power_of_two, residual_value


def digest(values: NDArray[np.float64]) -> str:
    """Return the start of the SHA-256 of values as little-endian float64, all NaN being one."""
    return hashlib.sha256(np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes()).hexdigest()[:16]


def bits_of(code: int, width: int) -> str:
    return f"{code:0{width}b}"


def exact(fmt: Format) -> list[Fraction | None]:
    """Return the values of all codes as fractions, None for what is not finite."""
    return [Fraction(value) if math.isfinite(value) else None for value in fmt.values.tolist()]


# ---------------------------------------------------------------- minifloats


def test_16_bit_floats_are_those_of_numpy_and_ml_dtypes() -> None:
    codes = np.arange(1 << 16).astype(np.uint16)
    for name, dtype in (("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)):
        fmt, info = get_format(name), ml_dtypes.finfo(dtype)
        with np.errstate(invalid="ignore"):
            same_values(fmt.values, codes.view(dtype).astype(np.float64))
        assert (fmt.max, fmt.smallest) == (float(info.max), float(info.smallest_subnormal))
        assert fmt.subnormals_below == float(info.smallest_normal)
        assert fmt.nan == np.array(np.nan, dtype).view(np.uint16) & 0x7FFF
        assert fmt.code_dtype == np.uint16


def test_ieee_names_are_the_float_layouts_of_that_name() -> None:
    built = 0
    for e, m in itertools.product(range(2, 10), range(1, 14)):
        if 1 + e + m <= 16:
            name = f"e{e}m{m}"
            layout, fmt = get_layout(name), get_format(name)
            same_values(fmt.values, layout.values(np.arange(1 << fmt.bits)))
            assert (fmt.nan, fmt.bits) == (layout.nan, layout.bits)
            assert fmt.beyond == 2.0 ** (layout.emax + 1)
            assert fmt.sides[0].infinity == layout.infinity
            built += 1
    assert built == 76


def minifloat_value(code: int, e: int, m: int, rules: dict[str, object]) -> Fraction | float:
    """A code's value by the documentation of `minifloat_format`, from its bits."""
    text = bits_of(code, e + m + (not rules["unsigned"]))
    sign, field, mantissa = ("0" if rules["unsigned"] else text[0]), text[len(text) - e - m : len(text) - m], text
    mantissa = text[len(text) - m :] if m else ""
    ones, nan = field + mantissa == "1" * (e + m), rules["nan"]
    minus = -1 if sign == "1" else 1
    if nan == "ieee" and field == "1" * e:
        return math.nan if "1" in mantissa else minus * math.inf
    if nan == "all-ones" and ones:
        return math.nan
    top = 2 ** (e + m) - 1 - (nan == "all-ones")
    if nan != "ieee" and rules["inf"] and int(field + mantissa, 2) == top:
        return minus * math.inf
    if "1" not in field + mantissa:
        if sign == "1" and nan == "negative-zero":
            return math.nan
        return -0.0 if sign == "1" and rules["signed_zero"] else 0.0
    subnormal = "1" not in field and rules["subnormals"]
    significand = int(("0" if subnormal else "1") + mantissa, 2)
    exponent = (1 if subnormal else int(field, 2)) - int(str(rules["bias"])) - m
    return minus * significand * power_of_two(exponent)


def contradict(e: int, m: int, rules: dict[str, object]) -> bool:
    """Whether rules leave no format, by the documentation of `minifloat_format`."""
    nan, inf = rules["nan"], rules["inf"]
    if nan == "ieee":
        return not inf or m == 0
    largest = 2 ** (e + m) - 1 - (nan == "all-ones") - bool(inf)
    return largest < 1 or (nan == "negative-zero" and bool(rules["unsigned"]))


def test_minifloats_of_any_rules_are_their_definition() -> None:
    counts = [0, 0]
    truth = (True, False)
    for e, m, nan, inf, unsigned, subnormals, signed_zero in itertools.product(
        (1, 2, 4), (0, 1, 3), NanCodes, truth, truth, truth, truth
    ):
        if signed_zero and (unsigned or nan == "negative-zero"):
            continue
        rules = {"bias": e + m, "nan": nan.value, "inf": inf, "signed_zero": signed_zero, "unsigned": unsigned,
                 "subnormals": subnormals}  # fmt: skip
        text = f"minifloat({e},{m},{','.join(f'{key}={value}' for key, value in rules.items()).lower()})"
        counts[contradict(e, m, rules)] += 1
        if contradict(e, m, rules):
            with pytest.raises(ValueError, match="minifloat"):
                get_format(text)
            continue
        fmt = get_format(text)
        expected = [minifloat_value(code, e, m, rules) for code in range(1 << fmt.bits)]
        same_values(fmt.values, np.array([float(value) for value in expected]))
        assert get_format(fmt.name) is fmt, "its name says all of it"
        assert fmt.beyond > fmt.max
    assert counts == [268, 128]


def test_minifloats_that_have_a_name_are_that_format() -> None:
    for text, name in {
        "minifloat(5,10)": "float16", "minifloat(8, 7)": "bfloat16", "minifloat(4,3)": "e4m3",
        "minifloat(4,3,nan=all-ones)": "e4m3fn", "minifloat(4,3,bias=11,nan=negative-zero)": "e4m3b11fnuz",
        "minifloat(2,1,nan=none)": "e2m1fn", "minifloat(5,3,unsigned=yes)": "ue5m3", "minifloat(3,6)": "e3m6",
        "minifloat(6,9,bias=31,nan=all-ones)": "minifloat(6,9,nan=all-ones)",
        "minifloat(3,2,inf=no,nan=none,bias=3)": "e3m2fn", "minifloat(3,2,nan=none,bias=4)":
        "minifloat(3,2,bias=4,nan=none)",
    }.items():  # fmt: skip
        assert get_format(text) is get_format(name)
        assert get_format(text).name == name


def test_dlfloat16() -> None:
    """Agrawal et al., ARITH 2019: 1-6-9, bias 31; no subnormals; one symbol for NaN and infinity."""
    fmt = get_format("dlfloat16")
    assert fmt.values[[0x0000, 0x3E00, 0x3F00, 0x4000, 0xBE00]].tolist() == [0.0, 1.0, 1.5, 2.0, -1.0]
    assert fmt.values[0x0001] == fmt.smallest == 2.0**-31 * (1 + 2.0**-9)
    assert fmt.values[0x7FFE] == fmt.max == (2 - 2.0**-8) * 2.0**32 == 8573157376.0
    assert math.isnan(fmt.values[0x7FFF])
    assert math.isnan(fmt.values[0xFFFF])
    for code, value in enumerate(exact(fmt)):
        sign, field, mantissa = code >> 15, (code >> 9) & 63, code & 511
        if (field, mantissa) == (63, 511):
            assert value is None
        else:
            magnitude = 0 if field == mantissa == 0 else (1 + Fraction(mantissa, 512)) * power_of_two(field - 31)
            assert value == (-magnitude if sign else magnitude)
    assert (np.isnan(fmt.values).sum(), np.isinf(fmt.values).sum(), fmt.negative_zero) == (2, 0, 0x8000)


def test_unsigned_scales() -> None:
    """PTX's ue4m3 is e4m3fn without its sign bit; CUDA's __nv_fp8_ue5m3 has no infinity and one NaN, 0xFF."""
    same_values(get_format("ue4m3").values, get_format("e4m3fn").values[:128])
    fmt = get_format("ue5m3")
    assert fmt.values[[0x00, 0x01, 0x07, 0x08, 0x78, 0x79, 0xFE]].tolist() == [
        0.0, 2.0**-17, 7 * 2.0**-17, 2.0**-14, 1.0, 1.125, 114688.0,
    ]  # fmt: skip
    rules = {"nan": "all-ones", "inf": False, "unsigned": True, "subnormals": True, "bias": 15, "signed_zero": False}
    same_values(fmt.values, np.array([float(minifloat_value(code, 5, 3, rules)) for code in range(256)]))
    assert (fmt.nan, fmt.signed, fmt.bits) == (0xFF, False, 8)
    assert get_format("ue8m0") is get_format("e8m0fnu")


# ---------------------------------------------------------------- HiFloat8


def hifloat8_value(code: int) -> Fraction | float:
    """Read HiFloat8 from its bits, as arXiv 2409.16626 defines it."""
    special = {0x00: 0.0, 0x80: math.nan, 0x6F: math.inf, 0xEF: -math.inf}
    if code in special:
        return special[code]
    text = bits_of(code, 8)
    minus = -1 if text[0] == "1" else 1
    if text[1:5] == "0000":  # denormal
        return minus * power_of_two(int(text[5:], 2) - 23)
    dots = {"11": 4, "10": 3, "01": 2, "001": 1, "0001": 0}
    dot = next(dot for dot in dots if text[1:].startswith(dot))
    rest = text[1 + len(dot) :]
    exponent, mantissa = rest[: dots[dot]], rest[dots[dot] :]
    power = int("1" + exponent[1:], 2) * (-1 if exponent[0] == "1" else 1) if exponent else 0
    return minus * (1 + Fraction(int(mantissa, 2), 2 ** len(mantissa))) * power_of_two(power)


def test_hifloat8_is_the_paper_and_the_table_of_huawei() -> None:
    fmt = get_format("hifloat8")
    same_values(fmt.values, np.array([float(hifloat8_value(code)) for code in range(256)]))
    # What en_dtypes 0.0.4, Huawei's numpy types, decodes its hifloat8 to.
    assert digest(fmt.values) == "17c48a1840992480"
    # The abstract: 7 exponents of 3 mantissa bits, 8 of 2, 16 of 1; then 7 denormal powers of two.
    positive = fmt.values[(fmt.values > 0) & np.isfinite(fmt.values)]
    in_binade = np.bincount(np.frexp(positive)[1] + 21)
    assert in_binade.tolist() == [1] * 7 + [2] * 8 + [4] * 4 + [8] * 7 + [4] * 4 + [2] * 7 + [1]
    assert (fmt.max, fmt.smallest, fmt.beyond) == (2.0**15, 2.0**-22, 1.5 * 2**15)


# ---------------------------------------------------------------- integers and fixed point


def test_integers_of_every_width() -> None:
    codes = np.arange(1 << 16).astype(np.uint16)
    np.testing.assert_array_equal(get_format("int16").values, codes.view(np.int16))
    np.testing.assert_array_equal(get_format("uint16").values, codes)
    for bits in range(2, 17):
        values = get_format(f"int{bits}").values
        assert (values.min(), values.max(), values[-1]) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, -1)
        np.testing.assert_array_equal(get_format(f"uint({bits})").values, np.arange(1 << bits))


def test_fixed_point_is_an_integer_over_a_power_of_two() -> None:
    for integer, fraction in ((1, 15), (8, 8), (4, 0), (1, 1), (3, 9), (16, 0), (2, 2)):
        bits = integer + fraction
        q, uq = get_format(f"q({integer},{fraction})"), get_format(f"uq({integer},{fraction})")
        np.testing.assert_array_equal(q.values * 2.0**fraction, get_format(f"int{bits}").values)
        np.testing.assert_array_equal(uq.values * 2.0**fraction, get_format(f"uint{bits}").values)
        assert (q.beyond, uq.beyond) == (2.0 ** (integer - 1), 2.0**integer)
        assert q.beyond_negative == 2.0 ** (integer - 1) + 2.0**-fraction
    # Arm's Q1.15 (Texas Instruments' Q0.15): from -1 to 1 - 2**-15.
    q15 = get_format("q(1,15)")
    assert q15.values[[0x0001, 0x4000, 0x7FFF, 0x8000]].tolist() == [2.0**-15, 0.5, 1 - 2.0**-15, -1.0]
    assert get_format("uq(0,8)").max == 255 / 256


# ---------------------------------------------------------------- posits


def test_posits_to_16_bits_are_the_interpolated_ring() -> None:
    for bits, es in ((9, 0), (10, 1), (12, 2), (13, 4), (16, 1)):
        fmt, ring = get_format(f"posit({bits},{es})"), interpolated_posits(bits, es)
        half = 1 << (bits - 1)
        assert exact(fmt)[:half] == ring
        assert exact(fmt)[half:] == [None, *(-value for value in reversed(ring[1:]))]
        finer = interpolated_posits(bits + 1, es)
        assert fmt.nearest_boundaries is not None
        assert [Fraction(b) for b in fmt.nearest_boundaries] == finer[1:-1:2]


def test_posits_are_those_of_softposit() -> None:
    """SoftPosit's Python package 0.3.4.4 decoded every code of these; its infinity is NaR."""
    for name, decoded in {
        "posit8_es0": "4c679f3de24e80a1", "posit16_es1": "2dc52e49b195fc2c", "posit(5,2)": "ecaa87e7d02e5976",
        "posit8_es2": "d21ad6ec84ed8d0c", "posit(12,2)": "8953b6620ed463c5", "posit16_es2": "0e68714c4fdffefa",
    }.items():  # fmt: skip
        assert digest(get_format(name).values) == decoded


def bounded_posit_value(code: int, bits: int, es: int, longest: int) -> Fraction:
    """Read a positive b-posit from its bits; arXiv 2603.01615: the regime ends at the latest after so many bits."""
    if code == 0:
        return Fraction(0)
    body = bits_of(code, bits - 1)
    run = len(list(itertools.takewhile(lambda bit: bit == body[0], body)))
    regime = body[: min(run + 1, longest)]
    run = min(run, longest)
    rest = body[len(regime) :]
    exponent, fraction = rest[:es].ljust(es, "0"), rest[es:]
    power = ((run - 1 if body[0] == "1" else -run) << es) + int(exponent or "0", 2)
    return (1 + Fraction(int(fraction or "0", 2), 2 ** len(fraction))) * power_of_two(power)


def test_bounded_posits() -> None:
    for bits, es, longest in ((16, 5, 6), (12, 2, 4), (8, 5, 6), (8, 2, 2), (5, 0, 3)):
        fmt, half = get_format(f"bposit({bits},{es},{longest})"), 1 << (bits - 1)
        positive = [bounded_posit_value(code, bits, es, longest) for code in range(half)]
        assert exact(fmt)[:half] == positive == sorted(set(positive))
        assert exact(fmt)[half:] == [None, *(-value for value in reversed(positive[1:]))]
        between = [bounded_posit_value(2 * code + 1, bits + 1, es, longest) for code in range(half - 1)]
        assert fmt.nearest_boundaries is not None
        assert [Fraction(b) for b in fmt.nearest_boundaries] == between
    for bits, es in ((8, 2), (16, 1)):  # a bound that is never met
        np.testing.assert_array_equal(get_format(f"bposit({bits},{es},{bits - 1})").values,
                                      get_format(f"posit({bits},{es})").values)  # fmt: skip
    assert get_format("bposit(16)") is get_format("bposit(16,5,6)")
    # The paper's range, 2**-192 to 2**192, whose ends are zero's code and the next above the largest.
    assert (get_format("bposit(16)").smallest, get_format("bposit(16)").max) == (17 * 2.0**-196, 31 * 2.0**187)


# ---------------------------------------------------------------- logarithms and takums


def nearest_24_bits(x: mpmath.mpf) -> float:
    """Round a positive number to 24 significant bits."""
    mantissa, exponent = mpmath.frexp(x)
    return math.ldexp(int(mpmath.nint(mpmath.ldexp(mantissa, 24))), int(exponent) - 24)


def test_logarithmic_formats_are_powers_of_two_rounded_once() -> None:
    with mpmath.workprec(120):
        for integer, fraction in ((5, 10), (2, 0), (9, 6), (3, 12), (4, 3), (8, 7)):
            fmt, width = get_format(f"lns({integer},{fraction})"), integer + fraction
            half = 1 << (width - 1)
            for code in range(1 << width):
                logarithm = code - (2 * half if code >= half else 0)
                expected = nearest_24_bits(mpmath.power(2, mpmath.mpf(logarithm) / 2**fraction))
                if code == half:
                    assert fmt.values[code] == 0
                    assert math.isnan(fmt.values[code + 2 * half])
                else:
                    assert fmt.values[code] == -fmt.values[code + 2 * half] == expected
            assert (fmt.zero, fmt.nan, fmt.beyond) == (half, 3 * half, 2.0**2 ** (integer - 1))


def takum_fields(code: int, bits: int) -> tuple[int, int, Fraction]:
    """Sign, characteristic and mantissa of a takum, from its bits; the encoding of arXiv 2404.18603."""
    text = bits_of(code, bits).ljust(12, "0")
    sign, direction, regime = int(text[0]), text[1], int(text[2:5], 2)
    r = regime if direction == "1" else 7 - regime
    c = int(text[5 : 5 + r] or "0", 2) + (2**r - 1 if direction == "1" else -(2 ** (r + 1)) + 1)
    mantissa = text[5 + r :]
    return sign, c, Fraction(int(mantissa or "0", 2), 2 ** len(mantissa))


def test_linear_takums_are_their_definition() -> None:
    for bits in (3, 5, 8, 11, 12, 13, 16):
        fmt, half = get_format(f"takum_linear({bits})"), 1 << (bits - 1)
        for code, value in enumerate(exact(fmt)):
            if code in (0, half):
                assert value == (0 if code == 0 else None)
                continue
            s, c, m = takum_fields(code, bits)
            assert value == ((1 - 3 * s) + m) * power_of_two((-1) ** s * (c + s))
        assert np.all(np.diff(fmt.values[np.r_[half + 1 : 2 * half, :half]]) > 0), "ordered as two's complement"


def test_logarithmic_takums_are_their_definition() -> None:
    with mpmath.workprec(120):
        for bits in (3, 8, 12, 16):
            fmt, half = get_format(f"takum({bits})"), 1 << (bits - 1)
            for code in range(1, 1 << bits):
                if code == half:
                    continue
                s, c, m = takum_fields(code, bits)
                logarithm = (-1) ** s * (c + m)  # to the base of the square root of e
                power = mpmath.exp(mpmath.mpf(logarithm.numerator) / logarithm.denominator / 2)
                assert fmt.values[code] == (-1) ** s * nearest_24_bits(power)
            assert (fmt.zero, fmt.nan, fmt.negative_zero) == (0, half, None)


def test_takums_are_those_of_libtakum() -> None:
    """Every code, decoded to float64 by libtakum 1.0.1, the logarithmic ones then rounded to 24 bits."""
    for name, decoded in {
        "takum8": "e6423dd6f48c2596", "takum16": "257254e177e0f7a4",
        "takum_linear8": "02f885ffbe0fc5f1", "takum_linear16": "c392a0c092675732",
    }.items():  # fmt: skip
        assert digest(get_format(name).values) == decoded


def test_takums_round_at_the_takum_with_one_bit_more() -> None:
    for bits in (8, 11, 12, 15):
        for kind in ("takum", "takum_linear"):
            fmt, finer = get_format(f"{kind}{bits}"), get_format(f"{kind}{bits + 1}")
            between = finer.values[1 : 1 << bits : 2][:-1]
            assert fmt.nearest_boundaries is not None
            np.testing.assert_allclose(fmt.nearest_boundaries, between, rtol=0 if "linear" in kind else 2.0**-24)
            assert fmt.subnormals_below == 0
            assert math.isinf(fmt.beyond)


def test_takums_by_eye() -> None:
    # 0 1 000 00000000000: r = 0, c = 0, m = 0.  0 1 001 0 ...: c = 1.  0 0 111 ...: c = -1.
    assert get_format("takum_linear16").values[[0x4000, 0x4800, 0x3800, 0xC000]].tolist() == [1.0, 2.0, 0.5, -1.0]
    assert get_format("takum16").values[0x4800] == np.float32(math.sqrt(math.e))
    # All ones: r = 7, c = 127 + 127, m = 15/16.
    assert get_format("takum_linear16").max == (2 - 2.0**-4) * 2.0**254
    assert get_format("takum16").max == pytest.approx(math.exp((254 + 15 / 16) / 2), rel=2.0**-24)


# ---------------------------------------------------------------- residual floats to 16 bits


def test_wide_residual_floats_are_the_formula() -> None:
    for p, depth, bias in ((4, 8, None), (9, 16, 256), (6, 16, 40), (8, 8, None)):
        fmt = get_format(f"rf({p},{depth})" if bias is None else f"rf({p},{depth},{bias})")
        width, half = depth.bit_length(), 1 << (fmt.bits - 1)
        assert fmt.bits == 1 + p + width
        values = exact(fmt)
        for code in range(1, half):
            magnitude = residual_value(code >> width, code & (2 * depth - 1), p, depth, bias)
            assert values[code] == magnitude
            assert values[half + code] == -magnitude
        assert (fmt.zero, fmt.nan) == (0, half)


# ---------------------------------------------------------------- the grammar and the registry

EXAMPLES = [
    *(example for _, _, example in format_grammar()),
    *("rf(4,4)", "e6m9", "ue6m6", "ue8m0", "minifloat(3,0,nan=none)", "minifloat(4,3,unsigned=true,inf=true)"),
    *("minifloat(2,3,nan=none,signed_zero=false)", "minifloat(4,4,subnormals=no)", "minifloat(8,0,unsigned=true)"),
    *("binary16p9uf", "int2", "uint1", "q(3,5)", "uq(0,8)", "posit3_es5", "bposit(12)", "takum3", "takum_linear13"),
    *("lns(2,0)", "quantile(4,1.5)"),
]  # fmt: skip


def test_a_name_is_read_back_as_the_same_format() -> None:
    for text in [*EXAMPLES, *format_names(16), *format_aliases()]:
        fmt = get_format(text)
        assert get_format(fmt.name) is fmt, text
        assert get_format(text) is fmt
        assert fmt.name == fmt.name.lower()


def test_names_by_width() -> None:
    assert format_names() == format_names(8) == [name for name in format_names(16) if get_format(name).bits <= 8]
    assert {"float16", "bfloat16", "dlfloat16", "int16", "posit16_es1", "takum16"} <= set(format_names(16))
    assert {"e2m1fn", "int4", "uint4", "nf4"} <= set(format_names(4))  # tests register others
    assert all(get_format(name).bits <= 4 for name in format_names(4))
    for name in format_names(16):
        assert get_format(name).name == name


def test_aliases_are_the_same_object() -> None:
    for alias, name in format_aliases().items():
        assert get_format(alias) is get_format(name)
        assert get_format(alias).name == name
        assert alias not in format_names(16)


def test_every_line_of_the_grammar_has_an_example_of_its_form() -> None:
    for form, meaning, example in format_grammar():
        assert meaning
        assert len(form.split("(")) == len(example.split("(")), (form, example)
        assert get_format(example)


def test_a_name_of_the_grammar_is_not_registered() -> None:
    for name in ("posit9_es1", "int11", "bf16", "takum8", "binary8p3", "minifloat(4,4)"):
        with pytest.raises(ValueError, match="exists already"):
            register(Format(name=name, bits=2, family="mine", description="", values=np.arange(4.0)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("posit(16)", r"expected posit\(n,es\), such as posit\(16,1\)"),
        ("posit(16,6)", "3 to 16 bits and 0 to 5 exponent bits, got 16 and 6"),
        ("bposit(16,5,1)", "at least 2 bits, got 1"),
        ("takum(17)", "3 to 16 bits here, got 17"),
        ("lns(10,2)", "2 to 9 integer bits"),
        ("q(0,8)", "its sign one of the integer bits"),
        ("uq(9,8)", "1 to 16 bits, got 9 integer and 8 fraction bits"),
        ("int17", "2 to 16 bits, got 17"),
        ("int(8.5)", "got 8.5"),
        ("q(1,b)", "got 1 integer and 'b' fraction bits"),
        ("lns(a,2)", "got 'a' and 2"),
        ("posit(true,1)", "got True and 1"),
        ("e5m11", "at most 16 bits with its sign, got 5 and 11"),
        ("e10m2", "use fewer exponent bits or another bias"),
        ("e3m0", r"choose minifloat\(3,0,nan=none\)"),
        ("ue4m0", "only ue8m0 has no mantissa"),
        ("minifloat(4,3,nan=foo)", "the choices are ieee, all-ones, negative-zero, none"),
        ("minifloat(4,3,size=1)", r"expected minifloat\(e,m"),
        ("minifloat(4,3,inf=no)", "nan=ieee needs infinities"),
        ("minifloat(4,3,nan=negative-zero,unsigned=yes)", "no code of negative zero"),
        ("minifloat(4,3,nan=negative-zero,signed_zero=yes)", "leave out signed_zero"),
        ("minifloat(4,3,bias=600)", "these would run from"),
        ("minifloat(4,3,bias=0.5)", "whole number, got 0.5"),
        ("minifloat(1,0,inf=yes,nan=all-ones)", "no number but zero"),
        ("rf(10,2)", "outside -499 to 499: choose another bias or a smaller p"),
        ("rf(2,32)", "at most 16 bits and depth 16"),
        ("quantile(16,2)", "2 to 8 bits, got 16"),
        ("quantile(8,x)", "from 0.05 to 100, got 'x'"),
    ],
)
def test_errors_are_one_clear_sentence(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        get_format(text)
    assert str(caught.value).startswith(f"format {text!r}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "nearest"), [("float61", "float16"), ("hifloat", "hifloat8"), ("posit_16", "posit16"), ("b16", "bf16")]
)
def test_unknown_names_suggest_the_nearest(text: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"unknown format '{text}': did you mean '{nearest}'"):
        get_format(text)


# ---------------------------------------------------------------- what holds for every wide format


@pytest.mark.parametrize("name", [name for name in format_names(16) if name not in format_names()])
def test_wide_formats_have_consistent_attributes(name: str) -> None:
    fmt = get_format(name)
    values, finite = fmt.values, np.isfinite(fmt.values)
    np.testing.assert_array_equal(fmt.canonical[fmt.canonical], fmt.canonical)
    same_values(values[fmt.canonical], values)
    np.testing.assert_array_equal(fmt.rank >= 0, finite)
    assert fmt.count == np.unique(values[finite]).size
    positive, negative = fmt.sides
    for side in (positive, negative) if fmt.signed else (positive,):
        assert np.all(np.diff(side.magnitudes) > 0)
        np.testing.assert_array_equal(np.abs(values[side.codes]), side.magnitudes)
        np.testing.assert_array_equal(fmt.rank[side.codes], np.arange(side.codes.size))
        assert side.beyond > side.magnitudes[-1]
        assert side.codes.dtype == np.uint16
    if fmt.nearest_boundaries is not None:
        boundaries = np.array(fmt.nearest_boundaries)
        assert boundaries.size == positive.magnitudes.size - 1
        assert np.all((positive.magnitudes[:-1] < boundaries) & (boundaries < positive.magnitudes[1:]))

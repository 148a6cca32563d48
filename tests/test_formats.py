"""Every format's table against a source of its own: the specification, ml_dtypes, gfloat, a paper."""

from __future__ import annotations

import csv
import dataclasses
import math
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import gfloat.formats
import ml_dtypes
import numpy as np
import pytest
from gfloat import decode_float
from loops import looped

from rf8sim.formats import Format, format_names, get_format, posit_format, residual_format
from rf8sim.formats.minifloat import ML_DTYPES
from rf8sim.reference import ladder, residual_value

# By its name in the table of modules, whatever `rf8sim.formats` is.
registry = sys.modules["rf8sim.formats"]
RF8_CODES = Path(__file__).parent / "data" / "rf8_codes.csv"

# (exponent bits, depth, bias): the registered three, then the corners of the family.
RF_PARAMETERS = [
    (4, 4, None), (3, 8, None), (3, 2, None), (4, 4, 12), (1, 2, None), (5, 2, None), (2, 16, None),
    (1, 16, None), (4, 4, 0), (3, 4, -20), (4, 8, None), (6, 16, None), (9, 2, 256), (4, 4, 499), (4, 4, -484),
]  # fmt: skip

GFLOAT = {
    "e4m3fn": gfloat.formats.format_info_ocp_e4m3,
    "e5m2": gfloat.formats.format_info_ocp_e5m2,
    "e2m3fn": gfloat.formats.format_info_ocp_e2m3,
    "e3m2fn": gfloat.formats.format_info_ocp_e3m2,
    "e2m1fn": gfloat.formats.format_info_ocp_e2m1,
    "e8m0fnu": gfloat.formats.format_info_ocp_e8m0,
    "int8": gfloat.formats.format_info_ocp_int8,
    "binary8p3se": gfloat.formats.format_info_p3109(8, 3),
    "binary8p4se": gfloat.formats.format_info_p3109(8, 4),
    "binary8p5se": gfloat.formats.format_info_p3109(8, 5),
}


def rf(p: int, depth: int, bias: int | None) -> Format:
    return residual_format(p, depth, bias)


# ---------------------------------------------------------------- RF8 and its family


def test_rf8_is_the_published_table() -> None:
    rf8 = get_format("rf8")
    with RF8_CODES.open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["code"], 16) for row in rows] == list(range(256))
    for row in rows:
        code, kind, value = int(row["code"], 16), row["kind"], rf8.values[int(row["code"], 16)]
        assert kind in ("zero", "nan", "value", "alias")
        if kind == "nan":
            assert math.isnan(value)
            assert rf8.nan == code
            assert rf8.rank[code] == -1
            continue
        assert value == float(row["value"])
        assert abs(value) * 2**19 == int(row["magnitude_times_2^19"])
        assert math.copysign(1.0, value) == (-1.0 if int(row["sign"]) else 1.0)
        assert rf8.canonical[code] == int(row["canonical"], 16)
        assert (rf8.canonical[code] != code) == (kind == "alias")
        assert rf8.rank[code] == int(row["rank"])
        assert (kind == "zero") == (code == rf8.zero)
    kinds = [row["kind"] for row in rows]
    assert {kind: kinds.count(kind) for kind in kinds} == {"zero": 1, "nan": 1, "value": 224, "alias": 30}


@pytest.mark.parametrize(("p", "depth", "bias"), RF_PARAMETERS)
def test_rf_is_the_formula_of_the_specification(p: int, depth: int, bias: int | None) -> None:
    fmt = rf(p, depth, bias)
    k = depth.bit_length() - 1
    assert fmt.bits == 1 + p + k + 1
    sign_bit = 1 << (fmt.bits - 1)
    assert fmt.values.shape == (2 * sign_bit,)
    for code in range(sign_bit):
        E, r = code >> (k + 1), code & (2 * depth - 1)
        magnitude = residual_value(E, r, p, depth, bias)
        assert Fraction(float(fmt.values[code])) == magnitude
        if code:
            assert Fraction(float(fmt.values[sign_bit + code])) == -magnitude
    assert fmt.nan == sign_bit
    assert fmt.zero == 0
    assert fmt.negative_zero is None
    assert np.isnan(fmt.values).sum() == 1


@pytest.mark.parametrize(("p", "depth", "bias"), RF_PARAMETERS)
def test_rf_values_are_sums_of_two_signed_powers(p: int, depth: int, bias: int | None) -> None:
    bias_ = (1 << p) - 1 if bias is None else bias
    expected = {Fraction(0)}
    for e in range(-bias_, 2**p - bias_):
        power = Fraction(2) ** e
        expected.add(power)
        for d in range(1, depth + 1):
            expected.add(power + power / 2**d)
            if d >= 2:  # 2**e - 2**(e-1) is 2**(e-1), a power of two
                expected.add(power - power / 2**d)
    # The value that code 0 would have had is missing: that code is zero.
    expected -= {Fraction(2) ** -bias_ * (Fraction(3, 4) if depth > 1 else 1)}
    found = {Fraction(v) for v in rf(p, depth, bias).values[: 1 << (rf(p, depth, bias).bits - 1)].tolist()}
    assert found == expected


@pytest.mark.parametrize(("p", "depth", "bias"), RF_PARAMETERS)
def test_rf_order_aliases_and_rank(p: int, depth: int, bias: int | None) -> None:
    fmt = rf(p, depth, bias)
    half = 1 << (fmt.bits - 1)
    width = depth.bit_length()
    magnitudes = fmt.values[:half]
    assert np.all(np.diff(magnitudes) >= 0), "code order is magnitude order"
    aliases = 0
    for code in range(half):
        E, r = code >> width, code & (2 * depth - 1)
        alias = r == 0 and E >= 1 and fmt.values[code] == fmt.values[code - 1]
        aliases += alias
        canonical = code - 1 if alias else code
        assert fmt.canonical[code] == canonical
        assert fmt.canonical[half + code] == (half + canonical if code else fmt.nan)
        # Section 2: the place in the sorted list; for depth 2 and more that is (2 depth - 1) E + r.
        assert fmt.rank[code] == code - aliases
        if depth > 1:
            assert alias == (r == 0 and E >= 1), "0.75 * 2**(e+1) is 1.5 * 2**e"
            assert fmt.rank[code] == (2 * depth - 1) * (canonical >> width) + (canonical & (2 * depth - 1))
        if code:
            assert fmt.rank[half + code] == fmt.rank[code]
    assert fmt.rank[half] == -1
    unique = np.unique(magnitudes)
    assert fmt.count == 2 * unique.size - 1
    assert fmt.max == -fmt.min == unique[-1]
    assert fmt.smallest == unique[1]
    assert fmt.octaves == pytest.approx(math.log2(unique[-1] / unique[1]))


@pytest.mark.parametrize(("p", "depth", "bias"), RF_PARAMETERS)
def test_rf_beyond_is_the_next_value_of_a_wider_exponent(p: int, depth: int, bias: int | None) -> None:
    fmt = rf(p, depth, bias)
    bias_ = (1 << p) - 1 if bias is None else bias
    wider = {residual_value(E, r, p + 1, depth, bias_) for E in range(2 ** (p + 1)) for r in range(2 * depth)}
    assert Fraction(fmt.beyond) == min(value for value in wider if value > Fraction(fmt.max))
    assert [side.beyond for side in fmt.sides] == [fmt.beyond, fmt.beyond]


@pytest.mark.parametrize(
    ("p", "depth", "bias"),
    [
        (11, 8, None),
        (7, 1, None),
        (4, 3, None),
        (4, 0, None),
        (0, 4, None),
        (4, 4, 500),
        (4, 4, -485),
        (1, 32, None),
        (9, 2, None),
    ],
)
def test_rf_outside_the_family_is_refused(p: int, depth: int, bias: int | None) -> None:
    with pytest.raises(ValueError, match=rf"(?i)rf\({p}, ?{depth}"):
        residual_format(p, depth, bias)


# ---------------------------------------------------------------- peers


def same_values(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Equal as numbers, with NaN where NaN is and the sign of zero."""
    np.testing.assert_array_equal(ours, theirs)
    numbers = ~np.isnan(theirs)
    np.testing.assert_array_equal(np.signbit(ours[numbers]), np.signbit(theirs[numbers]))


@pytest.mark.parametrize("name", ML_DTYPES)
def test_ml_dtypes_table(name: str) -> None:
    fmt = get_format(name)
    bits = fmt.bits
    dtype = getattr(ml_dtypes, f"float{bits}_{name}")
    same_values(fmt.values, np.arange(1 << bits, dtype=np.uint8).view(dtype).astype(np.float64))
    info = ml_dtypes.finfo(dtype)
    assert fmt.max == float(info.max)
    assert fmt.min == float(info.min)
    assert fmt.smallest == float(info.smallest_subnormal)
    assert fmt.bits == info.bits


def test_every_small_float_of_ml_dtypes_is_here() -> None:
    theirs = {
        name.split("_", 1)[1] for name in dir(ml_dtypes)
        if name.startswith("float") and name.split("_")[0] in ("float4", "float6", "float8")
    }  # fmt: skip
    assert theirs == set(ML_DTYPES)


@pytest.mark.parametrize("name", GFLOAT)
def test_gfloat_table(name: str) -> None:
    info = GFLOAT[name]
    theirs = np.array([decode_float(info, code).fval for code in range(2**info.k)])
    if name == "int8":
        theirs *= 64  # OCP's MXINT8 is int8 in units of 1/64
    same_values(get_format(name).values, theirs)


@pytest.mark.parametrize("name", [name for name in GFLOAT if name != "int8"])
def test_gfloat_range(name: str) -> None:
    fmt, info = get_format(name), GFLOAT[name]
    assert fmt.bits == info.k
    assert fmt.max == info.max
    assert fmt.min == info.min
    assert fmt.smallest == info.smallest
    for side, infinities, code in zip(
        fmt.sides, (info.num_posinfs, info.num_neginfs), ("code_of_posinf", "code_of_neginf"), strict=True
    ):
        assert side.infinity == (getattr(info, code) if infinities else None)


@pytest.mark.parametrize("name", [*ML_DTYPES, "binary8p3se", "binary8p4se", "binary8p5se"])
def test_beyond_is_the_next_value_of_the_float_grid(name: str) -> None:
    fmt = get_format(name)
    if name in ML_DTYPES:
        precision = 1 + ml_dtypes.finfo(getattr(ml_dtypes, f"float{fmt.bits}_{name}")).nmant
    else:
        precision = int(name[-3])
    largest = Fraction(fmt.max)
    ulp = Fraction(2) ** (math.frexp(fmt.max)[1] - precision)
    assert (largest / ulp).denominator == 1
    assert Fraction(fmt.beyond) == largest + ulp


# ---------------------------------------------------------------- integers, posits, logarithms, quantiles


def test_integers() -> None:
    np.testing.assert_array_equal(get_format("int8").values, np.arange(256).astype(np.uint8).view(np.int8))
    np.testing.assert_array_equal(get_format("uint8").values, np.arange(256))
    positive, negative = get_format("int8").sides
    assert (positive.beyond, negative.beyond) == (128.0, 129.0)
    assert get_format("uint8").beyond == 256.0
    assert not get_format("uint8").signed
    assert get_format("uint8").min == 0


def interpolated_posits(bits: int, es: int) -> list[Fraction]:
    """The non-negative posits by the construction of Gustafson and Yonemoto (2017), section 2.

    Begin with 0, 1 and the point at infinity. To add a bit, put a value between each pair of neighbours:
    maxpos * useed below infinity, minpos / useed above 0, the geometric mean of two powers of two that differ
    by more than a factor 2, and the arithmetic mean otherwise.
    """
    useed = Fraction(2) ** (2**es)
    ring = [Fraction(0), Fraction(1)]
    for _ in range(bits - 2):
        grown = [ring[0], ring[1] / useed]
        for low, high in pairwise(ring[1:]):
            ratio = high / low
            if ratio > 2:
                root = math.isqrt(int(ratio))
                assert root * root == ratio
                between = low * root
            else:
                between = (low + high) / 2
            grown += [low, between]
        ring = [*grown, ring[-1], ring[-1] * useed]
    return ring


@pytest.mark.parametrize("es", [0, 1, 2])
@pytest.mark.parametrize("bits", [3, 4, 5, 6, 7, 8])
def test_posits_are_the_interpolated_ring(bits: int, es: int) -> None:
    fmt = posit_format(es, bits)
    positive = interpolated_posits(bits, es)
    half = 1 << (bits - 1)
    assert len(positive) == half
    assert [Fraction(v) for v in fmt.values[:half].tolist()] == positive
    assert math.isnan(fmt.values[half])
    assert fmt.nan == half
    # A negative posit is the two's complement of its magnitude.
    assert [Fraction(v) for v in fmt.values[half + 1 :].tolist()] == [-v for v in reversed(positive[1:])]
    # Between two neighbours the ring with one bit more has one value: there the standard rounds.
    assert fmt.nearest_boundaries is not None
    finer = interpolated_posits(bits + 1, es)
    assert [Fraction(b) for b in fmt.nearest_boundaries] == finer[1:-1:2]
    assert finer[:-1:2] == positive
    assert math.isinf(fmt.beyond)


@pytest.mark.parametrize(("es", "largest"), [(0, 2.0**6), (1, 2.0**12), (2, 2.0**24)])
def test_posit_range(es: int, largest: float) -> None:
    fmt = get_format(f"posit8_es{es}")
    assert (fmt.max, fmt.smallest, fmt.values[0x40], fmt.values[0xC0]) == (largest, 1 / largest, 1.0, -1.0)


def test_logarithms_are_the_nearest_float32_to_powers() -> None:
    lns8 = get_format("lns8")
    assert lns8.values[0] == 0
    assert lns8.nan == 0x80
    magnitudes = [*lns8.values[1:128].tolist(), lns8.beyond]
    for field, magnitude in enumerate(magnitudes, start=1):
        # The nearest float32 to 2**((L-127)/8): its midpoints to the 8th power enclose 2**(L-127).
        below = (Fraction(magnitude) + Fraction(float(np.nextafter(np.float32(magnitude), np.float32(0))))) / 2
        above = (Fraction(magnitude) + Fraction(float(np.nextafter(np.float32(magnitude), np.float32(2))))) / 2
        assert below**8 < Fraction(2) ** (field - 127) < above**8
    np.testing.assert_array_equal(lns8.values[129:], -lns8.values[1:128])


# QLoRA (arXiv 2305.14314), appendix E.
NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023,
    1.0,
]  # fmt: skip


def test_nf4_is_the_published_table() -> None:
    np.testing.assert_array_equal(get_format("nf4").values, NF4)


@pytest.mark.parametrize("name", ["nf4", "nf8", "quantile(8,0.7)", "quantile(5,1)", "quantile(2,3.0)"])
def test_quantile_tables(name: str) -> None:
    fmt = get_format(name)
    assert np.all(np.diff(fmt.values) > 0), "codes are in the order of their values"
    assert fmt.values[0] == pytest.approx(-1.0, abs=0.3)
    assert fmt.max == 1.0
    assert fmt.values[(1 << (fmt.bits - 1)) - 1] == 0
    assert fmt.nan is None
    assert math.isinf(fmt.beyond)


# ---------------------------------------------------------------- what holds for every format


@looped("name", format_names())
def test_derived_attributes(name: str) -> None:
    fmt = get_format(name)
    values = fmt.values
    assert fmt.name == name
    assert values.dtype == np.float64
    np.testing.assert_array_equal(fmt.canonical[fmt.canonical], fmt.canonical)
    same_values(values[fmt.canonical], np.where(np.isnan(values), np.nan, values))
    for code, canonical in enumerate(fmt.canonical.tolist()):
        twins = np.flatnonzero((values == values[code]) & (np.signbit(values) == np.signbit(values[code])))
        assert canonical == (fmt.nan if math.isnan(values[code]) else twins[0])
    finite = values[np.isfinite(values)]
    assert fmt.count == len({Fraction(v) for v in finite.tolist()})
    assert (fmt.max, fmt.min, fmt.signed) == (finite.max(), finite.min(), bool((finite < 0).any()))
    assert fmt.smallest == finite[finite > 0].min()
    assert (fmt.nan is None) == (not np.isnan(values).any())
    assert (fmt.zero is None) == (not (finite == 0).any())
    if fmt.negative_zero is not None:
        assert values[fmt.negative_zero] == 0
        assert np.signbit(values[fmt.negative_zero])
    finite_or_none = fmt.rank >= 0
    np.testing.assert_array_equal(finite_or_none, np.isfinite(values))


@looped("name", format_names())
@pytest.mark.parametrize("negative", [False, True])
def test_sides_are_the_ladder_of_the_oracle(name: str, negative: bool) -> None:
    fmt = get_format(name)
    side = fmt.sides[negative]
    if negative and not fmt.signed:
        assert side.codes.tolist() == [int(np.argmin(np.where(np.isnan(fmt.values), np.inf, fmt.values)))]
        return
    magnitudes, codes = ladder(fmt, negative)
    assert tuple(map(Fraction, side.magnitudes.tolist())) == magnitudes
    assert tuple(side.codes.tolist()) == codes
    assert fmt.rank[side.codes].tolist() == list(range(len(codes)))
    assert side.beyond > magnitudes[-1]
    infinities = np.flatnonzero(fmt.values == (-np.inf if negative else np.inf))
    assert side.infinity == (infinities[0] if infinities.size else None)


@looped("name", format_names())
def test_immutable(name: str) -> None:
    fmt = get_format(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        fmt.bits = 7  # type: ignore[misc]
    for array in (fmt.values, fmt.canonical):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    twin = dataclasses.replace(fmt, values=fmt.values.copy())
    assert twin == fmt
    assert hash(twin) == hash(fmt)
    changed = fmt.values.copy()
    changed[np.argmax(np.where(np.isfinite(changed), changed, -np.inf))] *= 1.5
    assert dataclasses.replace(fmt, values=changed) != fmt
    assert fmt != fmt.name


def test_own_copy_of_the_table() -> None:
    table = np.arange(4.0)
    fmt = Format(name="own", bits=2, family="integer", description="", values=table)
    table[1] = 9.0
    assert fmt.values[1] == 1.0


def test_rounded_ranks_are_the_magnitude_code() -> None:
    """Outside the RF family the rank is the magnitude code, which is what makes ties to even IEEE 754's."""
    for name in [*ML_DTYPES, "binary8p3se", "binary8p4se", "binary8p5se"]:
        fmt = get_format(name)
        if fmt.zero is None:
            continue
        half = 1 << (fmt.bits - 1)
        finite = np.isfinite(fmt.values[:half])
        np.testing.assert_array_equal(fmt.rank[:half][finite], np.arange(half)[finite])


# ---------------------------------------------------------------- the registry and bad input


def test_names_are_unique_and_lower_case() -> None:
    names = format_names()
    assert len(set(names)) == len(names)
    assert all(name == name.lower() for name in names)
    assert [fmt.name for fmt in map(registry.get_format, registry.format_names())] == names
    assert all(get_format(name) is get_format(name) for name in names)


@pytest.mark.parametrize("before", ["", "import rf8sim.formats", "rf8sim.encode(1.0, 'rf8')", "rf8sim.formats"])
def test_formats_means_one_thing_whatever_was_imported_before(before: str) -> None:
    """A submodule and a function of one name would be either, by the order of imports."""
    program = f"import rf8sim\n{before}\nprint(type(rf8sim.formats).__name__)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    alone = subprocess.run(
        [sys.executable, "-c", "import rf8sim; print(type(rf8sim.formats).__name__)"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert said == alone


def test_get_format_returns_a_format_as_it_is() -> None:
    fmt = rf(2, 2, None)
    assert get_format(fmt) is fmt


@pytest.mark.parametrize(
    ("wrong", "suggested"),
    [("rf9", "rf8"), ("E4M3FN", "e4m3fn"), ("int_8", "int8"), ("posit8es1", "posit8_es1")],
)
def test_unknown_name_suggests_the_nearest(wrong: str, suggested: str) -> None:
    with pytest.raises(ValueError, match=f"unknown format '{wrong}': did you mean '{suggested}'"):
        get_format(wrong)


@pytest.mark.parametrize("wrong", ["", "zzzzzzzz", "mxfp4", "rf(4,", "nosuch(4,4)", "__import__('os')"])
def test_unknown_name_without_a_near_one(wrong: str) -> None:
    with pytest.raises(ValueError, match="unknown format") as caught:
        get_format(wrong)
    assert "did you mean" not in str(caught.value)


def test_a_name_is_a_string() -> None:
    with pytest.raises(TypeError, match="int"):
        get_format(8)  # type: ignore[arg-type]


def test_parametric_names() -> None:
    assert get_format("rf(4,4)") != get_format("rf8"), "another name"
    same_values(get_format("rf(4,4)").values, get_format("rf8").values)
    same_values(get_format("rf(4, 4, 12)").values, np.ldexp(get_format("rf8").values, 3))
    assert get_format("rf(4,4,12)").name == "rf(4,4,12)"
    assert get_format("rf(4,4,12)").beyond == 14.0


@pytest.mark.parametrize(
    "wrong", ["rf(4)", "rf()", "rf(4,4,4,4)", "rf(4,3)", "rf(6,1)", "rf(a,b)", "rf(4.5,4)", "quantile(9,1)"]
)
def test_bad_parameters_are_one_clear_sentence(wrong: str) -> None:
    with pytest.raises(ValueError, match="format"):
        get_format(wrong)


def test_register(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_builders", dict(registry._builders))
    monkeypatch.setattr(registry, "_built", dict(registry._built))
    fmt = Format(name="two_bits", bits=2, family="integer", description="", values=np.arange(4.0))
    assert registry.register(fmt) is fmt
    assert "two_bits" in format_names()
    assert get_format("two_bits") is fmt
    with pytest.raises(ValueError, match="'two_bits' exists already"):
        registry.register(fmt)
    with pytest.raises(ValueError, match="'rf8' exists already"):
        registry.register(get_format("rf8"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.arange(3.0)}, "table of 4 values"),
        ({"bits": 17, "values": np.arange(131072.0)}, "1 to 16 bits, got 17"),
        ({"bits": 0, "values": np.arange(1.0)}, "1 to 16 bits, got 0"),
        ({"values": np.array([0.0, 0.1, 1.0, 2.0])}, "float32"),
        ({"values": np.array([0.0, 2.0**900, 1.0, 2.0])}, r"between 2\*\*-500 and"),
        ({"values": np.full(4, np.nan)}, "at least one finite value"),
        ({"nan": 1}, "its value is not NaN"),
    ],
)
def test_a_bad_table_is_refused(change: dict[str, object], message: str) -> None:
    good: dict[str, object] = {
        "name": "bad",
        "bits": 2,
        "family": "integer",
        "description": "",
        "values": np.arange(4.0),
    }
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=message):
        Format(**{**good, **change})  # type: ignore[arg-type]

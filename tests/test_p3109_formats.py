"""The formats of IEEE P3109 against the interim report (version 4.0), the working group's tables, and gfloat."""

from __future__ import annotations

import hashlib
import math

import gfloat
import numpy as np
import pytest
from gfloat.formats import format_info_p3109
from gfloat.types import Domain, Signedness

from rf8sim.formats import Format, get_format, p3109_format

KINDS = ("se", "sf", "ue", "uf")

INF, NAN = math.inf, math.nan

# Annex B.1, tables 4 to 7: all formats of 4 bits, by precision; negative halves mirror positive ones.
TABLES = {
    "se": [[0, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, INF], [0, 1 / 4, 1 / 2, 3 / 4, 1, 3 / 2, 2, INF],
           [0, 1 / 4, 1 / 2, 3 / 4, 1, 5 / 4, 3 / 2, INF]],
    "sf": [[0, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8], [0, 1 / 4, 1 / 2, 3 / 4, 1, 3 / 2, 2, 3],
           [0, 1 / 4, 1 / 2, 3 / 4, 1, 5 / 4, 3 / 2, 7 / 4]],
    "ue": [[0, *(2.0**e for e in range(-7, 6)), INF, NAN],
           [0, 1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1, 3 / 2, 2, 3, 4, 6, INF, NAN],
           [0, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1, 5 / 4, 3 / 2, 7 / 4, 2, 5 / 2, INF, NAN],
           [*(k / 8 for k in range(14)), INF, NAN]],
    "uf": [[0, *(2.0**e for e in range(-7, 7)), NAN],
           [0, 1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1, 3 / 2, 2, 3, 4, 6, 8, NAN],
           [0, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1, 5 / 4, 3 / 2, 7 / 4, 2, 5 / 2, 3, NAN],
           [*(k / 8 for k in range(15)), NAN]],
}  # fmt: skip

# Of each width, how many formats stay in 2**-500 to 2**500, and the SHA-256 of all their values, as the working group
# lists them: the .csv files of "Value Tables/Hexadecimal" in github.com/P3109/Public at commit 26df0d0 (June 2026),
# read with float.fromhex and hashed as little-endian float64, by precision and then se, sf, ue, uf.
PUBLISHED = {
    3: (10, "d1a32fe306366739"), 4: (14, "c91eb1d2c5e86703"), 5: (18, "77a3311a7cc665a9"),
    6: (22, "20e464a6e148809c"), 7: (26, "f2286b2e2f12c21a"), 8: (30, "c3f7cec182cfa478"),
    9: (34, "6caf840b6f2e846c"), 10: (36, "43f844514edfc535"), 11: (36, "e7a93d3f68a269a0"),
    12: (36, "042ca06795647dc6"), 13: (36, "e5b0c7f826800f4a"), 14: (36, "953f03542498a973"),
    15: (36, "2de0f6479ec7e597"), 16: (36, "a7971ca7910f3512"),
}  # fmt: skip


def formats(bits: int) -> list[Format]:
    """All formats of a width whose exponents, of at most the bias, fit; built anew, since they are many."""
    return [
        p3109_format(precision, bits, signed=kind[0] == "s", extended=kind[1] == "e")
        for precision in range(1, bits + 1)
        for kind in KINDS
        if precision <= bits - (kind[0] == "s") and 2 ** (bits - precision - (kind[0] == "s")) < 500
    ]


def test_formats_of_4_bits_are_the_tables_of_the_report() -> None:
    for kind, by_precision in TABLES.items():
        for precision, listed in enumerate(by_precision, start=1):
            expected = np.array(listed if kind[0] == "u" else [*listed, NAN, *(-v for v in listed[1:])])
            np.testing.assert_array_equal(get_format(f"binary4p{precision}{kind}").values, expected)


@pytest.mark.parametrize("bits", PUBLISHED)
def test_every_value_is_the_working_groups(bits: int) -> None:
    count, digest = PUBLISHED[bits]
    hashed, built = hashlib.sha256(), formats(bits)
    for fmt in built:
        hashed.update(np.where(np.isnan(fmt.values), np.nan, fmt.values).astype("<f8").tobytes())
    assert len(built) == count
    assert hashed.hexdigest()[:16] == digest


def steps(code: int, bits: int, precision: int, kind: str) -> int | str:
    """Section 3.1: what a code stands for, in units of the smallest positive value, or the name of a special one."""
    half, last = 1 << (bits - 1), (1 << bits) - 1
    if kind[0] == "s" and code > half:
        magnitude = steps(code - half, bits, precision, kind)
        return "-inf" if magnitude == "inf" else -int(magnitude)
    nan, infinity = (half, half - 1) if kind[0] == "s" else (last, last - 1)
    if code == nan or (kind[1] == "e" and code == infinity):
        return "nan" if code == nan else "inf"
    exponent, trailing = divmod(code, 1 << (precision - 1))
    return trailing if exponent == 0 else ((1 << (precision - 1)) + trailing) << (exponent - 1)


@pytest.mark.parametrize("bits", range(3, 16))
def test_every_value_is_the_formula_of_the_report(bits: int) -> None:
    """In integers: a value and the unit, two to the power 2 - bias - precision, as ratios."""
    for fmt in formats(bits):
        precision, kind = int(fmt.name.split("p")[1][:-2]), fmt.name[-2:]
        unit = (1 << (bits - precision - (kind[0] == "s"))) + precision - 2
        for code, value in enumerate(fmt.values.tolist()):
            expected = steps(code, bits, precision, kind)
            if isinstance(expected, str):
                assert str(value) == expected, (fmt.name, code)
                continue
            numerator, denominator = value.as_integer_ratio()
            assert numerator << max(unit, 0) == expected * denominator << max(-unit, 0), (fmt.name, code)


@pytest.mark.parametrize("bits", range(3, 17))
def test_every_value_is_gfloats(bits: int) -> None:
    for fmt in formats(bits):
        precision, kind = int(fmt.name.split("p")[1][:-2]), fmt.name[-2:]
        info = format_info_p3109(
            bits,
            precision,
            Signedness.Signed if kind[0] == "s" else Signedness.Unsigned,
            Domain.Extended if kind[1] == "e" else Domain.Finite,
        )
        np.testing.assert_array_equal(fmt.values, gfloat.decode_ndarray(info, np.arange(1 << bits)), err_msg=fmt.name)
        assert (fmt.max, fmt.min, fmt.smallest) == (info.max, info.min, info.smallest)
        assert fmt.negative_zero is None


def test_examples_of_the_report() -> None:
    p4 = get_format("binary8p4se")
    assert p4.values[0x48] == 2.0  # section 3.1, note 2
    assert p4.values[0x7F] == np.inf
    assert (p4.zero, p4.nan, p4.values[0xFF]) == (0, 0x80, -np.inf)  # Annex B
    assert get_format("binary8p1uf").nan == 0xFF
    assert get_format("binary12p7se").bits == 12  # section 3.2
    # Annex A.4: 224 is in both domains; it is the largest of the extended one.
    assert (p4.max, get_format("binary8p4sf").max) == (224.0, 240.0)


def test_bias_and_subnormals() -> None:
    """Section 3.1: 1.0 is coded by the bias, and exponents are above minus the bias."""
    for bits in (5, 8, 11):
        for fmt in formats(bits):
            precision, signed = int(fmt.name.split("p")[1][:-2]), fmt.name[-2] == "s"
            bias = 2 ** (bits - precision - signed)
            assert fmt.values[bias << (precision - 1)] == 1.0
            assert fmt.smallest == 2.0 ** (1 - bias + 1 - precision)
            assert fmt.subnormals_below == 2.0 ** (1 - bias)
            ulp = 2.0 ** (math.frexp(fmt.max)[1] - precision)
            assert fmt.beyond == fmt.max + max(ulp, fmt.smallest)


def test_shorter_names_are_signed_and_extended() -> None:
    for name in ("binary8p3", "binary8p4", "binary8p5", "binary12p7"):
        assert get_format(name) is get_format(f"{name}se")
        assert get_format(name).name == f"{name}se"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("binary8p8se", "3 to 16 bits here, and a precision from 1 to its bits"),
        ("binary8p0uf", "3 to 16 bits here"),
        ("binary2p1uf", "3 to 16 bits here"),
        ("binary17p8se", "3 to 16 bits here"),
        ("binary11p1se", r"values lie between 2\*\*-500 and 2\*\*500, these would run from 2\*\*-511 to 2\*\*510"),
        ("binary15p1uf", "use fewer exponent bits"),
    ],
)
def test_what_is_no_format_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"format '{name}': .*{message}"):
        get_format(name)

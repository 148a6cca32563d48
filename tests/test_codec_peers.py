"""The same numbers through other people's converters: ml_dtypes for 16 bits and in bulk, gfloat on a sample."""

from __future__ import annotations

import gfloat.formats
import ml_dtypes
import numpy as np
import pytest
from gfloat import RoundMode, encode_float, round_float
from oracle_helpers import all_patterns, around, nans, points, same_codes, specials, to_float64

import rf8sim
from rf8sim.formats import get_format
from rf8sim.formats.minifloat import ML_DTYPES

# What ml_dtypes makes of a number beyond the largest: the overflow option that is the same.
ML_OVERFLOW = {
    "e4m3fn": "nan",  # no infinity: overflow is NaN
    "e4m3": "infinity",
    "e4m3fnuz": "nan",
    "e4m3b11fnuz": "nan",
    "e5m2": "infinity",
    "e5m2fnuz": "nan",
    "e3m4": "infinity",
    "e8m0fnu": "nan",
    "e2m3fn": "saturate",  # neither infinity nor NaN
    "e3m2fn": "saturate",
    "e2m1fn": "saturate",
}


def test_the_table_is_complete() -> None:
    assert set(ML_OVERFLOW) == set(ML_DTYPES)


def peer(x: np.ndarray, name: str) -> np.ndarray:
    """The codes of ml_dtypes, its several NaN codes made one."""
    fmt = get_format(name)
    with np.errstate(invalid="ignore", over="ignore"):
        codes = x.astype(getattr(ml_dtypes, f"float{fmt.bits}_{name}")).view(np.uint8)
    return fmt.canonical[codes]


def ours(x: np.ndarray, name: str) -> np.ndarray:
    """The codes of ml_dtypes as the codec gives them; e8m0fnu's corners are put in by hand, one by one."""
    if name != "e8m0fnu":
        return rf8sim.encode(x, name, rounding=rf8sim.Rounding(overflow=ML_OVERFLOW[name]))
    # The significand of a power of two, 1, is odd: a tie goes to the larger (IEEE 754-2019 4.3.1), here and there.
    codes = rf8sim.encode(x, name, rounding=rf8sim.Rounding("nearest-even", "nan"))
    # A format without zero: ml_dtypes makes NaN of 0, the codec the smallest value.
    wide = to_float64(x)
    codes[wide == 0] = 0xFF
    # Between 2**-127 and the midpoint 1.5 * 2**-127, where float32 is subnormal, ml_dtypes goes to the farther 2**-126.
    codes[(wide > 2.0**-127) & (wide < 1.5 * 2.0**-127)] = 1
    return codes


def without_nan(x: np.ndarray, name: str) -> np.ndarray:
    return x if get_format(name).nan is not None else x[~np.isnan(to_float64(x))]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ML_OVERFLOW)
def test_ml_dtypes_on_every_16_bit_input(name: str, dtype: str) -> None:
    x = without_nan(all_patterns(dtype), name)
    same_codes(ours(x, name), peer(x, name), x, get_format(name), "against ml_dtypes")


@pytest.mark.parametrize("name", ML_OVERFLOW)
def test_ml_dtypes_on_float32(name: str) -> None:
    fmt = get_format(name)
    rng = np.random.default_rng(12)
    some = rng.integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    x = np.concatenate([around(points(fmt), "float32", ulps=3), specials("float32"), nans("float32"), some])
    x = without_nan(x, name)
    same_codes(ours(x, name), peer(x, name), x, fmt, "against ml_dtypes")


@pytest.mark.slow
@pytest.mark.parametrize("name", ML_OVERFLOW)
def test_ml_dtypes_on_a_hundred_million_float32(name: str) -> None:
    """Every 41st pattern of the 2**32, so that every exponent and every leading significand bits are met."""
    fmt = get_format(name)
    chunk, step, seen = 1 << 22, 41, 0
    for first in range(0, 1 << 32, chunk * step):
        patterns = np.arange(first, min(first + chunk * step, 1 << 32), step, dtype=np.uint64).astype(np.uint32)
        x = without_nan(patterns.view(np.float32), name)
        same_codes(ours(x, name), peer(x, name), x, fmt, "against ml_dtypes")
        seen += patterns.size
    assert seen > 10**8


@pytest.mark.parametrize("name", [name for name in ML_OVERFLOW if name != "e8m0fnu"])
def test_ml_dtypes_rounds_float64_twice(name: str) -> None:
    """ml_dtypes takes float64 through float32. The codec does not; given the float32 it agrees."""
    fmt = get_format(name)
    x = around(points(fmt), "float64")
    once, twice = rf8sim.encode(x, name, rounding=rf8sim.Rounding(overflow=ML_OVERFLOW[name])), peer(x, name)
    with np.errstate(over="ignore"):
        narrow = x.astype(np.float32)
    same_codes(rf8sim.encode(narrow, name, rounding=rf8sim.Rounding(overflow=ML_OVERFLOW[name])), twice, narrow, fmt)
    assert np.any(once != twice)


# ---------------------------------------------------------------- gfloat

GFLOAT = {
    "e4m3fn": gfloat.formats.format_info_ocp_e4m3,
    "e5m2": gfloat.formats.format_info_ocp_e5m2,
    "e2m3fn": gfloat.formats.format_info_ocp_e2m3,
    "e3m2fn": gfloat.formats.format_info_ocp_e3m2,
    "e2m1fn": gfloat.formats.format_info_ocp_e2m1,
    "e8m0_even": gfloat.formats.format_info_ocp_e8m0,
    "binary8p3": gfloat.formats.format_info_p3109(8, 3),
    "binary8p4": gfloat.formats.format_info_p3109(8, 4),
    "binary8p5": gfloat.formats.format_info_p3109(8, 5),
}
GFLOAT_MODES = {
    "nearest-even": RoundMode.TiesToEven,
    "nearest-away": RoundMode.TiesToAway,
    "toward-zero": RoundMode.TowardZero,
    "up": RoundMode.TowardPositive,
    "down": RoundMode.TowardNegative,
}


@pytest.mark.parametrize("rounding", GFLOAT_MODES)
@pytest.mark.parametrize("name", GFLOAT)
def test_gfloat(name: str, rounding: str) -> None:
    fmt, info = get_format(name), GFLOAT[name]
    x = np.concatenate([around(points(fmt), "float32"), specials("float32")]).astype(np.float64)
    if name == "e8m0_even":  # gfloat leaves open what is below the smallest value of a format without zero
        x = x[x >= fmt.smallest]
    options = {"saturate": True}
    if fmt.sides[0].infinity is not None:
        options["ieee"] = False
    elif fmt.nan is not None and rounding.startswith("nearest"):
        # In a directed mode gfloat stops finite numbers at the largest value even where overflow is NaN.
        options["nan"] = False
    for overflow, saturates in options.items():
        theirs = [encode_float(info, round_float(info, v, GFLOAT_MODES[rounding], saturates)) for v in x.tolist()]
        expected = fmt.canonical[np.array(theirs, dtype=np.uint8)]
        got = rf8sim.encode(x, fmt, rounding=rf8sim.Rounding(rounding, overflow))
        same_codes(got, expected, x, fmt, f"{rounding} {overflow} against gfloat")

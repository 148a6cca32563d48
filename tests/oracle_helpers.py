"""What the codec's tests share: inputs that matter, a second exact path, failures that explain themselves.

`vector_round` is written from the specification, as `rf8sim.reference` is, but over arrays: one float64 a pair
of neighbours, the first that goes to the upper one. Comparing float64 numbers is exact, so it is an exact oracle
for every input that is one; `test_codec_16bit.py` holds it against the Fraction oracle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from rf8sim.formats import Format, format_names, get_format
from rf8sim.reference import MODES, OVERFLOWS, floor_log2, ladder, power_of_two, round_value

DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}
# Not named in any registry, but allowed: the corners of the RF family.
UNREGISTERED = ("rf(4,4,12)", "rf(1,2)", "rf(5,2)", "rf(2,16)", "quantile(8,0.7)", "quantile(3,1)")


def modes(fmt: Format, *, stochastic: bool = False) -> list[str]:
    """The rounding modes that a format has."""
    has = {"residual": fmt.family == "residual", "stochastic": stochastic}
    return [mode for mode in MODES if has.get(mode, True)]


def overflows(fmt: Format) -> list[str]:
    """The overflow options that a format has."""
    infinity, nan = bool(np.isinf(fmt.values).any()), fmt.nan is not None
    has = {"saturate": True, "propagate": infinity or fmt.family == "p3109", "ieee": infinity or nan,
           "infinity": infinity, "nan": nan}  # fmt: skip
    return [option for option in OVERFLOWS if has[option]]


def cases(*, overflow: bool = True, names: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every (format, mode) or (format, mode, overflow), stochastic left out."""
    found: list[tuple[str, ...]] = []
    for name in names or (*format_names(), *UNREGISTERED):
        fmt = get_format(name)
        for mode in modes(fmt):
            found += [(name, mode, option) for option in overflows(fmt)] if overflow else [(name, mode)]
    return found


def all_patterns(dtype: str) -> NDArray[np.generic]:
    """All 65,536 numbers of a 16-bit type, NaNs of every payload included."""
    return np.arange(1 << 16, dtype=np.uint16).view(DTYPES[dtype])


def to_float64(x: NDArray[np.generic]) -> NDArray[np.float64]:
    """Widen exactly, signalling NaNs included."""
    with np.errstate(invalid="ignore"):
        return x.astype(np.float64)


def oracle(
    x: NDArray[np.generic],
    fmt: Format,
    rounding: str,
    overflow: str = "saturate",
    nan_code: int | None = None,
) -> NDArray[np.uint8]:
    """`reference.round_value` of every element; NaN counts as `nan_code` in a format without NaN."""
    flat = x.ravel()
    codes = np.empty(flat.size, dtype=np.uint8)
    for i, value in enumerate(flat if flat.dtype == ml_dtypes.bfloat16 else flat.tolist()):
        codes[i] = nan_code if nan_code is not None and value != value else round_value(value, fmt, rounding, overflow)
    return codes.reshape(x.shape)


# ---------------------------------------------------------------- the second path


def vector_round(x: NDArray[np.float64], fmt: Format, rounding: str, overflow: str = "saturate") -> NDArray[np.uint8]:
    """Round float64 numbers, which must not be NaN where the format has none."""
    assert x.dtype == np.float64
    codes = np.zeros(x.shape, dtype=np.uint8)
    nan = np.isnan(x)
    if fmt.nan is not None:
        codes[nan] = fmt.nan
    for negative in (False, True):
        here = (np.signbit(x) == negative) & ~nan
        magnitudes = np.abs(x[here])
        if negative and not fmt.signed:
            lowest = ladder(fmt, False)[1][0]
            zero = lowest if fmt.zero is None else fmt.zero
            inward = (overflow == "ieee") & np.isfinite(magnitudes) & (rounding in ("toward-zero", "up"))
            outside = fmt.nan if overflow in ("nan", "ieee") and fmt.nan is not None else lowest
            outside = np.where(inward, lowest, outside)
            if overflow == "ieee" and fmt.zero is not None:
                step = float(ladder(fmt, False)[0][1])
                half = magnitudes <= step / 2 if rounding == "nearest-even" else magnitudes < step / 2
                near = {"down": magnitudes == 0, "to-odd": magnitudes == 0, "nearest-even": half, "nearest-away": half}
                magnitudes = np.where(near.get(rounding, magnitudes < step), 0.0, magnitudes)
            codes[here] = np.where(magnitudes == 0, zero, outside)
            continue
        places = np.searchsorted(first_upper(fmt, rounding, negative), magnitudes, side="right")
        side = list(ladder(fmt, negative)[1])
        beyond, infinite = side[-1], side[-1]
        if overflow == "nan":
            beyond = infinite = fmt.nan
        elif overflow != "saturate":
            infinities = np.flatnonzero(fmt.values == (-np.inf if negative else np.inf))
            if infinities.size:
                infinite = int(infinities[0])
            elif overflow == "ieee" and fmt.family != "p3109":
                infinite = fmt.nan
            inward = rounding in ("toward-zero", "up" if negative else "down")
            if fmt.family == "p3109" and not fmt.signed and rounding == "to-odd":
                inward = True
            if overflow == "infinity" or (overflow == "ieee" and not inward):
                beyond = infinite
        found = np.array([*side, beyond], dtype=np.uint8)[places]
        codes[here] = np.where(np.isinf(magnitudes), np.uint8(infinite), found)
    return codes


def first_upper(fmt: Format, rounding: str, negative: bool) -> NDArray[np.float64]:
    """For each magnitude of a side the first float64 that rounds to the next one, or beyond the last."""
    magnitudes = list(ladder(fmt, negative)[0])
    beyond = fmt.beyond_negative if negative and fmt.beyond_negative is not None else fmt.beyond
    if math.isfinite(beyond):
        magnitudes.append(Fraction(beyond))
    first: list[float] = []
    for rank, (low, high) in enumerate(pairwise(magnitudes)):
        at_once, never = math.nextafter(float(low), math.inf), float(high)
        if rounding in ("nearest-even", "nearest-away") or (rounding == "residual" and low == 0):
            middle = (low + high) / 2
            if fmt.nearest_boundaries is not None:
                middle = Fraction(fmt.nearest_boundaries[rank])
            boundary = float(middle)
            assert boundary == middle, "a boundary must be a float64 number for this path to be exact"
            upward = rounding == "nearest-away" or (rounding == "nearest-even" and (rank % 2 == 1 or fmt.ties_away))
            if fmt.nearest_boundaries is not None and low == 0:
                first.append(at_once)
            else:
                first.append(boundary if upward else math.nextafter(boundary, math.inf))
        elif rounding == "residual":
            first.append(float_above(residual_boundary(low, high)))
        else:
            away = {
                "toward-zero": False, "up": not negative, "down": negative, "to-odd": rank % 2 == 0
            }[rounding]  # fmt: skip
            first.append(at_once if away else never)
    return np.array(first)


def residual_boundary(low: Fraction, high: Fraction) -> Fraction:
    """The boundary of the residual rule between neighbours, a hair (2**-200 of the step) below it.

    Neighbours share the power of two that is nearest to both, B; their distances from it double, and the rule
    parts them at ``B + (high - B) / sqrt(2)`` above B, ``B - (B - low) / sqrt(2)`` below.
    """
    power = power_of_two(floor_log2(low))
    base = power if low < power * Fraction(3, 2) else 2 * power
    step = high - base if low >= base else base - low
    half = step * Fraction(math.isqrt(2**401), 2**201)
    return base + half if low >= base else base - half - step / 2**200


def float_above(x: Fraction) -> float:
    """The smallest float64 above `x`."""
    nearest = float(x)
    return nearest if nearest > x else math.nextafter(nearest, math.inf)


# ---------------------------------------------------------------- inputs


def points(fmt: Format) -> list[Fraction]:
    """The magnitudes where something can happen in any mode: values, boundaries and what lies beyond."""
    found: set[Fraction] = {Fraction(0)}
    for negative in (False, True)[: 1 + fmt.signed]:
        magnitudes = list(ladder(fmt, negative)[0])
        beyond = fmt.beyond_negative if negative and fmt.beyond_negative is not None else fmt.beyond
        if math.isfinite(beyond):
            magnitudes.append(Fraction(beyond))
        found.update(magnitudes)
        found.update((low + high) / 2 for low, high in pairwise(magnitudes))
        found.update({magnitudes[-1] * 2, magnitudes[-1] * Fraction(9, 8), magnitudes[0] / 2, magnitudes[1] / 4})
        if fmt.family == "residual":
            found.update(residual_boundary(low, high) for low, high in pairwise(magnitudes) if low)
    found.update(map(Fraction, fmt.nearest_boundaries or ()))
    return sorted(found)


def around(magnitudes: list[Fraction], dtype: str, ulps: int = 1) -> NDArray[np.generic]:
    """The numbers of a floating type about each magnitude, `ulps` to either side, of both signs."""
    kind = DTYPES[dtype]
    unsigned = np.dtype(f"u{kind.itemsize}")
    # From float64 to a narrower type rounds once more; a neighbour is at most one further away.
    with np.errstate(over="ignore"):
        near = np.array([float(m) for m in magnitudes]).astype(kind).view(unsigned).astype(np.int64)
    top = int(np.array(np.inf).astype(kind).view(unsigned))
    spread = np.clip(near[:, None] + np.arange(-ulps - 1, ulps + 2), 0, top)
    patterns = np.unique(spread).astype(unsigned)
    sign = unsigned.type(1 << (8 * kind.itemsize - 1))
    return np.concatenate([patterns, patterns | sign]).view(kind)


def specials(dtype: str) -> NDArray[np.generic]:
    """Zeros, subnormals, extremes, infinities."""
    kind = DTYPES[dtype]
    unsigned = np.dtype(f"u{kind.itemsize}")
    info = ml_dtypes.finfo(kind)
    top = int(np.array(np.inf).astype(kind).view(unsigned))
    one_subnormal_less = (1 << info.nmant) - 1
    patterns = [
        0,
        1,
        2,
        3,
        one_subnormal_less,
        one_subnormal_less + 1,
        one_subnormal_less + 2,
        top - 2,
        top - 1,
        top,
    ]
    sign = 1 << (8 * kind.itemsize - 1)
    return np.array([*patterns, *(p | sign for p in patterns)], dtype=unsigned).view(kind)


def nans(dtype: str) -> NDArray[np.generic]:
    """Quiet and signalling NaNs of several payloads and both signs."""
    kind = DTYPES[dtype]
    unsigned = np.dtype(f"u{kind.itemsize}")
    nmant = ml_dtypes.finfo(kind).nmant
    top = int(np.array(np.inf).astype(kind).view(unsigned))
    payloads = [1, 2, (1 << (nmant - 1)) - 1, 1 << (nmant - 1), (1 << (nmant - 1)) + 1, (1 << nmant) - 1]
    sign = 1 << (8 * kind.itemsize - 1)
    return np.array([top | p | s for p in payloads for s in (0, sign)], dtype=unsigned).view(kind)


# ---------------------------------------------------------------- verdicts


def same_codes(
    got: NDArray[np.uint8], expected: NDArray[np.uint8], x: NDArray[np.generic], fmt: Format, what: str = ""
) -> None:
    """Fail with the first few inputs on which two arrays of codes differ."""
    assert got.dtype == np.uint8
    assert got.shape == expected.shape == x.shape
    wrong = np.flatnonzero(got.ravel() != expected.ravel())
    if wrong.size:
        lines = [f"{fmt.name} {what}: {wrong.size} of {got.size} codes differ; the first:"]
        for i in wrong[:6]:
            value, code, wanted = x.ravel()[i], int(got.ravel()[i]), int(expected.ravel()[i])
            lines.append(
                f"  x = {value!r} ({float(value).hex()}): code {code:#04x} = {fmt.values[code]!r}, "
                f"expected {wanted:#04x} = {fmt.values[wanted]!r}"
            )
        raise AssertionError("\n".join(lines))


def first_where(predicate: Callable[[int], bool], low: int, high: int) -> int:
    """The first integer of ``low..high`` where a monotone predicate holds, by bisection."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if predicate(middle) else (middle + 1, high)
    return low

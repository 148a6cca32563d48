"""The functions of gfloat computed by rf8sim, and a pytest plugin that puts them in place of gfloat's.

With ``-p gfloat_adapter`` gfloat's test-suite judges rf8sim: `test_gfloat.py` runs it so. A call about what rf8sim does
not have goes to gfloat, and is counted: the plugin writes, for each function and format, how many calls either
answered, as JSON into the file that the environment variable ``GFLOAT_ADAPTER_CALLS`` names.

Where both libraries state different conventions, the adapter translates gfloat's into options of rf8sim, here only:

* ``sat=False`` is ``ieee``. But for the finite formats of P3109, whose SatNone is the largest value, gfloat gives NaN
  as for other formats: that is ``nan`` in modes that do not truncate.
* Without infinities and NaN, ``sat=False`` raises ValueError in gfloat where a result is out of range.
* Each of gfloat's four stochastic modes is the carry of fraction and word, for other words (`_words`).
* `encode_float` cuts off, but what is above the largest value by any amount is infinity or NaN.
* The code of NaN is gfloat's where a format has several.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any

import gfloat
import gfloat.block
import numpy as np
from gfloat import FloatClass, FloatValue, FormatInfo, RoundMode
from numpy.typing import NDArray

import rf8sim
from rf8sim.codec.thresholds import overflow_start
from rf8sim.formats import Format, get_format

NAMES = {
    "binary16": "float16", "bfloat16": "bfloat16", "ocp_e5m2": "e5m2", "ocp_e4m3": "e4m3fn", "ocp_e2m3": "e2m3fn",
    "ocp_e3m2": "e3m2fn", "ocp_e2m1": "e2m1fn", "ocp_e8m0": "e8m0_even", "ocp_int8": "q(2,6)",
}  # fmt: skip
MODES = {
    "TowardZero": "toward-zero",
    "TowardNegative": "down",
    "TowardPositive": "up",
    "TiesToEven": "nearest-even",
    "TiesToAway": "nearest-away",
    "ToOdd": "to-odd",
}
STOCHASTIC = ("Stochastic", "StochasticOdd", "StochasticFast", "StochasticFastest")
ORIGINAL = {
    name: getattr(gfloat, name)
    for name in ("decode_float", "decode_ndarray", "encode_float", "encode_ndarray", "round_float", "round_ndarray")
}
calls: Counter[tuple[str, str, str]] = Counter()
"""How often a function was called for a format, by who answered: rf8sim or gfloat."""


class NotSharedError(Exception):
    """What gfloat has and rf8sim has not."""


@lru_cache(maxsize=1024)
def format_of(name: str) -> Format:
    """The format of rf8sim that gfloat has by this name."""
    p3109 = re.fullmatch(r"p3109_k(\d+)p(\d+)([su][ef])", name)
    try:
        return get_format("binary{}p{}{}".format(*p3109.groups()) if p3109 else NAMES[name])
    except (KeyError, ValueError):
        raise NotSharedError(name) from None


def round_codes(
    info: FormatInfo, x: NDArray[np.float64], mode: RoundMode, sat: bool, srbits: Any = None, srnumbits: int = 0
) -> NDArray[Any]:
    """The codes of rf8sim for what gfloat is asked."""
    fmt = format_of(info.name)
    infinities, nan = fmt.sides[0].infinity is not None, fmt.nan is not None
    no_infinity = fmt.family == "p3109" and not infinities
    overflow = "saturate" if sat or not (infinities or nan) else "nan" if no_infinity else "ieee"
    if mode.name in STOCHASTIC:
        if not (sat or infinities or nan) and np.any((x > info.max) | (x < info.min)):
            raise NotSharedError("results out of range are refused")
        words, bits = _words(mode.name, np.broadcast_to(np.asarray(srbits, dtype=np.uint64), x.shape), srnumbits)
        return rf8sim.encode(x, fmt, rounding=rf8sim.Rounding("stochastic", overflow, words=words, bits=bits))
    name = MODES[mode.name]
    if not sat and not infinities:
        stops = np.isfinite(x) & ((name == "toward-zero") | (x > 0 if name == "down" else (x < 0) & (name == "up")))
        if no_infinity:
            stopped = rf8sim.encode(x, fmt, rounding=rf8sim.Rounding(name, "saturate"))
            return np.where(stops, stopped, rf8sim.encode(x, fmt, rounding=rf8sim.Rounding(name, "nan")))
        for negative in (False, True)[: 0 if nan else 1 + fmt.signed]:
            beyond = (-x if negative else x) >= overflow_start(fmt, rf8sim.RoundingMode(name), negative)
            if np.any(beyond & ~stops):
                raise ValueError(f"{info.name} has neither infinity nor NaN")
    return rf8sim.encode(x, fmt, rounding=rf8sim.Rounding(name, overflow))


def _words(mode: str, random: NDArray[np.uint64], bits: int) -> tuple[NDArray[np.uint32], int]:
    """The words whose carry with the fraction, cut off to the bits returned, decides as gfloat's mode does.

    With r of n bits and the fraction p of a gap: StochasticFastest goes up where ``floor(p 2**n) + r >= 2**n``, which
    is the carry; StochasticFast where ``p 2**n >= 2**n - r - 1/2``. Stochastic rounds ``p 2**n`` to an integer first,
    so that it differs from the latter only at equality, and there for odd r (StochasticOdd for even r). That it is no
    equality takes a word smaller by one, exact if the fraction has no more than 32 bits.
    """
    if not 1 <= bits <= (32 if mode == "StochasticFastest" else 31):
        raise NotSharedError(f"{bits} random bits")
    if np.any(random >> np.uint64(bits)):
        raise ValueError(f"random words of more than {bits} bits")
    if mode == "StochasticFastest":
        return random.astype(np.uint32), bits
    halves = 2 * random + 1
    if mode == "StochasticFast":
        return halves.astype(np.uint32), bits + 1
    unequal = (random ^ np.uint64(mode == "StochasticOdd")) & np.uint64(1)
    return ((halves << np.uint64(31 - bits)) - unequal).astype(np.uint32), 32


# ---------------------------------------------------------------- gfloat's functions


def round_ndarray(
    fi: FormatInfo,
    v: NDArray[Any],
    rnd: RoundMode = RoundMode.TiesToEven,
    sat: bool = False,
    srbits: Any = None,
    srnumbits: int = 0,
) -> NDArray[Any]:
    if not isinstance(v, np.ndarray):
        raise NotSharedError("arrays of other libraries")
    codes = round_codes(fi, v.astype(np.float64), rnd, sat, srbits, srnumbits)
    return rf8sim.decode(codes, format_of(fi.name), dtype="float64").astype(v.dtype)


def round_float(
    fi: FormatInfo,
    v: float,
    rnd: RoundMode = RoundMode.TiesToEven,
    sat: bool = False,
    srbits: int = -1,
    srnumbits: int = 0,
) -> float:
    return float(round_ndarray(fi, np.array([float(v)]), rnd, sat, srbits, srnumbits)[0])


def decode_ndarray(fi: FormatInfo, codes: NDArray[Any], np: Any = np) -> NDArray[Any]:
    return rf8sim.decode(codes, format_of(fi.name), dtype="float64")


def decode_float(fi: FormatInfo, i: int) -> FloatValue:
    fmt = format_of(fi.name)
    value = float(rf8sim.decode(np.array([i]), fmt, dtype="float64")[0])
    finite = value if math.isfinite(value) else 0.0
    fraction, exponent = math.frexp(abs(finite))
    subnormal = fmt.subnormals_below is not None and 0 < abs(finite) < fmt.subnormals_below
    kind = (
        FloatClass.NAN if math.isnan(value)
        else FloatClass.INFINITE if math.isinf(value)
        else FloatClass.ZERO if value == 0
        else FloatClass.SUBNORMAL if subnormal
        else FloatClass.NORMAL
    )  # fmt: skip
    significand = int(fraction * 2**fi.precision)
    sign = int(fi.is_signed and i >> (fi.k - 1))
    return FloatValue(i, value, exponent - 1 + fi.bias, exponent - 1, significand, 2 * fraction, sign, kind)


def encode_ndarray(fi: FormatInfo, v: NDArray[Any]) -> NDArray[Any]:
    fmt, x = format_of(fi.name), v.astype(np.float64)
    inside = np.clip(x, fi.min, fi.max)  # NaN stays
    codes = rf8sim.encode(inside, fmt, rounding="toward-zero").astype(np.uint64)
    if fmt.nan is not None:
        codes[np.isnan(x)] = fi.code_of_nan
    for side, beyond in zip(fmt.sides, (x > fi.max, x < fi.min), strict=True):
        if side.infinity is not None:
            codes[beyond] = side.infinity
        elif fmt.nan is not None:
            codes[beyond] = fi.code_of_nan
    return codes


def encode_float(fi: FormatInfo, v: float) -> int:
    return int(encode_ndarray(fi, np.array([float(v)]))[0])


# ---------------------------------------------------------------- the plugin


def _counted(name: str) -> Callable[..., Any]:
    ours, theirs = globals()[name], ORIGINAL[name]

    @wraps(theirs)
    def call(fi: FormatInfo, *arguments: Any, **options: Any) -> Any:
        try:
            result = ours(fi, *arguments, **options)
        except NotSharedError as reason:
            calls["gfloat", name, str(reason)] += 1
            return theirs(fi, *arguments, **options)
        calls["rf8sim", name, fi.name] += 1
        return result

    return call


def pytest_configure() -> None:
    """Replace gfloat's functions before a test imports them."""
    for name in ORIGINAL:
        for module in (gfloat, gfloat.block):
            if callable(getattr(module, name, None)):
                setattr(module, name, _counted(name))


def pytest_sessionfinish() -> None:
    if "GFLOAT_ADAPTER_CALLS" in os.environ:
        rows = [[*key, count] for key, count in sorted(calls.items())]
        Path(os.environ["GFLOAT_ADAPTER_CALLS"]).write_text(json.dumps(rows), encoding="utf-8")

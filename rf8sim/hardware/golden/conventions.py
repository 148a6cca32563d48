"""What standards and machines leave to each other: NaN patterns, tininess, signalling NaN, overflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..._base.checks import choose
from ...formats import Format
from ...formats.floats import Specials
from .ports import Codes, Float, Kind, Patterns, unsigned

__all__ = [
    "PROFILES", "SIGNALLING", "TININESS", "Conventions", "Profile", "get_profile", "has_signalling", "has_subnormals",
    "signalling_nans",
]  # fmt: skip

TININESS = ("before", "after")
"""When IEEE 754 lets a machine decide that a result is tiny: before it is rounded, or after."""


SIGNALLING = ("quiet", "invalid")
"""What a signalling NaN does as an operand: nothing, or raise ``invalid`` as IEEE 754 says."""


@dataclass(frozen=True)
class Conventions:
    """What a design does where IEEE 754 leaves a choice.

    Attributes
    ----------
    tininess : str
        ``before`` or ``after`` rounding; of formats with subnormals.
    signalling : bool
        Whether a signalling NaN (its highest mantissa bit is 0) as an operand raises ``invalid``.
    nan : int or None
        Pattern of every NaN that is a result; None for the one that the format has as canonical.
    """

    tininess: str = "before"
    signalling: bool = False
    nan: int | None = None

    def __post_init__(self) -> None:
        choose("tininess", self.tininess, TININESS)


class Profile(NamedTuple):
    """The conventions of a standard or a machine.

    Attributes
    ----------
    source : str
        Where they are stated.
    overflow : str
        What a number beyond the largest becomes; in formats with neither infinity nor NaN it saturates.
    tininess : str
        As in `Conventions`; where there are no flags, ``before``.
    signalling : bool
        As in `Conventions`.
    nans : mapping of str to int
        The pattern of NaN results by format; of others the highest mantissa bit alone is set.
    """

    source: str
    overflow: str
    tininess: str
    signalling: bool
    nans: Mapping[str, int]


PROFILES: dict[str, Profile] = {
    "riscv": Profile(
        "RISC-V unprivileged ISA, F extension, sections on NaN and tininess; Zvfofp8min for FP8",
        "ieee", "after", True, {"e4m3fn": 0x7F, "e5m2": 0x7F},
    ),
    "cuda": Profile(
        "CUDA C++ and PTX ISA, canonical NaN; cuda_fp8.h, conversions with __NV_NOSAT; there are no flags",
        "ieee", "before", False,
        {"e4m3fn": 0x7F, "e5m2": 0x7F, "float16": 0x7FFF, "bfloat16": 0x7FFF, "float32": 0x7FFFFFFF},
    ),
    "ocp": Profile(
        "OCP 8-bit Floating Point Specification 1.0, table 3, saturation mode; OCP Microscaling Formats 1.0",
        "saturate", "before", False, {},
    ),
    "p3109": Profile(
        "IEEE P3109 interim report 4.0, SatNone; there are no flags, and one NaN",
        "ieee", "before", False, {},
    ),
}  # fmt: skip
"""By name, the conventions that ``--profile`` takes."""


def get_profile(name: str) -> Profile:
    """Return the conventions of a name; ValueError if there are none.

    Examples
    --------
    >>> hex(get_profile("riscv").nans["e5m2"]), get_profile("cuda").overflow
    ('0x7f', 'ieee')
    """
    return PROFILES[choose("profile", name, PROFILES)]


def has_subnormals(kind: Kind) -> bool:
    """Return whether tininess has a threshold that rounding may reach: the smallest normal number."""
    if isinstance(kind, Float):
        return kind.layout.subnormals
    return isinstance(kind, Codes) and bool(kind.format.subnormals_below)


@lru_cache(maxsize=64)
def _signalling_codes(fmt: Format) -> NDArray[np.bool_]:
    """Return which codes are signalling: NaN above an infinity whose mantissa is zero, without its highest bit."""
    codes = np.arange(1 << fmt.bits)
    size = 1 << 8 * unsigned(fmt.bits).itemsize
    infinity = fmt.sides[0].infinity
    if fmt.family != "minifloat" or infinity is None or infinity & -infinity == 1:
        return np.zeros(size, np.bool_)
    quiet = (infinity & -infinity) >> 1
    return np.resize(np.isnan(fmt.values) & (codes & quiet == 0), size)


def signalling_nans(kind: Kind, patterns: Patterns) -> NDArray[np.bool_]:
    """Return which patterns are signalling NaNs.

    Examples
    --------
    >>> from .ports import get_kind
    >>> signalling_nans(get_kind("e5m2"), np.array([0x7C, 0x7D, 0x7E, 0xFD], np.uint8)).tolist()
    [False, True, False, True]
    """
    signals: NDArray[np.bool_]
    if isinstance(kind, Codes):
        signals = _signalling_codes(kind.format)[patterns]
        return signals
    if isinstance(kind, Float) and kind.layout.specials is Specials.IEEE:
        quiet = patterns.dtype.type(1 << (kind.layout.mantissa_bits - 1))
        signals = kind.is_nan(patterns) & (patterns & quiet == 0)
        return signals
    return np.zeros(patterns.shape, np.bool_)


def has_signalling(kind: Kind) -> bool:
    """Return whether a kind has signalling NaNs."""
    return isinstance(kind, Float) or (isinstance(kind, Codes) and bool(_signalling_codes(kind.format).any()))

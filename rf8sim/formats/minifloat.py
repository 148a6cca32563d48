"""Floating-point formats of at most 16 bits: by widths and rules, those of ml_dtypes, 16-bit floats, P3109's."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from .._base.checks import are_integers, choose
from .base import REACH, Format
from .floats import FloatLayout, Specials, get_layout, magnitude_values

__all__ = [
    "ML_DTYPES", "NanCodes", "dlfloat_format", "e8m0_even_format", "ieee_format", "minifloat_format",
    "ml_dtypes_format", "p3109_format", "unsigned_format",
]  # fmt: skip

ML_DTYPES = {
    "e4m3fn": "OCP E4M3: no infinity, one NaN a sign",
    "e4m3": "IEEE-style E4M3 with infinities",
    "e4m3fnuz": "E4M3 of AMD and Graphcore: no negative zero, one NaN",
    "e4m3b11fnuz": "E4M3 with bias 11: no negative zero, one NaN",
    "e5m2": "OCP E5M2: IEEE-style, with infinities",
    "e5m2fnuz": "E5M2 of AMD and Graphcore: no negative zero, one NaN",
    "e3m4": "IEEE-style E3M4 with infinities",
    "e8m0fnu": "OCP E8M0: unsigned powers of two, the scale of MX blocks; a tie goes to the larger",
    "e2m3fn": "OCP MX E2M3: 6 bits, no NaN, no infinity",
    "e3m2fn": "OCP MX E3M2: 6 bits, no NaN, no infinity",
    "e2m1fn": "OCP MX E2M1: 4 bits, no NaN, no infinity",
}
"""The formats taken from ml_dtypes (its ``float8_*``, ``float6_*``, ``float4_*`` types), with a line for people."""

_WIDE = {
    "float16": "IEEE 754 binary16: 5 exponent and 10 mantissa bits",
    "bfloat16": "bfloat16: the upper half of float32, 8 exponent and 7 mantissa bits",
}


class NanCodes(StrEnum):
    """Which codes of a minifloat are NaN.

    Examples
    --------
    >>> NanCodes("all-ones")
    <NanCodes.ALL_ONES: 'all-ones'>
    """

    IEEE = "ieee"
    """An exponent field of ones is no number: infinity where the mantissa is zero, NaN elsewhere."""
    ALL_ONES = "all-ones"
    """The code whose exponent and mantissa are ones, of either sign; an infinity is the code below it."""
    NEGATIVE_ZERO = "negative-zero"
    """The code of negative zero; an infinity is the code whose exponent and mantissa are ones."""
    NONE = "none"
    """No code; an infinity is the code whose exponent and mantissa are ones."""


@dataclass(frozen=True)
class _Minifloat:
    """What a minifloat is: field widths, bias and the rules of its special codes."""

    exponent_bits: int
    mantissa_bits: int
    bias: int
    nan: NanCodes
    inf: bool
    signed_zero: bool
    signed: bool = True
    subnormals: bool = True

    @property
    def bits(self) -> int:
        return self.signed + self.exponent_bits + self.mantissa_bits

    @property
    def all_ones(self) -> int:
        """The code of exponent and mantissa of ones, without the sign."""
        return (1 << (self.exponent_bits + self.mantissa_bits)) - 1

    @property
    def largest_code(self) -> int:
        """The code of the largest finite value; that of infinity, if there is one, is the next."""
        if self.nan is NanCodes.IEEE:
            return self.all_ones - (1 << self.mantissa_bits)
        return self.all_ones - (self.nan is NanCodes.ALL_ONES) - self.inf

    @property
    def emax(self) -> int:
        """Exponent of the largest value."""
        return max(self.largest_code >> self.mantissa_bits, int(self.subnormals)) - self.bias

    @property
    def lowest_exponent(self) -> int:
        """Exponent of the smallest positive value."""
        return 1 - self.bias - self.mantissa_bits if self.subnormals else -self.bias

    @property
    def nan_code(self) -> int | None:
        """The canonical NaN: the quiet one of IEEE 754, positive where both signs have one."""
        if self.nan is NanCodes.IEEE:
            return self.largest_code + 1 + (1 << (self.mantissa_bits - 1))
        if self.nan is NanCodes.ALL_ONES:
            return self.all_ones
        return None if self.nan is NanCodes.NONE else self.all_ones + 1

    def check(self, name: str) -> None:
        """Raise ValueError, in one sentence, if there is no such format."""
        label = f"{name!r}: " if name else ""
        if self.exponent_bits < 1 or self.mantissa_bits < 0 or self.bits > 16:
            raise ValueError(
                f"{label}a minifloat has at least 1 exponent bit, 0 or more mantissa bits and at most 16 bits with its "
                f"sign, got {self.exponent_bits} and {self.mantissa_bits}"
            )
        if self.nan is NanCodes.IEEE and not (self.inf and self.mantissa_bits):
            raise ValueError(
                f"{label}nan=ieee needs infinities and a mantissa bit: choose nan=all-ones, negative-zero or none"
            )
        if self.nan is NanCodes.NEGATIVE_ZERO and not self.signed:
            raise ValueError(f"{label}an unsigned format has no code of negative zero: choose nan=all-ones or none")
        if self.nan is NanCodes.NEGATIVE_ZERO and self.signed_zero:
            raise ValueError(f"{label}nan=negative-zero takes the code of negative zero: leave out signed_zero=true")
        if self.largest_code < 1:
            raise ValueError(f"{label}the special codes leave no number but zero: use wider fields, inf=no or nan=none")
        if not -REACH <= self.lowest_exponent <= self.emax < REACH:
            raise ValueError(
                f"{label}values lie between 2**-{REACH} and 2**{REACH}, these would run from 2**{self.lowest_exponent} "
                f"to 2**{self.emax}: use fewer exponent bits or another bias"
            )

    def values(self) -> NDArray[np.float64]:
        """Return the value of each code."""
        codes = np.arange(1 << self.bits)
        magnitude, negative = codes & self.all_ones, codes > self.all_ones
        value = magnitude_values(
            magnitude, self.mantissa_bits, self.bias, self.largest_code, subnormals=self.subnormals, zero=True
        )
        if self.inf:
            value[magnitude == self.largest_code + 1] = np.inf
        value = np.where(negative, -value, value)
        if self.nan is NanCodes.NEGATIVE_ZERO:
            value[self.all_ones + 1] = np.nan
        elif self.signed and not self.signed_zero:
            value[self.all_ones + 1] = 0.0
        return value

    def format(self, name: str, description: str, family: str = "minifloat") -> Format:
        """Return the format of this name."""
        self.check(name)
        values = self.values()
        largest = float(values[self.largest_code])
        return Format(
            name=name,
            bits=self.bits,
            family=family,
            description=description,
            values=values,
            beyond=largest + math.ldexp(1.0, self.emax - self.mantissa_bits),
            nan=self.nan_code,
            subnormals_below=math.ldexp(1.0, 1 - self.bias) if self.subnormals else None,
        )


def minifloat_format(
    exponent_bits: int,
    mantissa_bits: int,
    *,
    bias: int | None = None,
    nan: str | None = None,
    inf: bool | None = None,
    signed_zero: bool | None = None,
    unsigned: bool = False,
    subnormals: bool = True,
) -> Format:
    """Make a floating-point format of any widths and rules, code ``s E M``, at most 16 bits.

    Without a keyword it is IEEE 754's way, or unsigned that of a scale: no infinity and one NaN, the code of ones.

    Parameters
    ----------
    exponent_bits : int
        Width of the exponent field, at least 1.
    mantissa_bits : int
        Width of the mantissa field, the hidden bit not counted, from 0.
    bias : int, optional
        What the exponent field of 1.0 holds; by default ``2**(exponent_bits - 1) - 1``.
    nan : str, optional
        A member of `NanCodes`; by default ``ieee``, for an unsigned format ``all-ones``.
    inf : bool, optional
        Whether there are infinities; by default only with ``nan=ieee``.
    signed_zero : bool, optional
        Whether zero has a sign; if not, the code of negative zero is another code of zero, or the NaN.
    unsigned : bool
        Whether there is no sign bit.
    subnormals : bool
        Whether an exponent field of zero means zero and subnormals. Without, only code 0 is zero, the rest of that
        field one more binade.

    Returns
    -------
    Format
        Named as what it is if it is a format with a name (``float16``, ``e4m3fn``), else ``e{E}m{M}``,
        ``ue{E}m{M}`` or ``minifloat(E,M,...)``.

    Raises
    ------
    ValueError
        If widths or rules contradict each other, or values leave 2**-500 to 2**500.

    Examples
    --------
    >>> minifloat_format(5, 10).name, minifloat_format(4, 3, nan="all-ones").name, minifloat_format(4, 2).name
    ('float16', 'e4m3fn', 'e4m2')
    >>> minifloat_format(3, 2, bias=5, nan="none").max
    7.0
    """
    if not are_integers(exponent_bits, mantissa_bits):
        raise ValueError(f"a minifloat has whole numbers of bits, got {exponent_bits!r} and {mantissa_bits!r}")
    if bias is not None and not are_integers(bias):
        raise ValueError(f"the bias of a minifloat is a whole number, got {bias!r}")
    rule = NanCodes(choose("NaN rule", str(nan), NanCodes)) if nan is not None else _usual_nan(unsigned)
    record = _Minifloat(
        exponent_bits,
        mantissa_bits,
        _ieee_bias(exponent_bits) if bias is None else bias,
        rule,
        rule is NanCodes.IEEE if inf is None else inf,
        not unsigned and (rule is not NanCodes.NEGATIVE_ZERO if signed_zero is None else signed_zero),
        not unsigned,
        subnormals,
    )
    record.check("")
    name = _named().get(record) or _text(record)
    if name in ML_DTYPES:
        return ml_dtypes_format(name)
    return record.format(name, _WIDE.get(name) or _described(record))


def _usual_nan(unsigned: bool) -> NanCodes:
    return NanCodes.ALL_ONES if unsigned else NanCodes.IEEE


def _ieee_bias(exponent_bits: int) -> int:
    return (1 << max(exponent_bits - 1, 0)) - 1


_SPECIALS = {
    Specials.IEEE: NanCodes.IEEE,
    Specials.ALL_ONES_NAN: NanCodes.ALL_ONES,
    Specials.NEGATIVE_ZERO_NAN: NanCodes.NEGATIVE_ZERO,
    Specials.NONE: NanCodes.NONE,
}


@cache
def _named() -> dict[_Minifloat, str]:
    """Return the formats that have a name of their own, by what they are; E8M0 has no zero and so is no minifloat."""
    return {_of_layout(get_layout(name)): name for name in (*ML_DTYPES, *_WIDE) if get_layout(name).subnormals}


def _of_layout(layout: FloatLayout) -> _Minifloat:
    nan = _SPECIALS[layout.specials]
    has_negative_zero = layout.signed and nan is not NanCodes.NEGATIVE_ZERO
    return _Minifloat(
        layout.exponent_bits, layout.mantissa_bits, layout.bias, nan, layout.has_infinity, has_negative_zero,
        layout.signed, layout.subnormals,
    )  # fmt: skip


def _text(record: _Minifloat) -> str:
    """Return the shortest text that `minifloat_format` makes the record of."""
    usual = _usual_nan(not record.signed)
    keywords = {
        "bias": record.bias if record.bias != _ieee_bias(record.exponent_bits) else None,
        "nan": record.nan.value if record.nan is not usual else None,
        "inf": record.inf if record.inf != (record.nan is NanCodes.IEEE) else None,
        "signed_zero": False if record.signed and record.nan is not NanCodes.NEGATIVE_ZERO and not record.signed_zero
        else None,
        "subnormals": record.subnormals if not record.subnormals else None,
    }  # fmt: skip
    parts = [f"{key}={str(value).lower()}" for key, value in keywords.items() if value is not None]
    if not parts and record.mantissa_bits:
        return f"{'' if record.signed else 'u'}e{record.exponent_bits}m{record.mantissa_bits}"
    parts += [] if record.signed else ["unsigned=true"]
    return f"minifloat({','.join([str(record.exponent_bits), str(record.mantissa_bits), *parts])})"


_NAN_WORDS = {
    NanCodes.IEEE: "NaN as in IEEE 754",
    NanCodes.ALL_ONES: "NaN all ones",
    NanCodes.NEGATIVE_ZERO: "NaN for negative zero",
    NanCodes.NONE: "no NaN",
}


def _described(record: _Minifloat) -> str:
    return (
        f"{'' if record.signed else 'unsigned '}float with {record.exponent_bits} exponent and {record.mantissa_bits} "
        f"mantissa bits, bias {record.bias}: {_NAN_WORDS[record.nan]}, {'infinities' if record.inf else 'no infinity'}"
    )


def ieee_format(exponent_bits: int, mantissa_bits: int) -> Format:
    """Make ``e{E}m{M}``: IEEE 754's bias, subnormals, infinities and NaN, as the float layout of that name.

    So ``e5m10`` is float16, ``e8m7`` bfloat16, and ``e4m3``, ``e5m2``, ``e3m4`` are the formats of ml_dtypes. OCP's
    formats, that give up infinities, end in ``fn``: ``e4m3fn``, ``e2m1fn``.

    Parameters
    ----------
    exponent_bits, mantissa_bits : int
        From 1 and 1, with the sign at most 16 bits.

    Returns
    -------
    Format
        The format.

    Examples
    --------
    >>> ieee_format(4, 2).max, ieee_format(5, 10).name
    (224.0, 'float16')
    """
    if mantissa_bits == 0:
        raise ValueError(
            f"without a mantissa bit there is no NaN beside infinity: choose minifloat({exponent_bits},0,nan=none)"
        )
    return minifloat_format(exponent_bits, mantissa_bits)


def unsigned_format(exponent_bits: int, mantissa_bits: int) -> Format:
    """Make ``ue{E}m{M}``: no sign, no infinity, and one NaN, the code of ones; with zero and subnormals.

    These are the scales of block formats. ``ue4m3`` is NVIDIA's type of that name (PTX ISA, alternate floating-point
    formats), the scale of NVFP4: 7 bits, stored in a byte whose top bit is zero, so its values are the positive ones
    of e4m3fn and its NaN is 0x7F. ``ue5m3`` has 8 bits, bias 15 and the NaN 0xFF (CUDA Math API,
    ``__nv_fp8_ue5m3``). ``ue8m0`` is OCP's E8M0, which has no zero.

    Parameters
    ----------
    exponent_bits, mantissa_bits : int
        From 1 and 1, at most 16 bits.

    Returns
    -------
    Format
        The format.

    Examples
    --------
    >>> unsigned_format(4, 3).max, unsigned_format(5, 3).max, unsigned_format(5, 3).nan
    (448.0, 114688.0, 255)
    """
    if mantissa_bits == 0 and exponent_bits == 8:
        return ml_dtypes_format("e8m0fnu")
    if mantissa_bits == 0:
        raise ValueError(f"only ue8m0 has no mantissa: choose minifloat({exponent_bits},0,unsigned=true)")
    return minifloat_format(exponent_bits, mantissa_bits, unsigned=True)


def ml_dtypes_format(name: str) -> Format:
    """Make a format from the ml_dtypes type of that name.

    Parameters
    ----------
    name : str
        A key of `ML_DTYPES`.

    Returns
    -------
    Format
        Its table is what ml_dtypes decodes each code to, and its NaN the code that ml_dtypes makes of NaN.

    Examples
    --------
    >>> ml_dtypes_format("e4m3fn").max
    448.0
    """
    layout = get_layout(name)
    dtype = np.dtype(getattr(ml_dtypes, f"float{layout.bits}_{name}"))
    values = np.arange(1 << layout.bits, dtype=np.uint8).view(dtype).astype(np.float64)
    with np.errstate(invalid="ignore"):
        nan = int(np.array([np.nan], dtype=np.float64).astype(dtype).view(np.uint8)[0])
    return Format(
        name=name,
        bits=layout.bits,
        family="minifloat",
        description=ML_DTYPES[name],
        values=values,
        beyond=layout.max + math.ldexp(1.0, layout.emax - layout.mantissa_bits),
        nan=nan if np.isnan(values[nan]) else None,
        subnormals_below=layout.smallest_normal,
        ties_away=layout.precision == 1,
    )


def e8m0_even_format() -> Format:
    """Make E8M0 whose ties go to the even exponent field, as IEEE P3109 and gfloat round at a precision of one bit.

    IEEE 754-2019 4.3.1, and so ``e8m0fnu``, sends a tie to the larger magnitude where neither neighbour is even.

    Returns
    -------
    Format
        ``e8m0_even``.

    Examples
    --------
    >>> import rf8sim
    >>> [rf8sim.decode(rf8sim.encode([3.0, 6.0], name), name).tolist() for name in ("e8m0fnu", "e8m0_even")]
    [[4.0, 8.0], [2.0, 8.0]]
    """
    description = "OCP E8M0, its ties to the even exponent field"
    return replace(ml_dtypes_format("e8m0fnu"), name="e8m0_even", description=description, ties_away=False)


def dlfloat_format() -> Format:
    """Make IBM's DLFloat16: 1 sign, 6 exponent, 9 mantissa bits, bias 31 (Agrawal et al., ARITH 2019).

    It has no subnormals: the exponent field 0 is one more binade, and only its code of mantissa 0 is zero. One symbol
    is both NaN and infinity, exponent and mantissa all ones; the rest of that binade are numbers. Zero and NaN may have
    either sign; here the code 0x8000 is negative zero.

    Returns
    -------
    Format
        ``dlfloat16``.

    Examples
    --------
    >>> dlfloat_format().max == 2.0**33 - 2.0**24, dlfloat_format().smallest == 2.0**-31 + 2.0**-40
    (True, True)
    """
    record = _Minifloat(6, 9, 31, NanCodes.ALL_ONES, inf=False, signed_zero=True, subnormals=False)
    return record.format("dlfloat16", "IBM DLFloat: 6 exponent and 9 mantissa bits, no subnormals, NaN is infinity")


def p3109_format(precision: int, bits: int = 8, *, signed: bool = True, extended: bool = True) -> Format:
    """Make a format of IEEE P3109 by its four parameters (interim report, version 4.0, June 2026, section 3).

    The bias is ``2**(bits - precision - 1)``, of an unsigned format ``2**(bits - precision)``. There are subnormals,
    one zero and one NaN: of a signed format where negative zero would be, of an unsigned one the largest code.
    An extended format has infinities, the largest codes that are left; a finite one has none. Projections (section 4.7)
    are roundings: ``overflow`` is ``saturate`` for SatFinite, ``propagate`` for SatPropagate, ``ieee`` for SatNone, and
    ``variant`` A, B or C for the stochastic ones. Division by zero is NaN.

    Parameters
    ----------
    precision : int
        Significand bits, the hidden one included: from 1, below `bits` if signed and at most `bits` if not.
    bits : int
        Width, 3 to 16.
    signed : bool
        Whether there are negative numbers.
    extended : bool
        Whether there are infinities.

    Returns
    -------
    Format
        Named as in section 3.2, in lower case: ``binary8p3se`` is signed and extended, ``binary8p1uf`` unsigned and
        finite.

    Raises
    ------
    ValueError
        If a parameter is out of range, or values leave 2**-500 to 2**500 (low precisions of 10 bits and more).

    Examples
    --------
    >>> p3109_format(4).name, p3109_format(4).max, p3109_format(4, extended=False).max
    ('binary8p4se', 224.0, 240.0)
    >>> p3109_format(1, signed=False, extended=False).values[[0, 1, 254, 255]].tolist()
    [0.0, 5.877471754111438e-39, 8.507059173023462e+37, nan]
    """
    name = f"binary{bits}p{precision}{'s' if signed else 'u'}{'e' if extended else 'f'}"
    most = bits - signed
    if not 3 <= bits <= 16 or not 1 <= precision <= most:
        raise ValueError(
            f"{name!r}: a P3109 format has 3 to 16 bits here, and a precision from 1 to its bits, a signed one to one "
            f"less; got {bits!r} bits and a precision of {precision!r}"
        )
    record = _Minifloat(
        exponent_bits=most - precision + 1,
        mantissa_bits=precision - 1,
        bias=1 << (most - precision),
        nan=NanCodes.NEGATIVE_ZERO if signed else NanCodes.ALL_ONES,
        inf=extended,
        signed_zero=False,
        signed=signed,
    )
    sign, domain = "signed" if signed else "unsigned", "with infinities" if extended else "finite"
    description = f"IEEE P3109 binary{bits}, precision {precision}, {sign}, {domain}: one zero, one NaN"
    return record.format(name, description, "p3109")

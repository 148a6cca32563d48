"""How a number is rounded, as one value: `Rounding`. Where each mode rounds up is in `thresholds`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from numpy.typing import ArrayLike

from .._base.checks import as_integer, choose
from ..formats import Format

__all__ = ["Overflow", "Rounding", "RoundingMode", "as_rounding", "check_choices", "fits"]


class RoundingMode(StrEnum):
    """The rounding modes of the specification, section 4.

    Examples
    --------
    >>> RoundingMode("to-odd")
    <RoundingMode.TO_ODD: 'to-odd'>
    """

    NEAREST_EVEN = "nearest-even"
    NEAREST_AWAY = "nearest-away"
    TOWARD_ZERO = "toward-zero"
    UP = "up"
    DOWN = "down"
    TO_ODD = "to-odd"
    RESIDUAL = "residual"
    STOCHASTIC = "stochastic"


class Overflow(StrEnum):
    """What a number beyond the largest value becomes, and what an infinity does."""

    SATURATE = "saturate"
    """The largest value; so does an infinity. IEEE P3109's SatFinite."""
    PROPAGATE = "propagate"
    """The largest value; an infinity stays one. IEEE P3109's SatPropagate."""
    IEEE = "ieee"
    """The largest value in a mode that rounds it toward zero, else an infinity, or NaN in a format without: IEEE 754's
    rule, that of LLVM, RISC-V and CUDA for formats without infinity, and P3109's SatNone."""
    INFINITY = "infinity"
    """An infinity in every mode."""
    NAN = "nan"
    """NaN in every mode; so does an infinity."""


@dataclass(frozen=True, eq=False, repr=False)
class Rounding:
    """How numbers are rounded: the mode, what lies beyond the largest value, and the random words of ``stochastic``.

    A function that takes a `Rounding` takes its text form too: ``"up"``, ``"toward-zero/nan"``.

    Parameters
    ----------
    mode : str
        ``nearest-even``, ``nearest-away``, ``toward-zero``, ``up``, ``down``, ``to-odd``, ``residual`` (RF family)
        or ``stochastic``. The fields below ``overflow`` have an effect on ``stochastic`` only.
    overflow : str
        What a number beyond the largest value becomes, an infinity included: ``saturate`` (the largest value),
        ``propagate`` (the same, but an infinity stays), ``ieee`` (as the mode says: the largest value where it rounds
        toward zero, else infinity, or NaN without one), ``infinity`` or ``nan``.
    seed : int
        Key of the generator of random words, 0 to 2**64 - 1.
    offset : int
        Flat index of the first element in the array that is rounded piece by piece, 0 or more. A draw depends on
        the seed and an element's index in that array only.
    words : array_like of uint32, optional
        One word for each element, used instead of the generator's (those of a hardware LFSR, for instance).
    bits : int
        The low ``bits`` bits of each word are compared, as an adder of that width does, 1 to 32. The upper neighbour is
        taken with probability ``floor(p * 2**bits) / 2**bits``, so that the bias is toward zero and below ``2**-bits``
        of a gap.
    variant : str
        IEEE P3109's StochasticA, B or C (interim report v4.0, section 4.7.4): of ``A`` the probability is that above;
        ``B`` and ``C`` round ``p * 2**bits`` to the nearest integer, halves up or to even, which leaves little or no
        bias. Those take at most 31 bits.

    Raises
    ------
    ValueError
        If a name is unknown or a number is out of range or no integer.

    Notes
    -----
    Two roundings are equal if all fields are; of ``words`` the identity is compared, not the content.

    Examples
    --------
    >>> Rounding("toward-zero", "nan")
    Rounding('toward-zero', overflow='nan')
    >>> str(Rounding("toward-zero", "nan")), str(Rounding("up"))
    ('toward-zero/nan', 'up')

    An array that is rounded in pieces gets the same draws:

    >>> import numpy as np, rf8sim
    >>> x, drawn = np.linspace(0, 1, 8), Rounding("stochastic", seed=1)
    >>> pieces = [rf8sim.encode(x[i : i + 2], "rf8", rounding=drawn.at(i)) for i in range(0, 8, 2)]
    >>> np.array_equal(np.concatenate(pieces), rf8sim.encode(x, "rf8", rounding=drawn))
    True
    """

    mode: str = "nearest-even"
    overflow: str = "saturate"
    seed: int = 0
    offset: int = 0
    words: ArrayLike | None = None
    bits: int = 32
    variant: str = "A"

    def __post_init__(self) -> None:
        if self.mode in list(Overflow):
            raise ValueError(f"{str(self.mode)!r} is an overflow option, not a mode: write 'nearest-even/{self.mode}'")
        checked = {
            "mode": choose("rounding mode", self.mode, list(RoundingMode)),
            "overflow": choose("overflow option", self.overflow, list(Overflow)),
            "seed": as_integer("seed", self.seed, 0, (1 << 64) - 1, "from 0 to 2**64 - 1"),
            "offset": as_integer("offset", self.offset, 0, (1 << 64) - 1, "from 0 to 2**64 - 1"),
            "variant": choose("variant", self.variant, ["A", "B", "C"]),
            "bits": as_integer("bits", self.bits, 1, 32),
        }
        if self.variant != "A" and not self.stochastic:
            raise ValueError(f"variant {self.variant!r} is of the mode 'stochastic', not of {self.mode!r}")
        if self.variant != "A" and self.bits > 31:
            raise ValueError(f"variant {self.variant!r} compares one bit more: give `bits` from 1 to 31")
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def stochastic(self) -> bool:
        """Whether random words decide."""
        return self.mode == RoundingMode.STOCHASTIC

    def at(self, offset: int) -> Rounding:
        """Return the rounding of a piece of an array that this is the rounding of.

        Parameters
        ----------
        offset : int
            Flat index of the piece's first element in the array.

        Returns
        -------
        Rounding
            With `offset` larger by that much.

        Raises
        ------
        ValueError
            If the offset is negative, or there are ``words``, of which a piece needs its own.

        Examples
        --------
        >>> Rounding("stochastic", seed=7).at(64)
        Rounding('stochastic', seed=7, offset=64)
        """
        if self.words is not None and offset:
            raise ValueError("words belong to the elements of one array: make a rounding with the words of the piece")
        return replace(self, offset=self.offset + as_integer("offset", offset, 0, (1 << 64) - 1, "from 0 to 2**64 - 1"))

    def __str__(self) -> str:
        """Return the text form: the mode, and after a slash the overflow option if it is not ``saturate``."""
        return self.mode if self.overflow == Overflow.SATURATE else f"{self.mode}/{self.overflow}"

    def __repr__(self) -> str:
        shown = {"overflow": "saturate", "seed": 0, "offset": 0, "bits": 32, "variant": "A"}
        changed = [f"{name}={getattr(self, name)!r}" for name, usual in shown.items() if getattr(self, name) != usual]
        words = ["words=..."] if self.words is not None else []
        return f"Rounding({', '.join([repr(self.mode), *changed, *words])})"

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Rounding) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return self.mode, self.overflow, self.seed, self.offset, self.bits, self.variant, id(self.words)


def as_rounding(rounding: str | Rounding) -> Rounding:
    """Return a `Rounding`, or make one of its text form.

    Parameters
    ----------
    rounding : str or Rounding
        ``MODE`` or ``MODE/OVERFLOW``; a `RoundingMode` is such a text.

    Returns
    -------
    Rounding
        The value itself if it is one.

    Raises
    ------
    ValueError
        If a name is unknown.

    Examples
    --------
    >>> as_rounding("toward-zero/nan")
    Rounding('toward-zero', overflow='nan')
    """
    if isinstance(rounding, Rounding):
        return rounding
    return _parsed(str(rounding))


@lru_cache(maxsize=64)
def _parsed(text: str) -> Rounding:
    mode, slash, overflow = text.partition("/")
    return Rounding(mode, overflow if slash else "saturate")


def check_choices(fmt: Format, rounding: str | Rounding) -> tuple[RoundingMode, Overflow]:
    """Return the mode and the overflow option of a rounding, or raise ValueError if they do not fit the format."""
    chosen = as_rounding(rounding)
    return _fitting(fmt, chosen.mode, chosen.overflow)


def fits(fmt: Format, rounding: str | Rounding) -> bool:
    """Return whether a format has what a rounding may ask for: the residual rule, infinity, NaN."""
    try:
        check_choices(fmt, rounding)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1024)
def _fitting(fmt: Format, mode: str, overflow: str) -> tuple[RoundingMode, Overflow]:
    if mode == RoundingMode.RESIDUAL and fmt.depth is None:
        raise ValueError(
            f"rounding 'residual' is for the RF family only (rf8, ...), not for {fmt.name!r}: use 'nearest-even'"
        )
    if overflow == Overflow.NAN and fmt.nan is None:
        raise ValueError(f"format {fmt.name!r} has no NaN code: use overflow='saturate'")
    has_infinity = fmt.sides[0].infinity is not None
    if overflow == Overflow.IEEE and not has_infinity and fmt.nan is None:
        raise ValueError(f"format {fmt.name!r} has neither infinity nor NaN: use overflow='saturate'")
    # P3109 defines SatPropagate for its finite formats too.
    wants_infinity = overflow == Overflow.INFINITY or (overflow == Overflow.PROPAGATE and fmt.family != "p3109")
    if wants_infinity and not has_infinity:
        other = "" if fmt.nan is None else " or overflow='ieee'"
        raise ValueError(f"format {fmt.name!r} has no infinity: use overflow='saturate'{other}")
    return RoundingMode(mode), Overflow(overflow)

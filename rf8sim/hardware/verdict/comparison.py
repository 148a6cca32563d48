"""When an answer counts as right: every bit, the same value, near enough, or a faithful rounding."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ...formats import Format
from ..golden.ports import Codes, Fixed, Kind, Patterns, Relation, unsigned

__all__ = ["Comparison", "get_comparison", "places"]


@dataclass(frozen=True)
class Comparison:
    """How answers are compared.

    Attributes
    ----------
    mode : str
        ``bits``, ``value``, ``ulp`` or ``faithful``.
    ulps : int
        Of ``ulp``: how many places an answer may be off.
    any_nan : bool
        Whether any NaN is as good as another.
    flags : bool
        Whether flags are compared too.
    """

    mode: str = "bits"
    ulps: int = 0
    any_nan: bool = False
    flags: bool = False

    @property
    def name(self) -> str:
        """The mode as the command line writes it."""
        return f"ulp:{self.ulps}" if self.mode == "ulp" else self.mode

    def sentence(self) -> str:
        """Say it in words."""
        how = {
            "bits": "every bit of the result",
            "value": "the values of the results: aliases are equal, and so are zeros of either sign",
            "faithful": "results that are one of the two values next to the exact one, and that one if there is one",
            "ulp": f"results at most {self.ulps} place{'s' * (self.ulps != 1)} apart in the order of all values",
        }[self.mode]
        nan = "; any NaN is as good as another" if self.any_nan and self.mode == "bits" else ""
        return f"{how}{nan}; flags are {'' if self.flags else 'not '}compared"

    def right(self, kind: Kind, got: Patterns, wanted: Patterns) -> NDArray[np.bool_]:
        """Say which results are right; of ``faithful`` one of the two neighbours is ``wanted``."""
        same: NDArray[np.bool_] = got == wanted
        if self.mode == "bits" and not self.any_nan:
            return same
        if same.all():
            return same
        nans = kind.is_nan(got) & kind.is_nan(wanted)
        if self.mode == "bits":
            return same | nans
        off, comparable = places(kind, got, wanted)
        return same | nans | comparable & (np.abs(off) <= self.ulps)


def get_comparison(mode: str, *, any_nan: bool = False, flags: bool = False) -> Comparison:
    """Return the comparison of a name.

    Parameters
    ----------
    mode : str
        ``bits``, ``value``, ``faithful`` or ``ulp:n``.
    any_nan, flags : bool
        As for `Comparison`.

    Returns
    -------
    Comparison
        The comparison.

    Raises
    ------
    ValueError
        If the mode is unknown, or ``any_nan`` is asked of one in which any NaN is as good as another anyway.

    Examples
    --------
    >>> get_comparison("ulp:1").ulps
    1
    """
    match = re.fullmatch(r"(bits|value|faithful)|ulp:(\d+)", mode)
    if match is None:
        raise ValueError(f"unknown comparison {mode!r}: expected bits, value, faithful, or ulp:n such as ulp:1")
    if any_nan and mode != "bits":
        raise ValueError(f"`any_nan` changes nothing: by {mode} any NaN is as good as another; leave it out")
    return Comparison(match[1] or "ulp", int(match[2] or 0), any_nan, flags)


def places(kind: Kind, got: Patterns, wanted: Patterns) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return how many places each answer is above the right one in the order of all values, and where that has sense.

    Zeros of either sign share a place, so do aliases; an infinity is one beyond the largest value. NaN has none.
    """
    if isinstance(kind, Codes):
        order, has = _code_places(kind.format)
        off = order[got].astype(np.int64) - order[wanted]
        return off, has[got] & has[wanted]
    if isinstance(kind, Relation):
        return np.zeros(got.shape, np.int64), np.zeros(got.shape, np.bool_)
    if isinstance(kind, Fixed):
        return kind.integers(got) - kind.integers(wanted), np.ones(got.shape, dtype=np.bool_)
    sign = np.int64(1) << np.int64(kind.bits - 1)
    signed = [patterns.astype(np.int64) for patterns in (got, wanted)]
    first, second = (np.where(x & sign if kind.bits < 64 else x < 0, -(x & (sign - 1)), x) for x in signed)
    return first - second, ~(kind.is_nan(got) | kind.is_nan(wanted))


@lru_cache(maxsize=64)
def _code_places(fmt: Format) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    has = ~np.isnan(fmt.values)
    values = np.unique(fmt.values[has])
    order = np.searchsorted(values, np.where(has, fmt.values, values[0])).astype(np.int32)
    size = 1 << (8 * unsigned(fmt.bits).itemsize)
    return np.resize(order, size), np.resize(has, size)

"""What stochastic rounding to a floating-point layout chooses from: two neighbours, and the way between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...arithmetic.operations import WORD, DrawTable, Flags, as_integers, number_in_words
from ...codec.rounding import Rounding, RoundingMode
from ...formats import FloatLayout
from .exact import Exact
from .floats import Rounded, parts, round_to_layout

__all__ = ["layout_draws"]

Array = NDArray[np.float64]


def layout_draws(exact: Exact, layout: FloatLayout, rounding: Rounding) -> DrawTable:
    """Return both neighbours of exact results in a layout, and how far the results are on the way between them.

    Parameters
    ----------
    exact : Exact
        Exact results, as `round_to_layout` takes them.
    layout : FloatLayout
        The layout, of at most 32 bits.
    rounding : Rounding
        Its overflow and the ``bits`` of a random word: so many bits of the fraction are right.

    Returns
    -------
    DrawTable
        Its codes are ``lower | upper << 32`` as uint64. Between the largest number and the next one of an unbounded
        exponent either may be drawn; from that one on overflow is certain.

    Examples
    --------
    >>> from rf8sim.formats import get_layout
    >>> quarter = Exact(np.array([1 + 2.0**-25]), np.zeros(1, np.int64))
    >>> table = layout_draws(quarter, get_layout("float32"), Rounding("stochastic", "ieee"))
    >>> hex(int(table.codes[0])), int(table.fraction[0]) == 1 << 30
    ('0x3f8000013f800000', True)
    """
    values, flags, _ = exact
    lower, up, down = (
        round_to_layout(values, layout, Rounding(mode, rounding.overflow))
        for mode in (RoundingMode.TOWARD_ZERO, RoundingMode.UP, RoundingMode.DOWN)
    )
    upper = _chosen(values < 0, down, up)
    lower = _chosen(lower.flags & Flags.OVERFLOW != 0, upper, lower)
    drawn = (lower.patterns != upper.patterns) | (lower.flags != upper.flags)
    fraction, inexact = _fractions(exact, layout, rounding.bits, drawn)
    codes = lower.patterns.astype(np.uint64) | upper.patterns.astype(np.uint64) << np.uint64(32)
    raised = (flags | lower.flags) | (flags | upper.flags) << 16
    return DrawTable(codes, raised.astype(np.uint32), fraction, np.zeros(values.shape, np.bool_), inexact)


def _chosen(where: NDArray[np.bool_], first: Rounded, second: Rounded) -> Rounded:
    patterns, flags, ties = (np.where(where, a, b) for a, b in zip(first, second, strict=True))
    return Rounded(patterns, flags, ties)


def _fractions(
    exact: Exact, layout: FloatLayout, bits: int, drawn: NDArray[np.bool_]
) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Return the way to the upper neighbour in units of 2**-32, cut off, and where there is more to it."""
    magnitude = np.where(drawn, np.abs(exact.values), 0.0)
    top = np.frexp(magnitude)[1].astype(np.int64) - 1
    exponent = np.where(magnitude == 0, layout.emin, np.maximum(top, layout.emin))
    low, rest = parts(magnitude, exponent, layout)
    scaled = np.ldexp(rest, WORD)
    fraction = np.floor(scaled)
    inexact = fraction != scaled
    if exact.exactly is None:
        return fraction.astype(np.uint32), inexact
    # The bits above the last one are those of the exact number; the last one is the only sign of what was cut off.
    odd = drawn & (magnitude.view(np.uint64) & np.uint64(1) == 1)
    inexact |= odd
    last = top - 52 - (exponent - layout.mantissa_bits)  # weight of the last bit in units of the layout
    for index in np.flatnonzero(odd & (last >= -bits)).tolist():
        unit = int(as_integers(np.ldexp([1.0], exponent[index] - layout.mantissa_bits))[0])
        beyond = number_in_words(exact.exactly(index)) - (int(low[index]) * unit << WORD)
        fraction[index] = beyond // unit
    return fraction.astype(np.uint32), inexact

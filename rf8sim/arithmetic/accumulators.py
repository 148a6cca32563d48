"""What sums are held in while a dot product runs, and how they are rounded there."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._base.checks import choose
from ..codec.codec import whole_table
from ..codec.rounding import Rounding, RoundingMode, as_rounding, check_choices
from ..codec.thresholds import CellTable, StepTable, cell_table, step_table, stochastic_table
from ..formats import FloatLayout, Format, format_aliases, format_names, get_format, get_layout, layout_names

__all__ = ["Accumulator", "Rule", "accumulator_names", "get_accumulator", "get_rule"]

_FLOATS = ("float32", "float16", "bfloat16", "tf32")  # those that messages name, of many
_SIGNIFICAND = 53  # bits of float64, in which sums are rounded to odd before they are rounded to the accumulator
_WIDEST_EXPONENT, _WIDEST_MANTISSA = 10, _SIGNIFICAND - 3
_CARRY = 24  # bits of a random word that stochastic rounding adds
_INTEGER_BITS = 53
_EXAMPLES = ("e8m13", "int:16", "int:24", "int:32", "int:24:wrap")
_ABOVE_0, _ABOVE_HALF, _NEVER = 5e-324, math.nextafter(0.5, 1.0), 2.0
_FRACTIONS = {  # the fraction of a unit that takes a magnitude to the upper neighbour: positive, negative; even, odd
    RoundingMode.NEAREST_EVEN: ((_ABOVE_HALF, 0.5), (_ABOVE_HALF, 0.5)),
    RoundingMode.NEAREST_AWAY: ((0.5, 0.5), (0.5, 0.5)),
    RoundingMode.TOWARD_ZERO: ((_NEVER, _NEVER), (_NEVER, _NEVER)),
    RoundingMode.UP: ((_ABOVE_0, _ABOVE_0), (_NEVER, _NEVER)),
    RoundingMode.DOWN: ((_NEVER, _NEVER), (_ABOVE_0, _ABOVE_0)),
    RoundingMode.TO_ODD: ((_ABOVE_0, _NEVER), (_ABOVE_0, _NEVER)),
    RoundingMode.STOCHASTIC: ((_NEVER, _NEVER), (_NEVER, _NEVER)),  # the random words decide
}


class Accumulator(NamedTuple):
    """A named accumulator; all but one of the last three are None, or all of them for ``exact``.

    Attributes
    ----------
    name : str
        As the caller gave it.
    floating : FloatLayout or None
        The floating-point layout, with IEEE 754's subnormals and infinities.
    format : Format or None
        The 8-bit format.
    integer : tuple of (int, bool) or None
        Width in bits, and whether it wraps around.
    """

    name: str
    floating: FloatLayout | None = None
    format: Format | None = None
    integer: tuple[int, bool] | None = None

    @property
    def exact(self) -> bool:
        """Whether nothing is rounded before the end."""
        return self.floating is None and self.format is None and self.integer is None

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """The numpy type that holds the accumulator's value: float32 where that is exact, else float64."""
        wide = self.floating is not None and not self.floating.exact_in(get_layout("float32"))
        return np.float64 if wide or self.exact or self.integer else np.float32

    @property
    def nearest_float(self) -> bool:
        """Whether it is a binary floating-point type, so that rounding errors have a unit."""
        return self.floating is not None


def get_accumulator(name: str | Format | Accumulator, what: str = "accumulator") -> Accumulator:
    """Return the accumulator of a name.

    Parameters
    ----------
    name : str, Format or Accumulator
        ``exact``; ``float32``, ``float16``, ``bfloat16``, ``tf32`` or ``e{E}m{M}`` with E from 2 to 10 exponent and M
        from 1 to 50 mantissa bits, such as ``e8m13``; ``int:n`` or ``int:n:wrap`` (n from 2 to 53); or a format, which
        a name of both kinds means.
    what : str
        What it is for, to say if there is none.

    Returns
    -------
    Accumulator
        The accumulator.

    Raises
    ------
    ValueError
        If there is none of that name, or the float is too wide.

    Examples
    --------
    >>> get_accumulator("int:24:wrap").integer, get_accumulator("float16").floating.max
    ((24, True), 65504.0)
    """
    if isinstance(name, Accumulator):
        return name
    if isinstance(name, Format):
        return Accumulator(name.name, format=name)
    if name == "exact":
        return Accumulator(name)
    alias = format_aliases().get(name)
    name = alias if alias in _FLOATS else name  # a float is summed in as a float, not as a table of values
    if name in _FLOATS or (name not in format_names() and _is_layout(name)):
        return Accumulator(name, floating=_checked_layout(name, what))
    if str(name).startswith("int:"):
        _, width, *option = str(name).split(":")
        if not width.isdecimal() or not 2 <= int(width) <= _INTEGER_BITS or option not in ([], ["wrap"], ["saturate"]):
            raise ValueError(
                f"{what} {name!r}: expected 'int:n' (saturating) or 'int:n:wrap', n from 2 to {_INTEGER_BITS} bits"
            )
        return Accumulator(name, integer=(int(width), option == ["wrap"]))
    try:
        return Accumulator(name, format=get_format(name))
    except ValueError:
        choose(what, name, accumulator_names())
        raise


def accumulator_names() -> list[str]:
    """Return names of accumulators, of floats and integers only the usual ones."""
    return ["exact", *_FLOATS, *_EXAMPLES, *format_names()]


def _is_layout(name: object) -> bool:
    return isinstance(name, str) and (name in layout_names() or re.fullmatch(r"e\d+m\d+", name) is not None)


def _checked_layout(name: str, what: str) -> FloatLayout:
    """Return the layout of a name, or raise ValueError if sums cannot be rounded to it."""
    try:
        layout = get_layout(name)
        fits = layout.exponent_bits <= _WIDEST_EXPONENT and layout.mantissa_bits <= _WIDEST_MANTISSA
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{what} {name!r}: expected a float e{{E}}m{{M}} of 2 to {_WIDEST_EXPONENT} exponent bits and 1 to "
            f"{_WIDEST_MANTISSA} mantissa bits; use 'exact' for a wider one"
        )
    return layout


class Rule(NamedTuple):
    """How a sum is rounded into an accumulator: arrays and numbers alone, for the kernels.

    Of the first three, two are None: kernels are compiled for what is there.

    Attributes
    ----------
    number : tuple or None
        Of a float: precision, smallest exponent, largest value, what lies beyond it above and below; the fraction of
        a unit from which a positive number goes up in magnitude, next to an even and to an odd one, and a negative one.
    bounds : tuple of float or None
        Of an integer: smallest value, largest value, and the period of wrapping, 0 for saturation.
    table : tuple or None
        Of a format: threshold, result and shift of its cells, first patterns to search by, values of codes.
    steps : tuple or None
        Of a format that rounds stochastically: see `rf8sim.codec.thresholds.StochasticTable`.
    key : tuple of uint64 or None
        The key of the generator where random words are drawn.
    """

    number: tuple[Any, ...] | None = None
    bounds: tuple[float, float, float] | None = None
    table: tuple[Any, ...] | None = None
    steps: tuple[Any, ...] | None = None
    key: tuple[Any, Any] | None = None

    @property
    def drawn(self) -> bool:
        """Whether random words are drawn."""
        return self.key is not None


def get_rule(accumulator: Accumulator, rounding: str | Rounding, unit: int) -> Rule:
    """Return how sums are rounded into an accumulator that is not exact.

    Parameters
    ----------
    accumulator : Accumulator
        The accumulator.
    rounding : str or Rounding
        As for `rf8sim.encode`; a floating-point accumulator has infinities, for every ``overflow``, and no mode
        ``residual``; an integer never rounds. Of ``stochastic`` only the seed can be set.
    unit : int
        Base-2 logarithm of what an integer accumulator counts in.

    Returns
    -------
    Rule
        The rule.

    Raises
    ------
    ValueError
        If an option is unknown or does not fit the accumulator.
    """
    chosen = as_rounding(rounding)
    mode, drawn = RoundingMode(chosen.mode), chosen.stochastic
    if drawn and (chosen.offset or chosen.words is not None or chosen.bits != 32 or chosen.variant != "A"):
        raise ValueError(
            "an accumulator draws its words by seed and place of a sum: leave out offset, words, bits and variant"
        )
    if accumulator.integer is not None:
        width, wraps = accumulator.integer
        half = math.ldexp(1.0, width - 1 + unit)
        return Rule(bounds=(-half, half - math.ldexp(1.0, unit), 2.0 * half if wraps else 0.0))
    key = (np.uint64(chosen.seed & 0xFFFFFFFF), np.uint64(chosen.seed >> 32)) if drawn else None
    if accumulator.floating is not None:
        if mode not in _FRACTIONS:
            raise ValueError(f"rounding {str(mode)!r} is not for accumulator {accumulator.name!r}: use 'nearest-even'")
        kind = accumulator.floating
        if drawn and kind.precision + _CARRY >= _SIGNIFICAND:
            raise ValueError(
                f"rounding 'stochastic' is not for accumulator {accumulator.name!r}: at most "
                f"{_SIGNIFICAND - _CARRY - 2} mantissa bits leave room for its {_CARRY} random bits"
            )
        stops_above = mode in (RoundingMode.TOWARD_ZERO, RoundingMode.DOWN)
        stops_below = mode in (RoundingMode.TOWARD_ZERO, RoundingMode.UP)
        number = (
            np.int64(kind.precision), np.int64(kind.emin), kind.max,
            kind.max if stops_above else math.inf, -kind.max if stops_below else -math.inf, *_FRACTIONS[mode],
        )  # fmt: skip
        return Rule(number=number, key=key)
    assert accumulator.format is not None
    table, steps = _format_tables(accumulator.format, str(chosen))
    return Rule(table=table, steps=steps, key=key)


@lru_cache(maxsize=128)
def _format_tables(fmt: Format, rounding: str) -> tuple[tuple[Any, ...], tuple[Any, ...] | None]:
    mode, option = check_choices(fmt, rounding)
    drawing = None
    if mode is RoundingMode.STOCHASTIC:
        stochastic = stochastic_table(fmt, option, "float64")
        cells, steps = stochastic.cells, stochastic.steps
        fine = stochastic.drop, stochastic.cell_codes.astype(np.uint16)
        drawing = fine, (stochastic.lower, stochastic.gap, stochastic.inverse, stochastic.codes)
    else:
        cells, steps = cell_table(fmt, mode, option, "float64"), step_table(fmt, mode, option, "float64")
    search: NDArray[np.uint64] = np.zeros(0, np.uint64)
    if cells is None:
        search, cells = steps.first, _cells_by_number(steps)
    values = whole_table(fmt.values).copy()  # writable: a read-only array would be another type to the kernels
    table = (cells.threshold, cells.result.astype(np.uint32), np.uint64(cells.shift), search, values)
    return table, drawing


def _cells_by_number(steps: StepTable) -> CellTable:
    """Make a cell of each step, where values are too close for cells of bit patterns: steps are found by search."""
    numbers = np.arange(steps.first.size, dtype=np.uint64)
    return CellTable(numbers, np.repeat(steps.result.astype(np.uint32), 2), np.uint64(0))

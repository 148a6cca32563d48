"""The exact results of operations on codes, and the tables of all of them rounded.

A two-operand operation is a table of 256 x 256 codes, made when first asked for and kept in memory. That takes 1 to 3
milliseconds, and 5 more where the mode's boundaries in the format are new to the process; to read and verify a file of
it would take 0.3, so nothing is kept on disk.

Exact results that need more than 53 bits are kept as float64 *rounded to odd* (Boldo and Melquiond, IEEE Transactions
on Computers 57, 2008): the last bit says that something was cut off, so rounding that at a boundary of the format is
rounding the exact result, if float64 has the boundary. Where it does not (`rf8sim.codec.undecided`) the few results
next to the boundary are rounded as rational numbers.

Stochastic rounding compares 32 bits of the way from one value to the next, which together are more than 53. Its tables
are of whole numbers: what lies below and above, and that fraction, cut off in integers of any size.

An infinite result of a sum, product, quotient, root or conversion becomes what ``overflow`` says, as an infinite input
does; the others (``negate``, ``absolute``, ``minimum``, ``maximum``) round nothing and keep it, if the result's format
has it. Division by zero is infinite, and NaN where the result's format has no infinity, or is one of P3109's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import IntFlag
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import reference
from .._base.checks import choose
from ..codec.codec import encode, whole_table
from ..codec.rounding import Overflow, Rounding, RoundingMode, as_rounding, check_choices
from ..codec.thresholds import overflow_start
from ..codec.undecided import is_odd, undecided
from ..formats import Format, get_format
from ..formats.base import PRECISION, REACH

__all__ = [
    "OPERATIONS", "WORD", "DrawTable", "Flags", "Formats", "Integers", "Numbers", "Operation", "OperationTable",
    "cancels_to_minus_zero", "conversion_table", "draw_table", "draws", "each_format", "exact_numbers",
    "exact_results", "exact_sum", "is_table", "number_in_words", "operation_table", "order", "order_table",
    "round_exact",
]  # fmt: skip

Array = NDArray[np.float64]
Integers = NDArray[np.object_]
Formats = str | Format | tuple[str | Format, ...]
"""The format of all operands, or a tuple with one for each."""


def each_format(fmt: Formats, count: int) -> tuple[str | Format, ...]:
    """Return the format of each of so many operands.

    Raises
    ------
    ValueError
        If there is neither one format nor one for each operand.

    Examples
    --------
    >>> each_format("rf8", 2), each_format(("rf8", "int8"), 2)
    (('rf8', 'rf8'), ('rf8', 'int8'))
    """
    if isinstance(fmt, (str, Format)):
        return (fmt,) * count
    formats = tuple(fmt)
    if len(formats) != count:
        operands = "operand" if count == 1 else "operands"
        raise ValueError(f"fmt must be one format, or one for each of {count} {operands}: got {len(formats)}")
    return formats


class Flags(IntFlag):
    """IEEE 754's exception flags, with the values of TestFloat's flag byte.

    Underflow is raised where the exact result is tiny (below the smallest normal value, for formats without subnormals
    below the smallest value) and inexact; tininess is detected before rounding. Overflow is raised where the result is
    out of the format's range: beyond the largest value were the grid to go on, negative in an unsigned format, infinite
    where ``overflow`` does not keep infinities. Posits and quantile tables have no grid to go on: finite results never
    overflow.
    """

    INEXACT = 1
    UNDERFLOW = 2
    OVERFLOW = 4
    DIVIDE_BY_ZERO = 8
    INVALID = 16


# --- exact results as float64 rounded to odd --------------------------------------------------------------------------


def _to_odd(nearest: Array, error: Array) -> Array:
    """Return a number whose exact value is ``nearest + error`` rounded to odd."""
    if not error.any():
        return nearest
    even = nearest.view(np.int64) & 1 == 0
    return np.where((error != 0) & even, np.nextafter(nearest, np.copysign(np.inf, error)), nearest)


def exact_sum(a: Array, b: Array) -> Array:
    """Return ``a + b``, rounded to odd if it needs more than 53 bits."""
    total = a + b
    # Knuth's TwoSum: the rounding error of the sum, exactly.
    shadow = total - a
    error = (a - (total - shadow)) + (b - shadow)
    return np.where(np.isfinite(total), _to_odd(total, np.where(np.isfinite(error), error, 0.0)), total)


def _significand(x: Array) -> tuple[Array, NDArray[np.int64]]:
    """Return ``(m, e)`` with ``x = m * 2**e`` and ``0.5 <= abs(m) < 1``; 1 stands for what is zero or not finite."""
    fraction, exponent = np.frexp(np.where(np.isfinite(x) & (x != 0), x, 1.0))
    return fraction, exponent.astype(np.int64)


def _product_rest(x: Array, y: Array, z: Array) -> Array:
    """Return ``x - y * z`` for y and z of 53 and 26 bits whose product is x to 52 bits or more: it is exact.

    Each half of y times z is exact, and so are both differences.
    """
    shifted = y * 134217729.0  # Veltkamp's splitting
    high = shifted - (shifted - y)
    return (x - high * z) - (y - high) * z


def _quotient(a: Array, b: Array) -> Array:
    ordinary = a / b
    (n, e), (m, f) = _significand(a), _significand(b)
    quotient = n / m
    exact = np.ldexp(_to_odd(quotient, _product_rest(n, quotient, m) * np.sign(m)), e - f)
    return np.where(np.isfinite(a) & np.isfinite(b) & (a != 0) & (b != 0), exact, ordinary)


def _root(a: Array, _: Array) -> Array:
    ordinary = np.sqrt(a)
    n, e = _significand(np.abs(a))
    n, e = np.where(e & 1, 2 * n, n), e - (e & 1)
    root = np.sqrt(n)
    shifted = root * 134217729.0
    high = shifted - (shifted - root)
    low = root - high
    rest = ((n - high * high) - 2 * high * low) - low * low  # exact: n has 24 bits, and the parts of the root 26
    exact = np.ldexp(_to_odd(root, rest), e // 2)
    return np.where(np.isfinite(a) & (a > 0), exact, ordinary)


def _extreme(choose_first: Callable[[Array, Array], NDArray[np.bool_]]) -> Callable[[Array, Array], Array]:
    """IEEE 754-2019 minimum and maximum: NaN wins, and -0 is below +0."""

    def operation(a: Array, b: Array) -> Array:
        first = choose_first(a, b) | ((a == b) & choose_first(np.copysign(1.0, a), np.copysign(1.0, b)))
        return np.where(np.isnan(a) | np.isnan(b), np.nan, np.where(first, a, b))

    return operation


# --- exact results as integers, for stochastic rounding ---------------------------------------------------------------

# Products of two values of formats are whole in units of 2**-_UNIT: of 24 bits each, and from 2**-REACH on.
_UNIT = 2 * (REACH + PRECISION)
WORD = 32  # bits of a random word


def as_integers(x: Array) -> Integers:
    """Return finite float64 numbers, exactly, as Python's integers in units of ``2**-1048``."""
    fraction, exponent = np.frexp(x)
    significand: Integers = np.ldexp(fraction, 53).astype(np.int64).astype(object)
    significand <<= exponent.astype(object) + (_UNIT - 53)
    return significand


def _in_words(x: Array) -> Integers:
    magnitude: Integers = abs(as_integers(x)) << WORD
    return magnitude


def number_in_words(x: reference.Number) -> int:
    """Return ``abs(x)`` in units of ``2**-1080``, cut off."""
    exact = abs(Fraction(x))
    return (exact.numerator << (_UNIT + WORD)) // exact.denominator


def sum_in_words(a: Array, b: Array) -> Integers:
    """Return ``abs(a + b)`` in units of ``2**-1080``."""
    total: Integers = abs(as_integers(a) + as_integers(b)) << WORD
    return total


def _quotient_in_words(a: Array, b: Array) -> Integers:
    dividend: Integers = abs(as_integers(a)) << (_UNIT + WORD)
    quotient: Integers = dividend // abs(as_integers(b))
    return quotient


_integer_root = np.frompyfunc(math.isqrt, 1, 1)


def _root_in_words(a: Array, _: Array) -> Integers:
    root: Integers = _integer_root(as_integers(a) << (_UNIT + 2 * WORD))
    return root


class Operation(NamedTuple):
    """An operation on finite numbers, NaN and infinities.

    Attributes
    ----------
    operands : int
        How many there are.
    exact : callable
        The exact result as float64, rounded to odd if it needs more than 53 bits.
    in_words : callable, optional
        Of finite results, the magnitude in units of ``2**-1080``, cut off; None if ``exact`` never rounds.
    rational : callable, optional
        From two nonzero numbers to the exact result; None if ``exact`` never rounds.
    selects : bool
        Whether the result is an operand, or that with another sign: infinities stay.
    """

    operands: int
    exact: Callable[[Array, Array], Array]
    in_words: Callable[[Array, Array], Integers] | None = None
    rational: Callable[[Fraction, Fraction], reference.Number] | None = None
    selects: bool = False


OPERATIONS: dict[str, Operation] = {
    "add": Operation(2, exact_sum, sum_in_words, lambda a, b: a + b),
    "subtract": Operation(2, lambda a, b: exact_sum(a, -b), lambda a, b: sum_in_words(a, -b), lambda a, b: a - b),
    "multiply": Operation(2, np.multiply),
    "divide": Operation(2, _quotient, _quotient_in_words, lambda a, b: a / b),
    "minimum": Operation(2, _extreme(np.less), selects=True),
    "maximum": Operation(2, _extreme(np.greater), selects=True),
    "negate": Operation(1, lambda a, _: -a, selects=True),
    "absolute": Operation(1, lambda a, _: np.abs(a), selects=True),
    "sqrt": Operation(1, _root, _root_in_words, lambda a, _: reference.sqrt(a)),
    "convert": Operation(1, lambda a, _: a),
}
"""The operations that are tables of codes."""


class OperationTable(NamedTuple):
    """The codes of an operation's results, and the flags that it raises.

    Attributes
    ----------
    codes : ndarray of uint8 or uint16, shape (256, 256), or (256,) or (65536,) for one operand
        Indexed by the operands' codes; rows and columns beyond a narrow format's codes repeat it.
    flags : ndarray of uint8
        Of the same shape.
    missing : ndarray of bool
        Where the result is NaN and the result's format has no code for it.
    """

    codes: NDArray[Any]
    flags: NDArray[np.uint8]
    missing: NDArray[np.bool_]


def operation_table(
    operation: str,
    fmt: Formats,
    *,
    result: str | Format | None = None,
    rounding: str | Rounding = "nearest-even",
) -> OperationTable:
    """Return the whole table of an operation.

    Parameters
    ----------
    operation : str
        A key of `OPERATIONS`.
    fmt : str, Format or tuple
        Format of the operands, or a tuple with one for each.
    result : str or Format, optional
        Format of the result; by default that of the first operand.
    rounding : str or Rounding
        As for `encode`; not ``stochastic``.

    Returns
    -------
    OperationTable
        Codes and flags.

    Raises
    ------
    ValueError
        If an option is unknown, or two operands have more than 8 bits each.

    Examples
    --------
    >>> table = operation_table("multiply", "rf8")
    >>> int(table.codes[0x7B, 0x6F]) == 0x6F, Flags(int(table.flags[0x7F, 0x7F]))
    (True, <Flags.INEXACT|OVERFLOW: 5>)
    """
    choose("operation", operation, OPERATIONS)
    first, second, into = _table_formats(operation, fmt, result)
    chosen = as_rounding(rounding)
    if chosen.stochastic:
        raise ValueError("operation_table gives one code for each pair, 'stochastic' draws one of two: use draw_table")
    check_choices(into, chosen)
    _check_size(operation, first, second)
    return _table(operation, first, second, into, str(chosen))


def _table_formats(operation: str, fmt: Formats, result: str | Format | None) -> tuple[Format, Format, Format]:
    """Return the formats of the first operand, of the second (of one, the first again) and of the result."""
    formats = [get_format(name) for name in each_format(fmt, OPERATIONS[operation].operands)]
    return formats[0], formats[-1], formats[0] if result is None else get_format(result)


def is_table(operation: str, formats: Sequence[Format]) -> bool:
    """Return whether the results of an operation are kept as a table: operands have at most 8 bits, or there is one."""
    return OPERATIONS[operation].operands == 1 or all(fmt.bits <= 8 for fmt in formats)


def _check_size(operation: str, first: Format, second: Format) -> None:
    if not is_table(operation, (first, second)):
        raise ValueError(
            f"operands of {first.bits} and {second.bits} bits make a table of 2**{first.bits + second.bits} entries: "
            f"tables are of formats of at most 8 bits; call rf8sim.{operation} on arrays of codes"
        )


@lru_cache(maxsize=256)
def _table(operation: str, first: Format, second: Format, into: Format, rounding: str) -> OperationTable:
    chosen = as_rounding(rounding)
    operands, value, flags = _results(operation, first, second, into, cancels_to_minus_zero(operation, chosen))
    table = round_exact(value, flags, into, chosen, exact_numbers(operation, *operands), OPERATIONS[operation].selects)
    for column in table:  # it is handed out and kept
        column.flags.writeable = False
    return table


def _results(
    operation: str, first: Format, second: Format, into: Format, minus_zero: bool = False
) -> tuple[tuple[Array, Array], Array, NDArray[Any]]:
    """Return the operands of all codes, the exact results, and the flags of the operation itself."""
    a, b = whole_table(first.values), whole_table(second.values)
    if OPERATIONS[operation].operands == 2:
        a, b = (np.ascontiguousarray(x) for x in np.broadcast_arrays(a[:, None], b[None, :]))
    value, flags = exact_results(operation, a, b, into, minus_zero)
    return (a, b), value, flags


def exact_results(
    operation: str, a: Array, b: Array, into: Format, minus_zero: bool = False
) -> tuple[Array, NDArray[Any]]:
    """Return the exact results of operands, rounded to odd where float64 does not hold them, and their flags.

    ``minus_zero`` says that a sum that cancels is -0 (`cancels_to_minus_zero`); ``b`` is not read by operations of one
    operand.
    """
    operands, exact = OPERATIONS[operation][:2]
    with np.errstate(all="ignore"):
        value = -exact(-a, -b) if minus_zero else exact(a, b)
    nan = np.isnan(a) | np.isnan(b) if operands == 2 else np.isnan(a)
    flags = np.where(np.isnan(value) & ~nan, Flags.INVALID, 0)
    if operation == "divide":
        by_zero = (b == 0) & np.isfinite(a) & (a != 0)
        flags = np.where(by_zero, Flags.DIVIDE_BY_ZERO, flags)
        if not into.divides_by_zero:
            value = np.where(by_zero, np.nan, value)
    return value, flags


Numbers = Callable[[int], reference.Number]
"""From the flat index of a result that float64 does not hold to its exact value."""


def exact_numbers(operation: str, a: Array, b: Array) -> Numbers | None:
    """Return the exact results of operands one by one; None if float64 holds them all."""
    rational = OPERATIONS[operation].rational
    if rational is None:
        return None
    return lambda index: rational(Fraction(a.flat[index]), Fraction(b.flat[index]))


def cancels_to_minus_zero(operation: str, rounding: Rounding) -> bool:
    """Return whether a sum that cancels is -0: in the mode ``down`` (IEEE 754-2019, 6.3)."""
    return rounding.mode == RoundingMode.DOWN and operation in ("add", "subtract")


def round_exact(
    value: Array,
    flags: NDArray[Any],
    into: Format,
    rounding: str | Rounding,
    exactly: Numbers | None = None,
    selects: bool = False,
) -> OperationTable:
    """Round exact results to codes, and add the flags of rounding.

    Parameters
    ----------
    value : ndarray of float64
        Exact results; rounded to odd, if ``exactly`` gives their exact values.
    flags : ndarray of int
        Those of the operation itself.
    into, rounding
        Format of the result, and how it is rounded; not ``stochastic``.
    exactly : callable, optional
        From a flat index to the exact value.
    selects : bool
        Whether an infinite result stays one where the format has it, for every ``overflow``.

    Returns
    -------
    OperationTable
        Of value's shape.
    """
    chosen = as_rounding(rounding)
    missing = np.isnan(value) & (into.nan is None)
    value = np.where(missing, 0.0, value)
    codes = encode(value, into, rounding=chosen)
    mode, overflow = RoundingMode(chosen.mode), Overflow(chosen.overflow)
    over = np.zeros(value.shape, dtype=np.bool_)
    for negative, side in enumerate(into.sides):
        magnitude = -value if negative else value
        over |= magnitude >= overflow_start(into, mode, bool(negative), overflow)
        if side.infinity is not None and selects:
            codes[magnitude == np.inf] = side.infinity
        if side.infinity is not None:  # an infinity that stays one is exact
            over &= (magnitude != np.inf) | (codes != side.infinity)
    inexact = over | (whole_table(into.values)[codes] != value) & ~np.isnan(value)
    tiny = (
        inexact & ~over & (np.abs(value) < (into.smallest if into.subnormals_below is None else into.subnormals_below))
    )
    raised = flags
    for flag, where in ((Flags.INEXACT, inexact), (Flags.OVERFLOW, over), (Flags.UNDERFLOW, tiny)):
        raised = raised | np.where(where, flag, 0)
    if exactly is not None:
        for index in np.flatnonzero(undecided(value, into, chosen)).tolist():
            code, rounded = reference.round_with_flags(exactly(index), into, chosen.mode, chosen.overflow)
            codes.flat[index], raised.flat[index] = code, np.asarray(flags).flat[index] | rounded
    return OperationTable(codes, raised.astype(np.uint8), missing)


class DrawTable(NamedTuple):
    """The two results that stochastic rounding chooses from, and how far the exact result is on the way.

    With ``k`` random bits and ``r`` the low k bits of a word, the upper is taken where
    ``(fraction >> (32 - k)) + r >= 2**k``: the carry of an adder.

    Attributes
    ----------
    codes, flags : ndarray of uint32, shape (256, 256), or (256,) for one operand
        ``lower | upper << 16``, the lower in magnitude; equal where nothing is drawn.
    fraction : ndarray of uint32
        ``floor(p * 2**32)`` for the exact result ``lower + p * (upper - lower)``; 0 where nothing is drawn.
    missing : ndarray of bool
        Where the result is NaN and the result's format has no code for it.
    inexact : ndarray of bool
        Where ``p * 2**32`` is no integer.
    """

    codes: NDArray[np.uint32]
    flags: NDArray[np.uint32]
    fraction: NDArray[np.uint32]
    missing: NDArray[np.bool_]
    inexact: NDArray[np.bool_]

    def at(self, index: NDArray[Any]) -> DrawTable:
        """Return what is drawn from for some of the operands."""
        codes, flags, fraction, missing, inexact = (column[index] for column in self)
        return DrawTable(codes, flags, fraction, missing, inexact)


def draw_table(
    operation: str,
    fmt: Formats,
    *,
    result: str | Format | None = None,
    rounding: str | Rounding = "stochastic",
) -> DrawTable:
    """Return the whole table of an operation that rounds stochastically.

    Parameters
    ----------
    operation : str
        A key of `OPERATIONS`.
    fmt, result
        As for `operation_table`.
    rounding : str or Rounding
        ``stochastic``, with any option of overflow. The table is for all words: the seed and the like have no effect.

    Returns
    -------
    DrawTable
        Both codes and flags of each result, and the fraction that a random word is added to.

    Raises
    ------
    ValueError
        If an option is unknown.

    Examples
    --------
    1 / 1.5 lies between 0.625 and 0.75, a third of the way:

    >>> from rf8sim import decode
    >>> table = draw_table("divide", "rf8")
    >>> pair = int(table.codes[0x7B, 0x7F])
    >>> decode([pair & 0xFFFF, pair >> 16], "rf8").tolist(), int(table.fraction[0x7B, 0x7F]) == 2**32 // 3
    ([0.625, 0.75], True)
    """
    choose("operation", operation, OPERATIONS)
    first, second, into = _table_formats(operation, fmt, result)
    chosen = as_rounding(rounding)
    if not chosen.stochastic:
        raise ValueError(f"draw_table is for 'stochastic', which draws one of two codes: for {chosen.mode!r} use "
                         "operation_table")  # fmt: skip
    check_choices(into, chosen)
    _check_size(operation, first, second)
    return _draw_table(operation, first, second, into, chosen.overflow)


@lru_cache(maxsize=64)
def _draw_table(operation: str, first: Format, second: Format, into: Format, overflow: str) -> DrawTable:
    (a, b), value, flags = _results(operation, first, second, into)
    in_words = OPERATIONS[operation].in_words

    def magnitude(here: NDArray[np.bool_]) -> Integers:
        return _in_words(value[here]) if in_words is None else in_words(a[here], b[here])

    table = draws(value, flags, into, overflow, magnitude, OPERATIONS[operation].selects)
    for column in table:
        column.flags.writeable = False
    return table


def draws(
    value: Array,
    flags: NDArray[Any],
    into: Format,
    overflow: str,
    magnitude: Callable[[NDArray[np.bool_]], Integers],
    selects: bool = False,
) -> DrawTable:
    """Return what stochastic rounding chooses from.

    Parameters
    ----------
    value : ndarray of float64
        Exact results, or rounded to odd.
    flags : ndarray of int
        Those of the operation itself.
    into, overflow
        Format of the result, and what becomes of results beyond its largest value.
    magnitude : callable
        From a mask to the exact magnitudes there, cut off to integers of ``2**-1080``. With those, cutting off the
        fraction is right: values of a format are whole in these units, so ``floor((x - n) / m) = floor((floor(x) - n)
        / m)``.
    selects : bool
        As for `round_exact`.

    Returns
    -------
    DrawTable
        Of value's shape.
    """
    lower, up, down = (
        round_exact(value, flags, into, Rounding(mode, overflow), None, selects)
        for mode in ("toward-zero", "up", "down")
    )
    negative = value < 0
    upper_codes, upper_flags = (np.where(negative, d, u) for d, u in zip(down[:2], up[:2], strict=True))
    over = lower.flags & Flags.OVERFLOW != 0  # beyond what any draw can reach
    codes = np.where(over, upper_codes, lower.codes)
    raised = np.where(over, upper_flags, lower.flags)
    drawn = (codes != upper_codes) | (raised != upper_flags)
    fraction = np.zeros(value.shape, dtype=np.uint32)
    inexact = np.zeros(value.shape, dtype=np.bool_)
    for below_zero, side in enumerate(into.sides):
        here = drawn & (negative == bool(below_zero))
        if here.any():
            beyond = [side.beyond] if math.isfinite(side.beyond) else []
            if below_zero and not into.signed:  # zero is drawn, or what is out of range
                beyond = into.sides[0].magnitudes[1:2].tolist()
            grid = as_integers(np.array([*side.magnitudes, *beyond]))
            rank = into.rank[codes[here]]
            distance, gap = magnitude(here) - (grid[rank] << WORD), grid[rank + 1] - grid[rank]
            fraction[here] = distance // gap
            inexact[here] = (distance % gap != 0) | is_odd(value[here])
    upper_codes, upper_flags = (column.astype(np.uint32) << 16 for column in (upper_codes, upper_flags))
    return DrawTable(codes | upper_codes, raised | upper_flags, fraction, lower.missing, inexact)


@lru_cache(maxsize=64)
def order_table(first: Format, second: Format) -> NDArray[np.int8]:
    """Return how each pair of codes compares: -1, 0, 1, or 2 where one is NaN."""
    return order(whole_table(first.values)[:, None], whole_table(second.values)[None, :])


def order(a: Array, b: Array) -> NDArray[np.int8]:
    """Return how numbers compare: -1, 0, 1, or 2 where one is NaN."""
    placed = (a > b).astype(np.int8) - (a < b).astype(np.int8)
    placed[np.isnan(a) | np.isnan(b)] = 2
    return placed


def conversion_table(fmt: Format, into: Format, ratio: Fraction, rounding: str | Rounding) -> OperationTable:
    """Return the codes, flags and missing NaNs of every value of a format times a positive ratio, rounded once.

    Parameters
    ----------
    fmt, into : Format
        From which format to which.
    ratio : Fraction
        Of the scale of the codes to the scale of the result.
    rounding : str or Rounding
        As for `operation_table`.

    Returns
    -------
    OperationTable
        Of 2**bits entries.

    Examples
    --------
    >>> table = conversion_table(get_format("rf8"), get_format("int8"), Fraction(64), "nearest-even")
    >>> int(table.codes[0x7B]), bool(table.missing[0x80])
    (64, True)
    """
    chosen = as_rounding(rounding)
    check_choices(into, chosen)
    return _conversion_table(fmt, into, ratio, chosen.mode, chosen.overflow)


@lru_cache(maxsize=256)
def _conversion_table(fmt: Format, into: Format, ratio: Fraction, mode: str, overflow: str) -> OperationTable:
    results = [reference.multiply(reference.number(code, fmt), ratio) for code in range(1 << fmt.bits)]
    missing = np.array([into.nan is None and math.isnan(result) for result in results])
    rounded = [
        (0, 0) if absent else reference.round_with_flags(result, into, mode, overflow)
        for result, absent in zip(results, missing, strict=True)
    ]
    codes, flags = np.array(rounded).T
    return OperationTable(codes.astype(into.code_dtype), flags.astype(np.uint8), missing)

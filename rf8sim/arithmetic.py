"""Operations on codes: each the correctly rounded result of the exact real operation.

A two-operand operation is a table of 256 x 256 codes, made when first asked for and kept in memory. That takes 1 to 3
milliseconds, and 5 more where the mode's boundaries in the format are new to the process; to read and verify a file of
it would take 0.3, so nothing is kept on disk.

Exact results that need more than 53 bits are kept as float64 *rounded to odd* (Boldo and Melquiond, IEEE Transactions
on Computers 57, 2008): the last bit says that something was cut off, so rounding that to the 26 or fewer bits of a
decision boundary is rounding the exact result. The boundaries of the mode ``residual`` are irrational; that no quotient
and no root is so close to one that the bits cut off matter is tested for all named formats.

An infinite result is exact where the result's format has that infinity, whatever the option ``overflow`` says: it is
about finite results. Where there is no infinity an infinite operand overflows, and x/0 is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import IntFlag
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _kernels, reference
from ._checks import as_codes, as_output, choose
from ._parallel import in_pieces
from .codec import encode, whole_table
from .formats import Format, get_format
from .rounding import RoundingMode, check_choices, overflow_start

__all__ = [
    "OPERATIONS", "Flags", "absolute", "add", "compare", "conversion_table", "divide", "fma", "maximum", "minimum",
    "multiply", "negate", "operation_table", "sqrt", "subtract",
]  # fmt: skip

Array = NDArray[np.float64]

# Elements of `fma` that are float64 at one time: they stay in the cache.
_PIECE = 1 << 14


class Flags(IntFlag):
    """IEEE 754's exception flags, with the values of TestFloat's flag byte.

    Underflow is raised where the exact result is tiny (below the smallest normal value, for formats without subnormals
    below the smallest value) and inexact; tininess is detected before rounding. Overflow is raised where the result is
    out of the format's range: beyond the largest value were the grid to go on, negative in an unsigned format, infinite
    in a format without infinities. Posits and quantile tables have no grid to go on: finite results never overflow.
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


def _sum(a: Array, b: Array) -> Array:
    total = a + b
    # Knuth's TwoSum: the rounding error of the sum, exactly.
    shadow = total - a
    error = (a - (total - shadow)) + (b - shadow)
    return np.where(np.isfinite(total), _to_odd(total, np.where(np.isfinite(error), error, 0.0)), total)


def _integers(x: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ``(n, e)`` with ``|x| = n * 2**e``; n has 24 bits, or is zero."""
    fraction, exponent = np.frexp(np.abs(np.where(np.isfinite(x), x, 0.0)))
    return np.ldexp(fraction, 24).astype(np.int64), exponent.astype(np.int64) - 24


def _quotient(a: Array, b: Array) -> Array:
    ordinary = a / b
    (n, e), (m, f) = _integers(a), _integers(b)
    whole, rest = np.divmod(n << 38, np.where(m == 0, 1, m))
    magnitude = np.ldexp((whole << 1 | (rest != 0)).astype(np.float64), e - f - 39)
    exact = np.copysign(magnitude, ordinary)
    return np.where(np.isfinite(a) & np.isfinite(b) & (a != 0) & (b != 0), exact, ordinary)


def _root(a: Array, _: Array) -> Array:
    ordinary = np.sqrt(a)
    n, e = _integers(a)
    odd = e & 1
    wide = n << (36 + odd)
    # Cutting off the float64 root is right for each of the 2**24 numbers that there are.
    root = np.sqrt(wide.astype(np.float64)).astype(np.int64)
    exact = np.ldexp((root << 1 | (root * root != wide)).astype(np.float64), (e - odd - 36) // 2 - 1)
    return np.where(np.isfinite(a) & (a > 0), exact, ordinary)


def _extreme(choose_first: Callable[[Array, Array], NDArray[np.bool_]]) -> Callable[[Array, Array], Array]:
    """IEEE 754-2019 minimum and maximum: NaN wins, and -0 is below +0."""

    def operation(a: Array, b: Array) -> Array:
        first = choose_first(a, b) | ((a == b) & choose_first(np.copysign(1.0, a), np.copysign(1.0, b)))
        return np.where(np.isnan(a) | np.isnan(b), np.nan, np.where(first, a, b))

    return operation


class Operation(NamedTuple):
    """An operation: how many operands it has, and its exact result."""

    operands: int
    exact: Callable[[Array, Array], Array]


OPERATIONS: dict[str, Operation] = {
    "add": Operation(2, _sum),
    "subtract": Operation(2, lambda a, b: _sum(a, -b)),
    "multiply": Operation(2, np.multiply),
    "divide": Operation(2, _quotient),
    "minimum": Operation(2, _extreme(np.less)),
    "maximum": Operation(2, _extreme(np.greater)),
    "negate": Operation(1, lambda a, _: -a),
    "absolute": Operation(1, lambda a, _: np.abs(a)),
    "sqrt": Operation(1, _root),
}
"""The operations that are tables of codes."""


class OperationTable(NamedTuple):
    """The codes of an operation's results, and the flags that it raises.

    Attributes
    ----------
    codes, flags : ndarray of uint8, shape (256, 256), or (256,) for one operand
        Indexed by the operands' codes; rows and columns beyond a narrow format's codes repeat it.
    missing : ndarray of bool
        Where the result is NaN and the result's format has no code for it.
    """

    codes: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    missing: NDArray[np.bool_]


def operation_table(
    operation: str,
    fmt: str | Format,
    *,
    fmt_b: str | Format | None = None,
    result: str | Format | None = None,
    rounding: str = "nearest-even",
    overflow: str = "saturate",
) -> OperationTable:
    """Return the whole table of an operation.

    Parameters
    ----------
    operation : str
        A key of `OPERATIONS`.
    fmt : str or Format
        Format of the first operand, and by default of all.
    fmt_b, result : str or Format, optional
        Format of the second operand and of the result.
    rounding, overflow : str
        As for `encode`; not ``stochastic``.

    Returns
    -------
    OperationTable
        Codes and flags.

    Raises
    ------
    ValueError
        If an option is unknown.

    Examples
    --------
    >>> table = operation_table("multiply", "rf8")
    >>> int(table.codes[0x7B, 0x6F]) == 0x6F, Flags(int(table.flags[0x7F, 0x7F]))
    (True, <Flags.INEXACT|OVERFLOW: 5>)
    """
    choose("operation", operation, OPERATIONS)
    first = get_format(fmt)
    second = first if fmt_b is None else get_format(fmt_b)
    into = first if result is None else get_format(result)
    if rounding == "stochastic":
        raise ValueError(
            "operations on codes are tables: 'stochastic' rounding has none; round the decoded result instead"
        )
    check_choices(into, rounding, overflow)
    return _table(operation, first, second, into, str(rounding), str(overflow))


@lru_cache(maxsize=256)
def _table(operation: str, first: Format, second: Format, into: Format, rounding: str, overflow: str) -> OperationTable:
    operands, exact = OPERATIONS[operation]
    a, b = whole_table(first.values), whole_table(second.values)
    if operands == 2:
        a, b = a[:, None], b[None, :]
    with np.errstate(all="ignore"):
        # A sum that cancels is +0, and -0 in this one mode (IEEE 754-2019, 6.3).
        value = -exact(-a, -b) if rounding == "down" and operation in ("add", "subtract") else exact(a, b)
    nan = np.isnan(a) | np.isnan(b) if operands == 2 else np.isnan(a)
    flags = np.where(np.isnan(value) & ~nan, Flags.INVALID, 0)
    if operation == "divide":
        by_zero = (b == 0) & np.isfinite(a) & (a != 0)
        flags = np.where(by_zero, Flags.DIVIDE_BY_ZERO, flags)
        if into.sides[0].infinity is None:  # there is no infinity: x/0 is NaN
            value = np.where(by_zero, np.nan, value)
    table = _rounded(value, flags, into, rounding, overflow)
    for column in table:  # it is handed out and kept
        column.flags.writeable = False
    return table


def _rounded(value: Array, flags: NDArray[Any], into: Format, rounding: str, overflow: str) -> OperationTable:
    """Round exact results to codes, and add the flags of rounding."""
    missing = np.isnan(value) & (into.nan is None)
    value = np.where(missing, 0.0, value)
    codes = encode(value, into, rounding=rounding, overflow=overflow)
    mode = RoundingMode(rounding)
    over = np.zeros(value.shape, dtype=np.bool_)
    for negative, side in enumerate(into.sides):
        magnitude = -value if negative else value
        if side.infinity is not None:
            codes[magnitude == np.inf] = side.infinity  # exact: what the option decides is what finite results become
            over |= (magnitude >= overflow_start(into, mode, bool(negative))) & (magnitude < np.inf)
        elif negative and not into.signed:
            over |= magnitude > 0
        else:
            over |= magnitude >= overflow_start(into, mode, bool(negative))
    inexact = over | (whole_table(into.values)[codes] != value) & ~np.isnan(value)
    tiny = (
        inexact & ~over & (np.abs(value) < (into.smallest if into.subnormals_below is None else into.subnormals_below))
    )
    for flag, where in ((Flags.INEXACT, inexact), (Flags.OVERFLOW, over), (Flags.UNDERFLOW, tiny)):
        flags = flags | np.where(where, flag, 0)
    return OperationTable(codes, flags.astype(np.uint8), missing)


@lru_cache(maxsize=64)
def _order_table(first: Format, second: Format) -> NDArray[np.int8]:
    a, b = whole_table(first.values)[:, None], whole_table(second.values)[None, :]
    order = (a > b).astype(np.int8) - (a < b).astype(np.int8)
    order[np.isnan(a) | np.isnan(b)] = 2
    return order


def _refuse_missing(missing: NDArray[np.bool_], what: str, into: Format) -> None:
    if missing.any():
        where = ", ".join(map(str, np.argwhere(missing)[0]))
        raise ValueError(
            f"{what} gives NaN, first at index ({where}), and format {into.name!r} has no NaN code: "
            "choose a result format with NaN"
        )


def _apply(
    operation: str,
    operands: tuple[ArrayLike, ...],
    fmt: str | Format,
    fmt_b: str | Format | None,
    result: str | Format | None,
    rounding: str,
    overflow: str,
    out: NDArray[np.uint8] | None,
    with_flags: bool,
) -> Any:
    first = get_format(fmt)
    second = first if fmt_b is None else get_format(fmt_b)
    table = operation_table(operation, first, fmt_b=second, result=result, rounding=rounding, overflow=overflow)
    into = first if result is None else get_format(result)
    arrays, shape = _operands(operands, (first, second))
    codes = as_output(out, shape, np.dtype(np.uint8))
    if table.missing.any():
        _refuse_missing(_look_up(arrays, table.missing).reshape(shape), operation, into)
    flags = _look_up(arrays, table.flags).reshape(shape) if with_flags else None
    # As in numpy, operands that share memory with `out` are read before it is written.
    in_place = codes.flags.c_contiguous and not any(np.may_share_memory(codes, array) for array in arrays)
    found = _look_up(arrays, table.codes, codes.reshape(-1) if in_place else None)
    if not in_place:
        codes[...] = found.reshape(shape)
    return codes if flags is None else (codes, flags)


def _operands(
    operands: tuple[ArrayLike, ...], formats: tuple[Format, ...]
) -> tuple[list[NDArray[np.uint8]], tuple[int, ...]]:
    """Check codes, broadcast them; return them flat, and their common shape."""
    checked = [as_codes(x, f.bits, f.name) for x, f in zip(operands, formats, strict=False)]
    try:
        arrays = np.broadcast_arrays(*checked)
    except ValueError:
        shapes = " and ".join(str(array.shape) for array in checked)
        raise ValueError(f"operands of shapes {shapes} do not broadcast to one shape") from None
    return [np.ascontiguousarray(array).reshape(-1) for array in arrays], arrays[0].shape


def _look_up(operands: list[NDArray[np.uint8]], table: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return what a table says of flat operands."""
    a, flat = operands[0], table.reshape(-1)
    target = np.empty(a.size, dtype=table.dtype) if out is None else out
    if len(operands) == 1:
        in_pieces(lambda start, stop: _kernels.look_up(a[start:stop], flat, target[start:stop]), a.size)
    else:
        b = operands[1]
        in_pieces(
            lambda start, stop: _kernels.look_up_pair(a[start:stop], b[start:stop], flat, target[start:stop]), a.size
        )
    return target


@lru_cache(maxsize=256)
def conversion_table(fmt: Format, into: Format, ratio: Fraction, rounding: str, overflow: str) -> OperationTable:
    """Return the codes, flags and missing NaNs of every value of a format times a positive ratio, rounded once.

    Parameters
    ----------
    fmt, into : Format
        From which format to which.
    ratio : Fraction
        Of the scale of the codes to the scale of the result.
    rounding, overflow : str
        As for `operation_table`.

    Returns
    -------
    OperationTable
        Of 2**bits entries.

    Examples
    --------
    >>> table = conversion_table(get_format("rf8"), get_format("int8"), Fraction(64), "nearest-even", "saturate")
    >>> int(table.codes[0x7B]), bool(table.missing[0x80])
    (64, True)
    """
    check_choices(into, rounding, overflow)
    results = [reference.multiply(reference.number(code, fmt), ratio) for code in range(1 << fmt.bits)]
    missing = np.array([into.nan is None and math.isnan(result) for result in results])
    rounded = [
        (0, 0) if absent else reference.round_with_flags(result, into, rounding, overflow)
        for result, absent in zip(results, missing, strict=True)
    ]
    codes, flags = np.array(rounded, dtype=np.uint8).T.copy()
    return OperationTable(codes, flags, missing)


class BinaryOperation(Protocol):
    """The signature of `add` and its kin."""

    def __call__(
        self,
        a: ArrayLike,
        b: ArrayLike,
        fmt: str | Format,
        *,
        fmt_b: str | Format | None = None,
        result: str | Format | None = None,
        rounding: str = "nearest-even",
        overflow: str = "saturate",
        flags: bool = False,
        out: NDArray[np.uint8] | None = None,
    ) -> Any:
        """Operate on codes."""


class UnaryOperation(Protocol):
    """The signature of `negate` and its kin."""

    def __call__(
        self,
        a: ArrayLike,
        fmt: str | Format,
        *,
        result: str | Format | None = None,
        rounding: str = "nearest-even",
        overflow: str = "saturate",
        flags: bool = False,
        out: NDArray[np.uint8] | None = None,
    ) -> Any:
        """Operate on codes."""


_BINARY_DOC = """{summary}

Parameters
----------
a, b : array_like of uint8
    Codes; they broadcast as numpy's ufuncs do.
fmt : str or Format
    Format of ``a``, and by default of ``b`` and the result.
fmt_b, result : str or Format, optional
    Format of ``b`` and of the result.
rounding, overflow : str
    As for `rf8sim.encode`, ``stochastic`` excepted.
flags : bool
    Return IEEE 754's flags of each element too, as bits of `Flags`.
out : ndarray of uint8, optional
    Where to put the codes.

Returns
-------
ndarray of uint8, or a pair of them with ``flags``
    Canonical codes of the correctly rounded results.

Raises
------
ValueError
    If an option is unknown, shapes do not broadcast, or NaN can result and the result's format has none.

Examples
--------
>>> import rf8sim
>>> a, b = rf8sim.encode([1.5, 0.25], "rf8"), rf8sim.encode([0.5, -0.125], "rf8")
>>> rf8sim.decode(rf8sim.{name}(a, b, "rf8"), "rf8").tolist()
{example}
"""

_UNARY_DOC = """{summary}

Parameters
----------
a : array_like of uint8
    Codes.
fmt : str or Format
    Their format, and by default that of the result.
result, rounding, overflow, flags, out
    As for `add`.

Returns
-------
ndarray of uint8, or a pair of them with ``flags``
    Canonical codes.

Raises
------
ValueError
    As for `add`.

Examples
--------
>>> import rf8sim
>>> rf8sim.decode(rf8sim.{name}(rf8sim.encode([0.25, 1.0], "rf8"), "rf8"), "rf8").tolist()
{example}
"""


def _binary(name: str, summary: str, example: str) -> BinaryOperation:
    def operation(
        a: ArrayLike,
        b: ArrayLike,
        fmt: str | Format,
        *,
        fmt_b: str | Format | None = None,
        result: str | Format | None = None,
        rounding: str = "nearest-even",
        overflow: str = "saturate",
        flags: bool = False,
        out: NDArray[np.uint8] | None = None,
    ) -> Any:
        return _apply(name, (a, b), fmt, fmt_b, result, rounding, overflow, out, flags)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = _BINARY_DOC.format(name=name, summary=summary, example=example)
    return operation


def _unary(name: str, summary: str, example: str) -> UnaryOperation:
    def operation(
        a: ArrayLike,
        fmt: str | Format,
        *,
        result: str | Format | None = None,
        rounding: str = "nearest-even",
        overflow: str = "saturate",
        flags: bool = False,
        out: NDArray[np.uint8] | None = None,
    ) -> Any:
        return _apply(name, (a,), fmt, None, result, rounding, overflow, out, flags)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = _UNARY_DOC.format(name=name, summary=summary, example=example)
    return operation


add = _binary("add", "Add codes.", "[1.5, 0.125]")
subtract = _binary("subtract", "Subtract codes.", "[1.0, 0.375]")
multiply = _binary("multiply", "Multiply codes.", "[0.75, -0.03125]")
divide = _binary("divide", "Divide codes; x/0 is NaN, or infinity where the result's format has one.", "[1.5, -1.5]")
minimum = _binary("minimum", "Take the smaller of two codes; NaN if either is NaN, -0 below +0.", "[0.5, -0.125]")
maximum = _binary("maximum", "Take the larger of two codes; NaN if either is NaN, +0 above -0.", "[1.5, 0.25]")
negate = _unary("negate", "Change the sign of codes.", "[-0.25, -1.0]")
absolute = _unary("absolute", "Clear the sign of codes.", "[0.25, 1.0]")
sqrt = _unary("sqrt", "Take the square root of codes; NaN below zero.", "[0.5, 1.0]")


def fma(
    a: ArrayLike,
    b: ArrayLike,
    c: ArrayLike,
    fmt: str | Format,
    *,
    fmt_b: str | Format | None = None,
    fmt_c: str | Format | None = None,
    result: str | Format | None = None,
    rounding: str = "nearest-even",
    overflow: str = "saturate",
    flags: bool = False,
    out: NDArray[np.uint8] | None = None,
) -> Any:
    """Compute ``a * b + c`` with one rounding.

    The product of two values is exact in float64, the sum is taken rounded to odd, so the result is correctly rounded.

    Parameters
    ----------
    a, b, c : array_like of uint8
        Codes; they broadcast.
    fmt : str or Format
        Format of ``a``, and by default of all.
    fmt_b, fmt_c, result : str or Format, optional
        Format of ``b``, ``c`` and the result; ``result`` is by default that of ``c``.
    rounding, overflow, flags, out
        As for `add`.

    Returns
    -------
    ndarray of uint8, or a pair of them with ``flags``
        Canonical codes.

    Raises
    ------
    ValueError
        As for `add`.

    Examples
    --------
    >>> import rf8sim
    >>> one, small = rf8sim.encode([1.0, 0.03125], "rf8")
    >>> float(rf8sim.decode(rf8sim.fma(one, small, one, "rf8"), "rf8"))
    1.0
    """
    first = get_format(fmt)
    second = first if fmt_b is None else get_format(fmt_b)
    third = first if fmt_c is None else get_format(fmt_c)
    into = third if result is None else get_format(result)
    if rounding == "stochastic":
        raise ValueError("fma does not round stochastically: decode the operands and encode the result instead")
    check_choices(into, rounding, overflow)
    arrays, shape = _operands((a, b, c), (first, second, third))
    codes = as_output(out, shape, np.dtype(np.uint8))
    x, y, z = (whole_table(f.values) for f in (first, second, third))
    size = arrays[0].size
    found, raised = np.empty(size, dtype=np.uint8), np.empty(size, dtype=np.uint8)
    missing = np.empty(size, dtype=np.bool_)

    def work(start: int, stop: int) -> None:
        for low in range(start, stop, _PIECE):
            part = slice(low, min(low + _PIECE, stop))
            factor, other, addend = x[arrays[0][part]], y[arrays[1][part]], z[arrays[2][part]]
            with np.errstate(all="ignore"):
                down = rounding == "down"
                value = -_sum(-(factor * other), -addend) if down else _sum(factor * other, addend)
            invalid = np.isnan(value) & ~(np.isnan(factor) | np.isnan(other) | np.isnan(addend))
            table = _rounded(value, np.where(invalid, Flags.INVALID, 0), into, rounding, overflow)
            found[part], raised[part], missing[part] = table

    in_pieces(work, size)
    _refuse_missing(missing.reshape(shape), "fma", into)
    codes[...] = found.reshape(shape)
    return (codes, raised.reshape(shape)) if flags else codes


def compare(a: ArrayLike, b: ArrayLike, fmt: str | Format, *, fmt_b: str | Format | None = None) -> NDArray[np.int8]:
    """Compare codes by value: -1 below, 0 equal, 1 above, 2 unordered (a NaN).

    Parameters
    ----------
    a, b : array_like of uint8
        Codes; they broadcast.
    fmt, fmt_b : str or Format
        Format of ``a`` and ``b``.

    Returns
    -------
    ndarray of int8
        The order of each pair.

    Raises
    ------
    ValueError
        If a format is unknown or shapes do not broadcast.

    Examples
    --------
    >>> import rf8sim
    >>> rf8sim.compare([0x7B, 0x08, 0x80], [0x7F, 0x07, 0x00], "rf8").tolist()
    [-1, 0, 2]
    """
    first = get_format(fmt)
    second = first if fmt_b is None else get_format(fmt_b)
    arrays, shape = _operands((a, b), (first, second))
    return _look_up(arrays, _order_table(first, second)).reshape(shape)

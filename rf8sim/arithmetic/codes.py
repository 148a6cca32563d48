"""Operations on codes: each the correctly rounded result of the exact real operation.

The exact results, and the tables that they make, are in `operations`. Here they are looked up, for arrays of any
shape; what has too many operand bits for a table, as `fma` and formats of more than 8 bits, is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._base.checks import as_codes, as_output
from .._base.threads import in_pieces
from ..codec import dispatch as _kernels
from ..codec.boundaries import place
from ..codec.codec import drawn_words, encode, whole_table
from ..codec.drawing import adder_words, ties_of_draws
from ..codec.rounding import Overflow, Rounding, RoundingMode, as_rounding, check_choices
from ..codec.thresholds import cell_table, float32_decides
from ..formats import Format, get_format
from .operations import (
    OPERATIONS,
    WORD,
    DrawTable,
    Flags,
    Formats,
    Numbers,
    OperationTable,
    as_integers,
    cancels_to_minus_zero,
    conversion_table,
    draw_table,
    draws,
    each_format,
    exact_numbers,
    exact_results,
    exact_sum,
    is_table,
    operation_table,
    order,
    order_table,
    round_exact,
    sum_in_words,
)

__all__ = [
    "OPERATIONS", "DrawTable", "Flags", "OperationTable", "absolute", "add", "compare", "conversion_table", "convert",
    "divide", "draw_table", "fma", "maximum", "minimum", "multiply", "negate", "operation_table", "sqrt", "subtract",
]  # fmt: skip

# Elements of `fma` that are float64 at one time: they stay in the cache.
_PIECE = 1 << 14


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
    fmt: Formats,
    result: str | Format | None,
    rounding: str | Rounding,
    out: NDArray[Any] | None,
    with_flags: bool,
) -> Any:
    formats = tuple(get_format(name) for name in each_format(fmt, len(operands)))
    into = formats[0] if result is None else get_format(result)
    chosen = as_rounding(rounding)
    check_choices(into, chosen)
    arrays, shape = _operands(operands, formats)
    codes = as_output(out, shape, into.code_dtype)
    # As in numpy, operands that share memory with `out` are read before it is written.
    in_place = codes.flags.c_contiguous and not any(np.may_share_memory(codes, array) for array in arrays)
    target = codes.reshape(-1) if in_place else np.empty(arrays[0].size, dtype=into.code_dtype)
    words = drawn_words(shape, chosen) if chosen.stochastic else np.empty(0, np.uint32)
    work = _by_table if is_table(operation, formats) else _by_computation
    flags, missing = work(operation, arrays, formats, into, chosen, words, target)
    if missing.any():
        _refuse_missing(missing.reshape(shape), operation, into)
    raised = flags().reshape(shape) if with_flags else None  # before an operand that shares memory is overwritten
    if not in_place:
        codes[...] = target.reshape(shape)
    return codes if raised is None else (codes, raised)


def _by_table(
    operation: str,
    arrays: list[NDArray[Any]],
    formats: tuple[Format, ...],
    into: Format,
    rounding: Rounding,
    words: NDArray[np.uint32],
    out: NDArray[Any],
) -> tuple[Callable[[], NDArray[np.uint8]], NDArray[np.bool_]]:
    """Look results up; return a function that gives the flags, and where NaN has no code."""
    if rounding.stochastic:
        drawn = draw_table(operation, formats, result=into, rounding=rounding)
        missing = _look_up(arrays, drawn.missing) if drawn.missing.any() else drawn.missing[:0]
        compared, bits = _compared(
            words, rounding, lambda: (_look_up(arrays, drawn.fraction), _look_up(arrays, drawn.inexact))
        )
        if not missing.any():
            _look_up_drawn(drawn.codes, arrays, drawn.fraction, compared, bits, out)

        def drawn_flags() -> NDArray[np.uint8]:
            flags = np.empty(out.size, dtype=np.uint8)
            return _look_up_drawn(drawn.flags, arrays, drawn.fraction, compared, bits, flags)

        return drawn_flags, missing
    table = operation_table(operation, formats, result=into, rounding=rounding)
    missing = _look_up(arrays, table.missing) if table.missing.any() else table.missing[:0]
    if not missing.any():
        _look_up(arrays, table.codes, out)
    return lambda: _look_up(arrays, table.flags), missing


def _drawn_columns(table: DrawTable) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    return table.fraction, table.inexact


def _compared(
    words: NDArray[np.uint32], rounding: Rounding, drawn: Callable[[], tuple[NDArray[np.uint32], NDArray[np.bool_]]]
) -> tuple[NDArray[np.uint32], int]:
    """Return the words, and how many of their bits, by whose carry the rounding's variant decides."""
    ties = ties_of_draws(words, rounding.bits, *drawn()) if rounding.variant == "C" else None
    return adder_words(words, rounding, ties)


def _by_computation(
    operation: str,
    arrays: list[NDArray[Any]],
    formats: tuple[Format, ...],
    into: Format,
    rounding: Rounding,
    words: NDArray[np.uint32],
    out: NDArray[Any],
) -> tuple[Callable[[], NDArray[np.uint8]], NDArray[np.bool_]]:
    """Compute results of operands too wide for a table, by the functions that tables are made of."""
    minus_zero = cancels_to_minus_zero(operation, rounding)
    tables = [whole_table(fmt.values) for fmt in formats]
    terms = _as_terms(operation, arrays, tables, minus_zero)
    in_words = OPERATIONS[operation].in_words

    def exact(part: slice) -> Exact:
        a, b = (table[array[part]] for table, array in zip(tables, arrays, strict=True))
        value, flags = exact_results(operation, a, b, into, minus_zero)

        def magnitude(here: NDArray[np.bool_]) -> Any:
            return abs(as_integers(value[here])) << WORD if in_words is None else in_words(a[here], b[here])

        return value, flags, magnitude, exact_numbers(operation, a, b)

    return _round_pieces(exact, into, rounding, words, out, terms, OPERATIONS[operation].selects)


_ONE = np.ones(256)
_MINUS_ZERO = np.full(256, -0.0)
_NO_CODES = np.zeros(1, np.uint8)


class _Terms(NamedTuple):
    """Operands of a kernel, ``a * b + c`` for three and ``a / b`` for two.

    Attributes
    ----------
    codes, values : tuple of ndarray
        Codes, and the values of all codes.
    sign : float
        -1 where a sum that cancels is -0.
    """

    codes: tuple[NDArray[Any], ...]
    values: tuple[NDArray[np.float64], ...]
    sign: float = 1.0


def _as_terms(
    operation: str, arrays: list[NDArray[Any]], tables: list[NDArray[np.float64]], minus_zero: bool
) -> _Terms | None:
    """Write an operation as ``a * b + c`` or ``a / b``, equal in every bit and sign of zero; None if it is neither."""
    if operation == "divide":
        return _Terms(tuple(arrays), tuple(tables))
    sign = -1.0 if minus_zero else 1.0
    if operation in ("add", "subtract"):
        addend = tables[1] if operation == "add" else -tables[1]
        codes = arrays[0], np.broadcast_to(_NO_CODES, arrays[0].shape), arrays[1]
        return _Terms(codes, (tables[0], _ONE, addend), sign)
    if operation == "multiply":
        # A product of zero keeps its sign when -0 is added, in every mode but where a sum that cancels is -0.
        codes = arrays[0], arrays[1], np.broadcast_to(_NO_CODES, arrays[0].shape)
        return _Terms(codes, (tables[0], tables[1], _MINUS_ZERO), 1.0)
    return None


Exact = tuple[NDArray[np.float64], NDArray[Any], Callable[[NDArray[np.bool_]], Any], Numbers | None]
"""Exact results, the flags of the operation itself, and functions that give exact magnitudes (`draws`) and numbers."""


def _fused(terms: _Terms, into: Format, rounding: Rounding, out: NDArray[Any]) -> bool:
    """Compute ``a * b + c`` or ``a / b`` fast; return whether that was possible: if not, ``out`` is not to be used.

    Where no threshold is an odd float32 a kernel does all of it; where each is a float64, quotients are encoded from
    float64, once those that were rounded to a threshold are moved to the exact one's side.
    """
    mode, overflow = check_choices(into, rounding)
    if rounding.stochastic:
        return False
    nans: list[int] = []
    if float32_decides(into, mode):
        work = _by_kernel(terms, into, mode, overflow, nans, out)
    elif len(terms.codes) == 2 and _quotients_decide(into, mode):
        work = _by_encoding(terms, into, rounding, nans, out)
    else:
        return False
    in_pieces(work, out.size)
    return into.nan is not None or not any(nans)


def _by_kernel(
    terms: _Terms, into: Format, mode: RoundingMode, overflow: Overflow, nans: list[int], out: NDArray[Any]
) -> Callable[[int, int], None]:
    from .._kernels.arithmetic import divide as quotients
    from .._kernels.arithmetic import multiply_add

    cells = cell_table(into, mode, overflow, "float32")
    assert cells is not None
    table = tuple(cells)

    def work(start: int, stop: int) -> None:
        part, target = tuple(array[start:stop] for array in terms.codes), out[start:stop]
        if len(part) == 2:
            nans.append(quotients(part, terms.values, into.divides_by_zero, table, target))
        else:
            nans.append(multiply_add(part, terms.values, terms.sign, table, target))

    return work


def _by_encoding(
    terms: _Terms, into: Format, rounding: Rounding, nans: list[int], out: NDArray[Any]
) -> Callable[[int, int], None]:
    def work(start: int, stop: int) -> None:
        for low in range(start, stop, _PIECE):
            part = slice(low, min(low + _PIECE, stop))
            a, b = (values[codes[part]] for values, codes in zip(terms.values, terms.codes, strict=True))
            with np.errstate(all="ignore"):
                quotient = a / b
            if not into.divides_by_zero:
                quotient[(b == 0) & np.isfinite(a)] = np.nan
            _move_off_thresholds(quotient, a, b, into, RoundingMode(rounding.mode))
            missing = np.isnan(quotient)
            nans.append(int(np.count_nonzero(missing)))
            if into.nan is None:
                quotient[missing] = 0.0
            encode(quotient, into, rounding=rounding, threads=1, out=out[part])

    return work


def _move_off_thresholds(
    quotient: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64], into: Format, mode: RoundingMode
) -> None:
    """Move quotients that rounding to float64 put on a threshold by one last place, to the side of the exact one.

    Any other is on the exact one's side of all thresholds, since rounding is monotone.
    """
    for negative in (False, True)[: 1 + into.signed]:
        points = place(into, mode, negative).point
        magnitude = -quotient if negative else quotient
        index = np.minimum(np.searchsorted(points, magnitude), points.size - 1)
        met = np.flatnonzero((points[index] == magnitude) & np.isfinite(magnitude) & np.isfinite(b))
        # Both products are exact: 26 and 27 bits times 24. So is the first difference.
        q, divisor = magnitude[met], np.abs(b[met])
        high = (q.view(np.int64) & np.int64(-1 << 27)).view(np.float64)
        rest = (np.abs(a[met]) - high * divisor) - (q - high) * divisor
        moved = np.where(rest == 0, q, np.nextafter(q, np.where(rest > 0, np.inf, 0.0)))
        quotient[met] = -moved if negative else moved


@lru_cache(maxsize=512)
def _quotients_decide(fmt: Format, mode: RoundingMode) -> bool:
    """Return whether thresholds are float64 numbers, so that a quotient can be compared with each exactly."""
    sides = (place(fmt, mode, negative) for negative in (False, True)[: 1 + fmt.signed])
    return all(bool(((placed.rest == 0) & (placed.root == 0)).all()) for placed in sides)


def _round_pieces(
    exact: Callable[[slice], Exact],
    into: Format,
    rounding: Rounding,
    words: NDArray[np.uint32],
    out: NDArray[Any],
    terms: _Terms | None = None,
    selects: bool = False,
) -> tuple[Callable[[], NDArray[np.uint8]], NDArray[np.bool_]]:
    """Round what a function gives for each slice; return a function that gives the flags, and where NaN has no code.

    ``terms``, if given, are the same results for a kernel that is faster and knows no flags.
    """
    if terms is not None and out.size and _fused(terms, into, rounding, out):
        return lambda: _round_pieces(exact, into, rounding, words, np.empty_like(out))[0](), np.zeros(0, np.bool_)
    raised, missing = np.empty(out.size, dtype=np.uint8), np.empty(out.size, dtype=np.bool_)

    def work(start: int, stop: int) -> None:
        for low in range(start, stop, _PIECE):
            part = slice(low, min(low + _PIECE, stop))
            value, flags, magnitude, exactly = exact(part)
            if not rounding.stochastic:
                out[part], raised[part], missing[part] = round_exact(value, flags, into, rounding, exactly, selects)
                continue
            table = draws(value, flags, into, rounding.overflow, magnitude, selects)
            index = np.arange(value.size, dtype=np.uint16)
            compared, bits = _compared(words[part], rounding, partial(_drawn_columns, table))
            for pairs, target in ((table.codes, out), (table.flags, raised)):
                _kernels.look_up_drawn(index, pairs, table.fraction, compared, np.uint64(bits), target[part])
            missing[part] = table.missing

    in_pieces(work, out.size)
    return lambda: raised, missing


def _operands(
    operands: tuple[ArrayLike, ...], formats: tuple[Format, ...]
) -> tuple[list[NDArray[Any]], tuple[int, ...]]:
    """Check codes, broadcast them; return them flat, and their common shape."""
    checked = [as_codes(x, f.bits, f.name) for x, f in zip(operands, formats, strict=False)]
    try:
        arrays = np.broadcast_arrays(*checked)
    except ValueError:
        shapes = " and ".join(str(array.shape) for array in checked)
        raise ValueError(f"operands of shapes {shapes} do not broadcast to one shape") from None
    return [np.ascontiguousarray(array).reshape(-1) for array in arrays], arrays[0].shape


def _look_up(operands: list[NDArray[Any]], table: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
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


def _look_up_drawn(
    pairs: NDArray[np.uint32],
    operands: list[NDArray[Any]],
    fraction: NDArray[np.uint32],
    words: NDArray[np.uint32],
    bits: int,
    out: NDArray[Any],
) -> NDArray[Any]:
    """Put the lower or the upper half of each entry into ``out``, as the carry of fraction and word decides."""
    index: NDArray[Any] = operands[0]
    if len(operands) == 2:
        index = np.left_shift(operands[0], 8, dtype=np.uint16) | operands[1]
    compared, pair, way = np.uint64(bits), pairs.reshape(-1), fraction.reshape(-1)

    def work(start: int, stop: int) -> None:
        _kernels.look_up_drawn(index[start:stop], pair, way, words[start:stop], compared, out[start:stop])

    in_pieces(work, index.size)
    return out


class BinaryOperation(Protocol):
    """The signature of `add` and its kin."""

    def __call__(
        self,
        a: ArrayLike,
        b: ArrayLike,
        fmt: Formats,
        *,
        result: str | Format | None = None,
        rounding: str | Rounding = "nearest-even",
        flags: bool = False,
        out: NDArray[Any] | None = None,
    ) -> Any:
        """Operate on codes."""


class UnaryOperation(Protocol):
    """The signature of `negate` and its kin."""

    def __call__(
        self,
        a: ArrayLike,
        fmt: Formats,
        *,
        result: str | Format | None = None,
        rounding: str | Rounding = "nearest-even",
        flags: bool = False,
        out: NDArray[Any] | None = None,
    ) -> Any:
        """Operate on codes."""


_BINARY_DOC = """{summary}

Parameters
----------
a, b : array_like of uint8 or uint16
    Codes; they broadcast as numpy's ufuncs do.
fmt : str, Format or tuple
    Format of both operands, or a pair with the formats of ``a`` and ``b``: ``("rf8", "int8")``.
result : str or Format, optional
    Format of the result; by default that of ``a``.
rounding : str or Rounding
    As for `rf8sim.encode`. With ``stochastic`` a result draws the word of its flat index.
flags : bool
    Return IEEE 754's flags of each element too, as bits of `Flags`.
out : ndarray of uint8 or uint16, optional
    Where to put the codes.

Returns
-------
ndarray of uint8 or uint16, with ``flags`` and an ndarray of uint8
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
a : array_like of uint8 or uint16
    Codes.
fmt : str or Format
    Their format, and by default that of the result.
result, rounding, flags, out
    As for `add`.

Returns
-------
ndarray of uint8 or uint16, with ``flags`` and an ndarray of uint8
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
        fmt: Formats,
        *,
        result: str | Format | None = None,
        rounding: str | Rounding = "nearest-even",
        flags: bool = False,
        out: NDArray[Any] | None = None,
    ) -> Any:
        return _apply(name, (a, b), fmt, result, rounding, out, flags)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = _BINARY_DOC.format(name=name, summary=summary, example=example)
    return operation


def _unary(name: str, summary: str, example: str) -> UnaryOperation:
    def operation(
        a: ArrayLike,
        fmt: Formats,
        *,
        result: str | Format | None = None,
        rounding: str | Rounding = "nearest-even",
        flags: bool = False,
        out: NDArray[Any] | None = None,
    ) -> Any:
        return _apply(name, (a,), fmt, result, rounding, out, flags)

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
convert = _unary("convert", "Round codes to the format ``result``.", "[0.25, 1.0]")


def fma(
    a: ArrayLike,
    b: ArrayLike,
    c: ArrayLike,
    fmt: Formats,
    *,
    result: str | Format | None = None,
    rounding: str | Rounding = "nearest-even",
    flags: bool = False,
    out: NDArray[Any] | None = None,
) -> Any:
    """Compute ``a * b + c`` with one rounding.

    The product of two values is exact in float64, the sum is taken rounded to odd and where that does not decide as a
    rational number, so the result is correctly rounded.
    For ``stochastic`` it is taken in integers of any size, which is some 30 times slower.

    Parameters
    ----------
    a, b, c : array_like of uint8 or uint16
        Codes; they broadcast.
    fmt : str, Format or tuple
        Format of all operands, or a tuple with those of ``a``, ``b`` and ``c``.
    result : str or Format, optional
        Format of the result; by default that of ``c``.
    rounding, flags, out
        As for `add`.

    Returns
    -------
    ndarray of uint8 or uint16, with ``flags`` and an ndarray of uint8
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
    formats = tuple(get_format(name) for name in each_format(fmt, 3))
    into = formats[2] if result is None else get_format(result)
    chosen = as_rounding(rounding)
    check_choices(into, chosen)
    arrays, shape = _operands((a, b, c), formats)
    codes = as_output(out, shape, into.code_dtype)
    words = drawn_words(shape, chosen) if chosen.stochastic else np.empty(0, np.uint32)
    tables = [whole_table(each.values) for each in formats]
    minus_zero = chosen.mode == RoundingMode.DOWN

    def exact(part: slice) -> Exact:
        factor, other, addend = (table[array[part]] for table, array in zip(tables, arrays, strict=True))
        with np.errstate(all="ignore"):
            product = factor * other
            value = -exact_sum(-product, -addend) if minus_zero else exact_sum(product, addend)
        invalid = np.isnan(value) & ~(np.isnan(factor) | np.isnan(other) | np.isnan(addend))
        return (
            value,
            np.where(invalid, Flags.INVALID, 0),
            lambda here: sum_in_words(product[here], addend[here]),
            lambda index: Fraction(product[index]) + Fraction(addend[index]),
        )

    results = np.empty(arrays[0].size, dtype=into.code_dtype)
    terms = _Terms(tuple(arrays), tuple(tables), -1.0 if minus_zero else 1.0)
    raised, missing = _round_pieces(exact, into, chosen, words, results, terms)
    if missing.any():
        _refuse_missing(missing.reshape(shape), "fma", into)
    all_flags = raised().reshape(shape) if flags else None  # before an operand that shares memory is overwritten
    codes[...] = results.reshape(shape)
    return codes if all_flags is None else (codes, all_flags)


def compare(a: ArrayLike, b: ArrayLike, fmt: Formats) -> NDArray[np.int8]:
    """Compare codes by value: -1 below, 0 equal, 1 above, 2 unordered (a NaN).

    Parameters
    ----------
    a, b : array_like of uint8 or uint16
        Codes; they broadcast.
    fmt : str, Format or tuple
        Format of both, or a pair with the formats of ``a`` and ``b``.

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
    first, second = (get_format(name) for name in each_format(fmt, 2))
    arrays, shape = _operands((a, b), (first, second))
    if first.bits <= 8 and second.bits <= 8:
        return _look_up(arrays, order_table(first, second)).reshape(shape)
    x, y = (whole_table(each.values)[array] for each, array in zip((first, second), arrays, strict=True))
    return order(x, y).reshape(shape)

"""The loops that add up errors in several schemes at once, eight float64 sums as one vector.

Each sum goes from element to element, so its bits are those of a loop over that sum alone; numba makes no vectors of
sums that stand beside each other, so they are a type of their own here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic, models, register_model

_LANES = 8
_F64, _I64 = ir.DoubleType(), ir.IntType(64)
_VECTOR, _WORDS = ir.VectorType(_F64, _LANES), ir.VectorType(_I64, _LANES)
_ZEROS = ir.Constant(_VECTOR, [0.0] * _LANES)
_ONE = np.uint64(1)


class _Lanes(types.Type):
    """Eight float64 numbers."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


@register_model(_Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Any) -> None:
        super().__init__(manager, lanes, _VECTOR)  # type: ignore[no-untyped-call]


_lanes: Any = _Lanes()


def _address(context: Any, builder: Any, kinds: Any, arguments: Any) -> Any:
    """Return the address of the eight numbers of an index in a contiguous array."""
    data = context.make_array(kinds[0])(context, builder, arguments[0]).data
    index = context.cast(builder, arguments[1], kinds[1], types.int64)
    return builder.bitcast(builder.gep(data, [builder.mul(index, _I64(_LANES))]), _VECTOR.as_pointer())


def _emit_load(typing_context: Any, array: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_address(context, builder, signature.args, arguments), align=8)

    return _lanes(array, index), generate


def _emit_store(typing_context: Any, array: Any, index: Any, lanes: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _address(context, builder, signature.args, arguments), align=8)
        return context.get_dummy_value()

    return types.none(array, index, lanes), generate


def _of_two(emit: Callable[[Any, Any, Any], Any]) -> Any:
    """Return an operation on two operands with the lanes that ``emit`` makes of them."""

    def typed(typing_context: Any, a: Any, b: Any) -> Any:
        return _lanes(a, b), lambda context, builder, signature, arguments: emit(builder, *arguments)

    return intrinsic(typed)


def _emit_distance(builder: Any, number: Any, a: Any) -> Any:
    """Return ``abs(number - a)``."""
    bits = builder.bitcast(builder.fsub(_of_all(builder, number), a), _WORDS)
    return builder.bitcast(builder.and_(bits, ir.Constant(_WORDS, [(1 << 63) - 1] * _LANES)), _VECTOR)


def _emit_quotient(builder: Any, a: Any, number: Any) -> Any:
    return builder.fdiv(a, _of_all(builder, number))


def _emit_where_not_zero(builder: Any, a: Any, b: Any) -> Any:
    """Return ``a`` where ``b`` is not zero, else zero."""
    return builder.select(builder.fcmp_unordered("!=", b, _ZEROS), a, _ZEROS)


def _emit_maximum(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


def _of_all(builder: Any, number: Any) -> Any:
    """Return eight times the same number."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    places = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
    return builder.shuffle_vector(builder.insert_element(undefined, number, ir.IntType(32)(0)), undefined, places)


_load: Any = intrinsic(_emit_load)
_store: Any = intrinsic(_emit_store)
_sum = _of_two(lambda builder, a, b: builder.fadd(a, b))
_product = _of_two(lambda builder, a, b: builder.fmul(a, b))
_distance = _of_two(_emit_distance)
_quotient = _of_two(_emit_quotient)
_where_not_zero = _of_two(_emit_where_not_zero)
_maximum = _of_two(_emit_maximum)


@njit(nogil=True, cache=True)
def pattern_sums(patterns: Any, places: Any, tables: Any, sums: Any, counts: Any) -> None:
    """Add up, for each row, what tables say of its 16-bit patterns, element after element, and count their places.

    ``places``: of each pattern in the tables; ``tables``: shape (groups, places, 16), ``sums``: (rows, groups, 16),
    contiguous. A pass adds the sixteen columns of a group, two vectors, which the machine adds at the same time.
    """
    row = np.empty(patterns.shape[1], places.dtype)
    for i in range(patterns.shape[0]):
        for j in range(row.size):
            row[j] = places[patterns[i, j]]
            counts[row[j]] += 1
        for g in range(tables.shape[0]):
            table, total = tables[g], sums[i, g]
            a, b = _load(total, 0), _load(total, 1)
            for place in row:
                a = _sum(a, _load(table, 2 * np.int64(place)))
                b = _sum(b, _load(table, 2 * np.int64(place) + 1))
            _store(total, 0, a)
            _store(total, 1, b)


@njit(nogil=True, cache=True)
def interval_sums(x: Any, steps: Any, results: Any, sums: Any, largest: Any, counts: Any) -> None:
    """Add up, for each row of float32, the errors in eight schemes, element after element, and count intervals.

    ``steps``: the first pattern of each interval in which no scheme changes its result, ascending, and a last one that
    no pattern reaches, as uint64; of each 65,536 patterns, the interval that their first one lies in. ``results``: what
    elements of an interval become in each scheme, shape (intervals, 8). ``sums``: squared errors and relative errors,
    shape (rows, 2, 8); zeros, and what becomes zero, have no relative error. ``largest``: relative errors, shape (8,).
    """
    first, start = steps
    most = _load(largest, 0)
    for i in range(x.shape[0]):
        row, total = x[i], sums[i]
        patterns = row.view(np.uint32)
        squares, ratios = _load(total, 0), _load(total, 1)
        for j in range(row.size):
            pattern = np.uint64(patterns[j])
            k = np.uint64(start[pattern >> np.uint64(16)])
            # Most elements lie no more than two steps behind: without branches, which the machine could not foresee.
            k += np.uint64(pattern >= first[k + _ONE])
            k += np.uint64(pattern >= first[k + _ONE])
            while pattern >= first[k + _ONE]:
                k += _ONE
            counts[k] += 1
            value, result = np.float64(row[j]), _load(results, k)
            off = _distance(value, result)
            squares = _sum(squares, _product(off, off))
            ratio = _where_not_zero(_quotient(off, abs(value) if value != 0 else np.inf), result)
            ratios = _sum(ratios, ratio)
            most = _maximum(most, ratio)
        _store(total, 0, squares)
        _store(total, 1, ratios)
    _store(largest, 0, most)

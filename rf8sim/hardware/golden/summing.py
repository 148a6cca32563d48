"""Sums of products in a stated accumulator: those of `rf8sim.dot`, of many vectors at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...arithmetic.accumulation import Accumulation, OperandScales
from ...arithmetic.accumulators import get_accumulator
from ...arithmetic.linalg import matmul
from ...arithmetic.operations import Formats
from ...arithmetic.orders import get_order
from ...codec.codec import encode
from ...codec.rounding import Rounding, as_rounding
from ...formats import Format

__all__ = ["check_accumulation", "sum_products"]

Array = NDArray[np.float64]


def check_accumulation(accumulation: Accumulation, *, addend: bool, scales: Sequence[Format]) -> None:
    """Raise ValueError if vectors have no such accumulator, or none that starts from an addend or has scales."""
    kind, order = get_accumulator(accumulation.accumulator), get_order(accumulation.order)
    if as_rounding(accumulation.rounding).stochastic:
        raise ValueError(f"accumulator {kind.name!r} rounds stochastically: vectors have no random words for its sums")
    if addend and (scales or order.name not in ("sequential", "blocked") or kind.integer is not None):
        raise ValueError(
            f"accumulator {kind.name!r} of order {str(order)!r} starts from zero here: an operand c is for exact sums, "
            "and for floats and formats that sum in sequence or in blocks, without scales"
        )
    if order.name == "aligned" and len({fmt.name for fmt in scales}) > 1:
        raise ValueError(f"accumulator {kind.name!r} of order {str(order)!r} aligns scales of one format: give one")
    if scales and kind.integer is not None:
        raise ValueError(f"accumulator {kind.name!r}: scaled sums are no integers, choose a float")


def sum_products(
    accumulation: Accumulation,
    lanes: Sequence[Array],
    formats: Sequence[Format],
    addend: Array | None,
    scales: Sequence[Array],
) -> Array:
    """Return the sums of products as an accumulator has them.

    Parameters
    ----------
    accumulation : Accumulation
        The accumulator, the order of the sums, their rounding.
    lanes : sequence of ndarray of float64, each of shape (vectors, n)
        The values of both operands.
    formats : sequence of Format
        Their formats, and those of the scales.
    addend : ndarray of float64, shape (vectors,), optional
        What the accumulator holds before the first product.
    scales : sequence of ndarray of float64, each of shape (vectors,)
        Of both operands; none, or two.

    Returns
    -------
    ndarray of float64, shape (vectors,)
        The sums.
    """
    with np.errstate(all="ignore"):
        if scales:
            return _scaled(accumulation, lanes, formats, scales)
        if addend is not None:
            return _from_addend(accumulation, lanes, addend)
        return _sums(accumulation, lanes, formats)


def _sums(
    accumulation: Accumulation, lanes: Sequence[Array], formats: Sequence[Format], scales: OperandScales | None = None
) -> Array:
    """Sum the products of each vector: of codes where their formats matter, else of float32 numbers."""
    order = get_order(accumulation.order)
    by_code = order.name == "aligned" or order.flush or not all(fmt.fits_float32 for fmt in formats)
    by_code |= get_accumulator(accumulation.accumulator).integer is not None
    columns = [_codes(x, fmt) if by_code else x.astype(np.float32) for x, fmt in zip(lanes, formats, strict=True)]
    kinds: Formats = (formats[0], formats[1]) if by_code else "float32"
    total = matmul(
        columns[0][:, None, :], columns[1][:, :, None], kinds, accumulator=accumulation, scales=scales, threads=1
    )
    return np.asarray(total, dtype=np.float64).reshape(len(lanes[0]))


def _codes(values: Array, fmt: Format) -> NDArray[np.unsignedinteger[Any]]:
    """Return codes of values of a format; an infinity stays one."""
    infinite = fmt.sides[0].infinity is not None
    return np.asarray(encode(values, fmt, rounding=Rounding(overflow="propagate" if infinite else "saturate")))


def _from_addend(accumulation: Accumulation, lanes: Sequence[Array], addend: Array) -> Array:
    """Sum from an addend: as the first product, times one, of a block of its own."""
    block = max(get_order(accumulation.order).block, 1)
    first, ones = np.zeros((addend.size, block)), np.zeros((addend.size, block))
    first[:, 0], ones[:, 0] = addend, 1.0
    a, b = (np.concatenate(columns, axis=1).astype(np.float32) for columns in ((first, lanes[0]), (ones, lanes[1])))
    total = matmul(a[:, None, :], b[:, :, None], "float32", accumulator=accumulation, threads=1)
    return np.asarray(total, dtype=np.float64).reshape(addend.size)


def _scaled(
    accumulation: Accumulation, lanes: Sequence[Array], formats: Sequence[Format], scales: Sequence[Array]
) -> Array:
    """Sum one block of products and multiply it by both scales, as `rf8sim.OperandScales` says.

    A negative scale is the opposite one of opposite factors; a scale of zero, an infinity or NaN multiplies the sum of
    ones in place of it. Products that are aligned have their scales before.
    """
    ordinary = [np.isfinite(scale) & (scale != 0) for scale in scales]
    kept = [np.where(usual, np.abs(scale), 1.0) for usual, scale in zip(ordinary, scales, strict=True)]
    negative = [np.signbit(scale) & usual for usual, scale in zip(ordinary, scales, strict=True)]
    first = np.where((negative[0] ^ negative[1])[:, None], -lanes[0], lanes[0])
    size, fmt = max(lanes[0].shape[1], 1), formats[2]
    by_vector = OperandScales(kept[0][:, None, None], kept[1][:, None, None], size, fmt)
    total = _sums(accumulation, (first, lanes[1]), formats[:2], by_vector)
    for usual, scale in zip(ordinary, scales, strict=True):
        total = np.where(usual, total, total * scale)
    # An adder of terms that are all zero gives +0.
    return total + 0.0 if get_order(accumulation.order).name == "aligned" else total

"""The sums of one matrix product as matrix engines take them: aligned, or in trees of rounded additions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._base.threads import in_pieces
from ..codec import dispatch as _kernels
from ..formats import FloatLayout
from .operands import Grid, Operand
from .orders import Order

__all__ = ["BlockScales", "Engine", "add_columns", "check_widths", "engine_sums"]

Array = NDArray[np.float64]
Arrays = tuple[NDArray[Any], ...]  # of values, and of exponents

_MODES = ("toward-zero", "nearest-even", "to-odd")  # by their numbers in the kernels
_SIGNIFICAND = 53  # bits of float64, in which products are exact and sums are whole numbers
_NORMAL = np.float32(2.0**-126)  # the smallest float32 number that is not subnormal


class Engine(NamedTuple):
    """What a matrix engine does: the float that holds its sums, their order, how they are rounded."""

    kind: FloatLayout
    order: Order
    rounding: str

    @property
    def number(self) -> tuple[Any, ...]:
        """What a sum is rounded to, for the kernels."""
        kind = self.kind
        return np.int64(kind.precision), np.int64(kind.emin), np.int64(_MODES.index(self.rounding)), kind.max


class BlockScales(NamedTuple):
    """Scales of blocks along the summed axis.

    Attributes
    ----------
    a, b : ndarray of float64
        Of shapes (rows, blocks) and (blocks, columns).
    size : int
        Products in a block.
    smallest : int
        The exponent that smaller scales count with: that of the smallest normal number of their format.
    """

    a: Array
    b: Array
    size: int
    smallest: int

    def exponents(self) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        """Return the exponents of both scales."""
        parts = (np.maximum(np.frexp(scale)[1] - 1, self.smallest).astype(np.int16) for scale in (self.a, self.b))
        return next(parts), next(parts)

    def digits(self) -> int:
        """Return the most binary digits of a product of two scales."""
        total = 0
        for scale in (self.a, self.b):
            integers = (np.frexp(scale)[0] * 2.0**_SIGNIFICAND).astype(np.int64)
            total += _SIGNIFICAND - int(np.bitwise_count((integers & -integers) - 1).min(initial=_SIGNIFICAND))
        return total

    def repeated(self, depth: int) -> NDArray[np.int64]:
        """Return the block of each product."""
        return np.arange(depth) // self.size


def engine_sums(a: Operand, b: Operand, engine: Engine, scales: BlockScales | None, threads: int | None) -> Array:
    """Sum the products of two matrices from zero, as a matrix engine does.

    Parameters
    ----------
    a, b : Operand
        Of shapes (rows, depth) and (depth, columns).
    engine : Engine
        The engine; its order is ``aligned``, or ``pairwise`` in blocks.
    scales : BlockScales or None
        Scales that multiply the products before they are aligned.
    threads : int or None
        At most this many.

    Returns
    -------
    ndarray of float64, shape (rows, columns)
        The values in the accumulator.

    Raises
    ------
    ValueError
        If products with their scales, or their sum, have more bits than float64.
    """
    order, sums = engine.order, np.zeros((a.shape[0], b.shape[1]))
    block = np.int64(order.block or max(a.shape[1], 1))
    if order.name == "pairwise":
        left, right = (_flushed(x) if order.flush else x.values() for x in (a, b))
        _run(_kernels.sum_trees, (left,), (right,), (block, _NORMAL if order.flush else np.float32(0.0)), sums, threads)
        return sums
    if scales is not None and scales.size % order.exact:
        raise ValueError(f"order '{order}': block_size must be a multiple of {order.exact}, got {scales.size}")
    check_widths((a.grid, b.grid), order, int(block), 0 if scales is None else scales.digits())
    left, right = a.values(), b.values()
    (row_exponents, column_exponents) = _exponents(a, b, order, scales)
    if scales is not None:
        of_product = scales.repeated(a.shape[1])
        left, right = left * scales.a[:, of_product], right * scales.b[of_product]
    kernel, plan = _aligned_kernel(order, block)
    _run(kernel, (left, row_exponents), (right, column_exponents), (plan, engine.number), sums, threads)
    return sums


def _aligned_kernel(order: Order, block: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the kernel of an aligned order, and the numbers that say which order it is."""
    plan: tuple[Any, ...] = np.int64(order.fraction), block, (0,) * _MODES.index(order.cut)
    if order.exact > 1:
        return _kernels.sum_groups, (*plan, np.int64(order.exact))
    if order.then or order.apart:
        return _kernels.sum_late, (*plan, np.int64(order.then), np.int64(2 if order.split else 1))
    return _kernels.sum_aligned, plan


def add_columns(products: Array, exponents: NDArray[np.int16], engine: Engine, sums: Array) -> None:
    """Add the products of each column to a sum of its own, in place, as a matrix engine does.

    Parameters
    ----------
    products : ndarray of float64, shape (depth, columns)
        Exact products; of trees that flush, with operands that are not subnormal.
    exponents : ndarray of int16, shape (depth, columns), or (groups, columns)
        What terms are aligned by: of products, or of groups of those that are summed exactly.
    engine : Engine
        The engine.
    sums : ndarray of float64, shape (columns,)
        The running sums.
    """
    order, depth = engine.order, products.shape[0]
    block = np.int64(order.block or depth)
    ones, zeros = np.ones((1, depth)), np.zeros((1, len(exponents)), np.int16)
    row = sums.reshape(1, -1)
    if order.name == "pairwise":
        smallest = _NORMAL if order.flush else np.float32(0.0)
        _run(_kernels.sum_trees, (ones,), (products,), (block, smallest), row, 1)
        return
    kernel, plan = _aligned_kernel(order, block)
    _run(kernel, (ones, zeros), (products, exponents), (plan, engine.number), row, 1)


def _run(kernel: Any, a: Arrays, b: Arrays, plans: tuple[Any, ...], sums: Array, threads: int | None) -> None:
    """Run a kernel on pieces of the rows."""
    left, right = (tuple(np.ascontiguousarray(x) for x in parts) for parts in (a, b))

    def work(start: int, stop: int) -> None:
        kernel(tuple(x[start:stop] for x in left), right, *plans, sums[start:stop])

    in_pieces(work, sums.shape[0], threads, weight=right[0].size)


def _flushed(x: Operand) -> Array:
    """Return the values, the subnormal ones as zero."""
    values = x.values()
    return np.where(np.abs(values) < x.smallest_normal, 0.0, values)


def _exponents(
    a: Operand, b: Operand, order: Order, scales: BlockScales | None
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return the exponents that terms are aligned by: of products with their scales, or of the scales of groups."""
    depth = a.shape[1]
    if order.exact > 1:
        groups = -(-depth // order.exact)
        if scales is None:
            return np.zeros((a.shape[0], groups), np.int16), np.zeros((groups, b.shape[1]), np.int16)
        of_group = np.arange(groups) * order.exact // scales.size
        rows, columns = scales.exponents()
        return rows[:, of_group], columns[of_group]
    if scales is None:
        return a.exponents(), b.exponents()
    of_product = scales.repeated(depth)
    rows, columns = scales.exponents()
    return a.exponents() + rows[:, of_product], b.exponents() + columns[of_product]


def check_widths(grids: tuple[Grid, Grid], order: Order, block: int, scale_digits: int) -> None:
    """Raise ValueError unless products with their scales are exact in float64, and sums of terms are whole numbers.

    Parameters
    ----------
    grids : pair of Grid
        Of the operands.
    order : Order
        Its name is ``aligned``.
    block : int
        Products in a block.
    scale_digits : int
        The most binary digits of the product of two scales of a block; 0 without scales.
    """
    bits, reach, terms = grids[0].digits + grids[1].digits, 2, block
    if order.exact > 1:
        carry = (order.exact - 1).bit_length()
        bits, terms = grids[0].bits + grids[1].bits + carry, -(-block // order.exact)
        reach = max(grids[0].unit + grids[1].unit + bits, 1)
    if scale_digits > 2:  # a product of significands of scales is 1, or below 4
        reach += 2
    widest = max(bits + scale_digits, max(order.fraction, order.then) + reach + terms.bit_length() + 1)
    if widest > _SIGNIFICAND:
        raise ValueError(
            f"order '{order}': products of these operands with their scales, or their sums, have up to {widest} bits, "
            f"and {_SIGNIFICAND} are summed exactly: use a smaller K or F"
        )

"""Many running sums side by side, each with products of its own, in a stated accumulator.

`rf8sim.arithmetic.products` multiplies matrices, whose sums start from zero. Here sum i has the products of row i of
two arrays, and starts from what it holds already: a stream into an accumulator, or a dot product with an addend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..codec import dispatch as _kernels
from ..codec.rounding import Rounding, as_rounding
from ..codec.undecided import decides
from .accumulation import Accumulation
from .accumulators import get_accumulator, get_rule
from .engine_sums import add_columns, check_widths
from .operands import Grid, exponents_of, grid_of
from .orders import Order, get_order
from .products import Plan, add_terms, round_products, scaled_terms, sum_by_tree, sum_terms

__all__ = ["Factor", "add_products", "add_stream", "check_running"]

Array = NDArray[np.float64]

_INTEGER_PRODUCT = 52  # bits of a product that an integer accumulator takes


class Factor(NamedTuple):
    """An operand of running sums.

    Attributes
    ----------
    values : ndarray of float64, shape (sums, depth), or (sums,) for a scale
        Numbers.
    grid : Grid
        Of all numbers that the operand may have.
    smallest_normal : float
        Magnitudes below it are subnormal.
    """

    values: Array
    grid: Grid
    smallest_normal: float


def check_running(accumulation: Accumulation, factors: Sequence[Factor], depth: int, addend: Grid | None) -> None:
    """Raise ValueError unless running sums of such operands can be taken.

    Parameters
    ----------
    accumulation : Accumulation
        The accumulator, the order of the sums, their rounding.
    factors : sequence of Factor
        Both operands, and both scales if there are any; their values are not read.
    depth : int
        Products of a sum.
    addend : Grid, optional
        Of the numbers that sums start from.
    """
    kind, order = get_accumulator(accumulation.accumulator), get_order(accumulation.order)
    rounded, scales = get_accumulator(accumulation.products), factors[2:]
    if as_rounding(accumulation.rounding).stochastic:
        raise ValueError(f"accumulator {kind.name!r} rounds stochastically: running sums have no random words")
    unit, bits = (grid_of(rounded) if not rounded.exact
                  else (sum(x.grid.unit for x in factors[:2]), sum(x.grid.bits for x in factors[:2])))  # fmt: skip
    if kind.integer is not None:
        if scales:
            raise ValueError(f"accumulator {kind.name!r}: scaled sums are no integers, choose a float")
        if bits > _INTEGER_PRODUCT:
            raise ValueError(
                f"accumulator {kind.name!r}: products of these operands are integers of up to {bits} bits in units of "
                f"2**{unit}, and integer accumulators take products of up to {_INTEGER_PRODUCT}: choose a float"
            )
        if addend is not None and (addend.unit < unit or addend.unit + addend.bits - unit > 53):
            raise ValueError(
                f"accumulator {kind.name!r} counts in units of 2**{unit}: operand c must be whole in them, and of at "
                "most 53 bits"
            )
    if scales and not rounded.exact:
        raise ValueError(f"products rounded to {rounded.name!r} take no block scales: leave the scales out")
    if order.name == "aligned":
        if scales and depth % order.exact:
            raise ValueError(f"order '{order}': block_size must be a multiple of {order.exact}, got {depth}")
        digits = sum(x.grid.digits for x in scales)
        check_widths((factors[0].grid, factors[1].grid), order, order.block or depth, digits)


def add_products(accumulation: Accumulation, sums: Array | None, factors: Sequence[Factor]) -> Array:
    """Return running sums with products added to them, in an accumulator that is not exact.

    Parameters
    ----------
    accumulation : Accumulation
        The accumulator, the order of the sums, their rounding, and that of products.
    sums : ndarray of float64, shape (sums,), optional
        What the accumulator holds before; zeros by default. A number that it does not hold is first rounded into it,
        but where sums are aligned or trees of float32: there it is a term as it is.
    factors : sequence of Factor
        Both operands, and both scales of each sum if there are any, which multiply the products as
        `rf8sim.OperandScales` says.

    Returns
    -------
    ndarray of float64, shape (sums,)
        The sums.

    Examples
    --------
    >>> from rf8sim.arithmetic.operands import Grid
    >>> a, b = (Factor(np.array([row]), Grid(-4, 8, 8), 1.0) for row in ([1.0, 0.5], [3.0, 0.0625]))
    >>> add_products(Accumulation("e5m2"), np.array([4.0]), [a, b]).tolist()   # 4 + 3 = 7, and 1/32 is lost
    [7.0]
    """
    order = get_order(accumulation.order)
    with np.errstate(all="ignore"):
        if order.name == "aligned":
            return _aligned(accumulation, order, sums, factors)
        running = _Running(accumulation, factors)
        start = None if sums is None else running.starting_from(sums)
        if len(factors) > 2:
            return running.add_scaled(start, factors[2].values * factors[3].values)
        return running.add(start)


def add_stream(accumulation: Accumulation, clear: NDArray[np.bool_], factors: Sequence[Factor], before: float) -> Array:
    """Return what an accumulator that is not exact holds after each product of a stream.

    Parameters
    ----------
    accumulation : Accumulation
        The accumulator; each product is a step of its own, however many an order takes at a time.
    clear : ndarray of bool, shape (products,)
        Where a sum starts again, with the product that comes then.
    factors : sequence of Factor
        Both operands, of shape (products,).
    before : float
        What it holds at the start.

    Returns
    -------
    ndarray of float64, shape (products,)
        The sums.

    Examples
    --------
    >>> from rf8sim.arithmetic.operands import Grid
    >>> a, b = (Factor(np.array(x), Grid(0, 8, 7), 1.0) for x in ([100.0, 100.0, 1.0], [1.0, 1.0, 5.0]))
    >>> add_stream(Accumulation("int:8"), np.array([False, False, True]), [a, b], 50.0).tolist()
    [127.0, 127.0, 5.0]
    """
    starts = np.flatnonzero(clear)
    if clear.size and not clear[0]:
        starts = np.append(0, starts)
    if not starts.size:
        return np.zeros(0)
    lengths = np.diff(starts, append=clear.size)
    # The products in the order of their steps, in each step those of the longest sums first: the others are done.
    rank = np.empty(starts.size, np.int64)
    rank[np.argsort(-lengths, kind="stable")] = np.arange(starts.size)
    which = np.repeat(np.arange(starts.size), lengths)
    step = np.arange(clear.size) - starts[which]
    in_turn = np.lexsort((rank[which], step))
    ends = np.cumsum(np.bincount(step))
    running = np.zeros(starts.size)
    if not clear[0]:
        running[rank[0]] = before
    sums = np.empty(clear.size)
    with np.errstate(all="ignore"):
        sums[in_turn] = _Steps(accumulation, [x._replace(values=x.values[in_turn]) for x in factors]).run(running, ends)
    return sums


class _Steps:
    """Products that are added one to each of some running sums, and then one to each of fewer, and so on."""

    def __init__(self, accumulation: Accumulation, factors: Sequence[Factor]) -> None:
        self.accumulation, self.factors = accumulation, factors
        order, kind = get_order(accumulation.order), get_accumulator(accumulation.accumulator)
        self.aligned, self.integer = order.name == "aligned", kind.integer is not None
        chosen = as_rounding(accumulation.rounding)
        one_by_one = order.name in ("sequential", "blocked") and (
            kind.format is None or decides(kind.format, Rounding(chosen.mode, bits=24))
        )
        self.quick = self.aligned or one_by_one
        columns = [x._replace(values=x.values[:, None]) for x in factors]
        if self.aligned:
            self.products, self.exponents = _terms_of(order, columns)
            self.engine = _plan(accumulation, 0).engine
        elif one_by_one:
            running = _Running(accumulation, columns)
            self.products, self.plan = running.products, running.plan

    def run(self, running: Array, ends: NDArray[np.int64]) -> Array:
        """Return the sums after each product; ``ends`` says where those of each step end."""
        sums, start = np.empty(int(ends[-1])), 0
        finite = np.isfinite(self.products[0]) if self.quick and self.integer else None
        for stop in ends.tolist():
            sums[start:stop] = running[: stop - start]
            if self.quick:
                self._add(sums[start:stop], start, stop, finite)
            else:
                part = [x._replace(values=x.values[start:stop, None]) for x in self.factors]
                sums[start:stop] = add_products(self.accumulation, sums[start:stop], part)
            running[: stop - start] = sums[start:stop]
            start = stop
        return sums

    def _add(self, sums: Array, start: int, stop: int, finite: NDArray[np.bool_] | None) -> None:
        products = self.products[:, start:stop]
        if self.aligned:
            add_columns(products, self.exponents[:, start:stop], self.engine, sums)
            return
        assert self.plan.rule is not None
        special = None
        if finite is not None and not (np.isfinite(sums).all() and finite[start:stop].all()):
            special = np.where(np.isfinite(sums), 0.0, sums) + np.where(finite[start:stop], 0.0, products[0])
            sums[:] = np.where(np.isfinite(sums), sums, 0.0)
            products = np.where(finite[start:stop], products, 0.0)
        _kernels.accumulate(
            _ONE, products, sums.reshape(1, -1), False, tuple(self.plan.rule), np.uint64(0), np.uint64(0)
        )
        if special is not None:
            sums[:] = np.where(special == 0, sums, special)


_ONE = np.ones((1, 1))


def _terms_of(order: Order, factors: Sequence[Factor]) -> tuple[Array, NDArray[np.int16]]:
    """Return products, times their scales, a sum a column, and what they are aligned by."""
    products = factors[0].values * factors[1].values
    exponents = sum(exponents_of(x.values, x.smallest_normal) for x in factors[:2])
    if order.exact > 1:
        exponents = np.zeros((len(products), -(-products.shape[1] // order.exact)), np.int16)
    for scale in factors[2:]:
        products = products * scale.values[:, None]
        exponents = exponents + exponents_of(scale.values, scale.smallest_normal)[:, None]
    return np.ascontiguousarray(products.T), np.ascontiguousarray(np.asarray(exponents, np.int16).T)


def _aligned(accumulation: Accumulation, order: Order, sums: Array | None, factors: Sequence[Factor]) -> Array:
    """Add products, times their scales, that are aligned with the running sum."""
    products, exponents = _terms_of(order, factors)
    total = np.zeros(products.shape[1]) if sums is None else sums + 0.0
    add_columns(products, exponents, _plan(accumulation, 0).engine, total)
    return total


def _plan(accumulation: Accumulation, unit: int) -> Plan:
    """Return how sums are taken; ``unit`` is what an integer counts in."""
    kind, chosen = get_accumulator(accumulation.accumulator), as_rounding(accumulation.rounding)
    rule = get_rule(kind, chosen, unit)
    return Plan(kind, get_order(accumulation.order), rule, chosen.mode, chosen.overflow, False, 1)


class _Running:
    """Sums that are not aligned: their products, a column each, and the plan."""

    def __init__(self, accumulation: Accumulation, factors: Sequence[Factor]) -> None:
        a, b = factors[:2]
        order = get_order(accumulation.order)
        left, right = (_flushed(x) if order.flush else x.values for x in (a, b))
        self.products = np.ascontiguousarray((left * right).T)
        rounded = get_accumulator(accumulation.products)
        unit = a.grid.unit + b.grid.unit if rounded.exact else grid_of(rounded)[0]
        if not rounded.exact:
            self.products = round_products(self.products, get_rule(rounded, accumulation.product_rounding, 0), 1)
        self.plan = _plan(accumulation, unit)
        self.tree = order.name == "pairwise" and order.block > 0

    def starting_from(self, sums: Array) -> Array:
        """Return numbers as the accumulator holds them."""
        if self.tree:
            return sums + 0.0 if not self.plan.order.flush else np.where(np.abs(sums) < 2.0**-126, 0.0, sums)
        start = np.zeros(sums.size)
        self._add(start, [sums])
        return start

    def add(self, start: Array | None) -> Array:
        """Add the products."""
        order = self.plan.order
        sums = np.zeros(self.products.shape[1]) if start is None else start
        if self.plan.accumulator.integer is not None:
            return self._integers(sums)
        if self.tree:
            add_columns(self.products, np.zeros((1, 1), np.int16), self.plan.engine, sums)
        elif order.name == "pairwise":
            total = sum_by_tree(list(self.products), self.plan)
            if start is None:
                return total
            self._add(sums, [total])
        else:
            block = order.block if order.name == "blocked" else 1
            for first in range(0, len(self.products), block):
                self._add(sums, list(self.products[first : first + block]))
        return sums

    def add_scaled(self, start: Array | None, scale: Array) -> Array:
        """Sum the products from zero, multiply the sum by a scale exactly, and add that with one rounding."""
        order, depth = self.plan.order, len(self.products)
        if order == Order("blocked", depth):
            finite = np.isfinite(self.products)
            partial = list(np.where(finite, self.products, 0.0))
            total = sum_terms(partial, True, 1) + np.where(finite, 0.0, self.products).sum(axis=0)
        else:
            total = self.add(None)
            partial = [np.where(np.isfinite(total), total, 0.0)]
        special = np.where(np.isfinite(total) & np.isfinite(scale), 0.0, total * scale)
        usual = np.where(np.isfinite(scale), scale, 1.0)
        sums = np.zeros(scale.size) if start is None else start
        add_terms(
            sums, [part for term in partial for part in scaled_terms(term, usual)], special, False, self.plan, 0, 0
        )
        return sums

    def _add(self, sums: Array, terms: list[Array]) -> None:
        finite = [np.isfinite(term) for term in terms]
        special = np.zeros(sums.size)
        for term, usual in zip(terms, finite, strict=True):
            special += np.where(usual, 0.0, term)
        kept = [np.where(usual, term, 0.0) for term, usual in zip(terms, finite, strict=True)]
        add_terms(sums, kept, special, False, self.plan, 0, 0)

    def _integers(self, sums: Array) -> Array:
        """Add products to integers, beside which what is not finite is kept."""
        special = np.where(np.isfinite(sums), 0.0, sums)
        integers = np.where(np.isfinite(sums), sums, 0.0)
        order = self.plan.order
        finite = np.where(np.isfinite(self.products), self.products, 0.0)
        special = special + np.where(np.isfinite(self.products), 0.0, self.products).sum(axis=0)
        if order.name == "pairwise":
            add_terms(integers, [sum_by_tree(list(finite), self.plan)], None, False, self.plan, 0, 0)
        else:
            block = order.block if order.name == "blocked" else 1
            for first in range(0, len(finite), block):
                add_terms(integers, list(finite[first : first + block]), None, False, self.plan, 0, 0)
        return np.where(special == 0, integers, special)


def _flushed(x: Factor) -> Array:
    return np.where(np.abs(x.values) < x.smallest_normal, 0.0, x.values)

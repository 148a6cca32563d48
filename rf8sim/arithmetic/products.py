"""The sums of one matrix product, in a stated accumulator and order.

`rf8sim.arithmetic.linalg` checks what callers say and calls this; here are two matrices and a plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import reference
from .._base.threads import in_pieces
from ..codec import dispatch as _kernels
from ..codec.rounding import Rounding, RoundingMode
from ..codec.undecided import decides, is_odd, undecided
from ..formats import Format, get_layout
from .accumulators import Accumulator, Rule
from .engine_sums import BlockScales, Engine, engine_sums
from .operands import SLICE_BITS, Grid, Operand, as_operand, table_of
from .orders import Order, step_count

__all__ = [
    "Outputs", "Plan", "accumulate", "accumulate_blocks", "accumulate_rounded", "add_terms", "round_products",
    "scaled_terms", "scaled_to_odd", "sum_by_tree", "sum_terms",
]  # fmt: skip

Array = NDArray[np.float64]

_PANEL = 1 << 22  # float64 numbers that the terms of one panel of rows may take
_FLOAT32 = "float32"
_DRAWN_BITS = 24  # of a random word, that an accumulator adds
_EXACT_BITS = 53  # of an integer in float64
_ANY_EXPONENT = -1000  # below that of every scale


class Plan(NamedTuple):
    """How products are summed: everything but the operands.

    ``products`` says how each is rounded first, if it is; ``smallest_scale`` is the exponent that smaller scales of
    blocks count with in aligned sums.
    """

    accumulator: Accumulator
    order: Order
    rule: Rule | None
    rounding: str
    overflow: str
    to_odd: bool
    threads: int | None
    products: Rule | None = None
    smallest_scale: int = _ANY_EXPONENT

    @property
    def engine(self) -> Engine:
        """The float, the order and the rounding, for the kernels of matrix engines."""
        assert self.accumulator.floating is not None
        return Engine(self.accumulator.floating, self.order, self.rounding)


class Outputs(NamedTuple):
    """The outputs of a product of matrices, each as a rational number when asked for.

    Attributes
    ----------
    a, b : Operand
        Of shapes ``(..., rows, depth)`` and ``(..., depth, columns)``.
    factors : pair of ndarray of float64
        Their scales, of shapes ``(..., rows, blocks)`` and ``(..., blocks, columns)``.
    block_size : int or None
        Products in a block with scales of its own; None for one block.
    plan : Plan
        How products are summed.
    """

    a: Operand
    b: Operand
    factors: tuple[Array, Array]
    block_size: int | None
    plan: Plan

    def number(self, index: int, unscaled: float) -> Fraction:
        """Return an output exactly, from its flat index and, unless the accumulator is exact, the sum that it holds."""
        stack = self.factors[0].shape[:-2]
        rows, columns, depth = self.factors[0].shape[-2], self.factors[1].shape[-1], self.a.shape[-1]
        matrix, place = divmod(index, rows * columns)
        i, j = divmod(place, columns)

        def row_and_column(a: Array, b: Array) -> tuple[Array, Array]:
            left, right = (np.broadcast_to(x, (*stack, *x.shape[-2:])).reshape(-1, *x.shape[-2:]) for x in (a, b))
            return left[matrix, i], right[matrix, :, j]

        scales = [Fraction(x) * Fraction(y) for x, y in zip(*row_and_column(*self.factors), strict=True)]
        if not self.plan.accumulator.exact:  # sums with scales for blocks have met them
            return Fraction(unscaled) * (scales[0] if self.block_size is None else 1)
        x, y = row_and_column(self.a.values(), self.b.values())
        products = x * y
        if self.plan.products is not None:
            products = round_products(products, self.plan.products, self.plan.threads)
        block = self.block_size or max(depth, 1)
        parts = (sum(map(Fraction, products[start : start + block].tolist())) for start in range(0, depth, block))
        return sum((part * scale for part, scale in zip(parts, scales, strict=False)), Fraction(0))


def _terms(a: list[Array], b: list[Array], start: int, stop: int, chunk: int) -> Iterator[Array]:
    """Yield matrices that are exact in float64 and sum to ``a[:, start:stop] @ b[start:stop]``."""
    for first in range(start, stop, chunk):
        part = slice(first, min(first + chunk, stop))
        for left in a:
            for right in b:
                yield left[:, part] @ right[part]


def sum_terms(terms: list[Array], odd: bool, threads: int | None) -> Array:
    """Sum matrices exactly, and round once to nearest even or to odd."""
    if len(terms) == 1:
        return terms[0]
    stack = np.stack(terms).reshape(len(terms), -1)
    out = np.empty(stack.shape[1])
    in_pieces(
        lambda start, stop: _kernels.sum_terms(stack[:, start:stop], odd, out[start:stop]),
        out.size,
        threads,
        weight=8 * len(terms),
    )
    return out.reshape(terms[0].shape)


def _chunk(a: Grid, b: Grid) -> int:
    """Return how many products of slices sum exactly in float64: their partial sums are integers below 2**53."""
    widths = [-(-grid.bits // max(-(-grid.bits // SLICE_BITS), 1)) for grid in (a, b)]
    return 1 << (_EXACT_BITS - sum(widths))


def _exact(a: Operand, b: Operand, scales: tuple[Array, Array] | None, block: int, plan: Plan) -> Array:
    """Return exact sums rounded once; blocks along the summed axis scaled if there are scales."""
    (rows, depth), columns = a.shape, b.shape[1]
    if scales is None and depth and a.grid.bits + b.grid.bits + depth.bit_length() > _EXACT_BITS:
        wide_rows, wide_columns = _wide(a, b)
        if 2 * (wide_rows.size * columns + wide_columns.size * rows) <= rows * columns:
            out = a.finite() @ b.finite()  # nothing rounds, but for what is computed again
            if wide_rows.size:
                out[wide_rows] = _sum_slices(a._replace(data=a.data[wide_rows]), b, None, 0, plan)
            if wide_columns.size:
                out[:, wide_columns] = _sum_slices(a, b._replace(data=b.data[:, wide_columns]), None, 0, plan)
            return _with_specials(out, a, b)
    return _with_specials(_sum_slices(a, b, scales, block, plan), a, b)


def _wide(a: Operand, b: Operand) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the fewest rows of ``a`` and columns of ``b`` but for which float64 holds every sum of products.

    Those of a row and a column are integers of their two units, of at most the bits of both and of the depth.
    """
    of_rows, of_columns = a.bits_along(1), b.bits_along(0)
    left = _EXACT_BITS - a.shape[1].bit_length()
    most = np.arange(left + 1)  # bits of a row, which leave the others to a column
    wide_rows = of_rows.size - np.searchsorted(np.sort(of_rows), most, side="right")
    wide_columns = of_columns.size - np.searchsorted(np.sort(of_columns), left - most, side="right")
    best = int(most[np.argmin(wide_rows * of_columns.size + wide_columns * of_rows.size)])
    return np.flatnonzero(of_rows > best), np.flatnonzero(of_columns > left - best)


def _sum_slices(a: Operand, b: Operand, scales: tuple[Array, Array] | None, block: int, plan: Plan) -> Array:
    """Return exact sums of finite values rounded once, from products of slices that float64 holds."""
    rows, depth = a.shape
    columns = b.shape[1]
    chunk = _chunk(a.grid, b.grid)
    left, right = a.slices(), b.slices()
    out = np.empty((rows, columns))
    step = chunk if scales is None else min(chunk, block)
    count = -(-depth // step) * len(left) * len(right) * (1 if scales is None else 2)
    panel = max(1, _PANEL // max(count * columns, 1)) if count > 1 else max(rows, 1)
    for first in range(0, rows, panel):
        part = slice(first, first + panel)
        sliced = [matrix[part] for matrix in left]
        terms: list[Array] = []
        if scales is None:
            terms += _terms(sliced, right, 0, depth, chunk)
        else:
            for number, start in enumerate(range(0, depth, block)):
                scale = scales[0][part, number, None] * scales[1][number]
                for term in _terms(sliced, right, start, min(start + block, depth), chunk):
                    terms += scaled_terms(term, scale)
        out[part] = sum_terms(terms, plan.to_odd, plan.threads) if terms else 0.0
    return out


def _with_specials(out: Array, a: Operand, b: Operand) -> Array:
    """Put NaN and infinities where the operands' own make them."""
    special = _special_sums(a, b)
    return out if special is None else np.where(np.isfinite(special), out, special)


def _special_sums(a: Operand, b: Operand) -> Array | None:
    left, right = a.signs(), b.signs()
    if left is None and right is None:
        return None
    with np.errstate(invalid="ignore"):
        left = np.sign(a.values()) if left is None else left
        right = np.sign(b.values()) if right is None else right
        product: Array = left @ right
    return product


def scaled_terms(x: Array, scale: Array) -> list[Array]:
    """Return one or two arrays that sum to ``x * scale`` exactly (Dekker's product; no overflow in our range)."""
    high = x * scale
    if np.all(np.frexp(scale)[0] == 0.5):
        return [high]
    (x1, x2), (s1, s2) = _halves(x), _halves(scale)
    return [high, ((x1 * s1 - high) + x1 * s2 + x2 * s1) + x2 * s2]


def scaled_to_odd(x: Array, scale: Array) -> Array:
    """Return ``x * scale`` rounded to odd, so that rounding it to at most 51 bits is rounding the exact product."""
    finite = np.isfinite(x)
    terms = scaled_terms(np.where(finite, x, 0.0), np.broadcast_to(scale, x.shape))
    return np.where(finite, sum_terms(terms, True, None), x)


def _halves(x: Array) -> tuple[Array, Array]:
    """Cut float64 numbers in two of at most 26 bits (Veltkamp)."""
    shifted = x * 134217729.0
    high = shifted - (shifted - x)
    return high, x - high


def _sums_fit(a: Operand, b: Operand, plan: Plan, depth: int) -> bool:
    """Say whether a sum and a product add up in float64 without an error that rounding once more would show.

    To nearest, an accumulator's sum grows by at most twice the product (the old sum is no farther from the exact one),
    in a tree by less than four times all products; so everything stays an integer below 2**53 of the products' unit.
    Or both have at most the accumulator's precision, which is at most 24 digits: an error at the 53rd digit means that
    one is so much smaller than the other, which is no midpoint, that it decides nothing (Figueroa, SIGNUM Newsletter
    30, 1995).
    """
    if plan.accumulator.integer is not None:
        return True
    kind = plan.accumulator.floating
    if kind is None or plan.rounding not in ("nearest-even", "nearest-away"):
        return False
    products = a.grid.bits + b.grid.bits
    if products + max(4 * depth - 1, 1).bit_length() <= 53:
        return True
    return plan.order.name == "sequential" and a.grid.digits + b.grid.digits <= kind.precision <= 24


def _format_decides(a: Operand, b: Operand, plan: Plan) -> bool:
    """Say whether float64 holds every sum of a format's value and a product, or rounding it to odd decides.

    Raises
    ------
    ValueError
        If it does not, and random words are drawn.
    """
    fmt = plan.accumulator.format
    assert fmt is not None
    if decides(fmt, Rounding(plan.rounding, bits=_DRAWN_BITS)):
        return True
    grid, unit = table_of(fmt)[1], a.grid.unit + b.grid.unit
    top = max(grid.unit + grid.bits, unit + a.grid.bits + b.grid.bits) + 1
    fits = top - min(grid.unit, unit) <= 53
    if plan.rounding == RoundingMode.STOCHASTIC and not fits:
        _refuse_draws(fmt)
    return fits


def _refuse_draws(fmt: Format) -> None:
    raise ValueError(
        f"rounding 'stochastic' is not for accumulator {fmt.name!r} and products of these formats: {_DRAWN_BITS} "
        "random bits below their sums are more than float64 holds; use another accumulator or mode"
    )


def _is_plain_float32(a: Operand, b: Operand, plan: Plan) -> bool:
    """Say whether float32 arithmetic does it: products are exact there, so an addition rounds the exact sum once."""
    unit, kind = a.grid.unit + b.grid.unit, get_layout(_FLOAT32)
    smallest = kind.emin - kind.mantissa_bits
    return (
        plan.accumulator.floating == kind
        and plan.rounding == "nearest-even"
        and plan.order.name == "sequential"
        and a.grid.digits + b.grid.digits <= kind.precision
        and unit >= smallest
        and unit + a.grid.bits + b.grid.bits <= kind.emax + 1
        and min(a.grid.unit, b.grid.unit) >= smallest
    )


def accumulate(a: Operand, b: Operand, plan: Plan, first: int, step: int = 1) -> Array:
    """Sum the products of two matrices from zero.

    Parameters
    ----------
    a, b : Operand
        Of shapes (rows, depth) and (depth, columns).
    plan : Plan
        Accumulator, order, rounding.
    first, step : int
        Flat index of the first output and number of the first sum, for stochastic rounding.

    Returns
    -------
    ndarray of float64, shape (rows, columns)
        The values in the accumulator; for ``exact`` the sum rounded once, to nearest even or to odd.
    """
    if plan.accumulator.exact:
        return _exact(a, b, None, 0, plan)
    if plan.order.name == "aligned" or (plan.order.name == "pairwise" and plan.order.block):
        return engine_sums(a, b, plan.engine, None, plan.threads)
    if plan.order.name == "blocked":
        return _blocked(a, b, plan, first, step)
    rows, depth = a.shape
    columns = b.shape[1]
    assert plan.rule is not None
    if columns < 8 and rows > columns and not plan.rule.drawn:  # the kernels work along rows of the result
        return np.ascontiguousarray(accumulate(_transposed(b), _transposed(a), plan, first, step).T)
    sums = np.zeros((rows, columns))
    if not depth:
        return sums
    left, right = np.ascontiguousarray(a.values()), np.ascontiguousarray(b.values())
    if _is_plain_float32(a, b, plan):
        return _plain_float32(left.astype(np.float32), right.astype(np.float32), plan.threads)
    integer = plan.accumulator.integer is not None
    if integer:
        left, right = (np.where(np.isfinite(values), values, 0.0) for values in (left, right))
    if plan.accumulator.format is not None and not _format_decides(a, b, plan):
        return _tree(left, right, plan, first) if plan.order.name == "pairwise" else _blocked(a, b, plan, first, step)
    exact, rule = _sums_fit(a, b, plan, depth), tuple(plan.rule)
    kernel = _kernels.accumulate_tree if plan.order.name == "pairwise" else _kernels.accumulate

    def work(start: int, stop: int) -> None:
        index = np.uint64(first + start * columns)
        kernel(left[start:stop], right, sums[start:stop], exact, rule, index, np.uint64(step))

    in_pieces(work, rows, plan.threads, weight=columns * depth)
    return _with_specials(sums, a, b) if integer else sums


def accumulate_rounded(a: Operand, b: Operand, rule: Rule, plan: Plan, first: int) -> Array:
    """Sum the products of two matrices, each first rounded by a rule: as `accumulate` sums ones times the products.

    Parameters
    ----------
    a, b, plan, first
        As for `accumulate`.
    rule : Rule
        Of what holds one product; nothing is drawn.

    Returns
    -------
    ndarray of float64, shape (rows, columns)
        The values in the accumulator.
    """
    rows, depth = a.shape
    columns = b.shape[1]
    out = np.empty((rows, columns))
    ones = as_operand(np.ones((1, depth)))
    panel = max(1, _PANEL // max(depth * columns, 1))
    right = b.values()[:, None, :]
    for start in range(0, rows, panel):
        part = slice(start, start + panel)
        with np.errstate(invalid="ignore"):
            products = a._replace(data=a.data[part]).values().T[:, :, None] * right
        target = out[part]
        rounded = as_operand(round_products(products, rule, plan.threads).reshape(depth, target.size))
        target[...] = accumulate(ones, rounded, plan, first + start * columns).reshape(target.shape)
    return out


def round_products(x: Array, rule: Rule, threads: int | None) -> Array:
    """Round float64 numbers by the rule of what holds one product; nothing is drawn."""
    flat = np.ascontiguousarray(x).reshape(1, -1)
    one, out = np.ones((1, 1)), np.zeros(flat.shape)
    in_pieces(
        lambda start, stop: _kernels.accumulate(
            one, flat[:, start:stop], out[:, start:stop], True, tuple(rule), np.uint64(0), np.uint64(0)
        ),
        flat.size,
        threads,
    )
    return out.reshape(x.shape)


def _transposed(x: Operand) -> Operand:
    return x._replace(data=x.data.T)


def _plain_float32(a: NDArray[np.float32], b: NDArray[np.float32], threads: int | None) -> Array:
    sums = np.zeros((a.shape[0], b.shape[1]), np.float32)
    in_pieces(
        lambda start, stop: _kernels.accumulate_float32(a[start:stop], b, sums[start:stop]),
        a.shape[0],
        threads,
        weight=b.size,
    )
    return sums.astype(np.float64)


def _blocked(a: Operand, b: Operand, plan: Plan, first: int, step: int) -> Array:
    """Sum k products exactly, then add them to the accumulator with one rounding."""
    depth = a.shape[1]
    left, right, chunk = a.slices(), b.slices(), _chunk(a.grid, b.grid)
    fits = _sums_fit(a, b, plan, depth)
    integer = plan.accumulator.integer is not None
    finite = integer or (a.signs() is None and b.signs() is None)
    sums = np.zeros((a.shape[0], b.shape[1]))
    block = 1 if plan.order.name == "sequential" else plan.order.block
    several = len(left) * len(right) > 1 or block > chunk
    if several and finite and not integer and _add_blocks(a, b, sums, block, plan, first, step):
        return sums
    for number, start in enumerate(range(0, depth, block)):
        stop = min(start + block, depth)
        special = None if finite else _special_sums(a.along(start, stop, 1), b.along(start, stop, 0))
        add_terms(sums, list(_terms(left, right, start, stop, chunk)), special, fits, plan, first, step + number)
    return _with_specials(sums, a, b) if integer else sums


def _add_blocks(a: Operand, b: Operand, sums: Array, block: int, plan: Plan, first: int, step: int) -> bool:
    """Add blocks to sums of zero by one kernel; return whether that could be done exactly, and leave zeros else."""
    fmt, rule = plan.accumulator.format, plan.rule
    open_sums = fmt is not None and not decides(fmt, Rounding(plan.rounding, bits=_DRAWN_BITS))
    if rule is None or open_sums or a.grid.digits + b.grid.digits > 53:
        return False
    left, right = np.ascontiguousarray(a.values()), np.ascontiguousarray(b.values())
    exact = []

    def work(start: int, stop: int) -> None:
        index = np.uint64(first + start * b.shape[1])
        done = _kernels.accumulate_blocks(
            left[start:stop], right, sums[start:stop], block, tuple(rule), index, np.uint64(step)
        )
        exact.append(done)

    in_pieces(work, a.shape[0], plan.threads, weight=right.size)
    if not all(exact):
        sums[...] = 0.0
    return all(exact)


def _tree(a: Array, b: Array, plan: Plan, first: int) -> Array:
    """Sum products by a tree of adders, as `rf8sim._kernels.codec.accumulate_tree` does; nothing is drawn."""
    with np.errstate(invalid="ignore"):
        return sum_by_tree([a[:, k, None] * b[k] for k in range(a.shape[1])], plan, first)


def sum_by_tree(products: list[Array], plan: Plan, first: int = 0) -> Array:
    """Sum arrays of exact products by a tree of adders, neighbours first, each sum rounded; nothing is drawn."""

    def added(terms: list[Array]) -> Array:
        sums = np.full(terms[0].shape, -0.0)
        total = terms[0] + terms[1] if len(terms) == 2 else terms[0]
        add_terms(sums, [np.where(np.isfinite(total), term, 0.0) for term in terms], total, False, plan, first, 0)
        return sums

    level = products
    with np.errstate(invalid="ignore"):
        while True:
            level = [added(level[k : k + 2]) for k in range(0, len(level), 2)]
            if len(level) == 1:
                return level[0]


def add_terms(
    sums: Array, terms: list[Array], special: Array | None, fits: bool, plan: Plan, first: int, step: int
) -> None:
    """Add terms to sums in the accumulator with one rounding, in place.

    Parameters
    ----------
    sums : ndarray of float64
        Contiguous.
    terms : list of ndarray of float64
        Of the same shape; finite, or one array.
    special : ndarray of float64, optional
        What is not finite in the sum of the terms.
    fits : bool
        Whether a sum and one term add up in float64 without an error that shows.
    plan : Plan
        Accumulator and rounding.
    first, step : int
        Flat index of the first output and number of the sum, for stochastic rounding.
    """
    assert plan.rule is not None
    fmt, summands = plan.accumulator.format, None
    open_sums = fmt is not None and not decides(fmt, Rounding(plan.rounding, bits=_DRAWN_BITS))
    if len(terms) == 1 and not open_sums:
        total = terms[0]
    else:  # everything at once, rounded to odd, then from there into the accumulator
        finite = np.isfinite(sums)
        summands = [np.where(finite, sums, 0.0), *terms]
        total = np.where(finite, sum_terms(summands, True, plan.threads), sums)
        if open_sums:  # as the sum of two numbers, a zero has a sign
            total = np.where(total == 0, sum(summands), total)
        sums[finite] = -0.0
    if special is not None:
        total = np.where(np.isfinite(special), total, special)
    flat, one, row = sums.reshape(1, -1), np.ones((1, 1)), np.ascontiguousarray(total).reshape(1, -1)
    rule = tuple(plan.rule)
    in_pieces(
        lambda start, stop: _kernels.accumulate(
            one, row[:, start:stop], flat[:, start:stop], fits, rule, np.uint64(first + start), np.uint64(step)
        ),
        flat.size,
        plan.threads,  # BLAS' own threads wait busily between its calls: only large results gain by ours
    )
    if open_sums and summands is not None:
        assert fmt is not None
        if plan.rule.drawn and is_odd(row).any():
            _refuse_draws(fmt)
        chosen = Rounding(plan.rounding, plan.overflow)
        for index in np.flatnonzero(undecided(row[0], fmt, chosen)).tolist():
            exact = sum(Fraction(term.flat[index]) for term in summands)
            flat[0, index] = fmt.values[reference.round_value(exact, fmt, chosen.mode, chosen.overflow)]


def accumulate_blocks(a: Operand, b: Operand, scales: tuple[Array, Array], block: int, plan: Plan, first: int) -> Array:
    """Sum the products of two matrices whose blocks along the summed axis have scales.

    Each block is summed from zero in the accumulator (exactly if the order is ``blocked`` with that block), its sum is
    multiplied by the two scales exactly, and the product is added with one rounding.

    Parameters
    ----------
    a, b, plan, first
        As for `accumulate`.
    scales : pair of ndarray of float64
        Of shapes (rows, blocks) and (blocks, columns).
    block : int
        Products in a block.

    Returns
    -------
    ndarray of float64, shape (rows, columns)
        The values in the accumulator.
    """
    if plan.accumulator.exact:
        return _exact(a, b, scales, block, plan)
    if plan.order.name == "aligned":
        return engine_sums(a, b, plan.engine, BlockScales(*scales, block, plan.smallest_scale), plan.threads)
    depth = a.shape[1]
    sums = np.zeros((a.shape[0], b.shape[1]))
    is_blocked = plan.order == Order("blocked", block)
    steps = 1 if is_blocked else 1 + step_count(plan.order, min(block, depth))
    for number, start in enumerate(range(0, depth, block)):
        part = a.along(start, min(start + block, depth), 1), b.along(start, min(start + block, depth), 0)
        scale = scales[0][:, number, None] * scales[1][number]
        if is_blocked:
            special = _special_sums(*part)
            partial = list(_terms(part[0].slices(), part[1].slices(), 0, part[0].shape[1], _chunk(a.grid, b.grid)))
        else:
            special = accumulate(*part, plan, first, 1 + number * steps)
            partial = [np.where(np.isfinite(special), special, 0.0)]
        terms = [scaled for term in partial for scaled in scaled_terms(term, scale)]
        add_terms(sums, terms, special, False, plan, first, (number + 1) * steps)
    return sums

"""Sums of products in a stated accumulator: those of `rf8sim.dot`, of many vectors at a time, and of streams."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...arithmetic.accumulation import Accumulation
from ...arithmetic.accumulators import get_accumulator
from ...arithmetic.operands import Grid, table_of
from ...arithmetic.orders import get_order
from ...arithmetic.running_sums import Factor, add_products, check_running
from .ports import Codes, Fixed, Float, Kind, Port

__all__ = ["check_accumulation", "factor", "grid", "stream_sums"]

Array = NDArray[np.float64]


def grid(kind: Kind) -> Grid:
    """Return what is true of all numbers of a kind.

    Examples
    --------
    >>> from .ports import get_kind
    >>> grid(get_kind("e4m3fn")), grid(get_kind("tf32")).digits, grid(get_kind("int32"))
    (Grid(unit=-9, bits=18, digits=4), 11, Grid(unit=0, bits=32, digits=32))
    """
    if isinstance(kind, Codes):
        return table_of(kind.format)[1]
    if isinstance(kind, Float):
        unit = kind.layout.emin - kind.layout.mantissa_bits
        return Grid(unit, kind.layout.emax + 1 - unit, kind.layout.precision)
    assert isinstance(kind, Fixed)
    return Grid(-kind.fraction, kind.bits, kind.bits)


def factor(kind: Kind, values: Array) -> Factor:
    """Return numbers of a kind as an operand of sums."""
    smallest = 0.0
    if isinstance(kind, Codes):
        smallest = kind.format.subnormals_below or kind.format.smallest
    elif isinstance(kind, Float):
        smallest = kind.layout.smallest_normal
    return Factor(values, grid(kind), smallest)


def check_accumulation(accumulation: Accumulation, ports: Sequence[Port], *, stream: bool) -> None:
    """Raise ValueError if the operands of vectors cannot be summed so."""
    kind, order = get_accumulator(accumulation.accumulator), get_order(accumulation.order)
    by_name = {port.name: port.kind for port in ports}
    if stream and order.name == "pairwise" and not order.block:
        raise ValueError(
            f"accumulator {kind.name!r} of order 'pairwise' sums a tree, and a stream has no last product: choose "
            "'sequential'"
        )
    scales = [by_name[name] for name in ("scale_a", "scale_b") if name in by_name]
    if order.name == "aligned" and len({scale.name for scale in scales}) > 1:
        raise ValueError(f"accumulator {kind.name!r} of order {str(order)!r} aligns scales of one format: give one")
    nothing = np.zeros(0)
    factors = [factor(each, nothing) for each in (by_name["a"], by_name["b"], *scales)]
    lanes = next(port.lanes for port in ports if port.name == "a")
    check_running(accumulation, factors, lanes, grid(by_name["c"]) if "c" in by_name else None)


def stream_sums(
    accumulation: Accumulation, clear: NDArray[np.bool_], factors: Sequence[Factor], before: float
) -> Array:
    """Return what an accumulator holds after each product of a stream.

    Parameters
    ----------
    accumulation : Accumulation
        The accumulator; each product is a step of its own, however many an order takes at a time.
    clear : ndarray of bool, shape (vectors,)
        Where a sum starts again, with the product that comes then.
    factors : sequence of Factor
        Both operands, of shape (vectors,).
    before : float
        What it holds at the start.

    Returns
    -------
    ndarray of float64, shape (vectors,)
        The sums.

    Examples
    --------
    >>> from .ports import get_kind
    >>> a, b = (factor(get_kind("int8"), np.array(x)) for x in ([100.0, 100.0, 1.0], [1.0, 1.0, 5.0]))
    >>> stream_sums(Accumulation("int:8"), np.array([False, False, True]), [a, b], 50.0).tolist()
    [127.0, 127.0, 5.0]
    """
    starts = np.flatnonzero(clear)
    if clear.size and not clear[0]:
        starts = np.append(0, starts)
    lengths = np.diff(starts, append=clear.size)
    held = np.zeros(starts.size)
    if starts.size and not clear[0]:
        held[0] = before
    # The longest sums first: those that still go on are then the first ones.
    by_length = np.argsort(-lengths, kind="stable")
    starts, lengths, held = starts[by_length], lengths[by_length], held[by_length]
    sums = np.empty(clear.size)
    for step in range(int(lengths.max(initial=0))):
        alive = int(np.searchsorted(-lengths, -step))
        place = starts[:alive] + step
        part = [x._replace(values=x.values[place, None]) for x in factors]
        held[:alive] = sums[place] = add_products(accumulation, held[:alive], part)
    return sums

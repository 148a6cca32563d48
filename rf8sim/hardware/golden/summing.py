"""The operands of vectors as those of sums in a stated accumulator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...arithmetic.accumulation import Accumulation
from ...arithmetic.accumulators import get_accumulator
from ...arithmetic.operands import Grid, table_of
from ...arithmetic.orders import get_order
from ...arithmetic.running_sums import Factor, check_running
from .ports import Codes, Fixed, Float, Kind, Port

__all__ = ["check_accumulation", "factor", "grid"]

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

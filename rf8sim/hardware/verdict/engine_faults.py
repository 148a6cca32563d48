"""Faults of a matrix engine's aligned sums: the wrong reference of an alignment, carries that are lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...arithmetic.accumulators import get_accumulator
from ...arithmetic.orders import Order, get_order
from ...codec.rounding import as_rounding
from ...formats import get_layout
from ..golden.floats import round_to_layout
from ..golden.golden import Exact, Golden
from ..golden.ports import Codes, Float, Patterns
from .faults import Answer, Found, Hypothesis

__all__ = ["FAMILIES"]

Array = NDArray[np.float64]
Exponents = NDArray[np.int64]
_LOWEST = -2000  # exponent of zero
_CARRIES = range(1, 7)  # bits above the largest exponent that an adder may have
_ROUNDED = {"toward-zero": np.trunc, "nearest-even": np.rint}


@dataclass(frozen=True)
class _Engine:
    """An adder of terms that are aligned; by default as it should be.

    Attributes
    ----------
    reference : str
        Term that others are aligned to: ``largest``, ``first`` of the products, ``products`` without the running sum,
        ``normalized`` for the largest of the products' values, ``sum`` for the running sum.
    sticky : bool
        Whether a last bit says that something was cut off.
    carries : int
        Bits from the largest exponent on, 0 for as many as needed.
    """

    reference: str = "largest"
    sticky: bool = False
    carries: int = 0


def _references(model: Golden) -> Found:
    order = _simple(model)
    if order is None:
        return
    lanes = model.operands[0].lanes
    words = {
        "first": "aligns terms to the first product of each block, not to the largest term",
        "normalized": "aligns terms to the largest product, not to the largest sum of exponents",
    }
    if order.block and lanes > order.block:
        words["products"] = "aligns terms to the largest product alone, without the running sum"
        words["sum"] = "aligns terms to the running sum alone, without the products"
    for reference, sentence in words.items():
        yield Hypothesis(
            f"aligned to the wrong term: {reference}", f"the design {sentence}",
            _answers(model, order, _Engine(reference)),
        )  # fmt: skip
    yield Hypothesis(
        "aligned with a sticky bit", "the design keeps a sticky bit of what it cuts off, and none is asked",
        _answers(model, order, _Engine(sticky=True)),
    )  # fmt: skip
    for bits in _CARRIES:
        yield Hypothesis(
            f"carry lost {bits} bit{'s' * (bits > 1)} above the largest exponent",
            f"the adder has {bits} bit{'s' * (bits > 1)} from the largest exponent on, and a carry out of them is lost",
            _answers(model, order, _Engine(carries=bits)),
        )  # fmt: skip


def _simple(model: Golden) -> Order | None:
    """Return the order of an engine that adds aligned products of two formats and a running sum; else None."""
    asked = model.accumulation
    if asked is None or model.operation != "dot" or model.find("c") is not None:
        return None
    order = get_order(asked.order)
    plain = order.name == "aligned" and order.exact == 1 and not (order.then or order.split or order.apart)
    codes = all(isinstance(port.kind, Codes) for port in model.operands)
    mode = as_rounding(asked.rounding).mode in ("nearest-even", "toward-zero", "to-odd")
    return order if plain and codes and mode and order.cut in _ROUNDED else None


def _answers(model: Golden, order: Order, engine: _Engine) -> Answer:
    asked = model.accumulation
    assert asked is not None
    layout = get_layout(get_accumulator(asked.accumulator).name)
    rounding = replace(as_rounding(asked.rounding), overflow="ieee")

    def answer(operands: Sequence[Patterns]) -> Patterns:
        a, b = model.read(operands)[:2]
        factors = [_exponents(values, port.kind) for values, port in zip((a, b), model.operands, strict=False)]
        products = a * b
        exponents = np.where(products == 0, _LOWEST, factors[0] + factors[1])
        size, running = order.block or products.shape[1], np.zeros(len(products))
        for start in range(0, products.shape[1], size):
            part = slice(start, start + size)
            block = (products[:, part], exponents[:, part])
            sums = _block(engine, order, block, running)
            running = Float(layout.name, layout.bits, layout).values(round_to_layout(sums, layout, rounding).patterns)
        return model.round(Exact(running, np.zeros(running.size, np.int64))).results

    return answer


def _exponents(values: Array, kind: object) -> Exponents:
    """Return the exponents of factors, those of subnormal numbers as of the smallest normal one."""
    assert isinstance(kind, Codes)
    ordinary = np.isfinite(values) & (values != 0)
    exponents = np.frexp(np.where(ordinary, values, 1.0))[1].astype(np.int64) - 1
    least = kind.format.subnormals_below
    return np.maximum(exponents, np.frexp(least)[1] - 1) if least else exponents


def _block(engine: _Engine, order: Order, block: tuple[Array, Exponents], running: Array) -> Array:
    """Add the products of a block to a running sum."""
    products, exponents = block
    terms = np.concatenate([products, running[:, None]], axis=1)
    finite = np.isfinite(terms)
    special = np.where(finite, 0.0, terms).sum(axis=1)
    terms = np.where(finite, terms, 0.0)
    value_exponents = np.where(terms == 0, _LOWEST, np.frexp(terms)[1].astype(np.int64) - 1)
    of_sum = value_exponents[:, -1]
    largest = exponents.max(axis=1)
    tops: dict[str, Callable[[], Exponents]] = {
        "largest": lambda: np.maximum(largest, of_sum), "first": lambda: exponents[:, 0], "products": lambda: largest,
        "normalized": lambda: value_exponents.max(axis=1),
        "sum": lambda: np.where(of_sum > _LOWEST, of_sum, largest),
    }  # fmt: skip
    top = tops[engine.reference]()
    place = np.clip(order.fraction - top, -1000, 1000)
    scaled = np.ldexp(terms, place[:, None])
    kept = _ROUNDED[order.cut](scaled)
    total = kept.sum(axis=1)
    if engine.sticky:
        total = total + 0.5 * np.sign(scaled - kept).sum(axis=1).clip(-1, 1)
    if engine.carries:
        total = np.fmod(total, 2.0 ** (order.fraction + engine.carries))
    sums: Array = np.ldexp(total, -place) + 0.0
    added: Array = np.where(special == 0, sums, special)
    return added


FAMILIES: tuple[Callable[[Golden], Found], ...] = (_references,)
"""The families of faults, each from a model to hypotheses."""

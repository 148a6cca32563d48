"""Faults of sums in a stated accumulator and of block scales: another accumulator, scales taken otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...arithmetic.accumulation import Accumulation
from ...arithmetic.orders import Order, get_order
from ...codec.rounding import as_rounding
from ..golden.golden import Golden
from ..golden.ports import Patterns, unsigned
from .faults import Answer, Found, Hypothesis, computed_by, with_reading

__all__ = ["FAMILIES"]

_CUTS = {"toward-zero": "cuts terms off", "nearest-even": "rounds terms", "to-odd": "rounds terms to odd"}


def _sums(model: Golden) -> Found:
    """Yield other accumulators: of an aligned sum, other fraction bits, cuts, blocks, roundings."""
    asked = model.accumulation
    if asked is None:
        return
    order = get_order(asked.order)
    if order.name == "aligned":
        for off in (-1, 1, -2, 2):
            bits = order.fraction + off
            words = f"keeps {bits} bits below the largest term, not {order.fraction}"
            yield from _with(model, asked, order._replace(fraction=bits), words)
        for cut, words in _CUTS.items():
            if cut != order.cut and not order.then:
                yield from _with(model, asked, order._replace(cut=cut), f"{words} where {order.cut} is asked")
        lanes = model.operands[0].lanes
        for block in {order.block // 2, order.block * 2} if order.block else {lanes // 2}:
            if 0 < block < 2 * lanes:
                yield from _with(model, asked, order._replace(block=block),
                                 f"takes {block} products at a time, not {order.block or lanes}")  # fmt: skip
    mode = as_rounding(asked.rounding).mode
    for other in ("nearest-even", "toward-zero", "to-odd"):
        if other != mode:
            yield from _made(model, f"sums rounded {other}", f"the design rounds its sums {other}, not {mode}",
                             partial(replace, asked, rounding=other))  # fmt: skip
    yield from _made(model, "sums exactly", "the design sums exactly", lambda: None)
    yield from _made(model, "sums in float32 in sequence", "the design adds product after product in float32",
                     lambda: Accumulation("float32"))  # fmt: skip


def _with(model: Golden, asked: Accumulation, order: Order, words: str) -> Found:
    return _made(model, f"aligned otherwise: {order}", f"the design {words}", partial(replace, asked, order=order))


def _made(model: Golden, name: str, sentence: str, sums: Callable[[], Accumulation | None]) -> Found:
    """Yield a design with other sums, if there are such sums of these operands."""
    try:
        other = model.changed(accumulation=sums())
        shapes = [(1, port.lanes) if port.lanes > 1 else (1,) for port in model.operands]
        zeros = (np.zeros(shape, unsigned(port.kind.bits)) for shape, port in zip(shapes, model.operands, strict=True))
        other.compute(list(zeros))
    except (ValueError, TypeError):
        return
    if other.accumulation != model.accumulation:
        yield Hypothesis(name, sentence, computed_by(other))


def _scales(model: Golden) -> Found:
    places = [place for place in map(model.find, ("scale_a", "scale_b")) if place is not None]
    ways: dict[str, Callable[[Any], Any]] = {"left out": np.ones_like, "taken twice": np.square}
    for words, change in ways.items():
        for chosen in [*([place] for place in places), *([places] if len(places) > 1 else [])]:
            which = " and ".join(model.operands[place].name for place in chosen)
            verb = "are" if len(chosen) > 1 else "is"
            yield Hypothesis(f"{which} {words}", f"{which} {verb} {words}", _read_otherwise(model, chosen, change))


def _read_otherwise(model: Golden, places: Sequence[int], change: Callable[[Any], Any]) -> Answer:
    def read(values: list[NDArray[Any]], operands: Sequence[Patterns]) -> list[NDArray[Any]]:
        with np.errstate(all="ignore"):
            return [
                np.where(np.isfinite(value), change(value), value) if place in places else value
                for place, value in enumerate(values)
            ]

    return with_reading(model, read)


FAMILIES: tuple[Callable[[Golden], Found], ...] = (_sums, _scales)
"""The families of faults, each from a model to hypotheses."""

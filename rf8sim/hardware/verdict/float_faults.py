"""Faults of floats that are operands or results: subnormals, zeros, an earlier rounding to another width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...codec.rounding import Rounding
from ...formats import get_layout
from ..golden.floats import round_to_layout
from ..golden.golden import Exact, Golden
from ..golden.ports import Float, Patterns
from .faults import Answer, Found, Hypothesis, exact_of, is_exact, with_exact, with_reading, with_result, words_of

__all__ = ["FAMILIES", "register_values"]

Array = NDArray[np.float64]
_WIDTHS = ("float32", "tf32", "e8m13", "float16", "bfloat16")  # registers that units have


def register_values(model: Golden, name: str, values: Array) -> Array:
    """Return numbers as a register holds them.

    Parameters
    ----------
    model : Golden
        Its result is one register.
    name : str
        That of the result, or a layout.
    values : ndarray of float64
        Numbers; those of more than 53 bits rounded to odd.
    """
    kind = model.result.kind
    if name == kind.name:
        return kind.values(model.round(Exact(values, np.zeros(values.size, np.int64))).results)
    layout = get_layout(name)
    return Float(name, layout.bits, layout).values(round_to_layout(values, layout, Rounding(overflow="ieee")).patterns)


def _subnormal_operands(model: Golden) -> Found:
    places = [place for place, port in enumerate(model.operands) if isinstance(port.kind, Float)]
    for place in places:
        port = model.operands[place]
        assert isinstance(port.kind, Float)
        least = port.kind.layout.smallest_normal

        def flushed(
            values: list[NDArray[Any]], _: Sequence[Patterns], place: int = place, least: float = least
        ) -> list[NDArray[Any]]:
            tiny = np.abs(values[place]) < least
            return [
                *values[:place],
                np.where(tiny, np.copysign(0.0, values[place]), values[place]),
                *values[place + 1 :],
            ]

        sentence = f"subnormal numbers of operand {port.name} are read as zero"
        yield Hypothesis(f"subnormals flushed of {port.name}", sentence, with_reading(model, flushed))


def _subnormal_results(model: Golden) -> Found:
    kind = model.result.kind
    if not isinstance(kind, Float) or not model.rounds:
        return
    least = kind.layout.smallest_normal
    sign = kind.layout.sign_mask

    def flushed(results: Patterns) -> Patterns:
        tiny = np.abs(kind.values(results)) < least
        return np.where(tiny, results & results.dtype.type(sign), results)

    def unsigned(results: Patterns) -> Patterns:
        return np.where(np.abs(kind.values(results)) < least, results.dtype.type(0), results)

    def early(values: Array) -> Array:
        return np.where(np.abs(values) < least, np.copysign(0.0, values), values)

    yield Hypothesis(
        "subnormal results flushed", "subnormal results become zero of the same sign", with_result(model, flushed)
    )
    yield Hypothesis(
        "subnormal results flushed to +0", "subnormal results, and zeros, become +0", with_result(model, unsigned)
    )
    if model.accumulation is None:
        yield Hypothesis(
            "subnormal results flushed before rounding",
            "results below the smallest normal number before rounding become zero", with_exact(model, early),
        )  # fmt: skip
    yield Hypothesis(
        "no negative zero", "-0 is answered as +0",
        with_result(model, lambda results: np.where(results == sign, results.dtype.type(0), results)),
    )  # fmt: skip


def _twice(model: Golden) -> Found:
    """Yield that results go through a register of another layout."""
    if is_exact(model) or model.stochastic or model.streams or model.result.bits < 16:
        return
    for name in _WIDTHS:
        if name != model.result.kind.name:
            yield Hypothesis(
                f"through a register of {name}", f"the result is rounded to {name} before it is rounded",
                _through(model, name),
            )  # fmt: skip


def _through(model: Golden, name: str) -> Answer:
    def answer(operands: Sequence[Patterns]) -> Patterns:
        exact = exact_of(model, operands)
        narrow = register_values(model, name, exact.values)
        return model.round(Exact(narrow, exact.flags), words_of(model, operands)).results

    return answer


FAMILIES: tuple[Callable[[Golden], Found], ...] = (_subnormal_operands, _subnormal_results, _twice)
"""The families of faults, each from a model to hypotheses."""

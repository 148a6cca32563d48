"""Faults of rounding and of range: another mode, other boundaries, what becomes of overflow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...arithmetic.operations import Flags
from ...codec.rounding import Overflow, RoundingMode, fits
from ...formats import Format
from ..golden.golden import Exact, Golden
from ..golden.ports import Fixed, Patterns
from .faults import (
    Answer,
    Found,
    Hypothesis,
    codes_per_octave,
    computed_by,
    exact_of,
    is_exact,
    with_codes,
    with_result,
    words_of,
)

__all__ = ["FAMILIES"]


def _rounding(model: Golden) -> Found:
    if is_exact(model):
        return
    into = model.into
    depth = into is not None and into.depth is not None
    for mode in RoundingMode:
        known = mode is not RoundingMode.STOCHASTIC and (mode is not RoundingMode.RESIDUAL or depth)
        if mode != model.rounding.mode and known:
            yield Hypothesis(
                f"rounds {mode}",
                f"the design rounds {mode} where {model.rounding.mode} is asked",
                _compute_without_words(model, mode),
            )
    if model.rounding.mode in (RoundingMode.NEAREST_EVEN, RoundingMode.NEAREST_AWAY):
        for rule, above, below in _TIES:
            yield Hypothesis(f"ties {rule}", f"the design rounds ties {rule}", _ties_by(model, above, below))
    yield Hypothesis(
        "rounds away from zero", "the design rounds every inexact result away from zero", _between(model, _always)
    )
    yield Hypothesis(
        "boundary at the geometric mean", "the design rounds up from the geometric mean of two values on, not from the "
        "arithmetic one", _between(model, lambda x, low, high: (x * x >= low * high) & ((low > 0) | (2 * x >= high))),
    )  # fmt: skip
    for share in (1, 3):
        for words, at in (("from", "up"), ("above", "down"), ("to even at", "even")):
            sentence = f"the design rounds up {words} {share}/4 of the gap between two values"
            yield Hypothesis(f"boundary at {share}/4, {at} there", sentence, _boundary(model, share / 4, at))
    if into is None or into.zero is not None:
        yield Hypothesis(
            "never rounds to zero", "results that round to zero become the smallest value",
            _between(model, lambda x, low, high: np.where(low == 0, 1, -1)),
        )  # fmt: skip


def _boundary(model: Golden, share: float, at: str) -> Answer:
    """Return the answers of a design that rounds up from a share of the gap on; ``at`` says where itself goes."""

    def answer(operands: Sequence[Patterns]) -> Patterns:
        exact = exact_of(model, operands)
        odd = _in_mode(model, "to-odd").round(exact).results == _in_mode(model, "toward-zero").round(exact).results

        def upper(x: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> Any:
            boundary = low + (high - low) * share
            return (x > boundary) | ((x == boundary) & (odd if at == "even" else at == "up"))

        return _between(model, upper)(operands)

    return answer


def _always(x: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> Any:
    return np.ones(x.shape, dtype=np.bool_)


def _between(model: Golden, takes_upper: Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], Any]) -> Answer:
    """Return the answers of a design that chooses otherwise between the two values beside an inexact result.

    ``takes_upper`` says so from three magnitudes, the exact one and its neighbours; -1 leaves it as it is.
    """

    def answer(operands: Sequence[Patterns]) -> Patterns:
        exact = exact_of(model, operands)
        right = model.round(exact, words_of(model, operands)).results
        lower, up, down = (_in_mode(model, mode).round(exact).results for mode in ("toward-zero", "up", "down"))
        upper = np.where(exact.values > 0, up, down)
        low, high = (np.abs(model.result.kind.values(patterns)) for patterns in (lower, upper))
        choice = np.asarray(takes_upper(np.abs(exact.values), low, high)).astype(np.int8)
        inexact = np.isfinite(exact.values) & np.isfinite(low) & (low != high) & (choice >= 0)
        return np.where(inexact, np.where(choice == 1, upper, lower), right).astype(right.dtype)

    return answer


_TIES = (("toward zero", "toward-zero", "toward-zero"), ("up", "up", "up"), ("down", "down", "down"))


def _in_mode(model: Golden, mode: str) -> Golden:
    return model.changed(rounding=replace(model.rounding, mode=mode))


def _compute_without_words(model: Golden, mode: str) -> Answer:
    """Return the answers in another mode; it has no use for the random words."""

    def answer(operands: Sequence[Patterns]) -> Patterns:
        exact = exact_of(model, operands)
        return _in_mode(model, mode).round(exact).results

    return answer


def _ties_by(model: Golden, above: str, below: str) -> Answer:
    def answer(operands: Sequence[Patterns]) -> Patterns:
        exact = exact_of(model, operands)
        right = model.round(exact)
        positive, negative = (_in_mode(model, mode).round(exact).results for mode in (above, below))
        return np.where(right.ties, np.where(exact.values > 0, positive, negative), right.results)

    return answer


def _overflow(model: Golden) -> Found:
    into = model.into
    if into is None and is_exact(model):
        yield from _exact_overflow(model)
        return
    words = {
        Overflow.SATURATE: "the largest value", Overflow.PROPAGATE: "the largest value and an infinity stays",
        Overflow.INFINITY: "infinity", Overflow.NAN: "NaN", Overflow.IEEE: "what IEEE 754 says",
    }  # fmt: skip
    asked = Overflow(model.rounding.overflow)
    for option in words:
        rounding = replace(model.rounding, overflow=option)
        if option != asked and (into is None or fits(into, rounding)):
            yield Hypothesis(
                f"overflow gives {words[option]}",
                f"a result beyond the largest value becomes {words[option]} instead of {words[asked]}",
                computed_by(model.changed(rounding=rounding)),
            )
    if into is None:
        return
    step = codes_per_octave(into)
    if step is not None and into.signed:
        yield Hypothesis("overflow wraps", "the exponent wraps around on overflow", _wrapping(model, into, step))
    if into.family == "integer":
        mask = (1 << into.bits) - 1
        low = int(into.min)

        def wrap(operands: Sequence[Patterns]) -> Patterns:
            values = exact_of(model, operands).values
            integers = np.rint(np.nan_to_num(values)).astype(np.int64)
            wrapped: Patterns = (((integers - low) & mask) + low & mask).astype(into.code_dtype)
            return wrapped

        yield Hypothesis("overflow wraps", "a result beyond the range wraps around", wrap)

    if into.min < -into.max:
        table = np.arange(1 << into.bits)
        symmetric = int(into.canonical[np.argmin(np.abs(into.values + into.max))])
        table[into.values == into.min] = symmetric
        yield Hypothesis(
            "saturates symmetrically", f"the lowest result is {-into.max:g}, not {into.min:g}", with_codes(model, table)
        )


def _exact_overflow(model: Golden) -> Found:
    """Yield faults of exact results in fixed point, which wrap around."""
    kind = model.result.kind
    if not isinstance(kind, Fixed) or model.operation not in ("dot", "accumulate"):
        return
    low, high = (-(1 << (kind.bits - 1)), (1 << (kind.bits - 1)) - 1) if kind.signed else (0, (1 << kind.bits) - 1)
    if kind.bits < 63:

        def clipped(operands: Sequence[Patterns]) -> Patterns:
            exact = exact_of(model, operands).values
            return kind.wrapped(np.clip(exact, low, high))

        yield Hypothesis("sum saturates", "a sum beyond the range saturates instead of wrapping around", clipped)
    for bits in range(kind.bits - 1, max(kind.bits - 17, 3), -1):

        def narrower(results: Patterns, bits: int = bits) -> Patterns:
            integers = kind.integers(results) & ((1 << bits) - 1)
            if kind.signed:
                integers = integers - ((integers >> (bits - 1)) << bits)
            return kind.wrapped(integers)

        yield Hypothesis(
            f"accumulator of {bits} bits", f"the accumulator has {bits} bits instead of {kind.bits}",
            with_result(model, narrower),
        )  # fmt: skip


def _wrapping(model: Golden, into: Format, step: int) -> Answer:
    sign = 1 << (into.bits - 1)

    def answer(operands: Sequence[Patterns]) -> Patterns:
        exact = exact_of(model, operands)
        right = model.round(exact, words_of(model, operands))
        over = (right.flags & Flags.OVERFLOW != 0) & np.isfinite(exact.values)
        # Rounded some octaves lower, and the octaves put back into the code.
        down = np.frexp(np.where(over, exact.values, 1.0))[1] - (np.frexp(into.max)[1] - 1)
        low = model.round(Exact(np.ldexp(exact.values, -down), exact.flags), words_of(model, operands)).results
        moved = (low.astype(np.int64) & (sign - 1)) + step * down & (sign - 1) | low.astype(np.int64) & sign
        return np.where(over, moved, right.results).astype(right.results.dtype)

    return answer


FAMILIES = (_rounding, _overflow)

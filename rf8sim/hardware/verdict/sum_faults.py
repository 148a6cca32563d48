"""Faults of sums, of streams into an accumulator, and of random words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...arithmetic.operations import exact_sum
from ...codec.codec import whole_table
from ..golden.golden import Exact, Golden
from ..golden.ports import Codes, Fixed, Float, Kind, Patterns, unsigned
from .faults import Answer, Found, Hypothesis, exact_of, is_exact, rounded_to, with_operands, with_reading

__all__ = ["FAMILIES"]


def _sums(model: Golden) -> Found:
    if model.operation == "dot" and model.operands[0].lanes > 1:
        yield from _lanes(model)
    if is_exact(model) or model.stochastic:
        return
    if model.operation == "fma":
        product = model.changed(operation="multiply", operands=model.operands[:2], accumulation=None)
        third = model.operands[2]
        total = model.changed(operation="add", operands=(model.result, third), accumulation=None)

        def unfused(operands: Sequence[Patterns]) -> Patterns:
            return total.compute([product.compute(operands[:2])[0].results, operands[2]])[0].results

        yield Hypothesis("product rounded first", "the product is rounded before c is added", unfused)
        for name, keep in (("c ignored", (1, 0)), ("product ignored", (0, 1))):

            def without(
                values: list[NDArray[Any]], _: Sequence[Patterns], keep: tuple[int, int] = keep
            ) -> list[NDArray[Any]]:
                return [values[0] * keep[0], values[1], values[2] * keep[1]]

            yield Hypothesis(name, name.replace("ignored", "is ignored"), with_reading(model, without))
        for name, sentence, signs in (
            ("c subtracted", "c is subtracted", (1, -1)), ("product subtracted", "the product is subtracted", (-1, 1)),
        ):  # fmt: skip

            def negated(
                values: list[NDArray[Any]], _: Sequence[Patterns], signs: tuple[int, int] = signs
            ) -> list[NDArray[Any]]:
                return [values[0] * signs[0], values[1], values[2] * signs[1]]

            yield Hypothesis(name, sentence, with_reading(model, negated))
        for register in _REGISTERS:

            def narrowed(operands: Sequence[Patterns], register: str = register) -> Patterns:
                a, b, c = model.read(operands)[:3]
                total = exact_sum(_register(register, a * b), c)
                return model.round(Exact(total, np.zeros(total.size, np.int64))).results

            yield Hypothesis(
                f"product rounded to {register}", f"the product is rounded to {register} before c is added", narrowed
            )
    if model.operation == "dot" and model.operands[0].lanes > 1:
        lanes = model.operands[0].lanes

        def stepwise(operands: Sequence[Patterns]) -> Patterns:
            a, b = model.read(operands)[:2]
            sums = np.zeros(len(a))
            for lane in range(lanes):
                sums = _round_values(model, sums + a[:, lane] * b[:, lane])
            return model.round(Exact(sums, np.zeros(len(a), np.int64))).results

        yield Hypothesis("partial sums rounded", f"each partial sum is rounded to {model.result.kind.name}", stepwise)
        for name in _REGISTERS:
            yield Hypothesis(
                f"partial sums rounded to {name}", f"products are added in turn, each sum rounded to {name}",
                _sequential(model, name),
            )  # fmt: skip


_REGISTERS = ("float32", "bfloat16", "float16")


def _register(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to what a register of a sum holds."""
    if name == "bfloat16":
        return rounded_to(values, 8)
    with np.errstate(over="ignore"):
        narrow: NDArray[np.float64] = values.astype(name).astype(np.float64)
    return narrow


def _sequential(model: Golden, name: str) -> Answer:
    def answer(operands: Sequence[Patterns]) -> Patterns:
        a, b = model.read(operands)[:2]
        sums = np.zeros(len(a))
        for lane in range(a.shape[1]):
            sums = _register(name, sums + a[:, lane] * b[:, lane])
        return model.round(Exact(sums, np.zeros(len(a), np.int64))).results

    return answer


def _lanes(model: Golden) -> Found:
    """Yield lanes that are left out or reversed."""
    lanes = model.operands[0].lanes
    for lane in range(lanes if lanes <= 64 else 0):

        def dropped(values: list[NDArray[Any]], _: Sequence[Patterns], lane: int = lane) -> list[NDArray[Any]]:
            a, b = values[0].copy(), values[1].copy()
            a[:, lane] = b[:, lane] = 0.0
            return [a, b, *values[2:]]

        yield Hypothesis(f"lane {lane} ignored", f"lane {lane} is left out", with_reading(model, dropped))

    def reversed_lanes(values: list[NDArray[Any]], _: Sequence[Patterns]) -> list[NDArray[Any]]:
        return [values[0], values[1][:, ::-1], *values[2:]]

    yield Hypothesis("lanes reversed", "the lanes of b are in reverse order", with_reading(model, reversed_lanes))
    for name, inside in (("upper", slice(lanes // 2, None)), ("lower", slice(0, lanes // 2))):

        def without(values: list[NDArray[Any]], _: Sequence[Patterns], inside: slice = inside) -> list[NDArray[Any]]:
            a, b = values[0].copy(), values[1].copy()
            a[:, inside] = b[:, inside] = 0.0
            return [a, b, *values[2:]]

        if lanes > 2:
            sentence = f"the {name} half of the lanes is left out"
            yield Hypothesis(f"{name} lanes ignored", sentence, with_reading(model, without))

    def complement(operands: Sequence[Patterns]) -> Patterns:
        exact = exact_of(model, operands)
        a, b = model.read(operands)[:2]
        return model.round(Exact(exact.values - ((a * b) < 0).sum(axis=1), exact.flags)).results

    if isinstance(model.result.kind, Fixed):
        yield Hypothesis("one's complement", "negative products are added as their one's complement", complement)
        if model.find("c") is None:
            yield from _saturating_lanes(model, model.result.kind)


def _saturating_lanes(model: Golden, kind: Fixed) -> Found:
    """Yield a sum of lanes that saturates after each product."""
    bounds = _bounds(kind)
    if bounds is None:
        return

    def answer(operands: Sequence[Patterns]) -> Patterns:
        a, b = model.read(operands)[:2]
        sums = np.zeros(len(a))
        for lane in range(a.shape[1]):
            sums = np.clip(np.nan_to_num(sums + a[:, lane] * b[:, lane]), *bounds)
        integers = np.ldexp(sums, kind.fraction).astype(np.int64)
        return model.round(Exact(integers, np.zeros(len(a), np.int64))).results

    sentence = "the sum saturates after each product, in the order of the lanes"
    yield Hypothesis("partial sums saturate", sentence, answer)


def _bounds(kind: Fixed) -> tuple[float, float] | None:
    """Return the lowest and the highest number of fixed point; None if float64 does not hold all between."""
    if kind.bits >= 53:
        return None
    bits = kind.bits - kind.signed
    unit = 2.0**-kind.fraction
    return -unit * (1 << bits if kind.signed else 0), unit * ((1 << bits) - 1)


def _round_values(model: Golden, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return model.result.kind.values(model.round(Exact(values, np.zeros(len(values), np.int64))).results)


def _streams(model: Golden) -> Found:
    if not model.streams:
        return

    def with_clear(change: Callable[[Patterns], Patterns]) -> Answer:
        return with_operands(model, lambda operands: [change(operands[0]), *operands[1:]])

    yield Hypothesis("clear ignored", "clear does nothing: sums never start again", with_clear(lambda clear: clear * 0))
    yield Hypothesis(
        "clear a vector late", "clear takes effect one vector late",
        with_clear(lambda clear: np.concatenate([clear[:1], clear[:-1]])),
    )  # fmt: skip

    yield Hypothesis(
        "clear a vector early", "clear takes effect one vector early",
        with_clear(lambda clear: np.concatenate([clear[1:], clear[-1:] * 0])),
    )  # fmt: skip
    yield from _sticky(model)

    def loses_first(operands: Sequence[Patterns]) -> list[Patterns]:
        nothing = np.where(operands[0] != 0, _zero(model.operands[1].kind), operands[1]).astype(operands[1].dtype)
        return [operands[0], nothing, *operands[2:]]

    sentence = "the product that comes with clear is lost"
    yield Hypothesis("clear loses a product", sentence, with_operands(model, loses_first))
    if not is_exact(model) and not model.stochastic:

        def at_result(values: NDArray[np.float64]) -> NDArray[np.float64]:
            return _round_values(model, values)

        yield Hypothesis(
            "sum rounded at each step", "the accumulator is rounded at each step", _stepwise(model, at_result)
        )
        for name in _REGISTERS:
            yield Hypothesis(
                f"sum rounded to {name} at each step", f"the accumulator is rounded to {name} at each step",
                _stepwise(model, lambda values, name=name: _register(name, values)),  # type: ignore[misc]
            )  # fmt: skip
    bounds = _bounds(model.result.kind) if isinstance(model.result.kind, Fixed) else None
    if bounds is not None:
        yield Hypothesis(
            "sum saturates at each step", "the accumulator saturates at each step instead of wrapping around",
            _stepwise(model, lambda values: np.clip(np.nan_to_num(values), *bounds)),
        )  # fmt: skip


def _sticky(model: Golden) -> Found:
    """Yield NaN that a clear leaves, or that the next product takes away."""

    def not_finite(operands: Sequence[Patterns]) -> NDArray[np.bool_]:
        a, b = model.read(operands)[1:3]
        with np.errstate(invalid="ignore"):
            bad: NDArray[np.bool_] = np.isnan(a * b)
        return bad

    def kept(operands: Sequence[Patterns]) -> Patterns:
        right = model.compute(operands)[0].results
        seen = np.logical_or.accumulate(not_finite(operands))
        return np.where(seen, _nan(model), right).astype(right.dtype)

    def forgotten(operands: Sequence[Patterns]) -> Patterns:
        bad = not_finite(operands)
        zero = [patterns.copy() for patterns in operands]
        for place in (1, 2):
            zero[place][bad] = _zero(model.operands[place].kind)
        return np.where(bad, _nan(model), model.compute(zero)[0].results).astype(unsigned(model.result.bits))

    yield Hypothesis("clear keeps NaN", "clear does not clear NaN: every later sum is NaN", kept)
    yield Hypothesis("NaN not sticky", "NaN does not stay in the sum: the next result is a number again", forgotten)


def _zero(kind: Kind) -> int:
    return kind.format.zero or 0 if isinstance(kind, Codes) else 0


def _nan(model: Golden) -> int:
    kind = model.result.kind
    nan = kind.format.nan if isinstance(kind, Codes) else kind.layout.nan if isinstance(kind, Float) else None
    return 0 if nan is None else int(nan)


def _stepwise(model: Golden, register: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Answer:
    """Return the answers of a design whose accumulator goes through a function at each step."""

    def answer(operands: Sequence[Patterns]) -> Patterns:
        clear, a, b = model.read(operands)[:3]
        with np.errstate(invalid="ignore"):
            products = a * b
        starts = np.flatnonzero(clear) if clear.size and clear[0] else np.append(0, np.flatnonzero(clear))
        lengths = np.diff(starts, append=clear.size)
        registers, sums = np.zeros(starts.size), np.zeros(clear.size)
        for step in range(int(lengths.max(initial=0))):
            alive = lengths > step
            with np.errstate(invalid="ignore"):
                registers[alive] = register(registers[alive] + products[starts[alive] + step])
            sums[starts[alive] + step] = registers[alive]
        nowhere = np.zeros(sums.size, np.int64)
        if isinstance(model.result.kind, Fixed):
            sums = np.ldexp(sums, model.result.kind.fraction).astype(np.int64)
        return model.round(Exact(sums, nowhere)).results

    return answer


def _random_words(model: Golden) -> Found:
    if not model.stochastic:
        return
    bits = model.rounding.bits
    mask = (1 << bits) - 1

    def reversed_bits(words: Patterns) -> Patterns:
        out = np.zeros_like(words)
        for bit in range(bits):
            out |= (words >> words.dtype.type(bit) & words.dtype.type(1)) << words.dtype.type(bits - 1 - bit)
        return out

    changes: dict[str, tuple[str, Callable[[Patterns], Patterns]]] = {
        "word inverted": ("the random word is inverted", lambda words: ~words & words.dtype.type(mask)),
        "word reversed": ("the bits of the random word are reversed", reversed_bits),
        "word shifted right": ("the random word is shifted right by one", lambda words: words >> words.dtype.type(1)),
        "word shifted left": ("the random word is shifted left by one",
                              lambda words: words << words.dtype.type(1) & words.dtype.type(mask)),
        "word rotated": ("the random word is rotated by one",
                         lambda words: words >> words.dtype.type(1) | (words & words.dtype.type(1))
                         << words.dtype.type(bits - 1)),
        "word zero": ("the random word is not used", lambda words: words * 0),
    }  # fmt: skip
    for name, (sentence, change) in changes.items():

        def answer(operands: Sequence[Patterns], change: Callable[[Patterns], Patterns] = change) -> Patterns:
            return model.compute([*operands[:-1], change(operands[-1])])[0].results

        yield Hypothesis(name, sentence, answer)
    for name, sentence, of_exact in (
        ("word one too large", "the carry comes one too early: as if the word were one larger", True),
        (
            "word one too large if inexact",
            "the carry comes one too early where the result is not exact",
            False,
        ),
    ):
        yield Hypothesis(name, sentence, _carried(model, mask, of_exact))


def _carried(model: Golden, mask: int, of_exact: bool) -> Answer:
    """Return the answers of a circuit with a carry into the sum of fraction and word."""

    def answer(operands: Sequence[Patterns]) -> Patterns:
        words = operands[-1]
        full = words == mask
        right = model.compute([*operands[:-1], np.where(full, words, words + 1).astype(words.dtype)])[0].results
        exact = exact_of(model, operands).values
        plain = model.changed(operands=model.operands[:-1], rounding=replace(model.rounding, mode="toward-zero"))
        lower = plain.round(Exact(exact, np.zeros(exact.size, np.int64))).results
        inexact = model.result.kind.values(lower) != exact
        # Whatever the fraction, the carry comes out.
        moved = full & np.isfinite(exact) & (exact != 0) & (inexact | of_exact)
        return np.where(moved, _following(model, lower, np.signbit(exact)), right).astype(right.dtype)

    return answer


def _following(model: Golden, lower: Patterns, negative: NDArray[np.bool_]) -> Patterns:
    """Return the next value away from zero of each result; the largest one stays if nothing is beyond it."""
    kind = model.result.kind
    if isinstance(kind, Float):
        layout = kind.layout
        last = layout.largest_pattern if model.rounding.overflow in ("saturate", "propagate") else layout.infinity
        magnitude = lower & lower.dtype.type(layout.sign_mask - 1)
        return np.where(magnitude < last, lower + lower.dtype.type(1), lower)
    assert model.into is not None
    up = lower.copy()
    for below_zero, side in enumerate(model.into.sides[: 1 + model.into.signed]):
        following = np.arange(1 << model.into.bits)
        following[side.codes[:-1]] = side.codes[1:]
        here = negative == bool(below_zero)
        up = np.where(here, whole_table(following.astype(lower.dtype))[lower], up)
    return up


FAMILIES = (_sums, _streams, _random_words)

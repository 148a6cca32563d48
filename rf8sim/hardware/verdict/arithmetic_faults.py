"""Faults in the arithmetic: rounding, overflow, operands, sums, streams, random words, bits that are stuck."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...arithmetic.operations import Flags
from ...codec.codec import whole_table
from ...codec.rounding import Overflow, RoundingMode, fits
from ...formats import Format, get_layout
from ..golden.golden import OPERATIONS, Exact, Golden
from ..golden.ports import Bits, Codes, Patterns
from .faults import (  # fmt: skip
    Answer,
    Found,
    Hypothesis,
    code_ports,
    codes_per_octave,
    computed_by,
    is_exact,
    with_exact,
    with_reading,
    with_result,
    words_of,
)

__all__ = ["FAMILIES"]


def _rounding(model: Golden) -> Found:
    if is_exact(model):
        return
    into = model.into
    assert into is not None
    for mode in RoundingMode:
        known = mode is not RoundingMode.STOCHASTIC and (mode is not RoundingMode.RESIDUAL or into.depth is not None)
        if mode != model.rounding.mode and known:
            yield Hypothesis(
                f"rounds {mode}",
                f"the design rounds {mode} where {model.rounding.mode} is asked",
                _compute_without_words(model, mode),
            )
    if model.rounding.mode in (RoundingMode.NEAREST_EVEN, RoundingMode.NEAREST_AWAY):
        for rule, above, below in _TIES:
            yield Hypothesis(f"ties {rule}", f"the design rounds ties {rule}", _ties_by(model, above, below))


_TIES = (("toward zero", "toward-zero", "toward-zero"), ("up", "up", "up"), ("down", "down", "down"))


def _in_mode(model: Golden, mode: str) -> Golden:
    return model.changed(rounding=replace(model.rounding, mode=mode))


def _compute_without_words(model: Golden, mode: str) -> Answer:
    """Return the answers in another mode; it has no use for the random words."""

    def answer(operands: Sequence[Patterns]) -> Patterns:
        exact = model.exact_of(operands)[0]
        return _in_mode(model, mode).round(exact).results

    return answer


def _ties_by(model: Golden, above: str, below: str) -> Answer:
    def answer(operands: Sequence[Patterns]) -> Patterns:
        exact = model.exact_of(operands)[0]
        right = model.round(exact)
        positive, negative = (_in_mode(model, mode).round(exact).results for mode in (above, below))
        return np.where(right.ties, np.where(exact.values > 0, positive, negative), right.results)

    return answer


def _overflow(model: Golden) -> Found:
    into = model.into
    if into is None:
        return
    words = {
        Overflow.SATURATE: "the largest value", Overflow.PROPAGATE: "the largest value and an infinity stays",
        Overflow.IEEE: "what IEEE 754 says", Overflow.INFINITY: "infinity", Overflow.NAN: "NaN",
    }  # fmt: skip
    asked = Overflow(model.rounding.overflow)
    for option in words:
        rounding = replace(model.rounding, overflow=option)
        if option != asked and fits(into, rounding):
            yield Hypothesis(
                f"overflow gives {words[option]}",
                f"a result beyond the largest value becomes {words[option]} instead of {words[asked]}",
                computed_by(model.changed(rounding=rounding)),
            )
    step = codes_per_octave(into)
    if step is not None and into.signed:
        yield Hypothesis("overflow wraps", "the exponent wraps around on overflow", _wrapping(model, into, step))
    if into.family == "integer":
        mask = (1 << into.bits) - 1
        low = int(into.min)

        def wrap(operands: Sequence[Patterns]) -> Patterns:
            values = model.exact_of(operands)[0].values
            integers = np.rint(np.nan_to_num(values)).astype(np.int64)
            wrapped: Patterns = (((integers - low) & mask) + low & mask).astype(into.code_dtype)
            return wrapped

        yield Hypothesis("overflow wraps", "a result beyond the range wraps around", wrap)


def _wrapping(model: Golden, into: Format, step: int) -> Answer:
    sign = 1 << (into.bits - 1)

    def answer(operands: Sequence[Patterns]) -> Patterns:
        exact = model.exact_of(operands)[0]
        right = model.round(exact, words_of(model, operands))
        over = (right.flags & Flags.OVERFLOW != 0) & np.isfinite(exact.values)
        # Rounded some octaves lower, and the octaves put back into the code.
        down = np.frexp(np.where(over, exact.values, 1.0))[1] - (np.frexp(into.max)[1] - 1)
        low = model.round(Exact(np.ldexp(exact.values, -down), exact.flags), words_of(model, operands)).results
        moved = (low.astype(np.int64) & (sign - 1)) + step * down & (sign - 1) | low.astype(np.int64) & sign
        return np.where(over, moved, right.results).astype(right.results.dtype)

    return answer


def _operands(model: Golden) -> Found:
    if len(code_ports(model)) >= 2 and not model.streams:
        (i, first, _), (j, second, _) = code_ports(model)[:2]
        if first.kind == second.kind:

            def swapped(values: list[NDArray[Any]], _: Sequence[Patterns]) -> list[NDArray[Any]]:
                values[i], values[j] = values[j], values[i]
                return values

            yield Hypothesis("operands swapped", "operands a and b are swapped", with_reading(model, swapped))
    for place, port in enumerate(model.operands):
        if isinstance(port.kind, Bits) and port.name != "word":
            continue
        for bit in range(port.kind.bits if port.kind.bits <= 16 else 0):
            for level in (0, 1):

                def stuck(
                    operands: Sequence[Patterns], place: int = place, bit: int = bit, level: int = level
                ) -> Patterns:
                    changed = list(operands)
                    changed[place] = _stuck(operands[place], bit, level)
                    return model.compute(changed)[0].results

                yield Hypothesis(
                    f"bit {bit} of {port.name} stuck at {level}",
                    f"bit {bit} of operand {port.name} is stuck at {level}", stuck,
                )  # fmt: skip


def _stuck(patterns: Patterns, bit: int, level: int) -> Patterns:
    mask = patterns.dtype.type(1 << bit)
    return patterns | mask if level else patterns & ~mask


def _results(model: Golden) -> Found:
    for bit in range(model.result.bits):
        for level in (0, 1):
            yield Hypothesis(
                f"bit {bit} of the result stuck at {level}", f"bit {bit} of the result is stuck at {level}",
                with_result(model, lambda results, bit=bit, level=level: _stuck(results, bit, level)),  # type: ignore[misc]
            )  # fmt: skip
    if model.into is None or not model.into.signed or model.streams:
        return

    def signed_by(how: Callable[[NDArray[np.bool_], list[NDArray[np.bool_]]], Any]) -> Answer:
        def answer(operands: Sequence[Patterns]) -> Patterns:
            values = model.read(operands)
            exact = model.exact(values)[0]
            signs = [np.signbit(value) for value in values if value.dtype == np.float64]
            sign = how(np.signbit(exact.values), signs)
            signed = np.where(
                np.isnan(exact.values), exact.values, np.copysign(exact.values, np.where(sign, -1.0, 1.0))
            )
            return model.round(Exact(signed, exact.flags), words_of(model, operands)).results

        return answer

    yield Hypothesis("sign lost", "the result is always positive", signed_by(lambda own, _: np.zeros_like(own)))
    yield Hypothesis("sign inverted", "the sign of the result is inverted", signed_by(lambda own, _: ~own))
    if model.operation in ("multiply", "divide", "add", "subtract"):
        for place, name in enumerate("ab"):
            yield Hypothesis(
                f"sign of {name}", f"the sign of the result is that of {name} alone",
                signed_by(lambda _, signs, place=place: signs[place]),  # type: ignore[misc]
            )  # fmt: skip


def _arithmetic(model: Golden) -> Found:
    if is_exact(model):
        return
    assert model.into is not None
    for digits in range(1, max(12, model.into.bits) + 1):
        yield Hypothesis(
            f"truncated to {digits} bits", f"the exact result is cut to {digits} significant bits before it is rounded",
            with_exact(model, lambda values, digits=digits: _cut(values, digits)),  # type: ignore[misc]
        )  # fmt: skip
    if model.operation in ("multiply", "fma", "dot", "add", "subtract"):
        for place in range(4, 40):
            yield Hypothesis(
                f"truncated below 2**-{place}", f"bits of the exact result below 2**-{place} are cut off",
                with_exact(model, lambda values, place=place: np.ldexp(np.trunc(np.ldexp(values, place)), -place)),  # type: ignore[misc]
            )  # fmt: skip
    for name in ("float32", "float16", "bfloat16"):
        digits, word = get_layout(name).precision, name if name == "float32" else f"{name}'s precision"
        yield Hypothesis(
            f"rounded twice, first to {digits} bits", f"the result is rounded twice, first to {word} ({digits} bits)",
            with_exact(model, lambda values, digits=digits: _nearest(values, digits)),  # type: ignore[misc]
        )  # fmt: skip
    if model.operation in ("add", "subtract") and all(codes_per_octave(fmt) for _, _, fmt in code_ports(model)):
        for digits in range(model.into.bits - 1, 0, -1):
            yield Hypothesis(
                f"smaller operand aligned to {digits} bits",
                f"the operand of the lower exponent is cut below the {digits} bits that begin at the other's first",
                with_reading(model, lambda values, _, digits=digits: _aligned(values, digits)),  # type: ignore[misc]
            )
    if model.operation in ("add", "subtract", "multiply", "divide"):
        for other in ("add", "subtract", "multiply", "divide"):
            if other != model.operation:
                summary = OPERATIONS[other].summary
                faulty = model.changed(operation=other)
                yield Hypothesis(f"computes {summary}", f"the design computes {summary}", computed_by(faulty))


def _aligned(values: list[NDArray[Any]], digits: int) -> list[NDArray[Any]]:
    """Cut two addends below so many bits from the first one of the larger."""
    finite = [np.where(np.isfinite(value), value, 0.0) for value in values[:2]]
    first, second = (np.where(value == 0, -2000, np.frexp(value)[1]) for value in finite)
    place = np.minimum(digits - np.maximum(first, second), 1000)
    cut = [
        np.where(np.isfinite(value), np.ldexp(np.trunc(np.ldexp(value, place)), -place), value) for value in values[:2]
    ]
    return [*cut, *values[2:]]


def _cut(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    drop = np.uint64(53 - digits)
    return (values.view(np.uint64) >> drop << drop).view(np.float64)


def _nearest(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    drop = np.uint64(53 - digits)
    bits = values.view(np.uint64)
    half = (np.uint64(1) << drop - np.uint64(1)) - np.uint64(1)
    rounded = bits + half + (bits >> drop & np.uint64(1)) >> drop << drop
    return np.where(np.isfinite(values), rounded.view(np.float64), values)


def _sums(model: Golden) -> Found:
    if is_exact(model) or model.stochastic:
        return
    into = model.into
    assert into is not None
    if model.operation == "fma":
        product = model.changed(operation="multiply", operands=model.operands[:2])
        third = model.operands[2]
        total = model.changed(operation="add", operands=(model.result, third))

        def unfused(operands: Sequence[Patterns]) -> Patterns:
            return total.compute([product.compute(operands[:2])[0].results, operands[2]])[0].results

        yield Hypothesis("product rounded first", "the product is rounded before c is added", unfused)
        for name, keep in (("c ignored", (1, 0)), ("product ignored", (0, 1))):

            def without(
                values: list[NDArray[Any]], _: Sequence[Patterns], keep: tuple[int, int] = keep
            ) -> list[NDArray[Any]]:
                return [values[0] * keep[0], values[1], values[2] * keep[1]]

            yield Hypothesis(name, name.replace("ignored", "is ignored"), with_reading(model, without))
    if model.operation == "dot" and model.operands[0].lanes > 1:
        lanes = model.operands[0].lanes

        def stepwise(operands: Sequence[Patterns]) -> Patterns:
            a, b = model.read(operands)[:2]
            sums = np.zeros(len(a))
            for lane in range(lanes):
                sums = _round_values(model, sums + a[:, lane] * b[:, lane])
            return model.round(Exact(sums, np.zeros(len(a), np.int64))).results

        yield Hypothesis("partial sums rounded", f"each partial sum is rounded to {into.name}", stepwise)
        for lane in range(lanes if lanes <= 64 else 0):

            def dropped(values: list[NDArray[Any]], _: Sequence[Patterns], lane: int = lane) -> list[NDArray[Any]]:
                a = values[0].copy()
                a[:, lane] = 0.0
                return [a, *values[1:]]

            yield Hypothesis(f"lane {lane} ignored", f"lane {lane} is left out", with_reading(model, dropped))


def _round_values(model: Golden, values: NDArray[np.float64]) -> NDArray[np.float64]:
    assert model.into is not None
    codes = model.round(Exact(values, np.zeros(len(values), np.int64))).results
    rounded: NDArray[np.float64] = whole_table(model.into.values)[codes]
    return rounded


def _streams(model: Golden) -> Found:
    if not model.streams:
        return

    def with_clear(change: Callable[[Patterns], Patterns]) -> Answer:
        return lambda operands: model.compute([change(operands[0]), *operands[1:]])[0].results

    yield Hypothesis("clear ignored", "clear does nothing: sums never start again", with_clear(lambda clear: clear * 0))
    yield Hypothesis(
        "clear a vector late", "clear takes effect one vector late",
        with_clear(lambda clear: np.concatenate([clear[:1], clear[:-1]])),
    )  # fmt: skip

    def loses_first(operands: Sequence[Patterns]) -> Patterns:
        zero = model.operands[1].kind
        assert isinstance(zero, Codes)
        nothing = np.where(operands[0] != 0, zero.format.zero or 0, operands[1]).astype(operands[1].dtype)
        return model.compute([operands[0], nothing, *operands[2:]])[0].results

    yield Hypothesis("clear loses a product", "the product that comes with clear is lost", loses_first)
    if not is_exact(model) and not model.stochastic:
        into = model.into
        assert into is not None

        def stepwise(operands: Sequence[Patterns]) -> Patterns:
            clear, a, b = model.read(operands)[:3]
            with np.errstate(invalid="ignore"):
                products = a * b
            starts = np.flatnonzero(clear) if clear.size and clear[0] else np.append(0, np.flatnonzero(clear))
            lengths = np.diff(starts, append=clear.size)
            registers, results = np.zeros(starts.size), np.zeros(clear.size, into.code_dtype)
            for step in range(int(lengths.max(initial=0))):
                alive = lengths > step
                with np.errstate(invalid="ignore"):
                    sums = registers[alive] + products[starts[alive] + step]
                answers = model.round(Exact(sums, np.zeros(sums.size, np.int64))).results
                results[starts[alive] + step] = answers
                registers[alive] = whole_table(into.values)[answers]
            return results

        yield Hypothesis("sum rounded at each step", "the accumulator is rounded at each step", stepwise)


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
        "word one too large": ("the carry comes one too early: as if the word were one larger",
                               lambda words: np.minimum(words.astype(np.uint64) + 1, mask).astype(words.dtype)),
        "word zero": ("the random word is not used", lambda words: words * 0),
    }  # fmt: skip
    for name, (sentence, change) in changes.items():

        def answer(operands: Sequence[Patterns], change: Callable[[Patterns], Patterns] = change) -> Patterns:
            return model.compute([*operands[:-1], change(operands[-1])])[0].results

        yield Hypothesis(name, sentence, answer)


FAMILIES = (_rounding, _overflow, _operands, _sums, _streams, _random_words, _arithmetic, _results)

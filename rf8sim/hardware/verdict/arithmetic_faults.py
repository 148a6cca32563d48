"""Faults in the arithmetic: operands, cut or doubly rounded results, signs, bits that are stuck."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...formats import get_layout
from ..golden.golden import OPERATIONS, Exact, Golden
from ..golden.model import LONG
from ..golden.ports import Bits, Patterns
from .faults import (
    Answer,
    Found,
    Hypothesis,
    code_ports,
    codes_per_octave,
    computed_by,
    is_exact,
    precision,
    rounded_to,
    with_exact,
    with_operands,
    with_reading,
    with_result,
    words_of,
)

__all__ = ["FAMILIES"]


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
                ) -> list[Patterns]:
                    changed = list(operands)
                    changed[place] = _stuck(operands[place], bit, level)
                    return changed

                yield Hypothesis(
                    f"bit {bit} of {port.name} stuck at {level}",
                    f"bit {bit} of operand {port.name} is stuck at {level}", with_operands(model, stuck),
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
    unsigned = model.into is not None and not model.into.signed
    if is_exact(model) or unsigned or model.streams:
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
    if len(model.formats) > 1 and model.operation not in LONG:
        for word, gate in (("or", np.logical_or), ("and", np.logical_and)):
            yield Hypothesis(
                f"signs {word}", f"the sign of the result is the {word} of the operands' signs",
                signed_by(lambda _, signs, gate=gate: gate(signs[0], signs[1])),  # type: ignore[misc]
            )  # fmt: skip
    if model.operation in ("multiply", "divide", "add", "subtract"):
        for place, name in enumerate("ab"):
            yield Hypothesis(
                f"sign of {name}", f"the sign of the result is that of {name} alone",
                signed_by(lambda _, signs, place=place: signs[place]),  # type: ignore[misc]
            )  # fmt: skip


def _arithmetic(model: Golden) -> Found:
    if is_exact(model):
        return
    for digits in range(1, max(12, precision(model) + 4) + 1):
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
            with_exact(model, lambda values, digits=digits: rounded_to(values, digits)),  # type: ignore[misc]
        )  # fmt: skip
    if model.operation in ("add", "subtract") and all(codes_per_octave(fmt) for _, _, fmt in code_ports(model)):
        for digits in range(precision(model) + 3, 0, -1):
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
    return np.where(np.isnan(values), values, (values.view(np.uint64) >> drop << drop).view(np.float64))


FAMILIES = (_operands, _arithmetic, _results)

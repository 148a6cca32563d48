"""Faults in adding terms of different exponents: bits that are shifted out, the wrong shift, carries, where c joins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...arithmetic.operations import exact_sum
from ...codec.dispatch import sum_terms
from ..golden.golden import Exact, Golden
from ..golden.ports import Fixed, Float, Patterns
from .faults import Answer, Found, Hypothesis, exact_of, is_exact, precision, with_reading, words_of
from .float_faults import register_values

__all__ = ["FAMILIES"]

Array = NDArray[np.float64]
Exponents = NDArray[np.int64]
_LOWEST = -4000  # exponent of zero
_NARROW = 16  # bits of a result from which on terms are cut below its precision
_CARRIES = range(1, 9)  # bits above the largest term that an adder may have
_ADDENDS = ("add", "subtract", "fma", "dot", "block_dot")


def _addends(model: Golden) -> bool:
    """Say whether a result is a rounded exact sum of terms."""
    return model.operation in _ADDENDS and model.accumulation is None and not is_exact(model) and not model.stochastic


def _terms(model: Golden, values: Sequence[NDArray[Any]]) -> tuple[Array, Exponents]:
    """Return the terms of a sum, one column each, and their exponents.

    The exponent of a product is the sum of its factors', so its significand is from 1 to 4, as multipliers have it.
    """
    a, b = values[:2]
    if model.operation in ("add", "subtract"):
        terms = np.stack([a, b if model.operation == "add" else -b], axis=1)
        return terms, _exponents(terms)
    first, second = (value if value.ndim == 2 else value[:, None] for value in (a, b))
    terms, exponents = first * second, _exponents(first) + _exponents(second)
    for name in ("scale_a", "scale_b"):
        place = model.find(name)
        if place is not None:
            terms, exponents = terms * values[place][:, None], exponents + _exponents(values[place])[:, None]
    place = model.find("c")
    if place is not None:
        addend = values[place][:, None]
        terms, exponents = (
            np.concatenate(columns, axis=1) for columns in ((terms, addend), (exponents, _exponents(addend)))
        )
    return terms, np.where(terms == 0, _LOWEST, exponents)


def _exponents(values: Array) -> Exponents:
    ordinary = np.isfinite(values) & (values != 0)
    exponents = np.frexp(np.where(ordinary, values, 1.0))[1].astype(np.int64) - 1
    return np.where(ordinary, exponents, _LOWEST)


def _total(terms: Array) -> Array:
    """Return the sum of each row, rounded to odd; what is not finite is added as IEEE 754 does."""
    with np.errstate(invalid="ignore"):
        if terms.shape[1] == 2:
            return exact_sum(terms[:, 0], terms[:, 1])
        finite = np.isfinite(terms)
        special = np.where(finite, 0.0, terms).sum(axis=1)
        sums = np.empty(len(terms))
        sum_terms(np.ascontiguousarray(np.where(finite, terms, 0.0).T), True, sums)
    return np.where(special == 0, sums, special)


def _sum_of(model: Golden, terms: Array) -> Array:
    """Return sums whose zeros have the sign that the mode gives them."""
    if model.rounding.mode == "down" and terms.shape[1] == 2 and model.operation != "dot":
        return -_total(-terms)
    return _total(terms)


def _summed(model: Golden, change: Callable[[Array, Exponents], Array]) -> Answer:
    """Return the answers of a design that adds changed terms."""

    def answer(operands: Sequence[Patterns]) -> Patterns:
        terms, exponents = _terms(model, model.read(operands))
        changed = np.where(np.isfinite(terms), change(terms, exponents), terms)
        return _rounded(model, _sum_of(model, changed))

    return answer


def _rounded(model: Golden, values: Array) -> Patterns:
    return model.round(Exact(values, np.zeros(values.size, np.int64))).results


def _cut(terms: Array, exponents: Exponents, fraction: int, anchor: Callable[[Exponents], Any], how: Any) -> Array:
    """Cut terms so many bits below an exponent."""
    place = fraction - np.maximum(anchor(exponents), _LOWEST)
    cut: Array = np.ldexp(how(np.ldexp(terms, np.minimum(place, 3000)[:, None])), -np.minimum(place, 3000)[:, None])
    return cut


def _largest(exponents: Exponents) -> Exponents:
    largest: Exponents = exponents.max(axis=1)
    return largest


def _of_terms(exponents: Exponents, columns: slice) -> Exponents:
    return _largest(exponents[:, columns])


_HOW = {"cut off": np.trunc, "rounded down": np.floor}


def _shifted_out(model: Golden) -> Found:
    """Yield that bits of terms below some place are lost, with the largest term or another as the reference."""
    if not _addends(model) or model.result.bits < _NARROW:
        return
    digits = precision(model)
    fractions = sorted(range(max(digits - 14, 4), digits + 6), key=lambda fraction: (abs(fraction - digits), fraction))
    for reference, anchor in _anchors(model):
        for fraction in fractions:
            for words, how in _HOW.items():
                change = partial(_cut, fraction=fraction, anchor=anchor, how=how)
                sentence = (
                    f"terms are aligned to {reference}, and what is shifted out more than {fraction} bits below it is "
                    f"{words}: no sticky bit"
                )
                name = f"aligned to {reference}, {words} at {fraction} bits"
                yield Hypothesis(name, sentence, _summed(model, change))


def _anchors(model: Golden) -> Iterator[tuple[str, Callable[[Exponents], Exponents]]]:
    yield "the largest term", _largest
    addend = model.find("c") is not None
    if model.operation in ("add", "subtract"):
        names = {"a": slice(0, 1), "b": slice(1, 2)}
    elif model.operation == "fma":
        names = {"the product": slice(0, 1), "c": slice(1, 2)}
    else:
        names = {"the first product": slice(0, 1)}
        if addend:
            names |= {"the largest product": slice(0, -1), "c": slice(-1, None)}
    for reference, columns in names.items():
        yield reference, partial(_of_terms, columns=columns)


def _carries(model: Golden) -> Found:
    """Yield that a sum has no bits for carries beyond its largest term, or that rounding carries into nothing."""
    if _addends(model):
        for bits in _CARRIES:
            yield Hypothesis(
                f"carry lost {bits} bit{'s' * (bits > 1)} above the largest term",
                f"the sum has {bits} bit{'s' * (bits > 1)} from the exponent of its largest term on, and a carry out of"
                " them is lost", _wrapped(model, bits),
            )  # fmt: skip
    kind = model.result.kind
    if isinstance(kind, Float) and model.rounds:
        mantissa = kind.layout.mantissa_bits
        for name, words, by in (
            ("exponent", "the exponent stays as it is", 1 << mantissa),
            ("significand", "the result is not rounded", 1),
        ):
            yield Hypothesis(
                f"rounding carry lost, {name} kept", f"where rounding carries into the next octave {words}",
                _without_carry(model, by, (1 << mantissa) - 1),
            )  # fmt: skip


def _wrapped(model: Golden, bits: int) -> Answer:
    def answer(operands: Sequence[Patterns]) -> Patterns:
        terms, exponents = _terms(model, model.read(operands))
        sums = _sum_of(model, terms)
        beyond = np.ldexp(1.0, np.minimum(_largest(exponents) + bits, 1000))
        usual = np.isfinite(sums) & (np.abs(sums) >= beyond)
        return _rounded(model, np.where(usual, np.fmod(sums, np.where(usual, beyond, 1.0)) + 0.0, sums))

    return answer


def _without_carry(model: Golden, by: int, fraction: int) -> Answer:
    def answer(operands: Sequence[Patterns]) -> Patterns:
        exact = exact_of(model, operands)
        right = model.round(exact, words_of(model, operands)).results
        values = model.result.kind.values(right)
        magnitude = right & right.dtype.type(fraction)
        carried = np.isfinite(exact.values) & (np.abs(values) > np.abs(exact.values)) & (magnitude == 0)
        return np.where(carried, right - right.dtype.type(by), right)

    return answer


def _joins(model: Golden) -> Found:
    """Yield that the operand c comes into a sum of products earlier or later, or not at all."""
    place = model.find("c")
    if place is None or (is_exact(model) and not isinstance(model.result.kind, Fixed)):
        return
    without = model.changed(operands=(*model.operands[:place], *model.operands[place + 1 :]))

    def left_out(operands: Sequence[Patterns]) -> Patterns:
        others = [*operands[:place], *operands[place + 1 :]]
        if model.operation == "fma":
            return without.changed(operation="multiply").compute(others)[0].results
        return without.compute(others)[0].results

    yield Hypothesis("c left out", "operand c is not added", left_out)
    if model.operation != "dot":
        return
    for name, sign in (("c subtracted", -1.0), ("c added twice", 2.0)):
        yield Hypothesis(name, name.replace("c ", "operand c is "), with_reading(model, _scaled(place, sign)))
    if is_exact(model) or model.stochastic:
        return

    def after(operands: Sequence[Patterns]) -> Patterns:
        sums = without.exact_of([*operands[:place], *operands[place + 1 :]])[0]
        products = sums.values if model.accumulation is not None else without.round(sums).results
        if model.accumulation is None:
            products = model.result.kind.values(products)
        return _rounded(model, exact_sum(np.asarray(products, np.float64), model.read(operands)[place]))

    yield Hypothesis("c after the sum", "operand c is added after the sum of products has been rounded", after)
    if model.accumulation is None:
        for name in dict.fromkeys((model.result.kind.name, "float32", "float16")):
            for words, first in (("first", True), ("last", False)):
                yield Hypothesis(
                    f"c {words} in sums of {name}",
                    f"operand c comes {words}, and each sum is rounded to {name}",
                    _in_turn(model, name, place, first),
                )  # fmt: skip


def _scaled(place: int, factor: float) -> Callable[[list[NDArray[Any]], Sequence[Patterns]], list[NDArray[Any]]]:
    return lambda values, _: [*values[:place], values[place] * factor, *values[place + 1 :]]


def _in_turn(model: Golden, name: str, place: int, first: bool) -> Answer:
    def answer(operands: Sequence[Patterns]) -> Patterns:
        values = model.read(operands)
        products = values[0] * values[1]
        columns = [values[place], *products.T] if first else [*products.T, values[place]]
        sums: Array = columns[0]
        for column in columns[1:]:
            sums = register_values(model, name, exact_sum(sums, column))
        return _rounded(model, sums)

    return answer


FAMILIES: tuple[Callable[[Golden], Found], ...] = (_joins, _shifted_out, _carries)
"""The families of faults, each from a model to hypotheses."""

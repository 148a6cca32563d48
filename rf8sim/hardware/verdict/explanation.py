"""One wrong answer in words and numbers a person can check by hand: the only place that asks the oracle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from ... import reference
from ...arithmetic.operations import Flags
from ...reference import Number
from ..golden.golden import Answers, Golden, State
from ..golden.model import LONG
from ..golden.ports import Bits, Codes, Kind, Patterns, Port, Relation
from .comparison import places

__all__ = ["Mismatch", "Stimulus", "Value", "explain", "hexadecimal", "show_flags", "show_number"]


@dataclass(frozen=True)
class Value:
    """A field: its name, its digits, and what they stand for."""

    name: str
    pattern: str
    value: str

    def __str__(self) -> str:
        return f"{self.pattern}" + (f" ({self.value})" if self.value else "")


@dataclass(frozen=True)
class Mismatch:
    """One wrong answer, explained.

    Attributes
    ----------
    vector, line : int
        Number of the vector, from 1, and of the line.
    stimulus : str
        The class of vectors that it is of.
    operands : tuple of Value
        What was asked.
    exact : str
        The exact real result, before it is rounded.
    expected, got : Value
        What is right, and what was answered.
    places : int or None
        How far the answer is above the right one in the order of all values.
    expected_flags, got_flags : str or None
        Flags in words; what was answered only where flags are compared.
    kind : str
        What kind of input it is: a tie, an overflow.
    """

    vector: int
    line: int
    stimulus: str
    operands: tuple[Value, ...]
    exact: str
    expected: Value
    got: Value
    places: int | None
    expected_flags: str
    got_flags: str | None
    kind: str

    def sentences(self) -> list[str]:
        """Return it as two lines of text."""
        asked = ", ".join(f"{value.name} = {value}" for value in self.operands)
        off = ""
        if self.places:
            away = abs(self.places)
            off = f", {away:,} place{'s' * (away != 1)} too {'high' if self.places > 0 else 'low'}"
        flags = f"; flags {self.got_flags} instead of {self.expected_flags}" if self.got_flags is not None else ""
        return [
            f"line {self.line} ({self.stimulus}, {self.kind}): {asked}",
            f"    exact {self.exact}, expected {self.expected}, got {self.got}{off}{flags}",
        ]


def hexadecimal(port: Port, pattern: Any) -> str:
    """Return a field's digits."""
    integer = 0
    for lane in reversed(np.atleast_1d(pattern).tolist()):
        integer = integer << port.kind.bits | lane
    return f"{integer:0{port.digits}X}"


def show_number(x: Number) -> str:
    """Return a number as a decimal fraction if it is a short one, else as a quotient and about how much it is.

    Examples
    --------
    >>> show_number(Fraction(21, 64)), show_number(-0.0), show_number(Fraction(1, 3))
    ('0.328125', '-0', '1/3 (about 0.333333333)')
    """
    if not isinstance(x, Fraction):
        return "NaN" if math.isnan(x) else "-0" if x == 0 and math.copysign(1, x) < 0 else f"{x:.17g}"
    if abs(x) < Fraction(2) ** 1000 and Fraction(float(x)) == x and float(repr(float(x))) == float(x):
        return f"{float(x)!r}".removesuffix(".0")
    about = f"{float(x):.9g}" if abs(x) < Fraction(2) ** 1000 else "huge"
    quotient = f"{x.numerator}/{x.denominator}"
    return f"{quotient} (about {about})" if len(quotient) <= 24 else f"about {about}"


def show_flags(flags: int) -> str:
    """Return flags in words.

    Examples
    --------
    >>> show_flags(5), show_flags(0)
    ('inexact+overflow', 'none')
    """
    names = [flag.name.lower().replace("_", " ") for flag in Flags if flags & flag and flag.name]
    known = sum(Flags)
    names += [f"bit {bit}" for bit in range(8) if flags & ~known & 1 << bit]
    return "+".join(names) or "none"


def _value(port: Port, pattern: Any) -> Value:
    lanes = np.atleast_1d(pattern).tolist()
    shown = "" if isinstance(port.kind, Bits) else ", ".join(_lane(port.kind, lane) for lane in lanes[:4])
    return Value(port.name, hexadecimal(port, pattern), shown + (", ..." if len(lanes) > 4 else ""))


def _lane(kind: Kind, pattern: int) -> str:
    if isinstance(kind, Relation):
        return kind.words(pattern)
    alias = isinstance(kind, Codes) and int(kind.format.canonical[pattern]) != pattern
    nan = isinstance(kind, Codes) and kind.format.nan is not None and math.isnan(kind.format.values[pattern])
    return show_number(kind.number(pattern)) + (", alias" if alias and not nan else "")


def exact_result(model: Golden, operands: Sequence[Any], state: State | None) -> Number:
    """Return the exact result of one vector, by the oracle; of a stream from what the accumulator holds after it."""
    if state is not None:
        plus, minus, nan, invalid = (state.specials > 0).tolist()
        if nan or invalid or (plus and minus):
            return math.nan
        partial = sum(map(Fraction, state.parts.tolist()), Fraction(0))
        return math.inf if plus else -math.inf if minus else partial or 0.0
    numbers = {
        port.name: [port.kind.number(lane) for lane in np.atleast_1d(pattern).tolist()]
        for port, pattern in zip(model.operands, operands, strict=True)
        if not isinstance(port.kind, Bits)
    }
    if model.operation in LONG:
        return _exact_sum(numbers)
    x, y, c = (numbers[name][0] if name in numbers else 0.0 for name in "abc")
    match model.operation:
        case "add":
            return reference.add(x, y, model.rounding.mode)
        case "subtract" | "compare":
            return reference.add(x, -y, model.rounding.mode)
        case "multiply":
            return reference.multiply(x, y)
        case "divide":
            return reference.divide(x, y)
        case "fma":
            return reference.add(reference.multiply(x, y), c, model.rounding.mode)
        case "sqrt":
            return reference.sqrt(x)
        case "minimum":
            return reference.minimum(x, y)
        case "maximum":
            return reference.maximum(x, y)
    return next(iter(numbers.values()))[0]


def _exact_sum(numbers: dict[str, list[Number]]) -> Number:
    """Return the sum of the products of a and b, times their scales, and of c, as far as there are any."""
    total: Number = 0.0
    for factors in zip(numbers["a"], numbers["b"], strict=True):
        term = reference.multiply(*factors)
        for name in ("scale_a", "scale_b"):
            term = reference.multiply(term, numbers[name][0]) if name in numbers else term
        total = reference.add(total, term)
    return reference.add(total, numbers["c"][0]) if "c" in numbers else total


class Stimulus(NamedTuple):
    """One vector, without its answer.

    Attributes
    ----------
    vector, line : int
        Number of the vector, from 0, and of its line, from 1.
    name : str
        The class of vectors that it is of.
    operands : sequence of ndarray
        Arrays of one element.
    """

    vector: int
    line: int
    name: str
    operands: Sequence[Patterns]


def explain(
    model: Golden,
    stimulus: Stimulus,
    answers: Answers,
    got: Any,
    got_flags: int | None,
    state: State | None,
) -> Mismatch:
    """Explain one wrong answer.

    Parameters
    ----------
    model : Golden
        What is right.
    stimulus : Stimulus
        What was asked.
    answers : Answers
        What is to be answered: arrays of one element.
    got, got_flags : int
        What was answered; None if flags are not compared.
    state : State, optional
        What an accumulator holds after this vector.

    Returns
    -------
    Mismatch
        The explanation.
    """
    kind, result = model.result.kind, model.result
    answer = np.array([got], dtype=answers.results.dtype)
    off, sense = places(kind, answer, answers.results)
    flags = int(answers.flags[0])
    inexact = flags & Flags.INEXACT
    names = {
        "tie": bool(answers.ties[0]), "overflow": bool(flags & Flags.OVERFLOW),
        "underflow": bool(flags & Flags.UNDERFLOW), "invalid": bool(flags & Flags.INVALID),
        "division by zero": bool(flags & Flags.DIVIDE_BY_ZERO),
    }  # fmt: skip
    holding = [name for name, holds in names.items() if holds]
    fallback = "inexact" if inexact else "exact"
    each = [patterns[0] for patterns in stimulus.operands]
    return Mismatch(
        stimulus.vector + 1,
        stimulus.line,
        stimulus.name,
        tuple(_value(port, pattern) for port, pattern in zip(model.operands, each, strict=True)),
        show_number(exact_result(model, each, state)),
        _value(result, answers.results[0]),
        _value(result, answer[0]),
        int(off[0]) if sense[0] else None,
        show_flags(flags),
        None if got_flags is None else show_flags(got_flags),
        ", ".join(holding) or fallback,
    )

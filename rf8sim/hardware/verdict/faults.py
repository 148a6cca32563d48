"""A golden model with one step changed: what a hypothesis about a faulty design is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...codec.codec import whole_table
from ...formats import Format
from ..golden.golden import Exact, Golden
from ..golden.ports import Codes, Float, Patterns, Port

__all__ = [
    "Answer", "Found", "Hypothesis", "Misreading", "code_ports", "codes_per_octave", "computed_by", "exact_of",
    "is_exact", "misread", "precision", "residual_fields", "rounded_to", "with_codes", "with_exact", "with_operands",
    "with_reading", "with_result", "words_of",
]  # fmt: skip

Answer = Callable[[Sequence[Patterns]], Patterns]


class Hypothesis(NamedTuple):
    """A fault that a design may have.

    Attributes
    ----------
    name : str
        Short, for programs.
    sentence : str
        What the design does, for people.
    answer : callable
        From operands to what it would answer.
    """

    name: str
    sentence: str
    answer: Answer


Found: TypeAlias = Iterator[Hypothesis]


def computed_by(model: Golden) -> Answer:
    """Return the answers of a design that is right by another model."""
    return lambda operands: model.compute(operands)[0].results


class _Last:
    """The latest exact results of a model: many hypotheses need those of the same operands."""

    def __init__(self) -> None:
        self.model: Golden | None = None
        self.operands: list[Patterns] = []
        self.exact: Exact | None = None


_last = _Last()


def exact_of(model: Golden, operands: Sequence[Patterns]) -> Exact:
    """Return the exact results of operands, computed once for as long as the same arrays are asked for."""
    same = len(operands) == len(_last.operands) and all(x is y for x, y in zip(operands, _last.operands, strict=True))
    if _last.exact is None or not same or _last.model is not model:
        _last.model, _last.operands, _last.exact = model, list(operands), model.exact_of(operands)[0]
    return _last.exact


def words_of(model: Golden, operands: Sequence[Patterns]) -> Patterns | None:
    """Return the random words among operands, if there are any."""
    return operands[-1] if model.stochastic else None


Read = Callable[[list[NDArray[Any]], Sequence[Patterns]], list[NDArray[Any]]]
"""From the numbers that operands stand for, and their patterns, to the numbers that a design takes them for."""


@dataclass(frozen=True)
class Misreading:
    """The answers of a design that reads its operands otherwise, at all vectors or at some.

    Attributes
    ----------
    model : Golden
        What is right.
    read : callable
        How operands are read.
    change : callable, optional
        What the design gets for operands, if its reading is right.
    """

    model: Golden
    read: Read
    change: Callable[[Sequence[Patterns]], Sequence[Patterns]] | None = None

    def values(self, operands: Sequence[Patterns]) -> list[NDArray[Any]]:
        """Return the numbers that the design takes its operands for."""
        return self.read(self.model.read(operands), operands)

    def __call__(self, operands: Sequence[Patterns]) -> Patterns:
        """Return the answers if all vectors are read so."""
        if self.change is not None:
            return self.model.compute(self.change(operands))[0].results
        return self._answers(self.values(operands), operands)

    def only(self, where: NDArray[np.bool_]) -> Answer:
        """Return the answers if operands are read so at some vectors, and rightly at all others."""

        def answer(operands: Sequence[Patterns]) -> Patterns:
            pairs = zip(self.values(operands), self.model.read(operands), strict=True)
            values = [np.where(where.reshape(-1, *[1] * (wrong.ndim - 1)), wrong, right) for wrong, right in pairs]
            return self._answers(values, operands)

        return answer

    def _answers(self, values: list[NDArray[Any]], operands: Sequence[Patterns]) -> Patterns:
        return self.model.round(self.model.exact(values)[0], words_of(self.model, operands)).results


def with_reading(model: Golden, read: Read) -> Answer:
    """Return the answers of a design that reads its operands otherwise."""
    return Misreading(model, read)


def with_operands(model: Golden, change: Callable[[Sequence[Patterns]], Sequence[Patterns]]) -> Answer:
    """Return the answers of a design that gets other operands."""
    return Misreading(model, lambda _, operands: model.read(change(operands)), change)


def with_exact(model: Golden, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Answer:
    """Return the answers of a design that changes the exact result before it is rounded."""

    def answer(operands: Sequence[Patterns]) -> Patterns:
        exact = exact_of(model, operands)
        with np.errstate(all="ignore"):
            return model.round(Exact(change(exact.values), exact.flags), words_of(model, operands)).results

    return answer


def with_result(model: Golden, change: Callable[[Patterns], Patterns]) -> Answer:
    """Return the answers of a design that changes the right result."""
    return lambda operands: change(model.round(exact_of(model, operands), words_of(model, operands)).results)


def with_codes(model: Golden, table: NDArray[Any]) -> Answer:
    """Return the answers of a design that answers ``table[code]`` for each code."""
    return with_result(model, lambda results: np.asarray(whole_table(table.astype(results.dtype))[results]))


def code_ports(model: Golden) -> list[tuple[int, Port, Format]]:
    """Return the operands that hold codes: their place, the port, the format."""
    return [(i, port, port.kind.format) for i, port in enumerate(model.operands) if isinstance(port.kind, Codes)]


def misread(
    model: Golden, name: str, sentence: str, table: Callable[[Format], NDArray[np.float64] | None]
) -> Iterator[Hypothesis]:
    """Yield hypotheses of another table of values: of each operand that holds codes, and of all."""
    tables = {i: table(fmt) for i, _, fmt in code_ports(model)}
    changed = {i: new for i, new in tables.items() if new is not None}
    sets = [*([i] for i in changed), *([list(changed)] if len(changed) > 1 else [])]
    for places in sets:
        which = " and ".join(model.operands[i].name for i in places)

        def read(
            values: list[NDArray[Any]], operands: Sequence[Patterns], places: list[int] = places
        ) -> list[NDArray[Any]]:
            return [whole_table(changed[i])[operands[i]] if i in places else value for i, value in enumerate(values)]

        yield Hypothesis(f"{name} of {which}", sentence.format(which), with_reading(model, read))


def is_exact(model: Golden) -> bool:
    """Say whether nothing is rounded."""
    return not model.rounds


def precision(model: Golden) -> int:
    """Return how many significant bits a rounded result may have: of a format, as many as its codes."""
    kind = model.result.kind
    return kind.layout.precision if isinstance(kind, Float) else kind.bits


def codes_per_octave(fmt: Format) -> int | None:
    """Return how many codes apart a value and its double are; None if that is not the same everywhere."""
    side = fmt.sides[0]
    codes, values = side.codes.astype(np.int64), side.magnitudes
    top = values[-1] / 2
    for step in (1 << bit for bit in range(fmt.bits)):
        inside = (values <= top) & (values >= max(fmt.subnormals_below or 0, 4 * fmt.smallest))
        index = np.clip(codes[inside] + step, 0, fmt.values.size - 1)
        if inside.any() and np.array_equal(fmt.values[index], 2 * values[inside]):
            return step
    return None


def residual_fields(fmt: Format) -> tuple[NDArray[np.int64], int]:
    """Return all codes of an RF format, and the mask of the residual field."""
    assert fmt.depth is not None
    codes: NDArray[np.int64] = np.arange(1 << fmt.bits)
    return codes, (1 << fmt.depth.bit_length()) - 1


def rounded_to(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    """Round numbers to so many significant bits, to nearest even; what is not finite stays."""
    drop = np.uint64(53 - digits)
    bits = values.view(np.uint64)
    half = (np.uint64(1) << drop - np.uint64(1)) - np.uint64(1)
    rounded = bits + half + (bits >> drop & np.uint64(1)) >> drop << drop
    return np.where(np.isfinite(values), rounded.view(np.float64), values)

"""The answers that a diagnosis explains, and hypotheses tried on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..golden.golden import Answers, Golden, joined
from ..golden.ports import Patterns
from ..vectors.vectors import VectorSet
from .comparison import Comparison
from .features import Feature, features
from .findings import Finding
from .hypotheses import Hypothesis

__all__ = ["REMEMBERED", "Case", "Trial", "Wrong", "collect", "confirmed", "predicted", "tried"]

Mask = NDArray[np.bool_]

REMEMBERED = 1 << 20
"""Wrong answers that are kept for a diagnosis."""

_MOST = 1 << 19  # vectors that are diagnosed at one time
_SAMPLE = 1 << 11  # of the wrong answers, and of the right ones, on which a hypothesis is tried first
_LONGEST = 1 << 23  # vectors of a stream over which a hypothesis is confirmed
_PREFIX = 200  # wrong answers of a stream up to which a hypothesis is tried first
_PIECE = 1 << 15


class Wrong(NamedTuple):
    """The wrong answers of a design.

    Attributes
    ----------
    numbers : ndarray of int64
        Numbers of the vectors, ascending.
    got : ndarray
        What was answered to them.
    upto : int
        How many vectors were answered.
    unanswered : ndarray of int64
        Numbers of vectors whose answers cannot be read: nothing is known of them.
    """

    numbers: NDArray[np.int64]
    got: Patterns
    upto: int
    unanswered: NDArray[np.int64]

    @property
    def last(self) -> int:
        """How many vectors decide: of more wrong answers than are remembered, those up to the last one."""
        return min(self.upto, int(self.numbers[-1]) + 1) if self.numbers.size >= REMEMBERED else self.upto


@dataclass(frozen=True, eq=False)
class Case:
    """Vectors, right answers, and those of a design.

    Attributes
    ----------
    model : Golden
        What is right.
    same : Comparison
        When two answers count as the same.
    operands : tuple of ndarray
        Bit patterns.
    answers : Answers
        The right ones.
    got : ndarray
        The design's; the right ones where it gave none.
    is_wrong, answered : ndarray of bool
        Which answers are wrong, and which there are.
    complete : bool
        Whether these are all vectors that were answered, in order.
    """

    model: Golden
    same: Comparison
    operands: tuple[Patterns, ...]
    answers: Answers
    got: Patterns
    is_wrong: Mask
    answered: Mask
    complete: bool

    @property
    def size(self) -> int:
        """How many vectors there are."""
        return int(self.got.size)

    @cached_property
    def wrong(self) -> int:
        """How many wrong answers there are."""
        return int(np.count_nonzero(self.is_wrong))

    @cached_property
    def right(self) -> Mask:
        """Which answers are right."""
        return ~self.is_wrong & self.answered

    @cached_property
    def sample(self) -> NDArray[np.int64]:
        """Vectors on which hypotheses are tried first; of a stream those up to some wrong answers."""
        if self.model.streams:
            numbers = np.flatnonzero(self.is_wrong)
            return np.arange(min(int(numbers[min(_PREFIX, numbers.size) - 1]) + 2, self.size))
        parts = []
        for where in (self.is_wrong, self.right):
            numbers = np.flatnonzero(where)
            parts.append(numbers[:: max(1, -(-numbers.size // _SAMPLE))])
        return np.concatenate(parts)

    @cached_property
    def sampled(self) -> list[Patterns]:
        """The operands of the sample."""
        return [patterns[self.sample] for patterns in self.operands]

    @cached_property
    def features(self) -> list[Feature]:
        """What is known of each vector."""
        return features(self.model, self.operands, self.answers, self.exact)

    @cached_property
    def exact(self) -> NDArray[Any]:
        """The exact results."""
        pieces, state = [], None
        for start in range(0, self.size, _PIECE):
            exact, state = self.model.exact_of([patterns[start : start + _PIECE] for patterns in self.operands], state)
            pieces.append(exact.values)
        return np.concatenate(pieces)

    def fits(self, results: Patterns, where: Any = slice(None)) -> Mask:
        """Say where results are the design's, or could be."""
        fits: Mask = self.same.right(self.model.result.kind, results, self.got[where]) | ~self.answered[where]
        return fits

    def finding(self, hypothesis: Hypothesis, results: Patterns) -> Finding:
        """Return what a hypothesis that predicts these results explains."""
        fits = self.fits(results)
        explained, false = np.count_nonzero(fits & self.is_wrong), np.count_nonzero(~fits & ~self.is_wrong)
        return Finding(hypothesis.name, hypothesis.sentence, int(explained), self.wrong, int(false), self.size)


def collect(asked: VectorSet, wrong: Wrong, same: Comparison) -> Case:
    """Return the vectors that were answered: of very many the wrong ones, and as many right ones as there is room."""
    upto = wrong.last
    numbers: NDArray[np.int64] = np.arange(min(upto, _MOST) if asked.model.streams else upto)
    complete = upto <= _MOST
    if not complete and not asked.model.streams:
        step = max(1, -(-wrong.numbers.size // (_MOST // 2)))
        numbers = np.union1d(wrong.numbers[::step], numbers[:: -(-upto // (_MOST // 2))])
    operands = _operands(asked, numbers, upto)
    answers = _answers(asked.model, operands)
    answered = ~np.isin(numbers, wrong.unanswered)
    place = np.searchsorted(wrong.numbers, numbers)
    is_wrong = np.zeros(numbers.size, dtype=np.bool_)
    inside = place < wrong.numbers.size
    is_wrong[inside] = wrong.numbers[place[inside]] == numbers[inside]
    got = answers.results.copy()
    got[is_wrong] = wrong.got[place[is_wrong]]
    return Case(asked.model, same, operands, answers, got, is_wrong, answered, complete)


def _operands(asked: VectorSet, numbers: NDArray[np.int64], upto: int) -> tuple[Patterns, ...]:
    parts = []
    for start, block in _blocks(asked, upto):
        first, last = np.searchsorted(numbers, [start, start + len(block[0])])
        chosen = numbers[first:last] - start
        if chosen.size == len(block[0]):
            parts.append(block)
        elif chosen.size:
            parts.append(tuple(patterns[chosen] for patterns in block))
    return tuple(map(np.concatenate, zip(*parts, strict=True)))


def _blocks(asked: VectorSet, upto: int) -> Iterator[tuple[int, tuple[Patterns, ...]]]:
    start = 0
    for operands in asked.operand_blocks():
        size = min(len(operands[0]), upto - start)
        if size <= 0:
            return
        yield start, tuple(patterns[:size] for patterns in operands)
        start += size


def _answers(model: Golden, operands: Sequence[Patterns]) -> Answers:
    pieces, state = [], None
    for start in range(0, len(operands[0]), 4 * _PIECE):
        answers, state = model.compute([patterns[start : start + 4 * _PIECE] for patterns in operands], state)
        pieces.append(answers)
    return joined(pieces)


class Trial(NamedTuple):
    """A hypothesis on a sample.

    Attributes
    ----------
    hypothesis : Hypothesis
        What was tried.
    fits : ndarray of bool
        Where it predicts the design's answer, over the sample.
    changes : ndarray of bool
        Where it predicts another answer than the right one.
    explains_all : bool
        Whether it predicts all wrong answers of the sample.
    """

    hypothesis: Hypothesis
    fits: Mask
    changes: Mask
    explains_all: bool


def tried(case: Case, hypothesis: Hypothesis) -> Trial | None:
    """Try a hypothesis on a sample; None if it has no sense there."""
    sample = case.sample
    results = predicted(hypothesis, case.sampled)
    if results is None:
        return None
    fits = case.fits(results, sample)
    changes = ~case.same.right(case.model.result.kind, results, case.answers.results[sample])
    return Trial(hypothesis, fits, changes, bool(fits[case.is_wrong[sample]].all()))


def predicted(hypothesis: Hypothesis, operands: Sequence[Patterns]) -> Patterns | None:
    """Return what a hypothesis predicts; None where it has no sense (a result that its type cannot hold)."""
    try:
        with np.errstate(all="ignore"):
            return hypothesis.answer(operands)
    except ValueError:
        return None


def confirmed(asked: VectorSet, wrong: Wrong, case: Case, hypothesis: Hypothesis) -> bool:
    """Say whether a hypothesis predicts all answers, where it does so for some of the vectors."""
    if case.complete:
        return True
    last = wrong.last
    blocks = _blocks(asked, last)
    if case.model.streams:  # what comes first decides what follows
        if last > _LONGEST:
            return False
        blocks = iter([(0, tuple(map(np.concatenate, zip(*(block for _, block in blocks), strict=True))))])
    for start, operands in blocks:
        results, right = predicted(hypothesis, operands), case.model.compute(operands)[0].results
        inside = slice(*np.searchsorted(wrong.numbers, [start, start + right.size]))
        right[wrong.numbers[inside] - start] = wrong.got[inside]
        known = ~np.isin(np.arange(start, start + right.size), wrong.unanswered)
        if results is None or not (case.same.right(case.model.result.kind, results, right) | ~known).all():
            return False
    return True

"""A guess at the fault of a design, proved by predicting its answers.

A hypothesis (`hypotheses`) is proved if it reproduces every answer of the design, right and wrong, over
all vectors. If none is, the best one is reported with the share that it explains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..golden.golden import Answers
from ..golden.ports import Patterns
from ..vectors.vectors import VectorSet
from .comparison import Comparison
from .hypotheses import Hypothesis, hypotheses

__all__ = ["Finding", "Wrong", "diagnose"]

_SAMPLE = 1 << 12  # wrong answers that a hypothesis must explain before it is tried on all vectors
_SHOWN = 3
_LATEST = 4  # vectors that an answer may come late


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


@dataclass(frozen=True)
class Finding:
    """What a hypothesis explains.

    Attributes
    ----------
    name, sentence : str
        The hypothesis.
    explained, wrong : int
        How many of the wrong answers it predicts.
    false : int
        How many right answers it predicts to be wrong, or otherwise wrong.
    vectors : int
        Over how many vectors that was tried.
    """

    name: str
    sentence: str
    explained: int
    wrong: int
    false: int
    vectors: int

    @property
    def proved(self) -> bool:
        """Whether it predicts every answer."""
        return self.explained == self.wrong and not self.false

    def statement(self) -> str:
        """Say it in words."""
        if self.proved:
            return (
                f"{self.sentence}: this explains all {self.wrong:,} wrong results and predicts every one of the "
                f"{self.vectors:,} results"
            )
        share = 100 * self.explained / self.wrong
        false = f", and {self.false:,} right ones would be wrong" if self.false else ""
        return (
            f"{self.sentence}: this explains {self.explained:,} of {self.wrong:,} wrong results ({share:.0f} %){false}"
        )


def diagnose(
    asked: VectorSet,
    wrong: Wrong,
    comparison: Comparison | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Finding]:
    """Find what fault explains wrong answers.

    Parameters
    ----------
    asked : VectorSet
        The vectors.
    wrong : Wrong
        The wrong answers.
    comparison : Comparison, optional
        When two answers count as the same.
    progress : callable, optional
        Called with a word, the hypotheses tried, and those in all.

    Returns
    -------
    list of Finding
        The hypotheses that are proved, at most three; if there is none, the best, unless it explains next to nothing.
    """
    same = comparison or Comparison()
    model = asked.model
    # Of more wrong answers than were remembered, the vectors up to the last one tell.
    upto = min(wrong.upto, int(wrong.numbers[-1]) + 1) if wrong.numbers.size >= 1 << 20 else wrong.upto
    tried: list[tuple[int, Hypothesis]] = []
    every = list(hypotheses(model))
    sample = _sample(asked, wrong, upto)
    for count, hypothesis in enumerate(every):
        if progress is not None:
            progress("diagnosing", count, len(every))
        predicted = _predicted(hypothesis, sample.operands)
        if predicted is None:
            continue
        fits = same.right(model.result.kind, predicted[sample.places], sample.got)
        tried.append((int(np.count_nonzero(fits)), hypothesis))
    full = [hypothesis for explained, hypothesis in tried if explained == sample.got.size]
    best = max(tried, key=lambda pair: pair[0], default=(0, None))
    partial = [best[1]] if not full and best[1] is not None and best[0] * 4 >= sample.got.size else []
    findings = _tried_on_all(asked, wrong, upto, full or partial, same, late=not full)
    proved = [finding for finding in findings if finding.proved]
    if proved:
        return proved[:_SHOWN]
    ranked = sorted(findings, key=lambda finding: finding.explained - finding.false, reverse=True)
    return [finding for finding in ranked[:1] if finding.explained * 4 >= finding.wrong]


class _Sample(NamedTuple):
    """Operands to try hypotheses on, the places of wrong answers among them, and these."""

    operands: tuple[Patterns, ...]
    places: NDArray[np.int64]
    got: Patterns


def _sample(asked: VectorSet, wrong: Wrong, upto: int) -> _Sample:
    """Return some wrong vectors; of a stream all vectors, for each depends on those before."""
    if asked.model.streams:
        operands = tuple(map(np.concatenate, zip(*(block for _, block in _blocks(asked, upto)), strict=True)))
        return _Sample(operands, wrong.numbers, wrong.got)
    step = max(1, wrong.numbers.size // _SAMPLE)
    chosen, got = wrong.numbers[::step], wrong.got[::step]
    parts = []
    for start, block in _blocks(asked, upto):
        inside = chosen[(chosen >= start) & (chosen < start + len(block[0]))] - start
        if inside.size:
            parts.append(tuple(patterns[inside] for patterns in block))
    operands = tuple(map(np.concatenate, zip(*parts, strict=True)))
    return _Sample(operands, np.arange(chosen.size), got)


def _blocks(asked: VectorSet, upto: int) -> Iterator[tuple[int, tuple[Patterns, ...]]]:
    start = 0
    for operands in asked.operand_blocks():
        size = min(len(operands[0]), upto - start)
        if size <= 0:
            return
        yield start, tuple(patterns[:size] for patterns in operands)
        start += size


def _predicted(hypothesis: Hypothesis, operands: Sequence[Patterns]) -> Patterns | None:
    """Return what a hypothesis predicts; None where it has no sense (a result that its type cannot hold)."""
    try:
        with np.errstate(all="ignore"):
            return hypothesis.answer(operands)
    except ValueError:
        return None


def _tried_on_all(
    asked: VectorSet, wrong: Wrong, upto: int, chosen: Sequence[Hypothesis], same: Comparison, *, late: bool
) -> list[Finding]:
    """Try hypotheses, and those of a late answer, on all vectors."""
    model = asked.model
    tallies: dict[tuple[str, str], NDArray[np.int64]] = {}

    def count(name: str, sentence: str, predicted: Patterns, got: Patterns, is_wrong: NDArray[np.bool_]) -> None:
        fits = same.right(model.result.kind, predicted, got)
        pair = np.array([np.count_nonzero(fits & is_wrong), np.count_nonzero(~fits & ~is_wrong & answered)])
        tallies[name, sentence] = tallies.get((name, sentence), 0) + pair

    def fits_so_far(hypothesis: Hypothesis) -> bool:
        explained, false = tallies.get((hypothesis.name, hypothesis.sentence), (0, 0))
        return not false and bool(explained == wrong_so_far)

    before: Patterns | None = None
    answered: NDArray[np.bool_] = np.ones(1, dtype=np.bool_)
    state: Any = None
    wrong_so_far = 0
    for start, operands in _whole_stream(asked, upto) if model.streams else _blocks(asked, upto):
        answers, state = model.compute(operands, state)
        got, is_wrong = _as_answered(answers, wrong, start)
        answered = ~np.isin(np.arange(start, start + got.size), wrong.unanswered)
        wrong_so_far += int(np.count_nonzero(is_wrong))
        for hypothesis in chosen:
            predicted = _predicted(hypothesis, operands)
            if predicted is not None:
                count(hypothesis.name, hypothesis.sentence, predicted, got, is_wrong)
        # Those that have predicted every answer so far go on; if there are none, a few that were tried first.
        chosen = [trial for trial in chosen if fits_so_far(trial)] or list(chosen[:_SHOWN])
        if late:
            results = answers.results if before is None else np.concatenate([before, answers.results])
            for by in range(1, _LATEST + 1):
                known = results.size - answers.results.size
                # What came before the first answer is unknown: those are taken as predicted.
                shifted = results[max(known - by, 0) : results.size - by]
                first = got.size - shifted.size
                predicted = np.concatenate([got[:first], shifted])
                words = f"answers lag by {by} vector{'s' * (by > 1)} (unaccounted pipeline stage?)"
                count(f"late by {by}", words, predicted, got, is_wrong)
            before = results[-_LATEST:]
    total = wrong.numbers.size
    complete = {(trial.name, trial.sentence) for trial in chosen}
    return [
        Finding(*key, int(found), total, int(false), upto)
        for key, (found, false) in tallies.items()
        if key in complete or key[0].startswith("late by")
    ]


def _whole_stream(asked: VectorSet, upto: int) -> Iterator[tuple[int, tuple[Patterns, ...]]]:
    """Yield a stream as one block."""
    yield 0, tuple(map(np.concatenate, zip(*(block for _, block in _blocks(asked, upto)), strict=True)))


def _as_answered(answers: Answers, wrong: Wrong, start: int) -> tuple[Patterns, NDArray[np.bool_]]:
    """Return what the design answered, and where that was wrong."""
    size = answers.results.size
    first, last = np.searchsorted(wrong.numbers, [start, start + size])
    places = wrong.numbers[first:last] - start
    got = answers.results.copy()
    got[places] = wrong.got[first:last]
    is_wrong = np.zeros(size, dtype=np.bool_)
    is_wrong[places] = True
    return got, is_wrong

"""The fault of a design, proved by predicting its answers, or at least the place of its wrong answers.

A hypothesis (`hypotheses`) is proved if it reproduces every answer of the design, right and wrong, over all vectors; so
is one that does so where a condition holds, if the other answers are right. If none is, the condition under which
answers are wrong is reported, if it is exact, and else that the fault is unknown. A cause that contradicts an answer is
never named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from ..vectors.vectors import VectorSet
from .cases import Case, Trial, Wrong, collect, confirmed, predicted, tried
from .comparison import Comparison
from .findings import Finding
from .hypotheses import Hypothesis, hypotheses
from .inferred_faults import inferred
from .location import located

__all__ = ["Finding", "Wrong", "diagnose"]

_LATEST = 64  # vectors that an answer may come late
_EARLIEST = 4


def diagnose(
    asked: VectorSet,
    wrong: Wrong,
    comparison: Comparison | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Finding]:
    """Find what fault explains wrong answers, or where they are.

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
        All causes that predict every answer; if there is none, where the wrong answers are, with the causes that
        explain them there; if that is not exact, what is true of them.
    """
    case = collect(asked, wrong, comparison or Comparison())
    everything = [*_suggested(case), *hypotheses(asked.model)]
    trials: list[Trial] = []
    for count, hypothesis in enumerate(everything):
        if progress is not None:
            progress("diagnosing", count, len(everything))
        trial = tried(case, hypothesis)
        if trial is not None:
            trials.append(trial)
    all_proved = _proved(case, trials)
    proved = [_over_all(case, wrong, each) for fault, each in all_proved if confirmed(asked, wrong, case, fault)]
    if proved:
        return proved
    return _other_nans(asked, wrong, case, progress) or located(case, trials)


def _suggested(case: Case) -> Iterator[Hypothesis]:
    known = case.answered
    operands = tuple(patterns[known] for patterns in case.operands)
    yield from inferred(case.model, operands, case.answers.results[known], case.got[known])


def _proved(case: Case, trials: list[Trial]) -> Iterator[tuple[Hypothesis, Finding]]:
    for trial in trials:
        if trial.explains_all:
            results = predicted(trial.hypothesis, case.operands)
            finding = None if results is None else case.finding(trial.hypothesis, results)
            if finding is not None and finding.proved:
                yield trial.hypothesis, finding
    if case.complete:
        yield from _shifted(case)


def _over_all(case: Case, wrong: Wrong, finding: Finding) -> Finding:
    """Return a cause with the counts of all vectors over which it was confirmed."""
    count = int(wrong.numbers.size)
    return finding if case.complete else replace(finding, explained=count, wrong=count, vectors=wrong.last)


def _shifted(case: Case) -> Iterator[tuple[Hypothesis, Finding]]:
    """Yield that answers come late or early, if they do."""
    right, got = case.answers.results, case.got
    for by in (*range(1, _LATEST + 1), *range(-1, -_EARLIEST - 1, -1)):
        if abs(by) >= got.size:
            return
        # What came before the first answer, or comes after the last, is unknown.
        answers = np.concatenate([got[:by], right[:-by]]) if by > 0 else np.concatenate([right[-by:], got[by:]])
        far = f"{abs(by)} vector{'s' * (abs(by) > 1)}"
        name = f"late by {by}" if by > 0 else f"early by {-by}"
        words = f"answers lag by {far} (unaccounted pipeline stage?)" if by > 0 else f"answers come {far} early"
        hypothesis = Hypothesis(name, words, lambda _, answers=answers: answers)  # type: ignore[misc]
        finding = case.finding(hypothesis, answers)
        if finding.proved and 2 * abs(by) < got.size:
            yield hypothesis, finding


def _other_nans(
    asked: VectorSet, wrong: Wrong, case: Case, progress: Callable[[str, int, int], None] | None
) -> list[Finding]:
    """Set other codes of NaN apart, if there are some among the wrong answers; the rest has a diagnosis of its own."""
    kind = case.model.result.kind
    nans = case.is_wrong & kind.is_nan(case.got) & kind.is_nan(case.answers.results)
    count, total = int(np.count_nonzero(nans)), case.wrong
    if not count or not case.complete or case.same.any_nan:
        return []
    codes = np.unique(case.got[nans])
    digits = case.model.result.digits
    shown = ", ".join(f"{int(code):0{digits}X}" for code in codes[:4]) + (", ..." if codes.size > 4 else "")
    canonical = int(case.answers.results[nans][0])
    sentence = (
        f"other codes of NaN ({shown}) are answered than the canonical {canonical:0{digits}X}, which --any-nan accepts"
    )
    apart = Finding(
        "other NaN codes", sentence, count, total, 0, case.size, kind="part" if count < total else "location"
    )
    if count == total:
        return [apart]
    is_nan = np.isin(wrong.numbers, np.flatnonzero(nans))
    unanswered = np.concatenate([wrong.unanswered, wrong.numbers[is_nan]])
    rest = Wrong(wrong.numbers[~is_nan], wrong.got[~is_nan], wrong.upto, unanswered)
    others = diagnose(asked, rest, case.same, progress)
    return [apart, *others] if any(finding.proved for finding in others) else []

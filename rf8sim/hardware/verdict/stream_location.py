"""Causes of a stream's wrong sums under a condition: a fault that is there at some vectors, and what follows from it.

A wrong term stays in the sum, so only the first wrong answer of each sum shows where the fault is. A cause is tried
there as one step from the right sum before. The condition that fits best is proved by running the whole stream with
the fault where the condition holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..golden.exact import Exact
from ..golden.ports import Fixed, Patterns
from .cases import Case, Trial, predicted
from .conditions import Condition, best_description, conjunction
from .faults import Hypothesis, Misreading

__all__ = ["Conditional", "conditional_causes", "first_of_sums"]

Mask = NDArray[np.bool_]

_FITS = 0.6  # share of first wrong answers that one step must predict: a fault may be there before it shows
_TRIED = 16  # conditions with which the whole stream is run


class Conditional(NamedTuple):
    """A cause that predicts every answer where a condition holds at the vectors with the fault."""

    hypothesis: Hypothesis
    condition: Condition


def first_of_sums(case: Case) -> tuple[Mask, Mask]:
    """Return the first wrong answer of each sum of a stream, and the right answers before it: later ones follow."""
    clear = case.operands[0].astype(np.bool_)
    number = np.cumsum(clear)
    before = np.cumsum(case.is_wrong)
    starts = np.flatnonzero(clear)
    base = np.zeros(number.max() + 1, dtype=np.int64)
    base[number[starts]] = before[starts] - case.is_wrong[starts]
    earlier = before - case.is_wrong - base[number]
    return case.is_wrong & (earlier == 0), case.right & (earlier == 0)


def conditional_causes(case: Case, trials: Sequence[Trial], longest: float, least: int) -> list[Conditional]:
    """Return the causes that predict every answer under the shortest condition.

    Parameters
    ----------
    case : Case
        The answers to a stream.
    trials : sequence of Trial
        Hypotheses; those that read operands otherwise can be there at some vectors alone.
    longest : float
        What a condition may cost.
    least : int
        Wrong sums from which on a cause is named.

    Returns
    -------
    list of Conditional
        Empty if there are none.
    """
    wrong, right = first_of_sums(case)
    after_right = np.concatenate([[True], case.right[:-1]])  # the sum before is known
    wrong, right = wrong & after_right, right & after_right
    if np.count_nonzero(wrong) < least or not case.complete:
        return []
    candidates = list(_candidates(case, trials, wrong, right))
    candidates = [each for each in candidates if each.condition.cost <= longest]
    candidates.sort(key=lambda each: each.condition.cost)
    proved: list[Conditional] = []
    for each in candidates[:_TRIED]:
        if proved and each.condition.cost > proved[0].condition.cost + 0.05:
            break
        if _proved(case, each):
            proved.append(each)
    return proved


def _candidates(case: Case, trials: Sequence[Trial], wrong: Mask, right: Mask) -> Iterator[Conditional]:
    for trial in trials:
        answer = trial.hypothesis.answer
        if not isinstance(answer, Misreading):
            continue
        results = _steps(case, answer)
        if results is None:
            continue
        fits = case.fits(results)
        explained = wrong & fits
        if np.count_nonzero(explained) < _FITS * np.count_nonzero(wrong):
            continue
        changed = right & ~fits
        exact = conjunction(case.features, explained, changed)
        described = best_description(case.features, explained, changed) if exact is None else None
        condition = described[0] if described is not None else exact
        if condition is not None and condition.literals:
            yield Conditional(trial.hypothesis, condition)


def _steps(case: Case, answer: Misreading) -> Patterns | None:
    """Return what follows at each vector from the right sum before it if the fault is there; None without sense."""
    model = case.model
    with np.errstate(all="ignore"):
        clear, a, b = answer.values(case.operands)[:3]
        terms = np.asarray(a * b)
        if isinstance(model.result.kind, Fixed) and case.exact.dtype != np.float64:
            scaled = np.ldexp(terms, model.result.kind.fraction)
            if not (np.abs(scaled) < 2.0**62).all():
                return None
            terms = scaled.astype(np.int64)
        before = np.concatenate([np.zeros(1, case.exact.dtype), case.exact[:-1]])
        sums = np.where(clear.astype(np.bool_), np.zeros(1, before.dtype), before) + terms
        return model.round(Exact(sums, np.zeros(sums.size, np.int64))).results


def _proved(case: Case, each: Conditional) -> bool:
    """Say whether the whole stream with the fault where the condition holds has every answer of the design."""
    answer = each.hypothesis.answer
    assert isinstance(answer, Misreading)
    partly = each.hypothesis._replace(answer=answer.only(each.condition.holds(case.size)))
    results = predicted(partly, case.operands)
    return results is not None and bool(case.fits(results).all())

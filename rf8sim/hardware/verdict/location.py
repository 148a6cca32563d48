"""Where the wrong answers are, and which causes explain them there.

Tried in turn: a cause under a condition; a condition that is exact; two or three causes that contradict no answer; a
few conditions that are exact together. What is left is unknown, and only what is true of it is reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .cases import Case, Trial, predicted
from .conditions import Condition, best_description, conjunction, disjunction
from .findings import Finding
from .hypotheses import Hypothesis
from .inferred_faults import difference
from .stream_location import conditional_causes, first_of_sums

__all__ = ["located"]

Mask = NDArray[np.bool_]

_NAMED = 8  # wrong answers from which on a cause is named under a condition
_CAUSES = 3  # named for one place
_PARTS = 12  # hypotheses that are combined
_LONG = 4.2  # cost of a condition under which a cause is still named


def located(case: Case, trials: Sequence[Trial]) -> list[Finding]:
    """Return where the wrong answers are.

    Parameters
    ----------
    case : Case
        The answers.
    trials : sequence of Trial
        Hypotheses, none of which predicts every answer.

    Returns
    -------
    list of Finding
        None of them contradicts an answer.
    """
    wrong, right = first_of_sums(case) if case.model.streams else (case.is_wrong, case.right)
    place = conjunction(case.features, wrong, right)
    found, cost = _conditional(case, trials, place)
    if found and (place is None or cost < place.cost):
        return found
    if place is not None:
        return [_exactly(case, trials, wrong, place)]
    parts = [] if case.model.streams else _parts(case, trials)
    if parts and sum(part.explained for part in parts) >= case.wrong:
        return parts
    terms = disjunction(case.features, wrong, right)
    if terms is not None:
        return list(_alternatives(case, trials, wrong, terms))
    return [*parts[:1], _unknown(case, wrong, right)]


class _Explained(NamedTuple):
    """A cause that predicts all wrong answers, and where it changes right ones."""

    trial: Trial
    changes: Mask


def _explaining(case: Case, trials: Sequence[Trial], wrong: Mask) -> Iterator[_Explained]:
    """Yield the hypotheses that predict all of some wrong answers."""
    sampled = wrong[case.sample]
    for trial in trials:
        if sampled.any() and trial.fits[sampled].all():
            results = predicted(trial.hypothesis, case.operands)
            if results is not None:
                fits = case.fits(results)
                if fits[wrong].all():
                    yield _Explained(trial, ~fits & case.right)


def _conditional(case: Case, trials: Sequence[Trial], place: Condition | None) -> tuple[list[Finding], float]:
    """Return causes that predict every answer under a condition, the shortest one, and what that costs."""
    if case.model.streams:
        causes = conditional_causes(case, trials, _LONG, _NAMED)
        found = [_where(case, hypothesis, condition.sentence()) for hypothesis, condition in causes[:_CAUSES]]
        return found, causes[0].condition.cost if causes else 0.0
    if case.wrong < _NAMED:
        return [], 0.0
    best: list[tuple[Condition, Trial]] = []
    bound = _LONG if place is None else min(_LONG, place.cost + 0.3)
    all_explaining = sorted(
        _explaining(case, trials, case.is_wrong), key=lambda explained: int(np.count_nonzero(explained.changes))
    )
    for explained in all_explaining:
        condition = conjunction(case.features, case.is_wrong, explained.changes)
        if condition is None or condition.cost > bound:
            continue
        if best and condition.cost < best[0][0].cost - 0.05:
            best = []
        best.append((condition, explained.trial))
        bound = condition.cost + 0.05
    if best:
        found = [_where(case, trial.hypothesis, condition.sentence()) for condition, trial in best[:_CAUSES]]
        return found, best[0][0].cost
    if place is not None:
        return [], 0.0
    for explained in all_explaining[:_CAUSES]:
        terms = disjunction(case.features, case.is_wrong, explained.changes)
        if terms is not None and len(terms) > 1:
            return [_where(case, explained.trial.hypothesis, ", or ".join(term.sentence() for term in terms))], 0.0
    return [], 0.0


def _where(case: Case, hypothesis: Hypothesis, where: str) -> Finding:
    """Return a cause under a condition, which predicts every answer."""
    return Finding(hypothesis.name, hypothesis.sentence, case.wrong, case.wrong, 0, case.size, where)


def _there(case: Case, trials: Sequence[Trial], wrong: Mask) -> tuple[str, str]:
    """Return the name and the words of what explains the wrong answers of one place, or how they differ."""
    count = int(np.count_nonzero(wrong))
    causes = list(_explaining(case, trials, wrong)) if count >= _NAMED else []
    if causes:
        chosen, *others = (cause.trial.hypothesis for cause in causes[:_CAUSES])
        or_else = f" (or: {'; '.join(other.sentence for other in others)})" if others else ""
        return chosen.name, f"; there, {chosen.sentence}{or_else}"
    words = difference(case.model.result.kind, case.answers.results[wrong], case.got[wrong], case.model.result.digits)
    return "", f"; there, {words}" if words and count > 1 else ""


def _over(case: Case) -> str:
    """Say over how many vectors something holds, if these are not all."""
    return "" if case.complete else f" (of {case.size:,} vectors that were examined)"


def _exactly(case: Case, trials: Sequence[Trial], wrong: Mask, place: Condition) -> Finding:
    count = int(np.count_nonzero(wrong))
    name, there = _there(case, trials, wrong) if not case.model.streams else ("", "")
    what = "answers are wrong" if not case.model.streams else "the first wrong answer of each sum is"
    where = place.sentence()
    total = f"{count:,} of {count:,}"
    sentence = f"{what} exactly where {where}: {total}, and none elsewhere{_over(case)}{there}"
    return Finding(name or "location", sentence, case.wrong, case.wrong, 0, case.size, where, "location")


def _alternatives(case: Case, trials: Sequence[Trial], wrong: Mask, terms: Sequence[Condition]) -> Iterator[Finding]:
    total = int(np.count_nonzero(wrong))
    for term in terms:
        inside = wrong & term.holds(case.size)
        count = int(np.count_nonzero(inside))
        name, there = _there(case, trials, inside) if not case.model.streams else ("", "")
        what = "answers" if not case.model.streams else "the first wrong answers of sums"
        where = term.sentence()
        shares = f"{count:,} of the {total:,} wrong ones, and no right one{_over(case)}"
        sentence = f"all {what} are wrong where {where}: {shares}{there}"
        yield Finding(name or "location", sentence, count, case.wrong, 0, case.size, where, "location")


def _parts(case: Case, trials: Sequence[Trial]) -> list[Finding]:
    """Return causes of some of the wrong answers each, wherever they change anything: no answer contradicts them."""
    candidates = [trial for trial in trials if (trial.fits | ~trial.changes).all() and trial.changes.any()]
    candidates.sort(key=lambda trial: -int(np.count_nonzero(trial.changes)))
    sets: list[tuple[Trial, Mask]] = []
    for trial in candidates[:_PARTS]:
        results = predicted(trial.hypothesis, case.operands)
        if results is None:
            continue
        changes = ~case.same.right(case.model.result.kind, results, case.answers.results) & case.answered
        if (case.fits(results) | ~changes).all():
            sets.append((trial, changes))
    left = case.is_wrong.copy()
    chosen: list[tuple[Trial, int]] = []
    while sets and left.any() and len(chosen) < _CAUSES:
        trial, changes = max(sets, key=lambda pair: int(np.count_nonzero(pair[1] & left)))
        count = int(np.count_nonzero(changes & left))
        if not count:
            break
        chosen.append((trial, count))
        left &= ~changes
    if left.any():  # not all: what explains little may do so by chance
        chosen = [(trial, count) for trial, count in chosen if 4 * count >= case.wrong and count >= _NAMED]
    return [
        Finding(trial.hypothesis.name, trial.hypothesis.sentence, count, case.wrong, 0, case.size, kind="part")
        for trial, count in chosen
    ]


def _unknown(case: Case, wrong: Mask, right: Mask) -> Finding:
    described = best_description(case.features, wrong, right)
    total = int(np.count_nonzero(wrong))
    if described is None:
        return Finding("unknown", "no known fault explains these answers", 0, case.wrong, 0, case.size, kind="unknown")
    condition, bad, good = described
    where = condition.sentence()
    what = "wrong answers" if not case.model.streams else "first wrong answers of sums"
    sentence = (
        f"no known fault explains these answers, and no short condition is exact: {bad:,} of {total:,} {what} are "
        f"where {where}, and so are {good:,} right ones{_over(case)}"
    )
    return Finding("unknown", sentence, bad, case.wrong, good, case.size, where, "unknown")

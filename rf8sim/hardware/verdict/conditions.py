"""Where answers are wrong: the shortest condition on features that holds for the wrong answers and for no right one.

Every literal considered holds for all wrong answers, so a conjunction of them is exact as soon as each right answer
fails one of its literals. Finding the shortest is a small hitting set problem, solved over the distinct patterns of
failures instead of over the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .features import NONE, Feature

__all__ = ["Condition", "Literal", "best_description", "conjunction", "disjunction"]

Mask = NDArray[np.bool_]

_LITERALS = 3  # of a conjunction
_TERMS = 3  # of a disjunction
_TRIED = 24  # first literals of a term
_SET = 4  # values named in a literal
_RANGE = 1 << 17  # values of a feature between its least and its largest


@dataclass(frozen=True, eq=False)
class Literal:
    """A condition on one feature.

    Attributes
    ----------
    feature : Feature
        What it is on.
    allowed : tuple of int, or None
        The values for which it holds; None for a range.
    low, high : int
        The range.
    negated : bool
        Whether it holds for the other values instead.
    cost : float
        How much there is to read in it.
    """

    feature: Feature
    allowed: tuple[int, ...] | None
    low: int
    high: int
    negated: bool
    cost: float

    def holds(self, where: Mask | slice = slice(None)) -> Mask:
        """Say for which vectors it holds."""
        values = self.feature.values[where]
        if self.allowed is None:
            inside: Mask = (values >= self.low) & (values <= self.high)
        elif len(self.allowed) == 1:
            inside = values == self.allowed[0]
        else:
            inside = np.isin(values, self.allowed)
        return ~inside if self.negated else inside

    def sentence(self) -> str:
        """Return it in words."""
        return self.feature.sentence(self.allowed, self.low, self.high, self.negated)


@dataclass(frozen=True, eq=False)
class Condition:
    """A conjunction of literals.

    Attributes
    ----------
    literals : tuple of Literal
        All of which hold; if there are none, it holds everywhere.
    """

    literals: tuple[Literal, ...]

    @property
    def cost(self) -> float:
        """How much there is to read in it."""
        return sum(literal.cost for literal in self.literals)

    def holds(self, size: int) -> Mask:
        """Say for which of all vectors it holds."""
        result = np.ones(size, dtype=np.bool_)
        for literal in self.literals:
            result &= literal.holds()
        return result

    def sentence(self) -> str:
        """Return it in words."""
        return " and ".join(literal.sentence() for literal in self.literals) or "everywhere"


class _Counts(NamedTuple):
    """How often each value of a feature occurs among wrong and right answers; values count from ``low``."""

    low: int
    wrong: NDArray[np.int64]
    right: NDArray[np.int64]


def _count(feature: Feature, wrong: Mask, right: Mask) -> _Counts | None:
    values = feature.values
    low, high = int(values.min()), int(values.max())
    if high - low >= _RANGE or low == high:
        return None
    size = high - low + 1
    offsets = [values[where].astype(np.int64) - low for where in (wrong, right)]
    return _Counts(low, *(np.bincount(offset, minlength=size) for offset in offsets))


def _necessary(feature: Feature, wrong: Mask, right: Mask) -> list[Literal]:
    """Return literals on one feature that hold for all wrong answers and not for all right ones."""
    counts = _count(feature, wrong, right)
    if counts is None:
        return []
    inside = np.flatnonzero(counts.wrong) + counts.low
    outside = np.flatnonzero((counts.right > 0) & (counts.wrong == 0)) + counts.low
    if not outside.size:
        return []
    base = feature.cost
    literals = []

    def add(allowed: NDArray[np.int64] | None, cost: float, negated: bool = False) -> None:
        values = None if allowed is None else tuple(int(value) for value in allowed)
        literals.append(Literal(feature, values, int(inside[0]), int(inside[-1]), negated, base + cost))

    if inside.size == 1:
        add(inside, 0.0)
    elif inside.size <= _SET:
        add(inside, 0.3 * inside.size)
    if feature.ordered and inside.size > 1 and inside[0] != NONE:
        first, last = inside[0], inside[-1]
        number = outside[outside != NONE]
        if outside.size > number.size or (number < first).any() or (number > last).any():
            above, below = (number > last).any(), (number < first).any()
            add(None, 0.3 + 0.3 * bool(above and below))
    if outside.size <= 2 and inside.size > 1 and feature.labels is None:
        add(outside, 0.2 + 0.3 * outside.size, True)
    return literals


def conjunction(features: Sequence[Feature], wrong: Mask, right: Mask, longest: int = _LITERALS) -> Condition | None:
    """Return the shortest conjunction that holds for all wrong answers and for no right one; None if there is none.

    Parameters
    ----------
    features : sequence of Feature
        What literals are made of.
    wrong, right : ndarray of bool
        Which vectors must fulfil it, and which must not; others may do either.
    longest : int
        Literals at most.

    Returns
    -------
    Condition or None
        With no literals if nothing is right.
    """
    if not right.any():
        return Condition(())
    literals = [literal for feature in features for literal in _necessary(feature, wrong, right)]
    if not literals:
        return None
    literals.sort(key=lambda literal: literal.cost)
    places = np.flatnonzero(right)
    fails = np.stack([~literal.holds(places) for literal in literals])  # type: ignore[arg-type]
    if not fails.any(axis=0).all():
        return None
    packed = np.ascontiguousarray(np.packbits(fails, axis=0).T)
    rows = np.unique(packed.view(np.dtype((np.void, packed.shape[1]))).ravel()).view(np.uint8)
    patterns = np.unpackbits(rows.reshape(-1, packed.shape[1]), axis=1, count=len(literals)).astype(np.bool_)
    costs = np.array([literal.cost for literal in literals])
    chosen = _hitting(patterns, costs, longest)
    return None if chosen is None else Condition(tuple(literals[index] for index in sorted(chosen)))


def _hitting(patterns: NDArray[np.bool_], costs: NDArray[np.float64], longest: int) -> list[int] | None:
    """Return the cheapest columns such that each row has a true one."""
    best: list[int] | None = None
    bound = np.inf

    def search(rows: NDArray[np.bool_], taken: list[int], cost: float) -> None:
        nonlocal best, bound
        if not len(rows):
            best, bound = list(taken), cost
            return
        left = longest - len(taken)
        if not left:
            return
        counts = rows.sum(axis=0)
        if left == 1:
            full = np.flatnonzero(counts == len(rows))
            if full.size and cost + costs[full].min() < bound:
                index = int(full[np.argmin(costs[full])])
                best, bound = [*taken, index], cost + float(costs[index])
            return
        hardest = rows[int(np.argmin(rows.sum(axis=1)))]
        candidates = np.flatnonzero(hardest)
        candidates = candidates[np.argsort(costs[candidates] - 1e-6 * counts[candidates], kind="stable")]
        for index in candidates[:64].tolist():
            if cost + costs[index] < bound:
                search(rows[~rows[:, index]], [*taken, index], cost + float(costs[index]))

    search(patterns, [], 0.0)
    return best


def disjunction(features: Sequence[Feature], wrong: Mask, right: Mask) -> list[Condition] | None:
    """Return a few conjunctions that together hold for all wrong answers and for no right one; None if there are none.

    Each is the shortest for the wrong answers that it is chosen for, those of one value of a feature.
    """
    terms: list[Condition] = []
    rest = wrong.copy()
    while rest.any():
        if len(terms) == _TERMS:
            return None
        term = conjunction(features, rest, right)
        if term is None:
            if len(terms) == _TERMS - 1:
                return None
            term = _term(features, rest, right)
        if term is None:
            return None
        terms.append(term)
        rest &= ~term.holds(rest.size)
    return terms


def _term(features: Sequence[Feature], wrong: Mask, right: Mask) -> Condition | None:
    """Return a conjunction that holds for many wrong answers and for no right one."""
    total = int(np.count_nonzero(wrong))
    candidates: list[tuple[float, Mask]] = []
    seen: set[bytes] = set()
    for feature in features:
        counts = _count(feature, wrong, right)
        if counts is None:
            continue
        for index in np.argsort(-counts.wrong, kind="stable")[:3].tolist():
            number = int(counts.wrong[index])
            if 10 * number >= total and number < total:
                chosen = wrong & (feature.values == index + counts.low)
                key = np.packbits(chosen).tobytes()
                if key not in seen:
                    seen.add(key)
                    pure = number / (number + int(counts.right[index]))
                    candidates.append((number * pure, chosen))
    candidates.sort(key=lambda pair: -pair[0])
    for _, chosen in candidates[:_TRIED]:
        term = conjunction(features, chosen, right)
        if term is not None:
            return term
    return None


def best_description(features: Sequence[Feature], wrong: Mask, right: Mask) -> tuple[Condition, int, int] | None:
    """Return a condition that tells wrong from right answers best, how many wrong ones it holds for, and right ones.

    The measure is the harmonic mean of the share of wrong answers where it holds and of its share of wrong answers.
    """
    total = int(np.count_nonzero(wrong))
    best: tuple[float, Condition, int, int] | None = None
    for feature in features:
        counts = _count(feature, wrong, right)
        if counts is None:
            continue
        order = np.argsort(-counts.wrong / np.maximum(counts.wrong + counts.right, 1), kind="stable")
        bad, good = np.cumsum(counts.wrong[order]), np.cumsum(counts.right[order])
        score = 2 * bad / (total + bad + good)
        for size in range(1, min(_SET, order.size) + 1):
            if best is None or score[size - 1] > best[0] + 0.02 * (size - 1):
                values = tuple(sorted(int(value) + counts.low for value in order[:size]))
                literal = Literal(feature, values, values[0], values[-1], False, feature.cost)
                best = float(score[size - 1]), Condition((literal,)), int(bad[size - 1]), int(good[size - 1])
    return None if best is None else best[1:]

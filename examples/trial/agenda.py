"""The ways to fine-tune that the trial compares, and the order in which they are run.

Every family is a line of a table. Strengths are tried on the first seed until the best of them, by the development
texts, lies between two that are worse; the other seeds get the best one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Family:
    """Recipes that differ in strength alone.

    Attributes
    ----------
    constraint : dict
        Options of `ggd.torch.RateConstraint`.
    strengths : tuple of float
        Those tried first on the first seed, in this order; of ``source`` lambda over the number of weights.
    rounded : bool
        Whether the weights are rounded to the quantizer's step while the model learns: a run for each step.
    strength_of : str
        The family whose best strength is taken, for a combination.
    always : bool
        Whether the constraint acts from the first step on, in place of the plain trunk; run after the others.
    needed : bool
        Whether it comes before the others on further seeds.
    """

    name: str
    title: str
    constraint: dict[str, Any] = field(default_factory=dict)
    strengths: tuple[float, ...] = (0.0,)
    rounded: bool = False
    strength_of: str = ""
    always: bool = False
    needed: bool = False


@dataclass(frozen=True)
class Run:
    """One fine-tuning: a family, a strength, a seed, and the step that it is rounded to (0: none)."""

    family: str
    strength: float
    seed: int
    step: float = 0.0

    @property
    def key(self) -> str:
        """Return the name of its row."""
        rounded = f"-step{1 / self.step:.0f}" if self.step else ""
        return f"{self.family}-{self.strength:g}{rounded}-seed{self.seed}"


SOURCE = {"update": "source"}
FAMILIES = {
    family.name: family
    for family in (
        Family("plain", "plain fine-tuning", needed=True),
        Family("source", "the source's step", SOURCE, (1e-4, 3e-5, 3e-4), needed=True),
        Family("l1", "L1", {"shape": 1.0}, (0.3, 1.0, 0.1)),
        Family("prior", "prior, shapes estimated", {}, (1.0, 3.0, 0.3)),
        Family("rounded", "rounded while training", rounded=True, needed=True),
        Family("rounded-source", "rounded, and the source's step", SOURCE, (), True, "source", needed=True),
        Family("source-always", "the source's step from the first on", SOURCE, (1e-5, 3e-5, 3e-6), always=True),
    )
}
BASELINE = "plain"
GRID = tuple(2.0**-k for k in (6, 5.5, 5, 4.75, 4.5))  # steps of the quantizer: 1/64 to 1/23
FINER = (2.0**-6.5, 2.0**-7)  # steps beyond, of chosen strengths: where the loss of unrounded weights is kept
ROUNDED_GRID = tuple(2.0**-k for k in (5.5, 5, 4.5))  # those that a rounded model is trained at
SEEDS = (0, 1, 2, 3, 4)
ENOUGH = 3  # seeds of all families before those that train longer, and before more seeds
FACTOR = 3.0  # between a strength and the next where a family's best one is at an end
MOST = 7  # strengths of a family

Score = Callable[[str, float], float | None]  # of a family's strength: its BD-rate on the first seed, None if unfit


def next_run(made: set[Run], score: Score) -> Run | None:
    """Return the run that is to be made after those made, None if there is none left."""
    return next((run for run in _wanted(made, score) if run not in made), None)


def _wanted(made: set[Run], score: Score) -> Iterator[Run]:
    first, *others = SEEDS
    for always in (False, True):
        families = [family for family in FAMILIES.values() if family.always == always]
        yield from _tried(families, first, made, score)
        for needed in (True, False):
            for seed in others[: ENOUGH - 1]:
                yield from _repeated([f for f in families if f.needed == needed], seed, made, score)
    for seed in others[ENOUGH - 1 :]:
        yield from _repeated(list(FAMILIES.values()), seed, made, score)


def _tried(families: list[Family], seed: int, made: set[Run], score: Score) -> Iterator[Run]:
    """Yield the runs of the first seed: strengths until the best is between two others, then what has none."""
    for family in sorted(families, key=lambda family: family.rounded):
        for strength in family.strengths:
            yield from runs_of(family, strength, seed)
        while len(family.strengths) > 1 and (beyond := _beyond(family, made, score)) is not None:
            yield Run(family.name, beyond, seed)
    for family in families:
        if family.strength_of:
            yield from runs_of(family, ranked(family, made, score)[0], seed)


def _repeated(families: list[Family], seed: int, made: set[Run], score: Score) -> Iterator[Run]:
    for family in families:
        yield from runs_of(family, ranked(family, made, score)[0], seed)


def runs_of(family: Family, strength: float, seed: int) -> list[Run]:
    """Return the runs of a family at a strength: one, or one for each step that it is rounded to."""
    return [Run(family.name, strength, seed, step) for step in (ROUNDED_GRID if family.rounded else (0.0,))]


def ranked(family: Family, made: set[Run], score: Score) -> list[float]:
    """Return the strengths of a family made on the first seed, the best by the development texts first."""
    judged = family.strength_of or family.name
    tried = {run.strength for run in made if run.family == judged and run.seed == SEEDS[0]}
    scores = {strength: score(judged, strength) for strength in sorted(tried)}
    return sorted(scores, key=lambda strength: math.inf if scores[strength] is None else scores[strength])


def _beyond(family: Family, made: set[Run], score: Score) -> float | None:
    """Return the strength to try beyond an end at which a family is best; None if its best one is between others.

    Below the weakest one lies plain training, whose score is 0: a weakest one that gains nothing is between others.
    """
    order = ranked(family, made, score)
    best, tried = order[0], sorted(order)
    gain = score(family.name, best)
    if len(tried) >= MOST or best not in (tried[0], tried[-1]):
        return None
    if best == tried[0] and gain is not None and gain >= 0.0:
        return None
    return float(f"{best * FACTOR if best == tried[-1] else best / FACTOR:.1g}")

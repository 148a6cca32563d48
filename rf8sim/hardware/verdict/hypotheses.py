"""What a design with a certain fault would answer: a table of faults that designers make.

Each family yields hypotheses that have sense for a model: a name, a sentence, and a function from operands to the
answers of a design with that fault. A hypothesis proves itself, or not, by predicting every answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..golden.golden import Golden
from . import (
    accumulator_faults,
    alignment_faults,
    arithmetic_faults,
    code_faults,
    engine_faults,
    float_faults,
    rounding_faults,
    sum_faults,
)
from .faults import Hypothesis

__all__ = ["FAMILIES", "Hypothesis", "hypotheses"]

FAMILIES: tuple[Callable[[Golden], Iterator[Hypothesis]], ...] = (
    *rounding_faults.FAMILIES,  # the first that comes to mind
    *code_faults.FAMILIES,
    *arithmetic_faults.FAMILIES[:1],
    *sum_faults.FAMILIES,
    *arithmetic_faults.FAMILIES[1:],
    *accumulator_faults.FAMILIES,
    *float_faults.FAMILIES,
    *engine_faults.FAMILIES,
    *alignment_faults.FAMILIES,
)
"""The families of faults: of several that explain the same, the first is reported."""


def hypotheses(model: Golden) -> Iterator[Hypothesis]:
    """Yield every hypothesis that has sense for a model.

    Examples
    --------
    >>> from rf8sim.hardware.golden.golden import golden
    >>> names = [hypothesis.name for hypothesis in hypotheses(golden("multiply", "rf8"))]
    >>> names[:3], "aliases not canonical" in names
    (['rounds nearest-away', 'rounds toward-zero', 'rounds up'], True)
    """
    for family in FAMILIES:
        yield from family(model)

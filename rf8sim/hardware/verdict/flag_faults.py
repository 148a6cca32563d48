"""Where flags are missing or raised in vain: the diagnosis of a design's IEEE flags."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...arithmetic.operations import Flags
from ..vectors.vectors import VectorSet
from .cases import Case, Wrong, collect
from .comparison import Comparison
from .conditions import conjunction
from .findings import Finding

__all__ = ["diagnose_flags"]

Mask = NDArray[np.bool_]


def diagnose_flags(asked: VectorSet, wrong: Wrong) -> list[Finding]:
    """Find where flags are wrong.

    Parameters
    ----------
    asked : VectorSet
        The vectors.
    wrong : Wrong
        The vectors with wrong flags, and the flags that were raised.

    Returns
    -------
    list of Finding
        Of each flag, where it is missing and where it is raised in vain: everywhere, exactly under a condition, or
        only how often.
    """
    return list(_each(collect(asked, wrong, Comparison())))


def _each(case: Case) -> Iterator[Finding]:
    wanted = case.answers.flags
    raised = wanted.copy()
    raised[case.is_wrong] = case.got[case.is_wrong].astype(np.uint8)  # not results here
    for flag in Flags:
        name = str(flag.name).lower().replace("_", " ")
        has, got = wanted & flag != 0, raised & flag != 0
        for bad, others, never, word in (
            (has & ~got, has & got, f"the flag {name} is never raised", "is missing"),
            (got & ~has, ~has & ~got, f"the flag {name} is always raised", "is raised in vain"),
        ):
            bad, others = bad & case.answered, others & case.answered
            if bad.any():
                yield _found(case, bad, others, never, f"the flag {name} {word}")


def _found(case: Case, bad: Mask, others: Mask, never: str, what: str) -> Finding:
    count = int(np.count_nonzero(bad))
    if not others.any():
        return Finding("flags", f"{never}: {count:,} vectors", count, case.wrong, 0, case.size, kind="location")
    place = conjunction(case.features, bad, others)
    if place is None:
        return Finding("flags", f"{what} in {count:,} vectors", count, case.wrong, 0, case.size, kind="unknown")
    where = place.sentence()
    sentence = f"{what} exactly where {where}: {count:,} of {count:,}, and nowhere else"
    return Finding("flags", sentence, count, case.wrong, 0, case.size, where, "location")

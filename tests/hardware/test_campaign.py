"""A campaign of seeded faults: each is caught, and named rightly, located exactly, or called unknown."""

from collections import Counter

import numpy as np
import pytest
from faulty_designs import SEEDED

from rf8sim import Rounding
from rf8sim.hardware.vectors.vectors import vectors
from rf8sim.hardware.verdict.diagnosis import Wrong, diagnose

OUTCOMES = Counter()


@pytest.fixture(scope="module")
def asked():
    """The vectors of each unit, made once."""
    made = {}

    def of(seeded):
        key = (seeded.operation, seeded.fmt, str(seeded.options))
        if key not in made:
            options = dict(seeded.options)
            if options.get("rounding") == "ieee":
                options["rounding"] = Rounding(overflow="ieee")
            made[key] = vectors(seeded.operation, seeded.fmt, **options)
        return made[key]

    return of


def diagnosis(asked, results):
    wrong = np.flatnonzero(results != asked.results)
    return wrong, diagnose(asked, Wrong(wrong, results[wrong], len(asked), np.zeros(0, np.int64)))


def test_there_are_enough():
    assert len(SEEDED) >= 80


@pytest.mark.parametrize("name", SEEDED)
def test_a_seeded_fault(asked, name):
    seeded = SEEDED[name]
    vectors = asked(seeded)
    with np.errstate(all="ignore"):  # a design meets signaling NaN
        results = np.asarray(seeded.design(*vectors.operands)).astype(vectors.results.dtype)
    wrong, findings = diagnosis(vectors, results)
    assert wrong.size, "not caught"
    assert findings
    # Nothing told contradicts an answer.
    assert all(finding.false == 0 for finding in findings if finding.kind != "unknown")
    assert all(finding.wrong == wrong.size for finding in findings)
    proved = [finding.name for finding in findings if finding.proved]
    kinds = {finding.kind for finding in findings}
    shown = [finding.statement() for finding in findings]
    if seeded.expected == "?":
        assert kinds <= {"unknown", "location"}, shown
    elif seeded.expected.startswith("@"):
        assert kinds == {"location"}, shown
        assert seeded.expected[1:] in findings[0].where, shown
    else:
        assert seeded.expected in proved or seeded.expected in [finding.name for finding in findings], shown
        assert kinds <= {"cause", "location"}, shown
    OUTCOMES["named" if proved else "located" if "location" in kinds else "unknown"] += 1

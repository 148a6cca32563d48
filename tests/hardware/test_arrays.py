"""Answers in arrays, faithful rounding, and coverage without bins that nothing can hit."""

import numpy as np
import pytest

import rf8sim
from rf8sim.hardware.vectors.vectors import vectors
from rf8sim.hardware.verdict.arrays import verify_arrays
from rf8sim.hardware.verdict.comparison import get_comparison


def test_arrays_have_the_verdict_of_lines():
    asked = vectors("multiply", "rf6")
    exact = get_comparison("bits", flags=True)
    verdict = verify_arrays(asked, asked.results, asked.flags, exact)
    assert verdict.passed
    assert verdict.compared == 4096
    assert not verify_arrays(asked, asked.results, None, exact).passed
    assert not verify_arrays(asked, asked.results[:-1]).passed
    assert not verify_arrays(asked, []).passed
    up = vectors("multiply", "rf6", rounding="up").results
    verdict = verify_arrays(asked, up)
    assert verdict.findings[0].name == "rounds up"
    assert verdict.wrong == np.count_nonzero(up != asked.results)
    assert verdict.first_mismatches[0].line == 1 + int(np.argmax(up != asked.results))
    for wrong in ([64], [-1], [0.5], [[1]]):
        with pytest.raises(ValueError, match="`results`"):
            verify_arrays(asked, wrong)
    with pytest.raises(ValueError, match="4,096 results and 1 flags"):
        verify_arrays(asked, asked.results, [0])


@pytest.mark.parametrize("fmt", ["e4m3fn", "rf8", "e5m2"])
def test_faithful_rounding(fmt):
    """Either neighbour passes, at random; any other value does not, nor does one beside an exact result."""
    asked = vectors("multiply", fmt)
    faithful = get_comparison("faithful")
    up, down = (vectors("multiply", fmt, rounding=mode).results for mode in ("up", "down"))
    either = np.where(rf8sim.random_words(3, up.size) & 1, up, down).astype(up.dtype)
    assert not verify_arrays(asked, either).passed
    assert verify_arrays(asked, either, comparison=faithful).passed
    exact = np.flatnonzero((up == down) & np.isfinite(rf8sim.get_format(fmt).values[up]) & (up & 7 > 1))
    changed = either.copy()
    changed[exact[5]] -= 1
    verdict = verify_arrays(asked, changed, comparison=faithful)
    assert (verdict.passed, verdict.wrong) == (False, 1)
    with pytest.raises(ValueError, match="results are exact"):
        verify_arrays(vectors("decode", "rf8"), [0], comparison=faithful)


def test_faithful_rounding_of_a_float():
    asked = vectors("divide", "rf6", result="float32")
    faithful = get_comparison("faithful")
    up, down = (vectors("divide", "rf6", result="float32", rounding=mode).results for mode in ("up", "down"))
    either = np.where(rf8sim.random_words(3, up.size) & 1, up, down).astype(up.dtype)
    assert not verify_arrays(asked, either).passed
    assert verify_arrays(asked, either, comparison=faithful).passed
    inexact = np.flatnonzero(up != down)
    either[inexact[7]] = max(up[inexact[7]], down[inexact[7]]) + 1
    verdict = verify_arrays(asked, either, comparison=faithful)
    assert (verdict.passed, verdict.wrong) == (False, 1)


def test_bins_that_nothing_can_hit_are_left_out():
    asked = vectors("multiply", "rf8")
    outcomes = {f"{group.port} {group.aspect}": group for group in verify_arrays(asked, asked.results).coverage}
    assert outcomes["result rounding outcomes"].missed == []
    assert "invalid" not in outcomes["result rounding outcomes"].bins
    half = {f"{group.port} {group.aspect}": group for group in verify_arrays(asked, asked.results[:9]).coverage}
    assert "overflow" in half["result rounding outcomes"].missed
    wide = {f"{group.port} {group.aspect}": group
            for group in verify_arrays(*(lambda v: (v, v.results))(vectors("fma", "rf8", n=0))).coverage}  # fmt: skip
    assert "invalid" not in wide["result rounding outcomes"].bins
    quotients = vectors("divide", "int8")  # those by zero have no result, and are not asked
    bins = {f"{group.port} {group.aspect}": group.bins
            for group in verify_arrays(quotients, quotients.results).coverage}  # fmt: skip
    assert "00" not in bins["b codes"]
    assert not {"invalid", "divide by zero", "underflow"} & set(bins["result rounding outcomes"])
    infinite = vectors("multiply", "e5m2")
    bins = {f"{group.port} {group.aspect}": group for group in verify_arrays(infinite, infinite.results).coverage}
    assert bins["result rounding outcomes"].bins["invalid"] > 0

"""A loop runs every case, and says which failed."""

from __future__ import annotations

import inspect

import pytest
from loops import REPORTED, looped


def test_every_combination_runs_once() -> None:
    seen = []

    @looped("z", "xy")
    @looped(("a", "b"), [(1, 2), (3, 4)])
    def record(a: int, z: str, b: int, fixture: object) -> None:
        seen.append((a, b, z, fixture))

    assert list(inspect.signature(record).parameters) == ["fixture"], "what pytest is to give"
    record(fixture=None)
    assert sorted(seen) == [(1, 2, "x", None), (1, 2, "y", None), (3, 4, "x", None), (3, 4, "y", None)]


def test_failures_are_named_and_the_rest_still_runs() -> None:
    seen = []

    @looped("base", [2, 8])
    @looped("number", range(5))
    def small(number: int, base: int) -> None:
        seen.append(number)
        assert number < base, f"{number} is no digit"

    with pytest.raises(AssertionError) as failure:
        small()
    assert len(seen) == 10
    assert str(failure.value).splitlines()[:2] == ["3 cases failed", "with base=2, number=2: 2 is no digit"]
    assert isinstance(failure.value.__cause__, AssertionError), "with the traceback of the first"


def test_after_a_few_failures_it_ends() -> None:
    seen = []

    @looped("number", range(1000))
    def never(number: int) -> None:
        seen.append(number)
        with pytest.raises(ValueError):
            pass

    with pytest.raises(AssertionError, match="at least 5 cases failed"):
        never()
    assert len(seen) == REPORTED


def test_nothing_is_left_out_silently() -> None:
    with pytest.raises(AssertionError, match="proves nothing"):
        looped("x", [])
    with pytest.raises(AssertionError, match="has no"):
        looped("y", [1])(lambda x: None)

    @looped("x", [1, 2])
    def skips(x: int) -> None:
        pytest.skip("not here")

    with pytest.raises(AssertionError, match="would skip all that follow"):
        skips()


@pytest.mark.parametrize("left", [1, 2])
@looped("right", [1, 2])
def test_beside_parameters_and_fixtures(left: int, right: int, tmp_path) -> None:
    assert tmp_path.is_dir()
    assert left * right in (1, 2, 4)

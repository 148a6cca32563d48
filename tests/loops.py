"""`looped`, for thousands of small cases: like `pytest.mark.parametrize`, but one test runs them all.

A case of pytest's costs milliseconds to collect, schedule and report, more than most of ours take to run. A loop costs
nothing, and its report names the first failures with their parameters.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

REPORTED = 5  # failures, before the rest of the cases is left out


def looped(names: str | tuple[str, ...], values: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test with every one of `values` for the parameters `names`; several loops are nested."""
    parameters = (names,) if isinstance(names, str) else names
    rows = [dict(zip(parameters, (row,) if isinstance(names, str) else row, strict=True)) for row in values]
    assert rows, "a loop over nothing proves nothing"

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        inner: Callable[..., Iterator[Any]] | None = getattr(test, "failures", None)

        def failures(**others: Any) -> Iterator[tuple[dict[str, Any], BaseException]]:
            for row in rows:
                if inner is not None:
                    yield from ((row | case, error) for case, error in inner(**others, **row))
                    continue
                try:
                    test(**others, **row)
                except pytest.skip.Exception as skip:
                    raise AssertionError(f"a case that skips would skip all that follow: {row}") from skip
                except (Exception, pytest.fail.Exception) as error:
                    yield row, error

        @functools.wraps(test)
        def run(**others: Any) -> None:
            reports, first = [], None
            for case, error in failures(**others):
                first = first or error
                reports.append(f"with {', '.join(f'{name}={value!r}' for name, value in case.items())}: {error}")
                if len(reports) == REPORTED:
                    break
            if reports:
                at_least = "at least " if len(reports) == REPORTED else ""
                raise AssertionError(f"{at_least}{len(reports)} cases failed\n" + "\n".join(reports)) from first

        signature = inspect.signature(test)
        assert set(parameters) <= set(signature.parameters), f"{test.__name__} has no {parameters}"
        left = [parameter for name, parameter in signature.parameters.items() if name not in parameters]
        run.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        run.failures = failures  # type: ignore[attr-defined]
        return run

    return decorate

"""What a design must answer, and how exact results are rounded to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...arithmetic.operations import OPERATIONS as TABLES
from ...arithmetic.operations import Flags, round_exact
from ...codec.boundaries import place
from ...codec.codec import encode, whole_table
from ...codec.rounding import Rounding, RoundingMode
from ...formats import Format
from .exact import Exact
from .floats import round_to_layout
from .model import Model
from .ports import Codes, Fixed, Float, Patterns, Relation

__all__ = ["Answers", "joined", "round_result", "with_conventions"]

Array = NDArray[np.float64]


class Answers(NamedTuple):
    """What a design must answer to some vectors.

    Attributes
    ----------
    results : ndarray of unsigned integers
        Bit patterns.
    flags : ndarray of uint8
        IEEE 754's exceptions, as bits of `rf8sim.arithmetic.codes.Flags` (TestFloat's).
    missing : ndarray of bool
        Where the result is NaN and its format has no code for it: such vectors are never asked.
    ties : ndarray of bool
        Where the exact result lies where the nearest modes must choose.
    """

    results: Patterns
    flags: NDArray[np.uint8]
    missing: NDArray[np.bool_]
    ties: NDArray[np.bool_]

    def at(self, where: NDArray[Any] | slice) -> Answers:
        """Return the answers to some of the vectors."""
        return Answers(self.results[where], self.flags[where], self.missing[where], self.ties[where])


def joined(pieces: Sequence[Answers]) -> Answers:
    """Return the answers of successive pieces as one."""
    results, flags, missing, ties = zip(*pieces, strict=True)
    return Answers(np.concatenate(results), np.concatenate(flags), np.concatenate(missing), np.concatenate(ties))


def round_result(model: Model, exact: Exact) -> Answers:
    """Round exact results to what a model answers; nothing is drawn."""
    values, flags, exactly = exact
    nowhere = np.zeros(values.shape, dtype=np.bool_)
    raised = flags.astype(np.uint8)
    kind = model.result.kind
    if isinstance(kind, Fixed):
        return Answers(kind.wrapped(values), raised, nowhere, nowhere)
    if isinstance(kind, Relation):
        return Answers(kind.patterns(values), raised, nowhere, nowhere)
    if isinstance(kind, Float):
        if model.keeps:
            return Answers(kind.patterns(values), raised, nowhere, nowhere)
        after = model.conventions.tininess == "after"
        rounded = round_to_layout(values, kind.layout, model.rounding, tiny_after=after)
        return Answers(rounded.patterns, raised | rounded.flags.astype(np.uint8), nowhere, rounded.ties)
    assert isinstance(kind, Codes)
    selects = model.operation in TABLES and TABLES[model.operation].selects
    codes, raised, missing = round_exact(values, flags, kind.format, model.rounding, exactly, selects)
    if model.conventions.tininess == "after" and kind.format.subnormals_below:
        raised = _tiny_after(values, raised, kind.format, model.rounding)
    return Answers(codes, raised, missing, _ties(values, kind.format))


def with_conventions(model: Model, answers: Answers) -> Answers:
    """Put a model's pattern in place of every NaN."""
    nan = model.conventions.nan
    if nan is None:
        return answers
    results = answers.results
    return answers._replace(
        results=np.where(model.result.kind.is_nan(results) & ~answers.missing, results.dtype.type(nan), results)
    )


def _tiny_after(values: Array, raised: NDArray[np.uint8], fmt: Format, rounding: Rounding) -> NDArray[np.uint8]:
    """Take underflow back where a number rounds up to the smallest normal value as though exponents had no bound.

    Twice the number has the bits of its significand that the number itself would keep then.
    """
    assert fmt.subnormals_below is not None
    tiny = np.flatnonzero(raised & Flags.UNDERFLOW)
    twice = encode(2 * values[tiny], fmt, rounding=replace(rounding, overflow="saturate"))
    normal = np.abs(whole_table(fmt.values)[twice]) >= 2 * fmt.subnormals_below
    lowered = raised.copy()
    lowered[tiny[normal]] &= np.uint8(0xFF ^ Flags.UNDERFLOW)
    return lowered


@lru_cache(maxsize=16)
def _midpoints(fmt: Format) -> tuple[Array, ...]:
    """Return where the nearest modes choose, then infinity, of each sign; once if both have the same."""
    signs = (False, True)[: 1 + fmt.signed]
    points = [np.append(place(fmt, RoundingMode.NEAREST_AWAY, negative).point, np.inf) for negative in signs]
    return tuple(points[:1] if np.array_equal(points[0], points[-1]) else points)


def _ties(values: Array, fmt: Format) -> NDArray[np.bool_]:
    """Say which numbers lie exactly where the nearest modes choose between two neighbours."""
    ties: NDArray[np.bool_] = np.isfinite(values) & (values != 0)
    sides = _midpoints(fmt)
    magnitudes = (values, -values) if len(sides) == 1 + fmt.signed else (np.abs(values),)
    at_a_point = [
        points[np.searchsorted(points[:-1], magnitude)] == magnitude
        for points, magnitude in zip(sides, magnitudes, strict=False)
    ]
    ties &= np.logical_or.reduce(at_a_point)
    return ties

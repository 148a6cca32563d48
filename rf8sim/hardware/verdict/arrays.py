"""The verdict on answers in arrays, as a testbench in Python or a model behind ctypes has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..golden.ports import Patterns, unsigned
from ..vectors.vectors import VectorSet
from .answers import Batch
from .comparison import Comparison
from .outcome import Verdict
from .verify import judge

__all__ = ["verify_arrays"]

_BLOCK = 1 << 17


def verify_arrays(
    asked: VectorSet,
    results: ArrayLike,
    flags: ArrayLike | None = None,
    comparison: Comparison | None = None,
    *,
    first: int = 10,
    progress: Callable[[str, int, int], None] | None = None,
) -> Verdict:
    """Compare a design's answers, one for each vector in order, with what is right.

    Parameters
    ----------
    asked : VectorSet
        What the design was asked.
    results : array_like of integers, shape (vectors,)
        Bit patterns of the results.
    flags : array_like of integers, shape (vectors,), optional
        IEEE flags, as in `VectorSet.flags`.
    comparison, first, progress
        As for `rf8sim.hardware.verdict.verify.verify`.

    Returns
    -------
    Verdict
        The verdict; the number of a line is that of a vector, from 1.

    Raises
    ------
    ValueError
        If a result has more bits than the port, or shapes do not agree.

    Examples
    --------
    >>> from rf8sim.hardware.vectors.vectors import vectors
    >>> asked = vectors("add", "rf6")
    >>> verify_arrays(asked, asked.results).passed
    True
    >>> verify_arrays(asked, asked.results ^ (asked.operands[0] == 9)).findings[0].kind
    'location'
    """
    got = _patterns("results", results, asked.model.result.bits)
    raised = None if flags is None else _patterns("flags", flags, 8)
    if raised is not None and raised.shape != got.shape:
        raise ValueError(f"there are {got.size:,} results and {raised.size:,} flags")
    return judge(asked, _batches(got, raised), comparison, first=first, progress=progress)


def _patterns(name: str, given: ArrayLike, bits: int) -> Patterns:
    array = np.asarray(given)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise ValueError(f"`{name}` must be integers of shape (vectors,), got {array.dtype} of shape {array.shape}")
    beyond = (array < 0) | (array > (1 << bits) - 1)
    if beyond.any():
        raise ValueError(f"`{name}` must be from 0 to {(1 << bits) - 1:#x}, got {array[beyond][0]}")
    return array.astype(unsigned(bits))


def _batches(results: Patterns, flags: NDArray[np.unsignedinteger] | None) -> Iterator[Batch]:
    none = np.zeros(0, dtype=np.int64)
    for start in range(0, results.size, _BLOCK):
        part = results[start : start + _BLOCK]
        lines = np.arange(start + 1, start + 1 + part.size)
        raised = None if flags is None else flags[start : start + _BLOCK].astype(np.uint8)
        yield Batch(lines, None, part, raised, None, [], 0, none, 0)

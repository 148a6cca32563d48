"""The loops that cut patterns of numbers into their bytes, and put them together again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_jit = njit(nogil=True, cache=True)

_U1, _U8 = np.uint64(1), np.uint64(8)
_SPAN = 4096
"""Patterns put together at a time: all steps find them in the fastest cache."""


@_jit
def split_bytes(patterns: Any, rotation: Any, planes: Any) -> None:
    """Put the bytes of each pattern, rotated to the left, into the rows of ``planes``, the highest into the first."""
    bits = _U8 * np.uint64(planes.shape[0])
    back = (bits - rotation) & (bits - _U1)  # 0 without a rotation: a shift by all bits has no meaning
    for plane in range(planes.shape[0]):
        shift = bits - _U8 * np.uint64(plane + 1)
        for i in range(patterns.size):
            planes[plane, i] = np.uint8(((patterns[i] << rotation) | (patterns[i] >> back)) >> shift)


@_jit
def join_bytes(planes: Any, rotation: Any, patterns: Any) -> None:
    """Undo `split_bytes`, of a tuple of planes: the loops are as simple as vector instructions need."""
    bits = _U8 * np.uint64(len(planes))
    back = (bits - rotation) & (bits - _U1)
    for start in range(0, patterns.size, _SPAN):
        out = patterns[start : start + _SPAN]
        for plane in range(len(planes)):
            part = planes[plane][start : start + _SPAN]
            if plane == 0:
                for i in range(out.size):
                    out[i] = part[i]
            else:
                for i in range(out.size):
                    out[i] = out[i] << _U8 | part[i]
        for i in range(out.size):
            out[i] = out[i] >> rotation | out[i] << back

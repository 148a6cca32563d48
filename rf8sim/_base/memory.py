"""Arrays that lie in memory as the machine likes to read them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["aligned_zeros"]

_LINE = 8  # float64 numbers in a line of the cache


def aligned_zeros(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return zeros that begin with a line of the cache, so that eight numbers in a row are one access.

    Examples
    --------
    >>> zeros = aligned_zeros((3, 8))
    >>> zeros.shape, zeros.ctypes.data % 64
    ((3, 8), 0)
    """
    size = math.prod(shape)
    memory = np.zeros(size + _LINE)
    skipped = -(memory.ctypes.data // memory.itemsize) % _LINE
    return memory[skipped : skipped + size].reshape(shape)

"""Arrays that lie in memory as the machine likes to read them, and how much of it was used."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["aligned_zeros", "peak_memory"]

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


def peak_memory() -> int:
    """Return the most bytes that this process has had resident, pages of mapped files included.

    Examples
    --------
    >>> peak_memory() > 1 << 20
    True
    """
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss counts a parent's there
        return 1024 * int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

"""The loop that measures channels one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def channel_sums(x: Any, codes: Any, values: Any, scale: Any, block: Any, squares: Any, errors: Any) -> None:
    """Add the squares and the squared errors of each row, element after element, so that pieces change no bit.

    ``scale`` has a row for each row of ``x`` or one for all, and a column for each ``block`` elements of a row.
    """
    for i in range(x.shape[0]):
        own = i if scale.shape[0] > 1 else 0
        square, error = squares[i], errors[i]
        for j in range(x.shape[1]):
            value = np.float64(x[i, j])
            off = value - values[codes[i, j]] * np.float64(scale[own, j // block])
            square += value * value
            error += off * off
        squares[i], errors[i] = square, error

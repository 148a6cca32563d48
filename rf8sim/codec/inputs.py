"""What numbers may be given as: arrays of which dtypes are encoded as they are, converted first, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ggd.arrays import as_numpy

from .._base.checks import dtype_name
from ..formats.floats import ARRAY_LAYOUTS, layouts

__all__ = ["as_data"]

_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_READY = frozenset((*ARRAY_LAYOUTS, *_INTEGERS))
_SMALL = frozenset(layout.dtype_name for layout in layouts() if layout.dtype_name is not None) - _READY


def as_data(x: ArrayLike) -> NDArray[Any]:
    """Return real numbers as a native-endian array of a dtype that encodes: float16 to float64, bfloat16, integers.

    Arrays of other libraries are copied (`ggd.arrays.as_numpy`). The small floats of ml_dtypes and PyTorch become
    float32, which holds them exactly. Everything else is refused.
    """
    array = as_numpy(x)
    name = dtype_name(array.dtype)
    if name in _READY:
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    if name in _SMALL:
        return array.astype(np.float32)
    what = "complex numbers" if array.dtype.kind == "c" else f"dtype {name}"
    raise TypeError(
        f"cannot encode {what}: expected float64, float32, float16, bfloat16 or an integer dtype; convert first"
    )

"""Scales and zero points as arrays of a file: each in the type of the format that it is stored in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codec.codec import decode, encode
from ..quantization.numbers import number_dtype, number_format
from .safetensors import stored_type

__all__ = ["FLOAT8", "array_type", "from_array", "to_array"]

FLOAT8 = {"e4m3fn": "F8_E4M3", "e5m2": "F8_E5M2"}
"""Formats that are stored in a type that other tools read; codes of others are U8.

Powers of two (E8M0) are U8 too: safetensors' reader for numpy opens no file that has the type F8_E8M0.
"""


def array_type(name: str) -> str:
    """Return the safetensors type of numbers of a layout or a format.

    Examples
    --------
    >>> array_type("float32"), array_type("e8m0fnu"), array_type("e4m3fn")
    ('F32', 'U8', 'F8_E4M3')
    """
    dtype = number_dtype(name)
    return FLOAT8.get(name, "U8") if dtype is None else stored_type(dtype.name)


def to_array(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Return numbers that a layout or format holds exactly as a file stores them: floats, or codes of 8 bits."""
    dtype, fmt = number_dtype(name), number_format(name)
    if fmt is None:
        return values.astype(dtype)
    codes: NDArray[np.uint8] = encode(values, fmt)
    return codes


def from_array(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Return the numbers of an array of a file.

    Raises
    ------
    ValueError
        If it holds codes that the format does not have.
    """
    fmt = number_format(name)
    if fmt is None:
        return array.astype(np.float32)
    values: NDArray[np.float32] = decode(array.view(np.uint8), fmt)
    return values

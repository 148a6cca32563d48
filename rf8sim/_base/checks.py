"""Checks of what callers pass in, and the words in which they are refused."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["as_codes", "as_output", "choose", "dtype_name", "invalid_field"]


@cache
def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return ``dtype.name``, which numpy works out anew at each call."""
    return dtype.name


def choose(kind: str, name: object, options: Iterable[str]) -> str:
    """Return ``name`` if it is one of the options; else raise ValueError and suggest the nearest."""
    options = [str(option) for option in options]
    if name in options:
        return str(name)
    close = difflib.get_close_matches(str(name), options, n=1, cutoff=0.52)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"unknown {kind} {name!r}: {hint}the choices are {', '.join(options)}")


def invalid_field(error: Exception) -> str:
    """Return msgspec's validation error as a sentence that begins with the field."""
    text, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    missing = re.fullmatch(r"Object missing required field `(.+)`", text)
    if missing:
        return f"field {'.'.join(filter(None, [path, missing[1]]))!r} is missing"
    text = text.replace("`", "")
    text = re.sub(r"^Expected (.+), got (.+?)( [><]=? .+)?$", r"expected \1\3, got \2", text)
    text = re.sub(r"^Expected", "expected", text)
    return f"field {path!r}: {text}" if path else text


def as_codes(codes: ArrayLike, bits: int, name: str) -> NDArray[Any]:
    """Return codes as uint8, of more than 8 bits as uint16; raise if a format of so many bits has no such codes."""
    dtype = np.dtype(np.uint8 if bits <= 8 else np.uint16)
    array = np.asarray(codes)
    if array.dtype == dtype:
        if bits == 8 * dtype.itemsize or array.size == 0:
            return array
    elif array.dtype.kind not in "iu":
        raise TypeError(
            f"codes are unsigned {8 * dtype.itemsize}-bit integers, got dtype {array.dtype.name}; encode the data first"
        )
    if array.size and (int(array.min()) < 0 or int(array.max()) >> bits):
        raise ValueError(f"codes of {name} run from 0 to {(1 << bits) - 1}, got {array.min()} to {array.max()}")
    return array.astype(dtype)


def as_output(out: NDArray[Any] | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return ``out`` after checking it, or a new array."""
    if out is None:
        return np.empty(shape, dtype=dtype)
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != dtype or not out.flags.writeable:
        read_only = "read-only " if isinstance(out, np.ndarray) and not out.flags.writeable else ""
        got = f"{read_only}{out.dtype.name} of shape {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ValueError(f"out must be a writable {dtype.name} array of shape {shape}, got {got}")
    return out

"""Checks of what callers pass in, and the words in which they are refused."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "are_integers", "as_codes", "as_integer", "as_output", "choose", "dtype_name", "invalid_field", "suggestion",
]  # fmt: skip

_ALIASES: dict[str, tuple[str, ...]] = {
    "fp64": ("float64",),
    "double": ("float64",),
    "fp32": ("float32",),
    "single": ("float32",),
    "fp16": ("float16",),
    "half": ("float16",),
    "bf16": ("bfloat16",),
    "fp8": ("e4m3fn", "e5m2"),
    "fp6": ("e2m3fn", "e3m2fn"),
    "fp4": ("e2m1fn",),
}
"""Names that other tools use, and what they are called here: no name of similar letters is suggested for these."""

_SHORTEST = 3  # letters of a name that is searched for inside others
_MOST_SUGGESTED = 3


@cache
def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return ``dtype.name``, which numpy works out anew at each call."""
    return dtype.name


def choose(kind: str, name: object, options: Iterable[str]) -> str:
    """Return ``name`` if it is one of the options; else raise ValueError and suggest the nearest."""
    options = [str(option) for option in options]
    if name in options:
        return str(name)
    raise ValueError(f"unknown {kind} {name!r}: {suggestion(str(name), options)}the choices are {', '.join(options)}")


def suggestion(name: str, options: Iterable[str]) -> str:
    """Return ``"did you mean 'x'? "`` for a name that is not among the options, or an empty string.

    What other tools call an option comes first, then options that begin with the name, then those that have it inside,
    then the one of the most similar letters.

    Examples
    --------
    >>> suggestion("fp32", ["tf32", "float32"]), suggestion("e4m3fm", ["e4m3fn", "e5m2"])
    ("did you mean 'float32'? ", "did you mean 'e4m3fn'? ")
    >>> suggestion("mxfp8", ["rf8", "mxfp8_e4m3", "mxfp8_e5m2"])
    "did you mean 'mxfp8_e4m3' or 'mxfp8_e5m2'? "
    """
    options, lowered = list(options), name.lower()
    alike = [option for option in options if lowered in option.lower()] if len(name) >= _SHORTEST else []
    if lowered in _ALIASES:
        named = [option for option in _ALIASES[lowered] if option in options]
    elif alike:
        named = [option for option in alike if option.lower().startswith(lowered)] or alike
    else:
        named = difflib.get_close_matches(lowered, options, n=1, cutoff=0.52)
    shown = [repr(option) for option in named[:_MOST_SUGGESTED]]
    return f"did you mean {' or '.join(filter(None, [', '.join(shown[:-1]), shown[-1]]))}? " if shown else ""


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


def are_integers(*values: object) -> bool:
    """Return whether all are Python integers; truth values are none.

    Examples
    --------
    >>> are_integers(1, 2), are_integers(1, 2.0), are_integers(True)
    (True, False, False)
    """
    return all(isinstance(value, int) and not isinstance(value, bool) for value in values)


def as_integer(name: str, value: object, least: int, largest: int, words: str = "") -> int:
    """Return an integer of a range, NumPy's included; raise ValueError for anything else.

    Parameters
    ----------
    name : str
        What the argument is called.
    value : object
        The argument.
    least, largest : int
        The range.
    words : str
        The range in words; by default ``from least to largest``.

    Examples
    --------
    >>> as_integer("bits", np.uint8(3), 1, 8)
    3
    >>> as_integer("bits", 2.5, 1, 8)
    Traceback (most recent call last):
    ...
    ValueError: bits must be an integer from 1 to 8, got 2.5
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if not least <= number <= largest:
        raise ValueError(f"{name} must be an integer {words or f'from {least} to {largest}'}, got {value!r}")
    return number


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

"""The arrays of a file that make up a quantized tensor: their names, types and shapes, and numbers in them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codec.codec import decode, encode
from ..quantization.numbers import number_dtype, number_format
from ..quantization.records import convert
from .header import SchemeHeader, TensorHeader
from .layouts import NATIVE, layout_of
from .packing import packed_shape
from .plan import Recipe
from .safetensors import Entry, stored_type

__all__ = ["array_type", "from_array", "tensor_arrays", "to_array"]


def array_type(name: str) -> str:
    """Return the safetensors type of numbers of a layout or a format.

    Examples
    --------
    >>> array_type("float32"), array_type("e8m0fnu"), array_type("e4m3fn"), array_type("posit16_es2")
    ('F32', 'U8', 'F8_E4M3', 'U16')
    """
    dtype, fmt = number_dtype(name), number_format(name)
    if fmt is None:
        assert dtype is not None
        return stored_type(dtype.name)
    return NATIVE.get(name, stored_type(fmt.code_dtype.name))


def to_array(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Return numbers that a layout or format holds exactly as a file stores them: floats, or codes."""
    dtype, fmt = number_dtype(name), number_format(name)
    if fmt is None:
        return values.astype(dtype)
    codes: NDArray[Any] = encode(values, fmt)
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
    with np.errstate(over="ignore"):
        values: NDArray[np.float32] = decode(array.view(fmt.code_dtype), fmt, dtype=np.float64).astype(np.float32)
    return values


def tensor_arrays(
    name: str, recipe: Recipe, shape: tuple[int, ...], dtype: str, protected: int = 0, kept_in: str = ""
) -> tuple[TensorHeader, list[Entry]]:
    """Return what the header says of a quantized tensor, and the arrays that it is made of.

    Parameters
    ----------
    name : str
        The tensor's name.
    recipe : Recipe
        How it is stored.
    shape : tuple of int
        Its shape.
    dtype : str
        Its type before.
    protected : int
        How many elements are kept exactly.
    kept_in : str
        Their type.

    Returns
    -------
    header : TensorHeader
        Without the figures that come with the data.
    entries : list of Entry
        The codes first, then in the order of `TensorHeader.parts`. A shape of (-1,) is a number of bytes that comes
        with the data.

    Raises
    ------
    ValueError
        If safetensors has not the type of the tensor, or of the values that are kept exactly.

    Examples
    --------
    >>> header, entries = tensor_arrays("w", Recipe("int4/channel"), (8, 64), "float32")
    >>> [(entry.name, entry.dtype, entry.shape) for entry in entries]
    [('w', 'U8', (8, 32)), ('w.scale', 'F32', (8, 1))]
    """
    stored_type(dtype)  # what it can be decoded to
    scheme, coded = recipe.scheme, recipe.entropy != "none"
    bits = scheme.format.bits
    layout = layout_of(name, recipe, shape)
    described = convert(scheme.to_json(), SchemeHeader)
    header = TensorHeader(scheme=described, seed=recipe.seed, entropy=recipe.entropy, shape=list(shape), dtype=dtype)
    header.codes, header.outer_divides = layout.codes if layout.codes != name else "", layout.outer_divides
    entries = [Entry(name, "U8", (-1,)) if coded else Entry(layout.codes, layout.codes_type, packed_shape(shape, bits))]
    for part, level, scales in zip(layout.scales, scheme.levels, scheme.scale_shapes(shape), strict=False):
        header.scales.append(part)
        entries.append(Entry(part, array_type(level.format), scales or (1,)))
    if scheme.scales is not None and scheme.scales.zero is not None:
        header.zero = f"{name}.zero"
        entries.append(Entry(header.zero, array_type(scheme.scales.zero), entries[1].shape))
    if protected:
        header.exact_index, header.exact = f"{name}.exact_index", f"{name}.exact"
        header.protected, header.kept_in = protected, kept_in
        entries.append(Entry(header.exact_index, "I32" if math.prod(shape) < 2**31 else "I64", (protected,)))
        entries.append(Entry(header.exact, stored_type(kept_in), (protected,)))
    return header, entries

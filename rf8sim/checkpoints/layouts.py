"""What the arrays of a quantized tensor are called and typed, so that other tools read them where they can."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..quantization.scheme import Scheme
from ..quantization.tensor import QuantizedTensor
from .plan import Recipe

__all__ = ["NATIVE", "Layout", "divided", "layout_of"]

NATIVE = {"e4m3fn": "F8_E4M3", "e5m2": "F8_E5M2", "float16": "F16", "bfloat16": "BF16"}
"""Formats that are stored in a type that other tools read; codes of others are U8, those of 16 bits U16.

Powers of two (E8M0) are U8 too: safetensors' reader for numpy opens no file that has the type F8_E8M0.
"""


class Layout(NamedTuple):
    """The arrays of a quantized tensor.

    Attributes
    ----------
    codes : str
        Name of the array of codes.
    codes_type : str
        Its safetensors type.
    scales : tuple of str
        Names of the arrays of scales, the outer ones last.
    form : str
        What the library compressed-tensors calls weights stored so; empty where it has no such form.
    outer_divides : bool
        Whether the array of the outer scale holds its reciprocal.
    """

    codes: str
    codes_type: str
    scales: tuple[str, str]
    form: str = ""
    outer_divides: bool = False


def layout_of(name: str, recipe: Recipe, shape: tuple[int, ...]) -> Layout:
    """Return the names and types of the arrays of a quantized tensor.

    Parameters
    ----------
    name : str
        The tensor's name.
    recipe : Recipe
        How it is stored.
    shape : tuple of int
        Its shape.

    Returns
    -------
    Layout
        That of compressed-tensors where it has one for the scheme; else the codes under the tensor's own name.

    Examples
    --------
    >>> layout_of("up.weight", Recipe("nvfp4"), (8, 64))[:3]
    ('up.weight_packed', 'U8', ('up.weight_scale', 'up.weight_global_scale'))
    >>> layout_of("up.weight", Recipe("int8"), (8, 64)).form, layout_of("up.weight", Recipe("rf8"), (8, 64)).form
    ('int-quantized', '')
    """
    scheme = recipe.scheme
    codes_type = NATIVE.get(scheme.format.name, "U16" if scheme.format.bits == 16 else "U8")
    usual = Layout(name, codes_type, (f"{name}.scale", f"{name}.scale_outer"))
    if recipe.entropy != "none" or scheme.scales is None or scheme.scales.zero is not None:
        return usual
    names = (f"{name}_scale", f"{name}_global_scale")
    form = _FORMS.get((scheme.format.name, *_level_formats(scheme)), "")
    if form in ("float-quantized", "int-quantized"):
        return Layout(name, "I8" if form == "int-quantized" else codes_type, names, form)
    if scheme.format.name == "e5m2" and _level_formats(scheme) == ("float32",):
        return Layout(name, codes_type, names)
    group = _GROUPS.get(form)
    if group is None or group != scheme.scales.block or len(shape) != 2 or shape[1] % group[1]:
        return usual
    if not name.endswith(".weight"):
        return usual
    if form == "mxfp8-quantized":
        return Layout(name, codes_type, names, form)
    return Layout(f"{name}_packed", "U8", names, form, form == "nvfp4-pack-quantized")


_FORMS = {
    ("e4m3fn", "float32"): "float-quantized",
    ("int8", "float32"): "int-quantized",
    ("e2m1fn", "e8m0fnu"): "mxfp4-pack-quantized",
    ("e4m3fn", "e8m0fnu"): "mxfp8-quantized",
    ("e2m1fn", "e4m3fn", "float32"): "nvfp4-pack-quantized",
}
"""From the formats of elements, scales and outer scales to the form of compressed-tensors."""

_GROUPS = {"mxfp4-pack-quantized": (1, 32), "mxfp8-quantized": (1, 32), "nvfp4-pack-quantized": (1, 16)}
"""The blocks of the forms that have one size alone."""


def _level_formats(scheme: Scheme) -> tuple[str, ...]:
    """Return the formats of the scales; none that is in `_FORMS` if the outer scales are several."""
    if len(scheme.levels) > 1 and scheme.levels[1].block is not None:
        return ()
    return tuple(level.format for level in scheme.levels)


def divided(piece: QuantizedTensor) -> QuantizedTensor:
    """Return a tensor with an outer scale as compressed-tensors computes it.

    It divides the scales by the reciprocal of the outer scale, in float32, and multiplies codes by the quotients.

    Parameters
    ----------
    piece : QuantizedTensor
        A tensor with one outer scale.

    Returns
    -------
    QuantizedTensor
        The same codes, with the quotients as scales.
    """
    inner, outer = piece.scales
    scales = piece.scheme.scales
    assert scales is not None
    quotients = (inner / (np.float32(1) / outer)).astype(np.float32)
    scheme = replace(piece.scheme, scales=replace(scales, format="float32", outer=None))
    return replace(piece, scales=(quotients,), scheme=scheme)

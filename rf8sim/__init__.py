"""Bit-exact simulation of RF8 and other 8-bit number formats.

Examples
--------
>>> import rf8sim
>>> rf8sim.decode(rf8sim.encode(0.3, "rf8"), "rf8")
array(0.3125, dtype=float32)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .arithmetic import absolute as absolute
    from .arithmetic import add as add
    from .arithmetic import compare as compare
    from .arithmetic import convert as convert
    from .arithmetic import divide as divide
    from .arithmetic import fma as fma
    from .arithmetic import maximum as maximum
    from .arithmetic import minimum as minimum
    from .arithmetic import multiply as multiply
    from .arithmetic import negate as negate
    from .arithmetic import sqrt as sqrt
    from .arithmetic import subtract as subtract
    from .codec import canonical as canonical
    from .codec import decode as decode
    from .codec import encode as encode
    from .codec import random_words as random_words
    from .contractions import conv2d as conv2d
    from .contractions import einsum as einsum
    from .dequantization import dequantize_checkpoint as dequantize_checkpoint
    from .formats import Format as Format
    from .formats import format_names as format_names
    from .formats import get_format as get_format
    from .formats import register as register
    from .guard import quantize_checkpoint as quantize_checkpoint
    from .linalg import dot as dot
    from .linalg import matmul as matmul
    from .linalg import matvec as matvec
    from .loading import load_quantized as load_quantized
    from .metrics import QuantizationError as QuantizationError
    from .metrics import measure as measure
    from .qarray import QArray as QArray
    from .quantized import open_quantized as open_quantized
    from .rounding import Overflow as Overflow
    from .rounding import RoundingMode as RoundingMode
    from .scaling import QuantizedTensor as QuantizedTensor
    from .scaling import quantize as quantize

# Names are imported when first used, so that `import rf8sim` costs nothing.
_HOMES = {
    **dict.fromkeys(("conv2d", "einsum"), "contractions"),
    **dict.fromkeys(("dot", "matmul", "matvec"), "linalg"),
    **dict.fromkeys(("absolute", "add", "compare", "convert", "divide", "fma", "maximum", "minimum"), "arithmetic"),
    **dict.fromkeys(("multiply", "negate", "sqrt", "subtract"), "arithmetic"),
    "Format": "formats",
    "Overflow": "rounding",
    "QuantizationError": "metrics",
    "QArray": "qarray",
    "QuantizedTensor": "scaling",
    "RoundingMode": "rounding",
    "canonical": "codec",
    "decode": "codec",
    "dequantize_checkpoint": "dequantization",
    "encode": "codec",
    "format_names": "formats",
    "get_format": "formats",
    "load_quantized": "loading",
    "measure": "metrics",
    "open_quantized": "quantized",
    "quantize": "scaling",
    "quantize_checkpoint": "guard",
    "random_words": "codec",
    "register": "formats",
}

__all__ = ["__version__", *_HOMES]


if not TYPE_CHECKING:  # else a name that does not exist would be one to type checkers

    def __getattr__(name: str) -> Any:
        if name == "formats":
            return importlib.import_module(".formats", __name__)
        if name in _HOMES:
            value = globals()[name] = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

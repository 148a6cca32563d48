"""Bit-exact simulation of RF8 and other number formats of 1 to 16 bits.

Examples
--------
>>> import rf8sim
>>> rf8sim.decode(rf8sim.encode(0.3, "rf8"), "rf8")
array(0.3125, dtype=float32)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .arithmetic.accumulation import Accumulation as Accumulation
    from .arithmetic.accumulation import OperandScales as OperandScales
    from .arithmetic.codes import absolute as absolute
    from .arithmetic.codes import add as add
    from .arithmetic.codes import compare as compare
    from .arithmetic.codes import convert as convert
    from .arithmetic.codes import divide as divide
    from .arithmetic.codes import fma as fma
    from .arithmetic.codes import maximum as maximum
    from .arithmetic.codes import minimum as minimum
    from .arithmetic.codes import multiply as multiply
    from .arithmetic.codes import negate as negate
    from .arithmetic.codes import sqrt as sqrt
    from .arithmetic.codes import subtract as subtract
    from .arithmetic.contractions import conv2d as conv2d
    from .arithmetic.contractions import einsum as einsum
    from .arithmetic.linalg import dot as dot
    from .arithmetic.linalg import matmul as matmul
    from .arithmetic.linalg import matvec as matvec
    from .arithmetic.qarray import QArray as QArray
    from .checkpoints.dequantization import dequantize_checkpoint as dequantize_checkpoint
    from .checkpoints.guard import quantize_checkpoint as quantize_checkpoint
    from .checkpoints.loading import load_quantized as load_quantized
    from .checkpoints.quantized import open_quantized as open_quantized
    from .codec.codec import canonical as canonical
    from .codec.codec import decode as decode
    from .codec.codec import encode as encode
    from .codec.codec import random_words as random_words
    from .codec.rounding import Overflow as Overflow
    from .codec.rounding import Rounding as Rounding
    from .codec.rounding import RoundingMode as RoundingMode
    from .formats import Format as Format
    from .formats import format_names as format_names
    from .formats import get_format as get_format
    from .formats import register as register
    from .quantization.metrics import QuantizationError as QuantizationError
    from .quantization.metrics import measure as measure
    from .quantization.scheme import Scales as Scales
    from .quantization.scheme import Scheme as Scheme
    from .quantization.scheme import as_scheme as as_scheme
    from .quantization.scheme import scheme_names as scheme_names
    from .quantization.tensor import QuantizedTensor as QuantizedTensor
    from .quantization.tensor import quantize as quantize

# Names are imported when first used, so that `import rf8sim` costs nothing.
_HOMES = {
    **dict.fromkeys(("Accumulation", "OperandScales"), "arithmetic.accumulation"),
    **dict.fromkeys(("conv2d", "einsum"), "arithmetic.contractions"),
    **dict.fromkeys(("dot", "matmul", "matvec"), "arithmetic.linalg"),
    **dict.fromkeys(("absolute", "add", "compare", "convert", "divide", "fma"), "arithmetic.codes"),
    **dict.fromkeys(("maximum", "minimum", "multiply", "negate", "sqrt", "subtract"), "arithmetic.codes"),
    "Format": "formats",
    "Overflow": "codec.rounding",
    "QuantizationError": "quantization.metrics",
    "QArray": "arithmetic.qarray",
    "QuantizedTensor": "quantization.tensor",
    "Rounding": "codec.rounding",
    "RoundingMode": "codec.rounding",
    "Scales": "quantization.scheme",
    "Scheme": "quantization.scheme",
    "as_scheme": "quantization.scheme",
    "canonical": "codec.codec",
    "decode": "codec.codec",
    "dequantize_checkpoint": "checkpoints.dequantization",
    "encode": "codec.codec",
    "format_names": "formats",
    "get_format": "formats",
    "load_quantized": "checkpoints.loading",
    "measure": "quantization.metrics",
    "open_quantized": "checkpoints.quantized",
    "quantize": "quantization.tensor",
    "quantize_checkpoint": "checkpoints.guard",
    "random_words": "codec.codec",
    "register": "formats",
    "scheme_names": "quantization.scheme",
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

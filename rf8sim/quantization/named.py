"""The named schemes: how the field stores tensors, as text forms of `rf8sim.Scheme`, each with its source."""

from __future__ import annotations

__all__ = ["NAMED"]

_MX = "OCP Microscaling Formats 1.0"

NAMED: dict[str, tuple[str, str]] = {
    "mxfp8_e4m3": ("e4m3fn/1x32:e8m0fnu,floor", f"{_MX}, MXFP8"),
    "mxfp8_e5m2": ("e5m2/1x32:e8m0fnu,floor", f"{_MX}, MXFP8"),
    "mxfp6_e3m2": ("e3m2fn/1x32:e8m0fnu,floor", f"{_MX}, MXFP6"),
    "mxfp6_e2m3": ("e2m3fn/1x32:e8m0fnu,floor", f"{_MX}, MXFP6"),
    "mxfp4": ("e2m1fn/1x32:e8m0fnu,floor", f"{_MX}, MXFP4"),
    "mxint8": ("int8/1x32:e8m0fnu,floor", f"{_MX}, MXINT8: its factor 2**-6 is part of the scale"),
    "nvfp4": (
        "e2m1fn/1x16:e4m3fn,max,nearest-even/tensor:float32,max",
        "NVIDIA NVFP4: E4M3 scales of 16 elements, one float32 scale for the tensor",
    ),
    "fp8_128x128": ("e4m3fn/128x128,max", "DeepSeek-V3, section 3.3: weights of 128 x 128 to a scale"),
    "int8_channel": ("int8/channel,max", "symmetric INT8, a scale for each output"),
    "int4_g128": ("int4/1x128:float16,max,nearest-even", "symmetric INT4, groups of 128"),
    "nf4_g64": ("nf4/1x64,max", "QLoRA (Dettmers et al., 2023): NF4 in blocks of 64, without double quantization"),
    "q8_0": ("int8/1x32:float16,max,nearest-even", "GGUF Q8_0"),
    "q4_0": ("int4/1x32:float16,signed", "GGUF Q4_0: the extreme element maps to -8"),
    "q4_1": ("uint4/1x32:float16,max,nearest-even,zero=float16", "GGUF Q4_1: a scale and a minimum"),
}
"""For each name the text form, in full as `Scheme.text` writes it, and where it is from."""

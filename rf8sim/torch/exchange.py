"""Schemes in the words of other tools that quantize models of PyTorch."""

from __future__ import annotations

from typing import Any

import torch

from ..formats import Format
from ..quantization.scheme import Scheme, as_scheme

__all__ = ["torchao_config"]

_FLOATS = {"e4m3fn": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}
_INTEGERS = {f"int{bits}": getattr(torch, f"int{bits}") for bits in range(2, 9)}
_SCALES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_MX = {**_FLOATS, "e2m1fn": torch.float4_e2m1fn_x2}
_MX_RULES = {"floor": "FLOOR", "ceil": "CEIL", "rceil": "RCEIL", "even": "EVEN"}


def torchao_config(scheme: str | Format | Scheme) -> Any:
    """Return the configuration by which torchao's ``quantize_`` stores weights as a scheme does.

    Codes, blocks and the format of scales are the scheme's. The scales are torchao's to choose, from the largest
    magnitudes: its int8 divides by 127.5 where rule ``max`` divides by 127. Codes and scales of a trained model, as
    they are, are what `save_quantized` writes.

    Parameters
    ----------
    scheme : str, Format or Scheme
        E4M3 or E5M2 with float32 scales of a tensor or a channel (`Float8WeightOnlyConfig`); int8 likewise
        (`Int8WeightOnlyConfig`); int2 to int8 with scales of ``1xN`` in float32, float16 or
        bfloat16 (`IntxWeightOnlyConfig`); nvfp4
        (`NVFP4WeightOnlyConfig`); MXFP8 and MXFP4 (`MXDynamicActivationMXWeightConfig`, which rounds the inputs of
        layers to the same format; torchao has no other).

    Returns
    -------
    torchao.core.config.AOBaseConfig

    Raises
    ------
    ValueError
        If torchao has no such weights.
    ImportError
        If torchao is not installed.

    Examples
    --------
    >>> torchao_config("rf8/channel")
    Traceback (most recent call last):
    ValueError: torchao has no weights stored as rf8/channel; it has those of e4m3fn, e5m2 and int8 ...
    """
    stored = as_scheme(scheme)
    name, scales, levels = stored.format.name, stored.scales, tuple(level.format for level in stored.levels)
    if scales is None or scales.zero is not None:
        raise _unknown(stored)
    whole, row = scales.block is None, scales.block == (1, -1)
    group = scales.block[1] if scales.block is not None and scales.block[0] == 1 and not row else None
    if levels == ("float32",) and (whole or row) and (name in _FLOATS or name == "int8"):
        from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, PerRow, PerTensor

        granularity = PerTensor() if whole else PerRow()
        if name == "int8":
            return Int8WeightOnlyConfig(granularity=granularity)
        return Float8WeightOnlyConfig(_FLOATS[name], granularity=granularity)
    if len(levels) == 1 and levels[0] in _SCALES and name in _INTEGERS and (row or group):
        from torchao.quantization import IntxWeightOnlyConfig, PerAxis, PerGroup

        of_scales = _SCALES[levels[0]]
        return IntxWeightOnlyConfig(_INTEGERS[name], PerAxis(0) if row else PerGroup(group), scale_dtype=of_scales)
    if levels == ("e4m3fn", "float32") and name == "e2m1fn" and group == 16:
        from torchao.prototype.mx_formats import NVFP4WeightOnlyConfig

        return NVFP4WeightOnlyConfig()
    if levels == ("e8m0fnu",) and name in _MX and group == 32 and scales.rule in _MX_RULES:
        from torchao.prototype.mx_formats import MXDynamicActivationMXWeightConfig, ScaleCalculationMode

        mode = ScaleCalculationMode[_MX_RULES[scales.rule]]
        return MXDynamicActivationMXWeightConfig(weight_dtype=_MX[name], activation_dtype=_MX[name], scaling_mode=mode)
    raise _unknown(stored)


def _unknown(scheme: Scheme) -> ValueError:
    return ValueError(
        f"torchao has no weights stored as {scheme}; it has those of e4m3fn, e5m2 and int8 with a float32 scale for "
        "the tensor or each channel, integers of 2 to 8 bits in groups of a row, nvfp4, mxfp8 and mxfp4"
    )

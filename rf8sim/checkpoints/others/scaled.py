"""Codes of 8 bits with scales beside them: as of DeepSeek, compressed-tensors, ModelOpt, Quanto, torchao."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..safetensors import dtype_of, stored_type
from ..tensor_info import TensorInfo
from .parts import Decode, Meaning, Parts, block_of, exponents, read, read_rows, row_scales

__all__ = ["byte_numbers", "scaled", "scaled_by_columns", "scaled_floats"]

_CODES = {"float8_e4m3fn": "e4m3fn", "float8_e5m2": "e5m2", "float8_e4m3fnuz": "e4m3fnuz",
          "float8_e5m2fnuz": "e5m2fnuz", "int8": "int8"}  # fmt: skip


def scaled(parts: Parts, config: dict[str, Any]) -> Meaning | None:
    """Read codes times scales: one for the tensor, for each channel, for groups of a row, or for rectangles."""
    codes = parts["codes"]
    scale = next(part for suffix, part in parts.items() if suffix.strip("._") in ("scale_inv", "scale", "weight_scale"))
    zero = next((part for suffix, part in parts.items() if suffix.endswith("zero_point")), None)
    if codes.dtype not in _CODES or not codes.shape or not _is_scale(scale.dtype):
        return None
    blocks = blocks_of(codes.shape, scale.shape, _usual(config))
    if blocks is None or (zero is not None and zero.shape != scale.shape):
        return None
    words = f"{_CODES[codes.dtype]}, {scale_words(scale.dtype)} {block_words(blocks, codes.shape)}"
    return Meaning(codes.shape, words, lambda: _decode(parts, scale.name, None if zero is None else zero.name, blocks))


def scaled_floats(parts: Parts, config: dict[str, Any]) -> Meaning | None:
    """Read our own float16 and bfloat16 codes without their header: times one scale, or a scale for each block."""
    codes, scale = parts["codes"], parts[".scale"]
    blocks = blocks_of(codes.shape, scale.shape) if codes.shape else None
    if blocks is None or scale.dtype != "float32" or ".scale_outer" in parts or ".zero" in parts:
        return None
    words = f"{codes.dtype}, a float32 scale {block_words(blocks, codes.shape)}"
    grid = tuple(-(-length // block) for length, block in zip(codes.shape, blocks, strict=True))

    def decode() -> Decode:
        scales = row_scales(read(scale).reshape(grid), codes.shape, blocks)
        return lambda rows: read_rows(codes, rows).astype(np.float32) * scales(rows)

    return Meaning(codes.shape, words, decode)


def scaled_by_columns(parts: Parts, config: dict[str, Any]) -> Meaning | None:
    """Read bitsandbytes' int8: codes times SCB / 127, one for each channel."""
    codes, largest = parts["codes"], parts["SCB"]
    if codes.dtype != "int8" or len(codes.shape) != 2 or largest.size != codes.shape[0]:
        return None

    def decode() -> Decode:
        scales = read(largest).reshape(-1, 1).astype(np.float64) / 127
        return lambda rows: (read_rows(codes, rows) * scales[rows.start : rows.stop]).astype(np.float32)

    return Meaning(codes.shape, "int8, a float32 scale for each channel", decode)


def blocks_of(
    shape: tuple[int, ...], scales: tuple[int, ...], usual: list[int] | None = None
) -> tuple[int, ...] | None:
    """Return the shape of the blocks that share a scale; None if the shapes do not belong together.

    Examples
    --------
    >>> blocks_of((576, 512), (5, 4)), blocks_of((8, 64), (8, 1)), blocks_of((8, 64), ()), blocks_of((8, 64), (4, 3))
    ((128, 128), (1, 64), (8, 64), None)
    """
    if math.prod(scales) == 1:
        return shape
    if len(scales) < len(shape):
        scales = (*scales, *[1] * (len(shape) - len(scales)))
    if len(scales) != len(shape):
        return None
    near: list[int | None] = [None] * (len(shape) - 2)
    near += [None, None] if usual is None else usual
    blocks = [block_of(*lengths) for lengths in zip(shape, scales, near[-len(shape) :], strict=True)]
    return None if None in blocks else tuple(block for block in blocks if block)


def block_words(blocks: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Say what shares a scale."""
    if blocks == shape:
        return "for the tensor"
    if set(blocks[:-1]) == {1}:
        return "for each channel" if blocks[-1] == shape[-1] else f"for {blocks[-1]} of a row"
    return "for " + " x ".join(map(str, blocks))


def scale_words(dtype: str) -> str:
    """Say what a scale is stored in."""
    name = {"uint8": "E8M0", "float8_e8m0fnu": "E8M0"}.get(dtype, dtype.removeprefix("float8_"))
    return f"{'an' if name[0] in 'Ee' else 'a'} {name} scale"


def _usual(config: dict[str, Any]) -> list[int] | None:
    """Return the block that a model's config names."""
    block = config.get("weight_block_size")
    known = isinstance(block, list) and len(block) == 2 and all(type(length) is int and length > 0 for length in block)
    return block if known else None


def _is_scale(dtype: str) -> bool:
    return dtype in ("float32", "float16", "bfloat16", "float64", "float8_e8m0fnu", "uint8")


def _decode(parts: Parts, scale_name: str, zero_name: str | None, blocks: tuple[int, ...]) -> Decode:
    by_name = {part.name: part for part in parts.values()}
    scale = by_name[scale_name]
    stored = read(scale)
    values = exponents(stored) if scale.dtype in ("uint8", "float8_e8m0fnu") else stored.astype(np.float32)
    zeros = None if zero_name is None else read(by_name[zero_name]).astype(np.float32)
    return byte_numbers(parts["codes"], values, zeros, blocks)


def byte_numbers(
    codes: TensorInfo, scale: NDArray[np.float32], zero: NDArray[np.float32] | None, blocks: tuple[int, ...]
) -> Decode:
    """Return what decodes codes of 8 bits less zero points, times the scales, one of each for every block."""
    grid = tuple(-(-length // block) for length, block in zip(codes.shape, blocks, strict=True))
    table = (
        np.arange(256, dtype=np.uint8).view(dtype_of(stored_type(codes.dtype))).astype(np.float32)
    )  # faster than a cast
    scales = row_scales(scale.reshape(grid), codes.shape, blocks)
    zeros = None if zero is None else row_scales(zero.reshape(grid), codes.shape, blocks)

    def decode(rows: range) -> NDArray[np.float32]:
        here = read_rows(codes, rows)
        numbers = here.astype(np.float32) if codes.dtype == "int8" else table[here.view(np.uint8)]
        if zeros is not None:
            numbers -= zeros(rows)
        numbers *= scales(rows)  # codes of 8 bits times a float32: rounded once
        return numbers

    return decode

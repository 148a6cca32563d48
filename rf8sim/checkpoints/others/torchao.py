"""torchao's tensors as its safetensors files have them: parts of ``l.weight`` are ``l._weight_qdata`` and the like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..packing import unpack
from ..tensor_info import TensorInfo
from .packed import e2m1_blocks
from .parts import Decode, Meaning, Parts, block_of, exponents, read, read_rows, rows_in
from .scaled import byte_numbers, scale_words, scaled

__all__ = ["torchao_bytes", "torchao_four_bit_floats", "torchao_four_bit_integers"]

_BLOCKS = {"float8_e4m3fn": 16, "float8_e8m0fnu": 32}
"""Elements that share a scale of a type: of NVFP4Tensor and of MXTensor."""


def torchao_bytes(parts: Parts, config: dict[str, Any]) -> Meaning | None:
    """Read Float8Tensor, Int8Tensor and IntxUnpackedToInt8Tensor as `scaled` does, and MXTensor of 8 bits."""
    codes, scale, zero = parts["codes"], parts["_weight_scale"], parts.get("_weight_zero_point")
    if "_weight_act_pre_scale" in parts or (zero is not None and not zero.dtype.startswith("int")):
        return None
    if scale.dtype != "float8_e8m0fnu":
        return scaled(parts, config)
    scales = _in_rows(scale, codes.shape, 32)
    if codes.dtype not in ("float8_e4m3fn", "float8_e5m2") or scales is None:
        return None
    blocks = (*[1] * (len(codes.shape) - 1), 32)
    words = f"{codes.dtype.removeprefix('float8_')}, an E8M0 scale for 32 of a row"
    return Meaning(codes.shape, words, lambda: byte_numbers(codes, exponents(scales()), None, blocks))


def torchao_four_bit_floats(parts: Parts, config: dict[str, Any]) -> Meaning | None:
    """Read NVFP4Tensor, and MXTensor of E2M1: two codes to a byte, scales in rows or in the tiles of matrix engines."""
    codes, scale, outer = parts["codes"], parts["_weight_scale"], parts.get("_weight_per_tensor_scale")
    block = _BLOCKS.get(scale.dtype)
    if codes.dtype != "uint8" or len(codes.shape) < 2 or block is None or "_weight_act_pre_scale" in parts:
        return None
    shape = (*codes.shape[:-1], 2 * codes.shape[-1])
    scales = _in_rows(scale, shape, block)
    if scales is None or (outer is not None and (outer.size != 1 or block != 16)):
        return None
    words = f"e2m1fn, {scale_words(scale.dtype)} for {block} of a row"
    words += "" if outer is None else ", a float32 scale for the tensor"

    def values() -> NDArray[Any]:
        inner = exponents(scales()) if block == 32 else scales()
        factor = 1.0 if outer is None else read(outer).astype(np.float64).reshape(())
        return inner.astype(np.float64) * factor

    return e2m1_blocks(codes, shape, block, words, values)


def _in_rows(scale: TensorInfo, shape: tuple[int, ...], block: int) -> Callable[[], NDArray[Any]] | None:
    """Return what reads the scales of blocks of the rows; None if the shapes do not belong together.

    Matrix engines take them in tiles of 128 rows and 4 blocks, each a run of 512 bytes, filled up where they end: row r
    and block b of a tile are byte ``16 (r mod 32) + 4 (r // 32) + b``.
    """
    if len(shape) < 2 or shape[-1] % block:
        return None
    grid = (*shape[:-1], shape[-1] // block)
    if scale.shape == grid:
        return lambda: read(scale)
    down, across = -(-rows_in(shape) // 128), -(-grid[-1] // 4)
    if scale.shape != (32 * down, 16 * across):
        return None

    def tiles() -> NDArray[Any]:
        stored = read(scale).reshape(down, across, 32, 4, 4).transpose(0, 3, 2, 1, 4)
        return stored.reshape(128 * down, 4 * across)[: rows_in(shape), : grid[-1]].reshape(grid)

    return tiles


def torchao_four_bit_integers(parts: Parts, config: dict[str, Any]) -> Meaning | None:
    """Read Int4Tensor: ``code * scale + zero``, signed codes two to a byte, both others of shape (groups, rows)."""
    codes, scale, zero = parts["codes"], parts["_weight_scale"], parts["_weight_zero_point"]
    if codes.dtype != "int8" or len(codes.shape) < 2 or "_weight_act_pre_scale" in parts:
        return None
    if zero.dtype not in ("float32", "float16", "bfloat16") or zero.shape != scale.shape:
        return None
    shape = (*codes.shape[:-1], 2 * codes.shape[-1])
    block = block_of(shape[-1], scale.shape[-2]) if len(scale.shape) == len(shape) else None
    if block is None or scale.shape != (*shape[:-2], -(-shape[-1] // block), shape[-2]):
        return None

    def decode() -> Decode:
        factors, added = (
            np.ascontiguousarray(read(part).astype(np.float32).swapaxes(-1, -2)).reshape(rows_in(shape), -1)
            for part in (scale, zero)
        )

        def numbers(rows: range) -> NDArray[np.float32]:
            here = slice(rows.start, rows.stop)
            nibbles = unpack(read_rows(codes, rows).view(np.uint8), shape[-1], 4)
            signed = (nibbles ^ 8).astype(np.float32) - 8
            product = signed * np.repeat(factors[here], block, axis=1)[:, : shape[-1]]
            return np.asarray(product + np.repeat(added[here], block, axis=1)[:, : shape[-1]], np.float32)

        return numbers

    return Meaning(shape, f"int4, {scale_words(scale.dtype)} and a zero point for {block} of a row", decode)

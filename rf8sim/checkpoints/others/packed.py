"""Codes of 1 to 8 bits packed into bytes or words, row by row: compressed-tensors, ModelOpt, gpt-oss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...formats import get_format
from ..packing import unpack
from ..tensor_info import TensorInfo
from .parts import Decode, Meaning, Parts, affine, block_of, exponents, read, read_rows, row_words, rows_in
from .scaled import block_words, scale_words

__all__ = ["e2m1_blocks", "four_bit_floats", "packed_integers"]


def four_bit_floats(parts: Parts, config: dict[str, Any]) -> Meaning | None:
    """Read E2M1 codes, two to a byte, with scales of 16 (E4M3, and one for the tensor) or 32 (E8M0)."""
    codes = parts["codes"]
    scale = next(part for suffix, part in parts.items() if suffix.strip("_") in ("scale", "scales"))
    divides = parts.get("_global_scale")
    outer = divides or parts.get("_scale_2")
    if codes.dtype != "uint8" or len(codes.shape) < 2:
        return None
    # gpt-oss has the codes of each block on an axis of their own.
    shape = codes.shape[:-1] if len(codes.shape) == len(scale.shape) + 1 else codes.shape
    inside = codes.shape[-1] if shape != codes.shape else 1
    shape = (*shape[:-1], 2 * shape[-1] * inside)
    block = block_of(shape[-1], scale.shape[-1]) if scale.shape[:-1] == shape[:-1] else None
    kind = {"float8_e4m3fn": 16, "uint8": 32, "float8_e8m0fnu": 32}.get(scale.dtype)
    if block is None or block != kind or (kind == 16) != (outer is not None) or (outer is not None and outer.size != 1):
        return None
    blocks = (*[1] * (len(shape) - 1), block)
    words = f"e2m1fn, {scale_words(scale.dtype)} {block_words(blocks, shape)}"
    words += "" if outer is None else ", a float32 scale for the tensor"

    def values() -> NDArray[Any]:
        stored = read(scale)
        inner = exponents(stored) if kind == 32 else stored
        if outer is None:
            return inner
        factor = read(outer).astype(np.float64).reshape(())
        return inner / factor if divides is not None else inner * factor

    return e2m1_blocks(codes, shape, block, words, values)


def e2m1_blocks(
    codes: TensorInfo, shape: tuple[int, ...], block: int, words: str, values: Callable[[], NDArray[Any]]
) -> Meaning:
    """Return E2M1 codes, two to a byte, the first in the low half, times the scales of blocks of the rows.

    Parameters
    ----------
    codes : TensorInfo
        Bytes, half as many as the elements.
    shape : tuple of int
        Of the weight.
    block : int
        Elements of a row that share a scale.
    words : str
        As in `Meaning`.
    values : callable
        Returns the scales, one for each block, in their order.
    """

    def decode() -> Decode:
        values_of = get_format("e2m1fn").values
        both = np.arange(256)
        pairs = np.stack([values_of[both & 15], values_of[both >> 4]], axis=1).view(np.complex128).reshape(256)
        scales = values().astype(np.float64).reshape(rows_in(shape), -1)
        flat = dataclasses.replace(codes, shape=(*shape[:-1], shape[-1] // 2))

        def numbers(rows: range) -> NDArray[np.float32]:
            product = pairs[read_rows(flat, rows).view(np.uint8)].view(np.float64)  # both codes of a byte at once
            here = scales[rows.start : rows.stop]
            if shape[-1] % block:
                product *= np.repeat(here, block, axis=1)[:, : shape[-1]]
            else:
                by_block = product.reshape(len(rows), -1, block)
                by_block *= here[:, :, None]
            return product.astype(np.float32)

        return numbers

    return Meaning(shape, words, decode)


def packed_integers(parts: Parts, config: dict[str, Any]) -> Meaning | None:
    """Read compressed-tensors' ``pack-quantized``: integers from -2**(b-1), in words of 32 bits along a row.

    Of experts, the axes before the last two, each is packed as a matrix of its own.
    """
    codes, scale = parts["codes"], parts["_scale"]
    size, zero, order = parts.get("_shape"), parts.get("_zero_point"), parts.get("_g_idx")
    if codes.dtype != "int32" or len(codes.shape) < 2 or scale.dtype not in ("float32", "float16", "bfloat16"):
        return None
    if order is not None and len(codes.shape) > 2:
        return None
    columns = int(read(size).reshape(-1)[-1]) if size is not None else 8 * codes.shape[-1]
    bits = next((bits for bits in (4, 8, 2, 3, 5, 6, 7, 1) if -(-columns * bits // 32) == codes.shape[-1]), None)
    shape = (*codes.shape[:-1], columns)
    block = block_of(columns, scale.shape[-1]) if scale.shape[:-1] == shape[:-1] else None
    if bits is None or block is None:
        return None
    words = f"int{bits}, {scale_words(scale.dtype)} {block_words((*[1] * (len(shape) - 1), block), shape)}"

    def decode() -> Decode:
        scales = read(scale).astype(np.float32).reshape(rows_in(shape), -1)
        middle = 1 << bits - 1
        zeros = np.zeros(scales.shape, np.float32)
        if zero is not None:
            stored = read(zero)
            if zero.dtype != "int8":
                stored = np.stack([_packed_zeros(w, shape[-2], bits) for w in _matrices(stored)]) - middle
            zeros = stored.astype(np.float32).reshape(scales.shape)
        zeros += middle
        groups = block if order is None else read(order).astype(np.int64)

        def numbers(rows: range) -> NDArray[np.float32]:
            here = slice(rows.start, rows.stop)
            return affine(row_words(codes, rows, columns, bits), zeros[here], scales[here], groups)

        return numbers

    return Meaning(shape, words, decode)


def _matrices(words: NDArray[Any]) -> NDArray[Any]:
    return words.reshape(-1, *words.shape[-2:])


def _packed_zeros(words: NDArray[Any], rows: int, bits: int) -> NDArray[np.float32]:
    """Return zero points packed along the rows, of shape (rows, groups)."""
    columns = np.ascontiguousarray(words.T).view(np.uint8).reshape(words.shape[1], -1)
    return unpack(columns[:, : -(-rows * bits // 8)], rows, bits).T.astype(np.float32)

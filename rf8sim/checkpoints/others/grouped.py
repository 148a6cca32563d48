"""GPTQ and AWQ: integers packed into words along inputs or outputs, scales and zero points of groups of inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..packing import unpack
from .parts import Decode, Meaning, Parts, affine, block_of, read
from .scaled import scale_words

__all__ = ["awq", "gptq"]

_ORDER = np.array([0, 2, 4, 6, 1, 3, 5, 7])
"""Which of eight outputs the nibbles of AWQ's words hold, the lowest first."""


def gptq(parts: Parts, config: dict[str, Any]) -> Meaning | None:
    """Read GPTQ: ``(code - zero) * scale``; the zero points of its first form are stored less one."""
    codes, zero, scale, order = (parts.get(key) for key in ("codes", "qzeros", "scales", "g_idx"))
    assert codes is not None
    assert zero is not None
    assert scale is not None
    if codes.dtype != "int32" or zero.dtype != "int32" or any(len(part.shape) != 2 for part in (codes, zero, scale)):
        return None
    outputs = codes.shape[1]
    bits = 32 * zero.shape[1] // outputs if outputs and 32 * zero.shape[1] % outputs == 0 else 0
    if bits not in (2, 3, 4, 8) or scale.shape != (zero.shape[0], outputs) or 32 * codes.shape[0] % bits:
        return None
    inputs = 32 * codes.shape[0] // bits
    block = block_of(inputs, scale.shape[0])
    if block is None or (order is not None and order.shape != (inputs,)):
        return None
    added = 0 if config.get("checkpoint_format") == "gptq_v2" else 1

    def decode() -> Decode:
        words, scales = read(codes), read(scale).astype(np.float32)
        zeros = unpack(read(zero).view(np.uint8).reshape(scale.shape[0], -1), outputs, bits).astype(np.float32)
        zeros = (zeros + added) % (1 << bits)
        groups: NDArray[np.int64] | int = block
        if order is not None:
            stored = read(order).astype(np.int64)
            groups = block if np.array_equal(stored, np.arange(inputs) // block) else stored

        def numbers(rows: range) -> NDArray[np.float32]:
            here = slice(rows.start, rows.stop)
            mine = np.ascontiguousarray(words[:, here].T).view(np.uint8).reshape(len(rows), -1)
            return affine(unpack(mine, inputs, bits), zeros[:, here].T, scales[:, here].T, groups)

        return numbers

    return Meaning((outputs, inputs), f"uint{bits}, a zero point and {scale_words(scale.dtype)} for {block} of a row",
                   decode, by_rows=False)  # fmt: skip


def awq(parts: Parts, config: dict[str, Any]) -> Meaning | None:
    """Read AWQ: ``(code - zero) * scale`` of 4 bits, eight outputs to a word in an order of its own."""
    codes, zero, scale = parts["codes"], parts["qzeros"], parts["scales"]
    if codes.dtype != "int32" or any(len(part.shape) != 2 for part in (codes, zero, scale)):
        return None
    inputs, outputs = codes.shape[0], 8 * codes.shape[1]
    block = block_of(inputs, scale.shape[0])
    if scale.shape[1] != outputs or zero.shape != (scale.shape[0], codes.shape[1]) or block is None:
        return None

    def decode() -> Decode:
        words, scales = read(codes), read(scale).astype(np.float32)
        zeros = _nibbles(read(zero)).astype(np.float32)

        def numbers(rows: range) -> NDArray[np.float32]:
            first, last = rows.start // 8, -(-rows.stop // 8)
            inner = slice(rows.start - 8 * first, rows.stop - 8 * first)
            mine = np.ascontiguousarray(_nibbles(words[:, first:last])[:, inner].T)
            here = slice(rows.start, rows.stop)
            return affine(mine, zeros[:, here].T, scales[:, here].T, block)

        return numbers

    return Meaning((outputs, inputs), f"uint4, a zero point and {scale_words(scale.dtype)} for {block} of a row",
                   decode, by_rows=False)  # fmt: skip


def _nibbles(words: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the codes of AWQ's words, of shape (rows, 8 times the words)."""
    octets = np.ascontiguousarray(words, "<i4").view(np.uint8).reshape(*words.shape, 4)
    codes = np.empty((*words.shape, 8), np.uint8)
    for place, output in enumerate(_ORDER):
        codes[..., output] = octets[..., place // 2] >> np.uint8(4 * (place % 2)) & np.uint8(15)
    return codes.reshape(words.shape[0], -1)

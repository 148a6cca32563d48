"""Quantized tensors as the blocks of GGUF's types: which schemes have one, and the bytes of a piece."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..quantization.scheme import Scheme, as_scheme
from ..quantization.tensor import QuantizedTensor

__all__ = ["BLOCK", "BLOCK_TYPES", "BlockType", "block_type", "blocks_of"]

BLOCK = 32
"""Elements of a block of each type written here."""


class BlockType(NamedTuple):
    """A type of GGUF: its name, its number, the bytes of a block, and that of a file with mostly such tensors."""

    name: str
    number: int
    size: int
    file_type: int


BLOCK_TYPES = {
    "q8_0": BlockType("Q8_0", 8, 34, 7),
    "q4_0": BlockType("Q4_0", 2, 18, 2),
    "q4_1": BlockType("Q4_1", 3, 20, 3),
    "mxfp4": BlockType("MXFP4", 39, 17, 38),
}
"""By named scheme; the numbers are those of ``ggml_type`` and ``llama_ftype``."""


def block_type(scheme: Scheme) -> BlockType | None:
    """Return the type that stores a scheme, of any rounding; None if GGUF has none.

    Examples
    --------
    >>> block_type(as_scheme("q8_0")).name, block_type(as_scheme("rf8/channel"))
    ('Q8_0', None)
    """
    for name, kind in BLOCK_TYPES.items():
        named = as_scheme(name)
        if scheme.format == named.format and _stored_scales(scheme) == _stored_scales(named):
            return kind
    return None


def _stored_scales(scheme: Scheme) -> tuple[Any, ...] | None:
    """Return what of a scheme's scales says how they are stored, not how they are chosen."""
    scales = scheme.scales
    return None if scales is None else (scales.block, str(scales.format), scales.outer, str(scales.zero))


def blocks_of(piece: QuantizedTensor) -> NDArray[np.uint8]:
    """Return the bytes of a piece, shape (blocks, bytes of a block).

    Parameters
    ----------
    piece : QuantizedTensor
        Whole blocks, of a scheme that has a `block_type`. Blocks of zeros have the scale 0, as llama.cpp writes them.

    Examples
    --------
    >>> from rf8sim import quantize
    >>> blocks_of(quantize(np.array([[127.0, -1.0] + [0.0] * 30]), "q8_0"))[0, :5].tolist()
    [0, 60, 127, 255, 0]
    """
    kind = block_type(piece.scheme)
    assert kind is not None
    codes = piece.codes.reshape(-1, BLOCK)
    scales = piece.scales[0].reshape(-1, 1).copy()
    scales[~codes.any(axis=1)] = 0
    return np.concatenate(_PACKED[kind.name](codes, scales, piece), axis=1)


def _halves(scales: NDArray[Any]) -> NDArray[np.uint8]:
    """Return numbers, each exactly a float16, as bytes."""
    return np.ascontiguousarray(scales.astype("<f2")).view(np.uint8)


def _nibbles(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return codes of 4 bits, the first half of a block in the lower ones."""
    packed: NDArray[np.uint8] = codes[:, : BLOCK // 2] | codes[:, BLOCK // 2 :] << np.uint8(4)
    return packed


def _q8_0(codes: NDArray[np.uint8], scales: NDArray[Any], _: QuantizedTensor) -> tuple[NDArray[np.uint8], ...]:
    return _halves(scales), codes


def _q4_0(codes: NDArray[np.uint8], scales: NDArray[Any], _: QuantizedTensor) -> tuple[NDArray[np.uint8], ...]:
    signed_zeros = np.where(scales == 0, -0.0, scales)  # llama.cpp divides 0 by -8
    return _halves(signed_zeros), _nibbles(codes ^ np.uint8(8))


def _q4_1(codes: NDArray[np.uint8], scales: NDArray[Any], piece: QuantizedTensor) -> tuple[NDArray[np.uint8], ...]:
    assert piece.zero is not None
    return _halves(scales), _halves(piece.zero.reshape(-1, 1)), _nibbles(codes)


def _mxfp4(codes: NDArray[np.uint8], scales: NDArray[Any], _: QuantizedTensor) -> tuple[NDArray[np.uint8], ...]:
    exponents = np.frexp(scales.astype(np.float64))[1] - 1 + 127
    unsigned_zeros = np.where(codes == 8, np.uint8(0), codes)  # llama.cpp has no -0
    return np.where(scales > 0, exponents, 0).astype(np.uint8), _nibbles(unsigned_zeros)


_Packed = Callable[[NDArray[np.uint8], NDArray[Any], QuantizedTensor], tuple[NDArray[np.uint8], ...]]
_PACKED: dict[str, _Packed] = {"Q8_0": _q8_0, "Q4_0": _q4_0, "Q4_1": _q4_1, "MXFP4": _mxfp4}

"""Codes packed: a little-endian stream of bits along each row of a tensor. Those of 8 and 16 bits are whole bytes.

Code i of a row lies in bits ``i n`` to ``i n + n - 1`` of the row's bytes, the lowest bit of a byte first. So two codes
of 4 bits share a byte, the first in its low half, as compressed-tensors and torchao lay them out; four codes of 6 bits
take three bytes, and so do two of 12 bits. A row begins in a byte of its own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["pack", "packed_bytes", "packed_columns", "packed_shape", "unpack"]


def packed_columns(columns: int, bits: int) -> int:
    """Return the bytes of a row of codes.

    Examples
    --------
    >>> packed_columns(5, 4), packed_columns(4, 6), packed_columns(7, 8), packed_columns(3, 12)
    (3, 3, 7, 5)
    """
    return -(-columns * bits // 8)


def packed_shape(shape: tuple[int, ...], bits: int) -> tuple[int, ...]:
    """Return the shape of the packed codes of a tensor: of bytes, for codes of 16 bits of words of 16 bits.

    A tensor of four axes or more whose codes are not whole bytes is stored as a matrix.

    Examples
    --------
    >>> packed_shape((8, 100), 4), packed_shape((6, 3, 5, 5), 6), packed_shape((6, 3, 5, 5), 8)
    ((8, 50), (6, 57), (6, 3, 5, 5))
    >>> packed_shape((8, 100), 12), packed_shape((6, 3, 5, 5), 16)
    ((8, 150), (6, 3, 5, 5))
    """
    if bits in (8, 16):
        return shape
    if not shape:
        return (packed_columns(1, bits),)
    if len(shape) > 3:
        shape = (shape[0], int(np.prod(shape[1:])))
    return (*shape[:-1], packed_columns(shape[-1], bits))


def packed_bytes(shape: tuple[int, ...], bits: int) -> int:
    """Return the bytes of the packed codes of a tensor.

    Examples
    --------
    >>> packed_bytes((8, 100), 4), packed_bytes((8, 100), 12), packed_bytes((8, 100), 16)
    (400, 1200, 1600)
    """
    return math.prod(packed_shape(shape, bits)) * (2 if bits == 16 else 1)


def pack(codes: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Pack codes, row by row.

    Parameters
    ----------
    codes : ndarray of uint8, or of uint16 for more than 8 bits, shape (rows, columns)
        Codes below ``2**bits``.
    bits : int
        Width of a code, 1 to 16.

    Returns
    -------
    ndarray of uint8, shape (rows, packed_columns(columns, bits))
        The bytes; the low one of a code of 16 bits first.

    Examples
    --------
    >>> pack(np.array([[0x1, 0x2, 0xF]], np.uint8), 4).tolist() == [[0x21, 0x0F]]
    True
    """
    rows, columns = codes.shape
    code = np.dtype(np.uint8 if bits <= 8 else "<u2")
    octets = np.ascontiguousarray(codes, code).view(np.uint8).reshape(rows, columns * code.itemsize)
    if bits in (8, 16):
        return octets
    stream = np.unpackbits(octets.reshape(rows, columns, code.itemsize), axis=2, count=bits, bitorder="little")
    return np.packbits(stream.reshape(rows, columns * bits), axis=1, bitorder="little")


def unpack(data: NDArray[np.uint8], columns: int, bits: int) -> NDArray[Any]:
    """Return the codes of packed rows.

    Parameters
    ----------
    data : ndarray of uint8, shape (rows, packed_columns(columns, bits))
        The bytes.
    columns : int
        Codes of a row.
    bits : int
        Width of a code, 1 to 16.

    Returns
    -------
    ndarray of uint8, or of uint16 for more than 8 bits, shape (rows, columns)
        The codes.

    Examples
    --------
    >>> unpack(np.array([[0x21, 0x0F]], np.uint8), 3, 4).tolist()
    [[1, 2, 15]]
    """
    octets = data
    if bits in (1, 2, 4):  # whole codes in a byte: no bit goes alone
        several = 8 // bits
        codes = np.empty((*data.shape, several), np.uint8)
        for place in range(several):
            codes[..., place] = data >> np.uint8(bits * place) & np.uint8((1 << bits) - 1)
        return np.ascontiguousarray(codes.reshape(len(data), several * data.shape[1])[:, :columns])
    if bits not in (8, 16):
        stream = np.unpackbits(data, axis=1, bitorder="little")[:, : columns * bits]
        octets = np.packbits(stream.reshape(len(data), columns, bits), axis=2, bitorder="little")
    if bits <= 8:
        return octets.reshape(len(data), columns)
    wide = np.ascontiguousarray(octets).reshape(len(data), 2 * columns).view("<u2")
    return wide.astype(np.uint16, copy=False)

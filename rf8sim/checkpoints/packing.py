"""Codes of fewer than 8 bits, packed: a little-endian stream of bits along each row of a tensor.

Code i of a row lies in bits ``i n`` to ``i n + n - 1`` of the row's bytes, the lowest bit of a byte first. So two codes
of 4 bits share a byte, the first in its low half, as compressed-tensors and torchao lay them out; four codes of 6 bits
take three bytes. A row begins in a byte of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["pack", "packed_columns", "packed_shape", "unpack"]


def packed_columns(columns: int, bits: int) -> int:
    """Return the bytes of a row of codes.

    Examples
    --------
    >>> packed_columns(5, 4), packed_columns(4, 6), packed_columns(7, 8)
    (3, 3, 7)
    """
    return -(-columns * bits // 8)


def packed_shape(shape: tuple[int, ...], bits: int) -> tuple[int, ...]:
    """Return the shape of the packed bytes of a tensor; one of four axes or more is stored as a matrix.

    Examples
    --------
    >>> packed_shape((8, 100), 4), packed_shape((6, 3, 5, 5), 6), packed_shape((6, 3, 5, 5), 8)
    ((8, 50), (6, 57), (6, 3, 5, 5))
    """
    if bits == 8:
        return shape
    if not shape:
        return (1,)
    if len(shape) > 3:
        shape = (shape[0], int(np.prod(shape[1:])))
    return (*shape[:-1], packed_columns(shape[-1], bits))


def pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Pack codes, row by row.

    Parameters
    ----------
    codes : ndarray of uint8, shape (rows, columns)
        Codes below ``2**bits``.
    bits : int
        Width of a code, 1 to 8.

    Returns
    -------
    ndarray of uint8, shape (rows, packed_columns(columns, bits))
        The bytes.

    Examples
    --------
    >>> pack(np.array([[0x1, 0x2, 0xF]], np.uint8), 4).tolist() == [[0x21, 0x0F]]
    True
    """
    if bits == 8:
        return codes
    rows, columns = codes.shape
    stream = np.unpackbits(codes.reshape(rows, columns, 1), axis=2, count=bits, bitorder="little")
    return np.packbits(stream.reshape(rows, columns * bits), axis=1, bitorder="little")


def unpack(data: NDArray[np.uint8], columns: int, bits: int) -> NDArray[np.uint8]:
    """Return the codes of packed rows.

    Parameters
    ----------
    data : ndarray of uint8, shape (rows, packed_columns(columns, bits))
        The bytes.
    columns : int
        Codes of a row.
    bits : int
        Width of a code, 1 to 8.

    Returns
    -------
    ndarray of uint8, shape (rows, columns)
        The codes.

    Examples
    --------
    >>> unpack(np.array([[0x21, 0x0F]], np.uint8), 3, 4).tolist()
    [[1, 2, 15]]
    """
    if bits == 8:
        return data
    stream = np.unpackbits(data, axis=1, bitorder="little")[:, : columns * bits]
    return np.packbits(stream.reshape(len(data), columns, bits), axis=2, bitorder="little")[:, :, 0]

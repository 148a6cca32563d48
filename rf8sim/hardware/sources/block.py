"""A hardware block with its vectors: the module, its ports over all vectors, and their lines in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Block", "Signal", "packed", "signal", "vector_lines"]


@dataclass(frozen=True, eq=False)
class Signal:
    """A port of a block over all vectors.

    Attributes
    ----------
    bits : int
        Width.
    patterns : ndarray of uint64, shape (vectors,) or (vectors, words)
        Its bits in each vector; of more than 64 bits in words, the most significant one first.
    """

    bits: int
    patterns: NDArray[np.uint64]

    @property
    def digits(self) -> int:
        """Hexadecimal digits that hold all bits."""
        return -(-self.bits // 4)


@dataclass(frozen=True, eq=False)
class Block:
    """A module with stated parameters, and vectors that say what it must answer.

    Attributes
    ----------
    name : str
        Of the vector file and of the instance in the testbench.
    module : str
        The SystemVerilog module.
    inputs, outputs : dict of str to Signal
        Ports by name; the outputs are the expected ones.
    parameters : dict
        Of the module.
    constants : dict of str to int
        Input ports of one bit that keep one value.
    latency : int
        Edges of the clock from a vector to its answer; 0 for a block without a clock.
    """

    name: str
    module: str
    inputs: Mapping[str, Signal]
    outputs: Mapping[str, Signal]
    parameters: Mapping[str, int | str] = field(default_factory=dict)
    constants: Mapping[str, int] = field(default_factory=dict)
    latency: int = 0

    @property
    def count(self) -> int:
        """How many vectors there are."""
        return len(next(iter(self.inputs.values())).patterns)


def signal(bits: int, values: ArrayLike) -> Signal:
    """Make a signal of integers, negative ones in two's complement.

    Examples
    --------
    >>> signal(4, [-1, 3]).patterns.tolist()
    [15, 3]
    """
    array = np.asarray(values)
    wide = array.astype(np.int64).view(np.uint64) if array.dtype.kind in "ib" else array.astype(np.uint64)
    return Signal(bits, wide & np.uint64((1 << bits) - 1))


def packed(bits: int, codes: NDArray[np.integer]) -> Signal:
    """Make a signal of several codes a vector, the first one in the lowest bits.

    Parameters
    ----------
    bits : int
        Width of a code: 4 or 8.
    codes : ndarray of int, shape (vectors, lanes)
        The codes, none negative; lanes of 64 bits, or of a multiple of them.

    Examples
    --------
    >>> [hex(word) for word in packed(8, np.array([[1, 2, 3, 4, 5, 6, 7, 255]])).patterns[0]]
    ['0xff07060504030201']
    """
    octets = codes.astype(np.uint8)
    if bits == 4:
        octets = octets[:, 0::2] | octets[:, 1::2] << np.uint8(4)
    words = np.ascontiguousarray(octets[:, ::-1]).view(">u8").astype(np.uint64)
    return Signal(bits * codes.shape[1], words)


def vector_lines(signals: list[Signal]) -> bytes:
    r"""Write vectors as lines of hexadecimal fields joined by underscores, as ``$readmemh`` takes them.

    Examples
    --------
    >>> vector_lines([signal(5, [1, 31]), signal(8, [255, 0])])
    b'01_ff\n1f_00\n'
    """
    columns = []
    for index, port in enumerate(signals):
        text = np.frombuffer(port.patterns.astype(">u8").tobytes().hex().encode(), np.uint8)
        text = text.reshape(len(port.patterns), -1)
        end = b"\n" if index == len(signals) - 1 else b"_"
        columns += [text[:, text.shape[1] - port.digits :], np.full((len(text), 1), end[0], np.uint8)]
    return np.concatenate(columns, axis=1).tobytes()

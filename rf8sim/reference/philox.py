"""The random words of stochastic rounding (section 5)."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["philox4x32", "random_word"]


def philox4x32(counter: Sequence[int], key: Sequence[int]) -> tuple[int, int, int, int]:
    """Return the four words of Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC11).

    Parameters
    ----------
    counter : sequence of 4 int
        Words of 32 bits.
    key : sequence of 2 int
        Words of 32 bits.

    Returns
    -------
    tuple of 4 int
        Random words of 32 bits.

    Examples
    --------
    The known-answer vectors of Random123:

    >>> " ".join(f"{word:08x}" for word in philox4x32((0, 0, 0, 0), (0, 0)))
    '6627e8d5 e169c58d bc57ac4c 9b00dbd8'
    """
    mask = 0xFFFFFFFF
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & mask, (a >> 32) ^ c3 ^ k1, a & mask
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return c0, c1, c2, c3


def random_word(seed: int, index: int) -> int:
    """Return the random word of element `index` (section 5); four elements share one Philox block.

    Parameters
    ----------
    seed : int
        0 to ``2**64 - 1``; its halves are the key, low one first.
    index : int
        The element's place in the flattened array, offset included, 0 to ``2**66 - 1``.

    Returns
    -------
    int
        32 random bits.

    Examples
    --------
    >>> [hex(random_word(0, index)) for index in (0, 3)]
    ['0x6627e8d5', '0x9b00dbd8']
    """
    block, lane = divmod(index, 4)
    mask = 0xFFFFFFFF
    return philox4x32((block & mask, block >> 32, 0, 0), (seed & mask, seed >> 32))[lane]

"""Prefix codes: lengths of Exp-Golomb, Golomb-Rice and the best Huffman codes, and the codes of given lengths."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._base.checks import as_integer

__all__ = ["canonical_codes", "exp_golomb_best", "exp_golomb_lengths", "golomb_rice_lengths", "huffman_lengths"]


def exp_golomb_lengths(rank: ArrayLike, k: int) -> NDArray[np.int64]:
    """Return the lengths of Exp-Golomb codes of order k: 2 floor(log2(rank / 2**k + 1)) + 1 + k (Teuhola 1978).

    Examples
    --------
    >>> exp_golomb_lengths([0, 1, 2, 3, 6, 7], 0).tolist(), exp_golomb_lengths([0, 3, 4], 2).tolist()
    ([1, 3, 3, 5, 5, 7], [3, 3, 5])
    """
    _check_k(k)
    return 2 * _log2_floor((np.asarray(rank, dtype=np.int64) >> k) + 1) + 1 + k


def golomb_rice_lengths(rank: ArrayLike, k: int) -> NDArray[np.int64]:
    """Return the lengths of Golomb-Rice codes: the quotient by 2**k in unary, and k bits (Rice 1979).

    Examples
    --------
    >>> golomb_rice_lengths([0, 1, 7, 8], 2).tolist()
    [3, 3, 4, 5]
    """
    _check_k(k)
    return (np.asarray(rank, dtype=np.int64) >> k) + 1 + k


def _check_k(k: int) -> None:
    as_integer("k", k, 0, 8)


def _log2_floor(n: NDArray[np.int64]) -> NDArray[np.int64]:
    return (np.frexp(n.astype(np.float64))[1] - 1).astype(np.int64)


def huffman_lengths(counts: ArrayLike, limit: int) -> NDArray[np.int64]:
    """Return the lengths of the cheapest prefix code whose codes have at most ``limit`` bits.

    Found by the package-merge algorithm (Larmore and Hirschberg 1990). A single symbol has length 0.

    Parameters
    ----------
    counts : array_like of int, shape (n,)
        How often each symbol occurs, all above zero.
    limit : int
        The longest code.

    Returns
    -------
    ndarray of int64, shape (n,)

    Raises
    ------
    ValueError
        If so many symbols have no code of that length.

    Examples
    --------
    >>> huffman_lengths([1, 1, 2, 4, 8], 15).tolist(), huffman_lengths([1, 1, 2, 4, 8], 3).tolist()
    ([4, 4, 3, 2, 1], [3, 3, 3, 3, 1])
    """
    weights = np.asarray(counts, dtype=np.int64)
    n = weights.size
    if n > 1 << limit or limit > 15:
        raise ValueError(f"{n} symbols have no code of at most {limit} bits: lengths go from {(n - 1).bit_length()}"
                         f" to 15, got {limit}")  # fmt: skip
    lengths = np.zeros(n, dtype=np.int64)
    if n <= 1:
        return lengths
    # A coin of each symbol at each depth; a package is two coins of the depth below. The 2n - 2 cheapest are bought:
    # of each depth the cheapest coins, and the cheapest packages, which are what is bought of the depth below.
    by_weight = np.argsort(weights, kind="stable")
    coins, packages = weights[by_weight], np.empty(0, dtype=np.int64)
    coins_before = []  # at each depth, how many coins are among the first 0, 1, 2, ...
    for _ in range(limit):
        both = np.append(coins, packages)
        order = np.argsort(both, kind="stable")
        coins_before.append(np.append(0, np.cumsum(order < n)))
        paired = both[order][: order.size // 2 * 2]
        packages = paired[::2] + paired[1::2]
    bought = 2 * n - 2
    for before in reversed(coins_before):
        of_symbols = int(before[bought])
        lengths[by_weight[:of_symbols]] += 1
        bought = 2 * (bought - of_symbols)
    return lengths


def canonical_codes(lengths: ArrayLike) -> NDArray[np.int64]:
    """Return the canonical code of each length: by length, then by symbol, counted up (Schwartz and Kallick 1964).

    Parameters
    ----------
    lengths : array_like of int, shape (n,)
        Lengths of the codes; 0 for symbols without one.

    Returns
    -------
    ndarray of int64, shape (n,)
        The codes as numbers, first bit the highest.

    Raises
    ------
    ValueError
        If no prefix code has these lengths (Kraft's inequality), or they leave patterns unused.

    Examples
    --------
    >>> canonical_codes([3, 3, 3, 3, 1]).tolist()
    [4, 5, 6, 7, 0]
    """
    array = np.asarray(lengths, dtype=np.int64)
    codes = np.zeros(array.size, dtype=np.int64)
    code = before = 0
    for symbol in np.lexsort((np.arange(array.size), array)):
        if array[symbol]:
            code <<= int(array[symbol]) - before
            before = int(array[symbol])
            codes[symbol] = code
            code += 1
    if before and code != 1 << before:
        raise ValueError(f"no complete prefix code has these lengths: they use {code / (1 << before):.4g} of the codes")
    return codes


def exp_golomb_best(numbers: NDArray[np.int64]) -> tuple[int, int]:
    """Return the k of least total, and the total, of Exp-Golomb codes of numbers."""
    k = np.arange(16)[:, None]
    totals = np.sum(2 * _log2_floor((numbers >> k) + 1) + 1 + k, axis=1)
    best = int(np.argmin(totals))
    return best, int(totals[best])

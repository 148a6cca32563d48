"""How long codes are: entropy, Huffman, Exp-Golomb, Golomb-Rice and rANS, exact, from the counts of symbols."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._base.checks import choose
from .prefix_codes import exp_golomb_best, exp_golomb_lengths, golomb_rice_lengths, huffman_lengths

__all__ = [
    "CODES", "MAX_LENGTH", "MAX_PRECISION", "CodeLengths", "code_lengths", "low_plane_bits", "quantized_frequencies",
    "rans_lengths", "symbol_order", "without_lengths", "zigzag_order",
]  # fmt: skip

CODES = ("entropy", "rans", "huffman", "exp-golomb", "golomb-rice")
"""What `code_lengths` knows."""

MAX_LENGTH = 14
"""The longest Huffman code, decoded by a table of 32 kB. On weights 15 bits save 0.1% at most; 12 cost up to 0.7%."""

MAX_PRECISION = 15
"""Frequencies of rANS are multiples of 2**-15, or coarser: a symbol that is rarer costs others what it takes."""

Counts = NDArray[np.int64]
Lengths = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CodeLengths:
    """The length of each symbol's code, and what that comes to for the symbols that were counted.

    Attributes
    ----------
    code : str
        One of `CODES`.
    parameter : int or None
        What was chosen: k of Exp-Golomb and Golomb-Rice, bits of the frequencies of rANS, the longest Huffman code;
        None where there are planes.
    lengths : ndarray of float64, shape (n,)
        Bits of each symbol's code; 0 for a symbol that does not occur.
    counts : ndarray of int64, shape (n,)
        How often each symbol occurs.
    table_bits : int
        Bits of the table that a decoder needs, as the coders store it; 0 for the entropy, which is a bound.
    planes : tuple of CodeLengths
        Of more than 256 symbols the code of the high bits and that of the low bits, of 256 symbols each; else empty.
    low_bits : int
        How many low bits the second plane has; 0 without planes.
    """

    code: str
    parameter: int | None
    lengths: Lengths
    counts: Counts
    table_bits: int
    planes: tuple[CodeLengths, ...] = ()
    low_bits: int = 0

    @property
    def payload_bits(self) -> float:
        """Bits of all symbols: exact for prefix codes, within the rounding of a state's last bits for rANS."""
        return float(np.dot(self.counts, self.lengths))

    @property
    def total_bits(self) -> float:
        """Bits of all symbols and the table."""
        return self.payload_bits + self.table_bits

    @property
    def bits_per_symbol(self) -> float:
        """Mean length of a symbol's code, without the table; 0 if there is no symbol."""
        count = int(self.counts.sum())
        return self.payload_bits / count if count else 0.0


def code_lengths(
    counts: ArrayLike, code: str, *, parameter: int | None = None, order: Sequence[int] | None = None
) -> CodeLengths:
    """Return the exact code lengths of a kind of code for symbols of given counts.

    More than 256 symbols are coded in two planes, each with a code of its own: the high bits of a symbol (at most 8),
    and its low bits (at most 8, `low_plane_bits`). What the low bits have in common with the high ones is not used, so
    the code may be longer than the entropy, which is always that of whole symbols.

    Parameters
    ----------
    counts : array_like of int, shape (n,)
        How often each of up to 65,536 symbols occurs.
    code : str
        ``entropy`` (Shannon's bound for single symbols), ``rans`` (optimally quantized frequencies), ``huffman``
        (length-limited), ``exp-golomb`` or ``golomb-rice`` (of a symbol's place in ``order``).
    parameter : int, optional
        k of Exp-Golomb (the literature fixes 0) and Golomb-Rice, bits of the frequencies of rANS, the longest Huffman
        code. By default what costs least in all, table included; for Huffman `MAX_LENGTH`.
    order : sequence of int, optional
        All symbols that occur, the cheapest first, for Exp-Golomb and Golomb-Rice of at most 256 symbols. By default by
        falling count; `zigzag_order` is the order of values, as the literature codes them.

    Returns
    -------
    CodeLengths

    Raises
    ------
    ValueError
        If the code is unknown, a count is negative, a parameter does not suffice for the symbols, or there is an order
        of more than 256.

    Examples
    --------
    >>> [round(code_lengths([90, 5, 3, 2], code).bits_per_symbol, 3) for code in CODES]
    [0.618, 0.623, 1.15, 1.24, 1.17]
    """
    choose("code", code, CODES)
    array = _checked(counts)
    used = np.flatnonzero(array)
    lengths = np.zeros(array.size)
    some = array[used]
    if code == "entropy":
        lengths[used] = math.log2(max(some.sum(), 1)) - np.log2(some)
        return CodeLengths(code, None, lengths, array, 0)
    if array.size > 256:
        if order is not None:
            raise ValueError(f"an order is of at most 256 symbols, and there are counts of {array.size}")
        return _in_planes(array, used, code, parameter)
    if not used.size:
        return CodeLengths(code, parameter, lengths, array, 0)
    if code == "huffman":
        parameter = max(MAX_LENGTH, (used.size - 1).bit_length()) if parameter is None else parameter
        lengths[used] = huffman_lengths(some, parameter)
        return CodeLengths(code, int(lengths.max()), lengths, array, 8 + int(used[-1]) + 1 + 4 * used.size)
    if code == "rans":
        return _rans(array, used, parameter)
    rank = np.empty(used.size, dtype=np.int64)
    rank[np.searchsorted(used, _checked_order(array, order))] = np.arange(used.size)
    rule = exp_golomb_lengths if code == "exp-golomb" else golomb_rice_lengths
    orders = range(9) if parameter is None else (parameter,)
    k = min(orders, key=lambda k: int(np.dot(some, rule(rank, k))))
    lengths[used] = rule(rank, k)
    return CodeLengths(code, k, lengths, array, 8 * used.size)


def _checked(counts: ArrayLike) -> Counts:
    array = np.asarray(counts)
    array = array.astype(np.int64) if not array.size else array
    if array.ndim == 1 and array.size > 1 << 16:
        raise ValueError(f"an entropy coder takes codes of at most 16 bits: counts of 65536 symbols, got {array.size}")
    if array.ndim != 1 or array.dtype.kind not in "iu" or (array.size and int(array.min()) < 0):
        raise ValueError(
            f"counts are at most 65536 whole numbers from 0 on, got dtype {array.dtype.name} of shape {array.shape}"
            + (f" down to {array.min()}" if array.size and array.dtype.kind in "iuf" else "")
        )
    return array.astype(np.int64)


def _checked_order(counts: Counts, order: Sequence[int] | None) -> NDArray[np.int64]:
    if order is None:
        return symbol_order(counts)
    array = np.asarray(order, dtype=np.int64)
    kept = array[np.isin(array, np.flatnonzero(counts))]
    if np.unique(kept).size != kept.size or kept.size != np.count_nonzero(counts):
        raise ValueError("an order names every symbol that occurs, each once")
    return kept


# --- planes -----------------------------------------------------------------------------------------------------------


def low_plane_bits(counts: ArrayLike) -> int:
    """Return how many low bits of symbols make the second plane, 1 to 8, so that both planes together are shortest.

    The first plane has the other bits, at most 8. Compared are the entropies of the planes, and a byte of a table for
    each of their symbols.

    Parameters
    ----------
    counts : array_like of int, shape (n,)
        How often each of up to 65,536 symbols occurs.

    Examples
    --------
    >>> low_plane_bits(np.ones(65536, np.int64)), low_plane_bits(np.ones(512, np.int64))
    (8, 4)
    """
    array = np.asarray(counts, dtype=np.int64)
    used = np.flatnonzero(array)
    width = int(used[-1]).bit_length() if used.size else 16

    def bits(low: int) -> float:
        planes = [code_lengths(plane, "entropy") for plane in _planes(array, used, low)]
        return sum(plane.payload_bits + 8 * np.count_nonzero(plane.counts) for plane in planes)

    choices = range(max(width - 8, 1), 9)
    return choices[0] if len(choices) == 1 else min(choices, key=bits)


def _planes(counts: Counts, used: NDArray[np.intp], low_bits: int) -> tuple[Counts, Counts]:
    """Return how often each value of the high bits and of the low bits occurs."""
    some, high, low = counts[used], np.zeros(256, np.int64), np.zeros(256, np.int64)
    np.add.at(high, used >> low_bits, some)
    np.add.at(low, used & ((1 << low_bits) - 1), some)
    return high, low


def _in_planes(counts: Counts, used: NDArray[np.intp], code: str, parameter: int | None) -> CodeLengths:
    low_bits, lengths = low_plane_bits(counts), np.zeros(counts.size)
    high, low = (code_lengths(plane, code, parameter=parameter) for plane in _planes(counts, used, low_bits))
    lengths[used] = high.lengths[used >> low_bits] + low.lengths[used & ((1 << low_bits) - 1)]
    return CodeLengths(code, None, lengths, counts, high.table_bits + low.table_bits, (high, low), low_bits)


def without_lengths(counts: ArrayLike, code: str, parameter: int) -> CodeLengths:
    """Return counts, in planes as `code_lengths` has them, for a code of no lengths: how long it is is measured.

    Examples
    --------
    >>> without_lengths([3, 1], "zstd", 1).total_bits
    nan
    """
    array = _checked(counts)
    lengths = np.where(array > 0, np.nan, 0.0)
    if array.size <= 256:
        return CodeLengths(code, parameter, lengths, array, 0)
    low_bits = low_plane_bits(array)
    planes = _planes(array, np.flatnonzero(array), low_bits)
    parts = tuple(without_lengths(plane, code, parameter) for plane in planes)
    return CodeLengths(code, None, lengths, array, 0, parts, low_bits)


# --- orders of symbols ------------------------------------------------------------------------------------------------


def symbol_order(counts: ArrayLike) -> NDArray[np.int64]:
    """Return the symbols that occur by falling count, equal counts by symbol: no order is cheaper to code.

    Examples
    --------
    >>> symbol_order([3, 0, 7, 7]).tolist()
    [2, 3, 0]
    """
    array = np.asarray(counts)
    order = np.argsort(-array.astype(np.int64), kind="stable")
    return order[array[order] > 0]


def zigzag_order(values: ArrayLike) -> NDArray[np.int64]:
    """Return codes of a format in the order of the signed ranks 0, +1, -1, +2, -2, ... of their values.

    This is how integers are mapped before an Exp-Golomb code (ITU-T H.264, 9.1.1). Codes without a finite value follow.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        The value of each code, as `Format.values`.

    Examples
    --------
    >>> zigzag_order([0.0, 0.5, 2.0, float("nan"), -0.5, -2.0]).tolist()
    [0, 1, 4, 2, 5, 3]
    """
    array = np.asarray(values, dtype=np.float64)
    code = np.arange(array.size)
    magnitude = np.where(np.isfinite(array), np.abs(array), np.inf)
    return np.lexsort((code, np.signbit(array) & np.isfinite(array), magnitude))


# --- rANS -------------------------------------------------------------------------------------------------------------


def _rans(counts: Counts, used: NDArray[np.intp], parameter: int | None) -> CodeLengths:
    least = max((used.size - 1).bit_length(), 1)
    choices = range(least, MAX_PRECISION + 1) if parameter is None else (parameter,)
    results = []
    for bits, frequencies in zip(choices, quantized_frequencies(counts[used], choices), strict=True):
        results.append(rans_lengths(counts, frequencies, bits))
    return min(results, key=lambda code: code.total_bits)


def rans_lengths(counts: Counts, frequencies: NDArray[np.int64], bits: int) -> CodeLengths:
    """Return the lengths of rANS with given frequencies of the symbols that occur, which sum to a power of two.

    Examples
    --------
    >>> rans_lengths(np.array([5, 0, 3]), np.array([3, 1]), 2).lengths.round(3)
    array([0.415, 0.   , 2.   ])
    """
    used, lengths = np.flatnonzero(counts), np.zeros(counts.size)
    lengths[used] = bits - np.log2(frequencies)
    table_bits = 8 + int(used[-1]) + 1 + 4 + exp_golomb_best(frequencies - 1)[1]
    return CodeLengths("rans", bits, lengths, counts, table_bits)


def quantized_frequencies(counts: ArrayLike, bits: Sequence[int]) -> NDArray[np.int64]:
    """Return whole frequencies, at least 1, that sum to a power of two and cost least, for each of some powers.

    The cost ``-sum(counts * log2(frequencies))`` is convex in each frequency, so frequencies are best when no unit is
    worth more elsewhere: each is the largest whose last unit is worth a common price, found by bisection, and the
    units that are left go where they are worth most.

    Parameters
    ----------
    counts : array_like of int, shape (n,)
        How often each symbol occurs, all above zero.
    bits : sequence of int, of length m
        Base-2 logarithms of the sums.

    Returns
    -------
    ndarray of int64, shape (m, n)

    Raises
    ------
    ValueError
        If there are more symbols than 2**bits, or no symbol, or bits is above `MAX_PRECISION`.

    Examples
    --------
    >>> quantized_frequencies([97, 2, 1], [2, 4]).tolist()
    [[2, 1, 1], [14, 1, 1]]
    """
    weights = np.asarray(counts).astype(np.float64)
    totals = np.left_shift(1, np.asarray(bits, dtype=np.int64))
    if not 1 <= weights.size <= totals.min() or max(bits) > MAX_PRECISION:
        raise ValueError(f"{weights.size} symbols need frequencies of 1 to {MAX_PRECISION} bits, enough for all, "
                         f"got {min(bits)}")  # fmt: skip

    def at_price(price: NDArray[np.float64], total: NDArray[np.int64]) -> NDArray[np.int64]:
        # weight * ln(f / (f - 1)) >= price
        with np.errstate(over="ignore"):
            largest = 1.0 / -np.expm1(-price[:, None] / weights)
        return np.clip(np.floor(largest), 1, total[:, None]).astype(np.int64)

    low = 0.5 * float(weights.min()) / totals  # too cheap
    high = np.full(totals.size, 2.0 * float(weights.sum()))  # too dear
    frequencies, beyond = at_price(high, totals), at_price(low, totals)
    guess = float(weights.sum()) / totals
    for step in range(100):
        left = np.flatnonzero((frequencies.sum(axis=1) != totals) & ~_tied(weights, frequencies, beyond))
        if not left.size:
            break
        # Frequencies go about as one over the price; bisection sees to it that the bracket shrinks.
        inside = (low[left] < guess[left]) & (guess[left] < high[left]) & (step % 3 < 2)
        price = np.where(inside, guess[left], np.sqrt(low[left] * high[left]))
        chosen = at_price(price, totals[left])
        sums = chosen.sum(axis=1)
        guess[left] = price * sums / totals[left]
        cheap = sums > totals[left]
        low[left[cheap]], beyond[left[cheap]] = price[cheap], chosen[cheap]
        high[left[~cheap]], frequencies[left[~cheap]] = price[~cheap], chosen[~cheap]
    for row, total in zip(frequencies, totals, strict=True):
        while units := int(total - row.sum()):
            worth, later = weights * np.log1p(1.0 / row), weights * np.log1p(1.0 / (row + 1))
            dearest = np.argsort(-worth, kind="stable")[:units]
            # Those worth more than a second unit of any symbol go first; one always goes where it is worth most.
            row[dearest[: max(int(np.count_nonzero(worth[dearest] > later.max())), 1)]] += 1
    return frequencies


def _tied(weights: NDArray[np.float64], frequencies: NDArray[np.int64], beyond: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for which sums the frequencies at two prices differ by a unit of symbols alike: no price lies between."""
    rises = beyond - frequencies
    first = np.argmax(rises, axis=1)[:, None]
    alike = (weights == weights[first]) & (frequencies == np.take_along_axis(frequencies, first, axis=1))
    return np.asarray(np.all((rises == 0) | ((rises == 1) & alike), axis=1))

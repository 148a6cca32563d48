"""Every numba function of this package: loops over contiguous arrays, integers where sums must be exact."""

from __future__ import annotations

import numba as nb
import numpy as np

__all__ = ["count_cells", "count_cells_rounded", "count_patterns", "shrink_float32"]

_jit = nb.njit(cache=True, nogil=True, error_model="numpy")

_BLOCK = 1 << 12  # elements whose extremes are found while they are in the nearest cache
_FLUSH = 1 << 24  # elements between flushes; each table counts half: 2**23 * 65535 < 2**40, 2**23 < 2**24
_MAGNITUDE = np.int32(0x7FFFFFFF)
_INFINITY = np.int32(0x7F800000)
_MINUS_INFINITY = np.int32(-0x7F800001)  # as an ordered integer


@_jit
def _order(pattern):  # type: ignore[no-untyped-def]
    """Return an int32 that orders float32 patterns as their values; its own inverse."""
    return np.int32(pattern ^ np.int32(np.int32(pattern >> np.int32(31)) & _MAGNITUDE))


@_jit
def _scan_finite(bits, occurs):  # type: ignore[no-untyped-def]
    """Update the extremes, the number of infinities and the low bits from a block that is not all finite."""
    for b in bits:
        magnitude = np.int32(b & _MAGNITUDE)
        if magnitude < _INFINITY:
            occurs[0] = min(occurs[0], np.int64(_order(b)))
            occurs[1] = max(occurs[1], np.int64(_order(b)))
            occurs[2] |= np.int64(b) & 0xFFFF
        elif magnitude == _INFINITY:
            occurs[3] += 1


@_jit
def _tally(block, even, odd, occurs):  # type: ignore[no-untyped-def]
    """Add a block to the packed counters, and update the extremes, the low bits and the number of infinities."""
    smallest = np.int32(2147483647)
    largest = np.int32(-2147483648)
    low = np.int32(0)
    for i in range(block.size):
        b = block[i]
        ordered = np.int32(b ^ np.int32(np.int32(b >> np.int32(31)) & _MAGNITUDE))
        smallest = ordered if ordered < smallest else smallest
        largest = ordered if ordered > largest else largest
        low = np.int32(low | b)
    if largest < _INFINITY and smallest > _MINUS_INFINITY:
        occurs[0] = min(occurs[0], np.int64(smallest))
        occurs[1] = max(occurs[1], np.int64(largest))
        occurs[2] |= np.int64(low) & 0xFFFF
    else:
        _scan_finite(block, occurs)
    one = np.uint64(1 << 40)
    for j in range(block.size // 2):
        a = np.uint32(block[2 * j])
        c = np.uint32(block[2 * j + 1])
        even[a >> np.uint32(16)] += one | np.uint64(a & np.uint32(0xFFFF))
        odd[c >> np.uint32(16)] += one | np.uint64(c & np.uint32(0xFFFF))
    if block.size % 2:
        a = np.uint32(block[block.size - 1])
        even[a >> np.uint32(16)] += one | np.uint64(a & np.uint32(0xFFFF))


@_jit
def _flush(even, odd, counts, low_sums):  # type: ignore[no-untyped-def]
    """Move the packed counters to the tables."""
    for table in (even, odd):
        for k in range(65536):
            counts[k] += np.int64(table[k] >> np.uint64(40))
            low_sums[k] += np.int64(table[k] & np.uint64(0xFFFFFFFFFF))
            table[k] = np.uint64(0)


@_jit
def count_cells(bits, counts, low_sums, occurs):  # type: ignore[no-untyped-def]
    """Add float32 patterns to the cells of their top 16 bits.

    Parameters
    ----------
    bits : ndarray of int32, shape (n,)
        float32 values as bit patterns.
    counts, low_sums : ndarray of int64, shape (65536,)
        Updated: number of values in each cell and the sum of their low 16 bits.
    occurs : ndarray of int64, shape (6,)
        Updated: smallest and largest finite value as ordered integers (the pattern of a positive value; for a
        negative one, all but its sign bit flipped), the bitwise or of all finite values' low bits, and the
        numbers of infinities, of zeros +0 and of zeros -0.
    """
    # One packed counter a cell: the count above bit 40, the sum of the low bits below. Two tables take turns,
    # so that equal neighbours do not wait for each other's store.
    even = np.zeros(65536, np.uint64)
    odd = np.zeros(65536, np.uint64)
    for start in range(0, bits.size, _FLUSH):
        part = bits[start : start + _FLUSH]
        for first in range(0, part.size, _BLOCK):
            _tally(part[first : first + _BLOCK], even, odd, occurs)
        for zero in range(2):
            # A cell of the least exponent holds nothing but zeros if its low bits sum to nothing.
            key = 0x8000 * zero
            if ((even[key] | odd[key]) & np.uint64(0xFFFFFFFFFF)) == 0:
                occurs[4 + zero] += np.int64(even[key] >> np.uint64(40)) + np.int64(odd[key] >> np.uint64(40))
            else:
                pattern = np.int32(-2147483648 * zero)
                for b in part:
                    occurs[4 + zero] += np.int64(b == pattern)
        _flush(even, odd, counts, low_sums)


@_jit
def count_cells_rounded(x, counts, low_sums, occurs, extremes):  # type: ignore[no-untyped-def]
    """Add float64 values, each rounded to the nearest float32, to the cells.

    Parameters
    ----------
    x : ndarray of float64, shape (n,)
        Values.
    counts, low_sums : ndarray of int64, shape (65536,)
        As in `count_cells`.
    occurs : ndarray of int64, shape (6,)
        As in `count_cells`, of the rounded values.
    extremes : ndarray of float64, shape (2,)
        Updated if all values are finite, rounded too: the smallest and the largest, not rounded.

    Returns
    -------
    int
        Number of values that are not zero and became zero.
    """
    even = np.zeros(65536, np.uint64)
    odd = np.zeros(65536, np.uint64)
    rounded = np.empty(_BLOCK, np.float32)
    bits = rounded.view(np.int32)
    lost = np.int64(0)
    for start in range(0, x.size, _FLUSH):
        part = x[start : start + _FLUSH]
        for first in range(0, part.size, _BLOCK):
            block = part[first : first + _BLOCK]
            for i in range(block.size):
                rounded[i] = np.float32(block[i])
            plus = minus = zeros = np.int32(0)
            for i in range(block.size):
                plus += np.int32(bits[i] == np.int32(0))
                minus += np.int32(bits[i] == np.int32(-2147483648))
                zeros += np.int32(block[i] == 0.0)
            occurs[4] += plus
            occurs[5] += minus
            lost += np.int64(plus + minus - zeros)
            smallest, largest = occurs[0], occurs[1]
            occurs[0] = 2147483647
            occurs[1] = -2147483648
            _tally(bits[: block.size], even, odd, occurs)
            # Rounding keeps the order: only a block that reaches as far as all before can hold an extreme.
            if occurs[0] <= smallest:
                for v in block:
                    extremes[0] = min(extremes[0], v)
            if occurs[1] >= largest:
                for v in block:
                    extremes[1] = max(extremes[1], v)
            occurs[0] = min(occurs[0], smallest)
            occurs[1] = max(occurs[1], largest)
        _flush(even, odd, counts, low_sums)
    return lost


@_jit
def count_patterns(bits, counts):  # type: ignore[no-untyped-def]
    """Count 16-bit patterns.

    Parameters
    ----------
    bits : ndarray of uint16, shape (n,)
        Patterns.
    counts : ndarray of int64, shape (65536,)
        Updated.
    """
    even = np.zeros(65536, np.int64)
    for i in range(bits.size // 2):
        counts[bits[2 * i]] += 1
        even[bits[2 * i + 1]] += 1
    if bits.size % 2:
        counts[bits[bits.size - 1]] += 1
    for k in range(65536):
        counts[k] += even[k]


@_jit
def ziggurat_edges(p, edge, area, edges):  # type: ignore[no-untyped-def]
    """Stack layers of one area under exp(-t^p) from the right, and return how far up they reach.

    Parameters
    ----------
    p : float
        Shape.
    edge : float
        Where the tail begins: right end of the first layer above the base.
    area : float
        Of each layer.
    edges : ndarray of float64, shape (n + 1,)
        Set: right ends of the layers, the base's as wide as its area asks, zero last.

    Returns
    -------
    float
        Top of the last layer less 1, or a positive number if the layers passed 1 before the last.
    """
    n = edges.size - 1
    height = np.exp(-(edge**p))
    edges[0] = area / height
    edges[1] = edge
    edges[n] = 0.0
    for i in range(1, n):
        height += area / edges[i]
        if i == n - 1:
            break
        if height >= 1.0:
            return 1.0
        edges[i + 1] = (-np.log(height)) ** (1.0 / p)
    return height - 1.0


@_jit
def _mix(x):  # type: ignore[no-untyped-def]
    """Return SplitMix64's output function of a counter."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@_jit
def _rotate(x, k):  # type: ignore[no-untyped-def]
    return (x << np.uint64(k)) | (x >> np.uint64(64 - k))


@_jit
def _uniform(word):  # type: ignore[no-untyped-def]
    """Return a double in [0, 1) from the upper 53 bits."""
    return np.float64(np.int64(word >> np.uint64(11))) * 2.0**-53


@_jit
def _next(state):  # type: ignore[no-untyped-def]
    """Return the next uniform of a generator whose state is in memory, for the few values outside the layers."""
    word = _rotate(state[0] + state[3], 23) + state[0]
    s = state[1] << np.uint64(17)
    state[2] ^= state[0]
    state[3] ^= state[1]
    state[1] ^= state[2]
    state[0] ^= state[3]
    state[2] ^= s
    state[3] = _rotate(state[3], 45)
    return _uniform(word)


@_jit
def _outside(state, layer, t, p, edges, heights):  # type: ignore[no-untyped-def]
    """Return a value for a place right of the next layer's end, or -1 where it is above the density."""
    if layer > 0:
        low = heights[layer]
        y = low + _next(state) * (heights[layer + 1] - low)
        return t if y < np.exp(-(t**p)) else -1.0
    # In the tail t^p is Gamma(1/p) beyond its start: an exponential, kept with the ratio of the two densities.
    a = 1.0 / p
    start = edges[1] ** p
    rate = 1.0 - max(a - 1.0, 0.0) / start
    while True:
        z = start - np.log1p(-_next(state)) / rate
        if np.log1p(-_next(state)) < (a - 1.0) * np.log(z / start) - (z - start) * (1.0 - rate):
            return z**a


@_jit
def sample_blocks(key, first, block, p, edges, heights, loc, scale, out):  # type: ignore[no-untyped-def]
    """Fill an array with a generalized Gaussian, block by block, each from a generator of its own.

    The generator of a block is xoshiro256++ (Blackman and Vigna 2021), its state from SplitMix64 at counters that
    belong to that block alone. The method is the ziggurat (Marsaglia and Tsang 2000) with 1024 layers: 10 bits of a
    word choose the layer, one the sign, 53 the place.

    Parameters
    ----------
    key : ndarray of uint64, shape (2,)
        The seed.
    first : int
        Number of the first block.
    block : int
        Values per block.
    p : float
        Shape.
    edges, heights : ndarray of float64, shape (1025,)
        Right ends of the layers and the density exp(-t^p) there.
    loc, scale : float
        As in the distribution.
    out : ndarray of float32 or float64, shape (n,)
        Set.
    """
    gamma = np.uint64(0x9E3779B97F4A7C15)
    state = np.empty(4, np.uint64)
    for b in range((out.size + block - 1) // block):
        counter = np.uint64(4) * np.uint64(first + b)
        s0 = _mix(key[0] + gamma * (counter + np.uint64(1)))
        s1 = _mix(key[0] + gamma * (counter + np.uint64(2)))
        s2 = _mix(key[1] + gamma * (counter + np.uint64(3)))
        s3 = _mix(key[1] + gamma * (counter + np.uint64(4)))
        for i in range(b * block, min(out.size, (b + 1) * block)):
            t = -1.0
            sign = 1.0
            while t < 0.0:
                word = _rotate(s0 + s3, 23) + s0
                s = s1 << np.uint64(17)
                s2 ^= s0
                s3 ^= s1
                s1 ^= s2
                s0 ^= s3
                s2 ^= s
                s3 = _rotate(s3, 45)
                layer = np.int64(word & np.uint64(1023))
                sign = 1.0 - 2.0 * np.float64(np.int64((word >> np.uint64(10)) & np.uint64(1)))
                t = _uniform(word) * edges[layer]
                if t >= edges[layer + 1]:
                    state[0] = s0
                    state[1] = s1
                    state[2] = s2
                    state[3] = s3
                    t = _outside(state, layer, t, p, edges, heights)
                    s0 = state[0]
                    s1 = state[1]
                    s2 = state[2]
                    s3 = state[3]
            out[i] = loc + scale * (sign * t)


@_jit
def _root(s, shape):  # type: ignore[no-untyped-def]
    """Return the larger positive root u of ``u + u^(shape - 1) = s``: by Newton's method, from where it descends."""
    power = shape - 1.0
    if shape < 1.0:
        u = s
        for _ in range(60):
            tail = u**power
            lower = u - (u + tail - s) / (1.0 + power * tail / u)
            if not lower < u:
                break
            u = lower
        return u
    log = min(np.log(s), np.log(s) / power)
    for _ in range(60):
        u, tail = np.exp(log), np.exp(power * log)
        change = (u + tail - s) / (u + power * tail)
        log -= change
        if abs(change) < 1e-12:
            break
    return np.exp(log)


@_jit
def shrink_float32(weights, unit, shape, threshold, last, first_cell, coefficients, inexact):  # type: ignore[no-untyped-def]
    """Apply a `ggd.shrinkage.ShrinkTable` in place; NaN stays NaN."""
    inverse = 1.0 / unit
    shift = np.int64(47)
    mask = np.int64((1 << 47) - 1)
    to_place = 2.0**-47
    for i in range(weights.size):
        weight = np.float64(weights[i])
        s = abs(weight) * inverse
        if s <= threshold:
            weights[i] = np.copysign(np.float32(0.0), weights[i])
        elif s < last:
            pattern = np.float64(s).view(np.int64)
            cell = (pattern >> shift) - first_cell
            if cell < 0 or inexact[cell]:
                u = _root(s, shape)
            else:
                f = (pattern & mask) * to_place
                u = ((coefficients[cell, 3] * f + coefficients[cell, 2]) * f + coefficients[cell, 1]) * f
                u += coefficients[cell, 0]
            weights[i] = np.float32(np.copysign(u * unit, weight))

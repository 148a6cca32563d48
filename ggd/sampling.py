"""Exact sampling, fast and reproducible on any number of threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import special

from ggd import _kernels

__all__ = ["sample"]

Array = NDArray[np.float64]

LAYERS = 1024
BLOCK = 1 << 16  # values from one generator; part of what a seed means
SHAPES = (0.05, 1000.0)


def sample(
    shape: float,
    scale: float = 1.0,
    loc: float = 0.0,
    size: int | tuple[int, ...] | None = None,
    *,
    seed: int | Sequence[int] | np.random.Generator = 0,
    dtype: DTypeLike = np.float64,
    out: NDArray[Any] | None = None,
    threads: int = 1,
) -> NDArray[Any]:
    """Return independent samples of a generalized Gaussian; see `GGD.sample`, which calls this.

    Parameters
    ----------
    shape, scale, loc : float
        As in `GGD`; shape from 0.05 to 1000.
    size, seed, dtype, out, threads
        As in `GGD.sample`.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        As `GGD.sample`.

    Examples
    --------
    >>> x = sample(0.8, size=200_000, seed=1)
    >>> bool((x == sample(0.8, size=200_000, seed=1, threads=2)).all())
    True
    """
    if not SHAPES[0] <= shape <= SHAPES[1]:
        raise ValueError(f"sampling supports shapes from {SHAPES[0]:g} to {SHAPES[1]:g}, got {shape!r}")
    if threads < 1:
        raise ValueError(f"sampling needs at least one thread, got {threads!r}")
    if out is None:
        if size is None:
            raise ValueError("give a size, or an array to fill with out=")
        out = np.empty(size, dtype)
    elif size is not None and out.shape != np.empty(size, np.bool_).shape:
        raise ValueError(f"out has shape {out.shape}, but size asks for {size}")
    direct = out.dtype in (np.float32, np.float64) and out.flags.c_contiguous and out.dtype.isnative
    if out.dtype.kind not in "fV" or not out.flags.writeable:
        raise ValueError(f"samples are written to a writeable floating-point array, got {out.dtype.name}")
    flat: NDArray[Any] = out.reshape(-1) if direct else np.empty(out.size, np.float64)
    _fill((shape, scale, loc), _key(seed), flat, threads)
    if not direct:
        out[...] = flat.reshape(out.shape).astype(out.dtype)
    return out


def _key(seed: int | Sequence[int] | np.random.Generator) -> NDArray[np.uint64]:
    if isinstance(seed, np.random.Generator):
        return seed.integers(0, 2**64, 2, dtype=np.uint64)
    try:
        return np.random.SeedSequence(seed).generate_state(2, np.uint64).astype(np.uint64)
    except (TypeError, ValueError):
        raise ValueError(
            f"seed must be integers that are not negative, or a numpy.random.Generator, got {seed!r}"
        ) from None


def _fill(parameters: tuple[float, float, float], key: NDArray[np.uint64], flat: NDArray[Any], threads: int) -> None:
    shape, scale, loc = parameters
    edges, heights = _ziggurat(shape)
    blocks = -(-flat.size // BLOCK)
    share = -(-blocks // threads) if blocks else 1

    def work(first: int) -> None:
        part = flat[first * BLOCK : (first + share) * BLOCK]
        _kernels.sample_blocks(key, first, BLOCK, shape, edges, heights, loc, scale, part)

    starts = range(0, blocks, share)
    if len(starts) <= 1:
        for first in starts:
            work(first)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, starts))


@lru_cache(maxsize=64)
def _ziggurat(shape: float) -> tuple[Array, Array]:
    """Return the right ends of the layers and the density there: the tail's start at which they end at height 1."""
    a = 1.0 / shape
    total = math.gamma(1.0 + a)
    edges = np.empty(LAYERS + 1)

    def excess(log_z: float) -> float:
        z = math.exp(log_z)
        edge = z**a
        area = edge * math.exp(-z) + float(special.gammaincc(a, z)) * total
        return float(_kernels.ziggurat_edges(shape, edge, area, edges))

    low, high = math.log(1.0), math.log(300.0)  # the layers pass 1 too early at the low end, end below it at the high
    while low < (middle := 0.5 * (low + high)) < high:
        low, high = (middle, high) if excess(middle) > 0.0 else (low, middle)
    excess(high)
    heights = np.exp(-(edges**shape))
    edges.flags.writeable = heights.flags.writeable = False
    return edges, heights

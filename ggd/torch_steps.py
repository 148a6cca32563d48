"""What a rate constraint does to one tensor: the steps of its prior, at the speed of its device."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ggd import prior
from ggd._kernels import shrink_float32
from ggd.arrays import memory_of
from ggd.shrinkage import CELL_SHIFT, LARGEST_SHAPE, ShrinkTable, shrink_table
from ggd.torch_shards import share

__all__ = ["descend", "drawn", "shrink"]

_PIECE = 1 << 18  # weights below which a second thread costs more than it saves


def shrink(weight: Tensor, step: float, shape: float) -> Tensor:
    """Return the proximal operator of the prior, as `ggd.prior.shrink`; float32 weights by a table.

    Parameters
    ----------
    weight : Tensor
        float32 or float64; a contiguous float32 one of the CPU is changed in place.
    step, shape : float
        As for `ggd.prior.shrink`.

    Returns
    -------
    Tensor
        float32 results are within a unit in the last place, or ``2^-39 (step shape)^(1 / (2 - shape))``.

    Examples
    --------
    >>> [round(w, 3) for w in shrink(torch.tensor([-0.5, 0.05, 2.0]), 0.1, 0.5).tolist()]
    [-0.423, 0.0, 1.964]
    """
    if step == 0.0 or not 0.0 < shape <= LARGEST_SHAPE or shape == 1.0 or weight.dtype != torch.float32:
        return prior.shrink(weight, step, shape, xp=torch)  # type: ignore[no-any-return]
    table = shrink_table(shape)
    unit = table.unit(step)
    if not unit > 1e-290:
        return prior.shrink(weight, step, shape, xp=torch)  # type: ignore[no-any-return]
    if weight.device.type == "cpu" and weight.is_contiguous():
        return _shrink_in_place(weight, table, unit)
    if weight.device.type == "mps":  # has no float64
        return prior.shrink(weight, step, shape, xp=torch)  # type: ignore[no-any-return]
    return _shrink_by_gather(weight, table, unit)


def _shrink_in_place(weight: Tensor, table: ShrinkTable, unit: float) -> Tensor:
    flat = memory_of(weight, np.float32).reshape(-1)

    def work(start: int) -> None:
        shrink_float32(
            flat[start : start + piece], unit, table.shape, table.threshold, table.last, table.first_cell,
            table.coefficients, table.inexact,
        )  # fmt: skip

    threads = min(torch.get_num_threads(), flat.size // _PIECE)
    piece = -(-flat.size // max(threads, 1))
    if threads < 2:
        work(0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(0, flat.size, piece)))
    return weight


@lru_cache(maxsize=512)
def _on_device(shape: float, device: torch.device) -> Tensor:
    table = shrink_table(shape)
    return torch.from_numpy(np.vstack([table.coefficients.T, table.inexact])).to(device)


def _shrink_by_gather(weight: Tensor, table: ShrinkTable, unit: float) -> Tensor:
    """Shrink by operations of PyTorch alone, none of which waits for the device."""
    coefficients = _on_device(table.shape, weight.device)
    s = weight.abs().double() / unit
    pattern = s.view(torch.int64)
    cell = ((pattern >> CELL_SHIFT) - table.first_cell).clamp_(0, coefficients.shape[1] - 1)
    f = (pattern & ((1 << CELL_SHIFT) - 1)).double() * 2.0**-CELL_SHIFT
    u = coefficients[3][cell]
    for power in (2, 1, 0):
        u = u.mul_(f).add_(coefficients[power][cell])
    if table.inexact.any():  # Newton's method, for the cells that are not exact enough
        u = _refined(u, s, coefficients[4][cell] != 0.0, table.shape - 1.0)
    shrunk = torch.copysign(u * unit, weight).float()
    below = s <= table.threshold if table.shape < 1.0 else s < 2.0**-40
    shrunk = torch.where(below, torch.copysign(torch.zeros_like(weight), weight), shrunk)
    return torch.where(s < table.last, shrunk, weight)


def _refined(u: Tensor, s: Tensor, inexact: Tensor, power: float) -> Tensor:
    """Solve ``u + u^power = s`` where the table does not, in a fixed number of steps, and polish the rest."""
    if power < 0.0:
        for _ in range(6):
            tail = u**power
            u = u - (u + tail - s) / (1.0 + power * tail / u)
        return u
    log = torch.where(inexact, torch.minimum(s.log(), s.log() / power), u.clamp_min(2.0**-900).log())
    for _ in range(12):
        u, tail = log.exp(), (power * log).exp()
        log = log - torch.where(inexact, (u + tail - s) / (u + power * tail), torch.zeros_like(u))
    return log.exp()


def descend(weight: Tensor, step: float, shape: float, eps: float) -> Tensor:
    """Return ``w - step shape sign(w) (|w| + eps)^(shape - 1)``, as `ggd.prior.penalty_gradient` has it.

    PyTorch's power depends in its last place on where in memory an element is: shards may differ by so much.

    Examples
    --------
    >>> descend(torch.tensor([-4.0, 0.0, 9.0]), 0.1, 0.5, 0.0).tolist()
    [-3.9749999046325684, 0.0, 8.983333587646484]
    """
    if eps == 0.0:
        return weight - step * prior.penalty_gradient(weight, shape, eps=eps, xp=torch)  # type: ignore[no-any-return]
    slope = weight.abs().add_(eps).pow_(shape - 1.0)
    return torch.addcmul(weight, weight.sign(), slope, value=-step * shape)


def drawn(numbers: Tensor, param: Any, seed: int) -> Tensor:
    """Round float32 to a parameter's float16 or bfloat16 up or down at random, without bias.

    Parameters
    ----------
    numbers : Tensor
        float32; of a sharded parameter its local part.
    param : Tensor
        Whose dtype and, if it is sharded, whose shape the draws are of: each rank takes its part of them.
    seed : int
        Of the draws.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> numbers = torch.full((4000,), 1.001)
    >>> mean = drawn(numbers, numbers.bfloat16(), 0).double().mean()
    >>> abs(float(mean) - 1.001) < 2e-4
    True
    """
    dtype = param.dtype
    nearest = numbers.to(dtype)
    error = numbers - nearest.float()
    away = (error > 0) == (nearest > 0)
    bits = nearest.view(torch.int16)
    neighbour = torch.where(away, bits + 1, bits - 1).view(dtype)
    smallest = torch.ones_like(bits).view(dtype)
    neighbour = torch.where(nearest == 0, torch.copysign(smallest, error.to(dtype)), neighbour)
    generator = torch.Generator(device=numbers.device).manual_seed(seed)
    draws = torch.rand(param.shape, generator=generator, device=numbers.device)
    draws = draws[share(param)]
    moves = (draws * (neighbour.float() - nearest.float()).abs() < error.abs()) & neighbour.isfinite()
    return torch.where(moves, neighbour, nearest)

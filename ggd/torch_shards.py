"""Parameters sharded over ranks (`torch.distributed.tensor.DTensor`, as FSDP2 makes them): parts, sums and wholes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

if dist.is_available():
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
else:  # a build of PyTorch without distributed training
    DTensor = None  # type: ignore[assignment, misc]

__all__ = ["copy_", "gathered", "is_sharded", "local_part", "share", "summed", "through_all"]


def is_sharded(tensor: Any) -> bool:
    """Return whether a tensor is distributed over ranks."""
    return DTensor is not None and isinstance(tensor, DTensor)


def gathered(tensor: Any) -> Tensor:
    """Return all of a tensor; of one that is sharded each rank must ask for it.

    Examples
    --------
    >>> tensor = torch.zeros(2)
    >>> gathered(tensor) is tensor
    True
    """
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[no-any-return]


def share(tensor: Any) -> tuple[slice, ...]:
    """Return where this rank's part lies in a tensor of which all ranks hold parts: of a plain one, everywhere.

    Examples
    --------
    >>> share(torch.zeros(2, 3))
    (slice(0, 2, None), slice(0, 3, None))
    """
    sizes, offsets = tuple(tensor.shape), (0,) * tensor.ndim
    if is_sharded(tensor):
        sizes, offsets = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return tuple(slice(at, at + size) for at, size in zip(offsets, sizes, strict=True))


def copy_(tensor: Any, numbers: Tensor) -> Any:
    """Copy numbers of a tensor's full shape to it, each rank its part."""
    if is_sharded(tensor):
        local_part(tensor.detach()).copy_(numbers[share(tensor)])
        return tensor
    return tensor.copy_(numbers)


def through_all(function: Any, tensor: Any) -> Any:
    """Return a function of a sharded tensor's full one, placed as the tensor is; gradients pass back.

    The function keeps the shape, as rounding does.
    """
    mesh, placements = tensor.device_mesh, tensor.placements
    result = function(tensor.full_tensor())
    return DTensor.from_local(result, mesh, [Replicate()] * mesh.ndim).redistribute(placements=placements)


def local_part(param: Any) -> Tensor:
    """Return what this rank holds of a parameter: of a plain one, all of it.

    Raises
    ------
    ValueError
        If a distributed tensor is a sum that is still to be made.
    """
    if not is_sharded(param):
        return param  # type: ignore[no-any-return]
    if any(isinstance(placement, Partial) for placement in param.placements):
        raise ValueError("a parameter placed as Partial is a sum still to be made: redistribute it first")
    return param.to_local()  # type: ignore[no-any-return]


def summed(sums: Tensor, param: Any) -> Tensor:
    """Return the sums over all of a parameter, given those over this rank's part, in the order of the ranks."""
    if not is_sharded(param):
        return sums
    for dimension, placement in enumerate(param.placements):
        if isinstance(placement, Shard):
            group = param.device_mesh.get_group(dimension)
            parts = [torch.empty_like(sums) for _ in range(dist.get_world_size(group))]
            dist.all_gather(parts, sums.contiguous(), group=group)
            sums = torch.stack(parts).sum(0)
    return sums

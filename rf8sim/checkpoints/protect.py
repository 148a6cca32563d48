"""Which weights matter most, and are kept exactly.

The cost of rounding a weight is, to second order, the square of its error times the curvature of the loss in it. What
stands for the curvature is what is known, best first:

* squared gradients of the loss, from a file (their mean over data: the diagonal of the empirical Fisher information);
* mean squared activations of the weight's input (`rf8sim.models.loss.activation_power`): the diagonal of the
  Gauss-Newton matrix of the squared error of a layer's outputs, ``E |(W - Q) x|^2 = sum_ij (W - Q)_ij^2 E x_j^2`` but
  for the cross terms (the measure of Lin et al., *AWQ*, 2023, and of Frantar et al., *OPTQ*, 2023);
* nothing: then errors count as they are.

An outlier costs twice: by its own error, and by the scale that it imposes on the others of its group. So the choice by
error is compared with the choice by size, and the one that leaves the smaller error of the rest is taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._base.checks import choose
from .checkpoint import CheckpointError, open_checkpoint

__all__ = ["WIDER", "Protection", "read_sensitivity"]

WIDER = ("exact", "bfloat16", "float16", "float32")
"""What protected values are kept in: their own type, or another."""


@dataclass(frozen=True)
class Protection:
    """What share of each tensor is kept exactly, and by what it is chosen.

    Attributes
    ----------
    share : float
        Of the elements of each quantized tensor, 0 to 1, rounded up to whole elements.
    kept_in : str
        One of `WIDER`.
    sensitivity : dict of str to ndarray
        For names of tensors: one number for each column of the tensor as a matrix, or for each element. A tensor that
        is not named is judged by its errors alone.
    measure : str
        What the sensitivity is, for people.

    Examples
    --------
    >>> import numpy as np
    >>> protection = Protection(0.25, sensitivity={"w": np.array([1.0, 100.0])})
    >>> weights, error = np.array([[5.0, 0.4], [0.3, 0.2]]), np.array([[0.5, 0.1], [0.3, 0.2]])
    >>> [places.tolist() for places in protection.candidates("w", weights, error)]
    [[3], [0]]
    """

    share: float
    kept_in: str = "exact"
    sensitivity: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    measure: str = "size of the error"

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"the share of protected weights must lie between 0 and 1, got {self.share:g}")
        choose("type of protected weights", self.kept_in, WIDER)

    @property
    def text(self) -> str:
        """The share, the type and the measure, for people."""
        return f"{self.share:.3%} kept in {self.kept_in}, by {self.measure}"

    def count(self, size: int) -> int:
        """Return how many of a tensor's elements are protected."""
        return min(math.ceil(self.share * size), size)

    def dtype(self, stored: str) -> str:
        """Return the type of a tensor's protected values, given the type that it is stored in."""
        return stored if self.kept_in == "exact" else self.kept_in

    def cost(self, name: str, error: NDArray[Any]) -> NDArray[np.float64]:
        """Return what errors of a tensor cost, each.

        Parameters
        ----------
        name : str
            The tensor's name.
        error : ndarray, shape (rows, columns)
            What quantization adds to each element; NaN where the element is not a number.

        Returns
        -------
        ndarray of float64, shape (rows, columns)
            The square of each error times the sensitivity; infinite for NaN.

        Raises
        ------
        ValueError
            If the sensitivity has not as many numbers as the tensor columns or elements.
        """
        with np.errstate(over="ignore"):
            cost = np.square(error.astype(np.float64))
        if name in self.sensitivity:
            weight = np.asarray(self.sensitivity[name], dtype=np.float64)
            if weight.size == error.size:
                cost *= weight.reshape(error.shape)
            elif weight.shape == error.shape[1:]:
                cost *= weight
            else:
                raise ValueError(
                    f"the sensitivity of {name!r} has shape {weight.shape}: expected one number for each of its "
                    f"{error.size} elements or {error.shape[1]} columns"
                )
        cost[np.isnan(cost)] = np.inf
        return cost

    def candidates(
        self, name: str, values: NDArray[Any], error: NDArray[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return two choices of elements, of which that is taken with which the rest of the tensor costs less.

        Parameters
        ----------
        name : str
            The tensor's name.
        values, error : ndarray, shape (rows, columns)
            The tensor, and what quantization without protection adds to it.

        Returns
        -------
        by_error, by_size : ndarray of int64
            Places in the flat tensor, ascending: the elements whose errors cost most, and those that would cost most
            to lose, which are the outliers that widen the scale of all others.
        """
        count = self.count(error.size)

        def top(cost: NDArray[np.float64]) -> NDArray[np.int64]:
            return np.sort(np.argsort(-cost.reshape(-1), kind="stable")[:count]).astype(np.int64)

        return top(self.cost(name, error)), top(self.cost(name, values))


def read_sensitivity(path: str | Path) -> dict[str, NDArray[np.float64]]:
    """Read a sensitivity: a checkpoint-like file of squared gradients, or of one number for each column.

    Parameters
    ----------
    path : str or Path
        Any file that `open_checkpoint` reads, with tensors named as those of the checkpoint.

    Returns
    -------
    dict of str to ndarray of float64
        The numbers.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or a number is negative or not finite.
    """
    sensitivity = {}
    for tensor in open_checkpoint(path):
        if tensor.skipped is None and tensor.size:
            [chunk] = tensor.chunks(tensor.size)
            values = chunk.values.astype(np.float64).reshape(tensor.shape)
            if not (values >= 0).all() or not np.isfinite(values).all():
                raise CheckpointError(
                    f"{path}: {tensor.name!r} must hold squares: no negative numbers, NaN, infinities"
                )
            sensitivity[tensor.name] = values
    return sensitivity

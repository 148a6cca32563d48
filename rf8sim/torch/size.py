"""What a model costs to store: bits for each weight, by format and code, and side information."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import nn

from .._checks import choose
from .models import FilterFn, QuantizeConfig, parameters

__all__ = ["ModelSize", "TensorSize", "model_size"]


class TensorSize(NamedTuple):
    """The size of one parameter.

    Attributes
    ----------
    name : str
        Its name in the model.
    weights : int
        Elements.
    format : str
        The format of its codes, or the dtype of a parameter that is not quantized.
    fixed : float
        Bits of a weight at the format's width.
    entropy : float
        Bits of a weight under an ideal code for the shares of its codes; the width of the dtype if not quantized.
    side : int
        Bits beside the codes: the scales.
    table : int
        Bits that tell a decoder of the ideal code the counts of the codes: for each code that occurs its 8 bits and its
        count, as many bits as the number of weights needs.
    """

    name: str
    weights: int
    format: str
    fixed: float
    entropy: float
    side: int
    table: int


@dataclass(frozen=True)
class ModelSize:
    """What a model costs to store, tensor by tensor.

    Examples
    --------
    >>> import torch
    >>> layer = nn.Linear(64, 32)
    >>> _ = layer.weight.data.copy_(torch.linspace(-1, 1, 2048).view(32, 64))
    >>> print(model_size(layer, QuantizeConfig("rf6", scale_rule="max")))
    tensor  weights  format   fixed  entropy  side bits  table bits
    weight     2048  rf6       6.00     4.63          8         900
    bias         32  float32  32.00    32.00          0           0
    total      2080            6.40     5.49          8         900
    """

    tensors: tuple[TensorSize, ...]

    @property
    def weights(self) -> int:
        """Elements of all tensors."""
        return sum(tensor.weights for tensor in self.tensors)

    def bits(self, code: str = "entropy") -> float:
        """Return all bits, scales and for ``entropy`` the tables of counts included; ``code`` is that or ``fixed``."""
        choose("code", code, ("fixed", "entropy"))
        if code == "fixed":
            return sum(tensor.weights * tensor.fixed + tensor.side for tensor in self.tensors)
        return sum(tensor.weights * tensor.entropy + tensor.side + tensor.table for tensor in self.tensors)

    def bits_per_weight(self, code: str = "entropy") -> float:
        """Return `bits` for each weight."""
        return self.bits(code) / max(self.weights, 1)

    def __str__(self) -> str:
        last = TensorSize(
            "total", self.weights, "", self.bits_per_weight("fixed"), self.bits_per_weight(),
            sum(tensor.side for tensor in self.tensors), sum(tensor.table for tensor in self.tensors),
        )  # fmt: skip
        rows = [
            (t.name, str(t.weights), t.format, f"{t.fixed:.2f}", f"{t.entropy:.2f}", str(t.side), str(t.table))
            for t in (*self.tensors, last)
        ]
        rows.insert(0, ("tensor", "weights", "format", "fixed", "entropy", "side bits", "table bits"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        left = (0, 2)
        lines = (
            "  ".join(
                cell.ljust(width) if i in left else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        )
        return "\n".join(line.rstrip() for line in lines)


def model_size(model: nn.Module, config: QuantizeConfig | None = None, filter_fn: FilterFn | None = None) -> ModelSize:
    """Say what a model costs to store: bits for each weight at fixed width and entropy-coded, and side information.

    Parameters
    ----------
    model : nn.Module
        A model of `quantize_`, which is counted as it is; or any other.
    config : QuantizeConfig, optional
        How the weights of a model that is not quantized would be; without it they count at their dtype's width.
    filter_fn : callable, optional
        As for `quantize_`.

    Returns
    -------
    ModelSize
        Every parameter once, tied ones too.

    Raises
    ------
    ValueError
        If the model is quantized already and a config is given.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    >>> model_size(model).bits_per_weight()
    32.0
    >>> 4 < model_size(model, QuantizeConfig("rf8")).bits_per_weight() < 8
    True
    """
    rows = []
    for name, parameter, quantized in parameters(model, config, filter_fn):
        if quantized is None:
            width = 8.0 * parameter.element_size()
            dtype = str(parameter.dtype).removeprefix("torch.")
            rows.append(TensorSize(name, parameter.numel(), dtype, width, width, 0, 0))
            continue
        fmt, n = quantized.format, quantized.codes.size
        counts = np.bincount(quantized.codes.ravel(), minlength=1 << fmt.bits)
        counts = counts[counts > 0]
        share = counts / max(n, 1)
        entropy = max(0.0, -float(np.sum(share * np.log2(share))))
        side = round((quantized.bits_per_weight - fmt.bits) * n)
        rows.append(TensorSize(name, n, fmt.name, float(fmt.bits), entropy, side, counts.size * (8 + n.bit_length())))
    return ModelSize(tuple(rows))

"""What a model costs to store: bits for each weight, by format and code, and side information."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import nn

from .._base.checks import choose
from ..entropy.code_lengths import CODES, code_lengths, zigzag_order
from .coverage import FilterFn
from .models import QuantizeConfig, parameters

__all__ = ["ModelSize", "TensorSize", "model_size"]


class TensorSize(NamedTuple):
    """The size of one parameter.

    Attributes
    ----------
    name : str
        Its name in the model.
    weights : int
        Elements.
    scheme : str
        How it is stored, or the dtype of a parameter that is not quantized.
    fixed : float
        Bits of a weight at the format's width, or the dtype's.
    coded : float
        Bits of a weight entropy-coded; the width of the dtype if not quantized.
    side : int
        Bits of scales and zero points.
    table : int
        Bits of the entropy code's table.
    """

    name: str
    weights: int
    scheme: str
    fixed: float
    coded: float
    side: int
    table: int


@dataclass(frozen=True)
class ModelSize:
    """What a model costs to store, tensor by tensor.

    Attributes
    ----------
    code : str
        The entropy code: one of `rf8sim.entropy.code_lengths.CODES`.
    tensors : tuple of TensorSize
        A row for each parameter.

    Examples
    --------
    >>> import torch
    >>> layer = nn.Linear(64, 32)
    >>> _ = layer.weight.data.copy_(torch.linspace(-1, 1, 2048).view(32, 64))
    >>> print(model_size(layer, QuantizeConfig("rf6/tensor,max")))
    tensor  weights  scheme          fixed   rans  scale bits  table bits
    weight     2048  rf6/tensor,max   6.00   4.64           8         249
    bias         32  float32         32.00  32.00           0           0
    total      2080                   6.40   5.19           8         249
    """

    code: str
    tensors: tuple[TensorSize, ...]

    @property
    def weights(self) -> int:
        """Elements of all tensors."""
        return sum(tensor.weights for tensor in self.tensors)

    def bits(self, *, coded: bool = True) -> float:
        """Return all bits, scales included: entropy-coded, with the codes' tables, or at fixed width."""
        if coded:
            return sum(tensor.weights * tensor.coded + tensor.side + tensor.table for tensor in self.tensors)
        return sum(tensor.weights * tensor.fixed + tensor.side for tensor in self.tensors)

    def bits_per_weight(self, *, coded: bool = True) -> float:
        """Return `bits` for each weight."""
        return self.bits(coded=coded) / max(self.weights, 1)

    def __str__(self) -> str:
        fixed, coded = self.bits_per_weight(coded=False), self.bits_per_weight()
        side, table = (sum(column) for column in zip(*((t.side, t.table) for t in self.tensors), strict=True))
        rows = [
            (t.name, str(t.weights), t.scheme, f"{t.fixed:.2f}", f"{t.coded:.2f}", str(t.side), str(t.table))
            for t in (*self.tensors, TensorSize("total", self.weights, "", fixed, coded, side, table))
        ]
        rows.insert(0, ("tensor", "weights", "scheme", "fixed", self.code, "scale bits", "table bits"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        adjust = (str.ljust, str.rjust, str.ljust, *[str.rjust] * 4)
        lines = ("  ".join(map(lambda put, cell, width: put(cell, width), adjust, row, widths)) for row in rows)
        return "\n".join(line.rstrip() for line in lines)


def model_size(
    model: nn.Module,
    config: QuantizeConfig | None = None,
    filter_fn: FilterFn | None = None,
    *,
    code: str = "rans",
) -> ModelSize:
    """Count the bits of a model: for each weight at fixed width and entropy-coded, and side information.

    Parameters
    ----------
    model : nn.Module
        A model of `quantize_`, which is counted as it is; or any other.
    config : QuantizeConfig, optional
        How the weights of a model that is not quantized would be; without it they count at their dtype's width.
    filter_fn : callable, optional
        As for `quantize_`.
    code : str
        The entropy code, one for each tensor, of `rf8sim.entropy.code_lengths.CODES`; ``entropy`` is the bound.

    Returns
    -------
    ModelSize
        Every parameter once, tied ones too.

    Raises
    ------
    ValueError
        If the model is quantized already and a config is given, or the code is unknown.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    >>> model_size(model).bits_per_weight()
    32.0
    >>> 4 < model_size(model, QuantizeConfig("rf8")).bits_per_weight() < 8
    True
    """
    choose("code", code, CODES)
    rows = []
    for name, parameter, quantized in parameters(model, config, filter_fn):
        n = parameter.numel()
        if quantized is None:
            width, dtype = 8.0 * parameter.element_size(), str(parameter.dtype).removeprefix("torch.")
            rows.append(TensorSize(name, n, dtype, width, width, 0, 0))
            continue
        fmt = quantized.format
        # Universal codes number the values 0, +1, -1, +2, ...; the others, and planes of wide codes, know no order.
        ordered = code in ("exp-golomb", "golomb-rice") and fmt.bits <= 8
        order = zigzag_order(fmt.values).tolist() if ordered else None
        lengths = code_lengths(np.bincount(quantized.codes.ravel(), minlength=1 << fmt.bits), code, order=order)
        side = quantized.scheme.scale_bits(quantized.shape)
        rows.append(
            TensorSize(
                name, n, str(quantized.scheme), float(fmt.bits), lengths.bits_per_symbol, side, lengths.table_bits
            )
        )
    return ModelSize(code, tuple(rows))

"""Rounding for rate and distortion: of each weight the code is chosen that costs least, bits counted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._base.threads import in_pieces
from ..codec.inputs import as_data
from ..codec.rounding import Rounding, check_choices
from ..codec.thresholds import step_table
from ..entropy.code_lengths import code_lengths
from ..entropy.coding import stored_bits
from ..formats import Format
from ..quantization.blocks import expand, matrix_shape
from ..quantization.scaling import Chosen
from ..quantization.scheme import Scheme, as_scheme
from ..quantization.tensor import QuantizedTensor, quantize
from .inputs import InputFactor

__all__ = ["RoundedWeights", "round_weights"]

_ROWS = 64  # rows that are in memory as float64 at a time
_ROUNDS = 6  # choices of codes for their lengths, at most
_GAIN = 1e-3  # of the cost: below it lengths are taken as those of the codes

Floats = NDArray[np.float64]


class _Values(NamedTuple):
    """The finite values of a format, ascending, as the kernel takes them."""

    values: Floats
    edges: Floats
    codes: NDArray[Any]


@dataclass(frozen=True, eq=False)
class RoundedWeights:
    """A weight as `round_weights` chose its codes.

    Attributes
    ----------
    tensor : QuantizedTensor
        Codes and scales.
    error : float
        Squared errors of the outputs, mean over inputs and summed over outputs: the weighted squares that were
        minimized.
    bits : float
        Bits of the codes, coded by rANS with table and heads, and of the scales.
    """

    tensor: QuantizedTensor
    error: float
    bits: float
    counts: NDArray[np.int64] = field(repr=False)

    @property
    def bits_per_weight(self) -> float:
        """Bits for each weight, everything counted but the header of a file."""
        return self.bits / max(self.tensor.codes.size, 1)


def round_weights(
    weight: ArrayLike,
    scheme: str | Format | Scheme,
    inputs: InputFactor | ArrayLike | None = None,
    *,
    price: float = 0.0,
    importance: ArrayLike | None = None,
    scale: Chosen | ArrayLike | None = None,
    threads: int | None = None,
) -> RoundedWeights:
    """Choose the codes of a weight so that the error of the layer's outputs and the bits together are least.

    A code costs its squared error, weighted by the inputs, and ``price`` times its length. Lengths are those of an
    entropy code for the codes that were chosen: the choice is repeated until that holds. Where the inputs of a layer
    go together, what a column is off by is made up for by those after it.

    Parameters
    ----------
    weight : array_like, shape (outputs, inputs)
        The weight; of more axes it is taken as the matrix of its channels.
    scheme : str, Format or Scheme
        How it is stored. Rounding is to nearest, before bits are counted; any format and any scales will do.
    inputs : InputFactor or array_like, optional
        Of the layer's inputs, or their second moments, shape (inputs, inputs). By default all errors cost alike.
    price : float
        Squared error of an output that a bit is worth. 0 counts no bits.
    importance : array_like, shape (outputs,), optional
        What a squared error of each output costs; by default 1.
    scale : Chosen or array_like, optional
        As for `rf8sim.quantize`.
    threads : int, optional
        At most this many; the result does not depend on it.

    Returns
    -------
    RoundedWeights
        The choice of least cost among those made.

    Raises
    ------
    ValueError
        If the weight is not finite, the scheme rounds in another way, or shapes do not fit.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(500, 32)) @ rng.normal(size=(32, 32))
    >>> weight, moments = rng.normal(size=(64, 32)), x.T @ x / 500
    >>> plain = round_weights(weight, "int4")
    >>> together = round_weights(weight, "int4", moments)
    >>> output_error = lambda rounded: float(np.square(x @ (rounded.tensor.dequantize() - weight).T).mean())
    >>> output_error(together) < 0.5 * output_error(plain)
    True
    >>> round_weights(weight, "int4", price=0.1).bits < 0.9 * plain.bits
    True
    """
    stored, data = as_scheme(scheme), as_data(weight)
    rows, columns = matrix_shape(data.shape)
    table = _values(stored)
    if not np.isfinite(data.astype(np.float64, copy=False)).all():
        raise ValueError("the weight holds NaN or infinity, whose rounding has no error to weigh: keep it as it is")
    if not price >= 0 or math.isinf(price):
        raise ValueError(f"price is a squared error per bit of at least 0, got {price!r}")
    factor = inputs if isinstance(inputs, InputFactor) else _factor(inputs, columns)
    if factor.order.size != columns:
        raise ValueError(f"the weight has {columns} inputs, and the second moments are of {factor.order.size}")
    given = np.ones(rows) if importance is None else np.asarray(importance, dtype=np.float64)
    if given.shape != (rows,) or not (np.isfinite(given) & (given > 0)).all():
        raise ValueError(f"importance is a positive number for each of {rows} outputs, got shape {given.shape}")
    first = quantize(data, stored, scale=scale, threads=threads)
    search = _Search(data.reshape(rows, columns), first, table, factor, given, threads)
    return search.best(price)


def _factor(moments: ArrayLike | None, columns: int) -> InputFactor:
    return InputFactor.equal(columns) if moments is None else InputFactor.from_moments(moments)


@lru_cache(maxsize=64)
def _values(scheme: Scheme) -> _Values:
    """Return the values of a scheme's format with the quotients that the codec sends to each but the first."""
    fmt = scheme.format
    if not scheme.rounding.startswith("nearest") or scheme.overflow != "saturate":
        raise ValueError(
            f"scheme {scheme}: codes are chosen here, from the nearest on: leave out rounding and overflow "
            f"({scheme.rounding}, {scheme.overflow})"
        )
    mode, overflow = check_choices(fmt, Rounding(scheme.rounding, scheme.overflow))
    finite = np.flatnonzero(np.isfinite(fmt.values))
    values, first = np.unique(fmt.values[finite] + 0.0, return_index=True)  # -0 is 0
    codes = finite[first]
    edges = np.full(values.size - 1, math.inf)
    steps = step_table(fmt, mode, overflow, "float64")
    sign = np.uint64(1 << 63)
    ranks = np.searchsorted(values, fmt.values[steps.result] + 0.0)
    for negative in (False, True):
        side = (steps.first >= sign) == negative
        points, places = (steps.first[side] & ~sign).view(np.float64), ranks[side]
        kept = np.isfinite(points)
        for point, before, after in zip(points[kept][1:], places[kept][:-1], places[kept][1:], strict=True):
            edges[min(before, after) : max(before, after)] = -np.nextafter(point, 0.0) if negative else point
    return _Values(values, edges, codes.astype(fmt.code_dtype))


class _Search:
    """The choices of codes of one weight, with its scales and the order of its columns."""

    def __init__(
        self,
        matrix: NDArray[Any],
        first: QuantizedTensor,
        table: _Values,
        factor: InputFactor,
        importance: Floats,
        threads: int | None,
    ) -> None:
        self.matrix, self.first, self.table, self.factor = matrix, first, table, factor
        self.importance, self.threads = importance, threads
        self.ranks = np.empty(matrix.shape, np.uint16)

    def best(self, price: float) -> RoundedWeights:
        """Choose codes without regard to bits, then for the lengths of the codes chosen before, while that pays."""
        chosen = self._choice(np.zeros(self.table.values.size), 0.0)
        if not price:
            return chosen
        cost, best = math.inf, chosen
        for _ in range(_ROUNDS):
            chosen = self._choice(_lengths(chosen.counts), price)
            before, cost = cost, min(cost, chosen.error + price * chosen.bits)
            if cost < before:
                best = chosen
            if not cost < before * (1 - _GAIN):
                break
        return best

    def _choice(self, bits: Floats, price: float) -> RoundedWeights:
        errors = np.empty(len(self.matrix))
        in_pieces(lambda start, stop: self._rows(start, stop, bits, price, errors), len(self.matrix), self.threads,
                  weight=self.matrix.shape[1])  # fmt: skip
        counts = np.bincount(self.ranks.reshape(-1), minlength=self.table.values.size)
        codes = self.table.codes[self.ranks].reshape(self.first.shape)
        tensor = QuantizedTensor(codes, self.first.scales, self.first.scheme, self.first.zero)
        by_code = np.zeros(1 << self.first.format.bits, np.int64)
        by_code[self.table.codes] = counts
        coded = stored_bits(code_lengths(by_code, "rans")) + self.first.scheme.scale_bits(self.first.shape)
        return RoundedWeights(tensor, float(np.sum(errors * self.importance)), coded, counts)

    def _rows(self, start: int, stop: int, bits: Floats, price: float, errors: Floats) -> None:
        from .._kernels.feedback import choose_values  # here, since it loads numba

        order = self.factor.order
        for first in range(start, stop, _ROWS):
            part = slice(first, min(first + _ROWS, stop))
            x = self.matrix[part].astype(np.float64)[:, order]
            scale, offset = (self._placed(numbers, part, x.shape) for numbers in (self.first.scale, self.first.offset))
            ranks = np.empty(x.shape, np.uint16)
            choose_values(
                x, (scale, offset), self.table[:2], bits, price / self.importance[part], self.factor.weights,
                self.factor.feedback, ranks, errors[part],
            )  # fmt: skip
            self.ranks[part, order] = ranks

    def _placed(self, numbers: NDArray[Any] | None, part: slice, shape: tuple[int, int]) -> Floats:
        """Return scales or offsets of some rows, one for each element, in the order of the columns."""
        scheme, tensor_shape = self.first.scheme, self.matrix.shape
        if numbers is None or scheme.scales is None:
            return np.full(shape, 0.0 if numbers is None else 1.0)
        placed = expand(numbers, scheme.scales.block, tensor_shape, part).astype(np.float64)
        return np.ascontiguousarray(np.broadcast_to(placed, shape)[:, self.factor.order])


def _lengths(counts: NDArray[np.int64]) -> Floats:
    """Return the bits of each value in an ideal code; of one that did not occur, those of half an occurrence."""
    shares = np.maximum(counts, 0.5) / max(int(counts.sum()), 1)
    return -np.log2(shares)

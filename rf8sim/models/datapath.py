"""A datapath: what the products of a model's weights and activations are computed in.

A `Datapath` names the scheme of the weights, that of the activations if they are quantized too, and the accumulator
with its order of summing. All else stays in float32: the norms, the softmax, attention's two products of activations
with activations, the residual sums. The two tables that are read by index, not multiplied, are quantized as the
matrices are.

Scales
------
Weights are stored by their scheme. Where it has one scale for the tensor or for a channel, codes are multiplied and the
scale is applied to the sum. Where scales change along the summed axis, can be negative, or have scales or zero points,
the products are of the numbers that the codes stand for, as float32; but an ``aligned`` accumulator takes codes with
the scales of their blocks, where weights and activations have blocks of one size along that axis. An activation scheme
with one scale for the tensor has a static one for each product, chosen by its rule on the summary of that product's
inputs in the float32 run; any other chooses its scales on the fly (``int8/channel,max``: one for each token, to fit its
largest magnitude).

Shift
-----
Accumulators of small range need products brought into it: they hold products divided by ``2**shift``, an exponent
added, which rounds nothing by itself. By default float16 and 8-bit accumulators get the shift that puts the largest
possible product 6 bits below their largest value, for every format alike; other accumulators get none.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.accumulation import Accumulation, OperandScales, as_accumulation, is_engine
from ..arithmetic.accumulators import get_accumulator, get_rule
from ..arithmetic.linalg import matmul
from ..arithmetic.orders import get_order
from ..codec.rounding import Rounding
from ..formats import Format, format_names
from ..quantization.records import SchemeField
from ..quantization.scaling import Chosen, scales_from_histogram
from ..quantization.scheme import Scheme, as_scheme
from ..quantization.tensor import QuantizedTensor, quantize
from .transformer import Model

if TYPE_CHECKING:
    from ggd import MagnitudeHistogram

__all__ = ["Datapath", "Machine", "Products", "is_static"]

Array = NDArray[np.float32]

_MARGIN = 6  # bits of a narrow accumulator left above the largest product
_NARROW = 2.0**64  # an accumulator that reaches further needs no shift


@dataclass(frozen=True)
class Datapath:
    """What products of weights and activations are computed in.

    Attributes
    ----------
    weights : Scheme
        How weights are stored; a text form is read.
    activations : Scheme or None
        How activations are rounded, or its text form; None leaves them in float32.
    accumulator, order, accumulator_rounding : str
        As ``accumulator``, ``order`` and ``rounding`` of `rf8sim.arithmetic.linalg.matmul`. A matrix engine
        (``hopper-fp8``) or ``aligned:F:K`` as the accumulator says all three.
    shift : int or None
        Products are divided by ``2**shift`` before they are summed, and the sums multiplied; None chooses it.
    seed : int
        Of stochastic rounding.

    Examples
    --------
    >>> Datapath("rf8", activations="int8", accumulator="int:24").check()
    >>> Datapath("rf8", accumulator="int:24").check()
    Traceback (most recent call last):
    ValueError: accumulator 'int:24' sums integers: give the activations a format too, such as 'int8'
    """

    weights: SchemeField
    activations: SchemeField | None = None
    accumulator: str = "exact"
    order: str = "sequential"
    accumulator_rounding: str = "nearest-even"
    shift: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", as_scheme(self.weights))
        if self.activations is not None:
            object.__setattr__(self, "activations", as_scheme(self.activations))
        if is_engine(self.accumulator):
            summing = as_accumulation(self.accumulator)
            object.__setattr__(self, "accumulator", get_accumulator(summing.accumulator).name)
            object.__setattr__(self, "order", str(summing.order))
            object.__setattr__(self, "accumulator_rounding", str(summing.rounding))

    def check(self) -> None:
        """Raise ValueError if an option is unknown or options do not fit each other."""
        get_order(self.order)
        accumulator = get_accumulator(as_accumulation(self.accumulator).accumulator)
        if not accumulator.exact:
            rounding = Rounding(self.accumulator_rounding, seed=self.seed)
            get_rule(accumulator, rounding, 0)
            Accumulation(accumulator, self.order, rounding)
        if accumulator.integer and self.activations is None:
            raise ValueError(
                f"accumulator {self.accumulator!r} sums integers: give the activations a format too, such as 'int8'"
            )
        for scheme in (self.weights, self.activations):
            if accumulator.integer and scheme is not None and not _scales_sums(scheme):
                raise ValueError(
                    f"accumulator {self.accumulator!r} sums products of codes: it takes schemes with one positive "
                    f"scale for the tensor or for each channel, not {scheme}"
                )
        if self.shift is not None and abs(self.shift) > 64:
            raise ValueError(f"shift must be -64 to 64, got {self.shift}")


def _scales_sums(scheme: Scheme) -> bool:
    """Whether each scale multiplies a sum of products of codes: it is positive, one for the tensor or a channel."""
    scales = scheme.scales
    if scales is None:
        return True
    return scales.block in (None, (1, -1)) and scales.outer is None and scales.zero is None and scales.rule != "signed"


@lru_cache(maxsize=64)
def _shifted(fmt: Format, shift: int) -> Format:
    """Return a format whose values are divided by ``2**shift``."""
    if not shift:
        return fmt
    return dataclasses.replace(fmt, name=f"{fmt.name} / 2**{shift}", values=np.ldexp(fmt.values, -shift))


def _block_size(path: Datapath) -> int | None:
    """Return the size of blocks whose scales join the products of codes; None if they do not."""
    schemes = (path.weights, path.activations)
    if get_order(path.order).name != "aligned" or not all(scheme and _scales_products(scheme) for scheme in schemes):
        return None
    sizes = {scheme.scales.block for scheme in schemes}  # type: ignore[union-attr]
    return int(sizes.pop()[1]) if len(sizes) == 1 else None  # type: ignore[index]


def _scales_products(scheme: Scheme) -> bool:
    """Whether scales are positive, of blocks along the summed axis, with at most one outer scale."""
    scales = scheme.scales
    if scales is None or not isinstance(scales.block, tuple) or len(scales.block) != 2 or scales.zero is not None:
        return False
    one_outer = scales.outer is None or scales.outer.block is None
    return scales.block[0] == 1 and scales.block[1] > 1 and scales.rule != "signed" and one_outer


class Products:
    """A datapath with matrices in it.

    Parameters
    ----------
    names : sequence of str
        The products: a matrix ``NAME.weight`` for each, of shape (outputs, inputs).
    path : Datapath
        What they are computed in.
    quantized : dict of str to QuantizedTensor
        The matrices as ``path.weights`` stores them.
    inputs : dict of str to MagnitudeHistogram
        For each product, the summary of its activations in the float32 run.

    Attributes
    ----------
    first_token : int
        Index of the first token of the next batch among all, for stochastic rounding.
    sums, not_finite : int
        Sums computed, and those that are infinite or NaN.
    """

    def __init__(
        self,
        names: Sequence[str],
        path: Datapath,
        quantized: Mapping[str, QuantizedTensor],
        inputs: Mapping[str, MagnitudeHistogram],
    ) -> None:
        self.path = path
        self.block_size = _block_size(path)
        self.operands = {name: self._operand(quantized[f"{name}.weight"]) for name in names}
        self.indices = {name: index for index, name in enumerate(names)}
        self.shifts = {name: self._shift(name, inputs[name].abs_max) for name in names}
        self.scales: dict[str, Chosen] = {}
        scheme = path.activations
        if scheme is not None and scheme.scales is not None and is_static(scheme):
            self.scales = {name: scales_from_histogram(inputs[name], scheme) for name in names}
        self.first_token = 0
        self.sums = self.not_finite = 0

    def _shift(self, name: str, largest_input: float) -> int:
        if self.path.shift is not None:
            return self.path.shift
        accumulator = get_accumulator(self.path.accumulator)
        kind = accumulator.floating or accumulator.format
        if kind is None or kind.max >= _NARROW:
            return 0
        inputs = self.path.activations
        reach = inputs.format.max if inputs is not None and _scales_sums(inputs) else largest_input
        largest = self.operands[name].largest * reach
        return math.ceil(math.log2(largest / kind.max)) + _MARGIN if largest > 0 else 0

    def _operand(self, quantized: QuantizedTensor) -> _Operand:
        """Return codes with scales, or the numbers that they stand for."""
        if self.block_size is not None:
            outer = float(quantized.scales[1]) if len(quantized.scales) > 1 else 1.0
            return _Operand(quantized.codes, quantized.format, quantized.scales[0], quantized.format.max, outer)
        if _scales_sums(quantized.scheme):
            return _Operand(quantized.codes, quantized.format, quantized.scale, quantized.format.max)
        numbers = quantized.dequantize(np.float32)
        return _Operand(numbers, "float32", np.ones((1, 1), np.float32), float(np.abs(numbers).max(initial=0.0)))

    def _scales(self, inputs: _Operand, weight: _Operand, shift: int) -> OperandScales:
        kept = self.path.weights.scales
        stored = kept.format if kept is not None and self.block_size and kept.format in format_names() else None
        return OperandScales(np.ldexp(inputs.scale, shift), weight.scale.T, self.block_size, stored)

    def __call__(self, name: str, x: Array) -> Array:
        """Apply the matrix of a name to activations of shape (tokens, inputs)."""
        weight, shift = self.operands[name], self.shifts[name]
        if self.path.activations is None:
            inputs = _Operand(np.ldexp(x, -shift), "float32", np.ones((1, 1), np.float32), 0.0)
        else:
            inputs = self._operand(self._quantized(name, x, self.path.activations))
            if isinstance(inputs.kind, Format):
                inputs = inputs._replace(kind=_shifted(inputs.kind, shift))
            else:
                inputs = inputs._replace(data=np.ldexp(inputs.data, -shift))
        sums = matmul(
            inputs.data,
            weight.data.T,
            (inputs.kind, weight.kind),
            scales=self._scales(inputs, weight, shift),
            accumulator=Accumulation(
                self.path.accumulator,
                self.path.order,
                Rounding(self.path.accumulator_rounding, seed=self.path.seed + self.indices[name]),
            ),
        )
        sums = (sums.astype(np.float64) * (inputs.outer * weight.outer)).astype(np.float32)
        self.sums += sums.size
        self.not_finite += sums.size - int(np.count_nonzero(np.isfinite(sums)))
        return sums

    def _quantized(self, name: str, x: Array, scheme: Scheme) -> QuantizedTensor:
        if scheme.format.nan is None:  # after an overflow that made infinities, which is counted
            x = np.nan_to_num(x, nan=0.0, posinf=np.inf, neginf=-np.inf)
        seed, offset = self.path.seed + self.indices[name], self.first_token * x.shape[1]
        return quantize(x, scheme, seed=seed, offset=offset, scale=self.scales.get(name))


class Machine(Products):
    """A datapath with the weights of a model in it.

    Parameters
    ----------
    model : Model
        The model.
    path, quantized, inputs
        As for `Products`; ``quantized`` has the two tables that are read by index too.
    """

    def __init__(
        self,
        model: Model,
        path: Datapath,
        quantized: Mapping[str, QuantizedTensor],
        inputs: Mapping[str, MagnitudeHistogram],
    ) -> None:
        super().__init__(model.products, path, quantized, inputs)
        tables = {name: quantized[name].dequantize() for name in ("embed.weight", "positions.weight")}
        self.weights = {**model.weights, **tables}


def is_static(scheme: Scheme) -> bool:
    """Whether the one scale of a tensor follows from its summary."""
    return scheme.scales is not None and scheme.scales.block is None and scheme.scales.zero is None


class _Operand(NamedTuple):
    """Codes of a format, or float32 numbers, with their scales, the largest value, and what multiplies the sums."""

    data: NDArray[Any]
    kind: str | Format
    scale: NDArray[Any]
    largest: float
    outer: float = 1.0

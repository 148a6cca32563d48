"""What the distribution of a tensor says of the bits that it takes packed, before a coder has seen it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..entropy.patterns import LEAST_GAIN
from ..formats.floats import SAFETENSORS_LAYOUTS, FloatLayout
from .safetensors import dtype_of

if TYPE_CHECKING:
    import ggd

__all__ = ["PREDICTED", "Prediction", "Predictor"]

PREDICTED = ("BF16", "F16", "F32", "F8_E4M3", "F8_E5M2")
"""Types that are predicted, in safetensors' words."""


@dataclass(frozen=True)
class Prediction:
    """What a generalized Gaussian, fitted to a tensor, says of its packed numbers.

    Attributes
    ----------
    shape, scale : float
        Of the fit.
    bits : float
        Bits of each number that follow from these two alone, without tables and checksums.
    trusted : bool
        Whether the fit describes the tensor.
    """

    shape: float
    scale: float
    bits: float
    trusted: bool


class Predictor:
    """Counts the numbers of a tensor, and predicts.

    Parameters
    ----------
    dtype : str
        The tensor's type, in safetensors' words.

    Examples
    --------
    >>> predictor = Predictor("F32")
    >>> predictor.add(np.random.default_rng(0).laplace(size=100_000).astype(np.float32).view(np.uint8))
    >>> round(predictor.result().bits, 1)
    26.8
    """

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.histogram: ggd.MagnitudeHistogram | None = None

    def add(self, data: NDArray[np.uint8]) -> None:
        """Take bytes of whole numbers."""
        if self.dtype not in PREDICTED:
            return
        from ggd import MagnitudeHistogram

        part = MagnitudeHistogram.from_array(data.view(dtype_of(self.dtype)))
        self.histogram = part if self.histogram is None else self.histogram | part

    def result(self) -> Prediction | None:
        """Return what is predicted; None without numbers of such a type, or where there is no fit."""
        if self.histogram is None:
            return None
        import ggd

        fit = ggd.fit(self.histogram)
        if not (np.isfinite(fit.shape) and np.isfinite(fit.scale)):
            return None
        bits = packed_bits(fit.distribution, SAFETENSORS_LAYOUTS[self.dtype], fit.zero_share)
        return Prediction(fit.shape, fit.scale, bits, fit.trusted)


def packed_bits(density: ggd.GGD, layout: FloatLayout, zero_share: float = 0.0) -> float:
    """Return the bits that a number of a density takes packed: coded as one byte, or in planes.

    Parameters
    ----------
    density : GGD
        Of the numbers that are not zero.
    layout : FloatLayout
        What they are stored in.
    zero_share : float
        Share of exact zeros among all.

    Examples
    --------
    >>> import ggd
    >>> laplace, layout = ggd.GGD(1.0), SAFETENSORS_LAYOUTS["BF16"]
    >>> round(packed_bits(laplace, layout), 3), round(packed_bits(laplace, layout, zero_share=0.5), 3)
    (10.832, 7.382)
    """
    import ggd

    theory = ggd.float_theory(
        density, layout.exponent_bits, layout.mantissa_bits,
        bias=layout.bias, specials=layout.magnitude_mask - layout.largest_pattern,
    )  # fmt: skip
    fields = theory.probabilities
    rounded = float(fields[:, 0, 0].sum())  # what rounds to zero is none of the zeros beside the density
    exact = max(zero_share - rounded, 0.0) / (1.0 - rounded)
    fields = (1.0 - exact) * fields
    fields[0, 0, 0] += exact
    theory = replace(theory, probabilities=fields)
    if layout.bits == 8:
        return theory.entropy_bits
    planes = [*theory.plane_bits(8 - layout.exponent_bits)]
    for _ in range(layout.bits // 8 - 2):  # bytes that are uniform but where the number is zero
        planes[1] -= 8.0
        planes.append(8.0 * (1.0 - exact) + _entropy_of_two(exact))
    return sum(8.0 if bits > 8.0 * (1.0 - LEAST_GAIN) else bits for bits in planes)


def _entropy_of_two(share: float) -> float:
    return -sum(p * math.log2(p) for p in (share, 1.0 - share) if p > 0.0)

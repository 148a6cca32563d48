"""The RF family under generalized Gaussian weights: what exponent bits and depth buy, from theory alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..formats import get_format
from .planning import rf_family

__all__ = ["SHAPES", "Member", "theory"]

SHAPES = (0.5, 0.75, 1.0, 1.5, 2.0)
"""Shapes of weights: heavy tails, Laplace at 1, Gaussian at 2."""


@dataclass(frozen=True)
class Member:
    """RF(p, depth) on weights of one shape, at its best scale.

    Attributes
    ----------
    p, depth : int
        Exponent bits and depth.
    bits : int
        Width of a code.
    shape : float
        Of the generalized Gaussian.
    sqnr_db : float
        Signal to quantization noise ratio at the scale of least error.
    entropy_bits : float
        Entropy of a code there: what it takes when entropy-coded.
    underflow : float
        Share of weights that become zero there.
    """

    p: int
    depth: int
    bits: int
    shape: float
    sqnr_db: float
    entropy_bits: float
    underflow: float


def theory(shapes: Sequence[float] = SHAPES, least_bits: int = 4, most_bits: int = 8) -> list[Member]:
    """Return what every member of the family does to generalized Gaussian weights, rounded to nearest.

    Parameters
    ----------
    shapes : sequence of float
        Shapes of the weights.
    least_bits, most_bits : int
        Widths of codes.

    Returns
    -------
    list of Member
        By format, then by shape. The scale is the best real number; a power of two is at most half an octave off, and
        since values repeat every octave that moves only the ends of the range.

    Examples
    --------
    >>> [rf8] = [member for member in theory([1.0], 8) if (member.p, member.depth) == (4, 4)]
    >>> round(rf8.sqnr_db, 2), round(rf8.entropy_bits, 2)
    (28.46, 6.49)
    """
    from ggd import GGD, best_scale, quantizer_theory

    members = []
    for name in rf_family(least_bits, most_bits):
        fmt = get_format(name)
        values = np.unique(fmt.values[np.isfinite(fmt.values)])
        boundaries = (values[1:] + values[:-1]) / 2
        p, depth = (int(part) for part in name[3:-1].split(","))
        for shape in shapes:
            density = GGD.from_std(shape, 1.0)
            scale = best_scale(density, values, boundaries).scale
            result = quantizer_theory(density, values * scale)
            members.append(Member(p, depth, fmt.bits, shape, result.sqnr_db, result.entropy_bits, result.underflow))
    return members

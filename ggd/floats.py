"""Theory of floats as they are stored: how many bits sign, exponent and mantissa of a generalized Gaussian carry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ggd.distribution import GGD
from ggd.quantizer import cell_probabilities

__all__ = ["FloatTheory", "float_theory"]

Array = NDArray[np.float64]

_SEEN = 8
"""Bits that are looked at of a mantissa of more than 10: those behind them lack some 1e-6 bits of being uniform."""

_RARE = 1e-9
"""Exponent fields that are rarer are taken to have uniform mantissas: together they change no entropy by 1e-7 bits."""


@dataclass(frozen=True, eq=False)
class FloatTheory:
    """The distribution of the fields of a float, and their entropies in bits.

    Attributes
    ----------
    probabilities : ndarray of float64, shape (2, 2**exponent_width, 2**seen)
        Of sign, exponent field and the first bits of the mantissa field: all of at most 10, or else 8.
    mantissa_width : int
        Bits of the mantissa field.
    """

    probabilities: Array
    mantissa_width: int

    @property
    def exponents(self) -> Array:
        """Probability of each value of the exponent field."""
        total: Array = self.probabilities.sum(axis=(0, 2))
        return total

    @property
    def exponent_bits(self) -> float:
        """Entropy of the exponent field."""
        return _entropy(self.exponents)

    @property
    def sign_bits(self) -> float:
        """Entropy of the sign, given the exponent field: 1 for a density that is symmetric about zero."""
        return _entropy(self.probabilities.sum(axis=2)) - self.exponent_bits

    @property
    def mantissa_bits(self) -> float:
        """Entropy of the mantissa field, given the others: little below its width."""
        return self.entropy_bits - self.sign_bits - self.exponent_bits

    @property
    def entropy_bits(self) -> float:
        """Entropy of the code: the least bits that any code of single numbers takes."""
        return _entropy(self.probabilities) + self._unseen

    @property
    def _unseen(self) -> int:
        return self.mantissa_width - int(self.probabilities.shape[2]).bit_length() + 1

    def plane_bits(self, coded: int = 0) -> tuple[float, float]:
        """Return the entropies of two planes: the exponent, and what is stored beside it, nearly uniform.

        Parameters
        ----------
        coded : int
            How many bits of the mantissa are in the first plane.

        Returns
        -------
        first, second : float
            Of the exponent field and the first bits of the mantissa together; of the rest and the sign, by itself.

        Raises
        ------
        ValueError
            If the mantissa has fewer bits, or so many are not looked at.

        Examples
        --------
        What DFloat11 stores of bfloat16: codes of the exponent, and 8 bits as they are.

        >>> first, second = float_theory(GGD(1.0), 8, 7).plane_bits()
        >>> round(first + 8, 3), round(second, 3)
        (10.832, 7.972)
        """
        seen = self.mantissa_width - self._unseen
        if not 0 <= coded <= seen:
            raise ValueError(f"the first plane has 0 to {seen} bits of the mantissa, got {coded}")
        split = self.probabilities.reshape(2, -1, 1 << coded, 1 << (seen - coded))
        return _entropy(split.sum(axis=(0, 3))), _entropy(split.sum(axis=(1, 2))) + self._unseen


def float_theory(
    density: GGD,
    exponent_width: int,
    mantissa_width: int,
    *,
    bias: int | None = None,
    specials: int | None = None,
) -> FloatTheory:
    """Return how a float of some widths stores a density: probabilities of its fields, and their entropies.

    Values round to the nearest float, subnormals included, and saturate at the largest.

    Parameters
    ----------
    density : GGD
        Distribution of the numbers.
    exponent_width, mantissa_width : int
        Bits of the fields: 2 to 8, and 1 to 52.
    bias : int, optional
        The exponent field of 1.0; by default 2**(exponent_width - 1) - 1, as IEEE 754 has it.
    specials : int, optional
        How many of the largest patterns are infinities and NaN: by default all of the largest exponent field, as IEEE
        754 has it; 1 in E4M3 of the OCP, 0 where NaN has the pattern of a negative zero.

    Returns
    -------
    FloatTheory

    Raises
    ------
    ValueError
        If a width is out of range, or more patterns are special than the largest exponent field has.

    Examples
    --------
    The exponents of Laplace weights carry less than 3 of bfloat16's 8 bits, at any scale:

    >>> theory = float_theory(GGD(1.0, 0.02), 8, 7)
    >>> round(theory.sign_bits, 3), round(theory.exponent_bits, 3), round(theory.mantissa_bits, 3)
    (1.0, 2.832, 6.944)
    >>> round(float_theory(GGD(1.0, 0.02 / 16), 8, 7).exponent_bits - theory.exponent_bits, 6)
    0.0
    """
    if not (2 <= exponent_width <= 8 and 1 <= mantissa_width <= 52):
        raise ValueError(f"a float has 2 to 8 bits of exponent and 1 to 52 of mantissa, got {exponent_width} and "
                         f"{mantissa_width}")  # fmt: skip
    bias = (1 << (exponent_width - 1)) - 1 if bias is None else bias
    seen = mantissa_width if mantissa_width <= 10 else _SEEN
    width = 1 << mantissa_width
    specials = width if specials is None else specials
    if not 0 <= specials <= width or (seen < mantissa_width and specials < width):
        raise ValueError(f"0 to {width} patterns are special (all, of a mantissa of more than 10 bits), got {specials}")
    fields, count = (1 << exponent_width) - int(specials == width), 1 << seen
    field = np.repeat(np.arange(fields), count)
    values = np.ldexp(
        np.tile(np.arange(count), fields) + (field > 0) * float(count), np.maximum(field, 1) - bias - seen
    )
    # To nearest: of a mantissa that is seen to its end cells end halfway between values; else where the bits change.
    ends = 0.5 * (values[1:] + values[:-1]) if seen == mantissa_width else values[1:]
    coarse = _between(density, ends[count - 1 :: count])
    probabilities = np.zeros((2, 1 << exponent_width, count))
    probabilities[:, :fields] = coarse[:, :, None] / count
    often = np.flatnonzero(coarse.sum(axis=0) > _RARE)
    first, last = int(often.min()), int(often.max()) + 1
    near = _between(density, ends[max(first * count - 1, 0) : last * count - 1 + (last < fields)])
    near = near[:, int(first > 0) :][:, : (last - first) * count]  # without the cells of all that is nearer or beyond
    probabilities[:, first:last] = near.reshape(2, last - first, count)
    if 0 < specials < width:
        probabilities[:, -1, -specials - 1] += probabilities[:, -1, -specials:].sum(axis=1)
        probabilities[:, -1, -specials:] = 0.0
    return FloatTheory(probabilities, mantissa_width)


def _between(density: GGD, ends: Array) -> Array:
    """Return the probabilities of magnitudes up to each end and beyond the last, of positive and negative values."""
    cells = cell_probabilities(density, np.concatenate([-ends[::-1], [0.0], ends]))
    return np.stack([cells[ends.size + 1 :], cells[: ends.size + 1][::-1]])


def _entropy(probabilities: Array) -> float:
    some = probabilities[probabilities > 0]
    return float(-np.sum(some * np.log2(some)))

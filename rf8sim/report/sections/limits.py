"""The limits that information theory sets, for generalized Gaussians fitted to tensors."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

import ggd

from ...studies.experiment import Experiment, TensorRecord

__all__ = ["Limit", "limits", "lloyd_max_db", "median_shape", "shannon_db", "trusted"]


def trusted(experiment: Experiment) -> list[TensorRecord]:
    """Return the tensors whose fit is to be trusted."""
    return [tensor for tensor in experiment.tensors if tensor.fit is not None and not tensor.fit_doubt]


def median_shape(experiment: Experiment) -> float | None:
    """Return the median shape of the trusted fits; None if there is none."""
    shapes = [tensor.fit.shape for tensor in trusted(experiment) if tensor.fit is not None]
    return statistics.median(shapes) if shapes else None


def shannon_db(shape: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the SQNR in dB that bounds a rate R: ``D >= 2**(2 h - 2 R) / (2 pi e)``, h the entropy.

    Examples
    --------
    A Gaussian, for which the bound is 6.02 dB a bit:

    >>> round(float(shannon_db(2.0)(np.array(4.0))), 2)
    24.08
    """
    density = ggd.GGD(shape=shape, scale=1.0)
    decibels = 20 * math.log10(2)
    offset = 10 * math.log10(2 * math.pi * math.e * density.var) - decibels * density.entropy_bits
    return lambda rate: offset + decibels * rate


@lru_cache(maxsize=64)
def lloyd_max_db(shape: float, levels: int) -> float:
    """Return the SQNR in dB of the best scalar quantizer with so many values (Lloyd 1982, Max 1960).

    Examples
    --------
    >>> round(lloyd_max_db(2.0, 256), 2)
    43.85
    """
    density = ggd.GGD(shape=shape, scale=1.0)
    return 10 * math.log10(density.var / ggd.lloyd_max(density, levels).mse)


@dataclass(frozen=True)
class Limit:
    """How far a format is from what is possible, over the tensors with a trusted fit and almost no zeros.

    Attributes
    ----------
    scheme : str
        Name of the scheme.
    tensors : int
        How many tensors that is.
    sqnr_db : float
        The format's SQNR over them.
    bound_db : float
        The largest SQNR of any code that spends on each tensor the bits that the format spends, entropy-coded.
    bits : float
        Those bits per weight.
    least_bits : float
        The fewest bits per weight of any code with the format's error in each tensor.
    """

    scheme: str
    tensors: int
    sqnr_db: float
    bound_db: float
    bits: float
    least_bits: float


_FEW_ZEROS = 1e-3  # zeros need next to no bits, and a density says nothing about them


def limits(experiment: Experiment) -> list[Limit]:
    """Return, for each format, the Shannon lower bounds of the tensors' own fits, added up.

    Parameters
    ----------
    experiment : Experiment
        What was measured.

    Returns
    -------
    list of Limit
        Of the formats for which there is something to compare.
    """
    notes = []
    tensors = [tensor for tensor in trusted(experiment) if tensor.zeros <= _FEW_ZEROS * tensor.count]
    for name in experiment.settings.names:
        signal = error = bound = spent = least = 0.0
        weights = number = 0
        for tensor in tensors:
            record, fit = tensor.scheme(name), tensor.fit
            rate, sums = record.coded_bits_per_weight, record.error
            if fit is None or rate is None or not 0 < sums.sum_squared_error < math.inf:
                continue
            density = ggd.GGD(shape=fit.shape, scale=fit.scale)
            number, weights = number + 1, weights + sums.count
            signal, error = signal + sums.sum_squares, error + sums.sum_squared_error
            bound += sums.count * ggd.shannon_lower_bound(density, rate)
            spent += sums.count * rate
            mse = sums.sum_squared_error / sums.count
            least += sums.count * max(0.0, density.entropy_bits - 0.5 * math.log2(2 * math.pi * math.e * mse))
        if number and signal > 0 and bound > 0:
            sqnr, best = 10 * math.log10(signal / error), 10 * math.log10(signal / bound)
            notes.append(Limit(name, number, sqnr, best, spent / weights, least / weights))
    return notes

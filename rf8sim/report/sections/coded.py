"""Sizes of entropy-coded weights: as a coder stores them, or estimated."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ...entropy.code_lengths import code_lengths
from ...entropy.coding import stored_bits
from ...studies.experiment import Experiment
from ..tables.experiment import largest

__all__ = ["MOST_CODED", "coded_bits", "rans_sizes"]

MOST_CODED = 100
"""Tensors whose sizes are computed, the largest ones: finding the best table of one takes hundredths of a second."""


def coded_bits(experiment: Experiment, name: str, coder: str) -> float:
    """Return the bits per weight of the codes of the largest tensors in a scheme, a table for each, without scales."""
    counts = [tensor.scheme(name).error.code_counts for tensor in largest(experiment, MOST_CODED)]
    bits = sum(_stored_bits(code_counts, coder) for code_counts in counts)
    return float(bits / max(1, sum(int(code_counts.sum()) for code_counts in counts)))


def rans_sizes(experiment: Experiment) -> dict[str, float] | None:
    """Return bits per weight coded by rANS, scales included, of each scheme; None if not every tensor is computed."""
    if len(experiment.tensors) > MOST_CODED:
        return None
    return {
        record.name: record.scale_overhead_bits + coded_bits(experiment, record.name, "rans")
        for record in experiment.total.schemes
        if record.scale_overhead_bits is not None
    }


def _stored_bits(code_counts: NDArray[np.int64], coder: str) -> int:
    if code_counts.size > 256:  # too large to be kept
        return _computed_bits(code_counts, coder)
    return _kept_bits(code_counts.tobytes(), code_counts.dtype.str, coder)


@lru_cache(maxsize=4096)
def _kept_bits(counts: bytes, dtype: str, coder: str) -> int:
    return _computed_bits(np.frombuffer(counts, dtype), coder)


def _computed_bits(code_counts: NDArray[np.int64], coder: str) -> int:
    return int(stored_bits(code_lengths(code_counts, coder))) if code_counts.any() else 0

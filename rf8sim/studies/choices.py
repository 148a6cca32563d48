"""What other rounding modes and scalings would give, measured on a sample: the first rows of a few tensors."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ggd.survey import kind_of

from ..checkpoints.checkpoint import TensorInfo
from ..codec.rounding import RoundingMode
from ..formats import Format, get_format
from ..quantization.metrics import measure
from ..quantization.scaling import SCALE_RULES, SCALINGS, quantize
from .experiment import ChoiceRecord, FormatRecord, Settings

__all__ = ["SAMPLE_ELEMENTS", "compare_choices"]

SAMPLE_ELEMENTS = 1 << 14
"""The most elements of a tensor that are looked at."""


def compare_choices(tensors: Sequence[TensorInfo], settings: Settings) -> tuple[ChoiceRecord, ...]:
    """Measure every rounding mode, scaling and scale rule that differs from the settings in one thing.

    Parameters
    ----------
    tensors : sequence of TensorInfo
        Those to measure, each with an element at least. Of each kind (`ggd.survey.kind_of`) the largest is sampled: its
        first rows, at most `SAMPLE_ELEMENTS` elements. Elements that are not finite are replaced by zero.
    settings : Settings
        The formats, and what is held while one thing is changed. Blocks lie along the rows.

    Returns
    -------
    tuple of ChoiceRecord
        For each format the settings' own choice first.

    Raises
    ------
    CheckpointError
        If a file is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from rf8sim.checkpoints.checkpoint import open_checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/w.npy", np.random.default_rng(0).normal(size=(40, 50)))
    ...     found = compare_choices(list(open_checkpoint(f"{folder}/w.npy")), Settings(formats=("int8",)))
    >>> {choice.rounding: round(choice.record.sqnr_db) for choice in found if choice.scaling == "tensor"}["stochastic"]
    38
    """
    if not settings.formats:
        return ()
    largest: dict[str, TensorInfo] = {}
    for tensor in sorted(tensors, key=lambda tensor: -tensor.size):
        largest.setdefault(kind_of(tensor.name), tensor)
    samples = [_first_rows(tensor) for tensor in largest.values()]
    names = tuple(tensor.name for tensor in largest.values())
    return tuple(
        ChoiceRecord(chosen.scaling, chosen.scale_rule, chosen.rounding, names, _measured(samples, fmt, chosen))
        for fmt in map(get_format, settings.formats)
        for chosen in _alternatives(settings, fmt)
    )


def _first_rows(tensor: TensorInfo) -> NDArray[np.float64]:
    first = next(tensor.chunks(SAMPLE_ELEMENTS)).values.astype(np.float64)
    return np.where(np.isfinite(first), first, 0.0)


def _alternatives(settings: Settings, fmt: Format) -> Iterable[Settings]:
    """Yield the settings, then those that differ from them in one thing and make sense for the format."""
    yield settings
    for mode in RoundingMode:
        if mode != settings.rounding and (mode != RoundingMode.RESIDUAL or fmt.depth is not None):
            yield replace(settings, rounding=str(mode))
    for scaling in SCALINGS:
        if scaling != settings.scaling:
            yield replace(settings, scaling=scaling)
    for rule in SCALE_RULES if settings.scaling != "none" else ():
        if rule != settings.scale_rule:
            yield replace(settings, scale_rule=rule)


def _measured(samples: Sequence[NDArray[np.float64]], fmt: Format, chosen: Settings) -> FormatRecord:
    return functools.reduce(operator.or_, (_record(sample, fmt, chosen) for sample in samples))


def _record(x: NDArray[np.float64], fmt: Format, chosen: Settings) -> FormatRecord:
    quantized = quantize(
        x,
        fmt,
        scaling=chosen.scaling,
        axis=1 if chosen.scaling == "block" else 0,
        block_size=chosen.block_size,
        scale_rule=chosen.scale_rule,
        rounding=chosen.rounding,
        seed=chosen.seed,
    )
    scales = 0 if chosen.scaling == "none" else quantized.scale.size
    return FormatRecord(
        format=fmt.name,
        bits=fmt.bits,
        error=measure(x, quantized),
        scales=scales,
        scale_bits=8 if fmt.power_of_two_scale else 32,
        smallest_scale=float(quantized.scale.min()),
        largest_scale=float(quantized.scale.max()),
    )

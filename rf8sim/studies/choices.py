"""What other roundings and scales would give, measured on a sample: the first rows of a few tensors."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggd.survey import kind_of

from ..checkpoints.checkpoint import TensorInfo
from ..codec.rounding import RoundingMode
from ..quantization.blocks import matrix_shape
from ..quantization.rules import RULES
from ..quantization.scheme import Scales, Scheme
from .experiment import ChoiceRecord, SchemeRecord, Settings
from .meters import Meter, TensorScales
from .pieces import Piece, undivided

__all__ = ["SAMPLE_ELEMENTS", "alternatives", "compare_choices"]

SAMPLE_ELEMENTS = 1 << 14
"""The most elements of a tensor that are looked at."""


BLOCKS: tuple[str | tuple[int, int], ...] = ("tensor", "channel", (1, 32))
"""Blocks that are compared, beside no scale at all."""

SCALE_FORMATS = ("float32", "bfloat16", "e8m0fnu")
"""What scales are stored in, to compare."""


def compare_choices(tensors: Sequence[TensorInfo], settings: Settings) -> tuple[ChoiceRecord, ...]:
    """Measure, on a sample, schemes that differ from those of the settings in one thing.

    Parameters
    ----------
    tensors : sequence of TensorInfo
        Those to measure, each with an element at least. Of each kind (`ggd.survey.kind_of`) the largest is sampled: its
        first rows, at most `SAMPLE_ELEMENTS` elements. Elements that are not finite are replaced by zero.
    settings : Settings
        The schemes that are varied: in the rounding mode, the block, the scale rule, the format of the scales.

    Returns
    -------
    tuple of ChoiceRecord
        For each scheme of the settings first the scheme itself.

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
    ...     choices = compare_choices(list(open_checkpoint(f"{folder}/w.npy")), Settings(("int8",)))
    >>> {choice.record.name: round(choice.record.sqnr_db) for choice in choices}["int8@stochastic"]
    38
    """
    if not settings.schemes:
        return ()
    largest: dict[str, TensorInfo] = {}
    for tensor in sorted(tensors, key=lambda tensor: -tensor.size):
        largest.setdefault(kind_of(tensor.name), tensor)
    samples = [_first_rows(tensor) for tensor in largest.values()]
    names = tuple(tensor.name for tensor in largest.values())
    return tuple(
        ChoiceRecord(base, varied, names, _measured(samples, scheme, settings.seed))
        for base in settings.schemes
        for varied, scheme in alternatives(base)
    )


def _first_rows(tensor: TensorInfo) -> NDArray[Any]:
    """Return the first rows of a tensor as a matrix, or the beginning of one that is too long."""
    columns = matrix_shape(tensor.shape)[1]
    first = next(tensor.chunks(SAMPLE_ELEMENTS, min(columns, SAMPLE_ELEMENTS))).values
    narrow = first.dtype.kind not in "iu" and first.dtype.itemsize < 8  # float32 holds it exactly
    first = first.astype(np.float32 if narrow else np.float64)
    rows = first.reshape(-1, columns) if first.size % columns == 0 else first
    return np.where(np.isfinite(rows), rows, first.dtype.type(0))


def alternatives(scheme: Scheme) -> Iterator[tuple[Any, Scheme]]:
    """Yield a scheme, then those that differ from it in one thing and are possible, each with what is varied.

    Examples
    --------
    >>> from rf8sim import as_scheme
    >>> [str(other) for varied, other in alternatives(as_scheme("int8/channel")) if varied == "block"]
    ['int8', 'int8/1x32', 'int8/none']
    >>> [str(other) for varied, other in alternatives(as_scheme("mxfp8_e4m3")) if varied == "scale_format"]
    []
    """
    yield "none", scheme
    for mode in RoundingMode:
        yield from _different("rounding", scheme, rounding=str(mode))
    scales = scheme.scales
    for block in BLOCKS:
        changed = Scales(block) if scales is None else _at_block(scales, block)
        yield from _different("block", scheme, scales=changed)
    yield from _different("block", scheme, scales=None)
    if scales is not None:
        for rule in RULES:
            yield from _different("rule", scheme, scales=_with_rule(scales, rule))
        for number in SCALE_FORMATS:
            yield from _different("scale_format", scheme, scales=replace(scales, format=number))


def _different(varied: str, scheme: Scheme, **change: Any) -> Iterator[tuple[str, Scheme]]:
    """Yield the changed scheme if it is possible and another one."""
    try:
        fields = {"scales": scheme.scales, "rounding": scheme.rounding, "overflow": scheme.overflow, **change}
        changed = Scheme(scheme.format, **fields)
    except ValueError:
        return
    if changed != scheme:
        yield varied, changed


def _at_block(scales: Scales, block: str | tuple[int, int]) -> Scales:
    """Return scales of another block; one scale for a tensor has no outer scale."""
    return replace(scales, block=block, outer=None if block == "tensor" else scales.outer)  # type: ignore[arg-type]


def _with_rule(scales: Scales, rule: str) -> Scales | None:
    """Return scales of another rule, which may fix how a scale is rounded; the same ones where it does not fit."""
    try:
        return replace(scales, rule=rule, rounding="up" if RULES[rule].rounding else scales.rounding)
    except ValueError:
        return scales


def _measured(samples: Sequence[NDArray[Any]], scheme: Scheme, seed: int) -> SchemeRecord:
    return functools.reduce(operator.or_, (_record(sample, scheme, seed) for sample in samples))


def _record(x: NDArray[Any], scheme: Scheme, seed: int) -> SchemeRecord:
    meter = Meter(scheme, x.shape, range(x.shape[0]), seed, TensorScales())
    if undivided(scheme, x.shape):
        meter.add_tensor(x, x, x)
    else:
        meter.add(Piece(0, 0, x), x, x)
    return meter.record()

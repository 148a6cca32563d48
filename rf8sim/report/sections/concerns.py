"""What is to be looked at before a checkpoint is quantized, tensor by tensor, and from which numbers on."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...studies.experiment import Experiment, SchemeRecord, TensorRecord
from ..tables.experiment import in_order, label, with_bits
from .defaults import quantized

__all__ = ["CHANNEL_DB", "DEVIATIONS", "OVERFLOW", "SENSITIVE_DB", "UNDERFLOW", "Concern", "concerns"]

UNDERFLOW, OVERFLOW = 0.01, 0.001
"""Shares of the weights from which a report states that they become zero, or lie beyond a format's range."""
SENSITIVE_DB = 6.0
"""So far below the median SQNR of its format a tensor has twice the relative error of the others."""
CHANNEL_DB = 10.0
"""So far below the median of its tensor a channel is named at the earliest."""
DEVIATIONS = 4.0
"""So many robust standard deviations from the median of the model a tensor is unusual in it."""


@dataclass(frozen=True)
class Concern:
    """Something about one tensor.

    Attributes
    ----------
    tensor : str
        Its label.
    weights : int
        Its size.
    name : str
        The name of the scheme that it is about; empty if it is about the weights.
    scheme : str
        The same with the scheme's bits.
    what : str
        What is wrong, in words.
    advice : str
        What to do.
    """

    tensor: str
    weights: int
    name: str
    scheme: str
    what: str
    advice: str


def concerns(experiment: Experiment) -> list[Concern]:
    """Return what is unusual in this model, tensor by tensor, in the order of the tensors.

    Tensors that ``rf8sim quantize`` keeps are listed for values that are not finite alone.

    Parameters
    ----------
    experiment : Experiment
        What was measured.
    """
    part = quantized(experiment)
    stored = {id(tensor) for tensor in part.tensors}
    limits = {record.name: _limits(part, record) for record in part.total.schemes}
    return [
        concern
        for tensor in in_order(experiment.tensors)
        for concern in _concerns(label(experiment, tensor), tensor, limits if id(tensor) in stored else {})
    ]


@dataclass(frozen=True)
class _Limits:
    """From where on a tensor is unusual in one scheme; ``sqnr`` is a lower limit, the others are upper ones."""

    median_db: float
    sqnr_db: float
    channel_db: float
    underflow: float
    overflow: float


def _limits(part: Experiment, total: SchemeRecord) -> _Limits:
    """Return the limits of a scheme: of its tensors among themselves."""
    records = [tensor.scheme(total.scheme) for tensor in part.tensors]
    known = [record.sqnr_db for record in records if record.sqnr_db is not None and math.isfinite(record.sqnr_db)]
    gaps = [
        channel.median_db - channel.worst_db
        for tensor in part.tensors
        for channel in tensor.channels
        if channel.scheme == total.scheme
    ]
    median = statistics.median(known) if known else 0.0
    shares = (("underflow_share", UNDERFLOW), ("overflow_share", OVERFLOW))
    return _Limits(
        median,
        median - max(SENSITIVE_DB, _spread(known)),
        _beyond(gaps, CHANNEL_DB),
        *(
            max(_beyond([getattr(record, name) or 0.0 for record in records], least), 2 * (getattr(total, name) or 0.0))
            for name, least in shares
        ),
    )


_FEW = 4  # numbers that say nothing about what is usual among them


def _beyond(values: Sequence[float], least: float) -> float:
    """Return above which value one is unusual among others, at least a given one."""
    return least if len(values) < _FEW else max(least, statistics.median(values) + _spread(values))


def _spread(values: Sequence[float]) -> float:
    """Return `DEVIATIONS` standard deviations, estimated by the median distance from the median."""
    if len(values) < _FEW:
        return 0.0
    median = statistics.median(values)
    return DEVIATIONS * 1.4826 * statistics.median(abs(value - median) for value in values)


def _concerns(name: str, tensor: TensorRecord, limits: dict[str, _Limits]) -> Iterable[Concern]:
    def say(record: SchemeRecord, what: str, advice: str) -> Concern:
        return Concern(name, tensor.count, record.name, with_bits(record), what, advice)

    if tensor.nans or tensor.infinities:
        words = f"{tensor.nans:,} NaN, {tensor.infinities:,} infinite"
        yield Concern(name, tensor.count, "", "", words, "repair the checkpoint")
    if not limits:
        return
    if tensor.zeros == tensor.count:
        yield Concern(name, tensor.count, "", "", "all zero", "nothing to quantize")
    for record in tensor.schemes:
        for what, advice in _losses(record, limits[record.name]):
            yield say(record, what, advice)
    for channel in tensor.channels:
        if channel.median_db - channel.worst_db > limits[str(channel.scheme)].channel_db:
            what = f"channel {channel.worst}: {channel.worst_db:.1f} dB, the median channel has {channel.median_db:.1f}"
            scales = channel.scheme.scales
            by_channel = scales is not None and scales.block == (1, -1)
            advice = "a block scale, such as 1x32" if by_channel else "a scale for each channel"
            yield say(tensor.scheme(channel.scheme), what, advice)


def _losses(record: SchemeRecord, limits: _Limits) -> Iterable[tuple[str, str]]:
    if record.sqnr_db is not None and record.sqnr_db < limits.sqnr_db:
        words = f"{record.sqnr_db:.1f} dB, the median tensor has {limits.median_db:.1f}"
        yield words, "keep it, or take a finer scale or format"
    lost, out = record.underflow_share or 0.0, record.overflow_share or 0.0
    if lost > limits.underflow:
        yield f"{100 * lost:.2f} % rounded to zero", "a finer scale, or a format of wider range"
    scales = record.scheme.scales
    if out > limits.overflow and (scales is None or scales.rule not in _SEARCHED):
        yield _clipped(record, out)


_SEARCHED = ("mse", "ggd")  # rules of least error clip on purpose


def _clipped(record: SchemeRecord, share: float) -> tuple[str, str]:
    """Say how many weights are clipped, and what avoids it."""
    scales = record.scheme.scales
    if scales is None:
        return f"{100 * share:.2f} % clipped: there is no scale", f"a scale, as in {record.scheme.format.name}/tensor"
    how = "a scale rounded up, or in a wider format" if scales.rule == "max" else "a scale by the rule max"
    return f"{100 * share:.2f} % clipped", how

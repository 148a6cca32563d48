"""What is to be looked at before a checkpoint is quantized, tensor by tensor, and from which numbers on."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from ...checkpoints.plan import Plan
from ...studies.experiment import Experiment, SchemeRecord, TensorRecord
from ..tables.experiment import label, with_bits

__all__ = ["CHANNEL_DB", "OVERFLOW", "SENSITIVE_DB", "UNDERFLOW", "Concern", "concerns", "kept"]

UNDERFLOW, OVERFLOW = 0.01, 0.001
"""Shares of the weights from which a report states that they become zero, or lie beyond a format's range."""
SENSITIVE_DB = 6.0
"""So far below the median SQNR of its format a tensor has twice the relative error of the others."""
CHANNEL_DB = 10.0
"""So far below the median of its tensor a channel is named."""


@dataclass(frozen=True)
class Concern:
    """Something about one tensor.

    Attributes
    ----------
    tensor : str
        Its label.
    weights : int
        Its size.
    scheme : str
        The scheme that it is about, with its bits; empty if it is about the weights.
    what : str
        What is wrong, in words.
    advice : str
        What to do.
    """

    tensor: str
    weights: int
    scheme: str
    what: str
    advice: str


def kept(experiment: Experiment) -> list[TensorRecord]:
    """Return the tensors that stay unquantized unless a plan says otherwise: norms, embeddings, biases, vectors."""
    plan = Plan()
    return [tensor for tensor in experiment.tensors if isinstance(plan.choose(tensor.name, tensor.shape), str)]


def concerns(experiment: Experiment) -> list[Concern]:
    """Return what is to be looked at, tensor by tensor.

    Parameters
    ----------
    experiment : Experiment
        What was measured.
    """
    medians = {}
    for name in experiment.settings.names:
        known = [db for tensor in experiment.tensors if (db := tensor.scheme(name).sqnr_db) is not None]
        medians[name] = statistics.median(known) if known else 0.0
    return [concern for tensor in experiment.tensors for concern in _concerns(experiment, tensor, medians)]


def _concerns(experiment: Experiment, tensor: TensorRecord, medians: dict[str, float]) -> Iterable[Concern]:
    def say(fmt: str, what: str, advice: str) -> Concern:
        return Concern(label(experiment, tensor), tensor.count, fmt, what, advice)

    if tensor.nans or tensor.infinities:
        yield say("", f"{tensor.nans:,} NaN, {tensor.infinities:,} infinite", "repair the checkpoint")
    if tensor.zeros == tensor.count:
        yield say("", "all zero", "nothing to quantize")
    for record in tensor.schemes:
        losses = _losses(record, medians[record.name], experiment.total.scheme(record.name))
        yield from (say(with_bits(record), what, advice) for what, advice in losses)
    for channel in tensor.channels:
        if channel.worst_db < channel.median_db - CHANNEL_DB:
            what = f"channel {channel.worst}: {channel.worst_db:.1f} dB, the median channel has {channel.median_db:.1f}"
            yield say(with_bits(tensor.scheme(channel.scheme)), what, "a scale for each channel")


def _losses(record: SchemeRecord, median: float, total: SchemeRecord) -> Iterable[tuple[str, str]]:
    if record.sqnr_db is not None and record.sqnr_db < median - SENSITIVE_DB:
        yield f"{record.sqnr_db:.1f} dB, the median tensor has {median:.1f}", "keep it, or take a finer scale or format"
    lost, out = record.underflow_share or 0.0, record.overflow_share or 0.0
    if lost > max(UNDERFLOW, 2 * (total.underflow_share or 0.0)):
        yield f"{100 * lost:.2f} % rounded to zero", "a finer scale, or a format of wider range"
    if out > max(OVERFLOW, 2 * (total.overflow_share or 0.0)):
        yield _clipped(record, out)


_SEARCHED = {"mse": "least squared error", "ggd": "least expected squared error"}


def _clipped(record: SchemeRecord, share: float) -> tuple[str, str]:
    """Say how many weights are clipped, and what avoids it: rules of least error clip on purpose."""
    scales = record.scheme.scales
    if scales is None:
        return f"{100 * share:.2f} % clipped: there is no scale", f"a scale, as in {record.scheme.format.name}/tensor"
    if scales.rule in _SEARCHED:
        count = f"{record.error.overflow:,} of {record.error.total:,} weights"
        verb = "is" if record.error.overflow == 1 else "are"
        return (
            f"{count} {verb} clipped (the scale of {_SEARCHED[scales.rule]} clips)",
            "none needed; rule max avoids clipping, mostly at a lower SQNR",
        )
    how = "a scale rounded up, or in a wider format" if scales.rule == "max" else "a scale by the rule max"
    return f"{100 * share:.2f} % clipped", how

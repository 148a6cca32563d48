"""What ``rf8sim quantize`` does by default with the tensors of a report: those that it quantizes, those it keeps."""

from __future__ import annotations

import functools
import operator

from msgspec.structs import replace

from ...checkpoints.plan import Plan
from ...studies.experiment import Experiment, TensorRecord

__all__ = ["kept", "quantized"]


def kept(experiment: Experiment) -> list[TensorRecord]:
    """Return the tensors that stay unquantized unless a plan says otherwise: norms, embeddings, biases, vectors."""
    plan = Plan()
    return [tensor for tensor in experiment.tensors if isinstance(plan.choose(tensor.name, tensor.shape), str)]


def quantized(experiment: Experiment) -> Experiment:
    """Return the part of an experiment that ``rf8sim quantize`` stores in a scheme; all of it if it would keep all.

    The record of all tensors together has the counts and schemes of that part.
    """
    left = {id(tensor) for tensor in kept(experiment)}
    part = tuple(tensor for tensor in experiment.tensors if id(tensor) not in left)
    if not left or not part:
        return experiment
    columns = zip(*(tensor.schemes for tensor in part), strict=True)
    total = replace(
        experiment.total,
        count=sum(tensor.count for tensor in part),
        schemes=tuple(functools.reduce(operator.or_, records) for records in columns),
    )
    return replace(experiment, tensors=part, total=total)

"""A whole checkpoint: every tensor fitted by itself, and what pooling them hides.

A tensor is summarized piece by piece (`TensorSummary`): as it is, its channels in groups, and with every channel
divided by its root mean square. `survey` then computes everything from the summaries.
"""

from __future__ import annotations

import functools
import math
import operator
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggd.families import Agreement, FamilyFit, Selection, compare_estimators, select
from ggd.groups import Groups, fit_groups, group_bounds
from ggd.histogram import MagnitudeHistogram
from ggd.result import FitResult

__all__ = [
    "KINDS",
    "Entry",
    "Survey",
    "TensorSummary",
    "depth_of",
    "kind_of",
    "kind_title",
    "summarize",
    "survey",
]

KINDS = {
    "norm": r"norm|(^|[._])ln\d*([._]|_f\b|$)|(^|[._])(bn|gn)\d*[._]",
    "bias": r"(^|[._])bias$",
    "attention": r"att(n|ention)|(^|[._])(qkv|[qkvo]_?proj|query|key|value|c_attn|out_proj)([._]|$)",
    "MLP": r"mlp|ffn|feed_?forward|expert|(^|[._])(fc\d*|w[123]|(up|down|gate)_proj|wi(_\d)?|wo|intermediate)([._]|$)",
    "embedding": r"emb|(^|[._])(wte|wpe|tok|pos|positions?|lm_head|head|output)([._]|$)",
    "convolution": r"conv|downsample",
}
"""Kinds of tensors and the names that tell them, searched in lower case; the first that fits is taken."""

NARROWEST = 16  # values below which a channel has no root mean square to speak of
SPLIT = 0.02, 5.0  # estimators split if they differ by so much of the shape, and by so many standard errors


def kind_of(name: str) -> str:
    """Guess what a tensor is from its name.

    Parameters
    ----------
    name : str
        As in a checkpoint.

    Returns
    -------
    str
        A key of `KINDS`, or ``other``. Input and output embeddings are one kind.

    Examples
    --------
    >>> [kind_of(name) for name in ("model.layers.3.self_attn.q_proj.weight", "h.0.ln_1.weight", "lm_head.weight")]
    ['attention', 'norm', 'embedding']
    """
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name.lower())), "other")


def kind_title(kind: str) -> str:
    """Return what a kind is called in a table: the embedding of the output is a model's head.

    Examples
    --------
    >>> kind_title("embedding"), kind_title("norm")
    ('embedding or head', 'norm')
    """
    return "embedding or head" if kind == "embedding" else kind


def depth_of(name: str) -> int | None:
    """Return the number of the layer that a tensor's name holds, the first of its numbers; None if there is none.

    Examples
    --------
    >>> depth_of("model.layers.12.mlp.experts.3.w1.weight"), depth_of("lm_head.weight")
    (12, None)
    """
    match = re.search(r"(?:^|[._])(\d+)(?=[._]|$)", name)
    return int(match[1]) if match else None


class TensorSummary:
    """What is kept of a tensor: histograms of the whole and of its parts, filled piece by piece.

    Parameters
    ----------
    name : str
        Its name.
    shape : tuple of int
        Its shape; a channel is an entry of axis 0, and a tensor of fewer than two axes is one channel.

    Attributes
    ----------
    values : MagnitudeHistogram
        Of the tensor.
    groups : list of MagnitudeHistogram
        Of the blocks of channels that `ggd.groups.group_bounds` tells; they add up to `values`.
    channels : MagnitudeHistogram
        Of the tensor with each channel divided by the root mean square of its finite values; of two axes or more.
        Empty if channels have fewer than 16 values.

    Examples
    --------
    >>> summary = TensorSummary("w", (2, 16))
    >>> summary.add(np.repeat([[1.0], [100.0]], 16, axis=1))
    >>> summary.values.max, summary.channels.max
    (100.0, 1.0)
    """

    def __init__(self, name: str, shape: Sequence[int]) -> None:
        self.name, self.shape = name, tuple(shape)
        self.values, self.channels = MagnitudeHistogram(), MagnitudeHistogram()
        self._bounds = list(pairwise(group_bounds(self.shape).tolist()))
        self.groups = [MagnitudeHistogram() for _ in self._bounds]

    def add(self, rows: NDArray[Any]) -> None:
        """Add the next channels, or the next piece of one.

        Parameters
        ----------
        rows : ndarray, shape (channels, values of each)
            Of a type that `MagnitudeHistogram` takes, in the order of the tensor. A channel that comes in pieces is
            scaled piece by piece.

        Raises
        ------
        ValueError
            If it is of another type.
        """
        if not self.groups:
            self.values.update(rows)
        first = self.values.size
        for group, (start, end) in zip(self.groups, self._bounds, strict=True):
            part = rows.reshape(-1)[max(start - first, 0) : max(end - first, 0)]
            if part.size:
                counted = MagnitudeHistogram.from_array(part)
                group |= counted
                self.values |= counted
        if len(self.shape) > 1 and rows.shape[1] >= NARROWEST:
            self.channels.update(_at_equal_rms(rows))


def _at_equal_rms(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Return each row divided by the root mean square of its finite values; a row of zeros stays one."""
    if rows.dtype.itemsize <= 4:
        narrow = rows.astype(np.float32, copy=False)
        # Row by row, so that no row's sum depends on its neighbours; squares of float32 fit float64 at both ends.
        rms = np.sqrt(np.mean(np.square(narrow, dtype=np.float64), axis=1, keepdims=True))
        if np.all((rms > 1e-30) & (rms < 1e30)):
            return np.asarray(narrow / rms.astype(np.float32))
    wide = rows.astype(np.float64)
    finite = np.isfinite(wide)
    count = np.maximum(finite.sum(axis=1, keepdims=True), 1)
    largest = np.max(np.abs(wide), axis=1, keepdims=True, initial=0.0, where=finite)
    wide /= np.where(largest > 0, largest, 1.0)
    rms = np.sqrt(np.sum(wide**2, axis=1, keepdims=True, where=finite) / count)
    return (wide / np.where(rms > 0, rms, 1.0)).astype(np.float32)


@dataclass(frozen=True)
class Entry:
    """A tensor, or several pooled, fitted.

    Attributes
    ----------
    name : str
        Of the tensor, or what was pooled.
    shape : tuple of int
        Of the tensor; empty if pooled.
    histogram : MagnitudeHistogram
        The summary.
    selection : Selection
        All families.
    agreement : Agreement
        All estimators.
    channels : FitResult or None
        The fit after each channel was divided by its root mean square: of one channel that of the tensor. None where
        channels are too short.
    groups : Groups or None
        The fits of the channels in groups; None where there are not two.
    """

    name: str
    shape: tuple[int, ...]
    histogram: MagnitudeHistogram
    selection: Selection
    agreement: Agreement
    channels: FitResult | None = None
    groups: Groups | None = None

    @property
    def fit(self) -> FitResult:
        """The generalized Gaussian of maximum likelihood."""
        return self.agreement.fits["ml"]

    @property
    def kind(self) -> str:
        """What the name says it is, a guess: see `kind_of`."""
        return kind_of(self.name)

    @property
    def depth(self) -> int | None:
        """The number of the layer in the name."""
        return depth_of(self.name)

    @property
    def rms(self) -> float:
        """Root mean square of the finite values."""
        return math.sqrt(self.histogram.abs_moment(2.0)) if self.histogram.nonzero_count else 0.0

    @property
    def fitted(self) -> bool:
        """Whether there is a fit."""
        return not math.isnan(self.fit.shape)

    def excess(self, family: str) -> float:
        """Return the bits per weight that a family costs more than the generalized Gaussian; negative if less."""
        return self.selection[family].bits - self.selection["ggd"].bits

    @property
    def finding(self) -> str:
        """The simplest family of the name that is as good: ``gaussian``, ``laplace`` or ``ggd``.

        Or, if another is better than the generalized Gaussian by more than the threshold of the selection, that one's
        name; or ``none``, if there is no fit.
        """
        if self.selection.chosen is None or not self.fitted:
            return "none"
        if self.selection["ggd"].lost > self.selection.threshold:
            return self.selection.chosen
        simple = [name for name in ("gaussian", "laplace") if self.excess(name) <= self.selection.threshold]
        return min(simple, key=self.excess, default="ggd")

    @property
    def estimators_split(self) -> bool:
        """Whether the moment estimators differ from maximum likelihood as they do not on a generalized Gaussian."""
        relative, z = self.agreement.relative, self.agreement.z
        return any(abs(relative[name]) > SPLIT[0] and abs(z[name]) > SPLIT[1] for name in relative)

    def to_json(self) -> dict[str, Any]:
        """Return the entry as plain data for JSON, without the histogram; a number that does not exist is None."""
        fit, h = self.fit, self.histogram
        record = {
            "name": self.name,
            "kind": self.kind,
            "depth": self.depth,
            "size": list(self.shape),
            "count": h.size,
            "zeros": h.zero_count,
            "nans": h.nan_count,
            "infinities": h.inf_count,
            "mean": h.mean,
            "rms": self.rms,
            "largest": h.abs_max,
            "fit": {
                "shape": fit.shape,
                "shape_error": fit.stderr.shape,
                "scale": fit.scale,
                "centre": fit.loc,
                "misfit": fit.misfit,
                "trusted": fit.trusted,
            },
            "remark": fit.reason,
            "finding": self.finding,
            "chosen": self.selection.chosen,
            "threshold": self.selection.threshold,
            "families": {fitted.name: _fields(fitted, "name") for fitted in self.selection.fits},
            "estimators": {name: other.shape for name, other in self.agreement.fits.items()},
            "estimators_z": dict(self.agreement.z),
            "estimators_split": self.estimators_split,
            "channels_at_equal_rms": None if self.channels is None else self.channels.shape,
            "groups": None if self.groups is None else _groups(self.groups),
        }
        return {name: _existing(value) for name, value in record.items()}


def _groups(groups: Groups) -> dict[str, Any]:
    lowest, middle, highest = groups.spread
    return {
        "count": len(groups.fits),
        "shape_lowest": lowest,
        "shape_median": middle,
        "shape_highest": highest,
        "saved": groups.saved,
        "saved_by_scale": groups.saved_by_scale,
        "threshold": groups.threshold,
        "differ": groups.differ,
        "shapes": [fit.shape for fit in groups.fits],
        "shape_errors": [fit.stderr.shape for fit in groups.fits],
        "trusted": [fit.trusted for fit in groups.fits],
        "rms": list(groups.rms),
    }


def _fields(record: FamilyFit, without: str) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record) if field.name != without}


def _existing(value: Any) -> Any:
    """Return plain data with None for numbers that are infinite or do not exist."""
    if isinstance(value, dict):
        return {name: _existing(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_existing(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Survey:
    """Everything found.

    Attributes
    ----------
    tensors : tuple of Entry
        In the order given.
    pooled : Entry
        All values together.
    equal_tensors, equal_channels : Entry
        All together after each tensor, or each channel, was divided by its root mean square.
    """

    tensors: tuple[Entry, ...]
    pooled: Entry
    equal_tensors: Entry
    equal_channels: Entry

    @property
    def levels(self) -> tuple[Entry, ...]:
        """The three ways of pooling."""
        return self.pooled, self.equal_tensors, self.equal_channels

    def to_json(self) -> dict[str, Any]:
        """Return the survey as plain data for JSON: the lists ``tensors`` and ``pooled`` of `Entry.to_json`."""
        parts = {"tensors": self.tensors, "pooled": self.levels}
        return {name: [entry.to_json() for entry in entries] for name, entries in parts.items()}

    def of_kind(self, kind: str) -> tuple[Entry, ...]:
        """Return the tensors of a kind."""
        return tuple(entry for entry in self.tensors if entry.kind == kind)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds there are, in the order of `KINDS`, ``other`` last."""
        present = {entry.kind for entry in self.tensors}
        return tuple(kind for kind in (*KINDS, "other") if kind in present)


def survey(summaries: Iterable[TensorSummary]) -> Survey:
    """Fit every tensor and all together.

    Parameters
    ----------
    summaries : iterable of TensorSummary
        Each of at least one value.

    Returns
    -------
    Survey

    Raises
    ------
    ValueError
        If there is none, or one is empty.

    Examples
    --------
    Gaussian tensors of different scales, pooled, are no Gaussian:

    >>> from ggd import GGD
    >>> found = survey(summarize(f"w{i}", GGD(2.0, 4.0**i).sample((64, 256), seed=i)) for i in range(4))
    >>> [entry.finding for entry in found.tensors]
    ['gaussian', 'gaussian', 'gaussian', 'gaussian']
    >>> found.pooled.fit.shape < 0.6, round(found.equal_tensors.fit.shape, 1)
    (True, 2.0)
    """
    tensors, totals, by_tensor, by_channel = [], [], [], []
    for summary in summaries:
        alike = _at_unit_rms(summary.values)
        channels = summary.channels if summary.channels.size else alike
        narrow = len(summary.shape) > 1 and not summary.channels.size
        within = None if narrow or not channels.size else compare_estimators(channels).fits["ml"]
        tensors.append(_entry(summary.name, summary.shape, summary.values, within, summary.groups))
        totals.append(summary.values)
        by_tensor.append(alike)
        by_channel.append(channels)
    if not tensors:
        raise ValueError("there is nothing to fit: no tensor was given")
    pooled, equal_tensors, equal_channels = (
        _entry(name, (), functools.reduce(operator.or_, parts))
        for name, parts in (
            ("all together", totals),
            ("all, tensors at equal RMS", by_tensor),
            ("all, channels at equal RMS", by_channel),
        )
    )
    return Survey(tuple(tensors), pooled, equal_tensors, equal_channels)


def summarize(name: str, x: NDArray[Any]) -> TensorSummary:
    """Summarize a tensor that is in memory.

    Parameters
    ----------
    name : str
        Its name.
    x : ndarray
        Any shape.

    Returns
    -------
    TensorSummary

    Examples
    --------
    >>> summarize("w", np.ones((2, 3, 4), np.float32)).values.count
    24
    """
    summary = TensorSummary(name, x.shape)
    rows = x.reshape(x.shape[0] if x.ndim > 1 else 1, -1) if x.size else x.reshape(0, 1)
    step = max(1, (1 << 20) // max(rows.shape[1], 1))
    for start in range(0, rows.shape[0], step):
        summary.add(rows[start : start + step])
    return summary


def _at_unit_rms(histogram: MagnitudeHistogram) -> MagnitudeHistogram:
    rms = math.sqrt(histogram.abs_moment(2.0)) if histogram.nonzero_count else 0.0
    return histogram.scaled(1.0 / rms) if rms > 0.0 and math.isfinite(rms) else histogram


def _entry(
    name: str,
    shape: tuple[int, ...],
    histogram: MagnitudeHistogram,
    channels: FitResult | None = None,
    groups: Sequence[MagnitudeHistogram] = (),
) -> Entry:
    agreement = compare_estimators(histogram)
    return Entry(
        name, shape, histogram, select(histogram), agreement, channels, fit_groups(groups, agreement.fits["ml"])
    )

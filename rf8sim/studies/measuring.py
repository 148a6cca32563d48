"""Measuring checkpoints: from files to the records of `rf8sim.studies.experiment`, a chunk at a time."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import ggd
from ggd import MagnitudeHistogram

from .._version import __version__
from ..checkpoints.checkpoint import CHUNK_ELEMENTS, CheckpointError, TensorInfo, open_checkpoint
from ..formats import Format, get_format
from ..quantization.metrics import RowErrors
from ..quantization.scaling import choose_scale, equal_deviations, quantize, scale_from_histogram
from .choices import compare_choices
from .experiment import ChannelRecord, Experiment, FitRecord, FormatRecord, Settings, SkippedTensor, TensorRecord
from .scheduling import Cluster, Journal, map_tensors

if TYPE_CHECKING:
    from ggd.survey import Survey, TensorSummary

__all__ = ["run", "survey"]


def run(
    paths: Sequence[str | Path],
    settings: Settings | None = None,
    *,
    chunk_elements: int = CHUNK_ELEMENTS,
    threads: int | None = None,
    cluster: Cluster | None = None,
    journal: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Experiment:
    """Measure checkpoints, a chunk at a time.

    The numbers depend neither on threads nor on who computes them, nor on whether a run was stopped between. Counts,
    histograms, fits and, with one scale for a tensor, scales do not depend on the chunks either; sums of squares and of
    errors may differ in their last bits where the chunks do.

    Parameters
    ----------
    paths : sequence of str or Path
        Checkpoints, as for `rf8sim.checkpoints.checkpoint.open_checkpoint`.
    settings : Settings, optional
        What is measured.
    chunk_elements : int
        The most elements of a tensor held at a time, by each thread.
    threads : int, optional
        Tensors measured at a time, and parts of a large one; by default as many as the process has processors.
    cluster : Cluster, optional
        A Dask cluster that measures instead.
    journal : Path, optional
        A file that keeps finished tensors; a run that was killed is continued from it. Removed at the end.
    progress : callable, optional
        Called with a tensor's name, the elements done and the elements in all.

    Returns
    -------
    Experiment
        The records.

    Raises
    ------
    CheckpointError
        If a checkpoint cannot be read, or no tensor is left to measure.
    ValueError
        If a setting is unknown, or a cluster cannot be reached.
    """
    settings = settings or Settings()
    settings.check()
    labels, readable, skipped = _open(paths, settings)
    task = repr((settings, chunk_elements))
    kept = None if journal is None else Journal(journal, task, _Measured.to_json, _Measured.from_json)
    found = map_tensors(
        _Measuring(settings, chunk_elements),
        [tensor for _, tensor in readable],
        threads=threads,
        cluster=cluster,
        journal=kept,
        progress=progress,
    )
    everything, tensors = MagnitudeHistogram(), []
    for (label, _), measured in zip(readable, found, strict=True):
        tensors.append(replace(measured.record, checkpoint=label))
        everything |= measured.histogram
    merged = tuple(
        functools.reduce(operator.or_, (tensor.formats[i] for tensor in tensors)) for i in range(len(settings.formats))
    )
    versions = {"rf8sim": __version__, "numpy": np.__version__}
    total = _record("", "", "", (), everything, merged)
    choices = compare_choices([tensor for _, tensor in readable], settings)
    return Experiment(settings, versions, tuple(labels), tuple(tensors), total, skipped, choices)


@dataclass(frozen=True)
class _Measured:
    """What is kept of a tensor: its record, and its summary for that of all tensors together."""

    record: TensorRecord
    histogram: MagnitudeHistogram

    def to_json(self) -> dict[str, Any]:
        return {"record": self.record.to_json(), "histogram": self.histogram.to_dict()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> _Measured:
        return cls(TensorRecord.from_json(data["record"]), MagnitudeHistogram.from_dict(data["histogram"]))


@dataclass(frozen=True)
class _Measuring:
    """What is done with a tensor: with all of it by a call, or, as `Parts`, with rows of it."""

    settings: Settings
    chunk_elements: int

    def __call__(self, tensor: TensorInfo, tell: Callable[[int], None]) -> _Measured:
        tell(0)
        rows = range(tensor.matrix_shape[0])
        settled = self.settle(tensor, [self.look(tensor, rows)])
        return self.join(tensor, settled, [self.measure(tensor, rows, settled, tell)])

    def parts(self, tensor: TensorInfo) -> list[range]:
        """Return the rows of each part: as many as whole chunks hold, for all that the numbers depend on."""
        height, width = tensor.matrix_shape
        several = tensor.size // (_PART * self.chunk_elements)
        if several < 2 or not tensor.divisible or _cut(tensor, self.chunk_elements) or self._shapes_scales(tensor):
            return [range(height)]
        step = self.chunk_elements // width
        step *= -(-height // (several * step))
        return [range(row, min(row + step, height)) for row in range(0, height, step)]

    def look(self, tensor: TensorInfo, rows: range) -> list[MagnitudeHistogram]:
        """Summarize rows in one pass; row by row if they are so long that chunks cut them."""
        cut = _cut(tensor, self.chunk_elements)
        summaries = [MagnitudeHistogram() for _ in (rows if cut else range(1))]
        for chunk in tensor.chunks(self.chunk_elements, rows=rows):
            summaries[chunk.row - rows.start if cut else 0].update(_widened(chunk.values))
        return summaries

    def settle(self, tensor: TensorInfo, looks: list[list[MagnitudeHistogram]]) -> _Settled:
        """Put the summaries together, and choose the scales that follow from them."""
        summaries = looks[0] if len(looks) == 1 else [functools.reduce(operator.or_, (look[0] for look in looks))]
        whole = functools.reduce(operator.or_, summaries)
        known = self._scales_known(tensor)
        scales = [
            _scales(get_format(name), self.settings, summaries, whole) if known else None
            for name in self.settings.formats
        ]
        finite = whole.nan_count + whole.inf_count == 0
        shaping = MagnitudeHistogram() if self._shapes_scales(tensor) else None
        if shaping is not None:
            for chunk in tensor.chunks(self.chunk_elements, self._multiple()):
                shaping |= equal_deviations(
                    _widened(chunk.values),
                    scaling=self.settings.scaling,
                    axis=1 if self.settings.scaling == "block" else 0,
                    block_size=self.settings.block_size,
                )
        return _Settled(whole, finite, scales, shaping)

    def measure(self, tensor: TensorInfo, rows: range, settled: _Settled, tell: Callable[[int], None]) -> list[_Meter]:
        """Quantize rows chunk by chunk and measure the finite elements in every format."""
        names, shape = self.settings.formats, tensor.matrix_shape
        meters = [
            _Meter(get_format(name), self.settings, rows, known, settled.shaping)
            for name, known in zip(names, settled.scales, strict=True)
        ]
        for chunk in tensor.chunks(self.chunk_elements, self._multiple(), rows) if meters else ():
            offset = chunk.row * shape[1] + chunk.column
            tell(offset - rows.start * shape[1])
            values = _widened(chunk.values)
            finite = np.isfinite(values)  # zeros in the place of the others change no scale
            cleaned = values if finite.all() else np.where(finite, values, 0)
            wide = values.astype(np.float32) if values.dtype.itemsize == 2 else values
            for meter in meters:
                meter.add(cleaned, wide, chunk.row, offset)
        return meters

    def join(self, tensor: TensorInfo, settled: _Settled, measured: list[list[_Meter]]) -> _Measured:
        """Return the record of the tensor."""
        meters = [_Meter.of_parts(parts) for parts in zip(*measured, strict=True)]
        formats = tuple(meter.record(known or ()) for meter, known in zip(meters, settled.scales, strict=True))
        several = settled.finite and tensor.matrix_shape[0] > 1
        channels = [_channels(meter.fmt.name, meter.errors) for meter in meters if several]
        record = _record("", tensor.name, tensor.dtype, tensor.shape, settled.whole, formats)
        kept = tuple(channel for channel in channels if channel is not None)
        return _Measured(replace(record, channels=kept), settled.whole)

    def _multiple(self) -> int:
        return self.settings.block_size if self.settings.scaling == "block" else 1

    def _scales_known(self, tensor: TensorInfo) -> bool:
        """Whether scales are known before the data are read again: one, or one a row. Otherwise pieces bring theirs."""
        rows = tensor.matrix_shape[0] == 1 or _cut(tensor, self.chunk_elements)
        return self.settings.scaling in ("none", "tensor") or (self.settings.scaling == "channel" and rows)

    def _shapes_scales(self, tensor: TensorInfo) -> bool:
        """Whether pieces choose their scales by a shape that is fitted to all of them."""
        return bool(self.settings.formats) and self.settings.scale_rule == "ggd" and not self._scales_known(tensor)


_PART = 8
"""Chunks in a part of a tensor that is divided: a second's work, beside which to divide costs nothing."""


@dataclass(frozen=True)
class _Settled:
    """What the second look at a tensor must know of the first: summaries, scales, what their shape is fitted to."""

    whole: MagnitudeHistogram
    finite: bool
    scales: list[list[NDArray[np.float32]] | None]
    shaping: MagnitudeHistogram | None


def survey(
    paths: Sequence[str | Path],
    settings: Settings | None = None,
    *,
    chunk_elements: int = CHUNK_ELEMENTS,
    threads: int | None = None,
    cluster: Cluster | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Survey, tuple[SkippedTensor, ...]]:
    """Fit the generalized Gaussian and its rivals to every tensor of checkpoints, in one pass, a chunk at a time.

    Parameters
    ----------
    paths : sequence of str or Path
        Checkpoints, as for `rf8sim.checkpoints.checkpoint.open_checkpoint`.
    settings : Settings, optional
        Of which the patterns of names are used.
    chunk_elements, threads, cluster, progress
        As in `run`.

    Returns
    -------
    survey : ggd.survey.Survey
        The fits; tensors are named with their checkpoint where there are several.
    skipped : tuple of SkippedTensor
        What the checkpoints hold besides.

    Raises
    ------
    CheckpointError
        If a checkpoint cannot be read, or no tensor is left.
    """
    from ggd.survey import survey as fit_all

    labels, readable, skipped = _open(paths, settings or Settings())
    found = map_tensors(
        functools.partial(_summarize_tensor, chunk_elements),
        [tensor for _, tensor in readable],
        threads=threads,
        cluster=cluster,
        progress=progress,
    )

    def named() -> Iterator[TensorSummary]:
        for (label, tensor), summary in zip(readable, found, strict=True):
            summary.name = f"{label}: {tensor.name}" if len(labels) > 1 else tensor.name
            yield summary

    return fit_all(named()), skipped


def _summarize_tensor(chunk_elements: int, tensor: TensorInfo, tell: Callable[[int], None]) -> TensorSummary:
    from ggd.survey import TensorSummary

    summary, done = TensorSummary(tensor.name, tensor.shape), 0
    for chunk in tensor.chunks(chunk_elements):
        tell(done)
        summary.add(_widened(chunk.values))
        done += chunk.values.size
    return summary


_Found = list[tuple[str, TensorInfo]]


def _open(paths: Sequence[str | Path], settings: Settings) -> tuple[dict[str, Path], _Found, tuple[SkippedTensor, ...]]:
    """Return the checkpoints by label, the tensors to read, of which there is one at least, and the others."""
    labels = _labels([Path(path) for path in paths])
    found = [(label, tensor) for label, path in labels.items() for tensor in open_checkpoint(path)]
    wanted = [(label, tensor) for label, tensor in found if settings.wants(tensor.name)]
    reasons = {id(t): t.skipped or (None if t.size else "it has no elements") for _, t in wanted}
    readable = [(label, tensor) for label, tensor in wanted if reasons[id(tensor)] is None]
    if not readable:
        raise CheckpointError(_nothing_left(labels, found, wanted))
    skipped = tuple(
        SkippedTensor(label, tensor.name, tensor.dtype, tensor.shape, reason)
        for label, tensor in wanted
        if (reason := reasons[id(tensor)]) is not None
    )
    return labels, readable, skipped


def _labels(paths: Sequence[Path]) -> dict[str, Path]:
    """Name each checkpoint by its file or folder, or by its path where two would be called the same."""
    if not paths:
        raise CheckpointError("no checkpoint was given")
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise CheckpointError("the same checkpoint was given twice")
    return dict(zip(names, paths, strict=True))


def _nothing_left(
    labels: Mapping[str, Path],
    found: Sequence[tuple[str, TensorInfo]],
    wanted: Sequence[tuple[str, TensorInfo]],
) -> str:
    where = ", ".join(labels)
    if wanted:
        return (
            f"{where}: no tensor can be measured; {wanted[0][1].name!r}: {wanted[0][1].skipped or 'it has no elements'}"
        )
    names = f"{f'the first of its {len(found)} tensors' if len(found) > 1 else 'its tensor'} is {found[0][1].name!r}"
    return f"{where}: no tensor is left by the patterns to include and exclude; {names}"


def _cut(tensor: TensorInfo, chunk_elements: int) -> bool:
    return tensor.matrix_shape[1] > chunk_elements


def _widened(values: NDArray[Any]) -> NDArray[Any]:
    """Return 8-bit floats as float32, which holds them exactly."""
    return values.astype(np.float32) if values.dtype.itemsize == 1 else values


def _scales(
    fmt: Format, settings: Settings, summaries: Sequence[MagnitudeHistogram], whole: MagnitudeHistogram
) -> list[NDArray[np.float32]]:
    if settings.scaling == "none":
        return [np.ones((), dtype=np.float32)]
    each = summaries if settings.scaling == "channel" else [whole]
    return [scale_from_histogram(summary, fmt, settings.scale_rule, settings.rounding) for summary in each]


class _Meter:
    """Measures one format on successive rows of a tensor.

    `known` are the scales that are known before: one, or one a row; `shaping` is what rule ggd fits a shape to where
    pieces choose theirs.
    """

    def __init__(
        self,
        fmt: Format,
        settings: Settings,
        rows: range,
        known: list[NDArray[np.float32]] | None = None,
        shaping: MagnitudeHistogram | None = None,
    ) -> None:
        self.fmt, self.settings, self._rows, self._known, self._shaping = fmt, settings, rows, known, shaping
        self.errors = RowErrors(fmt, len(rows), finite_only=True)
        # How many scales the chunks brought, and their extremes: the scales themselves would grow with the tensor.
        self.scales, self.smallest, self.largest = 0, math.inf, 0.0

    @classmethod
    def of_parts(cls, parts: Sequence[_Meter]) -> _Meter:
        """Return the meter of all rows from those of successive parts."""
        whole = cls(parts[0].fmt, parts[0].settings, range(0))
        whole.errors = RowErrors.of_parts([part.errors for part in parts])
        whole.scales = sum(part.scales for part in parts)
        whole.smallest = min(part.smallest for part in parts)
        whole.largest = max(part.largest for part in parts)
        return whole

    def add(self, cleaned: NDArray[Any], values: NDArray[Any], row: int, offset: int) -> None:
        """Measure the finite elements of a matrix, given too with zeros for the others.

        `offset` is its first element's place in the tensor.
        """
        settings, block = self.settings, 0
        step = functools.partial(quantize, fmt=self.fmt, rounding=settings.rounding, seed=settings.seed, offset=offset)
        if self._known is not None:
            scale = self._known[row if len(self._known) > 1 else 0]
            quantized = step(cleaned.reshape(-1), scale=scale)
        else:
            axis = 0 if settings.scaling == "channel" else 1
            size = settings.block_size
            scale = choose_scale(
                cleaned,
                self.fmt,
                scaling=settings.scaling,
                axis=axis,
                block_size=size,
                scale_rule=settings.scale_rule,
                rounding=settings.rounding,
                whole=self._shaping,
            )
            quantized = step(cleaned, scaling=settings.scaling, axis=axis, block_size=size, scale=scale)
            self._note(quantized.scale)
            block = settings.block_size if settings.scaling == "block" else 0
        self.errors.add(values, quantized.codes.reshape(values.shape), quantized.scale, block, row - self._rows.start)

    def _note(self, scale: NDArray[np.float32]) -> None:
        self.scales += scale.size
        self.smallest = float(scale.min(initial=self.smallest))
        self.largest = float(scale.max(initial=self.largest))

    def record(self, known: Sequence[NDArray[np.float32]]) -> FormatRecord:
        """Return what was measured with these scales, or with those that the chunks brought."""
        for scale in known:
            self._note(scale)
        stored = self.settings.scaling != "none"
        return FormatRecord(
            format=self.fmt.name,
            bits=self.fmt.bits,
            error=self.errors.total(),
            scales=self.scales if stored else 0,
            scale_bits=8 if self.fmt.power_of_two_scale else 32,
            smallest_scale=self.smallest if self.scales else 1.0,
            largest_scale=self.largest if self.scales else 1.0,
        )


def _channels(name: str, errors: RowErrors) -> ChannelRecord | None:
    """Return what is kept of the channels; None if no channel has an SQNR that is finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        decibels = 10 * np.log10(errors.squares / errors.squared_errors)
    some = np.flatnonzero(np.isfinite(decibels))
    if not some.size:
        return None
    worst = int(some[np.argmin(decibels[some])])
    relative = math.sqrt(float(errors.squares[worst] / errors.squares.mean()))
    median = float(np.median(decibels[some]))
    return ChannelRecord(name, some.size, worst, float(decibels[worst]), median, relative)


def _record(
    checkpoint: str,
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    histogram: MagnitudeHistogram,
    formats: tuple[FormatRecord, ...],
) -> TensorRecord:
    first_bin, bins = _quarter_octaves(histogram)
    some = histogram.nonzero_count > 0
    fit, doubt = _fit(histogram)
    return TensorRecord(
        checkpoint=checkpoint,
        name=name,
        dtype=dtype,
        shape=shape,
        count=histogram.size,
        zeros=histogram.zero_count,
        nans=histogram.nan_count,
        infinities=histogram.inf_count,
        mean_magnitude=histogram.abs_moment(1.0) if some else 0.0,
        rms=math.sqrt(histogram.abs_moment(2.0)) if some else 0.0,
        largest=histogram.abs_max if some else 0.0,
        first_bin=first_bin,
        bins=bins,
        fit=fit,
        fit_doubt=doubt,
        formats=formats,
    )


def _fit(histogram: MagnitudeHistogram) -> tuple[FitRecord | None, str]:
    """Fit the generalized Gaussian and its rivals, and say what is to be doubted about it."""
    result = ggd.fit(histogram)
    if math.isnan(result.shape):
        return None, result.reason
    from ggd.families import family_names

    selection = ggd.select(histogram)
    bits = {family: float(selection[family].bits) for family in family_names()}
    error = result.stderr.shape if math.isfinite(result.stderr.shape) else None
    finite = {family: cost for family, cost in bits.items() if math.isfinite(cost)}
    return FitRecord(result.shape, result.scale, error, finite, selection.chosen), result.reason


def _quarter_octaves(histogram: MagnitudeHistogram) -> tuple[int, tuple[int, ...]]:
    """Count magnitudes in quarter octaves; each cell of the summary lies in one."""
    cells = histogram.cells()
    if not cells.counts.size:
        return 0, ()
    fraction, exponent = np.frexp(np.abs(cells.mean))
    index = 4 * (exponent.astype(np.int64) - 1) + np.floor(8 * fraction - 4).astype(np.int64)
    first = int(index.min())
    counts = np.zeros(int(index.max()) - first + 1, dtype=np.int64)
    np.add.at(counts, index - first, cells.counts)
    return first, tuple(counts.tolist())

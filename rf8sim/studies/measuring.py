"""Measuring checkpoints: from files to the records of `rf8sim.studies.experiment`, a chunk at a time."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

import ggd
from ggd import MagnitudeHistogram

from .._version import __version__
from ..checkpoints.checkpoint import CHUNK_ELEMENTS, CheckpointError, TensorInfo, open_checkpoint
from ..quantization.blocks import Block
from ..quantization.records import convert, to_builtins
from ..quantization.scaling import equal_deviations
from .choices import compare_choices
from .experiment import Experiment, FitRecord, SchemeRecord, Settings, SkippedTensor, TensorRecord
from .meters import Meter, TensorScales, cleaned_and_wide, fits_to_all_pieces, measured_pieces, scales_of_tensor
from .pieces import block_of, cut, pieces, row_units, undivided, widened
from .scheduling import Cluster, Journal, map_tensors

if TYPE_CHECKING:
    from ggd.survey import Survey, TensorSummary

__all__ = ["Metering", "Prepared", "run", "survey"]


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

    The numbers depend neither on the chunks, on threads nor on who computes them, nor on whether a run was stopped
    between: they are those of quantizing each tensor in one piece.

    Parameters
    ----------
    paths : sequence of str or Path
        Checkpoints, as for `rf8sim.checkpoints.checkpoint.open_checkpoint`.
    settings : Settings, optional
        What is measured.
    chunk_elements : int
        The most elements of a tensor held at a time, by each thread.
    threads : int, optional
        Tensors measured at a time, or parts of a large one; by default as many as the process has processors.
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
    labels, readable, skipped, notes = _open(paths, settings)
    task = repr((settings, chunk_elements))
    kept = None if journal is None else Journal(journal, task, _Measured.to_json, _Measured.from_json)
    results = map_tensors(
        _Measuring(settings, chunk_elements),
        [tensor for _, tensor in readable],
        threads=threads,
        cluster=cluster,
        journal=kept,
        progress=progress,
    )
    everything, tensors = MagnitudeHistogram(), []
    for (label, _), measured in zip(readable, results, strict=True):
        tensors.append(replace(measured.record, checkpoint=label))
        everything |= measured.histogram
    merged = tuple(
        functools.reduce(operator.or_, (tensor.schemes[i] for tensor in tensors)) for i in range(len(settings.schemes))
    )
    versions = {"rf8sim": __version__, "numpy": np.__version__}
    total = _record(None, everything, merged)
    choices = compare_choices([tensor for _, tensor in readable], settings)
    return Experiment(settings, versions, tuple(labels), tuple(tensors), total, skipped, choices, notes)


@dataclass(frozen=True)
class _Measured:
    """What is kept of a tensor: its record, and its summary for that of all tensors together."""

    record: TensorRecord
    histogram: MagnitudeHistogram

    def to_json(self) -> dict[str, Any]:
        return {"record": to_builtins(self.record), "histogram": self.histogram.to_dict()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> _Measured:
        return cls(convert(data["record"], TensorRecord), MagnitudeHistogram.from_dict(data["histogram"]))


@dataclass(frozen=True)
class Prepared:
    """What the second pass over a tensor must know of the first: its summary, and that of each scheme's scales."""

    summary: MagnitudeHistogram
    scales: list[TensorScales]

    @property
    def finite(self) -> bool:
        """Whether every element is finite."""
        return self.summary.nan_count + self.summary.inf_count == 0


@dataclass(frozen=True)
class Metering:
    """Two passes over a tensor, or as `Parts` over rows of its matrix, that leave a meter for each scheme.

    Attributes
    ----------
    settings : Settings
        The schemes, and the seed of stochastic rounding.
    chunk_elements : int
        The most elements held at a time.
    """

    settings: Settings
    chunk_elements: int

    def meters(self, tensor: TensorInfo, advance: Callable[[int], None]) -> tuple[Prepared, list[Meter]]:
        """Measure all rows in one part."""
        advance(0)
        rows = range(tensor.matrix_shape[0])
        prepared = self.prepare(tensor, [self.summarize(tensor, rows)])
        return prepared, self.measure(tensor, rows, prepared, advance)

    def parts(self, tensor: TensorInfo) -> list[range]:
        """Return the rows of each part: whole blocks of all schemes, of as many elements as several chunks hold."""
        height, width = tensor.matrix_shape
        several = tensor.size // (_PART * self.chunk_elements)
        schemes = self.settings.schemes
        in_one = any(undivided(s, tensor.shape) or fits_to_all_pieces(s, tensor.shape) for s in schemes)
        if several < 2 or not tensor.divisible or in_one:
            return [range(height)]
        unit, _ = row_units(map(block_of, schemes), tensor.shape)
        step = max(self.chunk_elements // width // unit, 1) * unit
        step *= -(-height // (several * step))
        return [range(row, min(row + step, height)) for row in range(0, height, step)]

    def summarize(self, tensor: TensorInfo, rows: range) -> MagnitudeHistogram:
        """Summarize rows in one pass."""
        summary = MagnitudeHistogram()
        for chunk in tensor.chunks(self.chunk_elements, rows=rows):
            summary.update(widened(chunk.values))
        return summary

    def prepare(self, tensor: TensorInfo, summaries: list[MagnitudeHistogram]) -> Prepared:
        """Put the summaries together, and choose the scales that follow from them."""
        summary = functools.reduce(operator.or_, summaries)
        pooled = self._pooled(tensor)
        scales = [
            scales_of_tensor(scheme, tensor.shape, summary, pooled.get(block_of(scheme)))
            for scheme in self.settings.schemes
        ]
        return Prepared(summary, scales)

    def _pooled(self, tensor: TensorInfo) -> dict[Block, MagnitudeHistogram]:
        """Pass over a tensor for what rule ``ggd`` fits shapes to, for each block."""
        fitted = {block_of(s): s for s in self.settings.schemes if fits_to_all_pieces(s, tensor.shape)}
        pooled = {block: MagnitudeHistogram() for block in fitted}
        if fitted:
            places = cut(fitted.values(), tensor.shape, self.chunk_elements)
            for piece in pieces(tensor, places, self.chunk_elements, range(tensor.matrix_shape[0])):
                for block, scheme in fitted.items():
                    pooled[block] |= equal_deviations(piece.values, scheme)
        return pooled

    def measure(
        self, tensor: TensorInfo, rows: range, prepared: Prepared, advance: Callable[[int], None]
    ) -> list[Meter]:
        """Quantize rows piece by piece and measure the finite elements in every scheme."""
        shape, seed = tensor.shape, self.settings.seed
        meters = [
            Meter(scheme, shape, rows, seed, scales)
            for scheme, scales in zip(self.settings.schemes, prepared.scales, strict=True)
        ]
        in_pieces = [meter for meter in meters if not undivided(meter.scheme, shape)]
        if in_pieces:
            places = cut([meter.scheme for meter in in_pieces], shape, self.chunk_elements, rows)
            read = pieces(tensor, places, self.chunk_elements, rows)
            for piece in measured_pieces(in_pieces, read, len(rows), prepared.summary):
                advance(piece.offset - rows.start * tensor.matrix_shape[1])
        if len(in_pieces) < len(meters):
            self._measure_undivided(tensor, [meter for meter in meters if undivided(meter.scheme, shape)])
        return meters

    def _measure_undivided(self, tensor: TensorInfo, meters: list[Meter]) -> None:
        chunks = [widened(chunk.values).reshape(-1) for chunk in tensor.chunks(self.chunk_elements)]
        values = np.concatenate(chunks).reshape(tensor.shape)
        cleaned, wide = cleaned_and_wide(values)
        for meter in meters:
            meter.add_tensor(values, cleaned, wide)


@dataclass(frozen=True)
class _Measuring(Metering):
    """What `run` does with a tensor."""

    def __call__(self, tensor: TensorInfo, advance: Callable[[int], None]) -> _Measured:
        prepared, meters = self.meters(tensor, advance)
        return self.merge(tensor, prepared, [meters])

    def merge(self, tensor: TensorInfo, prepared: Prepared, measured: list[list[Meter]]) -> _Measured:
        """Return the record of the tensor."""
        meters = [Meter.of_parts(parts) for parts in zip(*measured, strict=True)]
        record = _record(tensor, prepared.summary, tuple(meter.record() for meter in meters))
        several = prepared.finite and tensor.matrix_shape[0] > 1
        channels = [meter.channels() for meter in meters] if several else []
        present = tuple(channel for channel in channels if channel is not None)
        return _Measured(replace(record, channels=present), prepared.summary)


_PART = 8
"""Chunks in a part of a tensor that is divided: a second's work, beside which to divide costs nothing."""


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

    labels, readable, skipped, _ = _open(paths, settings or Settings())
    summaries = map_tensors(
        functools.partial(_summarize_tensor, chunk_elements),
        [tensor for _, tensor in readable],
        threads=threads,
        cluster=cluster,
        progress=progress,
    )

    def named() -> Iterator[TensorSummary]:
        for (label, tensor), summary in zip(readable, summaries, strict=True):
            summary.name = f"{label}: {tensor.name}" if len(labels) > 1 else tensor.name
            yield summary

    return fit_all(named()), skipped


def _summarize_tensor(chunk_elements: int, tensor: TensorInfo, advance: Callable[[int], None]) -> TensorSummary:
    from ggd.survey import TensorSummary

    summary, done = TensorSummary(tensor.name, tensor.shape), 0
    for chunk in tensor.chunks(chunk_elements):
        advance(done)
        summary.add(widened(chunk.values))
        done += chunk.values.size
    return summary


_Found = list[tuple[str, TensorInfo]]


def _open(
    paths: Sequence[str | Path], settings: Settings
) -> tuple[dict[str, Path], _Found, tuple[SkippedTensor, ...], tuple[str, ...]]:
    """Return the checkpoints by label, the tensors to read (at least one), the others, and what the files leave out."""
    labels = _labels([Path(path) for path in paths])
    opened = {label: open_checkpoint(path) for label, path in labels.items()}
    tensors = [(label, tensor) for label, checkpoint in opened.items() for tensor in checkpoint]
    notes = tuple(
        f"{label}: {note}" if len(opened) > 1 else note
        for label, checkpoint in opened.items()
        for note in checkpoint.notes
    )
    wanted = [(label, tensor) for label, tensor in tensors if settings.wants(tensor.name)]
    reasons = {id(t): t.skipped or (None if t.size else "it has no elements") for _, t in wanted}
    readable = [(label, tensor) for label, tensor in wanted if reasons[id(tensor)] is None]
    if not readable:
        raise CheckpointError(_nothing_left(labels, tensors, wanted))
    skipped = tuple(
        SkippedTensor(label, tensor.name, tensor.dtype, tensor.shape, reason)
        for label, tensor in wanted
        if (reason := reasons[id(tensor)]) is not None
    )
    return labels, readable, skipped, notes


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
    tensors: Sequence[tuple[str, TensorInfo]],
    wanted: Sequence[tuple[str, TensorInfo]],
) -> str:
    where = ", ".join(labels)
    if wanted:
        return (
            f"{where}: no tensor can be measured; {wanted[0][1].name!r}: {wanted[0][1].skipped or 'it has no elements'}"
        )
    names = (
        f"{f'the first of its {len(tensors)} tensors' if len(tensors) > 1 else 'its tensor'} is {tensors[0][1].name!r}"
    )
    return f"{where}: no tensor is left by the patterns to include and exclude; {names}"


def _record(
    tensor: TensorInfo | None, histogram: MagnitudeHistogram, schemes: tuple[SchemeRecord, ...]
) -> TensorRecord:
    """Return the record of a tensor, or of all tensors together."""
    first_bin, bins = _quarter_octaves(histogram)
    some = histogram.nonzero_count > 0
    fit, doubt = _fit(histogram)
    return TensorRecord(
        checkpoint="",
        name="" if tensor is None else tensor.name,
        dtype="" if tensor is None else tensor.dtype,
        shape=() if tensor is None else tensor.shape,
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
        schemes=schemes,
        stored_as="" if tensor is None or tensor.coded is None else tensor.coded.words,
        stored_bits=0.0 if tensor is None or tensor.coded is None else tensor.coded.bits,
    )


def _fit(histogram: MagnitudeHistogram) -> tuple[FitRecord | None, str]:
    """Fit the generalized Gaussian and its rivals, and say what is to be doubted about it."""
    from ggd.families import family_names

    selection = ggd.select(histogram, distances=False)
    result = selection.fit
    if math.isnan(result.shape):
        return None, result.reason
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

"""Measuring one scheme on the pieces of a tensor, with the scales that all of the tensor would get."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ggd import MagnitudeHistogram

from ..quantization.blocks import expand, matrix_shape
from ..quantization.interval_errors import IntervalErrors, find_steps
from ..quantization.metrics import RowErrors, row_scales
from ..quantization.pattern_errors import PatternErrors
from ..quantization.scaling import Chosen, choose_scales, outer_scales, scales_from_histogram
from ..quantization.scheme import Scheme
from ..quantization.tensor import QuantizedTensor, quantize
from .experiment import ChannelRecord, SchemeRecord
from .pieces import Piece, block_of, undivided

__all__ = [
    "Meter", "TensorScales", "cleaned_and_wide", "fits_to_all_pieces", "measured_pieces", "scales_of_tensor",
]  # fmt: skip


_MANY = {"bfloat16": 1 << 14, "float16": 1 << 14, "float32": 1 << 16}
"""Elements from which on it pays to prepare what schemes with one scale share: what occurs, or where results change."""
_FEW = 1 << 10
"""Values of a format up to which its steps among float32 numbers are a small table."""


class TensorScales(NamedTuple):
    """What the scales of pieces depend on beside the pieces.

    Attributes
    ----------
    chosen : Chosen or None
        The scales of the tensor, where one pass tells them: none, or one.
    outer : ndarray of float32 or None
        The outer scale.
    pooled : ggd.MagnitudeHistogram or None
        What rule ``ggd`` fits a shape to.
    """

    chosen: Chosen | None = None
    outer: NDArray[np.float32] | None = None
    pooled: MagnitudeHistogram | None = None


def fits_to_all_pieces(scheme: Scheme, shape: tuple[int, ...]) -> bool:
    """Return whether pieces choose their scales by a shape that is fitted to all of them."""
    return (
        block_of(scheme) is not None
        and scheme.scales is not None
        and scheme.scales.rule == "ggd"
        and not undivided(scheme, shape)
    )


def scales_of_tensor(
    scheme: Scheme, shape: tuple[int, ...], summary: MagnitudeHistogram, pooled: MagnitudeHistogram | None
) -> TensorScales:
    """Return what the summary of a tensor tells of its scales."""
    if undivided(scheme, shape):
        return TensorScales()
    if block_of(scheme) is not None:
        return TensorScales(None, outer_scales(summary, scheme), pooled)
    if scheme.scales is not None and scheme.scales.zero is not None:
        some = summary.size > summary.nan_count + summary.inf_count
        return TensorScales(choose_scales([summary.min, summary.max] if some else [math.nan], scheme))
    return TensorScales(scales_from_histogram(summary, scheme))


class Meter:
    """Adds up the error of one scheme over successive pieces of a tensor.

    Parameters
    ----------
    scheme : Scheme
        How the tensor is stored.
    shape : tuple of int
        Its shape.
    rows : range
        Rows of its matrix (`matrix_shape`) that come.
    seed : int
        Of stochastic rounding.
    scales : TensorScales
        What the scales depend on beside the pieces.
    """

    def __init__(
        self, scheme: Scheme, shape: tuple[int, ...], rows: range, seed: int = 0, scales: TensorScales | None = None
    ) -> None:
        self.scheme, self._shape, self._rows, self._seed = scheme, shape, rows, seed
        self._scales = scales or TensorScales()
        self.errors = RowErrors(scheme.format, len(rows), finite_only=True)
        # Only the range of the scales: the scales themselves would grow with the tensor.
        self.smallest, self.largest = math.inf, 0.0

    @classmethod
    def of_parts(cls, parts: Sequence[Meter]) -> Meter:
        """Return the meter of all rows from those of successive parts."""
        merged = cls(parts[0].scheme, parts[0]._shape, range(0))
        merged.errors = RowErrors.of_parts([part.errors for part in parts])
        merged.smallest = min(part.smallest for part in parts)
        merged.largest = max(part.largest for part in parts)
        return merged

    def add(self, piece: Piece, cleaned: NDArray[Any], wide: NDArray[Any]) -> None:
        """Measure the finite elements of a piece.

        Parameters
        ----------
        piece : Piece
            The piece.
        cleaned : ndarray
            Its elements with zeros for those that are not finite.
        wide : ndarray
            Its elements in a type that numpy computes with.
        """
        chosen, outer, pooled = self._scales
        if chosen is None:
            chosen = choose_scales(piece.values, self.scheme, outer=outer, pooled=pooled)
        quantized = quantize(cleaned, self.scheme, scale=chosen, seed=self._seed, offset=piece.offset)
        self._note(quantized)
        scale, offset, block = row_scales(quantized)
        self.errors.add(wide, quantized.codes, scale, offset, block, piece.row - self._rows.start)

    def add_tensor(self, values: NDArray[Any], cleaned: NDArray[Any], wide: NDArray[Any]) -> None:
        """Measure a tensor in its own shape: one that is `undivided`."""
        chosen = choose_scales(values, self.scheme)
        quantized = quantize(cleaned, self.scheme, scale=chosen, seed=self._seed)
        self._note(quantized)
        matrix, block = matrix_shape(self._shape), block_of(self.scheme)

        def of_elements(numbers: NDArray[Any]) -> NDArray[np.float64]:
            spread = np.broadcast_to(expand(numbers, block, self._shape), self._shape)
            return spread.astype(np.float64).reshape(matrix)

        offset = None if quantized.offset is None else of_elements(quantized.offset)
        codes = quantized.codes.reshape(matrix)
        self.errors.add(wide.reshape(matrix), codes, of_elements(quantized.scale), offset, 1)

    @property
    def first_row(self) -> int:
        """The first row of the matrix that comes."""
        return self._rows.start

    @property
    def one_scale(self) -> Chosen | None:
        """The scales, where they are known and one for all elements and nothing is drawn; else None."""
        return None if self.scheme.rounding == "stochastic" else self._scales.chosen

    def set_errors(self, errors: RowErrors, quantized: QuantizedTensor) -> None:
        """Take over the errors of all rows, and the scales of a quantized tensor."""
        self.errors = errors
        self._note(quantized)

    def _note(self, quantized: QuantizedTensor) -> None:
        magnitudes = np.abs(quantized.scale)
        self.smallest = float(magnitudes.min(initial=self.smallest))
        self.largest = float(magnitudes.max(initial=self.largest))

    def record(self) -> SchemeRecord:
        """Return the record of the tensor."""
        shapes = self.scheme.scale_shapes(self._shape)
        return SchemeRecord(
            scheme=self.scheme,
            error=self.errors.total(),
            scales=sum(math.prod(shape) for shape in shapes),
            scale_bits=self.scheme.scale_bits(self._shape),
            smallest_scale=self.smallest,
            largest_scale=self.largest,
        )

    def channels(self) -> ChannelRecord | None:
        """Return the record of the channels; None if no channel has an SQNR that is finite."""
        squares, squared_errors = self.errors.squares, self.errors.squared_errors
        with np.errstate(divide="ignore", invalid="ignore"):
            decibels = 10 * np.log10(squares / squared_errors)
        some = np.flatnonzero(np.isfinite(decibels))
        if not some.size:
            return None
        worst = int(some[np.argmin(decibels[some])])
        relative = math.sqrt(float(squares[worst] / squares.mean()))
        median = float(np.median(decibels[some]))
        return ChannelRecord(self.scheme, some.size, worst, float(decibels[worst]), median, relative)


def cleaned_and_wide(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return elements with zeros for those that are not finite, and elements in a type that numpy computes with."""
    finite = np.isfinite(values)
    cleaned = values if finite.all() else np.where(finite, values, values.dtype.type(0))
    return cleaned, values.astype(np.float32) if values.dtype.itemsize == 2 else values


def measured_pieces(
    meters: Sequence[Meter], read: Iterator[Piece], rows: int, summary: MagnitudeHistogram
) -> Iterator[Piece]:
    """Yield pieces, and measure each; schemes with one scale are measured together where that saves work."""
    shared: _Shared | None = None
    for number, piece in enumerate(read):
        yield piece
        first = piece.row - meters[0].first_row
        if number == 0:
            shared = _share(meters, piece.values.dtype, (rows, piece.values.shape[1]), summary)
            together = [] if shared is None else shared.meters
            alone = [meter for meter in meters if meter not in together]
        if shared is not None:
            shared.errors.add(piece.values, first)
        if alone:
            cleaned, wide = cleaned_and_wide(piece.values)
            for meter in alone:
                meter.add(piece, cleaned, wide)
    if shared is not None:
        results = zip(shared.errors.of_schemes(), shared.errors.quantized, strict=True)
        for meter, (errors, quantized) in zip(shared.meters, results, strict=True):
            meter.set_errors(errors, quantized)


class _Shared(NamedTuple):
    """Meters that share their work, and what does it."""

    meters: list[Meter]
    errors: PatternErrors | IntervalErrors


def _share(
    meters: Sequence[Meter], dtype: np.dtype[Any], shape: tuple[int, int], summary: MagnitudeHistogram
) -> _Shared | None:
    """Return what the schemes with one scale share on a matrix that is large enough; None where they share nothing."""
    known = [(meter, scales) for meter in meters if (scales := meter.one_scale) is not None]
    if not known or math.prod(shape) < _MANY.get(dtype.name, math.inf):
        return None
    if dtype.itemsize == 2:
        schemes = [(meter.scheme, scales) for meter, scales in known]
        return _Shared([meter for meter, _ in known], PatternErrors(dtype, schemes, shape[0], summary))
    measured, found = [], []
    for meter, scales in known:
        many = meter.scheme.format.values.size > _FEW
        steps = None if many else find_steps(meter.scheme, scales, summary)
        if steps is not None:
            measured.append(meter)
            found.append(steps)
    all_finite = not summary.nan_count and not summary.inf_count
    return _Shared(measured, IntervalErrors(found, shape[0], all_finite)) if measured else None

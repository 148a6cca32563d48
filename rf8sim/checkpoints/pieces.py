"""Quantizing a tensor of a checkpoint a piece at a time, with the codes and scales of the whole tensor.

Where a scale depends on more than its own block (one scale for the tensor, an outer scale, a generalized Gaussian
fitted to all blocks), a first pass over the tensor gathers a small summary. The tensor is held in memory only where
its blocks do not lie in rows of its matrix (`rf8sim.quantization.blocks.row_pieces`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..quantization.blocks import matrix_shape, scale_rows
from ..quantization.rules import RULES
from ..quantization.scaling import Chosen, choose_scales, equal_deviations, scales_from_histogram
from ..quantization.scheme import Scheme
from ..quantization.tensor import QuantizedTensor, quantize
from .checkpoint import CHUNK_ELEMENTS, Chunk, TensorInfo
from .packing import pack
from .plan import Recipe
from .protect import Protection

if TYPE_CHECKING:
    from ggd import MagnitudeHistogram

__all__ = ["compressed", "packed", "protected_places", "quantized_pieces", "read_matrix"]

_NOWHERE = np.zeros(0, np.int64)
_LEAST_OUTER = np.float32(2.0**-126)


def quantized_pieces(
    info: TensorInfo, recipe: Recipe, places: NDArray[np.int64] = _NOWHERE, scales: Chosen | None = None
) -> Iterator[QuantizedTensor]:
    """Quantize a tensor, whole rows of its matrix at a time.

    Parameters
    ----------
    info : TensorInfo
        The tensor.
    recipe : Recipe
        How.
    places : ndarray of int64
        Places in the flat tensor, ascending, of elements that are kept exactly: they count as zeros.
    scales : Chosen, optional
        The scales of the quantized tensor that this one was decoded from. Its values then lie on the grid: their codes
        are the nearest for every rounding mode.

    Yields
    ------
    QuantizedTensor
        The pieces in order.

    Raises
    ------
    ValueError
        If the tensor cannot be encoded; the message names it.
    """
    scheme = recipe.scheme
    ranges = scheme.row_pieces(info.shape, CHUNK_ELEMENTS)
    if ranges is None:
        values = _with_zeros(read_matrix(info), 0, places).reshape(info.shape)
        yield _quantized(info, recipe, values, scales, nearest=scales is not None)
        return
    first_pass = _FirstPass() if scales is not None else _first_pass(info, scheme, ranges, places)
    known = first_pass.scales if scales is None else scales
    for chunk in _chunks(info, ranges, places):
        if known is not None:
            rows = range(chunk.row, chunk.row + len(chunk.values))
            chosen: Chosen | None = _scales_of_rows(known, scheme, info.shape, rows)
        elif scheme.scales is not None:
            chosen = choose_scales(chunk.values, scheme, outer=first_pass.outer, pooled=first_pass.pooled)
        else:
            chosen = None
        offset = chunk.row * info.matrix_shape[1]
        yield _quantized(info, recipe, chunk.values, chosen, offset=offset, nearest=scales is not None)


def packed(info: TensorInfo, piece: QuantizedTensor) -> NDArray[np.uint8]:
    """Return the codes of a piece as the file has them: rows of the tensor's matrix, packed."""
    return pack(piece.codes.reshape(-1, info.matrix_shape[1]), piece.format.bits)


def compressed(pieces: Sequence[QuantizedTensor], coder: str) -> NDArray[np.uint8]:
    """Return the codes of all pieces of a tensor, entropy-coded."""
    from ..entropy.coding import compress

    codes = np.concatenate([piece.codes.reshape(-1) for piece in pieces])
    return np.frombuffer(compress(codes, coder), np.uint8)


def read_matrix(info: TensorInfo) -> NDArray[Any]:
    """Read a tensor at once, as the matrix of its channels."""
    [chunk] = info.row_chunks([range(info.matrix_shape[0])])
    return chunk.values


def protected_places(info: TensorInfo, recipe: Recipe, protection: Protection) -> NDArray[np.int64]:
    """Choose the elements without which the rest of a tensor is quantized best.

    Returns
    -------
    ndarray of int64
        Places in the flat tensor, ascending.
    """
    matrix = read_matrix(info)

    def error(values: NDArray[Any]) -> NDArray[np.float64]:
        with np.errstate(over="ignore", invalid="ignore"):
            decoded = _quantized(info, recipe, values.reshape(info.shape)).dequantize(np.float64)
            difference: NDArray[np.float64] = values - decoded.reshape(values.shape)
        return difference

    def rest(places: NDArray[np.int64]) -> float:
        cost = protection.cost(info.name, error(_with_zeros(matrix.copy(), 0, places))).reshape(-1)
        cost[places] = 0
        return float(cost.sum())

    return min(protection.candidates(info.name, matrix, error(matrix)), key=rest)


def _quantized(
    info: TensorInfo,
    recipe: Recipe,
    values: NDArray[Any],
    scales: Chosen | None = None,
    *,
    offset: int = 0,
    nearest: bool = False,
) -> QuantizedTensor:
    scheme = replace(recipe.scheme, rounding="nearest-even") if nearest else recipe.scheme
    try:
        piece = quantize(values, scheme, seed=recipe.seed, offset=offset, scale=scales)
    except ValueError as error:
        raise ValueError(f"tensor {info.name!r}: {error}") from None
    return replace(piece, scheme=recipe.scheme)


def _chunks(info: TensorInfo, ranges: Sequence[range], places: NDArray[np.int64]) -> Iterator[Chunk]:
    """Read the rows of each range, with zeros at the places of exact values."""
    for chunk in info.row_chunks(ranges):
        _with_zeros(chunk.values, chunk.row * info.matrix_shape[1], places)
        yield chunk


def _with_zeros(values: NDArray[Any], first: int, places: NDArray[np.int64]) -> NDArray[Any]:
    begin, end = np.searchsorted(places, [first, first + values.size])
    values.reshape(-1)[places[begin:end] - first] = 0
    return values


# --- the first pass ---------------------------------------------------------------------------------------------------


class _FirstPass(NamedTuple):
    """What pieces need to know of the tensor: its one scale, its outer scale, or its blocks at equal deviations."""

    scales: Chosen | None = None
    outer: NDArray[np.float32] | None = None
    pooled: MagnitudeHistogram | None = None


def _first_pass(info: TensorInfo, scheme: Scheme, ranges: Sequence[range], places: NDArray[np.int64]) -> _FirstPass:
    scales = scheme.scales
    if scales is None:
        return _FirstPass()
    searched = RULES[scales.rule].target == "search"
    pooling = scales.rule == "ggd" and scales.block is not None
    if scales.block is not None and scales.outer is None and not pooling:
        return _FirstPass()
    from ggd import MagnitudeHistogram

    summary, extremes = MagnitudeHistogram(), [np.zeros(0)]
    for chunk in _chunks(info, ranges, places):
        if pooling:
            summary |= equal_deviations(chunk.values, scheme)
        elif searched and scales.block is None:
            summary.update(chunk.values)
        extremes.append(_extremes(chunk.values))
    numbers = np.concatenate(extremes) if any(map(np.size, extremes)) else np.zeros(1)
    if scales.block is None:
        return _FirstPass(scales_from_histogram(summary, scheme) if searched else choose_scales(numbers, scheme))
    # An outer scale below the least normal float32 has no reciprocal, which other tools store (`layouts`).
    outer = None if scales.outer is None else np.maximum(choose_scales(numbers, scheme).scales[1], _LEAST_OUTER)
    return _FirstPass(None, outer, summary if pooling else None)


def _extremes(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return what rules without a search use: the first element of largest magnitude, the least, the greatest."""
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return np.zeros(0)
    return np.array([finite[np.argmax(np.abs(finite))], finite.min(), finite.max()])


def _scales_of_rows(scales: Chosen, scheme: Scheme, shape: tuple[int, ...], rows: range) -> Chosen:
    """Return the scales of a piece of a tensor from those of the tensor."""
    block = None if scheme.scales is None else scheme.scales.block
    if block is None or not shape:
        return scales
    part = scale_rows(block, shape, rows)
    blocks = scheme.scale_shapes((len(rows), matrix_shape(shape)[1]))[0][1]
    zero = None if scales.zero is None else scales.zero.reshape(-1, blocks)[part]
    return Chosen((scales.scales[0].reshape(-1, blocks)[part], *scales.scales[1:]), zero)

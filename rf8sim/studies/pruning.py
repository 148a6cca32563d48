"""Pruning by magnitude: how many weights can be zero, what that saves after entropy coding, and what it costs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checkpoints.plan import Recipe
from ..models.loss import window_losses
from ..models.transformer import Model
from ..quantization.scheme import as_scheme
from .rate_distortion import Cost, Matrix, cost_of, open_matrices, with_progress

__all__ = ["SCOPES", "SHARES", "Pattern", "Pruned", "Sparsity", "kept", "measure_sparsity", "parse_pattern"]

SCOPES = ("tensor", "global")
"""The same share of each tensor, or one threshold for all."""

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of weights that are pruned by default."""


@dataclass(frozen=True)
class Pattern:
    """What is pruned.

    Attributes
    ----------
    share : float or None
        This share of the weights, those of least magnitude.
    threshold : float or None
        Weights of smaller magnitude.
    group : tuple of int or None
        ``(n, m)``: all but the n largest of each m neighbours in a row.

    Examples
    --------
    >>> parse_pattern("80%"), parse_pattern("2:4")
    (Pattern(share=0.8, threshold=None, group=None), Pattern(share=None, threshold=None, group=(2, 4)))
    >>> str(parse_pattern("<0.01"))
    '<0.01'
    """

    share: float | None = None
    threshold: float | None = None
    group: tuple[int, int] | None = None

    def __str__(self) -> str:
        if self.group is not None:
            return f"{self.group[0]}:{self.group[1]}"
        return f"<{self.threshold:g}" if self.share is None else f"{100 * self.share:g}%"


def parse_pattern(text: str) -> Pattern:
    """Read a pattern: ``80%``, ``<0.01`` or ``2:4``.

    Raises
    ------
    ValueError
        If it is none of these, or out of range.
    """
    if group := re.fullmatch(r"\s*(\d+):(\d+)\s*", text):
        n, m = int(group[1]), int(group[2])
        if not 1 <= n <= m <= 256:
            raise ValueError(f"pattern {text!r}: n of m are kept, so 1 <= n <= m, and m is at most 256")
        return Pattern(group=(n, m))
    if number := re.fullmatch(r"\s*(<?)(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+)\s*(%?)\s*", text):
        value = float(number[2])
        if number[1] and not number[3] and math.isfinite(value):
            return Pattern(threshold=value)
        if number[3] and not number[1] and value <= 100:
            return Pattern(share=value / 100)
    raise ValueError(
        f"a pattern of pruning is a share such as '80%', a threshold such as '<0.01', or '2:4', got {text!r}"
    )


def kept(values: ArrayLike, pattern: Pattern) -> NDArray[np.bool_]:
    """Say which weights of a matrix a pattern keeps.

    Parameters
    ----------
    values : array_like, shape (rows, columns)
        The weights.
    pattern : Pattern
        What is pruned. A share is a whole number of weights, rounded; of equal magnitudes the later ones go first.
        Groups lie along rows, and a last group that is shorter keeps its share, rounded up.

    Returns
    -------
    ndarray of bool, of the shape of values
        False where a weight becomes zero.

    Examples
    --------
    >>> kept([[0.1, -3.0, 2.0, 0.2]], Pattern(group=(2, 4))).tolist()
    [[False, True, True, False]]
    >>> kept([[0.1, -3.0, 2.0, 0.2]], Pattern(share=0.25)).tolist()
    [[False, True, True, True]]
    """
    magnitude = np.abs(np.asarray(values))
    if magnitude.ndim != 2:
        raise ValueError(f"weights are pruned as a matrix, got shape {magnitude.shape}: reshape to (rows, columns)")
    if pattern.group is not None:
        return _kept_in_groups(magnitude, *pattern.group)
    if pattern.threshold is not None:
        return np.asarray(magnitude >= pattern.threshold)
    assert pattern.share is not None
    keep = np.zeros(magnitude.size, dtype=bool)
    count = magnitude.size - round(pattern.share * magnitude.size)
    keep[np.argsort(-magnitude.ravel(), kind="stable")[:count]] = True
    return keep.reshape(magnitude.shape)


def _kept_of(values: NDArray[Any], shape: tuple[int, int], pattern: Pattern) -> NDArray[np.bool_]:
    return kept(values.reshape(shape), pattern).reshape(values.shape)


def _kept_in_groups(magnitude: NDArray[Any], n: int, m: int) -> NDArray[np.bool_]:
    rows, columns = magnitude.shape
    even = columns // m * m
    keep = np.zeros(magnitude.shape, dtype=bool)
    rest = columns - even
    for start, stop, width, count in ((0, even, m, n), (even, columns, rest, -(-n * rest // m))):
        if start == stop:
            continue
        part = slice(start, stop)
        groups = magnitude[:, part].reshape(rows, -1, width)
        largest = np.argsort(-groups, axis=-1, kind="stable")[..., :count]
        kept_here = np.zeros(groups.shape, dtype=bool)
        np.put_along_axis(kept_here, largest, True, axis=-1)
        keep[:, part] = kept_here.reshape(rows, -1)
    return keep


# --- what it comes to -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pruned:
    """A checkpoint's matrices, pruned and then quantized.

    Attributes
    ----------
    pattern : str
        What was pruned: as `parse_pattern` reads it.
    scope : str
        One of `SCOPES`; ``tensor`` for groups and thresholds.
    scheme : str
        The scheme, or ``float32`` for weights that stay as they are.
    zeros : int
        Weights that are zero in the end: pruned, or underflown.
    pruned : int
        Weights that the pattern made zero, or that were.
    cost : Cost
        Rate and error beside the original weights. For ``float32`` the rate is 32 bits for each weight that is left
        and the entropy of where they are.
    losses : tuple of float
        The model's loss on each window; empty without a model.
    """

    pattern: str
    scope: str
    scheme: str
    zeros: int
    pruned: int
    cost: Cost
    losses: tuple[float, ...] = ()

    @property
    def sparsity(self) -> float:
        """Share of the weights that are zero."""
        return self.zeros / self.cost.weights


@dataclass(frozen=True)
class Sparsity:
    """Everything that was measured.

    Attributes
    ----------
    checkpoint : str
        Its name.
    entropy : str
        How codes are stored.
    tensors : tuple of str
        The matrices.
    results : tuple of Pruned
        By pattern, scope and scheme.
    baseline : tuple of float
        The model's loss on each window as it is; empty without a model.
    """

    checkpoint: str
    entropy: str
    tensors: tuple[str, ...]
    results: tuple[Pruned, ...]
    baseline: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        results = []
        for result in self.results:
            derived = {"sparsity": result.sparsity, "bits_per_weight": result.cost.bits_per_weight}
            sqnr = result.cost.sqnr_db
            results.append({**asdict(result), **derived, "sqnr_db": sqnr if math.isfinite(sqnr) else None})
        return {"schema": 2, "checkpoint": self.checkpoint, "entropy": self.entropy, "tensors": list(self.tensors),
                "results": results, "baseline": list(self.baseline)}  # fmt: skip


def measure_sparsity(
    path: str | Path,
    patterns: Sequence[Pattern],
    schemes: Sequence[str] = ("rf8",),
    entropy: str = "rans",
    *,
    scopes: Sequence[str] = SCOPES,
    wants: Callable[[str], bool] = lambda name: True,
    model: tuple[Model, NDArray[np.uint8]] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Sparsity:
    """Prune the matrices of a checkpoint, quantize what is left, and measure.

    Scales are chosen for the pruned weights. Nothing is trained again afterwards.

    Parameters
    ----------
    path : str or Path
        The checkpoint.
    patterns : sequence of Pattern
        What to prune.
    schemes : sequence of str
        How what is left is stored; a bare format name means one scale for the tensor. ``float32`` is added.
    entropy : str
        How codes are stored.
    scopes : sequence of str
        For shares: of each tensor, or with one threshold for all, which comes within 1% of the share.
    wants, progress
        As for `rf8sim.studies.tradeoff.measure_tradeoff`.
    model : tuple of Model and ndarray of uint8, optional
        The model and windows of text, of shape (windows, tokens), on which its loss is measured.

    Returns
    -------
    Sparsity
        The measurements.

    Raises
    ------
    ValueError
        If a scheme or an option is unknown, or the checkpoint cannot be read.

    Examples
    --------
    >>> study = measure_sparsity("examples/lm/model.safetensors", [Pattern(share=0.5)], scopes=["tensor"],
    ...                          wants=lambda name: "mlp.up" in name)
    >>> [(result.scheme, round(result.sparsity, 2), round(result.cost.bits_per_weight, 1)) for result in study.results]
    [('float32', 0.5, 17.0), ('rf8', 0.5, 3.3)]
    """
    recipes = {str(scheme): Recipe(scheme, entropy=entropy) for scheme in map(as_scheme, schemes)}
    matrices = open_matrices(path, wants)
    thresholds = _thresholds(matrices, patterns) if "global" in scopes else {}
    jobs = [(pattern, scope) for pattern in patterns for scope in (scopes if pattern.share else ("tensor",))]
    baseline = () if model is None else tuple(window_losses(*model).tolist())
    results = []
    for number, (pattern, scope) in enumerate(jobs):

        def tell(name: str, done: int, total: int, before: int = number, what: str = f"{pattern} {scope}") -> None:
            if progress:
                progress(f"{what}: {name}", before * total + done, len(jobs) * total)

        applied = Pattern(threshold=thresholds[pattern]) if scope == "global" else pattern
        gathered = {name: _Gathered(recipe) for name, recipe in {"float32": None, **recipes}.items()}
        for matrix, values in with_progress(matrices, tell):
            pruned = np.where(_kept_of(values, matrix.info.matrix_shape, applied), values, values.dtype.type(0))
            for total in gathered.values():
                total.add(matrix.name, values, pruned, keep=model is not None)
        for name, total in gathered.items():
            losses: tuple[float, ...] = ()
            if model is not None:
                losses = tuple(window_losses(*model, total.weights).tolist())
            results.append(Pruned(str(pattern), scope, name, total.zeros, total.pruned, total.cost, losses))
    names = tuple(matrix.name for matrix in matrices)
    return Sparsity(Path(path).name, entropy, names, tuple(results), baseline)


def _thresholds(matrices: Sequence[Matrix], patterns: Sequence[Pattern]) -> Mapping[Pattern, float]:
    """Return the magnitude below which a share of all weights lies, from a one-pass summary."""
    from ggd import MagnitudeHistogram

    shares = [pattern for pattern in patterns if pattern.share]
    if not shares:
        return {}
    summary = MagnitudeHistogram()
    for matrix in matrices:
        summary |= MagnitudeHistogram.from_array(np.abs(matrix.read()))
    return {pattern: float(summary.quantile(pattern.share or 0.0)) for pattern in shares}


class _Gathered:
    """What the tensors add up to in one scheme, or, without a recipe, in float32."""

    def __init__(self, recipe: Recipe | None) -> None:
        self.recipe = recipe
        self.cost, self.zeros, self.pruned = Cost(), 0, 0
        self.weights: dict[str, NDArray[Any]] = {}

    def add(self, name: str, values: NDArray[Any], pruned: NDArray[Any], keep: bool) -> None:
        wide, left = values.astype(np.float64), pruned.astype(np.float64)
        gone = pruned.size - int(np.count_nonzero(pruned))
        if self.recipe is None:
            shares = np.array([gone, pruned.size - gone]) / pruned.size
            places = float(-sum(share * math.log2(share) for share in shares if share > 0)) * pruned.size
            cost, result = Cost(pruned.size, 32.0 * (pruned.size - gone) + places, 0.0, places), left
        else:
            cost, quantized = cost_of(pruned, self.recipe.for_tensor(name, pruned.shape))
            result = quantized.dequantize(np.float64)
        error, signal = float(np.sum((wide - result) ** 2)), float(np.sum(wide**2))
        self.cost |= Cost(cost.weights, cost.code_bits, cost.scale_bits, cost.entropy_bits, signal, error)
        self.zeros += result.size - int(np.count_nonzero(result))
        self.pruned += gone
        if keep:
            self.weights[name] = result.astype(np.float32)


def underflow(results: Sequence[Pruned]) -> Iterator[tuple[str, float]]:
    """Yield, for each scheme without pruning, the share of weights that its underflow prunes by itself."""
    for result in results:
        if result.pattern == "0%" and result.scheme != "float32":
            yield result.scheme, (result.zeros - result.pruned) / result.cost.weights

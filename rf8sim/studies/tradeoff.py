"""Rate against distortion: every format and uniform quantizer on a checkpoint's weights, beside the bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._base.checks import choose
from ..checkpoints.plan import Recipe
from ..entropy.code_lengths import code_lengths, zigzag_order
from ..entropy.prefix_codes import exp_golomb_lengths
from ..formats import format_names, get_format
from ..models.loss import window_losses
from ..models.transformer import Model
from ..quantization.scheme import as_scheme
from .rate_distortion import CODES, Cost, cost_of, cost_of_uniform, open_matrices, with_progress

__all__ = ["ALL", "CODE_COLUMNS", "Bound", "CodeCosts", "Point", "Tradeoff", "measure_tradeoff"]

ALL = "all"
"""The name of all weights together, beside the kinds of tensors that `ggd.survey.kind_of` tells."""

STEPS = tuple(2.0 ** (i / 2) for i in range(2, -9, -1))
"""Steps of the uniform quantizers, in root mean squares of a tensor: 2 to 1/16."""

RATES = tuple(i / 4 for i in range(4, 33))
"""Bits per weight at which the bounds are given."""

_CODED = tuple(name for name in CODES)


@dataclass(frozen=True)
class Point:
    """One quantizer on one kind of weights.

    Attributes
    ----------
    kind : str
        `ALL` or a kind of tensors.
    quantizer : str
        A scheme, or ``uniform``.
    step : float or None
        Of a uniform quantizer, in root mean squares of each tensor.
    cost : Cost
        What it costs.
    width : float
        Bits per weight without entropy coding, scales included; of a uniform quantizer those of the narrowest integer
        that holds every index of a tensor.
    losses : tuple of float
        The model's loss on each window with all its matrices so quantized; empty without a model or for a kind.
    """

    kind: str
    quantizer: str
    step: float | None
    cost: Cost
    width: float
    losses: tuple[float, ...] = ()

    @property
    def label(self) -> str:
        """Name and step."""
        return self.quantizer if self.step is None else f"uniform, step {self.step:.3g} rms"


@dataclass(frozen=True)
class Bound:
    """The best that is possible at a mean rate under the generalized Gaussians fitted to the tensors; in dB.

    The first two share the bits among tensors as is best for their sum of errors: the same error a weight in each
    (reverse water-filling), and the same step.

    Attributes
    ----------
    kind : str
        As in `Point`.
    bits : float
        Bits per weight.
    shannon_db : float
        Above it no code of independent weights comes (the Shannon lower bound on the error).
    uniform_db : float
        The uniform quantizer whose indices take that entropy: the best simple quantizer at all but low rates.
    lloyd_max_db : float or None
        The best symmetric quantizer of 2**bits values in each tensor, not entropy-coded; None unless bits are whole.
    """

    kind: str
    bits: float
    shannon_db: float
    uniform_db: float
    lloyd_max_db: float | None


CODE_COLUMNS = (
    "entropy", "rANS", "Huffman", "Exp-Golomb, best k", "Exp-Golomb, k = 0", "Exp-Golomb of values, k = 0",
    "Golomb-Rice, best k",
)  # fmt: skip
"""The codes that `CodeCosts` compares. Symbols are ranked by their count in each tensor, those *of values* by value."""


@dataclass(frozen=True)
class CodeCosts:
    """What each code of `CODE_COLUMNS` takes for a scheme's codes of all weights, tables included, bits per weight."""

    scheme: str
    bits: tuple[float, ...]


@dataclass(frozen=True)
class Tradeoff:
    """Everything that was measured.

    Attributes
    ----------
    checkpoint : str
        Its name.
    entropy : str
        How codes are stored.
    tensors : dict of str to str
        The kind of each tensor that was measured.
    points : tuple of Point
        By kind, then by quantizer.
    bounds : tuple of Bound
        By kind, then by rate; none for a kind of which a tensor has no fit.
    codes : tuple of CodeCosts
        By scheme.
    baseline : tuple of float
        The model's loss on each window as it is; empty without a model.
    """

    checkpoint: str
    entropy: str
    tensors: Mapping[str, str]
    points: tuple[Point, ...]
    bounds: tuple[Bound, ...]
    codes: tuple[CodeCosts, ...]
    baseline: tuple[float, ...] = field(default=())

    @property
    def kinds(self) -> list[str]:
        """`ALL`, and the kinds if there are several."""
        kinds = list(dict.fromkeys(self.tensors.values()))
        return [ALL, *kinds] if len(kinds) > 1 else [ALL]

    def of_kind(self, kind: str) -> list[Point]:
        """Return the points of a kind."""
        return [point for point in self.points if point.kind == kind]

    def to_json(self) -> dict[str, Any]:
        """Return plain data; what follows from a cost stands beside it, and what does not exist is None."""
        points = []
        for point in self.points:
            derived = {name: getattr(point.cost, name) for name in ("bits_per_weight", "entropy_per_weight", "sqnr_db")}
            finite = {name: value if math.isfinite(value) else None for name, value in derived.items()}
            points.append({**asdict(point), **finite, "losses": list(point.losses)})
        return {
            "schema": 2,
            "checkpoint": self.checkpoint,
            "entropy": self.entropy,
            "tensors": dict(self.tensors),
            "points": points,
            "bounds": [asdict(bound) for bound in self.bounds],
            "codes": {costs.scheme: dict(zip(CODE_COLUMNS, costs.bits, strict=True)) for costs in self.codes},
            "baseline": list(self.baseline),
        }


def measure_tradeoff(
    path: str | Path,
    schemes: tuple[str, ...] = (),
    entropy: str = "rans",
    *,
    steps: tuple[float, ...] = STEPS,
    wants: Callable[[str], bool] = lambda name: True,
    model: Model | None = None,
    windows: NDArray[np.uint8] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Tradeoff:
    """Measure rate and distortion of schemes and uniform quantizers on the matrices of a checkpoint.

    One tensor is held at a time (with a model, its copy in every scheme besides).

    Parameters
    ----------
    path : str or Path
        The checkpoint.
    schemes : tuple of str
        Schemes; by default all registered formats that are signed, with one scale for each tensor by least error.
    entropy : str
        How codes are stored: ``rans``, ``huffman`` or ``eg``.
    steps : tuple of float
        Steps of the uniform quantizers in root mean squares of each tensor. Their indices have no bounds: the few
        beyond 127 are coded by an escape.
    wants : callable
        Which tensors, by their names; tensors of fewer than two axes are left out.
    model, windows
        The model of the checkpoint and held-out text, as for `rf8sim.models.loss.window_losses`, to measure losses too.
    progress : callable, optional
        Called with what is at work, the work done and all.

    Returns
    -------
    Tradeoff
        The measurements.

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be read, or no matrix is left.
    ValueError
        If a scheme or an option is unknown.

    Examples
    --------
    >>> study = measure_tradeoff("examples/lm/model.safetensors", ("rf8",), steps=(0.5,), wants=lambda n: "head" in n)
    >>> [(point.label, round(point.cost.sqnr_db)) for point in study.points]
    [('rf8', 28), ('uniform, step 0.5 rms', 17)]
    """
    chosen = schemes or tuple(name for name in format_names() if get_format(name).signed)
    choose("entropy coder", entropy, _CODED)
    recipes = {str(scheme): Recipe(scheme, entropy=entropy) for scheme in map(as_scheme, chosen)}
    if not all(step > 0 and math.isfinite(step) for step in steps):
        raise ValueError(f"steps are positive numbers, got {', '.join(map(str, steps))}")
    matrices = open_matrices(path, wants)
    quantizers: list[tuple[str, float | None]] = [*((name, None) for name in recipes), *(("uniform", s) for s in steps)]
    gathered = _Gathered(quantizers, recipes, entropy, keep=model is not None)
    for matrix, values in with_progress(matrices, progress):
        gathered.add(matrix.name, values)
    losses: dict[tuple[str, float | None], tuple[float, ...]] = {}
    baseline: tuple[float, ...] = ()
    if model is not None and windows is not None:
        baseline = tuple(window_losses(model, windows).tolist())
        for number, quantizer in enumerate(quantizers):
            if progress:
                progress(f"loss of {quantizer[0]}", number, len(quantizers))
            losses[quantizer] = tuple(window_losses(model, windows, gathered.weights[quantizer]).tolist())
    return gathered.result(Path(path).name, losses, baseline)


class _Fit(NamedTuple):
    weights: int
    rms: float
    shape: float


class _Gathered:
    """What the tensors add up to."""

    def __init__(
        self, quantizers: list[tuple[str, float | None]], recipes: Mapping[str, Recipe], entropy: str, keep: bool
    ) -> None:
        from ggd.survey import kind_of

        self.quantizers, self.recipes, self.entropy = quantizers, recipes, entropy
        self.keep, self.kind_of = keep, kind_of
        self.kinds: dict[str, str] = {}
        self.costs: dict[tuple[str, str, float | None], Cost] = {}
        self.widths: dict[tuple[str, str, float | None], float] = {}
        self.weights: dict[tuple[str, float | None], dict[str, NDArray[Any]]] = {key: {} for key in quantizers}
        self.codes: dict[str, NDArray[np.float64]] = {}
        self.fits: dict[str, list[_Fit] | None] = {}  # of each kind; None once a tensor has no fit

    def add(self, name: str, values: NDArray[Any]) -> None:
        """Measure a tensor."""
        kind = self.kinds[name] = self.kind_of(name)
        wide = values.astype(np.float64)
        rms = math.sqrt(float(np.mean(wide * wide)))
        for quantizer, step in self.quantizers:
            if step is None:
                cost, quantized = cost_of(values, self.recipes[quantizer].for_tensor(name, values.shape))
                width = quantized.format.bits
                self._code(quantizer, quantized.codes)
            else:
                cost, width, rounded = cost_of_uniform(values, _as_float32(step * rms), self.entropy)
            for group in (ALL, kind):
                key = (group, quantizer, step)
                self.costs[key] = self.costs.get(key, Cost()) | cost
                self.widths[key] = self.widths.get(key, 0.0) + width * cost.weights + cost.scale_bits
            if self.keep:
                self.weights[quantizer, step][name] = quantized.dequantize() if step is None else rounded()
        shape = _shape(values)
        for group in (ALL, kind):
            fits = self.fits.setdefault(group, [])
            if shape is None:
                self.fits[group] = None
            elif fits is not None:
                fits.append(_Fit(values.size, rms, shape))

    def _code(self, name: str, codes: NDArray[Any]) -> None:
        fmt = self.recipes[name].scheme.format
        counts = np.bincount(codes.ravel(), minlength=256 if fmt.bits <= 8 else 1 << 16)
        by_value = zigzag_order(fmt.values)
        by_value = by_value[counts[by_value] > 0]
        costs = [
            code_lengths(counts, "entropy"),
            code_lengths(counts, "rans"),
            code_lengths(counts, "huffman"),
            code_lengths(counts, "exp-golomb"),
            code_lengths(counts, "exp-golomb", parameter=0),
            code_lengths(counts, "golomb-rice"),
        ]
        totals = [lengths.total_bits for lengths in costs]
        # A fixed order of symbols needs no table.
        totals.insert(5, float(np.dot(counts[by_value], exp_golomb_lengths(np.arange(by_value.size), 0))))
        self.codes[name] = self.codes.get(name, np.zeros(len(totals))) + totals

    def result(
        self,
        checkpoint: str,
        losses: Mapping[tuple[str, float | None], tuple[float, ...]],
        baseline: tuple[float, ...],
    ) -> Tradeoff:
        """Return the record."""
        kinds = list(dict.fromkeys(self.kinds.values()))
        groups = [ALL, *kinds] if len(kinds) > 1 else [ALL]
        points, bounds = [], []
        for group in groups:
            for quantizer, step in self.quantizers:
                key = (group, quantizer, step)
                cost = self.costs[key]
                measured = losses.get((quantizer, step), ()) if group == ALL else ()
                points.append(Point(group, quantizer, step, cost, self.widths[key] / cost.weights, measured))
            bounds += _bounds(group, self.fits[group] or [])
        weights = self.costs[(ALL, *self.quantizers[0])].weights if self.quantizers else 1
        codes = tuple(CodeCosts(name, tuple((bits / weights).tolist())) for name, bits in self.codes.items())
        return Tradeoff(checkpoint, self.entropy, self.kinds, tuple(points), tuple(bounds), codes, baseline)


def _as_float32(step: float) -> np.float32:
    """Return a step as it is stored: positive and finite for all weights."""
    limits = np.finfo(np.float32)
    return np.float32(min(max(step, float(limits.smallest_subnormal)), float(limits.max)))


def _shape(values: NDArray[Any]) -> float | None:
    """Return the shape of the generalized Gaussian fitted to a tensor, to 2 digits; None if there is none."""
    import ggd

    shape = ggd.fit(ggd.MagnitudeHistogram.from_array(values)).shape
    return round(float(shape), 2) if math.isfinite(shape) and 0.2 <= shape <= 20 else None


def _bounds(kind: str, fits: list[_Fit]) -> list[Bound]:
    count, power = sum(fit.weights for fit in fits), sum(fit.weights * fit.rms**2 for fit in fits)
    if not power > 0:
        return []
    largest = max(fit.rms for fit in fits)
    rates = np.array(RATES)
    # One parameter runs along each curve: the step, or the error a weight.
    steps = largest * np.geomspace(2.0**-9, 16.0, 160)
    uniform, shannon = (np.zeros((2, steps.size)) for _ in range(2))
    for fit in fits:
        table = _uniform_table(fit.shape)
        at = np.log(steps / fit.rms)
        uniform[0] += fit.weights * fit.rms**2 * np.exp(np.interp(at, table[0], table[1]))
        uniform[1] += fit.weights * np.interp(at, table[0], table[2])
        # Error 2**(2 (entropy - bits)) / (2 pi e), unless it would be above the variance, which costs no bits.
        error = np.minimum(steps**2 / 12, fit.rms**2)
        shannon[0] += fit.weights * error
        entropy = _entropy_bits(fit.shape) + math.log2(fit.rms)
        shannon[1] += fit.weights * np.maximum(entropy - 0.5 * np.log2(2 * math.pi * math.e * error), 0.0)
    heights = []
    for errors, bits in (uniform, shannon):
        order = np.argsort(bits)
        heights.append(-10 / math.log(10) * np.interp(rates, bits[order] / count, np.log(errors[order] / power)))
    bounds = []
    for bits, uniform_db, shannon_db in zip(RATES, *heights, strict=True):
        lloyd = None
        if bits == int(bits):
            least = sum(fit.weights * fit.rms**2 * _lloyd_max_error(fit.shape, int(bits)) for fit in fits)
            lloyd = 10 * math.log10(power / least)
        bounds.append(Bound(kind, bits, float(shannon_db), float(uniform_db), lloyd))
    return bounds


@lru_cache(maxsize=1024)
def _uniform_table(shape: float) -> NDArray[np.float64]:
    """Return logarithms of steps and of errors, and entropies in bits, for a generalized Gaussian of unit variance."""
    from ggd import GGD, entropy_coded_uniform

    density, steps = GGD.from_std(shape, 1.0), np.geomspace(2.0**-9, 64.0, 120)
    errors, bits = np.array([entropy_coded_uniform(density, step) for step in steps]).T
    return np.array([np.log(steps), np.log(errors), bits])


def _entropy_bits(shape: float) -> float:
    from ggd import GGD

    return float(GGD.from_std(shape, 1.0).entropy_bits)


@lru_cache(maxsize=8192)
def _lloyd_max_error(shape: float, bits: int) -> float:
    from ggd import GGD, lloyd_max

    return float(lloyd_max(GGD.from_std(shape, 1.0), 2**bits).mse)

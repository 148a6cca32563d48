"""Choosing a format for each tensor: the fewest bits within a bound on quality, or the reverse.

Every way to store every tensor is measured; `allocation` chooses among them; the choice is carried out and
measured again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._base.display import bits_in_words
from ..checkpoints.checkpoint import open_checkpoint
from ..checkpoints.conversion import header_bytes
from ..checkpoints.plan import KEPT_PATTERNS, Plan, Recipe, Rule
from ..checkpoints.requirements import Requirement
from ..entropy.coding import compress
from ..formats import get_format
from ..models.loss import window_losses
from ..models.transformer import Model
from ..quantization.scheme import Scheme, as_scheme
from .allocation import Costs, Picks, hull_path, least
from .rate_distortion import Cost, Matrix, cost_of, open_matrices, with_progress

__all__ = [
    "FORMATS", "SCHEMES", "Choice", "Divergence", "Menu", "Planned", "Work", "measure_menu", "plan_checkpoint",
    "rf_family",
]  # fmt: skip

FORMATS = (
    "rf8", "rf8_e3", "rf6", "rf(3,4)", "rf(2,4)", "rf(2,2)", "e4m3fn", "e5m2", "e3m4", "e2m3fn", "e3m2fn", "e2m1fn",
    "int8", "nf4",
)  # fmt: skip
"""Formats that a plan chooses among by default."""

SCHEMES = tuple(f"{fmt}/{block}" for fmt in FORMATS for block in ("tensor", "channel"))
"""Schemes that a plan chooses among by default."""

_NO_BOUND = (
    "budget {!r} cannot be planned for: plan 'sqnr>=25dB', 'worst-sqnr>=20dB', 'bits<=6', 'loss<=+1%' or 'kl<=0.01'"
)


def rf_family(least_bits: int = 5, most_bits: int = 8) -> list[str]:
    """Return the formats RF(p, depth) of a width: what a hardware design can choose of the family.

    With a power of two as scale of each tensor the bias is chosen too: a scale of 2**k is a bias that is k less.

    Examples
    --------
    >>> rf_family(6, 6)
    ['rf(1,8)', 'rf(2,4)', 'rf(3,2)']
    """
    names = []
    for bits in range(least_bits, most_bits + 1):
        for p in range(1, bits - 2):
            name = f"rf({p},{1 << (bits - 2 - p)})"
            try:
                get_format(name)
            except ValueError:  # finer than float32
                continue
            names.append(name)
    return names


# --- measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Menu:
    """What every way to store each tensor costs.

    Attributes
    ----------
    matrices : tuple of Matrix
        The tensors to plan.
    recipes : tuple of Recipe
        The candidates.
    costs : tuple of tuple of Cost
        By tensor, then by candidate.
    other_bits, other_weights : int
        Bits and elements of the tensors that stay as they are.
    others : tuple of str
        Their names.
    """

    matrices: tuple[Matrix, ...]
    recipes: tuple[Recipe, ...]
    costs: tuple[tuple[Cost, ...], ...]
    other_bits: int
    other_weights: int
    others: tuple[str, ...]

    def bits(self) -> Costs:
        """Return stored bits, shape (tensors, candidates)."""
        return np.array([[cost.code_bits + cost.scale_bits for cost in costs] for costs in self.costs])

    def errors(self) -> Costs:
        """Return sums of squared errors, shape (tensors, candidates)."""
        return np.array([[cost.error for cost in costs] for costs in self.costs])

    def signals(self) -> Costs:
        """Return sums of squares, shape (tensors,)."""
        return np.array([costs[0].signal for costs in self.costs])

    @property
    def weights(self) -> int:
        """Elements of all tensors, those that stay included."""
        return sum(costs[0].weights for costs in self.costs) + self.other_weights


def measure_menu(
    path: str | Path,
    schemes: Sequence[str | Scheme] = SCHEMES,
    entropy: str = "rans",
    *,
    kept: tuple[str, ...] = KEPT_PATTERNS,
    progress: Callable[[str, int, int], None] | None = None,
) -> Menu:
    """Measure every scheme on each tensor that a plan quantizes.

    Parameters
    ----------
    path : str or Path
        The checkpoint.
    schemes : sequence of str or Scheme
        The candidates; a bare format name means one scale for the tensor.
    entropy : str
        How codes are stored.
    kept : tuple of str
        Patterns of names of tensors that stay as they are, as in a plan; empty to plan every tensor of two axes.
    progress : callable, optional
        Called with a tensor's name, the work done and all.

    Returns
    -------
    Menu
        The costs.

    Raises
    ------
    ValueError
        If a scheme or an option is unknown, or no tensor is left.
    """
    recipes = tuple(dict.fromkeys(Recipe(as_scheme(scheme), entropy=entropy) for scheme in schemes))
    if not recipes:
        raise ValueError("a plan needs at least one scheme to choose from")
    shapes = {info.name: info.shape for info in open_checkpoint(path)}
    everything = Plan(kept=kept)
    matrices = open_matrices(path, lambda name: isinstance(everything.choose(name, shapes[name]), Recipe))
    planned = {matrix.name for matrix in matrices}
    others = [info for info in open_checkpoint(path) if info.name not in planned]
    costs = []
    for matrix, values in with_progress(matrices, progress):
        stored = [recipe.for_tensor(matrix.name, values.shape) for recipe in recipes]
        costs.append(tuple(cost_of(values, recipe)[0] for recipe in stored))
    bits = sum(8 * _item_size(info.dtype) * info.size for info in others)
    names = tuple(info.name for info in others)
    return Menu(tuple(matrices), recipes, tuple(costs), bits, sum(info.size for info in others), names)


def _item_size(dtype: str) -> int:
    import ml_dtypes

    try:
        return np.dtype(getattr(ml_dtypes, dtype, dtype)).itemsize
    except TypeError:
        return 4


# --- the plan ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """What one tensor gets."""

    name: str
    shape: tuple[int, ...]
    recipe: Recipe
    cost: Cost


@dataclass(frozen=True)
class Divergence:
    """What a plan does to a model's predictions.

    Attributes
    ----------
    measured : float
        Kullback-Leibler divergence from the original's predictions with all planned tensors quantized, nats per token.
    summed : float
        What the tensors were expected to add up to, each quantized alone.
    scheme : str
        What each was quantized to alone.
    tokens : int
        Predictions measured.
    """

    measured: float
    summed: float
    scheme: str
    tokens: int


@dataclass(frozen=True)
class Planned:
    """A plan, and what it comes to when it is carried out.

    Attributes
    ----------
    budget : Requirement
        The bound that it keeps.
    choices : tuple of Choice
        What each tensor gets, measured again.
    bits : dict of str to float
        Bits per weight of the one file that ``quantize`` makes of the plan, everything counted, by what they are for.
    sqnr_db, worst_sqnr_db : float
        Of the planned tensors together, and of the worst.
    below : float or None
        No plan from the same candidates, with a header as large, is better than this: fewer bits per weight or, for a
        bound on bits, a greater SQNR. None for a bound on the loss, which is only followed along the convex hull.
    loss, baseline : float or None
        The model's loss with the planned tensors so quantized, and as it is, nats per token.
    candidates : int
        How many ways to store a tensor were compared.
    kept : tuple of str
        Patterns of names of tensors that stay as they are.
    others : tuple of str
        The tensors that stay.
    divergence : Divergence or None
        Of a bound on the divergence.
    """

    budget: Requirement
    choices: tuple[Choice, ...]
    bits: Mapping[str, float]
    sqnr_db: float
    worst_sqnr_db: float
    below: float | None
    loss: float | None
    baseline: float | None
    candidates: int
    kept: tuple[str, ...]
    others: tuple[str, ...]
    divergence: Divergence | None = None

    @property
    def bits_per_weight(self) -> float:
        """All `bits`."""
        return sum(self.bits.values())

    def plan(self) -> Plan:
        """Return the plan for a file: the recipe of the most weights as default, the others by name."""
        sized = [(choice.name, choice.recipe, choice.cost.weights) for choice in self.choices]
        return _plan(sized, self.kept, self.others)


def _plan(sized: Sequence[tuple[str, Recipe, int]], kept: tuple[str, ...], others: tuple[str, ...]) -> Plan:
    sizes: dict[Recipe, int] = {}
    for _, recipe, size in sized:
        sizes[recipe] = sizes.get(recipe, 0) + size
    usual = max(sizes, key=lambda recipe: sizes[recipe])
    rules = [
        Rule(_escaped(name), {"scheme": recipe.options()["scheme"]}) for name, recipe, _ in sized if recipe != usual
    ]
    stay = () if kept else others  # without patterns to keep, each by its name
    return Plan(usual, (*rules, *(Rule(_escaped(name), keep=True) for name in stay)), kept)


def _escaped(name: str) -> str:
    """Return a pattern that matches a name alone."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


def plan_checkpoint(
    path: str | Path,
    budget: Requirement,
    menu: Menu,
    *,
    kept: tuple[str, ...] = KEPT_PATTERNS,
    model: Model | None = None,
    windows: NDArray[np.uint8] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Planned:
    """Choose a format and a scaling for each tensor, and measure what comes of it.

    Parameters
    ----------
    path : str or Path
        The checkpoint.
    budget : Requirement
        ``sqnr>=``, ``worst-sqnr>=`` or ``loss<=``: the fewest bits that keep it. ``bits<=``: the greatest SQNR. A bound
        on the loss is kept on the windows given; each tensor's error then counts by what a coarse copy of that tensor
        alone adds to the loss.
    menu : Menu
        From `measure_menu`.
    kept : tuple of str
        As for `measure_menu`.
    model, windows
        The model of the checkpoint and held-out text; needed for a bound on the loss, measured if given.
    progress : callable, optional
        Called with what is at work, the work done and all.

    Returns
    -------
    Planned
        The plan.

    Raises
    ------
    ValueError
        If no choice among the candidates keeps the budget, or it cannot be planned for.

    Examples
    --------
    >>> from rf8sim.checkpoints.requirements import parse_requirement
    >>> menu = measure_menu("examples/lm/model.safetensors", ("rf8", "int8", "nf4"))
    >>> planned = plan_checkpoint("examples/lm/model.safetensors", parse_requirement("sqnr>=25dB"), menu)
    >>> sorted({str(choice.recipe.scheme) for choice in planned.choices}), planned.sqnr_db >= 25
    (['int8', 'nf4', 'rf8'], True)
    """
    bits, errors, signals = menu.bits(), menu.errors(), menu.signals()
    work = Work(path, budget, menu, kept, model, windows)
    if budget.quantity in ("sqnr", "worst-sqnr") and budget.operator == ">=":
        pick, total = _for_quality(budget, bits, errors, signals)
        result = work.carried_out(pick)
        fewest = total - float(bits[np.arange(len(pick)), pick].sum())
        return replace(result, below=result.bits_per_weight + fewest / menu.weights)
    if budget.quantity == "bits" and budget.operator == "<=":
        return _for_bits(work, bits, errors, signals)
    if budget.quantity == "loss" and budget.operator == "<=":
        if model is None or windows is None:
            raise ValueError(f"budget {budget.text!r} needs the model: give --model, or bound sqnr or bits")
        return work.carried_out(*_for_loss(budget, menu, model, windows, progress))
    raise ValueError(_NO_BOUND.format(budget.text))


def _for_bits(work: Work, bits: Costs, errors: Costs, signals: Costs) -> Planned:
    """Choose within what the header leaves. It grows with the formats, so those of the first choice are shared anew."""
    menu, budget = work.menu, work.budget
    try:
        pick, result = _within(work, bits, errors, 0.0)
    except ValueError:
        result = work.carried_out(np.argmin(bits, axis=1))
        if not budget.met(result.bits_per_weight):
            raise ValueError(
                f"budget {budget.text!r}: the fewest that these formats reach is {bits_in_words(result.bits)}: "
                "allow more, add narrower formats, or plan all tensors"
            ) from None
    else:
        used = {menu.recipes[c].scheme.format for c in pick.tolist()}
        of_these = [recipe.scheme.format in used for recipe in menu.recipes]
        _, again = _within(work, bits, np.where(of_these, errors, np.inf), work.header_bits(pick))
        result = max(result, again, key=lambda one: one.sqnr_db)
    room = (budget.value - result.bits["headers"]) * menu.weights - menu.other_bits
    try:
        _, error = least(errors, bits, room)
    except ValueError:  # by the last bits of codes, which are known when they are coded
        return replace(result, below=result.sqnr_db)
    return replace(result, below=10 * math.log10(signals.sum() / error) if error > 0 else math.inf)


def _within(work: Work, bits: Costs, errors: Costs, spare: float) -> tuple[Picks, Planned]:
    """Choose the least error within the budget less at least some bits: the header's, and what coding takes besides."""
    menu, budget = work.menu, work.budget
    while True:
        pick, _ = least(errors, bits, budget.value * menu.weights - menu.other_bits - spare)
        header = work.header_bits(pick)
        if header > spare:
            spare = header
            continue
        result = work.carried_out(pick)
        if budget.met(result.bits_per_weight):
            return pick, result
        spare += max(1.0, (result.bits_per_weight - budget.value) * menu.weights)


def _for_quality(budget: Requirement, bits: Costs, errors: Costs, signals: Costs) -> tuple[Picks, float]:
    share = 10 ** (-budget.value / 10)
    if budget.quantity == "worst-sqnr":
        allowed = np.where(errors <= share * signals[:, None], bits, np.inf)
        pick = np.argmin(allowed, axis=1)
        reached = bool(np.isfinite(allowed.min(axis=1)).all())
        best = float(np.min(-10 * np.log10(np.maximum(errors.min(axis=1), 1e-300) / np.maximum(signals, 1e-300))))
        total = float(allowed.min(axis=1).sum())
    else:
        best = -10 * math.log10(max(float(errors.min(axis=1).sum()), 1e-300) / float(signals.sum()))
        reached = best >= budget.value
        pick, total = least(bits, errors, share * float(signals.sum())) if reached else (np.zeros(0, np.int64), 0.0)
    if not reached:
        raise ValueError(
            f"budget {budget.text!r}: the best that these formats reach is {best:.2f} dB: ask for less, or add formats"
        )
    return pick.astype(np.int64), total


def _for_loss(
    budget: Requirement,
    menu: Menu,
    model: Model,
    windows: NDArray[np.uint8],
    progress: Callable[[str, int, int], None] | None,
) -> tuple[Picks, tuple[float, float]]:
    """Walk along the convex hull, errors weighted by sensitivity, to the fewest bits whose loss keeps the bound."""
    baseline = float(window_losses(model, windows).mean())
    bits, errors = menu.bits(), menu.errors()
    originals = [matrix.read() for matrix in menu.matrices]
    shapes = [matrix.info.shape for matrix in menu.matrices]
    evaluations = len(menu.matrices) + 2 + math.ceil(math.log2(bits.size + 2))
    done = 0

    @cache
    def copy(t: int, c: int) -> NDArray[np.float32]:
        recipe = menu.recipes[c].for_tensor(menu.matrices[t].name, shapes[t])
        return cost_of(originals[t], recipe)[1].dequantize().reshape(shapes[t])

    def loss(picks: dict[int, int]) -> float:
        nonlocal done
        if progress:
            progress("loss of the model", done, evaluations)
        done += 1
        weights = {menu.matrices[t].name: copy(t, c) for t, c in picks.items()}
        return float(window_losses(model, windows, weights).mean())

    finest = loss(dict(enumerate(np.argmin(errors, axis=1).tolist())))
    if not budget.met(finest, baseline):
        raise ValueError(
            f"budget {budget.text!r}: with the most accurate of these formats the loss is {finest:.4f}, against "
            f"{baseline:.4f} as it is and a bound of {budget.bound(baseline):.4f}: ask for less, or add formats"
        )
    # What each tensor's error adds: measured on its coarsest candidate, where it stands out from the noise.
    coarse = np.argmax(errors, axis=1)
    added = np.array([loss({t: int(c)}) - baseline for t, c in enumerate(coarse)])
    sensitivity = added / np.maximum(errors[np.arange(len(coarse)), coarse], 1e-300)
    sensitivity = np.maximum(sensitivity, 0.05 * max(float(np.median(sensitivity)), 1e-300))
    path = hull_path(bits, errors * sensitivity[:, None])
    tried = {len(path) - 1: finest}  # the end of the path is the most accurate of all
    low, high = -1, len(path) - 1
    while high - low > 1:
        middle = (low + high) // 2
        tried[middle] = loss(dict(enumerate(path[middle].tolist())))
        low, high = (low, middle) if budget.met(tried[middle], baseline) else (middle, high)
    return path[high], (tried[high], baseline)


class Work:
    """What is planned, and what comes of a choice."""

    def __init__(
        self,
        path: str | Path,
        budget: Requirement,
        menu: Menu,
        kept: tuple[str, ...],
        model: Model | None,
        windows: NDArray[np.uint8] | None,
    ) -> None:
        self.path, self.budget, self.menu, self.kept = path, budget, menu, kept
        self.model, self.windows = model, windows
        self._header_bytes = header_bytes(open_checkpoint(path))

    def header_bits(self, pick: Picks) -> float:
        """Return the bits of the header of the file that a choice gives."""
        chosen = zip(self.menu.matrices, pick.tolist(), strict=True)
        sized = [(matrix.name, self.menu.recipes[c], matrix.info.size) for matrix, c in chosen]
        return 8.0 * self._header_bytes(_plan(sized, self.kept, self.menu.others))

    def carried_out(self, pick: Picks, losses: tuple[float, float] | None = None) -> Planned:
        """Quantize as chosen, measure again, and check a bound on quality."""
        menu, budget = self.menu, self.budget
        choices, quantized, total, worst = [], {}, Cost(), math.inf
        for matrix, c in zip(menu.matrices, pick.tolist(), strict=True):
            recipe = menu.recipes[c]
            cost, stored = cost_of(matrix.read(), recipe.for_tensor(matrix.name, matrix.info.shape))
            if recipe.entropy != "none":
                cost = replace(cost, code_bits=8.0 * len(compress(stored.codes, recipe.entropy)))
            choices.append(Choice(matrix.name, matrix.info.shape, recipe, cost))
            total |= cost
            worst = min(worst, cost.sqnr_db if cost.signal > 0 else math.inf)
            if self.model is not None and losses is None:
                quantized[matrix.name] = stored.dequantize().reshape(matrix.info.shape)
        if self.model is not None and self.windows is not None and losses is None:
            pair = [window_losses(self.model, self.windows, weights) for weights in (quantized, {})]
            losses = float(pair[0].mean()), float(pair[1].mean())
        stored_bits = {"codes": total.code_bits, "scales": total.scale_bits, "kept tensors": menu.other_bits}
        stored_bits["headers"] = self.header_bits(pick)
        quality: dict[str, Any] = {"sqnr": total.sqnr_db, "worst-sqnr": worst}
        if budget.quantity in quality and not budget.met(quality[budget.quantity]):
            raise ValueError(
                f"{self.path}: the checkpoint changed while it was planned, and {budget.text!r} is not kept: try again"
            )
        loss, baseline = losses or (None, None)
        return Planned(
            budget=budget,
            choices=tuple(choices),
            bits={name: stored / menu.weights for name, stored in stored_bits.items()},
            sqnr_db=total.sqnr_db,
            worst_sqnr_db=worst,
            below=None,
            loss=loss,
            baseline=baseline,
            candidates=len(menu.recipes),
            kept=self.kept,
            others=menu.others,
        )

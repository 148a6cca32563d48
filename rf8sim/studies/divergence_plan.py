"""Plans within a bound on what a model's predictions lose: each tensor's part is measured, and so is their sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from ..checkpoints.plan import KEPT_PATTERNS
from ..checkpoints.requirements import Requirement
from ..quantization.scheme import Scheme
from .allocation import Costs, Picks, hull_path
from .planning import Divergence, Menu, Planned, Work

__all__ = ["Predictions", "plan_divergence"]

_LEAST_SHARE = 0.05  # of the median sensitivity, below which one is noise


class Predictions(Protocol):
    """A model whose predictions are compared with its own before anything was quantized."""

    @property
    def tokens(self) -> int:
        """Predictions that are compared."""

    def alone(self, scheme: Scheme) -> Mapping[str, float]:
        """Return the divergence with each tensor alone quantized, nats per token, by the tensors' names."""

    def together(self, schemes: Mapping[str, Scheme]) -> float:
        """Return the divergence with all these tensors quantized, nats per token."""


def plan_divergence(
    path: str | Path,
    budget: Requirement,
    menu: Menu,
    predictions: Predictions,
    *,
    kept: tuple[str, ...] = KEPT_PATTERNS,
) -> Planned:
    """Choose a scheme for each tensor: the fewest bits found whose measured divergence keeps a bound.

    Each tensor alone is quantized by the coarsest scheme, where its effect stands out from noise. The divergence grows
    with the squared error, so the measured one in proportion to the errors says what each candidate costs. Along the
    convex hull of their sums the divergence of all tensors together is measured, and decides.

    Parameters
    ----------
    path : str or Path
        The checkpoint.
    budget : Requirement
        ``kl<=``.
    menu : Menu
        From `measure_menu`.
    predictions : Predictions
        The model of the checkpoint.
    kept : tuple of str
        As for `measure_menu`.

    Returns
    -------
    Planned
        The plan. It has no bound for other plans.

    Raises
    ------
    ValueError
        If the budget is not one on the divergence, or the most accurate candidates do not keep it.
    """
    if budget.quantity != "kl" or budget.operator != "<=":
        raise ValueError(f"budget {budget.text!r}: a bound on the divergence is 'kl<=0.01', nats per token")
    names = [matrix.name for matrix in menu.matrices]
    expected, coarse = _expected(menu, predictions)
    path_of_picks = hull_path(menu.bits(), expected)

    @cache
    def measured(step: int) -> float:
        return predictions.together(_schemes(menu, path_of_picks[step]))

    low, high = -1, len(path_of_picks) - 1
    if not budget.met(measured(high)):
        raise ValueError(
            f"budget {budget.text!r}: with the most accurate of these schemes the divergence is {measured(high):.3g}: "
            "ask for less, or add schemes"
        )
    sums = [float(expected[np.arange(len(names)), pick].sum()) for pick in path_of_picks]
    guess = next((step for step, total in enumerate(sums) if total <= budget.value), high)
    for middle in _steps(guess, low, high):
        if low < middle < high:
            low, high = (low, middle) if budget.met(measured(middle)) else (middle, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if budget.met(measured(middle)) else (middle, high)
    planned = Work(path, budget, menu, kept, None, None).carried_out(path_of_picks[high])
    divergence = Divergence(measured(high), sums[high], str(coarse), predictions.tokens)
    return replace(planned, divergence=divergence)


def _steps(guess: int, low: int, high: int) -> tuple[int, ...]:
    """Return the steps around a guess that are tried first: if it is right, two measurements find the answer."""
    return tuple(step for step in (guess, guess - 1) if low < step < high)


def _expected(menu: Menu, predictions: Predictions) -> tuple[Costs, Scheme]:
    """Return what each candidate of each tensor is expected to add, and what was measured to know."""
    errors = menu.errors()
    column = int(np.argmax(errors.sum(axis=0)))
    coarse = menu.recipes[column].scheme
    effects = predictions.alone(coarse)
    alone = np.array([max(effects[matrix.name], 0.0) for matrix in menu.matrices])
    sensitivity = alone / np.maximum(errors[:, column], 1e-300)
    sensitivity = np.maximum(sensitivity, _LEAST_SHARE * max(float(np.median(sensitivity)), 1e-300))
    return errors * sensitivity[:, None], coarse


def _schemes(menu: Menu, pick: Picks) -> dict[str, Scheme]:
    chosen = zip(menu.matrices, pick.tolist(), strict=True)
    return {m.name: menu.recipes[c].for_tensor(m.name, m.info.shape).scheme for m, c in chosen}

"""Sharing a budget: one candidate for each tensor, the least sum of one cost while the sum of another keeps a bound.

A multiple-choice knapsack. A sweep of the Lagrange multiplier walks along the convex hulls of the tensors and gives a
choice, and a figure below which none can come (Everett 1963; Shoham and Gersho 1988). What lies between is taken up by
an exact solver.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["Costs", "Picks", "hull_path", "least"]

Costs = NDArray[np.float64]
Picks = NDArray[np.int64]

_SOLVER_SECONDS = 20.0


def hull_path(goal: Costs, bound: Costs) -> list[Picks]:
    """Return the choices of least ``goal + multiplier * bound``, for a multiplier that grows from 0.

    Parameters
    ----------
    goal, bound : ndarray of float64, shape (tensors, candidates)
        Two costs of each candidate; infinite for one that must not be taken.

    Returns
    -------
    list of ndarray of int64, shape (tensors,)
        From the least sum of goals to the least sum of bounds; each takes one step on the convex hull of one tensor.

    Examples
    --------
    >>> [pick.tolist() for pick in hull_path(np.array([[1.0, 2, 4], [1, 3, 9]]), np.array([[9.0, 4, 3], [9, 1, 0]]))]
    [[0, 0], [1, 0], [1, 1], [2, 1], [2, 2]]
    """
    steps = []
    pick = np.zeros(len(goal), dtype=np.int64)
    for tensor, (own_goal, own_bound) in enumerate(zip(goal, bound, strict=True)):
        order = [int(i) for i in np.lexsort((own_bound, own_goal)) if math.isfinite(own_goal[i] + own_bound[i])]
        hull = order[:1]
        for i in order[1:]:
            if own_bound[i] >= own_bound[hull[-1]]:
                continue
            while len(hull) > 1 and _gain(own_goal, own_bound, hull[-2], hull[-1]) <= _gain(
                own_goal, own_bound, hull[-1], i
            ):
                hull.pop()
            hull.append(i)
        pick[tensor] = hull[0]
        steps += [(_gain(own_goal, own_bound, a, b), tensor, n, b) for n, (a, b) in enumerate(itertools.pairwise(hull))]
    path = [pick]
    for _, tensor, _, to in sorted(steps, key=lambda step: (-step[0], step[1], step[2])):
        path.append(path[-1].copy())
        path[-1][tensor] = to
    return path


def _gain(goal: Costs, bound: Costs, a: int, b: int) -> float:
    rise = float(goal[b] - goal[a])
    return float(bound[a] - bound[b]) / rise if rise > 0 else math.inf


def least(goal: Costs, bound: Costs, limit: float) -> tuple[Picks, float]:
    """Choose one candidate for each tensor: the least sum of goals while the bounds sum to at most a limit.

    Parameters
    ----------
    goal, bound : ndarray of float64, shape (tensors, candidates)
        As for `hull_path`.
    limit : float
        Of the sum of bounds.

    Returns
    -------
    pick : ndarray of int64, shape (tensors,)
        The choice.
    below : float
        No choice has a smaller sum of goals than this.

    Raises
    ------
    ValueError
        If no choice keeps the limit.

    Examples
    --------
    >>> pick, below = least(np.array([[1.0, 2, 4], [1, 3, 9]]), np.array([[9.0, 4, 3], [9, 1, 0]]), 6.0)
    >>> pick.tolist(), round(below, 6)
    ([1, 1], 5.0)
    """
    path = hull_path(goal, bound)
    rows = np.arange(len(goal))
    sums = [(float(goal[rows, pick].sum()), float(bound[rows, pick].sum())) for pick in path]
    first = next((i for i, (_, total) in enumerate(sums) if total <= limit), None)
    if first is None:
        raise ValueError("no choice keeps the limit")
    pick, below = path[first], sums[first][0]
    if first > 0:  # between the last that breaks the limit and the first that keeps it: the relaxed optimum
        (low, over), (high, under) = sums[first - 1], sums[first]
        below = low + (high - low) * (over - limit) / (over - under)
        better, proved = _solved(goal, bound, limit)
        if better is not None and float(goal[rows, better].sum()) <= float(goal[rows, pick].sum()):
            pick = better
        below = max(below, proved)
    return pick, min(below, float(goal[rows, pick].sum()))


def _solved(goal: Costs, bound: Costs, limit: float) -> tuple[Picks | None, float]:
    """Return the choice of the exact solver, None if it found none in time, and what it proved."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    tensor, candidate = np.nonzero(_worthwhile(goal, bound))
    g, b = goal[tensor, candidate], bound[tensor, candidate]
    scale_g, scale_b = max(float(g.max()), 1e-300), max(abs(limit), 1e-300)
    choice = csr_array((np.ones(g.size), (tensor, np.arange(g.size))), shape=(len(goal), g.size))
    result = milp(
        g / scale_g,
        integrality=np.ones(g.size),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(choice, 1, 1), LinearConstraint(b[None, :] / scale_b, -np.inf, limit / scale_b)],
        options={"time_limit": _SOLVER_SECONDS, "mip_rel_gap": 0.0},
    )
    proved = -math.inf
    if getattr(result, "mip_dual_bound", None) is not None:
        proved = float(result.mip_dual_bound) * scale_g * (1 - 1e-9)
    if result.x is None:
        return None, proved
    pick = np.zeros(len(goal), dtype=np.int64)
    taken = result.x > 0.5
    pick[tensor[taken]] = candidate[taken]
    rows = np.arange(len(goal))
    return (
        pick if float(bound[rows, pick].sum()) <= limit else None
    ), proved  # the solver has its tolerance, we have none


def _worthwhile(goal: Costs, bound: Costs) -> NDArray[np.bool_]:
    """Mark the candidates that no other of the tensor beats in both costs."""
    keep = np.zeros(goal.shape, dtype=bool)
    for row, (own_goal, own_bound) in enumerate(zip(goal, bound, strict=True)):
        smallest = math.inf
        for i in np.lexsort((own_bound, own_goal)):
            if math.isfinite(own_goal[i]) and own_bound[i] < smallest:
                smallest = float(own_bound[i])
                keep[row, i] = True
    return keep

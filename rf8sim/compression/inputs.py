"""What the inputs of a layer make of its weights' errors: second moments, as the factors that rounding goes by."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["DAMPING", "InputFactor"]

DAMPING = 0.01
"""Share of the mean second moment that is added to each, as GPTQ has it: moments of few samples are not all of them."""


@dataclass(frozen=True, eq=False)
class InputFactor:
    """Second moments of a layer's inputs as ``R diag(weights) R.T``, R with ones on the diagonal and zeros below.

    An error e of a row of the weights then costs ``weights[j] * (e[j] + sum(e[i] * R[i, j] for i < j))**2`` summed over
    the columns j: each term depends on columns that are rounded before. That is what GPTQ (Frantar et al.,
    arXiv 2210.17323) minimizes column by column with the inverse of the moments, which is not needed.

    Attributes
    ----------
    order : ndarray of int64, shape (n,)
        The columns, in the order in which they are rounded.
    weights : ndarray of float64, shape (n,)
        Cost of a squared error in each, in that order, once all later columns make up for it as well as they can.
    feedback : ndarray of float64, shape (n, n), or (0, 0)
        R less its diagonal; empty where no column makes up for another.

    Examples
    --------
    >>> factor = InputFactor.from_moments([[5.0, 2.0], [2.0, 4.0]], damping=0)
    >>> factor.order.tolist(), factor.weights.tolist(), factor.feedback.tolist()
    ([0, 1], [4.0, 4.0], [[0.0, 0.5], [0.0, 0.0]])
    """

    order: NDArray[np.int64] = field(repr=False)
    weights: NDArray[np.float64] = field(repr=False)
    feedback: NDArray[np.float64] = field(repr=False)

    @classmethod
    def from_moments(cls, moments: ArrayLike, *, damping: float = DAMPING) -> InputFactor:
        """Factor second moments.

        Parameters
        ----------
        moments : array_like, shape (n, n) or (n,)
            Means of the products of two inputs of a layer, symmetric; or of their squares alone: no column then makes
            up for another.
        damping : float
            Share of the mean of the diagonal that is added to it. An input that is always zero costs that much.

        Returns
        -------
        InputFactor
            Columns of the largest moments first.

        Raises
        ------
        ValueError
            If the moments have no such shape, are not finite, or are not those of any inputs.
        """
        array = np.asarray(moments, dtype=np.float64)
        if array.ndim not in (1, 2) or array.shape[0] != array.shape[-1] or not array.size:
            raise ValueError(f"second moments have the shape (n, n), or (n,) for squares alone, got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError("second moments hold NaN or infinity: the layer's inputs are not finite")
        if not damping >= 0:
            raise ValueError(f"damping is a share of at least 0, got {damping!r}")
        diagonal = array if array.ndim == 1 else np.diagonal(array)
        mean = float(diagonal.mean())
        if mean == 0:  # nothing ever enters: every error costs alike
            diagonal, mean, array = np.ones_like(diagonal), 1.0, np.ones_like(diagonal)
        if diagonal.min() < 0:
            raise ValueError("second moments are negative on the diagonal: give means of products of inputs")
        order = np.argsort(-diagonal, kind="stable")
        damped = diagonal[order] + damping * mean
        if array.ndim == 1:
            return cls(order, damped, np.zeros((0, 0)))
        backward = order[::-1]
        reversed_moments = array[np.ix_(backward, backward)]
        np.fill_diagonal(reversed_moments, damped[::-1])
        try:
            lower = np.linalg.cholesky(reversed_moments)
        except np.linalg.LinAlgError:
            raise ValueError("second moments are those of no inputs, or damping is too small for them") from None
        upper = lower[::-1, ::-1]
        scale = np.diagonal(upper)
        weights = scale * scale
        feedback = np.ascontiguousarray(np.triu(upper / scale, 1))
        return cls(order, weights, feedback if feedback.any() else np.zeros((0, 0)))

    @classmethod
    def equal(cls, columns: int) -> InputFactor:
        """Return the factor of inputs whose second moments are the identity: errors cost their squares."""
        return cls(np.arange(columns), np.ones(columns), np.zeros((0, 0)))

    @property
    def level(self) -> float:
        """The geometric mean of the weights, which sets the error at a rate."""
        return float(np.exp(np.log(self.weights).mean()))

    def alone(self) -> InputFactor:
        """Return the same without feedback: each column by its second moment, as if inputs did not go together."""
        if not self.feedback.size:
            return self
        # The diagonal of R diag(weights) R.T.
        moments = np.square(self.feedback) @ self.weights + self.weights
        return InputFactor(self.order, moments, np.zeros((0, 0)))

    def by_column(self) -> NDArray[np.float64]:
        """Return the weights in the order of the columns."""
        weights = np.empty_like(self.weights)
        weights[self.order] = self.weights
        return weights

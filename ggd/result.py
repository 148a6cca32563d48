"""What a fit says: the parameters, their errors, and whether to believe them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from ggd.distribution import GGD

__all__ = ["LARGEST_ERROR", "SHAPE_RANGE", "FitResult", "StandardErrors", "no_fit"]

SHAPE_RANGE = (0.05, 100.0)  # where a fit is sought; the range the distribution is tested for
LARGEST_ERROR = 0.25  # relative standard error of the shape above which a fit is not trusted


class StandardErrors(NamedTuple):
    """Standard errors of a fit, from the Fisher information or, for the moment methods, the delta method."""

    shape: float
    scale: float
    loc: float = 0.0


@dataclass(frozen=True)
class FitResult:
    """A fitted generalized Gaussian, and whether to believe it.

    Attributes
    ----------
    shape, scale, loc : float
        Parameters; shape and scale are NaN where the data determine none. The centre `loc` is as given, or as found.
    stderr : StandardErrors
        Standard errors of shape and scale for independent data.
    loglik : float
        Mean log density per nonzero value, in nats.
    method : str
        ``ml``, ``moments``, ``half-moments``, ``censored`` or ``grouped``.
    n : int
        Number of values the fit rests on: finite and not zero.
    zeros : int
        Number of exact zeros, which are left out of the fit.
    trusted : bool
        Whether the fit can be used without a second look.
    reason : str
        Why not, in one sentence; empty for a trusted fit.
    misfit : float
        How many bits per value a histogram of the nonzero values saves against the fit: of up to 64 cells that are
        equally probable under it, and less what it saves by chance, so 0 on data of the family. Above 0.1 the fit does
        not describe the data. NaN for grouped and censored fits.

    Examples
    --------
    >>> import ggd
    >>> result = ggd.fit([0.0, 0.0])
    >>> result.shape, result.trusted, result.reason
    (nan, False, 'all 2 values are zero')
    """

    shape: float
    scale: float
    loc: float
    stderr: StandardErrors
    loglik: float
    method: str
    n: int
    zeros: int
    trusted: bool
    reason: str = ""
    misfit: float = math.nan

    @property
    def distribution(self) -> GGD:
        """The fitted distribution.

        Raises
        ------
        ValueError
            If there is no fit.
        """
        if math.isnan(self.shape):
            raise ValueError(f"there is no fitted distribution: {self.reason}")
        return GGD(self.shape, self.scale, self.loc)

    @property
    def zero_share(self) -> float:
        """Share of exact zeros among the finite values."""
        return self.zeros / (self.n + self.zeros) if self.n + self.zeros else math.nan

    def _repr_html_(self) -> str:
        """Show the fit as a table, in a notebook."""
        names = ("shape", "scale", "loc")
        rows = [(name, f"{getattr(self, name):.6g} ± {getattr(self.stderr, name):.2g}") for name in names]
        rows += [("values", f"{self.n:,}, and {self.zeros:,} zeros"), ("trusted", "yes" if self.trusted else "no")]
        rows += [("because", self.reason)] if self.reason else []
        lines = (f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in rows)
        caption = f"generalized Gaussian, {escape(self.method)}"
        return f"<table><caption>{caption}</caption>{''.join(lines)}</table>"


def no_fit(loc: float, method: str, n: int, zeros: int, reason: str) -> FitResult:
    """Return the result that says why there is no number.

    Parameters
    ----------
    loc, method, n, zeros, reason
        As in `FitResult`.

    Returns
    -------
    FitResult

    Examples
    --------
    >>> no_fit(0.0, "ml", 1, 0, "one value").trusted
    False
    """
    nothing = StandardErrors(math.nan, math.nan, math.nan)
    return FitResult(math.nan, math.nan, loc, nothing, math.nan, method, n, zeros, False, reason)

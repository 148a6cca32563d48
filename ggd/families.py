"""Which family describes the data: the rivals fitted, and compared by the code length they need."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from ggd import goodness, rival_fits
from ggd._cells import area_between
from ggd.asymmetric import likeliest
from ggd.distribution import GGD
from ggd.estimate import AS_UNIFORM, KEPT_AWAY, TOO_HEAVY, fit, standard_errors
from ggd.histogram import MagnitudeHistogram
from ggd.result import SHAPE_RANGE, FitResult
from ggd.rival_fits import Sample
from ggd.rivals import AsymmetricGGD, Density

__all__ = [
    "Agreement",
    "FamilyFit",
    "Selection",
    "compare_estimators",
    "compare_families",
    "family_names",
    "select",
]

Array = NDArray[np.float64]

SMALLEST_EFFECT = 1e-3  # bits per weight; less than this is no reason to prefer a family
_TIE = 10  # decimals of code lengths that are equal if they agree in them


class _Edge(NamedTuple):
    """An end of the range of shapes, which stands for the generalized Gaussian of data beyond it."""

    shape: float
    words: str


_EDGES = {
    AS_UNIFORM: _Edge(
        SHAPE_RANGE[1], f"the values are spread as if uniform, which shape {SHAPE_RANGE[1]:g} stands for"
    ),
    KEPT_AWAY: _Edge(SHAPE_RANGE[1], f"shape {SHAPE_RANGE[1]:g} stands for still larger ones"),
    TOO_HEAVY: _Edge(
        SHAPE_RANGE[0], f"the tails are heavier than those of shape {SHAPE_RANGE[0]:g}, which stands for them"
    ),
}


@dataclass(frozen=True)
class FamilyFit:
    """One fitted family.

    Attributes
    ----------
    name : str
        As in `family_names`.
    parameters : dict of str to float
        In the unit of the data; empty if it could not be fitted.
    bits : float
        Code length: the mean of -log2 density over the nonzero values. NaN if it could not be fitted.
    lost : float
        Bits per weight more than the best family.
    ks : float
        Kolmogorov-Smirnov distance to the nonzero values; NaN, as the next one, if not asked for.
    wasserstein : float
        Area between the two distribution functions (earth mover's distance) over the root mean square, out to the
        range of float32 (where a family has no mean, the area has no end).
    misfit : float
        How many bits per weight a histogram of up to 64 cells saves, less what it saves by chance; above 0.1 the family
        does not describe the data. See `FitResult.misfit`.
    """

    name: str
    parameters: dict[str, float]
    bits: float
    lost: float
    ks: float
    wasserstein: float
    misfit: float


@dataclass(frozen=True)
class Selection:
    """All families, best first, and the one to use.

    Attributes
    ----------
    fits : tuple of FamilyFit
        Ascending in `bits`; families that could not be fitted come last.
    chosen : str or None
        The family with the fewest parameters within `threshold` of the best; None if there is none.
    threshold : float
        Bits per weight below which a difference is not held against a family: the larger of 1e-3 and five noise floors.
    noise_floor : float
        Bits per weight that a family gains by fitting its parameters to the noise, at most: parameters / (2 n ln 2).
    n : int
        Number of nonzero values.
    verdict : str
        The choice in one sentence.
    fit : FitResult
        What `fit` returns for the same data.
    """

    fits: tuple[FamilyFit, ...]
    chosen: str | None
    threshold: float
    noise_floor: float
    n: int
    verdict: str
    fit: FitResult

    def __getitem__(self, name: str) -> FamilyFit:
        """Return the fit of a family by name."""
        return next(fitted for fitted in self.fits if fitted.name == name)


def family_names() -> tuple[str, ...]:
    """Return the names of the families that `select` compares.

    Returns
    -------
    tuple of str
        In order of the number of their parameters.

    Examples
    --------
    >>> family_names()
    ('gaussian', 'laplace', 'logistic', 'ggd', 'student-t', 'asymmetric-ggd', 'spike-and-slab')
    """
    return tuple(_FAMILIES)


def compare_families(x: ArrayLike | MagnitudeHistogram) -> dict[str, float]:
    """Return the code length per weight of the Gaussian, Laplace and generalized Gaussian families, in bits.

    Parameters
    ----------
    x : array_like or MagnitudeHistogram
        Data, or its summary.

    Returns
    -------
    dict of str to float
        For ``gaussian``, ``laplace`` and ``ggd``, all centred on zero and fitted by maximum likelihood to the values
        that are not zero: the mean of -log2 density. Only differences mean something: what one family loses against
        another, in bits per weight. NaN where a family could not be fitted.

    Raises
    ------
    ValueError
        As `fit`.

    Examples
    --------
    >>> bits = compare_families(GGD(1.0).sample(100_000, seed=0))
    >>> 0.0 <= bits["laplace"] - bits["ggd"] < 1e-3 < bits["gaussian"] - bits["ggd"]
    True
    """
    histogram = x if isinstance(x, MagnitudeHistogram) else MagnitudeHistogram.from_array(x)
    shapes: dict[str, float | None] = {"gaussian": 2.0, "laplace": 1.0, "ggd": None}
    return {name: -fit(histogram, shape=shape).loglik / math.log(2.0) for name, shape in shapes.items()}


def select(
    x: ArrayLike | MagnitudeHistogram, *, families: Iterable[str] | None = None, distances: bool = True
) -> Selection:
    """Fit every family and choose one by its effect, in bits per weight.

    With many values every difference is significant, so significance decides nothing here: a family is preferred only
    for an effect of at least 1e-3 bits per weight, and with few values only for more than the noise could give. Fit one
    tensor at a time: pooled tensors of different scales look heavy-tailed even if none of them is.

    Parameters
    ----------
    x : array_like or MagnitudeHistogram
        Data, or its summary. Exact zeros are left out.
    families : iterable of str, optional
        Names of `family_names` to compare; by default all.
    distances : bool
        Whether to compute `FamilyFit.ks` and `FamilyFit.wasserstein`, which takes half of the time and does not change
        the choice.

    Returns
    -------
    Selection
        Where the likelihood is largest at an end of the range of shapes, the generalized Gaussian of that end is
        compared and the verdict says so: uniform data, for which `fit` gives no number, are a ``ggd`` of shape 100.
        Where no family describes the data, the verdict says that too.

    Raises
    ------
    ValueError
        If x is empty or not numeric, or a family is unknown, or there is none.

    Examples
    --------
    >>> choice = select(GGD(0.7, 0.02).sample(100_000, seed=0))
    >>> choice.chosen, choice["gaussian"].lost > 0.1
    ('ggd', True)
    >>> [fitted.name for fitted in select([1.0, -2.0, 3.0] * 20 + [*range(20)], families=["laplace", "gaussian"]).fits]
    ['laplace', 'gaussian']
    """
    wanted = _wanted(families)
    histogram = x if isinstance(x, MagnitudeHistogram) else MagnitudeHistogram.from_array(x)
    n, fitted_ggd = histogram.nonzero_count, fit(histogram)
    best_ggd = fitted_ggd
    edge = next((edge for words, edge in _EDGES.items() if best_ggd.reason.startswith(words)), None)
    if edge:
        best_ggd = fit(histogram, shape=edge.shape)
    if math.isnan(best_ggd.shape):
        nothing = tuple(FamilyFit(name, {}, *[math.nan] * 5) for name in wanted)
        verdict = f"no family is fitted: {best_ggd.reason}"
        return Selection(nothing, None, math.nan, math.nan, n, verdict, fitted_ggd)
    cells = histogram.cells()
    weight = np.asarray(cells.counts / n)
    rms = math.sqrt(float(np.dot(weight, cells.mean**2 * (1.0 + cells.spread))))
    fine = Sample(cells.mean / rms, weight)
    steps, smooth = ((place / rms, share) for place, share in (goodness.corners(cells), goodness.smoothed(cells)))
    ends = goodness.equal_cells(best_ggd.shape, best_ggd.scale / rms, n)
    fits = []
    for name in wanted:
        density = _FAMILIES[name](fine, best_ggd, rms)
        bits = math.log2(rms) - float(np.dot(fine.weight, density.logpdf(fine.x))) / math.log(2.0)
        fits.append((name, density, bits))
    least = min(bits for _, _, bits in fits)
    results = sorted(
        (
            FamilyFit(
                name,
                _parameters(density, rms),
                bits,
                bits - least,
                *(_distances(steps, density) if distances else (math.nan, math.nan)),
                goodness.misfit(smooth, ends, density.cdf(ends), n),
            )
            for name, density, bits in fits
        ),
        # A family that comes down to a simpler one, as Student's t of endless degrees of freedom, differs by roundings.
        key=lambda fitted: (round(fitted.bits, _TIE), len(fitted.parameters), fitted.bits),
    )
    noise_floor = max(len(fitted.parameters) for fitted in results) / (2.0 * n * math.log(2.0))
    threshold = max(SMALLEST_EFFECT, 5.0 * noise_floor)
    close = [fitted for fitted in results if fitted.lost <= threshold]
    chosen = min(close, key=lambda fitted: (len(fitted.parameters), fitted.bits))
    verdict = _verdict(results, close, chosen, threshold) + (f"; {edge.words}" if edge else "")
    if chosen.misfit > goodness.limit(n):
        least_misfit = min(fitted.misfit for fitted in results)
        if least_misfit > goodness.limit(n):
            verdict += (
                f"; none of them describes the values: a histogram saves {least_misfit:.2g} bits per weight or more"
            )
        else:
            verdict += f"; it does not describe the values: a histogram saves {chosen.misfit:.2g} bits per weight"
    return Selection(tuple(results), chosen.name, threshold, noise_floor, n, verdict, fitted_ggd)


def _wanted(families: Iterable[str] | None) -> tuple[str, ...]:
    """Return the families to compare, in the order of `family_names`."""
    if families is None:
        return family_names()
    asked = [families] if isinstance(families, str) else list(families)
    unknown = [name for name in asked if name not in _FAMILIES]
    if unknown or not asked:
        what = f"unknown family {unknown[0]!r}" if unknown else "no family to compare"
        raise ValueError(f"{what}: choose from {', '.join(_FAMILIES)}")
    return tuple(name for name in _FAMILIES if name in asked)


def _verdict(results: list[FamilyFit], close: list[FamilyFit], chosen: FamilyFit, threshold: float) -> str:
    if len(results) == 1:
        return f"{chosen.name}, the only family compared"
    if len(close) == len(results):
        return f"indistinguishable: all families are within {threshold:.2g} bits per weight of each other"
    others = [fitted.name for fitted in close if fitted is not chosen]
    beside = f"; {', '.join(others)} {'is' if len(others) == 1 else 'are'} indistinguishable from it" if others else ""
    rival = next(fitted for fitted in results if fitted.lost > threshold)
    return f"{chosen.name}{beside}; {rival.name} is next and loses {rival.lost:.2g} bits per weight"


# How each family is fitted, to values in units of their root mean square.


def _gaussian(sample: Sample, ggd: FitResult, rms: float) -> Density:
    return GGD(2.0, math.sqrt(2.0))


def _laplace(sample: Sample, ggd: FitResult, rms: float) -> Density:
    return GGD(1.0, float(np.dot(sample.weight, np.abs(sample.x))))


def _ggd(sample: Sample, ggd: FitResult, rms: float) -> Density:
    return GGD(ggd.shape, ggd.scale / rms)


def _logistic(sample: Sample, ggd: FitResult, rms: float) -> Density:
    return rival_fits.fit_logistic(sample)


def _student(sample: Sample, ggd: FitResult, rms: float) -> Density:
    return rival_fits.fit_student(sample)


def _spike_and_slab(sample: Sample, ggd: FitResult, rms: float) -> Density:
    return rival_fits.fit_spike_and_slab(sample)


def _asymmetric(sample: Sample, ggd: FitResult, rms: float) -> Density:
    below = sample.x < 0

    def member(p: float) -> AsymmetricGGD:
        power = sample.weight * np.abs(sample.x) ** p
        return likeliest(p, float(power[below].sum()), float(power[~below].sum()))

    def loss(log_p: float) -> float:
        return -float(np.dot(sample.weight, member(math.exp(log_p)).logpdf(sample.x)))

    centre, ends = math.log(ggd.shape), [math.log(end) for end in SHAPE_RANGE]
    bounds = (max(centre - 1.0, ends[0]), min(centre + 1.0, ends[1]))
    return member(math.exp(optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-7}).x))


_FAMILIES: dict[str, Callable[[Sample, FitResult, float], Density]] = {
    "gaussian": _gaussian,
    "laplace": _laplace,
    "logistic": _logistic,
    "ggd": _ggd,
    "student-t": _student,
    "asymmetric-ggd": _asymmetric,
    "spike-and-slab": _spike_and_slab,
}


def _parameters(density: Density, rms: float) -> dict[str, float]:
    """Return a family's free parameters in the unit of the data."""
    if isinstance(density, GGD):
        shape = {} if density.shape in (1.0, 2.0) else {"shape": density.shape}
        return {**shape, "scale": density.scale * rms}
    unitless = ("shape", "df", "spike_share")
    values: dict[str, float] = asdict(density)  # type: ignore[call-overload]
    return {name: value if name in unitless else value * rms for name, value in values.items()}


# Distances between distribution functions.


def _distances(steps: tuple[Array, Array], density: Density) -> tuple[float, float]:
    """Return the Kolmogorov-Smirnov distance and the area between the distribution functions."""
    place, share = steps
    return float(np.max(np.abs(density.cdf(place) - share))), area_between(place, share, density.cdf)


class Agreement(NamedTuple):
    """What the three estimators say of the same data.

    Attributes
    ----------
    fits : dict of str to FitResult
        By method: ``ml``, ``moments``, ``half-moments``.
    relative : dict of str to float
        Shape of each moment method over that of maximum likelihood, less 1.
    z : dict of str to float
        The same difference in its standard errors, if the data were generalized Gaussian (Hausman's test: the variance
        of the difference is the difference of the variances).
    """

    fits: dict[str, FitResult]
    relative: dict[str, float]
    z: dict[str, float]


def compare_estimators(x: ArrayLike | MagnitudeHistogram) -> Agreement:
    """Fit by every method: on generalized Gaussian data they agree, otherwise they split.

    Parameters
    ----------
    x : array_like or MagnitudeHistogram
        Data, or its summary.

    Returns
    -------
    Agreement
        NaN where there is no fit.

    Raises
    ------
    ValueError
        As `fit`.

    Examples
    --------
    >>> agreement = compare_estimators(GGD(0.8).sample(100_000, seed=0))
    >>> max(map(abs, agreement.z.values())) < 5
    True
    """
    histogram = x if isinstance(x, MagnitudeHistogram) else MagnitudeHistogram.from_array(x)
    ml, moments, half = fit(histogram), fit(histogram, "moments"), fit(histogram, "half-moments")
    relative, z = {}, {}
    for other in (moments, half):
        relative[other.method] = other.shape / ml.shape - 1.0
        if math.isnan(ml.shape):
            z[other.method] = math.nan
            continue
        errors = standard_errors(ml.distribution, ml.n, other.method)
        z[other.method] = (other.shape - ml.shape) / math.sqrt(errors.shape**2 - ml.stderr.shape**2)
    return Agreement({"ml": ml, "moments": moments, "half-moments": half}, relative, z)

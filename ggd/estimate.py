"""Fitting a generalized Gaussian to data or to its one-pass summary."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from ggd import goodness
from ggd.arrays import as_numpy
from ggd.distribution import GGD
from ggd.grouped import Censored, fit_censored
from ggd.histogram import MagnitudeHistogram
from ggd.result import LARGEST_ERROR, SHAPE_RANGE, FitResult, StandardErrors, no_fit

__all__ = ["fit", "standard_errors"]

Array = NDArray[np.float64]
Method = Literal["ml", "moments", "half-moments"]

_FEWEST = 10  # distinct magnitudes below which nothing is fitted
_CHANCE = 1e-3  # of as many values that far out, below which they are outliers
_LARGEST_CHANCE = 1e-6  # of a value so large in a sample of the fit that no larger one is allowed for
_SHORT_TAIL = 3.0  # times that is the largest value of data whose tail the fit does not have
_SHORT_TAIL_OF_MISFIT = 1.5, 0.01  # the same where the fit is also this many bits per value off
OFF_CENTRE = 0.5  # a mean of more root mean squares is no centre
_PULL = 0.1, 3.0  # relative change of the shape, and change in standard errors, for which outliers are held to account

# Where the likelihood is largest at an end of the range.
AS_UNIFORM = f"the likelihood still grows at shape {SHAPE_RANGE[1]:g}: the values are spread as if uniform"
KEPT_AWAY = (
    f"the likelihood still grows at shape {SHAPE_RANGE[1]:g}: "
    "density is low near the centre (bimodal or one-sided data)"
)
TOO_HEAVY = f"the best shape is below {SHAPE_RANGE[0]:g}: the tails are too heavy for this family"


def fit(
    x: ArrayLike | MagnitudeHistogram,
    method: Method = "ml",
    *,
    loc: float | Literal["free"] = 0.0,
    shape: float | None = None,
    censor: float = 0.0,
) -> FitResult:
    r"""Fit a generalized Gaussian.

    Exact zeros are left out: under a density they have no probability, so the likelihood of a spike at zero beside
    a density is largest with the spike at the observed share of zeros and the density fitted to the rest. For data on
    a coarse grid, where zero is a rounded value, see `ggd.fit_grouped`.

    Parameters
    ----------
    x : array_like or MagnitudeHistogram
        Data of any shape, or its summary, which is all that is used: the two give the same result. NaN and infinities
        are left out, and make the fit untrusted.
    method : {"ml", "moments", "half-moments"}
        Maximum likelihood; or matching E[x^2] / E[\|x\|]^2 (what the literature uses; wasteful for shapes below 1);
        or matching E\|x\| / E[sqrt\|x\|]^2.
    loc : float or "free"
        The centre, or to find it: by maximum likelihood where the shape is above 1; otherwise the median, since the
        likelihood then has a peak at every single value. If not zero, pass the data: a summary is of magnitudes
        about zero.
    shape : float, optional
        If given, only the scale is fitted, by maximum likelihood.
    censor : float
        Share of the largest magnitudes of which only the number is used, so that outliers have no say; maximum
        likelihood only. (Of the generalized Gaussian only: the other families of `ggd.select` and
        `ggd.fit_asymmetric` are fitted to all values.)

    Returns
    -------
    FitResult
        Data that determine no shape (all zeros, a single value, a constant magnitude, uniform data) give NaN
        parameters, ``trusted=False`` and the reason. A fit that does not describe the data (values of two clusters, of
        one sign, on a coarse grid), that a few outliers decide, or whose tail ends long before the data's, has its
        numbers, ``trusted=False`` and the reason.

    Raises
    ------
    ValueError
        If x is empty or not numeric, or an option makes no sense.

    Notes
    -----
    The shape is the maximum of the likelihood of all the data to a relative error of 1e-6 for shapes up to 4. Above,
    the powers vary inside a cell of the summary, whose mean is known but whose variance is not: the difference grows to
    some 3e-3 standard errors of the shape at 20, for any number of values.

    Examples
    --------
    >>> x = GGD(0.8, 0.02).sample(100_000, seed=0)
    >>> result = fit(x)
    >>> result.trusted, result.n, bool(abs(result.shape - 0.8) < 5 * result.stderr.shape)
    (True, 100000, True)
    >>> x[:5] = 1e3
    >>> fit(x).reason.split(":")[0]
    '5 of 100,000 values lie beyond what this fit predicts'
    >>> bool(fit(x).shape < 0.75), bool(abs(fit(x, censor=0.001).shape - 0.8) < 5 * result.stderr.shape)
    (True, True)
    """
    if method not in ("ml", "moments", "half-moments"):
        raise ValueError(f"unknown method {method!r}: choose 'ml', 'moments' or 'half-moments'")
    if not 0.0 <= censor < 1.0 or (censor and (method != "ml" or shape is not None)):
        raise ValueError("censor is a share from 0 to 1 of the largest magnitudes, for maximum likelihood of the shape")
    if loc == "free":
        if isinstance(x, MagnitudeHistogram):
            raise ValueError("a summary is of magnitudes about zero: to fit the centre, pass the data")
        return _fit_centre(x, lambda y, centre: _fit_about(y, method, centre, shape, censor))
    centre = float(loc)
    if not math.isfinite(centre):
        raise ValueError(f"the centre of a fit must be finite, got {centre!r}")
    if isinstance(x, MagnitudeHistogram) and centre != 0.0:
        raise ValueError(f"a summary can only be fitted about zero: to fit about {centre!r}, pass the data")
    return _fit_about(x, method, centre, shape, censor)


def _fit_about(
    x: ArrayLike | MagnitudeHistogram, method: Method, loc: float, shape: float | None, censor: float
) -> FitResult:
    if loc == 0.0 or isinstance(x, MagnitudeHistogram):
        histogram = x if isinstance(x, MagnitudeHistogram) else MagnitudeHistogram.from_array(x)
        size, zeros = histogram.size, histogram.zero_count
    else:
        plain = _numbers(x)
        nonzero = plain[plain != 0]
        size, zeros = plain.size, plain.size - nonzero.size
        histogram = MagnitudeHistogram.from_array(nonzero - loc)
    if size == 0:
        raise ValueError("there is nothing to fit: the data are empty")
    n = histogram.nonzero_count
    name = "ml" if shape is not None else method
    if zeros == size:
        return no_fit(loc, name, n, zeros, f"all {zeros} values are zero")
    if n == 0:
        return no_fit(loc, name, n, zeros, f"none of the {size} values is finite and not zero")
    data = _Magnitudes.of(histogram)
    if shape is None and data.distinct < _FEWEST:
        reason = f"too few distinct magnitudes to determine a shape: {data.distinct} among {n} nonzero values"
        return no_fit(loc, name, n, zeros, reason + _why_few(histogram))
    if censor:
        return _doubted(fit_censored(data.censored(histogram, censor), loc, n, zeros), histogram)
    if shape is not None:
        shape_or_reason: float | str = GGD(shape).shape
    elif method == "ml":
        shape_or_reason = _ml_shape(data)
        if shape_or_reason == AS_UNIFORM and not _even(data, histogram):
            shape_or_reason = KEPT_AWAY
    else:
        shape_or_reason = _moment_shape(data, 1.0 if method == "moments" else 0.5)
    if isinstance(shape_or_reason, str):
        return no_fit(loc, name, n, zeros, "; ".join(filter(None, (shape_or_reason, _off_centre(histogram, loc)))))
    q = {"ml": shape_or_reason, "moments": 1.0, "half-moments": 0.5}[name]
    log_scale = (data.log_moment(q) - _log_unit_moment(shape_or_reason, q)) / q
    fitted = GGD(shape_or_reason, data.unit * math.exp(log_scale), loc)
    loglik = -fitted._log_norm - math.exp(data.log_moment(shape_or_reason) - shape_or_reason * log_scale)
    errors = standard_errors(fitted, n, name)
    if shape is not None:
        errors = StandardErrors(0.0, fitted.scale / math.sqrt(n * shape_or_reason))
    result = FitResult(shape_or_reason, fitted.scale, loc, errors, loglik, name, n, zeros, True)
    if shape is None and method == "ml":
        result = replace(result, reason=_outliers(data, result))
    return _doubted(result, histogram)


def _numbers(x: ArrayLike) -> Array:
    """Return the data as a flat float64 array, or refuse what a histogram refuses."""
    plain = as_numpy(x).ravel()
    MagnitudeHistogram.from_array(plain[:0])
    return plain.astype(np.float64)


def _fit_centre(x: ArrayLike, about: Callable[[ArrayLike, float], FitResult]) -> FitResult:
    """Fit with the centre at the median, then move it to the most likely place while the shape is above 1."""
    plain = _numbers(x)
    values = plain[np.isfinite(plain) & (plain != 0)]
    if values.size == 0:
        return about(x, 0.0)
    centre = float(np.median(values))
    result = about(x, centre)
    for _ in range(20):
        if not result.shape > 1.0:  # or there is none
            break
        cells = MagnitudeHistogram.from_array(values - centre).cells()
        step = _centre_step(cells.mean, cells.counts.astype(np.float64), result.shape)
        centre += step
        result = about(x, centre)
        if abs(step) < 1e-3 * result.scale / math.sqrt(result.n):
            break
    if math.isnan(result.shape):
        return result
    return replace(result, stderr=result.stderr._replace(loc=_centre_error(result)))


def _centre_step(mean: Array, count: Array, p: float) -> float:
    """Return the d that minimizes the sum of count * |mean - d|^p, p > 1."""
    unit = float(np.average(np.abs(mean), weights=count))

    def slope(d: float) -> float:
        t = mean / unit - d
        return float(np.dot(count, np.sign(t) * np.abs(t) ** (p - 1.0)))

    span = 1.0
    while span < 1e6 and not slope(-span) > 0.0 > slope(span):
        span *= 4.0
    return unit * float(optimize.brentq(slope, -span, span, xtol=1e-13))


def _centre_error(result: FitResult) -> float:
    p, a = result.shape, 1.0 / result.shape
    if p > 1.0:  # Fisher information of loc: p^2 Gamma(2 - 1/p) / (scale^2 Gamma(1/p))
        return result.scale / p * math.exp(0.5 * (math.lgamma(a) - math.lgamma(2.0 - a))) / math.sqrt(result.n)
    # Of the median: its rank is off by sqrt(n) / 2. The density at the peak says nothing of how far that is for a cusp.
    return float(GGD(p, result.scale).ppf(0.5 + 0.5 / math.sqrt(result.n)))


def _why_few(histogram: MagnitudeHistogram) -> str:
    """Return what makes distinct magnitudes few, where it is not the data themselves."""
    limits = np.finfo(np.float32)
    if histogram.abs_max > float(limits.max) or 0 < histogram.abs_max < float(limits.tiny):
        return "; they lie beyond the normal float32 numbers, to which magnitudes are counted: scale the data first"
    low, high = sorted((abs(histogram.min), abs(histogram.max)))
    if (histogram.min > 0 or histogram.max < 0) and low > 0.5 * high:
        return "; they lie about a number other than zero: fit with loc='free'"
    return ""


def _doubted(result: FitResult, histogram: MagnitudeHistogram) -> FitResult:
    """Return the result with how well it describes the data, and the objections to it."""
    if result.method != "censored" and not math.isnan(result.shape):
        result = replace(result, misfit=_misfit(histogram, result.shape, result.scale))
    reason = _doubt(histogram, result)
    return replace(result, reason=reason, trusted=not reason)


def _misfit(histogram: MagnitudeHistogram, shape: float, scale: float) -> float:
    """Return how many bits per value a histogram saves against a generalized Gaussian about zero."""
    n = histogram.nonzero_count
    ends = goodness.equal_cells(shape, scale, n)
    below = np.arange(1, ends.size + 1) / (ends.size + 1)
    return goodness.misfit(goodness.smoothed(histogram.cells()), ends, below, n)


def _doubt(histogram: MagnitudeHistogram, result: FitResult) -> str:
    """Return why a fit that was found should not be trusted, or an empty string."""
    bad = histogram.nan_count + histogram.inf_count
    clamped = histogram.clamped_low + histogram.clamped_high
    shape, error = result.shape, result.stderr.shape
    if bad:
        return f"{histogram.nan_count} NaN and {histogram.inf_count} infinite values were left out"
    if clamped:
        return f"{clamped} values are beyond the range of float32: rescale the data first"
    if result.reason:  # outliers
        return result.reason
    if result.misfit > goodness.limit(histogram.nonzero_count) and error > 0.0:  # no shape was asked for
        return _off_centre(histogram, result.loc) or (
            f"no generalized Gaussian about {result.loc:.3g} describes the values: a histogram saves "
            f"{result.misfit:.2g} bits per value"
        )
    if tail := _short_tail(histogram, result):
        return tail
    if error > LARGEST_ERROR * shape:
        return f"too few values ({histogram.nonzero_count}): the standard error of the shape is {error:.2g}"
    return ""


def _short_tail(histogram: MagnitudeHistogram, result: FitResult) -> str:
    """Say that the largest value lies far beyond all that the fit allows for, or nothing if it does not."""
    if not result.stderr.shape > 0.0 or result.method == "censored":  # the shape was asked for, or the tail left out
        return ""
    a, n = 1.0 / result.shape, result.n
    allowed = result.scale * float(special.gammainccinv(a, _LARGEST_CHANCE / n)) ** a
    ratio = histogram.abs_max / allowed
    if not (ratio > _SHORT_TAIL or (ratio > _SHORT_TAIL_OF_MISFIT[0] and result.misfit > _SHORT_TAIL_OF_MISFIT[1])):
        return ""
    cells = histogram.cells()
    beyond = int(cells.counts[np.abs(cells.mean) > allowed].sum())
    call = f"ggd.fit(w, censor={2.0 * max(beyond, 1) / n:.1g})"
    return (
        f"the tail is heavier than this fit's: the largest of {n:,} values, {histogram.abs_max:.3g}, is {ratio:.2g} "
        f"times as large as any that it allows; in Python: {call}"
    )


def _off_centre(histogram: MagnitudeHistogram, loc: float) -> str:
    """Say that values do not lie about the centre that a fit used, or nothing if they do."""
    cells = histogram.cells()
    mean = float(np.dot(cells.counts, cells.mean)) / histogram.nonzero_count
    rms = math.sqrt(float(np.dot(cells.counts, cells.mean**2)) / histogram.nonzero_count)
    if abs(mean) <= OFF_CENTRE * rms:
        return ""
    call = "ggd.fit(w, loc='free')"
    return f"the values do not lie about the centre {loc:.3g}: their mean is {mean + loc:.3g}; in Python: {call}"


def _outliers(data: _Magnitudes, result: FitResult) -> str:
    """Return the objection to a few values that no sample of the fit has and that decide its shape, or nothing.

    Data with a heavier tail than the fit have such values too, but without them the shape is much the same.
    """
    # Of interest is only where less than one value is expected.
    a = 1.0 / result.shape
    limit = math.log(result.scale / data.unit) + a * math.log(special.gammainccinv(a, 1.0 / result.n))
    order = np.flatnonzero(data.log > limit)
    if not order.size:
        return ""
    order = order[np.argsort(-data.log[order], kind="stable")]
    beyond = np.cumsum(data.count[order])
    t = np.exp(data.log[order] + math.log(data.unit / result.scale))
    expected = 2.0 * result.n * np.asarray(GGD(result.shape).sf(t))
    # The chance of so many values that far out, if at least one is not expected there, is of a Poisson count.
    index = np.flatnonzero(special.gammainc(beyond, expected) < _CHANCE)
    if not index.size:
        return ""
    outliers, rest = int(beyond[index[-1]]), np.delete(np.arange(data.log.size), order[: index[-1] + 1])
    log = data.log[rest]
    others = replace(data, log=log, count=data.count[rest], spread=data.spread[rest], log_max=float(log.max()))
    without = _ml_shape(others)
    if isinstance(without, str):
        shift = f"without them {without}"
    elif without - result.shape > max(_PULL[0] * result.shape, _PULL[1] * result.stderr.shape):
        shift = f"they move the shape from {without:.3g} to {result.shape:.3g}"
    else:
        return ""
    call = f"ggd.fit(w, censor={2.0 * outliers / result.n:.1g})"
    return f"{outliers:,} of {result.n:,} values lie beyond what this fit predicts: {shift}; in Python: {call}"


@dataclass(frozen=True)
class _Magnitudes:
    """Nonzero magnitudes in units of their mean: log of each cell's mean, its count and spread."""

    log: Array
    count: Array
    spread: Array
    unit: float
    distinct: int  # at least this many different magnitudes
    log_max: float

    @classmethod
    def of(cls, histogram: MagnitudeHistogram) -> _Magnitudes:
        cells = histogram.cells()
        count = cells.counts.astype(np.float64)
        magnitude = np.abs(cells.mean)
        unit = float(np.sum(count * (magnitude / magnitude.max())) / count.sum() * magnitude.max())
        distinct = np.unique(magnitude).size
        log = np.log(magnitude) - math.log(unit)
        return cls(log, count, cells.spread, unit, distinct, math.log(histogram.abs_max) - math.log(unit))

    def coarser(self) -> _Magnitudes:
        """Return the same with 16 cells an octave, for a shape to within about 1e-4: the start of a search."""
        place = np.floor(self.log * (16.0 / math.log(2.0))).astype(np.int64)
        place -= place.min()
        magnitude = np.exp(self.log)
        count = np.bincount(place, self.count).astype(np.float64)
        used = count > 0
        first, second = (
            np.bincount(place, self.count * moment)[used] / count[used]
            for moment in (magnitude, magnitude**2 * (1.0 + self.spread))
        )
        spread = np.maximum(second / first**2 - 1.0, 0.0)
        return replace(self, log=np.log(first), count=count[used], spread=spread)

    def censored(self, histogram: MagnitudeHistogram, share: float) -> Censored:
        """Return the magnitudes with at least that share of the largest known only by number."""
        cells = histogram.cells()
        far = np.maximum(np.abs(cells.left), np.abs(cells.right))
        order = np.argsort(far, kind="stable")
        below = np.cumsum(self.count[order])
        # Cells of both signs share an end; the limit is the largest end with enough above it.
        enough = below <= (1.0 - share) * below[-1]
        limit = float(far[order][enough][-1]) if np.any(enough) else float(far.min())
        keep = far <= limit
        above = int(self.count[~keep].sum())
        return Censored(self.log[keep], self.count[keep], self.spread[keep], limit / self.unit, above, self.unit)

    def power_sums(self, p: float | Array) -> tuple[Array, Array, Array]:
        """Return log of S = mean |x|^p, S'/S and S''/S, derivatives with respect to p; of p's shape.

        The spread of a cell round its mean enters to second order, unless the cell is that of subnormal numbers, of
        which the second order says nothing: a weight stays positive.
        """
        q = np.asarray(p, dtype=np.float64)[..., None]
        exponent = q * self.log
        top = exponent.max(axis=-1, keepdims=True)
        power = self.count * np.exp(exponent - top)
        weight = power * np.maximum(1.0 + 0.5 * q * (q - 1.0) * self.spread, 1e-3)
        s0 = weight.sum(axis=-1)
        spread, p1 = power * self.spread, q[..., 0] - 0.5
        s1 = weight @ self.log + p1 * spread.sum(axis=-1)
        s2 = weight @ self.log**2 + 2.0 * p1 * (spread @ self.log) + spread.sum(axis=-1)
        return np.log(s0 / self.count.sum()) + top[..., 0], s1 / s0, s2 / s0

    def log_moment(self, p: float) -> float:
        """Return log of the mean of |x / unit|^p."""
        return float(self.power_sums(p)[0])


def _log_unit_moment(shape: float, q: float) -> float:
    """Return log E|t|^q of the standard distribution."""
    a = 1.0 / shape
    return math.lgamma(1.0 + (q + 1.0) * a) - math.lgamma(1.0 + a) - math.log(q + 1.0)


def _profile(data: _Magnitudes, p: float | Array) -> tuple[Array, Array, Array]:
    """Return the profile log-likelihood per value, p^2 times its derivative in p, and the slope of that.

    With the scale at its best, scale^p = p S(p), S the mean of |x|^p (Varanasi and Aazhang 1989):
    L = log p - log 2 - log Gamma(1/p) - log(p S)/p - 1/p, and p^2 L' = p + psi(1/p) + log(p S) - p S'/S.
    """
    log_s, s1, s2 = data.power_sums(p)
    a = 1.0 / np.asarray(p)
    log_ps = np.log(p) + log_s
    value = -math.log(2.0) - special.gammaln(1.0 + a) - a * (log_ps + 1.0)
    score = p + special.digamma(a) + log_ps - p * s1
    slope = 1.0 + a - special.zeta(2.0, a) * a * a - p * (s2 - s1 * s1)
    return value, score, slope


def _ml_shape(data: _Magnitudes) -> float | str:
    """Return the shape of largest profile likelihood, or the reason why there is none."""
    start = _searched_shape(data.coarser())
    if isinstance(start, float):
        low, high = start / 1.01, start * 1.01
        root = _newton(lambda p: _profile(data, p)[1:], low, high)
        if low * 1.0001 < root < high / 1.0001:  # not at an end, so it is a root
            return root
    return _searched_shape(data)


def _searched_shape(data: _Magnitudes) -> float | str:
    """Return what `_ml_shape` does, by a search of the whole range."""
    grid = np.geomspace(*SHAPE_RANGE, 24)
    _, score, _ = _profile(data, grid)
    # A maximum lies where the score passes from positive to negative; more than one is possible for few data.
    falls = [i for i in range(len(grid) - 1) if score[i] > 0.0 >= score[i + 1]]
    roots = [_newton(lambda p: _profile(data, p)[1:], float(grid[i]), float(grid[i + 1])) for i in falls]
    best = max(roots, key=lambda p: float(_profile(data, p)[0]), default=None)
    # As the shape grows the likelihood tends to that of the uniform density on +- max|x|.
    uniform = -math.log(2.0) - data.log_max
    if score[-1] > 0.0 and (best is None or uniform > _profile(data, best)[0]):
        return AS_UNIFORM
    if best is None:
        return TOO_HEAVY
    return best


def _even(data: _Magnitudes, histogram: MagnitudeHistogram) -> bool:
    """Tell whether the largest shape, which is all but uniform, describes the data."""
    shape = SHAPE_RANGE[1]
    scale = data.unit * math.exp((data.log_moment(shape) + math.log(shape)) / shape)
    return _misfit(histogram, shape, scale) <= goodness.limit(histogram.nonzero_count)


def _newton(score: Callable[[float], tuple[Array, Array]], low: float, high: float) -> float:
    """Return the root of a score falling from low to high, by Newton in log p inside a shrinking bracket."""
    p = math.sqrt(low * high)
    for _ in range(60):
        value, slope = (float(number) for number in score(p))
        if value > 0.0:
            low = p
        else:
            high = p
        new = p * math.exp(max(-1.0, min(1.0, -value / (p * slope)))) if slope < 0.0 else high
        if not low < new < high:
            new = math.sqrt(low * high)
        if abs(new - p) <= 1e-7 * p:  # what is left is of the order of the square
            return new
        p = new
    return p


def _moment_shape(data: _Magnitudes, q: float) -> float | str:
    """Return the shape whose E|t|^2q / (E|t|^q)^2 is that of the data, or the reason why there is none."""
    observed = data.log_moment(2.0 * q) - 2.0 * data.log_moment(q)

    def excess(log_p: float) -> float:
        p = math.exp(log_p)
        return _log_unit_moment(p, 2.0 * q) - 2.0 * _log_unit_moment(p, q) - observed

    low, high = (math.log(end) for end in SHAPE_RANGE)
    if excess(high) > 0.0:  # the ratio falls as the shape grows
        return f"the moments ask for a shape above {SHAPE_RANGE[1]:g}: the values are spread as if uniform"
    if excess(low) < 0.0:
        return f"the moments ask for a shape below {SHAPE_RANGE[0]:g}: the tails are too heavy for this family"
    return math.exp(float(optimize.brentq(excess, low, high, xtol=1e-14, rtol=1e-14)))


def standard_errors(d: GGD, n: int, method: str) -> StandardErrors:
    """Return the standard errors that a method has on data of a distribution.

    Parameters
    ----------
    d : GGD
        The truth, or its estimate.
    n : int
        Number of independent values.
    method : str
        ``ml`` (the inverse of the Fisher information: the Cramer-Rao bound), ``moments`` or ``half-moments`` (by the
        delta method).

    Returns
    -------
    StandardErrors

    Examples
    --------
    The moment ratio is wasteful below shape 1: it needs three times the data at shape 0.5.

    >>> ml, moments = (standard_errors(GGD(0.5), 1000, method).shape for method in ("ml", "moments"))
    >>> round((ml / moments) ** 2, 2)
    0.3
    """
    p, a = d.shape, 1.0 / d.shape
    if method == "ml":
        trigamma = float(special.polygamma(1, 1.0 + a))
        inside = (1.0 + a) * trigamma - 1.0
        # Inverse of the Fisher information of (p, log scale); its entries, with z = |t|^p ~ Gamma(a):
        # E[score_scale^2] = p, E[score_p score_scale] = -a (1 + psi(1 + a)).
        var_shape = p**3 / inside
        cross = a * (1.0 + float(special.digamma(1.0 + a)))
        var_log_scale = 1.0 / p + (cross / p) ** 2 * var_shape
    else:
        q = 1.0 if method == "moments" else 0.5
        m = [math.exp(_log_unit_moment(p, k * q)) for k in range(5)]
        # Covariance, per value, of (log mean|t|^q, log mean|t|^2q).
        covariance = np.array(
            [
                [m[2] / m[1] ** 2 - 1.0, m[3] / (m[1] * m[2]) - 1.0],
                [m[3] / (m[1] * m[2]) - 1.0, m[4] / m[2] ** 2 - 1.0],
            ]
        )
        # The fit solves log m_q = q log scale + g(p), log m_2q = 2 q log scale + h(p).
        jacobian = np.array([[_moment_slope(p, q), q], [_moment_slope(p, 2.0 * q), 2.0 * q]])
        inverse = np.linalg.inv(jacobian)
        (var_shape, _), (_, var_log_scale) = inverse @ covariance @ inverse.T
    return StandardErrors(math.sqrt(var_shape / n), d.scale * math.sqrt(var_log_scale / n))


def _moment_slope(p: float, q: float) -> float:
    """Return the derivative of log E|t|^q with respect to the shape."""
    a = 1.0 / p
    return float(special.digamma(1.0 + a) - (q + 1.0) * special.digamma(1.0 + (q + 1.0) * a)) * a * a

"""What follows from the rows: intervals over the seeds, and a verdict on each claim by a rule that it states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import scoring
from agenda import BASELINE, SEEDS
from scipy.stats import t as student
from scoring import Row

FEWEST = 3  # seeds that an interval needs
NEAR = 0.03  # nats: a loss this close to that of unrounded weights is called as good
FAR = 0.1  # nats: nearly
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over the seeds and its confidence interval, Student's; NaN at the ends where seeds are too few."""

    mean: float
    low: float
    high: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """Return the interval of some numbers, one a seed."""
        if not values:
            return cls(math.nan, math.nan, math.nan, 0)
        centre, count = mean(values), len(values)
        if count < FEWEST:
            return cls(centre, math.nan, math.nan, count)
        half = float(student.ppf((1 + LEVEL) / 2, count - 1)) * stdev(values) / math.sqrt(count)
        return cls(centre, centre - half, centre + half, count)

    def verdict(self, limit: float = 0.0) -> str:
        """Return whether the mean is below a limit: not shown where the limit is inside the interval."""
        if self.seeds < FEWEST:
            return "too few seeds"
        if self.high < limit:
            return "holds"
        return "not shown" if self.low < limit else "does not hold"


def changes(rows: list[Row], family: str, *, measure: str = "loss", rate: str = "bits") -> dict[int, float]:
    """Return the log of the rate ratio of a family's chosen strength to coding alone, by seed.

    Seeds without all runs of the family are left out; a seed whose curve reaches too little of the baseline's quality
    is infinite: at that quality the recipe is not to be had at any rate.
    """
    strength, logs = scoring.chosen(rows, family), {}
    for seed in SEEDS:
        if scoring.complete(rows, family, strength, seed):
            options = {"part": "test", "measure": measure, "rate": rate}
            change = scoring.against_baseline(rows, family, strength, seed, **options)
            if change is not None:
                logs[seed] = math.log1p(change.change) if scoring.fit(change) else math.inf
    return logs


def paired(rows: list[Row], family: str, other: str, *, measure: str = "loss") -> dict[int, float]:
    """Return the log of the rate ratio of two families at equal quality, by seed."""
    options = {"part": "test", "measure": measure}
    logs = {}
    for seed in SEEDS:
        strengths = {name: scoring.chosen(rows, name) for name in (family, other)}
        if all(scoring.complete(rows, name, strengths[name], seed) for name in strengths):
            ours, theirs = (scoring.curve(rows, name, strengths[name], seed, **options) for name in (family, other))
            rate = scoring.compare(theirs, ours, measure)
            logs[seed] = math.log1p(rate.change) if scoring.fit(rate) else math.inf
    return logs


def interval(logs: dict[int, float]) -> Interval:
    """Return the interval of a relative change from logs of ratios; infinite where a seed's is."""
    values = list(logs.values())
    if any(math.isinf(value) for value in values):
        return Interval(math.inf, math.nan, math.inf, len(values))
    of_logs = Interval.of(values)
    return Interval(*(math.expm1(end) for end in (of_logs.mean, of_logs.low, of_logs.high)), of_logs.seeds)


# --- the claims -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """A claim, what came of it, and by which numbers."""

    text: str
    verdict: str
    numbers: str


SAVES = {
    "source": "The source's step saves bits over quantizing and coding alone",
    "prior": "The prior with estimated shapes saves bits over quantizing and coding alone",
    "l1": "L1 saves bits over quantizing and coding alone",
    "rounded": "Rounding while training saves bits over quantizing and coding alone",
    "rounded-source": "Rounding and the source's step together save bits over quantizing and coding alone",
}
TENTH = 0.1
LARGE = {
    "source": "The source's step saves a tenth of the bits or more over quantizing and coding alone",
    "rounded-source": "Rounding and the source's step together save a tenth or more",
}
PAIRS = {
    ("source", "l1"): "The source's step saves more than L1",
    ("prior", "l1"): "Estimated shapes save more than L1",
    ("rounded-source", "rounded"): "The source's step saves bits on top of rounding while training",
}
TOTAL = 0.9  # of float32, by the source
RF8_COST = 0.02  # nats
UNTESTED = (
    "The prior makes 80 to 90 % pruning free",
    "Generalized Gaussian initialization trains better",
    "DeepShape saves bits",
    "The savings grow over epochs of training from the start, all parameters constrained",
)


def claims(rows: list[Row]) -> list[Claim]:
    """Return every claim with its verdict, computed from the rows."""
    judged = [_claim(text, interval(changes(rows, family))) for family, text in SAVES.items()]
    judged += [_claim(text, interval(changes(rows, family)), -TENTH) for family, text in LARGE.items()]
    judged += [_claim(text, interval(paired(rows, *pair))) for pair, text in PAIRS.items()]
    judged += [_total(rows), _coding_alone(rows), _rf8(rows)]
    return judged + [Claim(text, "not tested at this scale", "–") for text in UNTESTED]


def _claim(text: str, change: Interval, limit: float = 0.0) -> Claim:
    if not change.seeds:
        return Claim(text, "too few seeds", "no runs yet")
    return Claim(text, change.verdict(limit), f"bits {percents(change)}, {change.seeds} seeds")


def _total(rows: list[Row]) -> Claim:
    """Return the claim of 90 %, of the total."""
    family, strength = scoring.best_prior(rows)
    bits = scoring.bits_near(rows, family, NEAR)
    text = f"The best prior and coding take 90 % off float32 at a loss within {NEAR:g} nats of unrounded plain weights"
    return _share(f"{text} ({scoring.title(family, strength)})", bits)


def _coding_alone(rows: list[Row]) -> Claim:
    return _share(
        "Coding alone takes 90 % off float32 at that loss, without any prior", scoring.bits_near(rows, BASELINE, NEAR)
    )


def _share(text: str, bits: dict[int, float]) -> Claim:
    if not bits:
        return Claim(text, "too few seeds", "no runs yet")
    left = [value / 32 for value in bits.values()]
    if any(math.isinf(value) for value in left):
        return Claim(text, "does not hold", "quality not reached on some seed by the steps measured")
    share = Interval.of(left)
    ends = "" if math.isnan(share.low) else f" ({100 * (1 - share.high):.1f} to {100 * (1 - share.low):.1f} %)"
    return Claim(text, share.verdict(1 - TOTAL), f"{100 * (1 - share.mean):.1f} %{ends} off, {share.seeds} seeds")


def _rf8(rows: list[Row]) -> Claim:
    costs = []
    for run, row in scoring.rows_of(rows, "formats").items():
        losses = {each["format"]: each["test"]["loss"] for each in row["formats"]}
        if run.family == BASELINE:
            costs.append(losses["rf8/tensor"] - losses["float32"])
    cost = Interval.of(costs)
    text = f"RF8, one scale a tensor, costs the plain model less than {RF8_COST:g} nats"
    if not costs:
        return Claim(text, "too few seeds", "no runs yet")
    return Claim(text, cost.verdict(RF8_COST), f"{cost.mean:+.4f} nats, {cost.seeds} seeds")


def percents(change: Interval) -> str:
    """Return a relative change and its interval in words."""
    if math.isinf(change.mean):
        return "quality not reached on some seed"
    ends = "" if math.isnan(change.low) else f" ({100 * change.low:+.1f} to {100 * change.high:+.1f} %)"
    return f"{100 * change.mean:+.1f} %{ends}"

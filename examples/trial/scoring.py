"""The rows of the runs as curves of rate against quality, and these against quantizing and coding alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from agenda import BASELINE, FAMILIES, SEEDS, Run, ranked, runs_of

from rf8sim.studies.rate_curves import BDRate, bd_rate, rate_at

Row = dict[str, Any]
Curve = tuple[list[float], list[float]]
WITHIN = {"loss": 0.3, "accuracy": 0.1}  # of the baseline's best: a model worse than that is not used
MISSED = 0.25  # of the baseline's range of quality: the most that may be better than all of a curve


def read(path: Path) -> list[Row]:
    """Return the rows of a file, none if there is no file yet; a last line cut short is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def runs(rows: list[Row]) -> dict[Run, Row]:
    """Return the rows of fine-tunings by their run."""
    return rows_of(rows, "run")


def curve(
    rows: list[Row], family: str, strength: float | None, seed: int, *, part: str, measure: str, rate: str = "bits"
) -> Curve | None:
    """Return rates and qualities of a recipe on a seed: of a rounded family a point for each run. None without rows."""
    measured = list(points(rows, family, strength, seed))
    if not measured or (FAMILIES[family].rounded and len(measured) < 2):
        return None
    sign = -1.0 if measure == "loss" else 1.0
    return [point[rate] for point in measured], [sign * point[part][measure] for point in measured]


def points(rows: list[Row], family: str, strength: float | None, seed: int) -> Iterator[Row]:
    """Yield the points that a recipe came to on a seed, at the steps of the setting."""
    for run, row in runs(rows).items():
        if (run.family, run.strength, run.seed) == (family, strength, seed):
            yield from (point for point in row["curve"] if point["step"] in row["setting"]["grid"])


def against_baseline(
    rows: list[Row], family: str, strength: float | None, seed: int, *, part: str, measure: str, rate: str = "bits"
) -> BDRate | None:
    """Return the BD-rate of a recipe against the plain model, quantized and coded, of its seed; None without rows."""
    options = {"part": part, "measure": measure, "rate": rate}
    theirs = curve(rows, family, strength, seed, **options)
    plain = curve(rows, BASELINE, 0.0, seed, **options)
    return None if theirs is None or plain is None else compare(plain, theirs, measure)


def compare(reference: Curve, curve: Curve, measure: str) -> BDRate:
    """Return the BD-rate of a curve against another, over the qualities that are of use."""
    return bd_rate(reference, curve, within=WITHIN[measure])


def fit(rate: BDRate) -> bool:
    """Return whether a curve reaches enough of the baseline's quality to be compared."""
    return rate.missed <= MISSED and not math.isnan(rate.change)


def score(rows: list[Row], family: str, strength: float | None) -> float | None:
    """Return what a strength is chosen by: the BD-rate by the development loss on the first seed; None if unfit."""
    rate = against_baseline(rows, family, strength, SEEDS[0], part="develop", measure="loss")
    return rate.change if rate is not None and fit(rate) else None


def chosen(rows: list[Row], family: str) -> float | None:
    """Return the best strength of a family, by the development texts of the first seed; None if none was tried."""
    return next(iter(ranked(FAMILIES[family], set(runs(rows)), partial(score, rows))), None)


def title(family: str, strength: float | None) -> str:
    """Return what a recipe is called."""
    return FAMILIES[family].title + (f", {strength:g}" if strength else "")


def best_prior(rows: list[Row]) -> tuple[str, float | None]:
    """Return the family and strength that are best of those that constrain plain weights from the trunk on."""
    priors = [
        (name, chosen(rows, name)) for name, f in FAMILIES.items() if f.constraint and not (f.rounded or f.always)
    ]
    scores = {recipe: score(rows, *recipe) for recipe in priors}
    return min(scores, key=lambda recipe: math.inf if (value := scores[recipe]) is None else value)


def complete(rows: list[Row], family: str, strength: float | None, seed: int) -> bool:
    """Return whether all runs of a recipe on a seed are made."""
    made = runs(rows)
    return strength is not None and all(run in made for run in runs_of(FAMILIES[family], strength, seed))


def seed_complete(rows: list[Row], seed: int, *, late: bool = False) -> bool:
    """Return whether a seed has all runs of the families that it needs, or of all that start from its trunk."""
    names = [name for name, family in FAMILIES.items() if family.needed or (late and not family.always)]
    return all(complete(rows, name, chosen(rows, name), seed) for name in names)


def unrounded_rise(rows: list[Row], family: str) -> dict[int, float]:
    """Return the test loss of a family's unrounded weights less the plain model's, by seed."""
    made, strength = runs(rows), chosen(rows, family)
    losses = {
        (run.family, run.seed): row["unrounded"]["test"]["loss"]
        for run, row in made.items()
        if row["unrounded"] is not None and run.strength == (strength if run.family == family else 0.0)
    }
    pairs = {seed: [losses.get((name, seed)) for name in (family, BASELINE)] for seed in SEEDS}
    return {seed: ours - plain for seed, (ours, plain) in pairs.items() if ours is not None and plain is not None}


def bits_near(rows: list[Row], family: str, near: float) -> dict[int, float]:
    """Return the fewest bits at which a family's test loss is so near to the plain model's unrounded, by seed."""
    strength, bits = chosen(rows, family), {}
    for seed in SEEDS:
        points = curve(rows, family, strength, seed, part="test", measure="loss")
        plain = runs(rows).get(Run(BASELINE, 0.0, seed))
        if points is not None and plain is not None and complete(rows, family, strength, seed):
            finer = rows_of(rows, "finer").get(Run(family, strength or 0.0, seed), {"curve": []})["curve"]
            rates = [*points[0], *(point["bits"] for point in finer)]
            qualities = [*points[1], *(-point["test"]["loss"] for point in finer)]
            bits[seed] = rate_at((rates, qualities), -plain["unrounded"]["test"]["loss"] - near)
    return bits


def rows_of(rows: list[Row], kind: str) -> dict[Run, Row]:
    """Return the rows of a kind by their run."""
    return {Run(**row["run"]): row for row in rows if row["kind"] == kind}


def time_of_a_step(rows: list[Row], family: str) -> str:
    """Return the least processor time of a family's training steps over the plain ones', as a ratio."""

    def least(name: str) -> float:
        made = [row for run, row in runs(rows).items() if run.family == name]
        steps = [row["setting"]["branch"] + row["setting"]["trunk"] * FAMILIES[name].always for row in made]
        return min((row["trained"] / count for row, count in zip(made, steps, strict=True)), default=math.nan)

    ours, plain = least(family), least(BASELINE)
    return f"{ours / plain:.1f} times" if ours >= 0.0 and plain > 0.0 else "–"

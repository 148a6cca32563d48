"""What a survey of a checkpoint found, in words. Every number comes from the survey; nothing is known beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from ggd.estimate import OFF_CENTRE
from ggd.survey import SPLIT, Entry, Survey

__all__ = ["verdict"]

MOVED = 0.2  # a change of the shape worth a word


def verdict(survey: Survey) -> list[str]:
    """Say in a few sentences what was found; every number is of the survey.

    Parameters
    ----------
    survey : Survey
        What was found.

    Returns
    -------
    list of str
        Which shapes; what a Gaussian and a Laplace density cost more, and where not; which tensors are not generalized
        Gaussian; what pooling does; where the estimators disagree; what could not be fitted.
    """
    trusted = [entry for entry in survey.tensors if entry.fit.trusted]
    sentences = [f"{_counted(survey.pooled.histogram.size, 'weight')} in {_counted(len(survey.tensors), 'tensor')}."]
    if trusted:
        sentences += [
            _shapes(trusted),
            _gains(trusted),
            *_exceptions(trusted),
            *_estimators(trusted),
            *_groups(trusted),
        ]
        sentences += _channels(trusted)
        if len(survey.tensors) > 1 and survey.pooled.fitted:
            sentences.append(_pooling(survey, trusted))
    return [*sentences, *_doubts(survey)]


def _shapes(fitted: Sequence[Entry]) -> str:
    shapes, hint = [entry.fit.shape for entry in fitted], "(2 is Gaussian, 1 Laplace)"
    if len(shapes) == 1:
        return f"The generalized Gaussian fitted to {fitted[0].name} has shape {shapes[0]:.2f} {hint}."
    return (
        f"The generalized Gaussians fitted to {len(shapes)} of them have shapes {min(shapes):.2f} to "
        f"{max(shapes):.2f}, median {median(shapes):.2f} {hint}."
    )


def _doubts(survey: Survey) -> Iterable[str]:
    doubted = [entry for entry in survey.tensors if not entry.fit.trusted]
    if doubted:
        named = [f"{entry.name} ({entry.fit.reason})" for entry in doubted]
        yield (
            f"{_counted(len(doubted), 'tensor')} {'has' if len(doubted) == 1 else 'have'} no trusted fit and "
            f"{'is' if len(doubted) == 1 else 'are'} left out above: {_listed(named, 3)}."
        )
    aside = [e.name for e in survey.tensors if e.histogram.nonzero_count and abs(e.histogram.mean) > OFF_CENTRE * e.rms]
    if aside:
        yield f"The values of {_listed(aside, 4)} do not lie about zero, where all these densities have their centre."


def _gains(fitted: Sequence[Entry]) -> str:
    weights = sum(entry.fit.n for entry in fitted)
    gaussian, laplace = (
        sum(entry.fit.n * entry.excess(family) for entry in fitted) / weights for family in ("gaussian", "laplace")
    )
    better = [entry for entry in fitted if _better_than_both(entry)]
    share = sum(entry.fit.n for entry in better) / weights
    return (
        f"Averaged over the weights, a Gaussian for each tensor costs {gaussian:.4f} bits per weight more than a "
        f"generalized Gaussian, and a Laplace density {laplace:.4f}. It is better than both by more than max(1e-3, 5 x "
        f"what fitting the parameters to noise gains) bits per weight in {len(better)} of "
        f"{_counted(len(fitted), 'tensor')}, with {100 * share:.1f} % of the weights."
    )


def _better_than_both(entry: Entry) -> bool:
    return all(entry.excess(family) > entry.selection.threshold for family in ("gaussian", "laplace"))


def _exceptions(fitted: Sequence[Entry]) -> Iterable[str]:
    for family, word in (("gaussian", "a Gaussian"), ("laplace", "a Laplace density")):
        names = [entry.name for entry in fitted if entry.excess(family) <= entry.selection.threshold]
        if names:
            yield f"{word[0].upper()}{word[1:]} is as good as a generalized Gaussian in {_listed(names)}."
    others = [entry for entry in fitted if entry.finding not in ("gaussian", "laplace", "ggd")]
    if others:
        others.sort(key=lambda entry: -entry.selection["ggd"].lost)
        named = [f"{e.name} ({e.finding}, by {-e.excess(e.finding):.2g} bits per weight)" for e in others]
        weights = sum(entry.fit.n for entry in others) / sum(entry.fit.n for entry in fitted)
        yield (
            f"Another family describes {_counted(len(others), 'tensor')} ({100 * weights:.1f} % of the weights) better "
            f"than a generalized Gaussian, most of all {_listed(named, 4)}."
        )


def _estimators(fitted: Sequence[Entry]) -> Iterable[str]:
    split = [entry for entry in fitted if entry.estimators_split]
    if split:
        split.sort(key=lambda entry: -max(map(abs, entry.agreement.relative.values())))
        named = [f"{entry.name} ({_by_method(entry)})" for entry in split]
        yield (
            f"The ML, moment and half-moment estimates of the shape disagree in {len(split)} of "
            f"{_counted(len(fitted), 'tensor')}: these are not exactly generalized Gaussian; most of all "
            f"{_listed(named, 3)}."
        )
    else:
        limits = f"{100 * SPLIT[0]:.0f} % or {SPLIT[1]:.0f} standard errors"
        yield f"The ML, moment and half-moment estimates of the shape agree within {limits}."


def _by_method(entry: Entry) -> str:
    return ", ".join(f"{name} {fit.shape:.2f}" for name, fit in entry.agreement.fits.items())


def _pooling(survey: Survey, fitted: Sequence[Entry]) -> str:
    mean = sum(entry.fit.n * entry.fit.shape for entry in fitted) / sum(entry.fit.n for entry in fitted)
    levels = [(survey.equal_tensors, "every tensor"), (survey.equal_channels, "every channel")]
    scaled_to = [f"{entry.fit.shape:.2f} with {what} scaled to equal RMS" for entry, what in levels if entry.fitted]
    sentence = f"Pooled as they are, the weights look like shape {survey.pooled.fit.shape:.2f}; "
    separate = f"the tensors by themselves have {mean:.2f} on average over the weights"
    return f"{sentence}{', '.join(scaled_to)}{'; ' if scaled_to else ''}{separate}."


def _groups(fitted: Sequence[Entry]) -> Iterable[str]:
    """Say how the groups of channels of a tensor spread, and what one fit for all loses."""
    parted = [(entry, entry.groups) for entry in fitted if entry.groups is not None and entry.groups.shapes]
    if not parted:
        return
    shapes = [shape for _, groups in parted for shape in groups.shapes]
    sentence = (
        f"Fitted in groups of neighbouring channels, {_counted(len(parted), 'tensor')} "
        f"{'has' if len(parted) == 1 else 'have'} shapes {min(shapes):.2f} to {max(shapes):.2f}, median "
        f"{median(shapes):.2f}"
    )
    apart = sorted((pair for pair in parted if pair[1].differ), key=lambda pair: -pair[1].saved)
    if not apart:
        yield f"{sentence}; no tensor's groups differ by more than chance and 1e-3 bits per weight."
        return
    named = [
        f"{entry.name} (shape {entry.fit.shape:.2f} for the tensor, {groups.spread[0]:.2f} to {groups.spread[2]:.2f} "
        f"per group; fitting per group saves {groups.saved:#.2g} bits per weight, {groups.saved_by_scale:#.2g} of it "
        "from the scale)"
        for entry, groups in apart
    ]
    yield (f"{sentence}. The groups differ in {len(apart)} of them, most of all {_listed(named, 3)}.")
    below = [entry.name for entry, groups in apart if entry.fit.shape < groups.spread[0]]
    if below:
        yield (
            f"The shape of the tensor is below that of every group in {_listed(below, 4)}: much of its tail is a "
            "spread of scales between groups."
        )


def _channels(fitted: Sequence[Entry]) -> Iterable[str]:
    """Name the tensors whose tails are a spread of their channels' scales."""
    moved = [(e.channels.shape - e.fit.shape, e) for e in fitted if e.channels is not None and e.channels.trusted]
    moved = sorted((pair for pair in moved if pair[0] > MOVED), key=lambda pair: -pair[0])
    if moved:
        named = [f"{e.name} (from {e.fit.shape:.2f} to {e.fit.shape + by:.2f})" for by, e in moved]
        yield (
            f"A tensor pools its channels: with those scaled to equal RMS the shape rises by more than {MOVED:g} in "
            f"{_listed(named, 4)}. That much of the tail is a spread of scales."
        )


def _listed(names: Sequence[str], most: int = 6) -> str:
    shown = list(names[:most])
    if len(names) > most:
        shown.append(f"{len(names) - most} more")
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"

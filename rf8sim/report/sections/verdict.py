"""The verdict of a report, in sentences. Every number comes from the records."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from ...checkpoints.plan import explicit
from ...studies.experiment import Experiment, FitRecord, SchemeRecord
from .coded import rans_sizes
from .concerns import OVERFLOW, UNDERFLOW, concerns
from .defaults import kept, quantized
from .recommendation import Candidate, candidates, knee, most_accurate

__all__ = ["verdict"]


def verdict(experiment: Experiment) -> list[str]:
    """Summarize what was measured in a few sentences.

    Parameters
    ----------
    experiment : Experiment
        What was measured.

    Returns
    -------
    list of str
        Each a sentence or two: the answer in short, of which tensors, what was measured, what the weights are like,
        which format is most accurate, which needs the fewest bits, what was lost, and what to watch. Errors and sizes
        are those of the tensors that ``rf8sim quantize`` stores in the scheme by default.
    """
    ranked = candidates(experiment)
    sentences = []
    if len(ranked) > 1:
        sentences += [_answer(ranked), _defaults(experiment)]
    sentences.append(_measured(experiment))
    if experiment.total.fit is not None:
        sentences.append(_distribution(experiment, experiment.total.fit))
    if ranked:
        sentences.append(_accuracy(ranked))
        sentences.append(_size(ranked, coded=rans_sizes(quantized(experiment)) is not None))
    sentences += [sentence for record in quantized(experiment).total.schemes for sentence in _losses(record)]
    sentences += _watch(experiment)
    sentences += _oddities(experiment)
    return sentences


def _answer(ranked: list[Candidate]) -> str:
    """Name the most accurate scheme and the knee of the curve, if that is another."""
    best, small = most_accurate(ranked), knee(ranked)
    sentence = (
        f"For accuracy take {best.text}: {_db(best.record)} at {best.record.bits_per_weight or 0:.2f} bits per weight"
    )
    if small.text == best.text:
        return f"{sentence}; for size it is the choice too, {small.bits:.2f} bits with entropy coding."
    gap = "" if best.sqnr_db == math.inf else f", {best.sqnr_db - small.sqnr_db:.1f} dB less accurate"
    return f"{sentence}. For size take {small.text}: {small.bits:.2f} bits per weight with entropy coding{gap}."


def _defaults(experiment: Experiment) -> str:
    """Say of which tensors these figures are, and which command makes them so."""
    left, command = kept(experiment), "'rf8sim quantize -f SCHEME'"
    if not left or len(left) == len(experiment.tensors):
        return f"Figures are of all tensors, as {command}{' --everything' if left else ''} stores them."
    share = sum(tensor.count for tensor in left) / experiment.total.count
    return (
        f"Figures are of what {command} does by default: it keeps {len(left)} of {len(experiment.tensors)} tensors "
        f"({_percent(share)} of the weights: norms, embeddings, biases, vectors) as they are."
    )


def _watch(experiment: Experiment) -> Iterable[str]:
    """Say where to look, in a sentence for the tensors and one for the channels."""
    listed = concerns(experiment)
    tensors = list(dict.fromkeys(warning.tensor for warning in listed))
    if tensors and len(experiment.tensors) > 1:
        shown = ", ".join(tensors[:3]) + (f" and {len(tensors) - 3} more" if len(tensors) > 3 else "")
        count = f"{_counted(len(tensors), 'tensor')} of {len(experiment.tensors)}"
        yield f'Check {count} ({shown}): see "Guard rails".'


def _measured(experiment: Experiment) -> str:
    total = experiment.total
    zeros = f", {_percent(total.zeros / total.count)} zero" if total.zeros else ""
    what = f"{_counted(total.count, 'weight')} in {_counted(len(experiment.tensors), 'tensor')}{zeros}"
    left = f"; {_counted(len(experiment.skipped), 'tensor')} not measured" if experiment.skipped else ""
    coded = sum(tensor.count for tensor in experiment.tensors if tensor.stored_as)
    already = f"; {_percent(coded / total.count)} quantized already, measured as codes times scales" if coded else ""
    return f"{_listed(experiment.checkpoints)}: {what}{already}{left}."


def _distribution(experiment: Experiment, fit: FitRecord) -> str:
    trusted = [tensor.fit for tensor in experiment.tensors if tensor.fit is not None and not tensor.fit_doubt]
    shapes = [each.shape for each in trusted]
    sentence = ""
    if len(shapes) > 1:
        of = f"{len(trusted)} of the {len(experiment.tensors)} tensors"
        sentence = (
            f"Generalized Gaussians fitted to {of if len(trusted) < len(experiment.tensors) else 'each tensor'} have "
            f"shape {min(shapes):.2f} to {max(shapes):.2f}, median {statistics.median(shapes):.2f} (2 is Gaussian, 1 "
            "Laplace). "
        )
    opening = "Pooled, they fit" if sentence else "A generalized Gaussian fitted to the weights has"
    costs = [
        f"a {name} density would cost {excess:.3f} bits a weight more"
        for family, name in (("gaussian", "Gaussian"), ("laplace", "Laplace"))
        if not math.isnan(excess := fit.bits.get(family, math.nan) - fit.bits.get("ggd", math.nan))
    ]
    hint = "" if sentence else " (2 is Gaussian, 1 Laplace)"
    return f"{sentence}{opening} shape {fit.shape:.2f}{hint}{'; ' if costs else ''}{_listed(costs)}."


def _accuracy(ranked: list[Candidate]) -> str:
    best = ranked[0]
    sentence = f"Most accurate is {best.text} with {_db(best.record)}"
    if len(ranked) > 1:
        sentence += "; then " + ", ".join(f"{one.text} {_db(one.record)}" for one in ranked[1:])
    return f"{sentence} (SQNR over these weights)."


def _size(ranked: list[Candidate], *, coded: bool) -> str:
    """List the sizes after entropy coding, as rANS stores them or estimated."""
    listed = ", ".join(f"{one.text} {one.bits:.2f}" for one in sorted(ranked, key=lambda one: one.bits))
    if coded:
        return f"Entropy-coded by rANS, with a table per tensor and the scales, bits per weight are: {listed}."
    return (
        f"Bits per weight after entropy coding, estimated with one code table for all tensors (entropy + scales): "
        f"{listed}; rANS files with a table per tensor are listed under Compression."
    )


def _losses(record: SchemeRecord) -> Iterable[str]:
    if (record.underflow_share or 0) > UNDERFLOW:
        yield f"{explicit(record.scheme)} rounds {_percent(record.underflow_share)} of the weights to zero."
    if (record.overflow_share or 0) > OVERFLOW:
        yield f"{_percent(record.overflow_share)} of the weights lie beyond the range of {explicit(record.scheme)}."


def _oddities(experiment: Experiment) -> Iterable[str]:
    total = experiment.total
    if total.nans or total.infinities:
        yield (
            f"Warning: the weights hold {total.nans:,} NaN and "
            f"{_counted(total.infinities, 'infinite value')}; these were left out and the finite weights "
            "measured."
        )


def _percent(share: float | None) -> str:
    if share is None:
        return "–"
    return "less than 0.01 %" if 0 < share < 1e-4 else f"{100 * share:.2f} %"


def _db(record: SchemeRecord) -> str:
    value = record.sqnr_db
    return "no error" if value == math.inf else f"{value:.1f} dB"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))

"""The verdict of a report, in sentences. Every number comes from the records."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from ...studies.experiment import Experiment, FitRecord, SchemeRecord
from .coded import rans_sizes
from .concerns import OVERFLOW, UNDERFLOW, concerns

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
        Each a sentence or two: the answer in short, what was measured, what the weights are like, which format is
        most accurate, which needs the fewest bits, what was lost, and what to watch.
    """
    ranked = [record for record in experiment.total.schemes if record.sqnr_db is not None]
    ranked.sort(key=lambda record: -(record.sqnr_db or 0.0))
    measured = rans_sizes(experiment)
    sizes = measured or {record.name: record.coded_bits_per_weight or 0.0 for record in ranked}
    sentences = [_answer(ranked, sizes)] if len(ranked) > 1 else []
    sentences.append(_measured(experiment))
    if experiment.total.fit is not None:
        sentences.append(_distribution(experiment, experiment.total.fit))
    if ranked:
        sentences.append(_accuracy(ranked))
        sentences.append(_size(ranked, sizes, coded=measured is not None))
    sentences += [sentence for record in experiment.total.schemes for sentence in _losses(record)]
    sentences += _watch(experiment)
    sentences += _oddities(experiment)
    return sentences


def _answer(ranked: Sequence[SchemeRecord], sizes: Mapping[str, float]) -> str:
    """Name the most accurate format, and the smallest if that is another."""
    best, least = ranked[0], min(ranked, key=lambda record: sizes[record.name])
    coded = sizes[least.name]
    sentence = f"For accuracy take {best.name}: {_db(best)} at {best.bits_per_weight or 0:.2f} bits per weight"
    if least.name == best.name:
        return f"{sentence}; it is also the smallest, {coded:.2f} bits with entropy coding."
    gap = "" if best.sqnr_db == math.inf else f", {(best.sqnr_db or 0) - (least.sqnr_db or 0):.1f} dB less accurate"
    return f"{sentence}. Smallest after entropy coding: {least.name}, {coded:.2f} bits per weight{gap}."


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


def _accuracy(ranked: Sequence[SchemeRecord]) -> str:
    best = ranked[0]
    sentence = f"Most accurate is {best.name} with {_db(best)}"
    if len(ranked) > 1:
        sentence += "; then " + ", ".join(f"{record.name} {_db(record)}" for record in ranked[1:])
    bare = any(record.name == record.scheme.format.name for record in ranked)
    how = "; a bare format name means one scale per tensor, of least squared error" if bare else ""
    return f"{sentence} (SQNR over all weights{how})."


def _size(ranked: Sequence[SchemeRecord], sizes: Mapping[str, float], *, coded: bool) -> str:
    """List the sizes after entropy coding, as rANS stores them or estimated."""
    names = sorted((record.name for record in ranked), key=lambda name: sizes[name])
    listed = ", ".join(f"{name} {sizes[name]:.2f}" for name in names)
    if coded:
        return f"Entropy-coded by rANS, with a table per tensor and the scales, bits per weight are: {listed}."
    return (
        f"Bits per weight after entropy coding, estimated with one code table for all tensors (entropy + scales): "
        f"{listed}; rANS files with a table per tensor are listed under Compression."
    )


def _losses(record: SchemeRecord) -> Iterable[str]:
    if (record.underflow_share or 0) > UNDERFLOW:
        yield f"{record.name} rounds {_percent(record.underflow_share)} of the weights to zero."
    if (record.overflow_share or 0) > OVERFLOW:
        yield f"{_percent(record.overflow_share)} of the weights lie beyond the range of {record.name}."


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

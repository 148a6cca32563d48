"""The pages of all commands: what each is made of, and in which order. A section is one function that returns data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...compression.methods import Compression
from ...models.outputs import ModelOutputs
from ...studies.planning import Planned
from ...studies.pruning import Sparsity
from ...studies.rf_family import Member
from ...studies.scheme_search import SchemeSearch
from ...studies.tradeoff import Tradeoff
from . import (
    comparison,
    distortion,
    evaluation,
    fit,
    model,
    model_compression,
    plan,
    pruning,
    rf_family,
    scheme_search,
    tradeoff,
    verdict,
)
from .about import about
from .area import area
from .choices import rounding, scaling
from .compression import compression
from .contents import Contents
from .errors import errors
from .formats import formats, overview
from .guards import guards
from .page import Kind
from .recommendation import recommendations
from .tensors import tensors
from .weights import weights

__all__ = [
    "COMPARE",
    "COMPARE_CHECKPOINTS",
    "COMPARE_SCHEMES",
    "COMPRESS",
    "EVALUATE",
    "EVALUATE_MODEL",
    "FIT",
    "PAGES",
    "PLAN",
    "PRUNE",
    "REPORT",
    "RF_FAMILY",
    "TRADEOFF",
]  # fmt: skip

_LOSSES = "The same command gives the same page, except for the last digits of losses on other machines."

REPORT: Kind[Contents] = Kind(
    "report",
    lambda found: f"rf8sim report: {', '.join(found.experiment.checkpoints)}",
    lambda found: verdict.verdict(found.experiment),
    overview,
    Contents.to_json,
    (
        formats,
        errors,
        guards,
        rounding,
        scaling,
        compression,
        area,
        evaluation.accuracy,
        weights,
        tensors,
        about,
    ),
    figure_files=False,
    answer=lambda found: recommendations(found.experiment),
)

FIT: Kind[fit.Fits] = Kind(
    "fit",
    lambda _: "Do the weights follow a generalized Gaussian?",
    fit.answer,
    fit.overview,
    fit.as_data,
    (fit.by_tensor, fit.families, fit.kinds, fit.pooling, fit.channels, fit.estimators, fit.not_fitted),
)

EVALUATE: Kind[evaluation.Evaluated] = Kind(
    "evaluate",
    lambda found: f"Accuracy of {found.results[0].model} in low precision",
    lambda found: evaluation.verdict(found.results),
    lambda found: evaluation.everything(found.results),
    evaluation.as_data,
    (evaluation.method, evaluation.by_accumulator, evaluation.all_results),
    "The same command gives the same page, except for last digits where another machine's BLAS sums float32 in another "
    "order.",
)

EVALUATE_MODEL: Kind[ModelOutputs] = Kind(
    "evaluate",
    lambda found: f"{found.model} in low precision, judged by its outputs",
    model.verdict,
    model.overview,
    model.as_data,
    (model.all_results, model.layers, model.inputs, model.method),
    "The same command gives the same page, except for last digits with another number of threads or on another "
    "machine.",
    answer=model.worth_their_bits,
)
"""The page of ``rf8sim evaluate --text``, for any model."""

TRADEOFF: Kind[Tradeoff] = Kind(
    "tradeoff",
    lambda _: "Rate against distortion",
    tradeoff.verdict,
    tradeoff.points,
    Tradeoff.to_json,
    (tradeoff.totals, tradeoff.method, tradeoff.kinds, tradeoff.entropy_codes),
    _LOSSES,
)

PRUNE: Kind[Sparsity] = Kind(
    "sparsity",
    lambda _: "Accuracy against sparsity",
    pruning.verdict,
    pruning.results,
    Sparsity.to_json,
    (pruning.quality, pruning.method),
    _LOSSES,
)

PLAN: Kind[Planned] = Kind(
    "plan",
    lambda found: f"Plan for {found.budget.text}",
    plan.summary,
    plan.overview,
    plan.as_data,
    (plan.tensors, plan.bits),
    _LOSSES,
)

COMPRESS: Kind[Compression] = Kind(
    "compress",
    lambda found: f"{found.model} compressed: {found.budget}",
    model_compression.verdict,
    model_compression.overview,
    Compression.to_json,
    (model_compression.curves, model_compression.tensors, model_compression.method),
    "The same command gives the same page, except for last digits with another number of threads or on another "
    "machine.",
)

RF_FAMILY: Kind[Sequence[Member]] = Kind(
    "rf_family",
    lambda _: "Exponent bits and depth of the RF family",
    rf_family.verdict,
    rf_family.table,
    rf_family.as_data,
    (rf_family.members, rf_family.limit, rf_family.method),
)

COMPARE: Kind[comparison.Comparison] = Kind(
    "comparison",
    lambda _: "Comparison of two reports",
    comparison.Comparison.summary,
    comparison.Comparison.table,
    comparison.Comparison.to_json,
    (comparison.changes, comparison.method),
    answer=comparison.counts,
)

COMPARE_CHECKPOINTS: Kind[distortion.Compared] = Kind(
    "distortion",
    lambda found: f"{found.distortion.quantized} against {found.distortion.original}",
    distortion.answer,
    distortion.overview,
    distortion.as_data,
    (distortion.tensors, distortion.storage, distortion.uncompared, distortion.method),
    answer=distortion.headline,
)

COMPARE_SCHEMES: Kind[SchemeSearch] = Kind(
    "compare_schemes",
    lambda found: f"Scale modes and block sizes on {found.checkpoint}",
    scheme_search.verdict,
    scheme_search.brief,
    SchemeSearch.to_json,
    (
        scheme_search.modes,
        scheme_search.fronts,
        scheme_search.kinds,
        scheme_search.all_schemes,
        scheme_search.method,
    ),
)

PAGES: dict[str, Kind[Any]] = {
    "report": REPORT,
    "fit": FIT,
    "evaluate": EVALUATE,
    "tradeoff": TRADEOFF,
    "prune": PRUNE,
    "plan": PLAN,
    "compress": COMPRESS,
    "rf-family": RF_FAMILY,
    "compare": COMPARE,
    "compare checkpoints": COMPARE_CHECKPOINTS,
    "compare-schemes": COMPARE_SCHEMES,
}
"""The pages, by the names of their commands; a second page of a command has words behind that."""

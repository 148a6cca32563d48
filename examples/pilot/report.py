"""The report of the pilot: each claim with its numbers, a figure and a verdict, all computed from the records."""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rf8sim._files import write_files
from rf8sim.report.figures import COLOURS

Record = dict[str, Any]
NEAR = 0.01  # nats: losses closer than this are called equal
FEWEST_STEPS = 500  # of a training that says anything


class Records:
    """All records of one task, by recipe and seed."""

    def __init__(self, task: str, records: list[Record]) -> None:
        self.task, self.unit = task, records[0]["unit"]
        self.runs = {(record["recipe"], record["seed"]): record for record in records}
        self.recipes = list(dict.fromkeys(record["recipe"] for record in records))
        self.weights = records[0]["weights"]
        self.steps = max(record["cost"]["steps"] for record in records)

    def of(self, recipe: str) -> dict[int, Record]:
        """Return the runs of a recipe by seed."""
        return {seed: record for (name, seed), record in sorted(self.runs.items()) if name == recipe}

    def groups(self, *names: str) -> dict[str, list[str]]:
        """Return the recipes of each group that has runs."""
        found: dict[str, list[str]] = {}
        for record in self.runs.values():
            if record["group"] in names and record["recipe"] not in found.setdefault(record["group"], []):
                found[record["group"]].append(record["recipe"])
        return {name: sorted(found[name], key=lambda r: self.any(r)["lam"]) for name in names if name in found}

    def any(self, recipe: str) -> Record:
        """Return one run of a recipe."""
        return next(iter(self.of(recipe).values()))

    def paired(self, recipe: str, value: Callable[[Record], float], against: str = "plain") -> list[float]:
        """Return, seed by seed, a value less that of another recipe."""
        ours, theirs = self.of(recipe), self.of(against)
        return [value(ours[seed]) - value(theirs[seed]) for seed in ours if seed in theirs]


def load(folder: Path) -> list[Records]:
    """Read the records of a folder, a task at a time."""
    records = [json.loads(path.read_text(encoding="utf-8").splitlines()[0]) for path in sorted(folder.glob("*.jsonl"))]
    tasks = dict.fromkeys(record["task"] for record in records)
    return [Records(task, [record for record in records if record["task"] == task]) for task in tasks]


# --- words and tables -------------------------------------------------------------------------------------------------


def spread(values: Iterable[float], digits: int = 3, sign: bool = False) -> str:
    """Return mean and standard deviation over the seeds."""
    numbers = [value for value in values if math.isfinite(value)]
    if not numbers:
        return "-"
    text = f"{mean(numbers):{'+' if sign else ''}.{digits}f}"
    return f"{text} ± {stdev(numbers):.{digits}f}" if len(numbers) > 1 else text


def table(head: list[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown, its first column words and the others numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def verdict(found: dict[str, bool], why: str) -> str:
    """Return the verdict over all tasks."""
    if not found:
        return f"**Verdict: not measured** in these runs. {why}\n"
    word = "holds" if all(found.values()) else "holds partly" if any(found.values()) else "does not hold"
    each = ", ".join(f"{task}: {'yes' if held else 'no'}" for task, held in found.items())
    return f"**Verdict: {word}** ({each}). {why}\n"


def cheapest(record: Record, limit: float, kind: str = "curve") -> float:
    """Return the fewest bits a weight at which a run's quantized loss is at most a limit; infinite if none is."""
    return min((point["bits"] for point in record[kind] if point["loss"] <= limit), default=math.inf)


# --- the claims -------------------------------------------------------------------------------------------------------

Section = tuple[str, str, Callable[[Axes, Records], None] | None]


def claim_a(all_tasks: list[Records]) -> Section:
    """Trained weights are closer to a GGD."""
    found, parts = {}, []
    for records in all_tasks:
        rows, gains = [], []
        for recipe in [r for r in ("plain", "prior-0.02") if records.of(r)]:
            for name in [fit["name"] for fit in records.any(recipe)["fits"]]:
                fits = [fit for run in records.of(recipe).values() for fit in run["fits"] if fit["name"] == name]
                columns = [[fit[key] for fit in fits] for key in ("shape", "gaussian", "laplace")]
                rows.append([f"{recipe}: `{name}`", *(spread(column) for column in columns)])
                if recipe == "plain":
                    gains += [min(fit["gaussian"], fit["laplace"]) for fit in fits]
        found[records.task] = bool(gains) and sorted(gains)[len(gains) // 2] > 0.005
        parts.append(
            f"### {records.task}\n\n" + table(["recipe and weights", "shape", "over Gaussian", "over Laplace"], rows)
        )
    why = (
        "It is said to hold where half of the plainly trained matrices save over 0.005 bits against the better of both."
    )
    text = (
        "Bits a weight that the best generalized Gaussian saves over the best Gaussian and the best Laplace. Both are "
        "of its family, so that no number can be negative: what counts is how large they are.\n\n" + "\n".join(parts)
    )

    def draw(axes: Axes, records: Records) -> None:
        for i, name in enumerate(records.any("plain")["history"][-1]["shapes"]):
            rows = [(row["step"], row["shapes"].get(name)) for row in records.any("plain")["history"]]
            points = [(step, shape) for step, shape in rows if shape is not None]
            axes.plot(*zip(*points, strict=True), color=COLOURS[i % len(COLOURS)], label=name.removesuffix(".weight"))
        axes.set(xlabel="step", ylabel="shape, plain training", title=records.task)
        axes.legend(fontsize=6)

    return (
        "Trained weights are closer to a generalized Gaussian than to a Gaussian or Laplace",
        text + "\n" + verdict(found, why),
        draw,
    )


def claim_b(all_tasks: list[Records]) -> Section:
    """GG initialization is better at equal standard deviation."""
    found, parts = {}, []
    for records in all_tasks:
        names = records.groups("init").get("init", [])
        rows = []
        for name in names:
            ends = records.paired(name, lambda run: run["final"]["loss"])
            early = records.paired(name, lambda run: run["history"][len(run["history"]) // 4]["loss"])
            rows.append([name, spread(early, sign=True), spread(ends, sign=True)])
        heavy = [records.paired(n, lambda run: run["final"]["loss"]) for n in ("init-0.5", "init-1") if n in names]
        if heavy:
            found[records.task] = any(e and mean(e) < 0 and (len(e) < 2 or mean(e) + stdev(e) < 0) for e in heavy)
        parts.append(f"### {records.task}\n\n" + table(["initialization", "after a quarter", "at the end"], rows))
    text = (
        "Loss less that of the model's own Gaussian, seed by seed, on the same batches: negative is better. All draw "
        "every matrix anew at the standard deviation that it has; `init-source` takes the fan from `shape[0]`, as the "
        "source's code does.\n\n" + "\n".join(parts)
    )

    def draw(axes: Axes, records: Records) -> None:
        for i, name in enumerate(["plain", *records.groups("init").get("init", [])]):
            rows = records.any(name)["history"]
            axes.plot([r["step"] for r in rows], [r["loss"] for r in rows], color=COLOURS[i % 8], label=name)
        axes.set(xlabel="step", ylabel=f"held-out loss, {records.unit}", title=records.task)
        axes.legend()

    why = "It is said to hold where a heavy-tailed shape ends lower by more than the spread over the seeds."
    return (
        "Generalized Gaussian initialization converges faster or ends better",
        text + "\n" + verdict(found, why),
        draw,
    )


CURVES = ("plain", "decay", "prior", "l1", "l2", "half", "normalized", "source", "explicit", "prior-init", "prior-int8")


def claim_c(all_tasks: list[Records]) -> Section:
    """Rate-constrained training saves bits at equal loss."""
    found, parts = {}, []
    for records in all_tasks:
        rows, best = [], math.inf
        limits = {seed: run["final"]["loss"] + NEAR for seed, run in records.of("plain").items()}
        alone = {seed: cheapest(run, limits[seed]) for seed, run in records.of("plain").items()}
        for names in records.groups(*CURVES).values():
            for name in names:
                bits = {s: cheapest(run, limits[s]) for s, run in records.of(name).items() if s in limits}
                if not bits:
                    continue
                loss = records.paired(name, lambda run: run["final"]["loss"])
                if not all(math.isfinite(b) for b in (*bits.values(), *(alone[s] for s in bits))):
                    rows.append([name, spread(loss, sign=True), "never so good", "", "", ""])
                    continue
                saved = [1 - bits[s] / alone[s] for s in bits]
                if name not in ("plain", "decay-0.1", "decay-1"):
                    best = min(best, mean(bits.values()) / mean(alone[s] for s in bits))
                against = [f"{100 * (1 - mean(bits.values()) / width):.0f}%" for width in (32, 16)]
                rows.append(
                    [name, spread(loss, sign=True), spread(bits.values(), 2), *against, f"{100 * mean(saved):.0f}%"]
                )
        found[records.task] = best < 0.8
        head = ["recipe", "loss before rounding", "bits a weight", "less than FP32", "than FP16", "than coding alone"]
        parts.append(f"### {records.task}\n\n" + table(head, rows))
    text = (
        f"The fewest entropy-coded bits a weight (rANS, tables and scales included) over the steps of a uniform "
        f"quantizer, one step for all matrices, at which the loss after rounding is within {NEAR:g} of the plain "
        "model's before it, seed by seed. *Coding alone* is the plain model with the same quantizer and coder.\n\n"
        + "\n".join(parts)
    )

    def draw(axes: Axes, records: Records) -> None:
        for i, (group, names) in enumerate(records.groups(*CURVES).items()):
            points = sorted((p["bits"], p["loss"]) for n in names for p in records.any(n)["curve"])
            lower = [p for j, p in enumerate(points) if p[1] < min((q[1] for q in points[:j]), default=math.inf)]
            axes.plot(*zip(*lower, strict=True), "o-", color=COLOURS[i % 8], ms=3, lw=1, label=group)
        lowest = records.any("plain")["final"]["loss"]
        axes.set(xlabel="bits a weight", ylabel=f"loss, {records.unit}", title=records.task)
        axes.set_ylim(lowest - 0.05 * lowest, 1.3 * lowest)
        axes.legend(fontsize=6)

    why = "It is said to hold where the best recipe needs less than 0.8 of the bits of coding alone."
    return "Rate-constrained training saves bits at equal loss", text + "\n" + verdict(found, why), draw


def claim_d(all_tasks: list[Records]) -> Section:
    """Models trained with the prior can be pruned."""
    found, parts = {}, []
    for records in all_tasks:
        recipes = [r for r in ("plain", "prior-0.02") if records.of(r)]
        shares = [point["share"] for point in records.any(recipes[0])["pruned"]]
        rows, losses = [], {}
        for i, share in enumerate(shares):
            losses[share] = {r: [run["pruned"][i]["loss"] for run in records.of(r).values()] for r in recipes}
            rows.append([f"{share:.0%}", *(spread(losses[share][r]) for r in recipes)])
        if len(recipes) == 2:
            found[records.task] = all(
                mean(losses[share]["prior-0.02"]) < mean(losses[share]["plain"]) - NEAR for share in (0.7, 0.8, 0.9)
            )
        parts.append(f"### {records.task}\n\n" + table(["pruned", *recipes], rows))
    text = "Loss with the smallest weights of all matrices together set to zero.\n\n" + "\n".join(parts)

    def draw(axes: Axes, records: Records) -> None:
        for i, name in enumerate(r for r in ("plain", "prior-0.02") if records.of(r)):
            rows = records.any(name)["pruned"]
            axes.plot([r["share"] for r in rows], [r["loss"] for r in rows], "o-", color=COLOURS[i], label=name)
        axes.set(xlabel="share of weights pruned", ylabel=f"loss, {records.unit}", title=records.task)
        axes.legend()

    why = f"It is said to hold where the model with the prior is better by {NEAR:g} at 70, 80 and 90%."
    return "The prior makes models robust to pruning", text + "\n" + verdict(found, why), draw


def claim_e(all_tasks: list[Records]) -> Section:
    """RF8 among the formats."""
    found, parts = {}, []
    for records in all_tasks:
        recipes = [r for r in ("plain", "prior-0.02") if records.of(r)]
        rows, cost = [], {}
        for i, point in enumerate(records.any(recipes[0])["formats"]):
            what = f"{point['format']}, {point['scaling']}" + (", inputs too" if point["inputs"] else "")
            row = [what]
            for name in recipes:
                runs = records.of(name).values()
                costs = [run["formats"][i]["loss"] - run["final"]["loss"] for run in runs]
                if name == "plain" and point["scaling"] == "tensor" and not point["inputs"]:
                    cost[point["format"]] = mean(costs)
                row += [spread(costs, 4, sign=True), spread([run["formats"][i]["accuracy"] for run in runs])]
            rows.append(row)
        found[records.task] = cost["rf8"] < NEAR
        head = ["format and scales", *(f"{name}: {what}" for name in recipes for what in ("cost in loss", "accuracy"))]
        tuned = [
            [name, spread(records.paired(name, lambda run: run.get("rounded", run["final"])["loss"]), 4, sign=True)]
            for name in records.recipes
            if "rounded" in records.any(name) and records.any(name)["group"] == "rounded"
        ]
        parts.append(f"### {records.task}\n\n" + table(head, rows))
        parts.append(table(["rounded in the last fifth of training", "loss less that of plain, unrounded"], tuned))
    text = "Scales of least squared error; inputs at a running scale.\n\n" + "\n".join(parts)
    why = f"It is said to hold where RF8 weights, one scale a tensor, cost less than {NEAR:g} in loss."
    return "RF8 keeps the quality of a model", text + "\n" + verdict(found, why), None


def claim_f(all_tasks: list[Records]) -> Section:
    """DeepShape saves rate."""
    found, parts = {}, []
    for records in all_tasks:
        rows, better = [], []
        runs = records.of("plain")
        limits = {seed: run["final"]["loss"] + NEAR for seed, run in runs.items()}
        alone = [cheapest(run, limits[seed]) for seed, run in runs.items()]
        rows.append(["a coarser step alone", spread(alone, 2), ""])
        kinds = dict.fromkeys((p["shape_factor"], p["std_factor"]) for p in records.any("plain")["reshaped"])
        for shape, std in kinds:
            row = [f"shape × {shape:g}, deviation × {std:g}"]
            for tuned in (False, True):
                bits = [
                    min((p["bits"] for p in run["reshaped"]
                         if (p["shape_factor"], p["std_factor"], p["fine_tuned"]) == (shape, std, tuned)
                         and p["loss"] <= limits[seed]), default=math.inf)
                    for seed, run in runs.items()
                ]  # fmt: skip
                row.append(spread(bits, 2) if all(map(math.isfinite, bits)) else "never so good")
                if not tuned and (shape, std) != (1.0, 1.0):
                    better.append(all(b < a for a, b in zip(alone, bits, strict=True)))
            rows.append(row)
        found[records.task] = any(better)
        parts.append(f"### {records.task}\n\n" + table(["reshaping", "straight", "fine-tuned"], rows))
    text = (
        f"The fewest coded bits a weight with a loss within {NEAR:g} of the plain model's. Fine-tuning is a tenth of "
        "the training's steps, without a prior; it can lower the loss of the plain model too, which the row with both "
        "factors 1 shows.\n\n" + "\n".join(parts)
    )
    why = "It is said to hold where some reshaping, without fine-tuning, needs fewer bits than a coarser step does."
    return "DeepShape saves rate", text + "\n" + verdict(found, why), None


def claim_g(all_tasks: list[Records]) -> Section:
    """What the prior costs."""
    rows = []
    for records in all_tasks:
        for name in [r for r in ("plain", "prior-0.02", "l1-0.02", "source-4e-05") if records.of(r)]:
            costs = [run["cost"] for run in records.of(name).values()]
            rows.append(
                [f"{records.task}: {name}", spread((1e3 * c["seconds"] / c["steps"] for c in costs), 1),
                 spread((100 * c["shrinking"] / c["seconds"] for c in costs), 1)]
            )  # fmt: skip
    text = (
        "Time of a step, evaluation included, and the share of it that shrinking takes. The constraint holds three "
        "numbers for each tensor; an update needs one temporary tensor at a time.\n\n"
        + table(["task and recipe", "ms a step", "shrinking, %"], rows)
    )
    return "What the prior costs in time", text, None


CLAIMS = {"a": claim_a, "b": claim_b, "c": claim_c, "d": claim_d, "e": claim_e, "f": claim_f, "g": claim_g}


def write(folder: Path, path: Path, left_out: Iterable[str] = ()) -> None:
    """Write the report and its figures beside it, all or nothing."""
    all_tasks = [records for records in load(folder) if records.of("plain")]
    if not all_tasks:
        raise SystemExit(f"{folder} holds no record of the recipe 'plain', which all others are compared with")
    seeds = sorted({seed for records in all_tasks for _, seed in records.runs})
    facts = "; ".join(f"{r.task} ({r.weights:,} weights, {r.steps} steps, {r.unit})" for r in all_tasks)
    lines = [
        "# The pilot: claims about generalized Gaussian priors, put to the test\n",
        f"Tasks: {facts}. Seeds: {', '.join(map(str, seeds))}; numbers are mean ± standard deviation over them, and "
        "comparisons are made seed by seed, on the same batches. Made by `python examples/pilot/run.py --out runs "
        "--report reports/pilot.md`; recipes and tasks are described in "
        "[examples/pilot](../examples/pilot/README.md).\n",
    ]
    if max(records.steps for records in all_tasks) < FEWEST_STEPS:
        lines.append("**A quick run, to see that everything works: too short to judge anything by.**\n")
    if left_out:
        lines.append(f"**Left out for want of data: {', '.join(left_out)}.**\n")
    files: dict[Path, bytes] = {}
    for letter, claim in CLAIMS.items():
        title, text, draw = claim(all_tasks)
        lines.append(f"## {letter}. {title}\n")
        if draw is not None:
            figure_path = path.with_name(f"{path.stem}-{letter}.svg")
            files[figure_path] = _figure(draw, all_tasks)
            lines.append(f"![{title}]({figure_path.name})\n")
        lines.append(text)
    files[path] = "\n".join(lines).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_files(files)


def _figure(draw: Callable[[Axes, Records], None], all_tasks: list[Records]) -> bytes:
    import io

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "pilot", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(4.2 * len(all_tasks), 3.4), layout="constrained")
        for axes, records in zip(figure.subplots(1, len(all_tasks), squeeze=False)[0], all_tasks, strict=True):
            draw(axes, records)
            axes.grid(alpha=0.3)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()

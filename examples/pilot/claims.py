"""The claims, each with its numbers, a figure and a verdict by a rule that it states."""

import itertools
import math
from collections.abc import Callable, Iterable
from statistics import mean, stdev

from matplotlib.axes import Axes
from records import Record, Records

from rf8sim.report.figures.figure import COLOURS

NEAR, FAR = 0.01, 0.03  # nats: losses closer than the first are called equal

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


def cheapest(points: list[Record], limit: float) -> float:
    """Return the fewest bits a weight at which the loss is at most a limit, linearly between the steps measured.

    Infinite if the loss is larger at every step.
    """
    line = sorted(points, key=lambda point: point["bits"])
    found = [point["bits"] for point in line if point["loss"] <= limit]
    for worse, better in itertools.pairwise(line):
        if better["loss"] <= limit < worse["loss"]:
            share = (limit - better["loss"]) / (worse["loss"] - better["loss"])
            found.append(better["bits"] + share * (worse["bits"] - better["bits"]))
    return min(found, default=math.inf)


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
        for recipe, style in (("plain", "-"), ("prior-0.02", ":")):
            if not records.of(recipe):
                continue
            for i, name in enumerate(records.any(recipe)["history"][-1]["shapes"]):
                rows = [(row["step"], row["shapes"].get(name)) for row in records.any(recipe)["history"]]
                points = [(step, shape) for step, shape in rows if shape is not None]
                label = name.removesuffix(".weight") if recipe == "plain" else None
                axes.plot(*zip(*points, strict=True), style, color=COLOURS[i % len(COLOURS)], label=label)
        axes.set(xlabel="step", ylabel="shape (dotted: with the prior)", title=records.task)
        axes.legend(fontsize=5, ncols=2)

    return (
        "Trained weights are closer to a generalized Gaussian than to a Gaussian or Laplace",
        text + "\n" + verdict(found, why),
        draw,
    )


def claim_b(all_tasks: list[Records]) -> Section:
    """GG initialization is better at equal standard deviation."""
    found: dict[str, bool] = {}
    parts = []
    for records in all_tasks:
        names = records.groups("init").get("init", [])
        rows = []
        for name in names:
            ends = records.paired(name, lambda run: run["final"]["loss"])
            early = records.paired(name, lambda run: run["history"][len(run["history"]) // 4]["loss"])
            again = records.paired(name, lambda run: run["final"]["loss"], against="init-2")
            both = [(a + b) / 2 for a, b in zip(ends, again, strict=False)]
            rows.append([records.label(name), *(spread(each, sign=True) for each in (early, ends, both))])
            if name in ("init-0.5", "init-1") and both:
                better = mean(both) < 0 and (len(both) < 2 or mean(both) + stdev(both) < 0)
                found[records.task] = found.get(records.task, False) or better
        head = ["initialization", "after a quarter", "at the end", "at the end, less the mean of both Gaussians"]
        parts.append(f"### {records.task}\n\n" + table(head, rows))
    text = (
        "Loss less that of the model's own Gaussian, seed by seed, on the same batches: negative is better. All draw "
        "every matrix anew at the standard deviation that it has, `init-2` a Gaussian, which shows what another draw "
        "does; `init-source` takes the fan from `shape[0]`, as the source's code does.\n\n" + "\n".join(parts)
    )

    def draw(axes: Axes, records: Records) -> None:
        for i, name in enumerate(["plain", *records.groups("init").get("init", [])]):
            rows = records.any(name)["history"]
            axes.plot([r["step"] for r in rows], [r["loss"] for r in rows], color=COLOURS[i % 8], label=name)
        axes.set(xlabel="step", ylabel=f"held-out loss, {records.unit}", title=records.task)
        axes.legend()

    why = (
        "It is said to hold where a heavy-tailed shape ends lower than the mean of both Gaussians by more than the "
        "spread over the seeds."
    )
    return (
        "Generalized Gaussian initialization converges faster or ends better",
        text + "\n" + verdict(found, why),
        draw,
    )


PRIORS = ("prior", "l1", "l2", "half", "normalized", "pooled", "explicit")  # groups that add one to plain training
EXPLICIT = ("pooled", "explicit")  # groups of the explicit step
DRAWN = ("plain", "prior", "l1", "pooled", "stepped", "stepped-l1", "init")  # in the figure
CURVES = ("plain", *PRIORS, "stepped", "stepped-l1", "init", "stepped-init", "combined")


def claim_c(all_tasks: list[Records]) -> Section:
    """Rate-constrained training saves bits at equal loss."""
    found, parts = {}, []
    ratios: dict[str, dict[str, tuple[float, float]]] = {}
    for records in all_tasks:
        rows, best = [], math.inf
        plain = records.of("plain")
        for name in [name for names in records.groups(*CURVES).values() for name in names]:
            row = [records.label(name), spread(records.paired(name, lambda run: run["final"]["loss"]), sign=True)]
            for near in (NEAR, FAR):
                limits = {seed: run["final"]["loss"] + near for seed, run in plain.items()}
                bits = {seed: cheapest(run["curve"], limits[seed]) for seed, run in records.of(name).items()}
                alone = {seed: cheapest(plain[seed]["curve"], limits[seed]) for seed in bits}
                if not all(map(math.isfinite, (*bits.values(), *alone.values()))):
                    row += ["never so good", *[""] * (3 if near == NEAR else 1)]
                    continue
                ratio = mean(bits[seed] / alone[seed] for seed in bits)
                row.append(spread(bits.values(), 2))
                if near == NEAR:
                    row += [f"{100 * (1 - mean(bits.values()) / width):.0f}%" for width in (32, 16)]
                    ratios.setdefault(name, {})[records.task] = (ratio, mean(bits.values()))
                    best = min(best, ratio) if records.any(name)["group"] in PRIORS else best
                row.append(f"{100 * (1 - ratio):.0f}%")
            rows.append(row)
        found[records.task] = best < 0.8
        head = ["recipe", "loss before rounding", f"bits, {NEAR:g} away", "less than FP32", "than FP16",
                "than coding alone", f"bits, {FAR:g} away", "less than coding alone"]  # fmt: skip
        parts.append(f"### {records.task}\n\n" + table(head, rows))
    text = (
        "The fewest entropy-coded bits a weight (rANS, tables and scales included) over the steps of a uniform "
        "quantizer whose indices saturate at -128 and 127, one step for all matrices and linearly in between, at which "
        "the loss after rounding is at most "
        f"{NEAR:g}, or {FAR:g}, above the plain model's before it, seed by seed. *Coding alone* is the plain model "
        "with the same quantizer and coder. `stepped` recipes train their last fifth with weights rounded to steps of "
        "2^-5; `stepped-init` starts from a heavy tail, `combined` has that and the prior.\n\n" + "\n".join(parts)
    )

    def draw(axes: Axes, records: Records) -> None:
        ends = {seed: run["final"]["loss"] for seed, run in records.of("plain").items()}
        for i, (group, names) in enumerate(records.groups(*DRAWN).items()):
            points = sorted(
                (mean(run["curve"][j]["bits"] for run in runs.values()),
                 mean(run["curve"][j]["loss"] - ends[seed] for seed, run in runs.items()))
                for runs in map(records.of, names) for j in range(len(records.any(names[0])["curve"]))
            )  # fmt: skip
            lower = [p for j, p in enumerate(points) if p[1] < min((q[1] for q in points[:j]), default=math.inf)]
            axes.plot(*zip(*lower, strict=True), "o-", color=COLOURS[i], ms=3, lw=1, label=group)
        for near in (NEAR, FAR):
            axes.axhline(near, color="grey", lw=0.8, ls="--")
        axes.set(xlabel="bits a weight", ylabel=f"loss above plain's, {records.unit}", title=records.task)
        axes.set(yscale="log", ylim=(2e-3, 0.3), xlim=(1, 6))
        axes.legend(fontsize=6)

    why = (
        "It is said to hold where the best recipe that adds a prior to plain training and nothing else needs less "
        f"than 0.8 of the bits of coding alone, {NEAR:g} away."
    )
    text += "\n" + best_recipe(all_tasks, ratios) + "\n" + verdict(found, why)
    return "Rate-constrained training saves bits at equal loss", text, draw


def best_recipe(all_tasks: list[Records], ratios: dict[str, dict[str, tuple[float, float]]]) -> str:
    """Return a table of the best recipe, and of the best of the explicit step, on each task and over all of them."""
    groups = {name: records.any(name)["group"] for records in all_tasks for name in records.recipes}

    def best(score: Callable[[dict[str, tuple[float, float]]], tuple[float, str] | None]) -> list[str]:
        cells = []
        for theirs in (False, True):
            scores = {name: score(each) for name, each in ratios.items() if (groups[name] == "pooled") == theirs}
            known = [(found[0], name, found[1]) for name, found in scores.items() if found is not None]
            ratio, name, bits = min(known, default=(math.nan, "none is so good", ""))
            cells += [name, bits, f"{ratio:.2f}" if known else ""]
        return cells

    def on(task: str) -> Callable[[dict[str, tuple[float, float]]], tuple[float, str] | None]:
        return lambda each: (each[task][0], f"{each[task][1]:.2f}") if task in each else None

    def everywhere(each: dict[str, tuple[float, float]]) -> tuple[float, str] | None:
        if len(each) < len(all_tasks):
            return None
        return math.prod(ratio for ratio, _ in each.values()) ** (1 / len(each)), ""

    rows = [[records.task, *best(on(records.task))] for records in all_tasks]
    if len(all_tasks) > 1:
        rows.append(["both, one recipe", *best(everywhere)])
    head = ["task", *(cell for who in ("best recipe", "explicit step") for cell in (who, "bits", "of coding alone"))]
    return (
        "Of each task the recipe with the fewest bits, and that of the explicit step (`pooled`: eps 1e-8, one shape "
        "for all weights, untouched by the learning rate). The last line is the geometric mean over the tasks of "
        "recipes that are as good as the plain model on all of them. What is best of many is flattered a little by "
        "having been chosen.\n\n" + table(head, rows)
    )


def _better(records: Records, recipe: str, kind: str, places: list[int], rise: bool) -> bool:
    """Say whether the loss of a recipe, or its rise, is clearly below plain's at all of some places of its record."""
    return all(
        mean(records.paired(recipe, lambda run, i=i: run[kind][i]["loss"] - rise * run["final"]["loss"])) < -NEAR  # type: ignore[misc]
        for i in places
    )


PRUNED = ("plain", "prior-0.02", "prior-0.04", "l1-0.02", "half-0.003", "pooled-4e-05")  # mild priors and strong ones


def claim_d(all_tasks: list[Records]) -> Section:
    """Models trained with the prior can be pruned."""
    found, parts = {}, []

    for records in all_tasks:
        recipes = [name for name in PRUNED if records.of(name)]
        plain = records.any("plain")
        rows = [
            [f"{point['share']:.0%}", *(spread(run["pruned"][i]["loss"] for run in records.of(r).values())
                                        for r in recipes)]
            for i, point in enumerate(plain["pruned"])
        ]  # fmt: skip
        near = [r for r in recipes[1:] if mean(records.paired(r, lambda run: run["final"]["loss"])) <= FAR]
        hard = [i for i, point in enumerate(plain["pruned"]) if point["share"] >= 0.7]
        coarse = [i for i, point in enumerate(plain["curve"]) if point["loss"] - plain["final"]["loss"] > NEAR]
        if near:
            found[f"{records.task} pruned"] = any(_better(records, r, "pruned", hard, False) for r in near)
            found[f"{records.task} rounded"] = any(_better(records, r, "curve", coarse, True) for r in near)
        parts.append(f"### {records.task}\n\n" + table(["pruned", *map(records.label, recipes)], rows))
        steps = [
            [f"{point['step']:.4f}", *(spread(run["curve"][i]["loss"] - run["final"]["loss"]
                                              for run in records.of(r).values()) for r in recipes)]
            for i, point in enumerate(plain["curve"])
        ]  # fmt: skip
        parts.append(table(["step of a uniform quantizer", *map(records.label, recipes)], steps))
    text = (
        "Loss with the smallest weights of all matrices together set to zero; and by how much uniform quantization "
        "raises it, by its step.\n\n" + "\n".join(parts)
    )

    def draw(axes: Axes, records: Records) -> None:
        for i, name in enumerate(name for name in PRUNED if records.of(name)):
            rows = records.any(name)["pruned"]
            axes.plot([r["share"] for r in rows], [r["loss"] for r in rows], "o-", color=COLOURS[i], ms=3, label=name)
        axes.set(xlabel="share of weights pruned", ylabel=f"loss, {records.unit}", title=records.task)
        axes.legend(fontsize=6)

    why = (
        f"It is said to hold where a model with the prior whose loss is within {FAR:g} of the plain one's is better by "
        f"{NEAR:g} at 70, at 80 and at 90% pruned; and where its loss rises less, by as much, at every step at which "
        f"the plain one's rises by over {NEAR:g}."
    )
    return "The prior makes models robust to pruning and to quantization", text + "\n" + verdict(found, why), draw


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
        plain = records.of("plain").values()
        tuned = [
            [point["format"], spread((run["tuned"][i]["loss"] - run["final"]["loss"] for run in plain), 4, sign=True)]
            for i, point in enumerate(records.any("plain")["tuned"])
        ]
        parts.append(f"### {records.task}\n\n" + table(head, rows))
        parts.append(table(["weights rounded in a fine-tuning of a tenth", "loss less plain's, unrounded"], tuned))
        parts.append(rf8_rate(records))
    text = (
        "Scales of least squared error; inputs at a running scale. The last table of each task is of RF8's own codes, "
        "entropy-coded: with a scale that follows the weights, and with a fixed one, 2^9, under which small weights "
        "become zero; `prior-grid` was trained on that fixed grid in its last fifth.\n\n" + "\n".join(parts)
    )
    why = f"It is said to hold where RF8 weights, one scale a tensor, cost less than {NEAR:g} in loss."
    return "RF8 keeps the quality of a model", text + "\n" + verdict(found, why), None


def rf8_rate(records: Records) -> str:
    """Return a table of loss and coded bits of RF8's own codes, with and without the prior."""
    names = ["plain", *(r for group in records.groups("prior", "prior-grid").values() for r in group)]
    rows = []
    for name in names:
        row = [records.label(name)]
        for grid in ("rf8", "grid"):
            plain = records.of("plain")
            costs = [run[grid]["loss"] - plain[s]["final"]["loss"] for s, run in records.of(name).items()]
            row += [spread(costs, sign=True), spread((run[grid]["bits"] for run in records.of(name).values()), 2)]
        row.append(spread((100 * run["grid"]["zeros"] for run in records.of(name).values()), 0))
        rows.append(row)
    head = ["RF8, coded", "own scale: loss less plain's", "bits", "fixed scale: loss less plain's", "bits", "zeros, %"]
    return table(head, rows)


def claim_f(all_tasks: list[Records]) -> Section:
    """DeepShape reduces the bit rate."""
    found, parts = {}, []
    for records in all_tasks:
        rows, better = [], []
        runs = records.of("plain")
        limits = {seed: run["final"]["loss"] + NEAR for seed, run in runs.items()}
        alone = [cheapest(run["curve"], limits[seed]) for seed, run in runs.items()]
        rows.append(["a coarser step alone", spread(alone, 2), ""])
        kinds = dict.fromkeys((p["shape_factor"], p["std_factor"]) for p in records.any("plain")["reshaped"])
        for shape, std in kinds:
            row = [f"shape × {shape:g}, deviation × {std:g}"]
            for tuned in (False, True):
                bits = [
                    cheapest(
                        [p for p in run["reshaped"]
                         if (p["shape_factor"], p["std_factor"], p["fine_tuned"]) == (shape, std, tuned)], limits[seed]
                    )
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
        "the training's steps at a tenth of its rate, without a prior; it can lower the loss of the plain model too, "
        "which the row with both factors 1 shows.\n\n" + "\n".join(parts)
    )
    why = "It is said to hold where some reshaping, without fine-tuning, needs fewer bits than a coarser step does."
    return "DeepShape reduces the bit rate", text + "\n" + verdict(found, why), None


def claim_g(cost: Record | None) -> Section:
    """What the prior costs."""
    title = "What the prior costs, and what RF8 weights cost"
    if cost is None:
        return title, "Not measured in these runs.\n", None
    width, layers, batch = cost["width"], cost["layers"], cost["batch"]
    plain = cost["training"]["without"]
    training = [
        [name, f"{1e3 * one['seconds']:.0f}", f"{100 * (one['seconds'] / plain['seconds'] - 1):+.0f}%",
         f"{one['peak'] / 2**20:.0f}", f"{(one['peak'] - plain['peak']) / 2**20:+.0f}"]
        for name, one in cost["training"].items()
    ]  # fmt: skip
    full = cost["products"]["float32"]
    products = [
        [name, f"{1e6 * one['seconds']:.0f}", f"{one['seconds'] / full['seconds']:.2f}", f"{one['bytes'] / 2**20:.1f}"]
        for name, one in cost["products"].items()
    ]
    text = (
        f"A step of AdamW on {layers} matrices of {width} × {width} and batches of {batch}, each line in a process of "
        "its own, one thread, nothing else running; median. Memory is the most that was resident at once. What a step "
        "of the prior costs does not depend on the batch, so that its share falls as batches grow.\n\n"
        + table(["training", "ms a step", "more time", "peak, MiB", "more memory"], training)
        + f"\nThe product of a {width} × {width} matrix of weights with a float32 vector, one thread: PyTorch in "
        "float32, and `rf8sim.arithmetic.linalg.weight_matvec` on codes. A larger one, on more threads, is in "
        "[speed_linalg.md](speed_linalg.md).\n\n" + table(["weights", "µs", "of float32's time", "MiB"], products)
    )
    return title, text, None


CLAIMS = {"a": claim_a, "b": claim_b, "c": claim_c, "d": claim_d, "e": claim_e, "f": claim_f}

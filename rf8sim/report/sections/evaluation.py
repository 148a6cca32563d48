"""Sections of a page about a model run in low precision: what each datapath costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ...models.datapath import Datapath
from ...models.evaluation import Evaluation, paired
from ...quantization.scheme import Scheme
from ..tables.table import Column, Table
from .contents import Contents
from .page import Section

__all__ = ["Evaluated", "accuracy", "all_results", "as_data", "by_accumulator", "everything", "method", "verdict"]

_SCHEMA = 2
_SIGNIFICANT = 2.0  # standard errors
_UNMOVED = 0.02  # of the divergence
_REPEATS = "values repeat every octave and scales are powers of two, so finer scales change only the ends of the range"
_SCALES = {
    "tensor": "one scale per tensor", "channel": "scales per output channel and token", "block": "scales per block",
    "none": "no scales",
}  # fmt: skip
_SAME = "as the weights"


class Setting(NamedTuple):
    """What of a datapath is not the format of the weights: datapaths of one setting are compared with each other."""

    activations: str | None
    scales: str
    accumulator: str
    order: str
    rest: tuple[object, ...]


@dataclass(frozen=True)
class Evaluated:
    """The results of an evaluation.

    Attributes
    ----------
    results : tuple of Evaluation
        At least one.
    data : str
        The name of the file that the model was run on.
    """

    results: tuple[Evaluation, ...]
    data: str


def everything(results: Sequence[Evaluation]) -> Table:
    """List all results, one row for each."""
    columns = (
        Column("weights"), Column("activations"), Column("accumulator"),
        Column("loss, nats/token", ".5f"), Column("cost", "+.5f"), Column("std. error", ".5f"),
        Column("divergence", ".5f"), Column("top-1 as float32, %", "percent"), Column("sums not finite, %", "percent"),
    )  # fmt: skip
    rows = []
    for result in results:
        path, data = result.datapath, result.to_json()
        accumulates = path.accumulator if path.order == "sequential" else f"{path.accumulator} {path.order}"
        head = (str(path.weights), str(path.activations or "float32"), accumulates)
        rows.append(
            (*head, data["loss"], data["cost"], data["error"], data["divergence"], result.agreement, result.not_finite)
        )
    return Table("Loss by datapath", columns, tuple(rows))


def as_data(evaluated: Evaluated) -> dict[str, Any]:
    """Return the results as plain data for JSON."""
    return {"schema": _SCHEMA, "data": evaluated.data, "results": [result.to_json() for result in evaluated.results]}


def verdict(results: Sequence[Evaluation]) -> list[str]:
    r"""Rank the datapaths in sentences, and claim no difference that the windows do not show.

    Parameters
    ----------
    results : sequence of Evaluation
        The results, at least one.

    Returns
    -------
    list of str
        Sentences.

    Examples
    --------
    >>> losses = {"rf8": (1.1, 2.1, 3.2), "int8": (1.0, 2.0, 3.1)}
    >>> spread = {"rf8": (0.3, 0.2, 0.2), "int8": (0.1, 0.1, 0.1)}
    >>> both = [Evaluation("m", Datapath(n), 6, (1.0, 2.0, 3.0), losses[n], spread[n], 1.0, 0.0) for n in losses]
    >>> print(*verdict(both), sep="\n")
    In float32 the loss of m is 2.0000 nats per token, on 6 tokens in 3 windows.
    Weights only, one scale per tensor, accumulator exact: int8 has the lowest cost, +0.0333 ± 0.0333. Worse: rf8 (by
    0.1000 ± 0.0000). By divergence from float32's predictions: int8 0.1000 < rf8 0.2333.
    """
    first = results[0]
    count = len(first.losses)
    counted = f"{first.tokens:,} tokens in {count} window{'' if count == 1 else 's'}"
    return [
        f"In float32 the loss of {first.model} is {first.baseline:.4f} nats per token, on {counted}.",
        *_winners(results),
        *_accumulators(results),
        *_residual(results),
        *_channels(results),
        *_overflows(results),
    ]


def method(evaluated: Evaluated, _: bool) -> Section:
    """Say how it was measured."""
    words = (
        f"Every weight matrix of {evaluated.results[0].model} is applied by rf8sim.matmul with the stated schemes and "
        f"accumulator, on windows of {evaluated.data}. Norms, softmax, attention's products of activations with "
        "activations and residual sums stay in float32.",
        "Activations whose scheme has one scale for the tensor have a static one for each product, by the scheme's "
        "rule on its inputs in float32. Other schemes choose their scales on the fly, channel one for each token. A "
        "float16 or 8-bit accumulator holds products divided by a power of two that puts the largest possible one 6 "
        "bits below its largest value, the same for all formats, unless a shift was given.",
    )
    terms = (
        (
            "cost",
            "the loss less that of float32 on the same tokens, in nats per token, ± its standard error over windows "
            f"(the tokens of a window are not independent). Differences below {_SIGNIFICANT:g} standard errors, taken "
            "window by window, are not claimed; of twenty comparisons of equals about one would pass by chance",
        ),
        (
            "divergence",
            "the mean Kullback-Leibler divergence of the predicted distributions from those of float32, in nats per "
            "token. It does not depend on which byte came next, and is the less noisy measure",
        ),
        ("<, ≈", "in a ranking: a difference beyond those standard errors, and one that is not"),
    )
    return Section("method", "How it was measured", words, terms=terms)


def all_results(evaluated: Evaluated, _: bool) -> Section:
    """Show all results."""
    return Section("results", "All results", (), (everything(evaluated.results),))


def by_accumulator(evaluated: Evaluated, _: bool) -> Section | None:
    """Show tables of formats by accumulators, if there are several."""
    accumulators = list(dict.fromkeys(result.datapath.accumulator for result in evaluated.results))
    if len(accumulators) < 2:
        return None
    groups: dict[Setting, dict[str, dict[str, Evaluation]]] = {}
    for result in evaluated.results:
        path = result.datapath
        rows = groups.setdefault(_setting(path)._replace(accumulator=""), {})
        rows.setdefault(_name(path), {})[path.accumulator] = result
    tables = tuple(_by_accumulator(_words(setting), accumulators, rows) for setting, rows in groups.items())
    return Section("accumulators", "Cost and divergence by accumulator", (), tables)


def _by_accumulator(caption: str, names: Sequence[str], rows: dict[str, dict[str, Evaluation]]) -> Table:
    columns = tuple(Column(title) for title in ("weights", *names, *(f"{name}: divergence" for name in names)))
    cells = tuple(
        (
            weights,
            *(_cost(row[name]) if name in row else None for name in names),
            *(_divergence(row.get(name)) for name in names),
        )
        for weights, row in rows.items()
    )
    return Table(caption, columns, cells)


def _setting(path: Datapath) -> Setting:
    activations = None
    if path.activations is not None:
        activations = _SAME if path.activations.format == path.weights.format else str(path.activations)
    rest = (path.accumulator_rounding, path.shift, path.seed)
    return Setting(activations, _scales(path.weights), path.accumulator, path.order, rest)


def _scales(scheme: Scheme) -> str:
    """Return how many elements share a scale: a key of `_SCALES`."""
    if scheme.scales is None:
        return "none"
    if scheme.scales.block is None:
        return "tensor"
    return "channel" if scheme.scales.block == (1, -1) else "block"


def _words(setting: Setting) -> str:
    """Describe a setting."""
    if setting.activations is None:
        what = "Weights only"
    elif setting.activations == _SAME:
        what = "Weights and activations"
    else:
        what = f"Weights, and activations in {setting.activations}"
    parts = [what, _SCALES[setting.scales]]
    if setting.accumulator:
        order = "" if setting.order == "sequential" else f" {setting.order}"
        parts.append(f"accumulator {setting.accumulator}{order}")
    elif setting.order != "sequential":
        parts.append(setting.order)
    return ", ".join(parts)


def _name(path: Datapath) -> str:
    """Return the weights' format, where its scales are what the setting says; else their scheme."""
    scheme = path.weights
    if _scales(scheme) == "block":
        return str(scheme)
    return scheme.format.name if scheme.rounding == "nearest-even" else f"{scheme.format.name} {scheme.rounding}"


def _cost(result: Evaluation) -> str:
    if not math.isfinite(result.cost):
        return "not finite"
    return f"{result.cost:+.4f}" + (f" ± {result.error:.4f}" if math.isfinite(result.error) else "")


def _divergence(result: Evaluation | None) -> str | None:
    if result is None or not math.isfinite(result.divergence):
        return None
    return f"{result.divergence:.4f}"


def _winners(results: Sequence[Evaluation]) -> Iterator[str]:
    """Compare formats, in the first accumulator."""
    groups: dict[Setting, list[Evaluation]] = {}
    for result in results:
        if result.datapath.accumulator == results[0].datapath.accumulator:
            groups.setdefault(_setting(result.datapath), []).append(result)
    for setting, group in groups.items():
        finite = sorted((r for r in group if math.isfinite(r.loss)), key=lambda r: r.loss)
        if not finite:
            continue
        best, *others = finite
        words = (
            f"{_words(setting)}: {_name(best.datapath)} {'has the lowest cost,' if others else 'costs'} {_cost(best)}."
        )
        equal, worse = [], []
        for other in others:
            gap, error = paired(best.losses, other.losses)
            if math.isfinite(error) and gap > _SIGNIFICANT * error:
                worse.append(f"{_name(other.datapath)} (by {gap:.4f} ± {error:.4f})")
            else:
                equal.append(_name(other.datapath))
        words += f" No significant difference: {', '.join(equal)}." if equal else ""
        words += f" Worse: {', '.join(worse)}." if worse else ""
        yield f"{words} By divergence from float32's predictions: {_ranked(group)}."


def _ranked(group: Sequence[Evaluation]) -> str:
    """Order by divergence: ``<`` where the difference from the one before is significant, ``≈`` where not."""
    words, before = "", None
    for result in sorted((r for r in group if math.isfinite(r.divergence)), key=lambda r: r.divergence):
        if before:
            gap, error = paired(before.divergences, result.divergences)
            words += " < " if gap > _SIGNIFICANT * error else " ≈ "
        words += f"{_name(result.datapath)} {result.divergence:.4f}"
        before = result
    return words


def _accumulators(results: Sequence[Evaluation]) -> Iterator[str]:
    """Compare each other accumulator with the first."""
    first = results[0].datapath.accumulator
    by_datapath = {result.datapath: result for result in results}
    for name in dict.fromkeys(result.datapath.accumulator for result in results):
        pairs = [
            (by_datapath[replace(path, accumulator=first)], result)
            for path, result in by_datapath.items()
            if path.accumulator == name != first and replace(path, accumulator=first) in by_datapath
        ]
        pairs = [(a, b) for a, b in pairs if math.isfinite(a.loss) and math.isfinite(b.loss)]
        if not pairs:
            continue
        moves = [(*paired(a.losses, b.losses), b) for a, b in pairs]
        gap, error, largest = max(moves, key=lambda move: abs(move[0]))
        shown = sum(gap > _SIGNIFICANT * error for gap, error, _ in moves)
        spread = f" ± {error:.1g}" if math.isfinite(error) else ""
        where = f"{_name(largest.datapath)}, {_words(_setting(largest.datapath)._replace(accumulator='')).lower()}"
        yield (
            f"Accumulator {name} in place of {first} changes the loss by at most {abs(gap):.1g} ({gap:+.1g}{spread}: "
            f"{where}); it is worse by more than {_SIGNIFICANT:g} standard "
            f"errors in {shown} of {len(moves)} cases; by divergence, in {sum(_diverges(a, b) for a, b in pairs)}."
        )


def _residual(results: Sequence[Evaluation]) -> Iterator[str]:
    """Compare residual rounding with rounding to nearest."""
    pairs = [(a, b) for a, b in _pairs(results, _nearest) if b.datapath.weights.rounding == "residual"]
    if pairs:
        gaps, shown = zip(*(_gap(a, b) for a, b in pairs), strict=True)
        yield (
            f"Rounding residual in place of nearest-even adds {'; '.join(gaps)}. Beyond {_SIGNIFICANT:g} standard "
            f"errors it is worse in {sum(shown)} of {len(pairs)} cases; by divergence, in "
            f"{sum(_diverges(a, b) for a, b in pairs)}."
        )


def _channels(results: Sequence[Evaluation]) -> Iterator[str]:
    """Compare scales of channels with those of tensors."""
    pairs = [(a, b) for a, b in _pairs(results, _one_scale) if _scales(b.datapath.weights) == "channel"]
    for inputs in dict.fromkeys(_setting(b.datapath).activations for _, b in pairs):
        matching = [(a, b) for a, b in pairs if _setting(b.datapath).activations == inputs]
        moves = (f"{_name(b.datapath)} {a.divergence:.4f} to {b.divergence:.4f}" for a, b in matching)
        what = _words(_setting(matching[0][1].datapath)._replace(accumulator="")).partition(",")[0]
        words = (
            f"{what}: {_SCALES['channel']} in place of {_SCALES['tensor']} take the divergence of {', '.join(moves)}."
        )
        same = (
            b.datapath.weights.format for a, b in matching if abs(b.divergence - a.divergence) < _UNMOVED * a.divergence
        )
        octaves = [fmt.name for fmt in dict.fromkeys(same) if fmt.family == "residual"]
        yield words + (f" {' and '.join(octaves)}: {_REPEATS}." if octaves else "")


def _pairs(results: Sequence[Evaluation], change: Callable[[Scheme], Scheme]) -> list[tuple[Evaluation, Evaluation]]:
    """Pair each result in the first accumulator with that of a datapath of changed schemes, the changed one first."""
    accumulator = results[0].datapath.accumulator
    by_path = {_plain(r.datapath): r for r in results if r.datapath.accumulator == accumulator}
    pairs = [(by_path.get(_plain(_changed(result.datapath, change))), result) for result in by_path.values()]
    return [(a, b) for a, b in pairs if a and a is not b and math.isfinite(a.loss) and math.isfinite(b.loss)]


def _changed(path: Datapath, change: Callable[[Scheme], Scheme]) -> Datapath:
    activations = None if path.activations is None else change(path.activations)
    return replace(path, weights=change(path.weights), activations=activations)


def _plain(path: Datapath) -> Datapath:
    """Return a datapath whose activations have the rule of its weights: they are paired under any rule of theirs."""
    if path.activations is None or path.activations.scales is None or path.weights.scales is None:
        return path
    scales = replace(path.activations.scales, rule=path.weights.scales.rule)
    return replace(path, activations=replace(path.activations, scales=scales))


def _nearest(scheme: Scheme) -> Scheme:
    return replace(scheme, rounding="nearest-even")


def _one_scale(scheme: Scheme) -> Scheme:
    if scheme.scales is None or scheme.scales.outer is not None:
        return scheme
    return replace(scheme, scales=replace(scheme.scales, block=None))


def _gap(before: Evaluation, after: Evaluation) -> tuple[str, bool]:
    gap, error = paired(before.losses, after.losses)
    where = _words(_setting(after.datapath)._replace(accumulator="")).lower()
    return f"{gap:+.4f} ± {error:.4f} ({after.datapath.weights.format.name}, {where})", gap > _SIGNIFICANT * error


def _diverges(before: Evaluation, after: Evaluation) -> bool:
    gap, error = paired(before.divergences, after.divergences)
    return gap > _SIGNIFICANT * error


def _overflows(results: Sequence[Evaluation]) -> Iterator[str]:
    """Name the datapaths whose sums overflowed."""
    broken = [result for result in results if result.not_finite]
    if broken:
        named = (f"{_name(r.datapath)} ({_words(_setting(r.datapath)).lower()})" for r in broken[:3])
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        yield f"Sums overflowed in {', '.join(named)}{more}: a larger shift brings them into range."


def accuracy(contents: Contents, _: bool) -> Section | None:
    """Show, in the report of a checkpoint, the results of an evaluation that belongs to it."""
    if contents.evaluation is None:
        return None
    results = [Evaluation.from_json(result) for result in contents.evaluation["results"]]
    table = everything(results)
    made = f"Made by '{contents.evaluation['made_by']}', on {contents.evaluation['data']}."
    return Section("accuracy", "The model run in low precision", (*contents.evaluation["verdict"][:5], made), (table,))

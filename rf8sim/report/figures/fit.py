"""The figures of a survey of fits (`ggd.survey`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

import ggd
from ggd import MagnitudeHistogram
from ggd.families import Agreement
from ggd.rivals import AsymmetricGGD, Density, Logistic, SpikeAndSlab, StudentT
from ggd.survey import Entry, Survey

from .figure import COLOURS, GRID, MUTED, Figure, axes_grid, mark_style, shortened, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "densities", "estimators", "groups", "of_estimators", "of_groups", "of_kinds", "of_tensors", "quantiles", "shapes",
]  # fmt: skip

_MOST_ROWS = 40
_FARTHEST = 12.0  # RMS; where a log density ends
_SAMPLES = 1 << 20  # the most values of the control of `estimators`

_MEMBERS: dict[str, Callable[..., Density]] = {
    "gaussian": lambda scale: ggd.GGD(2.0, scale),
    "laplace": lambda scale: ggd.GGD(1.0, scale),
    "ggd": ggd.GGD,
    "logistic": Logistic,
    "student-t": StudentT,
    "asymmetric-ggd": AsymmetricGGD,
    "spike-and-slab": SpikeAndSlab,
}
_LOOKS = {"ggd": (COLOURS[0], "-"), "laplace": (COLOURS[1], "--"), "gaussian": (COLOURS[2], (0, (1, 1.2)))}
_OTHER = COLOURS[3], "-."
_GROUPS = (
    "groups",
    "Shapes of groups of channels",
    "Each dot is a block of channels fitted by itself, the bar the fit of the whole tensor, the hollow mark its "
    "channels scaled to equal root mean square. Where the bar is left of its dots, the tail of the whole is a spread "
    "of scales. Above stands the tensor of which one fit loses most.",
)


def of_tensors(survey: Survey) -> list[Figure]:
    """Draw the densities of weights and fits, and their quantiles.

    Parameters
    ----------
    survey : Survey
        The fits.

    Returns
    -------
    list of Figure
        At most ``density``, ``densities`` and ``quantiles``.
    """
    drawn = []
    if len(survey.tensors) > 1 and survey.pooled.fitted:
        drawn.append(
            densities(
                [survey.pooled],
                "density",
                "All weights pooled",
                "Density of all weights in units of their root mean square, on a logarithmic axis, and fits.",
            )
        )
    ordered = sorted(_trusted(survey), key=lambda entry: entry.fit.shape)
    if not ordered:
        return drawn
    some = [ordered[i] for i in np.linspace(0, len(ordered) - 1, min(6, len(ordered))).round().astype(int)]
    which = (
        "Tensors from the lowest shape to the highest" if len(ordered) > 6 else "The tensors, the lowest shape first"
    )
    return [
        *drawn,
        densities(
            some,
            "densities",
            "Log densities",
            f"{which}; the number is the shape. A Gaussian is a parabola, a Laplace density a tent.",
        ),
        quantiles(
            some,
            "quantiles",
            "Quantiles against quantiles",
            "The same tensors. On the thin line weights and fit agree; steeper at the ends, the weights have the "
            "heavier tail.",
        ),
    ]


def of_kinds(survey: Survey) -> list[Figure]:
    """Draw the shapes by layer and kind; nothing without a trusted fit."""
    if not _trusted(survey):
        return []
    return [
        shapes(
            survey,
            "shapes",
            "Shape by depth and by kind",
            "Left: each tensor by the number of its layer, a line through the means of a kind. Right: by kind, as read "
            "from the name; a hollow mark is the same tensor with its channels scaled to equal root mean square.",
        )
    ]


def of_groups(survey: Survey) -> list[Figure]:
    """Draw the shapes of groups of channels of the largest tensors that have groups."""
    parted = [entry for entry in _largest(survey) if entry.groups is not None and entry.groups.shapes]
    parted.sort(key=lambda entry: -entry.groups.saved if entry.groups else 0.0)
    return [groups(parted, *_GROUPS)] if parted else []


def of_estimators(survey: Survey) -> list[Figure]:
    """Draw how estimators differ on the largest tensors with a trusted fit."""
    largest = {id(entry) for entry in _largest(survey)}
    shown = [entry for entry in _trusted(survey) if id(entry) in largest]
    if not shown:
        return []
    return [
        estimators(
            shown,
            "estimators",
            "Three estimators of the shape",
            "How far the two moment estimators are from maximum likelihood, with three standard errors to each side: "
            "left for the weights, right for as many samples of the fitted densities, where all agree.",
        )
    ]


def _trusted(survey: Survey) -> list[Entry]:
    return [entry for entry in survey.tensors if entry.fit.trusted]


def _largest(survey: Survey) -> list[Entry]:
    """Return the tensors of most weights with a trusted fit, largest first."""
    return sorted(_trusted(survey), key=lambda entry: -entry.fit.n)[:_MOST_ROWS]


def _member(entry: Entry, family: str) -> Density:
    return _MEMBERS[family](**entry.selection[family].parameters)


def _curves(entry: Entry) -> list[str]:
    """Return the families to draw: the usual three, and the best if it is another and better."""
    best = entry.finding
    return ["gaussian", "laplace", "ggd", *([best] if best not in (*_LOOKS, "none") else [])]


def _nonzero(histogram: MagnitudeHistogram) -> MagnitudeHistogram:
    """Return the summary without its zeros, which no density describes."""
    result = histogram | MagnitudeHistogram()
    result.zero_count = 0
    return result


def _panels(entries: Sequence[Entry], **options: Any) -> tuple[Any, list[Axes]]:
    columns = min(3, len(entries))
    rows = -(-len(entries) // columns)
    canvas, axes = axes_grid(4.0 if len(entries) == 1 else 0.6 + 2.2 * rows, rows, columns, **options)
    for ax, entry in zip(axes, entries, strict=False):
        ax.grid(visible=True)
        ax.set_title(f"{shortened(entry.name, 26)}: {entry.fit.shape:.2f}", fontsize=9)
    for ax in axes[len(entries) :]:
        ax.set_axis_off()
    return canvas, axes


def _legend(canvas: Any, axes: Sequence[Axes]) -> None:
    """Name each look once, whichever panels it is in."""
    named = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    canvas.legend(named.values(), named.keys(), loc="outside upper center", ncols=len(named))


def _label(family: str) -> str:
    return {"ggd": "generalized Gaussian", "gaussian": "Gaussian", "laplace": "Laplace"}.get(
        family, "best other family"
    )


@styled
def densities(entries: Sequence[Entry], name: str, title: str, description: str) -> Figure:
    """Draw log densities with fits over them: a Gaussian is a parabola, a Laplace density a tent.

    Parameters
    ----------
    entries : sequence of Entry
        A panel each, with its shape in the heading; fitted.
    name, title, description : str
        As in `Figure`.
    """
    canvas, axes = _panels(entries)
    for ax, entry in zip(axes, entries, strict=False):
        h, unit = _nonzero(entry.histogram), entry.rms
        far = min(h.abs_max / unit, _FARTHEST)
        edges = np.linspace(-far, far, 81)
        density = np.diff(h.ecdf(edges * unit)) / np.diff(edges)
        least = density[density > 0].min()
        ax.stairs(density, edges, fill=True, color=GRID, baseline=least / 100, label="weights")
        ax.stairs(np.where(density > 0, density, math.nan), edges, color=MUTED, linewidth=0.8, baseline=None)
        x = np.linspace(-far, far, 401)
        for family in _curves(entry):
            colour, dashes = _LOOKS.get(family, _OTHER)
            y = np.exp(_member(entry, family).logpdf(x * unit)) * unit
            ax.plot(x, y, color=colour, linestyle=dashes, linewidth=1.5, label=_label(family))
        ax.set(yscale="log", xlim=(-far, far), ylim=(least / 3, density.max() * 3))
        ax.minorticks_off()
    canvas.supxlabel("weight / RMS", fontsize=10)
    canvas.supylabel("density", fontsize=10)
    _legend(canvas, axes)
    return Figure(name, title, description, canvas)


@styled
def quantiles(entries: Sequence[Entry], name: str, title: str, description: str) -> Figure:
    """Draw quantiles of the weights against those of fitted densities, in units of the root mean square.

    Parameters
    ----------
    entries : sequence of Entry
        A panel each; fitted.
    name, title, description : str
        As in `Figure`.
    """
    canvas, axes = _panels(entries)
    for ax, entry in zip(axes, entries, strict=False):
        h, unit = _nonzero(entry.histogram), entry.rms
        last = math.log(2.0 * h.count)
        p = 1.0 / (1.0 + np.exp(-np.linspace(-last, last, 161)))
        data = h.quantile(p) / unit
        for family in ("gaussian", "laplace", "ggd"):
            colour, dashes = _LOOKS[family]
            fitted = cast(ggd.GGD, _member(entry, family))
            ax.plot(fitted.ppf(p) / unit, data, color=colour, linestyle=dashes, linewidth=1.6, label=_label(family))
        far = 1.08 * float(np.max(np.abs(data)))
        ax.plot([-far, far], [-far, far], color=MUTED, linewidth=0.8, zorder=1)
        ax.set(xlim=(-far, far), ylim=(-far, far))
    canvas.supxlabel("quantile of the fitted density / RMS", fontsize=10)
    canvas.supylabel("quantile of the weights / RMS", fontsize=10)
    _legend(canvas, axes)
    return Figure(name, title, description, canvas)


@styled
def estimators(entries: Sequence[Entry], name: str, title: str, description: str) -> Figure:
    """Draw how far moment estimators are from maximum likelihood, beside a control that is generalized Gaussian.

    The control is as many samples (at most 2^20) of each tensor's fit. Lines are three standard errors to each side.

    Parameters
    ----------
    entries : sequence of Entry
        A row each; fitted.
    name, title, description : str
        As in `Figure`.
    """
    control = [
        ggd.compare_estimators(entry.fit.distribution.sample(min(entry.fit.n, _SAMPLES), seed=i))
        for i, entry in enumerate(entries)
    ]
    canvas, axes = axes_grid(1.3 + 0.26 * len(entries), 1, 2, sharex=True, sharey=True)
    for ax, heading, agreements in (
        (axes[0], "the weights", [entry.agreement for entry in entries]),
        (axes[1], "samples of the fits", control),
    ):
        ax.set_title(heading)
        ax.grid(visible=True)
        ax.axvline(0.0, color=MUTED, linewidth=0.8)
        for i, method in enumerate(("moments", "half-moments")):
            x, error = _differences(agreements, method)
            y = np.arange(len(entries)) + 0.2 * (2 * i - 1)
            ax.errorbar(x, y, xerr=3 * error, linestyle="none", elinewidth=1.2, label=method, **mark_style(i, 5.0))
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    axes[0].set_yticks(np.arange(len(entries)), [shortened(entry.name, 30) for entry in entries], fontsize=9)
    axes[0].set_ylim(len(entries) - 0.4, -0.6)
    canvas.supxlabel("shape by moments over shape by maximum likelihood, less 1, in %", fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside upper center", ncols=2)
    return Figure(name, title, description, canvas)


@styled
def groups(entries: Sequence[Entry], name: str, title: str, description: str) -> Figure:
    """Draw the shape of each tensor's groups of channels beside that of the whole.

    Parameters
    ----------
    entries : sequence of Entry
        A row each, the first above; with groups.
    name, title, description : str
        As in `Figure`.
    """
    canvas, [ax] = axes_grid(1.2 + 0.24 * len(entries), 1, 1)
    rows = np.arange(len(entries))
    shape_rows = [
        (fit.shape, row, fit.trusted)
        for row, entry in enumerate(entries)
        if entry.groups is not None
        for fit in entry.groups.fits
        if fit.shape in entry.groups.shapes
    ]
    for shape in (2.0, 1.0):
        ax.axvline(shape, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    for trusted, label, look in (
        (True, "a group of channels", mark_style(0, 5.0)),
        (False, "not trusted", {**mark_style(0, 5.0), "markerfacecolor": "none", "markeredgewidth": 1.0}),
    ):
        points = np.array([(shape, row) for shape, row, good in shape_rows if good == trusted]).reshape(-1, 2)
        if points.size:
            ax.plot(points[:, 0], points[:, 1], linestyle="none", alpha=0.7, label=label, **look)
    within = [math.nan if entry.channels is None else entry.channels.shape for entry in entries]
    hollow = {**mark_style(1, 7.0), "markerfacecolor": "none", "markeredgewidth": 1.2}
    ax.plot(within, rows, linestyle="none", label="channels at equal RMS", **hollow)
    pooled = [entry.fit.shape for entry in entries]
    ax.plot(
        pooled, rows, linestyle="none", marker="|", markersize=13, markeredgewidth=2.2, color="black", label="whole"
    )
    ax.set_yticks(rows, [shortened(entry.name, 34) for entry in entries], fontsize=9)
    ax.set_ylim(len(entries) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(visible=True, axis="x")
    ax.set_xlabel("shape of the generalized Gaussian")
    canvas.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return Figure(name, title, description, canvas)


def _differences(agreements: Sequence[Agreement], method: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the relative differences in per cent, and their standard errors."""
    relative = np.array([100 * agreement.relative[method] for agreement in agreements])
    z = np.array([agreement.z[method] for agreement in agreements])
    with np.errstate(invalid="ignore", divide="ignore"):
        return relative, np.nan_to_num(np.abs(relative / z), nan=0.0, posinf=0.0)


@styled
def shapes(survey: Survey, name: str, title: str, description: str) -> Figure:
    """Draw the shape by layer depth, and by kind of tensor as it is and with its channels at equal scale.

    Parameters
    ----------
    survey : Survey
        Of which the trusted fits are drawn.
    name, title, description : str
        As in `Figure`.
    """
    trusted = [entry for entry in survey.tensors if entry.fit.trusted]
    kinds = [kind for kind in survey.kinds if any(entry.kind == kind for entry in trusted)]
    canvas, [left, right] = axes_grid(3.6, 1, 2, sharey=True)
    outside = -1 if any(entry.depth is None for entry in trusted) else None
    for i, kind in enumerate(kinds):
        of_kind = [entry for entry in trusted if entry.kind == kind]
        x = np.array([-1 if entry.depth is None else entry.depth for entry in of_kind])
        y = np.array([entry.fit.shape for entry in of_kind])
        left.plot(x, y, linestyle="none", label=kind, **mark_style(i, 6.0))
        depths = np.unique(x[x >= 0])
        means = [float(np.mean(y[x == depth])) for depth in depths]
        left.plot(depths, means, color=COLOURS[i % len(COLOURS)], linewidth=1.2)
        within = np.array([math.nan if e.channels is None else e.channels.shape for e in of_kind])
        place = i + (np.linspace(-0.25, 0.25, len(of_kind)) if len(of_kind) > 1 else np.zeros(1))
        right.vlines(place, y, within, color=MUTED, linewidth=0.7)
        right.plot(place, y, linestyle="none", **mark_style(i, 6.0))
        hollow = {**mark_style(i, 6.0), "markerfacecolor": "none", "markeredgewidth": 1.2}
        right.plot(place, within, linestyle="none", **hollow)
    for ax in (left, right):
        ax.grid(visible=True, axis="y")
        for shape in (2.0, 1.0):
            ax.axhline(shape, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    for shape, word in ((2.0, "Gaussian"), (1.0, "Laplace")):
        left.annotate(word, (1.0, shape), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8.5)
    layers = sorted({entry.depth for entry in trusted if entry.depth is not None})
    shown = layers[:: max(1, math.ceil(len(layers) / 10))]
    places, words = [float(depth) for depth in shown], [str(depth) for depth in shown]
    left.set_xticks(
        [-1.0, *places] if outside is not None else places, ["none", *words] if outside is not None else words
    )
    left.set(xlabel="layer", ylabel="shape of the generalized Gaussian", title="by depth")
    right.set_xticks(range(len(kinds)), kinds)
    right.set_xlim(-0.6, len(kinds) - 0.4)
    right.set(xlabel="kind of tensor", title="as it is (full), channels at equal RMS (hollow)")
    canvas.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=max(1, len(kinds)))
    return Figure(name, title, description, canvas)

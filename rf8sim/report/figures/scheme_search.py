"""The figures of scale modes and of bits against SQNR."""

from __future__ import annotations

from typing import Any

from ...studies.scheme_search import MODES, SchemeSearch, element_formats, rate
from .figure import COLOURS, INK, MARKERS, MUTED, Figure, axes_grid, styled

__all__ = ["fronts", "gains"]

_PANELS = 12
_LOWEST = -3.0  # dB: what is worse would press the rest together


@styled
def gains(search: SchemeSearch) -> Figure:
    """Draw what each mode has over the usual one against the block size.

    Parameters
    ----------
    search : SchemeSearch
        The measurements.
    """
    groups = search.groups()
    keys = list(dict.fromkeys((group.element.name, group.scale_format) for group in groups))
    powers = [key for key in keys if key[1] == "e8m0fnu"]
    panels = (powers or keys)[:_PANELS]
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    canvas, axes = axes_grid(0.9 + 2.7 * rows, rows, columns)
    colours, marks = (dict(zip(MODES, looks, strict=True)) for looks in (COLOURS, MARKERS))
    usual = "floor" if powers else "nearest"
    tried = [mode for mode in MODES if any(group.result(mode) for group in groups if _key(group) in panels)]
    for ax, key in zip(axes, panels, strict=False):
        some = [group for group in groups if _key(group) == key]
        for mode in tried:
            curve = [(x, g.gain(result)) for x, g in enumerate(some) if (result := g.result(mode)) is not None]
            look: dict[str, Any] = {"color": colours[mode], "marker": marks[mode], "linewidth": 1.2}
            look |= {"color": MUTED, "linestyle": "--"} if mode == usual else {}
            ax.plot([x for x, _ in curve], [y for _, y in curve], label=mode, markersize=5.5, **look)
        ax.set_ylim(bottom=max(ax.get_ylim()[0], _LOWEST))
        ax.set_xticks(range(len(some)), [group.block.removeprefix("1x") for group in some])
        ax.set_title(", ".join(key), fontsize=9.5)
        ax.grid(visible=True)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    canvas.supxlabel("elements that share a scale", fontsize=10)
    canvas.supylabel(f"SQNR relative to {usual}, dB", fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside upper center", ncols=6, handletextpad=0.4, columnspacing=1.2)
    return Figure(
        "compare_schemes-modes",
        "Scale modes by block size",
        f"SQNR over all tensors less that of {usual}, for each element format; a panel's title has the formats of "
        f"elements and of scales. What is below {_LOWEST:g} dB is in the table alone.",
        canvas,
    )


def _key(group: Any) -> tuple[str, str]:
    return group.element.name, group.scale_format


@styled
def fronts(search: SchemeSearch) -> Figure:
    """Draw SQNR against stored bits and against coded bits, with the schemes that no other dominates.

    Parameters
    ----------
    search : SchemeSearch
        The measurements.
    """
    canvas, axes = axes_grid(4.2, 1, 2, sharey=True)
    both = (*search.results, *search.references)
    elements = {fmt: MARKERS[i % len(MARKERS)] for i, fmt in enumerate(element_formats(search.results))}
    numbers = list(dict.fromkeys(r.scheme.scales.format for r in search.results if r.scheme.scales is not None))
    hints = {}
    for panel, (ax, coded) in enumerate(zip(axes, (False, True), strict=True)):
        front = search.front(coded)
        line = ([rate(r, coded) for r in front], [r.sqnr_db() for r in front])
        ax.plot(*line, color=INK, linewidth=0.9, zorder=1)
        for i, result in enumerate(both):
            beside = i >= len(search.results)
            scales = result.scheme.scales
            colour = MUTED if beside or scales is None else COLOURS[numbers.index(scales.format) % len(COLOURS)]
            marker = "*" if beside else elements[result.scheme.format]
            best = result in front
            gid = f"mark-{panel}-{i}"
            look: dict[str, Any] = {"color": colour, "marker": marker, "markerfacecolor": colour if best else "none"}
            look |= {"zorder": 3, "alpha": 1.0} if best or beside else {"zorder": 2, "alpha": 0.6}
            place = [rate(result, coded)], [result.sqnr_db()]
            ax.plot(*place, linestyle="none", markersize=7.0 if best or beside else 5.0, gid=gid, **look)
            hints[gid] = [f"{result.name}, {result.mode}: {rate(result, coded):.3f} bits, {result.sqnr_db():.2f} dB"]
        ax.grid(visible=True)
        ax.set_xlabel("bits per weight, entropy-coded" if coded else "bits per weight, stored")
    axes[0].set_ylabel("SQNR in dB")
    legend = [(f"{number} scales", "s", COLOURS[i % len(COLOURS)]) for i, number in enumerate(numbers)]
    legend += [(element.name, marker, INK) for element, marker in elements.items()]
    legend += [("other kinds", "*", MUTED)] if search.references else []
    for label, marker, colour in legend:
        face = "none" if colour in (INK, MUTED) else colour
        axes[0].plot([], [], linestyle="none", marker=marker, color=colour, markerfacecolor=face, label=label)
    canvas.legend(loc="outside upper center", ncols=5, handletextpad=0.4, columnspacing=1.2)
    return Figure(
        "compare_schemes",
        "SQNR against bits per weight",
        "Every scheme, over all tensors, scales counted: left as stored, right with entropy-coded codes. Filled marks "
        "on the line are those that no other scheme dominates; colours are the formats of scales, marks those of "
        "elements, stars named schemes of other kinds.",
        canvas,
        hints,
    )

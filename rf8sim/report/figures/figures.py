"""The figures of a report, drawn by matplotlib without its global state, the same bytes every time.

A `Figure` holds what was drawn and the words that go with it. `Figure.svg` makes it text for a page, whose
colours follow the reader's light or dark setting; `Figure.save` makes it a file.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from numpy.typing import NDArray

from ..._base.files import write_files
from ...formats import Format

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = [
    "COLOURS", "PAGE_COLOURS", "Density", "Figure", "RatePoint", "bin_edges", "densities", "rate_quality",
    "sqnr", "value_density",
]  # fmt: skip

_Arguments = ParamSpec("_Arguments")
_Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_INK, _MUTED, _GRID = "#1c2128", "#667080", "#e3e6ea"
COLOURS = ("#c2410c", "#1d4ed8", "#0f766e", "#7e22ce", "#57606a", "#a16207", "#be185d", "#4d7c0f")
"""One colour for each format, in order, repeated where there are more; the marker changes with it."""
_DARK = ("#fb8b4b", "#6ea8fe", "#2dc7b4", "#c18bfa", "#a5afba", "#e0b23c", "#f27ab5", "#9bd14f")

PAGE_COLOURS = {"ink": (_INK, "#e8eaed"), "muted": (_MUTED, "#9aa4b2"), "grid": (_GRID, "#323842")} | {
    f"series-{i}": pair for i, pair in enumerate(zip(COLOURS, _DARK, strict=True))
}
"""CSS variables of a page: the colour in the light theme, in which figures are drawn, and in the dark one."""
_VARIABLES = {light: name for name, (light, _) in PAGE_COLOURS.items()}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
_STYLE: dict[str, Any] = {
    "svg.hashsalt": "rf8sim",
    "svg.fonttype": "none",
    "figure.dpi": 72.0,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.0,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10.0,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "mathtext.default": "regular",
}
_WIDTH = 7.6  # inches; a page shows it at about this size


@dataclass(frozen=True)
class Figure:
    """A drawn figure and its words.

    Attributes
    ----------
    name : str
        Short identifier, unique in a report.
    title, description : str
        What it shows, and what is to be seen, for people and for screen readers.
    canvas : matplotlib Figure
        The drawing.
    hints : dict of str to sequence of str
        What is shown when the pointer rests on a mark: for an artist's ``gid`` a text for each of its marks.
    """

    name: str
    title: str
    description: str
    canvas: Canvas
    hints: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def svg(self) -> str:
        """Return the figure as an ``<svg>`` element, titled and described, its colours CSS variables."""
        buffer = io.StringIO()
        with _style():
            self.canvas.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
        text = buffer.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"\s*<metadata>.*?</metadata>|\s*<defs>\s*<style.*?</defs>", "", text, flags=re.DOTALL)
        text = _hinted(text, self.hints)
        # Identifiers must be unique in a page, so each gets the figure's name.
        text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{self.name}-", text.replace("xlink:href", "href"))
        text = re.sub("|".join(_VARIABLES), lambda match: f"var(--{_VARIABLES[match[0]]})", text)
        text = re.sub(r'font: ([\d.]+)px [^;"]*', r"font-size: \1px", text)
        head = f'<svg role="img" aria-labelledby="{self.name}-title {self.name}-desc" viewBox='
        text = re.sub(r"<svg [^>]*?viewBox=", head, text, count=1)
        words = (
            f'<title id="{self.name}-title">{_escape(self.title)}</title>'
            f'<desc id="{self.name}-desc">{_escape(self.description)}</desc>'
        )
        first = text.index(">") + 1
        return text[:first] + "\n " + words + text[first:].rstrip() + "\n"

    def save(self, path: str | Path) -> None:
        """Write the figure to a file; its suffix (``.svg``, ``.png``, ``.pdf``) is its kind.

        Raises
        ------
        ValueError
            If the suffix names no kind of figure.
        OSError
            If the file cannot be written; an older file of that name is then as it was.
        """
        path = Path(path)
        kind = path.suffix.lower().removeprefix(".")
        if kind not in _FILE_METADATA:
            raise ValueError(f"{path}: unknown kind of figure: expected .svg, .png or .pdf")
        write_files({path: self.file(kind)})

    def file(self, kind: str) -> bytes:
        """Return the contents of a file of a kind: ``svg``, ``png`` or ``pdf``."""
        buffer = io.BytesIO()
        with _style():
            self.canvas.savefig(buffer, format=kind, dpi=160, facecolor="white", metadata=_FILE_METADATA[kind])
        return buffer.getvalue()


_NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}
_FILE_METADATA: dict[str, dict[str, None]] = {
    "svg": _NO_METADATA,
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


def _hinted(text: str, hints: Mapping[str, Sequence[str]]) -> str:
    """Give the marks of an SVG their titles: the first ``<use>`` or ``<path>`` elements of each group, in order."""
    for gid, words in hints.items():
        if not words:
            continue
        start = text.index(f'<g id="{gid}">')
        drawn, found = _MARK.subn(functools.partial(_titled, iter(words)), text[start:], count=len(words))
        assert found == len(words), f"{gid}: {len(words)} hints for {found} marks"
        text = text[:start] + drawn
    return text


_MARK = re.compile(r"<(use|path)((?! id=)[^>]*)/>")


def _titled(titles: Iterator[str], mark: re.Match[str]) -> str:
    return f"<{mark[1]}{mark[2]}><title>{_escape(next(titles))}</title></{mark[1]}>"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _canvas(height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Canvas, list[Axes]]:
    """Make a drawing of the usual width with its axes, row by row. It must run inside `_STYLE`."""
    from matplotlib.figure import Figure as MatplotlibFigure

    canvas = MatplotlibFigure(figsize=(_WIDTH, height), layout="constrained")
    axes = canvas.subplots(rows, columns, squeeze=False, **options)
    return canvas, list(axes.ravel())


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """Draw in the style of this file, whatever the user's settings are, and leave those as they were."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)  # type: ignore[arg-type, unused-ignore]
        yield


def _styled(draw: Callable[_Arguments, Figure]) -> Callable[_Arguments, Figure]:
    """Run a drawing function in `_style`, and lay the drawing out once: a second time moves it in the last digits."""

    @functools.wraps(draw)
    def styled(*args: _Arguments.args, **options: _Arguments.kwargs) -> Figure:
        with _style():
            figure = draw(*args, **options)
            figure.canvas.draw_without_rendering()
            figure.canvas.set_layout_engine("none")
            return figure

    return styled


# --- what the report draws ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Density:
    """One panel of `densities`.

    Attributes
    ----------
    title : str
        Whose weights.
    first_bin : int
        The first bin of the histogram.
    bins : sequence of int
        Histogram of the nonzero magnitudes in quarter octaves, as in `rf8sim.studies.experiment.TensorRecord`.
    curves : dict of str to callable
        Densities of ``|w|`` by name, each a function of an array.
    """

    title: str
    first_bin: int
    bins: Sequence[int]
    curves: Mapping[str, _Curve]


def bin_edges(first_bin: int, count: int) -> NDArray[np.float64]:
    """Return the ``count + 1`` edges of quarter-octave bins: edge ``4 e + i`` is ``2**e (1 + i/4)``."""
    index = np.arange(first_bin, first_bin + count + 1)
    return np.asarray(np.ldexp(1 + (index % 4) / 4, index // 4))


@_styled
def densities(panels: Sequence[Density], name: str, title: str, description: str) -> Figure:
    """Draw the density of the magnitudes with fitted densities over it, both axes logarithmic.

    Parameters
    ----------
    panels : sequence of Density
        One panel each; a single one is drawn larger.
    name, title, description : str
        As in `Figure`.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    canvas, axes = _canvas(4.0 if len(panels) == 1 else 0.5 + 2.1 * rows, rows, columns)
    looks = zip(COLOURS, ("-", "--", (0, (1, 1.2)), "-."), strict=False)
    look = dict(zip(dict.fromkeys(c for panel in panels for c in panel.curves), looks, strict=False))
    for ax, panel in zip(axes, panels, strict=False):
        edges, bins = bin_edges(panel.first_bin, len(panel.bins)), np.asarray(panel.bins, dtype=np.float64)
        density = bins / (bins.sum() * np.diff(edges))
        # The plateau toward zero is as wide as the range of the dtype: show what holds all but 1/200 of it.
        first = int(np.searchsorted(np.cumsum(bins), bins.sum() / 200))
        shown = density[first:][bins[first:] > 0]
        ax.stairs(density, edges, fill=True, color=_GRID, baseline=shown.min() / 100, label="weights")
        ax.stairs(density, edges, color=_MUTED, linewidth=0.8, baseline=None)
        x = np.geomspace(edges[first], edges[-1] * 1.25, 400)
        for curve, pdf in panel.curves.items():
            colour, dashes = look[curve]
            ax.plot(x, pdf(x), color=colour, linestyle=dashes, linewidth=1.6, label=curve)
        ax.set(xscale="log", yscale="log", xlim=(x[0], x[-1]), ylim=(shown.min() / 2, shown.max() * 4))
        ax.grid(visible=True)
        ax.minorticks_off()
        if len(panels) > 1:
            ax.set_title(_short(panel.title, 30), fontsize=9)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    canvas.supxlabel("magnitude |w|", fontsize=10)
    canvas.supylabel("density of |w|", fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return Figure(name, title, description, canvas)


@_styled
def sqnr(
    labels: Sequence[str],
    values: Mapping[str, Sequence[float | None]],
    name: str,
    title: str,
    description: str,
) -> Figure:
    """Draw one row for each tensor, or other thing, and one mark for each format.

    Parameters
    ----------
    labels : sequence of str
        Names of the tensors, the first at the top.
    values : dict of str to sequence of float or None
        For each format the SQNR of each tensor in dB; None or infinite is not drawn.
    name, title, description : str
        As in `Figure`.
    """
    canvas, [ax] = _canvas(1.1 + 0.24 * len(labels))
    rows = np.arange(len(labels))
    hints = {}
    for i, (fmt, row) in enumerate(values.items()):
        x = [math.nan if v is None or math.isinf(v) else v for v in row]
        ax.plot(x, rows, linestyle="none", label=fmt, alpha=0.9, gid=f"marks-{i}", **_mark(i, 6.0))
        shown = zip(labels, x, strict=True)
        hints[f"marks-{i}"] = [f"{label}, {fmt}: {v:.2f} dB" for label, v in shown if not math.isnan(v)]
    ax.set_yticks(rows, [_short(label, 38) for label in labels], fontsize=9)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.grid(visible=True)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("SQNR in dB (more is better)")
    canvas.legend(loc="outside upper center", ncols=min(5, len(values)), handletextpad=0.2)
    return Figure(name, title, description, canvas, hints)


@dataclass(frozen=True)
class RatePoint:
    """One mark of `rate_quality`: whose it is, bits per weight after entropy coding, and SQNR in dB."""

    label: str
    bits: float
    sqnr_db: float


@_styled
def rate_quality(
    points: Mapping[str, Sequence[RatePoint]],
    totals: Mapping[str, RatePoint],
    bound: tuple[str, _Curve] | None,
    levels: Mapping[str, float],
    name: str,
    title: str,
    description: str,
) -> Figure:
    """Draw quality against rate: a small mark for each tensor, a large one for all weights.

    Parameters
    ----------
    points : dict of str to sequence of RatePoint
        By format.
    totals : dict of str to RatePoint
        By format.
    bound : tuple of str and callable, optional
        A limit to draw: its label, and SQNR in dB as a function of bits per weight.
    levels : dict of str to float
        Limits that do not depend on the rate: SQNR in dB by their labels.
    name, title, description : str
        As in `Figure`.
    """
    canvas, [ax] = _canvas(4.4)
    hints = {}
    for i, fmt in enumerate(points):
        few = points[fmt]
        if len(few) > 1:
            bits, quality = [mark.bits for mark in few], [mark.sqnr_db for mark in few]
            ax.plot(bits, quality, linestyle="none", alpha=0.55, gid=f"marks-{i}", **_mark(i, 4.5))
            hints[f"marks-{i}"] = [_rate_hint(fmt, mark) for mark in few]
        if fmt in totals:
            own = totals[fmt]
            ax.plot([own.bits], [own.sqnr_db], linestyle="none", label=fmt, gid=f"total-{i}", zorder=3, **_mark(i, 9.0))
            hints[f"total-{i}"] = [_rate_hint(fmt, own)]
    lines = 0
    for label, height in levels.items():
        ax.axhline(height, color=_MUTED, linestyle=(0, (1, 1.5)), linewidth=1.2, label=label)
        lines += 1
    if bound is not None:
        x = np.linspace(*ax.get_xlim(), 50)
        ax.plot(x, bound[1](x), color=_MUTED, linestyle="--", linewidth=1.2, label=bound[0])
        lines += 1
    ax.grid(visible=True)
    ax.set(xlabel="bits per weight with ideal entropy coding, scales included", ylabel="SQNR in dB")
    columns = min(4, len(totals) + lines)
    canvas.legend(loc="outside upper center", ncols=columns, handletextpad=0.4, columnspacing=1.2)
    return Figure(name, title, description, canvas, hints)


def _rate_hint(fmt: str, mark: RatePoint) -> str:
    return f"{mark.label}, {fmt}: {mark.sqnr_db:.2f} dB at {mark.bits:.3f} bits per weight"


@_styled
def value_density(
    formats: Sequence[Format],
    scales: Sequence[float] | None = None,
    bins: tuple[int, Sequence[int]] | None = None,
    name: str = "value-density",
    title: str = "The positive values of the formats",
    description: str = "One line for each positive value of each format, on a logarithmic axis.",
) -> Figure:
    """Draw the positive values of formats as lines on one logarithmic axis, over data if there is any.

    Parameters
    ----------
    formats : sequence of Format
        One row each.
    scales : sequence of float, optional
        What each format's values are multiplied by; by default 1.
    bins : tuple of int and sequence of int, optional
        The first bin and the counts of a histogram in quarter octaves, drawn above the rows.
    name, title, description : str
        As in `Figure`.

    Examples
    --------
    >>> import rf8sim
    >>> figure = value_density([rf8sim.get_format("rf8"), rf8sim.get_format("e4m3fn")])
    >>> figure.svg().startswith("<svg role=")
    True
    """
    factors = [1.0] * len(formats) if scales is None else list(scales)
    top = 0.0 if bins is None else 2.6
    canvas, [ax] = _canvas(0.9 + 0.42 * (len(formats) + top))
    limits: list[float] = []
    least = -math.inf
    for row, (fmt, factor) in enumerate(zip(formats, factors, strict=True)):
        values = fmt.sides[0].magnitudes
        x = np.log2(values[values > 0] * factor)
        limits += [float(x[0]), float(x[-1])]
        # One path with gaps, which is a tenth of the bytes of a line for each value.
        heights = np.tile([row + 0.38, row - 0.38, math.nan], x.size)
        ax.plot(np.repeat(x, 3), heights, color=COLOURS[row % len(COLOURS)], linewidth=0.7)
    ticks, names = [float(row) for row in range(len(formats))], [fmt.name for fmt in formats]
    if bins is not None:
        counts = np.asarray(bins[1], dtype=np.float64)
        edges = np.log2(bin_edges(bins[0], counts.size))
        shares = counts / np.diff(edges)
        first = int(np.searchsorted(np.cumsum(counts), counts.sum() / 1000))
        limits += [float(edges[first]), float(edges[-1])]
        heights = -0.7 - (top - 0.4) * shares / shares.max()
        ax.stairs(heights, edges, baseline=-0.7, fill=True, color=_GRID)
        ax.stairs(heights, edges, baseline=-0.7, color=_MUTED, linewidth=0.8)
        ticks, names = [*ticks, -0.7 - top / 2], [*names, "weights"]
        least = float(edges[first]) - 4  # a format may reach far below any weight
    ax.set_xlim(max(min(limits), least) - 0.5, max(limits) + 0.5)
    ax.set_ylim(len(formats) - 0.5, -0.6 - top)
    ax.set_yticks(ticks, names)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(visible=True, axis="x")
    ax.xaxis.set_major_locator(_integer_ticks())
    ax.xaxis.set_major_formatter(lambda x, _: f"$2^{{{x:.0f}}}$")
    ax.set_xlabel("magnitude")
    return Figure(name, title, description, canvas)


def _integer_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=12, integer=True)


def _mark(i: int, size: float) -> dict[str, Any]:
    """Return the colour and marker of the i-th format."""
    colour, marker = COLOURS[i % len(COLOURS)], _MARKERS[i % len(_MARKERS)]
    return {"marker": marker, "markersize": size, "color": colour, "markeredgewidth": 0}


def _short(text: str, length: int) -> str:
    """Cut a long name at its beginning: its end is what tells tensors apart."""
    return text if len(text) <= length else f"…{text[len(text) - length + 1 :]}"

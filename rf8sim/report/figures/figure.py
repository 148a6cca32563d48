"""What a figure is: a drawing by matplotlib without its global state, and the words that go with it.

`Figure.svg` makes it an element of a page, whose colours follow the reader's light or dark setting; `Figure.save`
makes it a file. The same data give the same bytes.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from numpy.typing import NDArray

from ..._base.files import write_files
from .svg import inline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = [
    "COLOURS", "GRID", "INK", "MARKERS", "MUTED", "PAGE_COLOURS", "Curve", "Figure", "axes_grid", "mark_style",
    "shortened", "styled",
]  # fmt: skip

_Arguments = ParamSpec("_Arguments")
Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""A density or a bound: a function of an array."""

INK, MUTED, GRID = "#1c2128", "#667080", "#e3e6ea"
"""Colours of text and marks, of what stands back, and of the grid."""
COLOURS = ("#c2410c", "#1d4ed8", "#0f766e", "#7e22ce", "#57606a", "#a16207", "#be185d", "#4d7c0f")
"""One colour for each format, in order, repeated where there are more; the marker changes with it."""
_DARK = ("#fb8b4b", "#6ea8fe", "#2dc7b4", "#c18bfa", "#a5afba", "#e0b23c", "#f27ab5", "#9bd14f")

PAGE_COLOURS = {"ink": (INK, "#e8eaed"), "muted": (MUTED, "#9aa4b2"), "grid": (GRID, "#323842")} | {
    f"series-{i}": pair for i, pair in enumerate(zip(COLOURS, _DARK, strict=True))
}
"""CSS variables of a page: the colour in the light theme, in which figures are drawn, and in the dark one."""
_VARIABLES = {light: name for name, (light, _) in PAGE_COLOURS.items()}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
"""One marker for each format, in order, repeated where there are more."""
_STYLE: dict[str, Any] = {
    "svg.hashsalt": "rf8sim",
    "svg.fonttype": "none",
    "figure.dpi": 72.0,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.0,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
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
        return inline(buffer.getvalue(), self.name, (self.title, self.description), _VARIABLES, self.hints)

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


def axes_grid(height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Canvas, list[Axes]]:
    """Make a drawing of the usual width with its axes, row by row. It must run inside `styled`."""
    from matplotlib.figure import Figure as MatplotlibFigure

    canvas = MatplotlibFigure(figsize=(_WIDTH, height), layout="constrained")
    axes = canvas.subplots(rows, columns, squeeze=False, **options)
    return canvas, list(axes.ravel())


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """Draw in the style of this file, independent of the user's settings, which stay as they were."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)  # type: ignore[arg-type, unused-ignore]
        yield


def styled(draw: Callable[_Arguments, Figure]) -> Callable[_Arguments, Figure]:
    """Run a drawing function in `_style`, and lay the drawing out once: a second time moves it in the last digits."""

    @functools.wraps(draw)
    def styled(*args: _Arguments.args, **options: _Arguments.kwargs) -> Figure:
        with _style():
            figure = draw(*args, **options)
            engine = figure.canvas.get_layout_engine()
            assert engine is not None
            engine.execute(figure.canvas)
            figure.canvas.set_layout_engine("none")
            return figure

    return styled


def mark_style(i: int, size: float) -> dict[str, Any]:
    """Return the colour and marker of the i-th format."""
    colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
    return {"marker": marker, "markersize": size, "color": colour, "markeredgewidth": 0}


def shortened(text: str, length: int) -> str:
    """Cut a long name at its beginning: its end is what tells tensors apart."""
    return text if len(text) <= length else f"…{text[len(text) - length + 1 :]}"

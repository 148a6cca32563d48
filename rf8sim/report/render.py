"""From sections to files. The HTML is in ``template.html.j2``; nothing else in the project knows any."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .._base.files import write_files
from ..studies.experiment import Experiment
from .figures.figures import PAGE_COLOURS
from .sections.contents import Contents, Section
from .sections.sections import sections
from .tables.tables import WORDS, cell, markdown_table

__all__ = ["html", "markdown", "markdown_table", "write_report"]

_FEW_ROWS = 16  # a longer table is closed at first, below the figures


def write_report(contents: Contents | Experiment, folder: str | Path, *, figures: bool = True) -> list[Path]:
    """Write ``report.json``, ``report.md`` and ``report.html`` to a folder.

    The same contents give the same bytes. Nothing is written if any of the three cannot be.

    Parameters
    ----------
    contents : Contents or Experiment
        What was measured, with what belongs to it or alone.
    folder : str or Path
        Made if it is missing.
    figures : bool
        Whether the page has figures.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    if isinstance(contents, Experiment):
        contents = Contents(contents)
    parts = sections(contents, with_figures=figures)
    title = f"rf8sim report: {', '.join(contents.experiment.checkpoints)}"
    texts = {
        "report.json": _json(contents.to_json()),
        "report.md": markdown(title, parts),
        "report.html": html(title, parts),
    }
    files = {Path(folder) / name: text.encode("utf-8") for name, text in texts.items()}
    write_files(files)
    return list(files)


def _json(data: Mapping[str, Any]) -> str:
    """Write JSON with a line for each entry, and in lists of records one for each record: short lines to compare."""

    def text(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    def entry(value: Any) -> str:
        if isinstance(value, list) and value and not isinstance(value[0], int | float):
            return "[\n  " + ",\n  ".join(map(text, value)) + "\n ]"
        return text(value)

    return "{\n" + ",\n".join(f" {text(key)}: {entry(value)}" for key, value in data.items()) + "\n}\n"


def html(title: str, parts: Sequence[Section]) -> str:
    """Return the page: one file that asks for nothing else."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    folder = importlib.resources.files(__package__)
    source, style, script = (
        folder.joinpath(name).read_text(encoding="utf-8") for name in ("template.html.j2", "page.css", "page.js")
    )
    page = environment.from_string(source)
    names = {"cell": cell, "words": WORDS, "few": _FEW_ROWS, "colours": PAGE_COLOURS, "style": style, "script": script}
    return page.render(title=title, sections=parts, **names) + "\n"


def markdown(title: str, parts: Sequence[Section]) -> str:
    """Return the report as Markdown: the words and the tables that are not folded away."""
    lines = [f"# {title}"]
    for part in parts:
        lines.append(f"## {part.title}")
        lines += part.paragraphs
        lines += [markdown_table(table) for table in part.tables if not table.folded]
        folded = [table.caption for table in part.tables if table.folded]
        if folded:
            lines.append(f"In report.html and report.json: {'; '.join(folded)}.")
    return "\n\n".join(lines) + "\n"

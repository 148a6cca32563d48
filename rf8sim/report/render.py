"""From sections to files. The HTML is in ``template.html.j2``; nothing else in the project knows any."""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._files import write_files
from ..experiment import Experiment
from .figures import PAGE_COLOURS
from .sections import Section, sections
from .tables import Table, cell
from .verdict import verdict

__all__ = ["html", "markdown", "markdown_table", "write_report"]


def write_report(experiment: Experiment, folder: str | Path, *, figures: bool = True) -> list[Path]:
    """Write ``report.json``, ``report.md`` and ``report.html`` to a folder.

    The same experiment gives the same bytes. Nothing is written if any of the three cannot be.

    Parameters
    ----------
    experiment : Experiment
        What was measured.
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
    parts = sections(experiment, with_figures=figures)
    title = f"rf8sim report: {', '.join(experiment.checkpoints)}"
    record = {"verdict": verdict(experiment), **experiment.to_json()}
    texts = {
        "report.json": _json(record),
        "report.md": markdown(title, parts),
        "report.html": html(title, parts),
    }
    contents = {Path(folder) / name: text.encode("utf-8") for name, text in texts.items()}
    write_files(contents)
    return list(contents)


def _json(data: object) -> str:
    """Write JSON one entry a line, but lists of numbers on one."""
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    return re.sub(r"\[[-+.\de,\s]+\]", lambda match: " ".join(match[0].split()), text) + "\n"


def html(title: str, parts: Sequence[Section]) -> str:
    """Return the page: one file that asks for nothing else."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    source = importlib.resources.files(__package__).joinpath("template.html.j2").read_text(encoding="utf-8")
    page = environment.from_string(source)
    return page.render(title=title, sections=parts, cell=cell, colours=PAGE_COLOURS) + "\n"


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


def markdown_table(table: Table) -> str:
    """Write a table as Markdown."""

    def row(cells: Sequence[Any]) -> str:
        return f"| {' | '.join(str(text).replace('|', chr(92) + '|') for text in cells)} |"

    kinds = [column.kind for column in table.columns]
    lines = [
        row([column.title for column in table.columns]),
        row([":--" if k == "text" else "--:" for k in kinds]),
    ]
    lines += [row([cell(value, kind) for value, kind in zip(values, kinds, strict=True)]) for values in table.rows]
    return "\n".join(lines)

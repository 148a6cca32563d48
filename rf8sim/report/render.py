"""From a page to files: HTML, Markdown and JSON. The HTML is in ``template.html.j2``; nothing else contains any."""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._base.files import goes_to_file, write_files
from .figures.figure import PAGE_COLOURS, Figure
from .sections.page import Page, Section
from .tables.table import WORDS, Table, cell

__all__ = ["SUFFIXES", "html", "is_file", "markdown", "markdown_table", "write_figures", "write_page"]

SUFFIXES = (".html", ".md", ".json")
"""A page is written to a file that ends in one of these, or in all three kinds to a folder."""

_FEW_ROWS = 16  # a longer table is closed at first, below the figures


def is_file(path: Path) -> bool:
    """Return whether a page goes to one file of that name: it ends in one of `SUFFIXES`, and no folder has the name.

    Raises
    ------
    ValueError
        If it ends as another kind of file does and no folder has the name.

    Examples
    --------
    >>> is_file(Path("fit.md")), is_file(Path("fit"))
    (True, False)
    >>> is_file(Path("fit.pdf"))
    Traceback (most recent call last):
    ValueError: fit.pdf: a page is written as .html, .md or .json, or to a folder: name one of these
    """
    expected = "a page is written as .html, .md or .json, or to a folder: name one of these"
    return goes_to_file(path, SUFFIXES, expected)


def write_page(page: Page, place: str | Path) -> list[Path]:
    """Write a page; the same page gives the same bytes.

    Parameters
    ----------
    page : Page
        What to write.
    place : str or Path
        A file that ends in .html, .md or .json; any other is a folder, which is made if it is missing and gets all
        three, named by the page. Figures of Markdown are written beside it as .svg files.

    Returns
    -------
    list of Path
        The files written: all, or none on failure.

    Raises
    ------
    OSError
        If a file cannot be written; then the older ones stay.
    """
    place = Path(place)
    alone = is_file(place)
    stem = place.stem if alone else page.name
    folder = place.parent if alone else place
    kinds = (place.suffix,) if alone else SUFFIXES
    files: dict[Path, bytes] = {}
    for kind in kinds:
        files[folder / f"{stem}{kind}"] = _text(page, kind, stem).encode("utf-8")
    if ".md" in kinds and page.figure_files:
        files |= {folder / _figure_file(stem, figure): figure.file("svg") for figure in page.figures}
    if alone:  # under the very name that was given
        files = {place if path.name == place.name else path: data for path, data in files.items()}
    write_files(files)
    return list(files)


def write_figures(figures: Iterable[Figure], folder: Path) -> list[Path]:
    """Write figures to a folder as .svg files, each under its name.

    Raises
    ------
    OSError
        If one cannot be written; then none is.
    """
    files = {folder / f"{figure.name}.svg": figure.file("svg") for figure in figures}
    write_files(files)
    return list(files)


def _text(page: Page, kind: str, stem: str) -> str:
    if kind == ".html":
        return html(page)
    return markdown(page, stem) if kind == ".md" else _json(page.record())


def _json(data: Mapping[str, Any]) -> str:
    """Write JSON with a line for each entry, and in lists of records one for each record: short lines to compare."""

    def text(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    def entry(value: Any) -> str:
        if isinstance(value, list) and value and not isinstance(value[0], int | float):
            return "[\n  " + ",\n  ".join(map(text, value)) + "\n ]"
        return text(value)

    return "{\n" + ",\n".join(f" {text(key)}: {entry(value)}" for key, value in data.items()) + "\n}\n"


def html(page: Page) -> str:
    """Return a page as HTML: one file that asks for nothing else."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    folder = importlib.resources.files(__package__)
    source, style, script = (
        folder.joinpath(name).read_text(encoding="utf-8") for name in ("template.html.j2", "page.css", "page.js")
    )
    template = environment.from_string(source)
    names = {"cell": cell, "words": WORDS, "few": _FEW_ROWS, "colours": PAGE_COLOURS, "style": style, "script": script}
    return template.render(page=page, **names) + "\n"


def markdown(page: Page, stem: str = "") -> str:
    """Return a page as Markdown.

    Parameters
    ----------
    page : Page
        The page.
    stem : str
        Files of figures are named by it: the name of the file without its suffix; by default that of the page.
    """
    lines = [f"# {_plain(page.title)}"]
    if page.made_by:
        lines.append(f"Made by `{page.made_by}`. {page.remark}".rstrip())
    for section in page.sections:
        lines.append(f"## {_plain(section.title)}")
        lines += _section(section, stem or page.name, page.figure_files)
    return "\n\n".join(lines) + "\n"


def _section(section: Section, stem: str, figure_files: bool) -> Iterator[str]:
    if section.lead is not None:
        yield markdown_table(section.lead)
    yield from map(_plain, section.paragraphs)
    if section.points:
        yield "\n".join(f"* {_plain(point)}" for point in section.points)
    if section.terms:
        yield "\n".join(f"* **{_plain(term)}**: {_plain(meaning)}." for term, meaning in section.terms)
    captioned = len(section.tables) > 1
    for table in section.tables:
        if not table.folded:
            yield from [f"**{_plain(table.caption)}**"] if captioned else []
            yield markdown_table(table)
    for figure in section.figures if figure_files else ():
        yield f"![{_plain(figure.title)}]({_figure_file(stem, figure)})"
        yield f"*{_plain(figure.title)}.* {_plain(figure.description)}"
    if section.figures and not figure_files:
        yield f"Figures of the HTML page: {'; '.join(_plain(figure.title) for figure in section.figures)}."
    for table in section.tables:
        if table.folded:
            yield f"<details><summary>{_plain(table.caption)}</summary>\n\n{markdown_table(table)}\n\n</details>"


def _figure_file(stem: str, figure: Figure) -> str:
    return f"{figure.name if figure.name.startswith(stem) else f'{stem}-{figure.name}'}.svg"


def markdown_table(table: Table) -> str:
    """Write a table as Markdown."""

    def row(cells: Sequence[str]) -> str:
        return f"| {' | '.join(_plain(text).replace('|', chr(92) + '|') for text in cells)} |"

    kinds = [column.kind for column in table.columns]
    lines = [
        row([column.title for column in table.columns]),
        f"| {' | '.join(':--' if kind in WORDS else '--:' for kind in kinds)} |",
    ]
    lines += [row([cell(value, kind) for value, kind in zip(values, kinds, strict=True)]) for values in table.rows]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Escape what Markdown would take for emphasis, code or HTML."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", re.sub(r"([*`])", r"\\\1", text))

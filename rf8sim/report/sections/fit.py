"""The report of a survey of fits: one Markdown page and its figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ggd.findings import verdict
from ggd.groups import MOST_GROUPS, SMALLEST_GROUP
from ggd.survey import Survey

from ..._base.files import write_files
from ..figures.figures import Figure
from ..figures.fit import figures
from ..render import markdown_table
from ..tables import fit as fit_tables
from ..tables.tables import Table

__all__ = ["write_figures", "write_fit_report"]


def write_figures(found: Survey, folder: Path) -> list[Path]:
    """Draw the figures of a survey to SVG files in a folder.

    Parameters
    ----------
    found : Survey
        The fits.
    folder : Path
        Made if it is missing.

    Returns
    -------
    list of Path
        The files written: all, or none on failure.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    contents = {folder / f"{figure.name}.svg": figure.file("svg") for figure in figures(found)}
    write_files(contents)
    return list(contents)


def write_fit_report(found: Survey, path: Path, made_by: str) -> list[Path]:
    """Write a page that answers whether the weights are generalized Gaussian, and its figures beside it.

    Parameters
    ----------
    found : Survey
        The fits.
    path : Path
        The page, a ``.md`` file; a figure is named by it and by what it shows: ``page-density.svg``.
    made_by : str
        The command, which the page states.

    Returns
    -------
    list of Path
        The files written, the page first.

    Raises
    ------
    ValueError
        If the suffix is another.
    OSError
        If a file cannot be written; then none is.
    """
    check_page(path)
    drawn = {figure.name: figure for figure in figures(found)}
    names = {name: f"{path.stem}-{name}.svg" for name in drawn}
    contents = {path: "\n\n".join(_page(found, made_by, drawn, names)).encode("utf-8") + b"\n"}
    contents |= {path.with_name(names[name]): figure.file("svg") for name, figure in drawn.items()}
    write_files(contents)
    return list(contents)


def check_page(path: Path) -> None:
    """Raise ValueError if a page cannot have that name."""
    if path.suffix != ".md":
        raise ValueError(f"{path}: the report is a Markdown page: expected a name that ends in .md")


def _page(found: Survey, made_by: str, drawn: dict[str, Figure], names: dict[str, str]) -> Iterable[str]:
    def show(*wanted: str) -> Iterable[str]:
        return (
            f"![{drawn[n].title}]({names[n]})\n\n*{drawn[n].title}.* {drawn[n].description}"
            for n in wanted
            if n in drawn
        )

    yield "# Do the weights follow a generalized Gaussian?"
    yield f"Made by `{made_by}`; the same command gives the same page."
    yield "## The answer"
    yield "\n".join(f"* {sentence}" for sentence in verdict(found))
    yield "## Tensor by tensor"
    yield (
        "The generalized Gaussian has density proportional to exp(-|w/scale|^shape), centred on zero; it is fitted by "
        "maximum likelihood to the weights that are not zero. The columns of rivals say how many bits per weight an "
        "ideal coder would spend more with them (negative: less). *Best* is the family with the fewest parameters "
        "within max(1e-3 bits, five noise floors) of the most likely one; *by groups* the lowest, median and highest "
        "shape of groups of channels (blocks of axis 0); *equal channels* the shape after each channel (an entry of "
        "axis 0) was divided by its root mean square."
    )
    yield _folded(fit_tables.tensors(found))
    yield from show("density", "densities", "quantiles")
    yield "## Families"
    yield markdown_table(fit_tables.families(found))
    yield "## Kinds of tensors, and depth"
    yield markdown_table(fit_tables.by_kind(found))
    yield from show("shapes")
    if len(found.tensors) > 1:
        yield "## What pooling hides"
        yield (
            "Gaussians of different scales, pooled, have heavy tails though none of them has: a low shape of the whole "
            "says little of its parts. The same holds for a tensor and its channels. Dividing a channel of n weights "
            "by its own root mean square shortens tails a little by itself: of a Gaussian the kurtosis falls from 3 to "
            "3 n / (n + 2)."
        )
        yield markdown_table(fit_tables.levels(found))
    if fit_tables.groups(found).rows:
        yield "## What a tensor hides"
        yield (
            f"A tensor pools its channels. Here they are in groups of neighbours, at most {MOST_GROUPS} of at least "
            f"{SMALLEST_GROUP:,} weights, each fitted by itself: in a fused projection a group is part of one "
            "projection, often one head. *Own fits save* says how many bits per weight an ideal coder would save with "
            "a fit for each group instead of one for all, *by scale alone* with one shape for all and a scale for each "
            "group. Groups *differ* if that is more than max(1e-3 bits, five times what so many fits gain by chance)."
        )
        yield _folded(fit_tables.groups(found))
        yield from show("groups")
    yield "## Do the estimators agree?"
    yield (
        "Whatever the data, three estimators give three shapes: maximum likelihood, the ratio E[w²] / E[|w|]², and "
        "E|w| / E[√|w|]². On generalized Gaussian data they agree within their errors; where they split, the family is "
        "not the right one. *Split* means by more than 2 % and by more than five standard errors."
    )
    yield _folded(fit_tables.estimators(found))
    yield from show("estimators")


def _folded(table: Table) -> str:
    text = markdown_table(table)
    return f"<details><summary>{table.caption}</summary>\n\n{text}\n\n</details>" if table.folded else text


def command(paths: Sequence[Path], page: Path, options: Sequence[str]) -> str:
    """Return the command that makes a page, without the folders of absolute paths."""
    shown = [path.name if path.is_absolute() else path.as_posix() for path in (*paths, page)]
    return " ".join(["rf8sim fit", *shown[:-1], *options, "--report", shown[-1]])

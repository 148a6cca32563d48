"""The command formats: number formats and named schemes, the codes of a format, a format as a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from ._common import app, as_json, print_table, terminal

if TYPE_CHECKING:
    from ..formats import Format
    from ..report.tables.table import Column, Table

__all__ = ["list_formats"]


@app.command(
    "formats",
    short_help="List the number formats and named schemes, or the codes of a format.",
    epilog="Examples: rf8sim formats; rf8sim formats --all; rf8sim formats rf8 --csv; rf8sim formats --schemes --json; "
    "rf8sim formats rf8 e4m3fn --figure rf8.svg; rf8sim formats 'rf(3,4)' -o mine.json",
)
def list_formats(
    names: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(
            metavar="NAME",
            help="One format for its code table, or its range and precision if it has more than 8 bits; several to "
            "compare; all if none. A .csv or .json file is a format too.",
        ),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="List other names of formats and formats with parameters too.")
    ] = False,
    schemes: Annotated[
        bool, typer.Option("--schemes", help="List the named schemes alone, which --format of other commands takes.")
    ] = False,
    codes: Annotated[bool, typer.Option("--codes", help="Show the code table, however many bits.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV: of one format the value of every code.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON: of one format the value of every code.")] = False,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write one format to a file that --format of other commands reads: .json (all its fields) or .csv.",
        ),
    ] = None,
    figure: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--figure", metavar="FILE", help="Draw the values of the formats to an .svg, .png or .pdf file."),
    ] = None,
) -> None:
    """List the number formats and named schemes, or the codes of one format."""
    from ..formats import format_aliases, format_grammar, get_format
    from ..quantization.scheme import scheme_names
    from ..report.tables import listings

    if csv and json_:
        raise ValueError("--csv and --json exclude each other: give one")
    if schemes and (names or figure or all_):
        raise ValueError("--schemes lists the named schemes: leave out names of formats, --all and --figure")
    if all_ and (names or figure or csv):
        raise ValueError("--all lists several tables: leave out names of formats, --figure and --csv")
    if (codes or output) and len(names or ()) != 1:
        raise ValueError(f"{'--codes' if codes else '--output'} takes the name of one format")
    if output is not None:
        from ..formats.files import write_format

        print(write_format(get_format((names or [""])[0]), output))
        return
    if schemes:
        _print([listings.schemes(scheme_names())], csv, json_)
        return
    for name in names or ():
        _refuse_scheme(name)
    chosen, packages = ([get_format(name) for name in names], {}) if names else _every_format()
    if figure is not None:
        from ..report.figures.distributions import value_density

        value_density(chosen).save(figure)
    elif names and len(chosen) > 1:
        _print([listings.overview(chosen)], csv, json_)
    elif names:
        brief = chosen[0].bits > 8 and not (codes or csv or json_)
        _print(listings.summary(chosen[0]) if brief else [listings.codes(chosen[0])], csv, json_)
    elif csv or json_:
        table = listings.overview(_sorted(chosen), packages, wide=False)
        if all_:
            forms = [dict(zip(("written", "meaning", "example"), form, strict=True)) for form in format_grammar()]
            records = listings.as_records(table)
            print(as_json({"formats": records, "aliases": format_aliases(), "grammar": forms}))
        else:
            _print([table], csv, json_)
    else:
        families = [
            listings.overview(members, packages, caption=family, wide=False)
            for family, members in listings.by_family(chosen).items()
        ]
        widths, room = _widths(families), terminal().width
        kept, left_out = _fitting(families[0].columns, widths, room)
        for family in families:
            columns = tuple(family.columns[k] for k in kept)
            rows = tuple(tuple(row[k] for k in kept) for row in family.rows)
            # The description, last, takes what is left of a line, and is folded there.
            print_table(replace(family, columns=columns, rows=rows), [widths[k] for k in kept[:-1]])
        if left_out:
            print(f"Left out, for {room} columns: {'; '.join(left_out)}. A wider terminal, --csv or --json has them.")
        if all_:
            other = [listings.aliases(format_aliases())] if format_aliases() else []
            _print([*other, listings.grammar(format_grammar())], csv, json_)
        _print([listings.schemes(scheme_names())], csv, json_)


def _refuse_scheme(name: str) -> None:
    from ..quantization.scheme import as_scheme, scheme_names

    scheme = as_scheme(name)  # refuses what is neither a format nor a scheme
    if str(scheme) != scheme.format.name or name in scheme_names():
        text = f" ({scheme.text})" if name in scheme_names() else ""
        element = scheme.format.name
        raise ValueError(f"{name!r} is a scheme{text}; for its element codes run 'rf8sim formats {element}'")


def _every_format() -> tuple[list[Format], dict[str, str]]:
    """Return all registered formats, then those of plug-ins with their packages; report plug-ins that fail."""
    from ..formats import format_names, get_format, plugin_packages

    formats, packages = [get_format(name) for name in format_names(16)], plugin_packages()
    for name in packages:
        try:
            formats.append(get_format(name))
        except ValueError as error:
            print(f"rf8sim: warning: {error}", file=sys.stderr)
    return formats, packages


def _sorted(formats: Sequence[Format]) -> list[Format]:
    from ..report.tables.listings import by_family

    return [fmt for members in by_family(formats).values() for fmt in members]


def _widths(tables: Sequence[Table]) -> list[int]:
    """Return widths at which the columns of several tables stand below each other."""
    from ..report.tables.table import cell

    columns = tables[0].columns
    rows = [row for table in tables for row in table.rows]
    return [max(len(cell(row[k], column.kind)) for row in rows) for k, column in enumerate(columns)]


_LEFT_OUT = ("zero", "values", "NaN", "infinities", "lowest", "octaves", "Gaussian SQNR, dB", "smallest positive")
_DESCRIPTION = 28  # characters of a line of it, at least


def _fitting(columns: Sequence[Column], widths: Sequence[int], room: int) -> tuple[list[int], list[str]]:
    """Return which columns of the overview are shown, and the titles of those that a narrow terminal has no room for.

    The family is the heading.
    """
    kept = [k for k, column in enumerate(columns) if column.title != "family"]
    needed = {k: max(widths[k], len(columns[k].title)) + 3 for k in kept}
    needed[kept[-1]] = _DESCRIPTION
    left_out = []
    for title in _LEFT_OUT:
        if sum(needed[k] for k in kept) <= room:
            break
        kept = [k for k in kept if columns[k].title != title]
        left_out.append(title)
    return kept, left_out


def _print(tables: Sequence[Table], csv: bool, json_: bool) -> None:
    from ..report.tables import listings

    for table in tables:
        if csv:
            print(listings.as_csv(table), end="")
        elif json_:
            print(as_json(listings.as_records(table)))
        else:
            print_table(table)

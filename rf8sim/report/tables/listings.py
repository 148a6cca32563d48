"""Tables of the formats themselves, for the command line."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ...formats import Format
from ...quantization.named import NAMED
from ...quantization.scheme import as_scheme
from .gaussian import GAUSSIAN_SQNR_DB
from .table import Column, Table

__all__ = [
    "FAMILIES", "aliases", "as_csv", "as_records", "by_family", "codes", "gaussian_sqnr_db", "grammar", "overview",
    "schemes", "summary",
]  # fmt: skip

FAMILIES = {
    "residual": "Residual floats",
    "minifloat": "Minifloats",
    "p3109": "IEEE P3109",
    "hifloat": "HiFloat",
    "integer": "Integers",
    "fixed point": "Fixed point",
    "posit": "Posits",
    "logarithmic": "Logarithmic",
    "takum": "Takums",
    "quantile": "Quantiles",
    "user": "Your own",
}
"""Families in the order of the listing, with headings; others stand before the users' own."""


def by_family(formats: Iterable[Format]) -> dict[str, list[Format]]:
    """Return formats by the headings of their families, in the order of `FAMILIES`.

    Examples
    --------
    >>> import rf8sim
    >>> names = ("nf4", "binary8p4", "int8", "rf8")
    >>> list(by_family(map(rf8sim.get_format, names)))
    ['Residual floats', 'IEEE P3109', 'Integers', 'Quantiles']
    """
    groups: dict[str, list[Format]] = {family: [] for family in FAMILIES}
    for fmt in formats:
        groups.setdefault(fmt.family, []).append(fmt)
    groups["user"] = groups.pop("user")  # behind families that are not listed above
    return {FAMILIES.get(family, family.capitalize()): members for family, members in groups.items() if members}


def overview(
    formats: Sequence[Format],
    packages: Mapping[str, str] | None = None,
    *,
    caption: str = "Number formats",
    wide: bool = True,
) -> Table:
    """Return one row for each format: its size, range and special codes, and its accuracy on a Gaussian.

    Parameters
    ----------
    formats : sequence of Format
        The formats.
    packages : mapping, optional
        The packages that formats of plug-ins are from, by name.
    caption : str
        Heading of the table.
    wide : bool
        Whether the SQNR of formats of more than 8 bits is computed, which takes seconds each.

    Returns
    -------
    Table
        The SQNR is the expected one for Gaussian data at the scale that is best for it, rounding to nearest.
    """
    packages = packages or {}
    columns = (
        Column("format"), Column("family"), Column("bits", "count"), Column("values", "count"), Column("lowest", ".6g"),
        Column("largest", ".6g"), Column("smallest positive", ".6g"), Column("octaves", ".1f"),
        Column("zero"), Column("NaN"), Column("infinities"), Column("Gaussian SQNR, dB", ".2f"),
        Column("description"),
    )  # fmt: skip
    rows = tuple(
        (
            fmt.name, fmt.family, fmt.bits, fmt.count, fmt.min, fmt.max, fmt.smallest, fmt.octaves,
            _codes(fmt, [fmt.zero, fmt.negative_zero]), _codes(fmt, [fmt.nan]),
            _codes(fmt, _infinities(fmt)),
            gaussian_sqnr_db(fmt) if wide or fmt.bits <= 8 else GAUSSIAN_SQNR_DB.get(fmt.name),
            fmt.description + (f" (from {packages[fmt.name]})" if fmt.name in packages else ""),
        )
        for fmt in formats
    )  # fmt: skip
    return Table(caption, columns, rows)


def aliases(names: Mapping[str, str]) -> Table:
    """Return one row for each other name of a format (`rf8sim.formats.format_aliases`)."""
    return Table("Other names of formats", (Column("name"), Column("format")), tuple(names.items()))


def grammar(forms: Sequence[tuple[str, str, str]]) -> Table:
    """Return one row for each kind of format with parameters (`rf8sim.formats.format_grammar`)."""
    columns = (Column("written"), Column("meaning"), Column("example"))
    return Table("Formats with parameters", columns, tuple(forms))


def schemes(names: Sequence[str]) -> Table:
    """Return one row for each named scheme: its text form, its size and its source.

    Parameters
    ----------
    names : sequence of str
        Names of schemes (`rf8sim.scheme_names`).

    Returns
    -------
    Table
        The bits per weight are those of a matrix of 4096 x 4096, scales and zero points included.

    Examples
    --------
    >>> schemes(["mxfp4"]).rows
    (('mxfp4', 'e2m1fn/1x32:e8m0fnu,floor', 4.25, 'OCP Microscaling Formats 1.0, MXFP4'),)
    """
    rows = []
    for name in names:
        scheme, (_, source) = as_scheme(name), NAMED[name]
        rows.append((name, scheme.text, scheme.bits_per_weight((4096, 4096)), source))
    columns = (Column("scheme"), Column("text form"), Column("bits/w.", ".6g"), Column("source"))
    return Table("Named schemes, with the bits per weight of a 4096 x 4096 matrix", columns, tuple(rows))


def _hex(fmt: Format, code: int) -> str:
    return f"0x{code:0{max(2, (fmt.bits + 3) // 4)}X}"


def _codes(fmt: Format, codes: Sequence[int | None]) -> str:
    return " ".join(_hex(fmt, code) for code in codes if code is not None) or "–"


def _infinities(fmt: Format) -> list[int]:
    """Return the canonical codes of the positive and the negative infinity."""
    codes = [np.flatnonzero(fmt.values == infinity) for infinity in (math.inf, -math.inf)]  # not by `sides`: slow
    return [int(of_sign[0]) for of_sign in codes if of_sign.size]


def gaussian_sqnr_db(fmt: Format) -> float | None:
    """Return the expected SQNR in dB on Gaussian data at the best scale; None for an unsigned format.

    That of a built-in format is a stored constant (`gaussian.GAUSSIAN_SQNR_DB`).

    Examples
    --------
    >>> import rf8sim
    >>> rf8, e4m3fn = (gaussian_sqnr_db(rf8sim.get_format(name)) for name in ("rf8", "e4m3fn"))
    >>> 27 < rf8 < 30 < e4m3fn < 33
    True
    """
    if not fmt.signed:
        return None
    if fmt.name in GAUSSIAN_SQNR_DB:
        return GAUSSIAN_SQNR_DB[fmt.name]
    return computed_sqnr_db(fmt)


def computed_sqnr_db(fmt: Format) -> float:
    """Compute what `gaussian_sqnr_db` returns of a signed format.

    Scales are tried 32 to the octave; for more than 8 bits 4 to the octave, and 32 around the best of these.
    """
    from ggd import GGD, expected_mse

    from ...codec.rounding import RoundingMode
    from ...quantization.scaling import expected_error, quantizer

    if fmt.bits <= 8:
        _, errors = expected_error(fmt, RoundingMode.NEAREST_EVEN, 2.0)
        return -10 * math.log10(float(errors.min()))
    values, edges = quantizer(fmt, RoundingMode.NEAREST_EVEN)

    def error(octave: float) -> float:
        scale = 2.0**octave / fmt.max
        return expected_mse(GGD.from_std(2.0, 1.0), scale * values, scale * edges)

    best = min(np.arange(0, max(12, fmt.octaves / 2 + 6), 1 / 4).tolist(), key=error)
    return -10 * math.log10(min(error(best + step / 32) for step in range(-8, 9)))


def codes(fmt: Format) -> Table:
    """Return one row for each code of a format: its canonical code, what it is, its rank and its value."""
    columns = (
        Column("code"), Column("bits"), Column("canonical"), Column("kind"), Column("rank", "count"),
        Column("value", ".17g"),
    )  # fmt: skip
    rows = tuple(
        (
            _hex(fmt, code),
            f"{code:0{fmt.bits}b}",
            _hex(fmt, canonical),
            _kind(value, canonical != code),
            None if rank < 0 else rank,
            None if math.isnan(value) else value,
        )
        for code, (canonical, rank, value) in enumerate(
            zip(fmt.canonical.tolist(), fmt.rank.tolist(), fmt.values.tolist(), strict=True)
        )
    )
    return Table(f"{fmt.name}: {fmt.description}", columns, rows)


def _kind(value: float, alias: bool) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinity"
    if alias:
        return "alias"
    return "zero" if value == 0 else "number"


def summary(fmt: Format) -> tuple[Table, Table]:
    """Return what a format is without its codes: facts, and how fine it is in each octave.

    Parameters
    ----------
    fmt : Format
        The format.

    Returns
    -------
    tuple of Table
        A row for each fact; and a row for each run of octaves with as many positive values each.

    Examples
    --------
    >>> import rf8sim
    >>> facts, precision = summary(rf8sim.get_format("e4m3fn"))
    >>> dict(facts.rows)["subnormals"]
    '7 below 0.015625'
    >>> precision.rows[0]
    ('2^8', 7, 12.5)
    """
    kinds = [_kind(value, False) for value in fmt.values.tolist()]
    below = fmt.smallest if fmt.subnormals_below is None else fmt.subnormals_below
    subnormals = int(np.unique(fmt.values[(fmt.values > 0) & (fmt.values < below)]).size)
    facts = (
        ("bits", str(fmt.bits)),
        ("family", fmt.family),
        ("values", f"{fmt.count:,}"),
        ("lowest", f"{fmt.min:.9g}"),
        ("largest", f"{fmt.max:.9g}"),
        ("smallest positive", f"{fmt.smallest:.9g}"),
        ("octaves", f"{fmt.octaves:.1f}"),
        ("subnormals", f"{subnormals:,} below {below:.9g}" if subnormals else "–"),
        ("zero", _codes(fmt, [fmt.zero, fmt.negative_zero])),
        ("NaN", f"{_codes(fmt, [fmt.nan])}, {kinds.count('NaN'):,} codes in all" if "NaN" in kinds else "–"),
        ("infinities", _codes(fmt, _infinities(fmt))),
        ("aliases", f"{_alias_count(fmt):,}"),
    )
    columns = (
        Column("octaves"), Column("positive values in each", "count"),
        Column("largest relative step, %", ".3g"),
    )  # fmt: skip
    return (
        Table(f"{fmt.name}: {fmt.description}", (Column("property"), Column("value")), facts),
        Table("Precision by octave of the positive values, from the largest", columns, tuple(_octaves(fmt))),
    )


def _alias_count(fmt: Format) -> int:
    numbers = ~np.isnan(fmt.values)
    return int(np.count_nonzero(numbers & (fmt.canonical != np.arange(fmt.values.size))))


def _octaves(fmt: Format) -> Iterable[tuple[str, int, float | None]]:
    """Yield runs of octaves of as many values: which, values in each, the largest step relative to the value below."""
    values = np.unique(fmt.values[np.isfinite(fmt.values) & (fmt.values > 0)])
    exponents = np.frexp(values)[1] - 1
    steps = 100 * np.diff(values) / values[:-1]
    octaves, first, counts = np.unique(exponents, return_index=True, return_counts=True)
    starts = [0, *(np.flatnonzero((np.diff(counts) != 0) | (np.diff(octaves) != 1)) + 1).tolist(), octaves.size]
    for start, end in reversed([*itertools.pairwise(starts)]):
        of_run = steps[first[start] : first[end - 1] + counts[end - 1]]
        largest = float(of_run.max()) if of_run.size else None
        last = f" to 2^{octaves[end - 1]}" if end - start > 1 else ""
        yield f"2^{octaves[start]}{last}", int(counts[start]), largest


def as_csv(table: Table) -> str:
    """Write a table as CSV, numbers in full; what does not exist is empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(column.title for column in table.columns)
    writer.writerows(["" if value is None else _full(value) for value in row] for row in table.rows)
    return buffer.getvalue()


def as_records(table: Table) -> list[dict[str, Any]]:
    """Return a table as a list of dicts for JSON; infinities become the text that CSV has."""
    titles = [column.title for column in table.columns]
    return [
        {
            title: _full(value) if isinstance(value, float) and math.isinf(value) else value
            for title, value in zip(titles, row, strict=True)
        }
        for row in table.rows
    ]


def _full(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)

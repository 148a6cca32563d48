"""Tables of the formats themselves, for the command line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from ...formats import Format
from ...quantization.named import NAMED
from ...quantization.scheme import as_scheme
from .table import Column, Table

__all__ = ["as_csv", "as_records", "codes", "overview", "schemes"]


def overview(formats: Sequence[Format]) -> Table:
    """Return one row for each format: its size, range and special codes, and its accuracy on a Gaussian.

    Parameters
    ----------
    formats : sequence of Format
        The formats.

    Returns
    -------
    Table
        The SQNR is the expected one for Gaussian data at the scale that is best for it, rounding to nearest.
    """
    columns = (
        Column("format"), Column("bits", "count"), Column("values", "count"), Column("lowest", ".6g"),
        Column("largest", ".6g"), Column("smallest positive", ".6g"), Column("octaves", ".1f"),
        Column("zero"), Column("NaN"), Column("infinities"), Column("Gaussian SQNR, dB", ".2f"),
        Column("description"),
    )  # fmt: skip
    rows = tuple(
        (
            fmt.name, fmt.bits, fmt.count, fmt.min, fmt.max, fmt.smallest, fmt.octaves,
            _codes([fmt.zero, fmt.negative_zero]), _codes([fmt.nan]),
            _codes([side.infinity for side in fmt.sides]), gaussian_sqnr_db(fmt), fmt.description,
        )
        for fmt in formats
    )  # fmt: skip
    return Table("Number formats", columns, rows)


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


def _codes(codes: Sequence[int | None]) -> str:
    return " ".join(f"0x{code:02X}" for code in codes if code is not None) or "–"


def gaussian_sqnr_db(fmt: Format) -> float | None:
    """Return the expected SQNR in dB on Gaussian data at the best scale; None for an unsigned format.

    Examples
    --------
    >>> import rf8sim
    >>> rf8, e4m3fn = (gaussian_sqnr_db(rf8sim.get_format(name)) for name in ("rf8", "e4m3fn"))
    >>> 27 < rf8 < 30 < e4m3fn < 33
    True
    """
    from ...codec.rounding import RoundingMode
    from ...quantization.scaling import expected_error

    if not fmt.signed:
        return None
    _, error = expected_error(fmt, RoundingMode.NEAREST_EVEN, 2.0)
    return -10 * math.log10(float(error.min()))


def codes(fmt: Format) -> Table:
    """Return one row for each code of a format: its canonical code, what it is, its rank and its value."""
    columns = (
        Column("code"), Column("bits"), Column("canonical"), Column("kind"), Column("rank", "count"),
        Column("value", ".17g"),
    )  # fmt: skip
    rows = tuple(
        (
            f"0x{code:02X}",
            f"{code:0{fmt.bits}b}",
            f"0x{int(canonical):02X}",
            _kind(fmt, code),
            None if rank < 0 else rank,
            None if math.isnan(value) else value,
        )
        for code, (canonical, rank, value) in enumerate(
            zip(fmt.canonical.tolist(), fmt.rank.tolist(), fmt.values.tolist(), strict=True)
        )
    )
    return Table(f"{fmt.name}: {fmt.description}", columns, rows)


def _kind(fmt: Format, code: int) -> str:
    value = float(fmt.values[code])
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinity"
    if int(fmt.canonical[code]) != code:
        return "alias"
    return "zero" if value == 0 else "number"


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

"""A format as a file: CSV with the value of each code, or JSON with every field of a `Format`.

The CSV has at least the columns ``code`` and ``value``, as ``rf8sim formats NAME --csv`` writes them. A value that is
empty is NaN. Where a column ``canonical`` gives the codes of NaN one canonical code, that is the format's NaN. The
rules of the edges (`Format.beyond` and the others) are those of a `Format` that is given none.

The JSON is an object with the fields of `FormatFile`, as `write_format` writes it, or the list of codes and values
that ``rf8sim formats NAME --json`` writes.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from .._base.checks import invalid_field
from .._base.files import write_files
from .base import PRECISION, REACH, Format

__all__ = ["FormatFile", "read_format", "write_format"]

Number = float | Literal["inf", "-inf"]


class FormatFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A format in JSON: the fields of `Format`; infinities are texts, and a value that is null is NaN.

    Attributes
    ----------
    values : tuple
        The value of each code.
    name : str, optional
        By default the name of the file without its suffix.
    bits : int, optional
        By default as many as the values need.
    """

    name: str | None = None
    bits: int | None = None
    family: str = "user"
    description: str | None = None
    beyond: Number = "inf"
    beyond_negative: Number | None = None
    nan: int | None = None
    nearest_boundaries: tuple[float, ...] | None = None
    subnormals_below: float | None = None
    ties_away: bool = False
    depth: int | None = None
    values: tuple[Number | None, ...]


def read_format(path: str | os.PathLike[str]) -> Format:
    r"""Read a format from a file.

    Parameters
    ----------
    path : str or path
        A file that ends in ``.csv`` or ``.json``. The format has the name of the file without its suffix, unless the
        JSON has another.

    Returns
    -------
    Format
        Of the family ``user``, unless the JSON has another.

    Raises
    ------
    ValueError
        If the file cannot be read or has no table of a format: which line or field, and what was expected.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "thirds.csv")
    ...     _ = path.write_text("code,value\n0,0\n1,0.25\n2,0.75\n3,2\n")
    ...     read_format(path).values.tolist()
    [0.0, 0.25, 0.75, 2.0]
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".json"):
        raise ValueError(f"{path}: a format is read from a .csv or a .json file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected text in UTF-8") from None
    except OSError as error:
        raise ValueError(f"{path}: a format cannot be read from it: {error.strerror}") from None
    try:
        record = _from_csv(text) if suffix == ".csv" else _from_json(text)
        return _format(record, path)
    except _TableError as refused:
        raise ValueError(f"{path}{refused}") from None


def write_format(fmt: Format, path: str | os.PathLike[str]) -> Path:
    """Write a format to a file that `read_format` reads.

    Parameters
    ----------
    fmt : Format
        The format.
    path : str or path
        A file that ends in ``.json``, for every field of the format, or in ``.csv``, for codes and values alone.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If the file ends otherwise.
    OSError
        If it cannot be written; then an older one stays.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(("code", "canonical", "value"))
        for code, (canonical, value) in enumerate(zip(fmt.canonical.tolist(), fmt.values.tolist(), strict=True)):
            writer.writerow((f"0x{code:02X}", f"0x{canonical:02X}", "" if math.isnan(value) else repr(value)))
        text = buffer.getvalue()
    elif suffix == ".json":
        names = (name for name in FormatFile.__struct_fields__ if name != "values")
        fields = {name: _written(getattr(fmt, name)) for name in names}
        record = FormatFile(**fields, values=tuple(map(_written, fmt.values.tolist())))
        text = msgspec.json.format(msgspec.json.encode(record), indent=1).decode() + "\n"
    else:
        raise ValueError(f"{path}: a format is written to a .csv or a .json file")
    write_files({path: text.encode("utf-8")})
    return path


def _written(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else "inf" if value > 0 else "-inf"


_FAMILIES = (
    "user", "residual", "minifloat", "p3109", "hifloat", "integer", "fixed point", "posit", "takum", "logarithmic",
    "quantile",
)  # fmt: skip


class _TableError(ValueError):
    """A table that is refused; the text continues the name of the file."""


def _format(record: FormatFile, path: Path) -> Format:
    name = path.stem if record.name is None else record.name
    if not re.fullmatch(r"\w[\w.+-]*(\([\w.,+-]*\))?", name) or name.lower().endswith((".csv", ".json")):
        raise _TableError(f": expected letters, digits, '_', '.', '+' and '-' in the name of a format, got {name!r}")
    values = np.array([math.nan if value is None else float(value) for value in record.values])
    bits = record.bits if record.bits is not None else max(len(values) - 1, 1).bit_length()
    if not 0 < bits <= 16 or len(values) != 1 << bits:
        raise _TableError(
            f": field 'values': expected 2**bits values, at most 65536, got {len(values)}"
            + ("" if record.bits is None else f" and {bits} bits")
        )
    if not np.any((values > 0) & np.isfinite(values)):
        raise _TableError(": expected at least one positive finite value")
    finite = values[np.isfinite(values)]
    for field, beyond, largest in (
        ("beyond", record.beyond, float(finite.max())),
        ("beyond_negative", record.beyond_negative, -float(finite.min())),
    ):
        if beyond is not None and not float(beyond) > largest:
            raise _TableError(
                f": field {field!r}: expected the next magnitude after the largest, {largest!r}, got {float(beyond)!r}"
            )
    if record.family not in _FAMILIES:
        raise _TableError(f": field 'family': expected one of {', '.join(_FAMILIES)}, got {record.family!r}")
    try:
        return Format(
            name=name,
            bits=bits,
            family=record.family,
            description=f"from {path.name}" if record.description is None else record.description,
            values=values,
            beyond=float(record.beyond),
            beyond_negative=None if record.beyond_negative is None else float(record.beyond_negative),
            nan=record.nan,
            nearest_boundaries=record.nearest_boundaries,
            subnormals_below=record.subnormals_below,
            ties_away=record.ties_away,
            depth=record.depth,
        )
    except ValueError as error:
        raise _TableError(f": {error}") from None


def _from_csv(text: str) -> FormatFile:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        columns = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        if not {"code", "value"} <= set(columns):
            has = ", ".join(map(repr, columns)) or "nothing"
            raise _TableError(f", line 1: expected columns 'code' and 'value', got {has}")
        return _table((f"line {reader.line_num}", row) for row in reader)
    except csv.Error as error:
        raise _TableError(f", line {reader.line_num}: expected CSV: {error}") from None


def _from_json(text: str) -> FormatFile:
    try:
        data = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        place = re.search(r" \(byte (\d+)\)", str(error))
        line = text.encode()[: int(place[1])].count(b"\n") + 1 if place else text.count("\n") + 1
        reason = re.sub(r" \(byte \d+\)", "", str(error)).removeprefix("JSON is malformed: ")
        raise _TableError(f", line {line}: expected JSON: {reason}") from None
    except RecursionError:
        raise _TableError(": expected the JSON of a format, got lists in lists without end") from None
    if isinstance(data, list):
        rows = [row if isinstance(row, dict) else {} for row in data]
        return _table((f"item {number}", row) for number, row in enumerate(rows, 1))
    try:
        record = msgspec.convert(data, FormatFile)
    except msgspec.ValidationError as error:
        message = invalid_field(error).replace("Invalid enum value", "expected a number, 'inf', '-inf' or null, got")
        raise _TableError(f": {message}") from None
    for code, value in enumerate(record.values):
        _check_number(value, f": field 'values[{code}]'")
    return record


def _table(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> FormatFile:
    """Return the table of codes and values, each row with its place in the file."""
    values: dict[int, Number | None] = {}
    places: dict[int, str] = {}
    canonical: dict[int, int] = {}
    for place, row in rows:
        code = _code(row.get("code"), place, "code")
        if code in places:
            raise _TableError(f", {place}: code 0x{code:02X} is on {places[code]} already: expected each code once")
        places[code], values[code] = place, _value(row.get("value"), place)
        if values[code] is None and row.get("canonical"):
            canonical[code] = _code(row["canonical"], place, "canonical code")
    bits = max(max(values, default=0), 1).bit_length()
    missing = next((code for code in range(1 << bits) if code not in values), None)
    if missing is not None:
        raise _TableError(f": code 0x{missing:02X} is missing: expected all {1 << bits} codes of {bits} bits")
    for code, given in canonical.items():
        if values.get(given, 0) is not None or given != min(canonical.values()):
            raise _TableError(
                f", {places[code]}: canonical code 0x{given:02X}: expected one code of NaN for all that are NaN"
            )
    nan = min(canonical.values()) if canonical else None
    return FormatFile(bits=bits, nan=nan, values=tuple(values[code] for code in range(1 << bits)))


def _code(text: object, place: str, what: str) -> int:
    try:
        digits = str(text).strip()
        code = int(digits) if digits.isdecimal() else int(digits, 0)
    except ValueError:
        code = -1
    if not 0 <= code < 1 << 16:
        raise _TableError(f", {place}: expected a {what} such as 0x1F, at most 16 bits, got {_shown(text)}")
    return code


def _value(text: object, place: str) -> Number | None:
    """Return a value as a number, a text for an infinity, None for NaN."""
    if text is None or (isinstance(text, str) and not text.strip()):
        return None
    try:
        value = float(text) if isinstance(text, str | int | float) else None
    except (ValueError, OverflowError):
        value = None
    if value is None or isinstance(text, bool):
        raise _TableError(f", {place}: expected a number, inf, -inf, or nothing for NaN, got {_shown(text)}")
    number: Number | None = _written(value)
    _check_number(number, f", {place}")
    return number


def _check_number(value: Number | None, place: str) -> None:
    """Refuse a number that no format has."""
    if value is None or isinstance(value, str) or value == 0:
        return
    fraction, exponent = math.frexp(value)
    if not math.ldexp(fraction, PRECISION).is_integer():
        raise _TableError(
            f"{place}: expected a value of at most {PRECISION} significant bits, such as a float32, got {value!r}"
        )
    if not -REACH < exponent <= REACH:
        raise _TableError(f"{place}: expected a magnitude between 2**-{REACH} and 2**{REACH}, got {value!r}")


def _shown(text: object) -> str:
    shown = repr(text) if text is not None else "nothing"
    return shown if len(shown) <= 40 else f"{shown[:40]}..."

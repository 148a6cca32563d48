"""Sections of a page about a quantized checkpoint compared with its original."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ...quantization.records import to_builtins
from ...studies.distortion import Distortion, TensorDistortion
from ..figures.distortion import sqnr_of_tensors
from ..tables.table import MOST_ROWS, WORST, Column, Table
from .page import Section

__all__ = [
    "Bounds",
    "Compared",
    "answer",
    "as_data",
    "everything",
    "headline",
    "method",
    "overview",
    "storage",
    "tensors",
    "uncompared",
]

DOUBTFUL = 0.5
"""A cosine below this is no rounding error: the weights are others, or lie in another order."""


@dataclass(frozen=True)
class Bounds:
    """What a quantized checkpoint must keep; None is no bound.

    Attributes
    ----------
    sqnr, cosine : float or None
        The least of each tensor that changed: SQNR in dB, cosine.
    model_sqnr : float or None
        The least SQNR of all weights together, in dB.
    bits : float or None
        The most stored bits per weight of all together.
    """

    sqnr: float | None = None
    cosine: float | None = None
    model_sqnr: float | None = None
    bits: float | None = None

    def check(self) -> None:
        """Raise ValueError if a bound is NaN or infinite."""
        for name, value in asdict(self).items():
            if value is not None and not math.isfinite(value):
                raise ValueError(f"bound {name} must be a finite number, got {value}")

    def broken(self, distortion: Distortion) -> list[str]:
        """Return in a sentence each which bounds are broken, with the worst tensor."""
        total, sentences = distortion.total, []
        below = [t for t in distortion.changed if self.sqnr is not None and not t.sqnr_db >= self.sqnr]
        if below:
            sentences.append(f"the SQNR of {_named(below, [_db(t.sqnr_db) for t in below])} is below {self.sqnr:g} dB")
        apart = [t for t in distortion.changed if self.cosine is not None and not (t.cosine or 0.0) >= self.cosine]
        if apart:
            apart.sort(key=lambda t: (t.cosine or 0.0, t.name))
            cosines = [f"{t.cosine or 0.0:.6f}" for t in apart]
            sentences.append(f"the cosine of {_named(apart, cosines)} is below {self.cosine:g}")
        if self.model_sqnr is not None and not total.sqnr_db >= self.model_sqnr:
            sentences.append(f"the SQNR of all weights is {_db(total.sqnr_db)}, below {self.model_sqnr:g} dB")
        if self.bits is not None and not total.bits_per_weight <= self.bits:
            sentences.append(f"{total.bits_per_weight:.3f} bits per weight are stored, more than {self.bits:g}")
        if distortion.total.differing and any(bound is not None for bound in (self.sqnr, self.cosine, self.model_sqnr)):
            sentences.append(f"{distortion.total.differing:,} elements are finite in one of the two alone")
        return sentences


@dataclass(frozen=True)
class Compared:
    """Two checkpoints compared, and how much of it a terminal shows.

    Attributes
    ----------
    distortion : Distortion
        What was measured.
    bounds : Bounds
        What must be kept.
    rows : int or None
        Rows on a terminal, the worst first; None for all tensors.
    """

    distortion: Distortion
    bounds: Bounds = Bounds()
    rows: int | None = WORST

    @property
    def failed(self) -> bool:
        """Whether a bound is broken or a weight of the original was not compared."""
        return bool(self.bounds.broken(self.distortion) or self.distortion.missing)


def answer(compared: Compared) -> list[str]:
    """Summarize in sentences."""
    return list(_sentences(compared.distortion, compared.bounds))


def _sentences(distortion: Distortion, bounds: Bounds) -> Iterator[str]:
    total, changed = distortion.total, distortion.changed
    error = "" if total.relative_error is None else f", relative error {100 * total.relative_error:.3g} %"
    cosine = "" if total.cosine is None else f", cosine {total.cosine:.6f}"
    yield (
        f"{distortion.quantized} against {distortion.original}: "
        f"{_tensors(len(distortion.tensors))}, {total.elements:,} weights; SQNR {_db(total.sqnr_db)}{cosine}{error}; "
        f"{total.bits_per_weight:.3f} bits per weight."
    )
    same = len(distortion.tensors) - len(changed)
    if changed:
        values = [tensor.sqnr_db for tensor in changed]
        yield (
            f"{_tensors(len(changed))} changed, {same} did not; SQNR of those that changed: lowest "
            f"{_db(changed[0].sqnr_db)} ({changed[0].name!r}), median {_db(statistics.median(values))}."
        )
    else:
        yield "No element of any tensor changed."
    odd = [tensor for tensor in changed if (tensor.cosine or 0.0) < DOUBTFUL and tensor.signal]
    if odd:
        yield (
            f"Check {_named(odd, [f'cosine {t.cosine or 0.0:.3f}' for t in odd])}: this is no "
            "rounding error; they may be other weights, or stored in an order or a layout that is not recognized."
        )
    if total.differing:
        worst = max(distortion.tensors, key=lambda tensor: tensor.differing)
        yield f"{total.differing:,} elements are finite in one of the two alone, {worst.differing:,} in {worst.name!r}."
    yield from distortion.notes
    missing = [tensor for tensor in distortion.not_compared if tensor.matters]
    if missing:
        named = _listed([f"{tensor.name!r} ({tensor.reason})" for tensor in missing])
        yield f"Not compared, although weights of the original: {named}."
    others = [tensor.name for tensor in distortion.not_compared if not tensor.matters]
    if others:
        yield f"{_tensors(len(others))} besides not compared: {_listed([repr(name) for name in others])}."
    for sentence in bounds.broken(distortion):
        yield f"Failed: {sentence}."


def headline(compared: Compared) -> tuple[Table, ...]:
    """Return the numbers of all weights together, and of the tensors of the lowest and the median SQNR."""
    columns = (
        Column("of"), Column("weights", "count"), Column("bits/w.", ".3f"), Column("SQNR, dB", ".2f"),
        Column("cosine", ".6f"), Column("rel. error, %", "percent"), Column("what to check", "note"),
    )  # fmt: skip
    distortion = compared.distortion
    broken, changed = compared.bounds.broken(distortion), distortion.changed
    missing = sum(tensor.matters for tensor in distortion.not_compared)
    check = [f"{len(broken)} broken bound{'s' * (len(broken) > 1)}"] if broken else []
    check += [f"{_tensors(missing)} not compared"] if missing else []

    def row(of: str, record: Any, check: str = "") -> tuple[Any, ...]:
        numbers = (record.elements, record.bits_per_weight, record.sqnr_db, record.cosine, record.relative_error)
        return (of, *numbers, check)

    rows = [row("all weights", distortion.total, "; ".join(check) or "nothing unusual")]
    if changed:
        lowest, median = changed[0], changed[len(changed) // 2]
        doubtful = "no rounding error?" if (lowest.cosine or 0.0) < DOUBTFUL and lowest.signal else ""
        rows.append(row(f"the lowest SQNR: {lowest.name}", lowest, doubtful))
        if len(changed) > 2:
            rows.append(row(f"the median SQNR: {median.name}", median))
    return (Table("In short", columns, tuple(rows)),)


def _named(tensors: Sequence[TensorDistortion], values: Sequence[str]) -> str:
    more = f" and of {len(tensors) - 1} more" if len(tensors) > 1 else ""
    return f"{tensors[0].name!r} ({values[0]}){more}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _tensors(count: int) -> str:
    return f"{count:,} tensor{'' if count == 1 else 's'}"


def _db(value: float) -> str:
    return f"{value:.2f} dB" if math.isfinite(value) else "∞" if value > 0 else "-∞ dB"


_COLUMNS = (
    Column("tensor"), Column("stored as"), Column("bits/w.", ".3f"), Column("SQNR, dB", ".2f"), Column("cosine", ".6f"),
    Column("rel. error, %", "percent"), Column("mean rel. error, %", "percent"), Column("largest error", ".3g"),
    Column("became zero, %", "percent"),
)  # fmt: skip


def _row(tensor: TensorDistortion) -> tuple[Any, ...]:
    zero = tensor.underflow / tensor.elements if tensor.elements else None
    return (
        tensor.name, tensor.stored_as, tensor.bits_per_weight, tensor.sqnr_db, tensor.cosine, tensor.relative_error,
        tensor.mean_relative_error, tensor.largest_error, zero,
    )  # fmt: skip


def overview(compared: Compared) -> Table:
    """Return the table for a terminal: the tensors with the lowest SQNR, or all."""
    distortion = compared.distortion
    changed = distortion.changed
    shown: Sequence[TensorDistortion] = distortion.tensors if compared.rows is None else changed[: compared.rows]
    hidden = len(distortion.tensors) - len(shown)
    several = "tensor" if len(shown) == 1 else f"{len(shown)} tensors"
    caption = "Tensor by tensor" if not hidden else f"The {several} of lowest SQNR (--all: {hidden} more)"
    kept = (0, 1, 2, 3, 4, 5, 7)
    rows = tuple(tuple(_row(tensor)[place] for place in kept) for tensor in shown)
    return Table(caption, tuple(_COLUMNS[place] for place in kept), rows)


def everything(distortion: Distortion) -> Table:
    """Return every number of each tensor, for CSV."""
    fields = (*TensorDistortion.__struct_fields__, *TensorDistortion.derived)

    def value(tensor: TensorDistortion, name: str) -> Any:
        number = getattr(tensor, name)
        if isinstance(number, tuple):
            return " x ".join(map(str, number))
        return int(number) if isinstance(number, bool) else number

    rows = tuple(tuple(value(tensor, name) for name in fields) for tensor in distortion.tensors)
    return Table("Every number", tuple(map(Column, fields)), rows)


def as_data(compared: Compared) -> dict[str, Any]:
    """Return plain data for JSON."""
    broken = compared.bounds.broken(compared.distortion)
    data: dict[str, Any] = to_builtins(compared.distortion)
    return {"bounds": to_builtins(asdict(compared.bounds)), "broken": broken, "passed": not compared.failed, **data}


def tensors(compared: Compared, figures: bool) -> Section:
    """Show every tensor, the worst first."""
    ordered = [*compared.distortion.changed, *(t for t in compared.distortion.tensors if t.identical)]
    rows = tuple(map(_row, ordered))
    table = Table("Tensor by tensor, the lowest SQNR first", _COLUMNS, rows, folded=len(rows) > MOST_ROWS)
    worst = replace(overview(replace(compared, rows=WORST)), caption="The tensors of lowest SQNR")
    drawn = figures and any(math.isfinite(tensor.sqnr_db) for tensor in compared.distortion.tensors)
    drawings = (sqnr_of_tensors(compared.distortion.tensors, compared.bounds.sqnr),) if drawn else ()
    return Section("tensors", "Tensor by tensor", (), (worst, table) if table.folded else (table,), drawings)


def storage(compared: Compared, _: bool) -> Section:
    """Show how the weights are stored, and what each way costs."""
    groups: dict[tuple[str, str], list[TensorDistortion]] = {}
    for tensor in compared.distortion.tensors:
        groups.setdefault((tensor.original_as, tensor.stored_as), []).append(tensor)
    rows = []
    for (before, after), members in groups.items():
        elements = sum(tensor.elements for tensor in members)
        bits = math.fsum(t.bits_per_weight * t.elements for t in members) / max(elements, 1)
        signal, noise = math.fsum(t.signal for t in members), math.fsum(t.noise for t in members)
        sqnr = math.inf if not noise else 10 * math.log10(signal / noise) if signal else -math.inf
        rows.append((before, after, len(members), elements, bits, sqnr, min(t.sqnr_db for t in members)))
    columns = (
        Column("original"), Column("stored as"), Column("tensors", "count"), Column("weights", "count"),
        Column("bits/w.", ".3f"), Column("SQNR, dB", ".2f"), Column("lowest, dB", ".2f"),
    )  # fmt: skip
    return Section("storage", "How the weights are stored", (), (Table("By way of storing", columns, tuple(rows)),))


def uncompared(compared: Compared, _: bool) -> Section | None:
    """List what was not compared."""
    left = compared.distortion.not_compared
    if not left:
        return None
    columns = Column("tensor"), Column("why", "note"), Column("weight of the original")
    rows = tuple((tensor.name, tensor.reason, "yes" if tensor.matters else "no") for tensor in left)
    return Section("not_compared", "Not compared", (), (Table("Tensors that were not compared", columns, rows),))


def method(compared: Compared, _: bool) -> Section:
    """Say what the numbers are."""
    words = (
        "Both are read as numbers: quantized weights as what their codes and scales stand for, and "
        "compared in float64 over elements that are finite in both. Tensors are paired by name where that is certain. "
        "Bits per weight count codes, scales and zero points.",
    )
    terms = (
        ("SQNR", "sum of squares of the original, divided by that of the difference, in dB"),
        ("rel. error", "norm of the difference, divided by that of the original"),
        ("mean rel. error", "mean of |x - y| / |x| over elements that are not zero in either"),
    )
    return Section("method", "What the numbers are", words, terms=terms)

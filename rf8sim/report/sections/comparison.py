"""Comparison of two reports: what changed, and what got worse."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..._base.files import read_json
from ...studies.experiment import Experiment, SchemeRecord, TensorRecord
from ..tables.experiment import label
from ..tables.table import Column, Table
from .contents import Contents
from .page import Section

__all__ = ["Change", "Comparison", "Thresholds", "changes", "compare", "counts", "method", "read_report"]

ALL = "all weights"


@dataclass(frozen=True)
class Thresholds:
    """The largest changes that do not count.

    Attributes
    ----------
    sqnr_db : float
        Of an SQNR, in dB.
    bits : float
        Of entropy-coded bits per weight.
    share : float
        Of the share of weights that become zero or lie beyond the range: 0.001 is 0.1 % of the weights.
    """

    sqnr_db: float = 0.5
    bits: float = 0.05
    share: float = 0.001

    def check(self) -> None:
        """Raise ValueError if a threshold is negative, infinite or NaN."""
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"threshold {name} must be >= 0, got {value}")


# What is compared: the quantity, its field of the record, the threshold, whether more is better, how it is written.
_QUANTITIES = (
    ("SQNR, dB", "sqnr_db", "sqnr_db", True),
    ("coded, bits/w.", "coded_bits_per_weight", "bits", False),
    ("underflow, share", "underflow_share", "share", False),
    ("overflow, share", "overflow_share", "share", False),
)
# Tables give shares in percent, as the report and the option --percent do.
_IN_PERCENT = {"underflow, share": "underflow, %", "overflow, share": "overflow, %"}


@dataclass(frozen=True)
class Change:
    """One number in both reports.

    Attributes
    ----------
    where : str
        A tensor, or all weights.
    scheme : str
        The scheme; empty where it is about the weights themselves.
    quantity : str
        What is compared.
    before, after : float or None
        Its values; None if it does not exist.
    verdict : str
        ``worse``, ``better``, ``same``, or ``paid``: fewer bits, but paid for with a worse error.
    """

    where: str
    scheme: str
    quantity: str
    before: float | None
    after: float | None
    verdict: str

    @property
    def change(self) -> float | None:
        """After less before; None if one does not exist or is infinite."""
        if self.before is None or self.after is None or math.isinf(self.before) or math.isinf(self.after):
            return None
        return self.after - self.before


@dataclass(frozen=True)
class Comparison:
    """Two reports compared.

    Attributes
    ----------
    changes : tuple of Change
        Every number that both have, those of all weights first.
    notes : tuple of str
        What else differs: settings, tensors and schemes that only one report has.
    missing : tuple of str
        Tensors of the first report that the second has not: they count as worse.
    thresholds : Thresholds
        Changes up to these do not count.
    """

    changes: tuple[Change, ...]
    notes: tuple[str, ...]
    missing: tuple[str, ...]
    thresholds: Thresholds

    @property
    def worse(self) -> tuple[Change, ...]:
        """What got worse."""
        return tuple(change for change in self.changes if change.verdict == "worse")

    @property
    def failed(self) -> bool:
        """Whether anything got worse or is missing."""
        return bool(self.worse or self.missing)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON; what is infinite or does not exist is None."""
        thresholds = self.thresholds
        return {
            "thresholds": {
                "sqnr_db": thresholds.sqnr_db,
                "bits": thresholds.bits,
                "percent": round(100 * thresholds.share, 12),
            },
            "worse": len(self.worse),
            "missing": list(self.missing),
            "notes": list(self.notes),
            "changes": [
                {
                    **asdict(change),
                    "before": _finite(change.before),
                    "after": _finite(change.after),
                    "change": change.change,
                }
                for change in self.changes
            ],
        }

    def table(self, *, everything: bool = False) -> Table:
        """Return the changes of all weights, and of the tensors those that count, or all of them."""
        shown = (c for c in self.changes if everything or c.where == ALL or c.verdict != "same")
        columns = (
            Column("where"), Column("scheme"), Column("quantity"), Column("before", ".4g"), Column("after", ".4g"),
            Column("change", "+.4g"), Column("verdict"),
        )  # fmt: skip
        rows = tuple((c.where, c.scheme, *_numbers(c), c.verdict) for c in shown)
        return Table("Before and after", columns, rows)

    def summary(self) -> list[str]:
        """Summarize the comparison in sentences."""
        sentences = [f"{len(self.worse)} of {len(self.changes)} numbers got worse."]
        if self.missing:
            names = ", ".join(self.missing[:5]) + (" and more" if len(self.missing) > 5 else "")
            sentences.append(f"{len(self.missing)} tensors of the first report are missing in the second: {names}.")
        return [*sentences, *self.notes]


def counts(comparison: Comparison) -> tuple[Table, ...]:
    """Return of each quantity how many numbers got worse, better or neither, and where the largest loss is."""
    columns = (
        Column("quantity"), *(Column(word, "count") for word in ("worse", "better", "paid", "same")), Column("worst"),
        Column("change", "+.4g"),
    )  # fmt: skip
    rows = []
    for quantity in dict.fromkeys(change.quantity for change in comparison.changes):
        changed = [change for change in comparison.changes if change.quantity == quantity]
        verdicts = Counter(change.verdict for change in changed)
        worse = [change for change in changed if change.verdict == "worse"]
        worst = max(worse, key=lambda change: math.inf if change.change is None else abs(change.change), default=None)
        title, _, _, difference = (quantity, None, None, None) if worst is None else _numbers(worst)
        where = "" if worst is None else f"{worst.where}, {worst.scheme}".rstrip(", ")
        numbers = (verdicts[word] for word in ("worse", "better", "paid", "same"))
        rows.append((_IN_PERCENT.get(title, title), *numbers, where, difference))
    return (Table("What got worse, by quantity", columns, tuple(rows)),)


def _numbers(change: Change) -> tuple[str, float | None, float | None, float | None]:
    """Return the quantity of a change and its numbers as tables show them: shares in percent."""
    numbers = change.before, change.after, change.change
    if change.quantity not in _IN_PERCENT:
        return change.quantity, *numbers
    before, after, difference = (None if number is None else 100 * number for number in numbers)
    return _IN_PERCENT[change.quantity], before, after, difference


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def read_report(path: Path) -> Contents:
    """Read a ``report.json``, or that of a folder.

    Raises
    ------
    ValueError
        If it is not a report of this version.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        data = read_json(file)
    except FileNotFoundError:
        raise ValueError(
            f"{file}: no such file: a report.json of 'rf8sim report' was expected, or its folder"
        ) from None
    except (OSError, ValueError):
        raise ValueError(f"{file}: not a report.json of 'rf8sim report'") from None
    try:
        return Contents.from_json(data if isinstance(data, dict) else {})
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def compare(before: Contents, after: Contents, thresholds: Thresholds = Thresholds()) -> Comparison:
    """Compare two reports: two checkpoints, or one before and after a change.

    Parameters
    ----------
    before, after : Contents
        The reports. Schemes and tensors are matched by their names.
    thresholds : Thresholds
        The largest changes that do not count.

    Returns
    -------
    Comparison
        Every number that both have.

    Raises
    ------
    ValueError
        If the reports have no scheme in common, or a threshold is negative.
    """
    thresholds.check()
    old_run, new_run = before.experiment, after.experiment
    formats = [name for name in old_run.settings.names if name in new_run.settings.names]
    if not formats:
        listed = (", ".join(e.settings.names) or "none" for e in (old_run, new_run))
        raise ValueError(f"the reports have no scheme in common: {' and '.join(listed)}")
    old, new = _by_label(old_run), _by_label(new_run)
    pairs = [(ALL, old_run.total, new_run.total)] + [(name, old[name], new[name]) for name in old if name in new]
    changes = tuple(change for pair in pairs for change in _changes(*pair, formats, thresholds))
    return Comparison(
        changes, tuple(_notes(old_run, new_run)), tuple(name for name in old if name not in new), thresholds
    )


def _by_label(experiment: Experiment) -> dict[str, TensorRecord]:
    return {label(experiment, tensor): tensor for tensor in experiment.tensors}


def _changes(
    where: str, before: TensorRecord, after: TensorRecord, formats: Sequence[str], thresholds: Thresholds
) -> Iterable[Change]:
    odd, odder = before.nans + before.infinities, after.nans + after.infinities
    if odd or odder:
        yield Change(where, "", "values not finite", odd, odder, _judged(odd, odder, 0.0, False))
    for name in formats:
        yield from _format_changes(where, before.scheme(name), after.scheme(name), thresholds)


def _format_changes(where: str, before: SchemeRecord, after: SchemeRecord, thresholds: Thresholds) -> Iterable[Change]:
    for quantity, field, threshold, more in _QUANTITIES:
        old, new = getattr(before, field), getattr(after, field)
        if old is None and new is None:
            continue
        verdict = _judged(old, new, getattr(thresholds, threshold), more)
        if field == "coded_bits_per_weight" and verdict == "better" and _paid(before, after, thresholds):
            verdict = "paid"
        if field == "sqnr_db" and old is not None and new is None:  # nothing is left of the weights
            verdict = "worse"
        yield Change(where, before.name, quantity, old, new, verdict)


def _paid(before: SchemeRecord, after: SchemeRecord, thresholds: Thresholds) -> bool:
    """Say whether fewer bits came with a worse error, or with no error to tell: weights that became zero take none."""
    if after.sqnr_db is None and before.sqnr_db is not None:
        return True
    errors = [quantity for quantity in _QUANTITIES if quantity[1] != "coded_bits_per_weight"]
    return any(
        _judged(getattr(before, field), getattr(after, field), getattr(thresholds, threshold), more) == "worse"
        for _, field, threshold, more in errors
    )


def _judged(before: float | None, after: float | None, threshold: float, more_is_better: bool) -> str:
    """Say whether a change beyond the threshold is for the better; what does not exist is neither."""
    if before is None or after is None or before == after:
        return "same"
    rise = after - before
    if abs(rise) <= threshold:
        return "same"
    return "better" if (rise > 0) == more_is_better else "worse"


def _notes(before: Experiment, after: Experiment) -> Iterable[str]:
    for name in ("seed", "include", "exclude"):
        old, new = getattr(before.settings, name), getattr(after.settings, name)
        if old != new:
            yield f"Setting {name} differs: {old} and {new}."
    for name in sorted({*before.versions, *after.versions}):
        if before.versions.get(name) != after.versions.get(name):
            yield f"Version of {name} differs: {before.versions.get(name)} and {after.versions.get(name)}."
    alone = [
        f"Only in {which}: {', '.join(names)}"
        for which, mine, other in (("BEFORE", before, after), ("AFTER", after, before))
        if (names := [name for name in mine.settings.names if name not in other.settings.names])
    ]
    if alone:
        yield f"{'. '.join(alone)}; not compared."
    added = len({*_by_label(after)} - {*_by_label(before)})
    if added:
        yield f"{added} tensors of the second report are new."


def changes(comparison: Comparison, _: bool) -> Section:
    """Show the changes, first those that count."""
    everything = replace(comparison.table(everything=True), caption="Every number of both reports", folded=True)
    return Section("changes", "Changes", (), (comparison.table(), everything))


def method(comparison: Comparison, _: bool) -> Section:
    """Say which changes count."""
    limits = comparison.thresholds
    words = (
        f"A change counts if it is more than {limits.sqnr_db:g} dB of SQNR, {limits.bits:g} entropy-coded bits per "
        f"weight, or {100 * limits.share:g} % of the weights rounded to zero or out of range. A tensor that is missing "
        "in the second report, and more values that are not finite, count too.",
    )
    terms = (("paid", "fewer bits, but with a larger error"),)
    return Section("method", "Which changes count", words, terms=terms)

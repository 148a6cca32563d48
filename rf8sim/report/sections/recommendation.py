"""Which scheme a report recommends for what, by rules that a reader can follow, and the numbers that they rest on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from ...checkpoints.plan import explicit
from ...formats import Format
from ...studies.experiment import Experiment, SchemeRecord
from ..tables.experiment import STORED
from ..tables.table import Column, Table
from .coded import rans_sizes
from .concerns import OVERFLOW, UNDERFLOW, concerns
from .defaults import quantized

__all__ = ["DB_A_BIT", "Candidate", "candidates", "cheapest", "knee", "most_accurate", "recommendations", "significand"]

DB_A_BIT = 20 * math.log10(2)
"""What a bit a weight is worth at any rate that is not small: 6.02 dB, half the error."""


@dataclass(frozen=True)
class Candidate:
    """A scheme as a reader can ask for it, over the tensors that ``rf8sim quantize`` stores in it by default.

    Attributes
    ----------
    text : str
        Its text form, which means the same to every command and in Python.
    record : SchemeRecord
        Its errors.
    sqnr_db : float
        Their SQNR.
    bits : float
        Bits per weight with entropy coding: as rANS stores them, or estimated where there are many tensors.
    unusual : int
        Tensors that the guard rails list for it.
    """

    text: str
    record: SchemeRecord
    sqnr_db: float
    bits: float
    unusual: int

    @property
    def worth(self) -> float:
        """SQNR less `DB_A_BIT` for each bit: the larger, the better the bits are spent."""
        return self.sqnr_db - DB_A_BIT * self.bits


def candidates(experiment: Experiment) -> list[Candidate]:
    """Return the schemes that have an SQNR, the most accurate first."""
    part = quantized(experiment)
    sizes = rans_sizes(part) or {}
    listed = concerns(experiment)
    found = [
        Candidate(
            explicit(record.scheme),
            record,
            record.sqnr_db,
            sizes.get(record.name, record.coded_bits_per_weight or 0.0),
            len({concern.tensor for concern in listed if concern.name == record.name}),
        )
        for record in part.total.schemes
        if record.sqnr_db is not None
    ]
    return sorted(found, key=lambda candidate: -candidate.sqnr_db)


def most_accurate(ranked: list[Candidate]) -> Candidate:
    """Return the scheme of the largest SQNR; of several, the one of the fewest bits."""
    return max(ranked, key=lambda candidate: (candidate.sqnr_db, -candidate.bits))


def knee(ranked: list[Candidate]) -> Candidate:
    """Return the knee of quality against rate: the scheme that a line of `DB_A_BIT` a bit touches from above.

    Fewer bits than its cost more than 6.02 dB for each bit that they save; more bits gain less than that. A scheme that
    is merely the coarsest is not chosen, and schemes that another beats in both never are.
    """
    return max(ranked, key=lambda candidate: (candidate.worth, -candidate.bits))


def cheapest(ranked: list[Candidate]) -> Candidate:
    """Return the scheme of the narrowest significand, whose multiplier is smallest; of several, the most accurate."""
    return min(ranked, key=lambda candidate: (significand(candidate.record.scheme.format), -candidate.sqnr_db))


@lru_cache(maxsize=256)
def significand(fmt: Format) -> int:
    """Return the bits of the widest significand of a format, from its values: what a multiplier multiplies.

    Logarithmic formats multiply by adding; theirs is 1.

    Examples
    --------
    >>> from rf8sim.formats import get_format
    >>> [significand(get_format(name)) for name in ("e5m2", "e4m3fn", "rf8", "int8", "lns8")]
    [3, 4, 5, 7, 1]
    """
    if fmt.family == "logarithmic":
        return 1
    numerators = (abs(Fraction(value).numerator) for value in fmt.values.tolist() if value and math.isfinite(value))
    return max((number // (number & -number)).bit_length() for number in numerators)


def recommendations(experiment: Experiment) -> tuple[Table, ...]:
    """Return the table of recommendations, and folded beneath it what they rest on; nothing without two schemes."""
    ranked = candidates(experiment)
    if len(ranked) < 2:
        return ()
    best = most_accurate(ranked)
    purposes = (
        ("accuracy", best),
        ("size", knee(ranked)),
        ("cheap multipliers", cheapest(ranked)),
    )
    columns = (
        Column("recommended for"), Column("scheme"), Column("SQNR, dB", ".1f"), STORED, Column("coded, bits/w.", ".2f"),
        Column("what to check", "note"),
    )  # fmt: skip
    rows = tuple(
        (purpose, one.text, one.sqnr_db, one.record.bits_per_weight, one.bits, _check(one, best))
        for purpose, one in purposes
    )
    return Table("Recommended schemes", columns, rows), _grounds(ranked)


def _check(candidate: Candidate, best: Candidate) -> str:
    """Say in a few words what speaks against a scheme."""
    remarks = []
    if candidate.unusual:
        remarks.append(f"{candidate.unusual} unusual tensor{'s' if candidate.unusual > 1 else ''}: see Guard rails")
    record = candidate.record
    if (record.underflow_share or 0.0) > UNDERFLOW:
        remarks.append(f"{100 * (record.underflow_share or 0.0):.1f} % rounded to zero")
    if (record.overflow_share or 0.0) > OVERFLOW:
        remarks.append(f"{100 * (record.overflow_share or 0.0):.1f} % clipped")
    if math.isfinite(best.sqnr_db) and best.sqnr_db > candidate.sqnr_db:
        remarks.append(f"{best.sqnr_db - candidate.sqnr_db:.1f} dB below {best.text}")
    return "; ".join(remarks) or "nothing unusual"


def _grounds(ranked: list[Candidate]) -> Table:
    columns = (
        Column("scheme"), STORED, Column("coded, bits/w.", ".3f"), Column("SQNR, dB", ".2f"),
        Column(f"SQNR - {DB_A_BIT:.2f} dB a coded bit", ".2f"), Column("significand, bits", "count"),
        Column("underflow, %", "percent"), Column("overflow, %", "percent"), Column("unusual tensors", "count"),
    )  # fmt: skip
    rows = tuple(
        (
            one.text, one.record.bits_per_weight, one.bits, one.sqnr_db, one.worth,
            significand(one.record.scheme.format), one.record.underflow_share, one.record.overflow_share, one.unusual,
        )
        for one in ranked
    )  # fmt: skip
    caption = (
        "What this rests on: accuracy is the largest SQNR, size the largest SQNR less 6.02 dB for each coded bit (the "
        "knee), cheap multipliers the fewest bits of significand"
    )
    return Table(caption, columns, rows, folded=True)

"""What came of a verification: how many answers were right, the first that were not, and whether all checks passed."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..vectors.vectors import VectorSet
from .answers import Malformed
from .causes import Evidence
from .comparison import Comparison
from .coverage import Group
from .explanation import Mismatch
from .findings import Finding

__all__ = ["Misplaced", "Verdict"]


@dataclass(frozen=True)
class Misplaced:
    """A line whose operands are not those of the vector in its place.

    Attributes
    ----------
    line, vector : int
        Number of the line, and of the vector that belongs there, from 1.
    got, expected : str
        Operands.
    belongs : int or None
        Number of the vector with these operands, if there is one nearby.
    """

    line: int
    vector: int
    got: str
    expected: str
    belongs: int | None

    def sentence(self) -> str:
        """Say it in words."""
        where = {
            None: "no vector near it has these",
            self.vector - 1: "the vector before it: a line came twice",
            self.vector + 1: "the vector after it: a line is missing",
        }.get(self.belongs, f"those of vector {self.belongs}")
        return f"line {self.line}: operands {self.got} where vector {self.vector} has {self.expected}; {where}"


@dataclass
class Verdict:
    """What came of a verification.

    Attributes
    ----------
    asked : VectorSet
        The vectors.
    comparison : Comparison
        When an answer is right.
    allow_text : bool
        Whether lines that are no vectors are passed over.
    received, compared, wrong : int
        Answers that came in, those compared, and those that were wrong in their result or their flags.
    wrong_results, wrong_flags : int
        How many results and flags were wrong.
    misplaced : int
        Answers out of their place.
    malformed, damaged, comments : int
        Lines that are no vectors; those of them that could be answers and keep their place; comments.
    undriven, first_undriven : int
        Damaged lines with unknown bits, and the number of the first, 0 if there is none.
    first_mismatches, first_malformed, first_misplaced : list
        The first of each, explained.
    by_class : dict
        For each class of vectors, how many were compared and how many were wrong.
    coverage : list of Group
        What was exercised.
    findings : list of Finding
        What fault explains the wrong answers.
    flag_findings : list of Finding
        Where flags are wrong.
    had_flags, had_operands : bool
        Whether the lines had flags, and operands.
    cause : str
        Fault of the whole stream, if it is known: see `rf8sim.hardware.verdict.causes`.
    evidence : Evidence
        Lines from which causes are inferred.
    displaced : bool
        Whether answers are out of place, so that wrong results say nothing of the design.
    """

    asked: VectorSet
    comparison: Comparison
    allow_text: bool = False
    received: int = 0
    compared: int = 0
    wrong: int = 0
    wrong_results: int = 0
    wrong_flags: int = 0
    misplaced: int = 0
    malformed: int = 0
    damaged: int = 0
    undriven: int = 0
    first_undriven: int = 0
    comments: int = 0
    had_flags: bool = False
    had_operands: bool = False
    cause: str = ""
    displaced: bool = False
    first_mismatches: list[Mismatch] = field(default_factory=list)
    first_malformed: list[Malformed] = field(default_factory=list)
    first_misplaced: list[Misplaced] = field(default_factory=list)
    by_class: dict[str, tuple[int, int]] = field(default_factory=dict)
    coverage: list[Group] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    flag_findings: list[Finding] = field(default_factory=list)
    evidence: Evidence = field(default_factory=Evidence)

    @property
    def expected(self) -> int:
        """How many answers must come in."""
        return len(self.asked)

    @property
    def checks(self) -> dict[str, str]:
        """What must hold: the name of each check, and what is wrong, or nothing."""
        checks = {
            "lines are vectors": self._lines(),
            "number of vectors": self._count(),
            "operands in order": _some(self.misplaced, "line", "out of place"),
            "results": _some(self.wrong_results, "result", "wrong"),
        }  # fmt: skip
        if self.comparison.flags:
            checks["flags"] = _some(self.wrong_flags, "vector", "with wrong flags")
            if not self.had_flags:
                checks["flags"] = "flags are to be compared, and the lines have none"
        return checks

    def _lines(self) -> str:
        bad = _some(self.damaged if self.allow_text else self.malformed, "line", "no vector")
        if not self.undriven:
            return bad
        many = "" if self.undriven == self.malformed else f" in {self.undriven:,} of them"
        return f"{bad}: undriven bits{many}, first in line {self.first_undriven}"

    def _count(self) -> str:
        if self.received == self.expected and self.expected:
            return ""
        off = self.received - self.expected
        more = f"{abs(off):,} too {'many' if off > 0 else 'few'}" if self.received else "nothing came in"
        return f"{self.received:,} answers for {self.expected:,} vectors: {more}"

    @property
    def passed(self) -> bool:
        """Whether everything compared equal, and everything came in."""
        complete = self.compared == self.received == self.expected > 0
        return complete and not self.wrong and not any(self.checks.values())


def _some(count: int, noun: str, what: str) -> str:
    if not count:
        return ""
    return f"{count:,} {noun}{'s' * (count != 1)} {'are' if count != 1 else 'is'} {what}"

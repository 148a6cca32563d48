"""The verdict on a design: its answers, read in blocks, against the golden model.

What is right is computed here, from the operands; nothing that the stream says of expected results is believed. A
stream passes only if every line is a vector of the set, in its place, with the right answer, and none is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..golden.golden import Answers, State
from ..golden.ports import Patterns
from ..vectors.vectors import VectorSet
from . import causes
from .answers import Batch, Malformed, read_answers
from .comparison import Comparison
from .coverage import Coverage, Group
from .diagnosis import Finding, Wrong, diagnose
from .explanation import Mismatch, Stimulus, explain, hexadecimal
from .flag_faults import diagnose_flags

__all__ = ["Misplaced", "Verdict", "judge", "verify"]

_REMEMBERED = 1 << 20  # wrong answers kept for the diagnosis
_SEARCHED = 1 << 20  # vectors among which the place of a misplaced line is looked for


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
    received, compared, right : int
        Answers that came in, those compared, and those that were right.
    wrong_results, wrong_flags : int
        How many results and flags were wrong.
    misplaced, not_in_set : int
        Answers out of their place, and those beyond the number expected.
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
    evidence: causes.Evidence = field(default_factory=causes.Evidence)

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


class _Cursor:
    """Takes any number of operands at a time from a set."""

    def __init__(self, asked: VectorSet) -> None:
        self._blocks: Iterator[tuple[Patterns, ...]] = asked.operand_blocks()
        self._held: tuple[Patterns, ...] | None = None

    def take(self, count: int) -> tuple[Patterns, ...] | None:
        """Return the operands of the next vectors, at most so many; None at the end."""
        taken: list[tuple[Patterns, ...]] = []
        while count:
            if self._held is None:
                self._held = next(self._blocks, None)
                if self._held is None:
                    break
            size = len(self._held[0])
            taken.append(tuple(patterns[:count] for patterns in self._held))
            self._held = tuple(patterns[count:] for patterns in self._held) if size > count else None
            count -= min(size, count)
        if not taken:
            return None
        return taken[0] if len(taken) == 1 else tuple(map(np.concatenate, zip(*taken, strict=True)))


def verify(
    asked: VectorSet,
    stream: BinaryIO,
    comparison: Comparison | None = None,
    *,
    first: int = 10,
    allow_text: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Verdict:
    """Compare a design's answers with what is right.

    Parameters
    ----------
    asked : VectorSet
        What the design was asked.
    stream : binary file
        Its answers: see `rf8sim.hardware.verdict.answers`.
    comparison : Comparison, optional
        When an answer is right; by default when every bit of the result is.
    first : int
        How many wrong answers to explain.
    allow_text : bool
        Pass over lines that are no vectors (a simulator's messages): they are counted and shown. All vectors must
        come in just the same.
    progress : callable, optional
        Called with a word, the vectors done, and those in all.

    Returns
    -------
    Verdict
        The verdict.

    Examples
    --------
    >>> import io
    >>> from rf8sim.hardware.vectors.vectors import vectors
    >>> asked = vectors("decode", "rf8", result="fixed:2.19")
    >>> lines = b"".join(asked.text())
    >>> verify(asked, io.BytesIO(lines)).passed
    True
    >>> verdict = verify(asked, io.BytesIO(lines.replace(b"7B 080000", b"7B 080001")))
    >>> verdict.passed, verdict.wrong_results, verdict.first_mismatches[0].sentences()[1].strip()
    (False, 1, 'exact 1, expected 080000 (1), got 080001 (1.0000019073486328), 1 place too high')
    """
    batches = read_answers(stream, asked.model, max(first, 1))
    return judge(asked, batches, comparison, first=first, allow_text=allow_text, progress=progress)


def judge(
    asked: VectorSet,
    batches: Iterable[Batch],
    comparison: Comparison | None = None,
    *,
    first: int = 10,
    allow_text: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Verdict:
    """Compare answers that have been read; the parameters are those of `verify`."""
    comparison = comparison or Comparison()
    if comparison.mode == "faithful" and (asked.model.into is None or asked.model.stochastic):
        how = "drawn" if asked.model.stochastic else "exact"
        raise ValueError(f"the comparison faithful has no sense here: results are {how}; compare bits or value")
    verdict = Verdict(asked, comparison, allow_text)
    run = _Run(asked, verdict, first)
    for batch in batches:
        run.add(batch)
        if progress is not None:
            progress("verifying", min(verdict.received, verdict.expected), verdict.expected)
    verdict.coverage = run.coverage.groups()
    verdict.by_class = dict(
        zip(asked.classes, zip(run.done.tolist(), run.wrong_by_class.tolist(), strict=True), strict=True)
    )
    slipped = causes.shift(asked, run.evidence)
    verdict.displaced = bool(verdict.misplaced or slipped)
    if not verdict.passed:
        verdict.cause = slipped or causes.other_setting(asked, run.evidence)
    unanswered = np.concatenate([np.zeros(0, np.int64), *run.unanswered])
    if run.flagged and not verdict.displaced:
        numbers, raised = (np.concatenate(column) for column in zip(*run.flagged, strict=True))
        wrong = Wrong(numbers, raised, min(verdict.received, verdict.expected), unanswered)
        verdict.flag_findings = diagnose_flags(asked, wrong)
    if run.remembered and not verdict.displaced:
        numbers, got = (np.concatenate(column) for column in zip(*run.remembered, strict=True))
        wrong = Wrong(numbers, got, min(verdict.received, verdict.expected), unanswered)
        verdict.findings = diagnose(asked, wrong, comparison, progress)
    return verdict


class _Run:
    """A verification under way."""

    def __init__(self, asked: VectorSet, verdict: Verdict, first: int) -> None:
        self.asked, self.verdict, self.first = asked, verdict, first
        self.cursor = _Cursor(asked)
        self.evidence = verdict.evidence
        self.coverage = Coverage(asked.model)
        self.state: State | None = None
        self.remembered: list[tuple[NDArray[np.int64], Patterns]] = []
        self.unanswered: list[NDArray[np.int64]] = []
        self.flagged: list[tuple[NDArray[np.int64], NDArray[np.uint8]]] = []
        self.kept = 0
        self.ends = np.cumsum(list(asked.classes.values()))
        self.done = np.zeros(self.ends.size, dtype=np.int64)
        self.wrong_by_class = np.zeros(self.ends.size, dtype=np.int64)

    def add(self, batch: Batch) -> None:
        verdict = self.verdict
        verdict.comments += batch.comments
        verdict.malformed += batch.malformed_count
        verdict.first_malformed += batch.malformed[: self.first - len(verdict.first_malformed)]
        size = len(batch.results)
        if not size:
            return
        start = verdict.received
        verdict.received += size
        verdict.had_flags |= batch.flags is not None
        verdict.had_operands |= batch.operands is not None
        self._count_damaged(batch, start)
        wanted = self.cursor.take(size)
        suspicious = None
        if wanted is not None:  # beyond the set, that they are too many is said by the count
            size = len(wanted[0])
            batch = _repaired(batch, wanted)
            operands = wanted if batch.operands is None else tuple(patterns[:size] for patterns in batch.operands)
            displaced = None
            if batch.operands is not None:
                displaced = self._check_order(batch.lines[:size], operands, wanted, start)
            before = self.state
            answers, self.state = self.asked.model.compute(operands, before)
            wrong = self._compare(batch, operands, answers, before, start)
            self.coverage.add(operands, answers)
            suspicious = wrong if batch.operands is None else displaced
        self.evidence.add(batch, start, suspicious)

    def _count_damaged(self, batch: Batch, start: int) -> None:
        verdict = self.verdict
        if batch.damaged is None:
            return
        verdict.damaged += int(np.count_nonzero(batch.damaged))
        if batch.undriven.size:
            verdict.first_undriven = verdict.first_undriven or int(batch.undriven[0])
            verdict.undriven += batch.undriven.size
        self.unanswered.append(np.flatnonzero(batch.damaged) + start)

    def _check_order(
        self, lines: NDArray[np.int64], operands: Sequence[Patterns], wanted: Sequence[Patterns], start: int
    ) -> int | None:
        """Note what is out of place, and return the number of the first such answer."""
        verdict, ports = self.verdict, self.asked.model.operands
        if all(np.array_equal(got, right) for got, right in zip(operands, wanted, strict=True)):
            return None
        out = ~_same(operands, wanted)
        verdict.misplaced += int(np.count_nonzero(out))
        for place in np.flatnonzero(out)[: self.first - len(verdict.first_misplaced)].tolist():
            belongs = self._nearest([patterns[place : place + 1] for patterns in operands], start + place)
            shown = [
                " ".join(hexadecimal(port, patterns[place]) for port, patterns in zip(ports, side, strict=True))
                for side in (operands, wanted)
            ]
            number = start + place + 1
            verdict.first_misplaced.append(Misplaced(int(lines[place]), number, shown[0], shown[1], belongs))
        return start + int(np.argmax(out))

    def _nearest(self, operands: Sequence[Patterns], number: int) -> int | None:
        """Return the number, from 1, of the vector that has these operands: of several the nearest to a number."""
        places, start = [], 0
        for block in self.asked.operand_blocks():
            places += (np.flatnonzero(_same(operands, block)) + start).tolist()
            start += len(block[0])
            if start > _SEARCHED:
                break
        return min(places, key=lambda place: abs(place - number)) + 1 if places else None

    def _compare(
        self, batch: Batch, operands: Sequence[Patterns], answers: Answers, before: State | None, start: int
    ) -> int | None:
        """Compare, and return the number of the first answer with a wrong result."""
        verdict, model = self.verdict, self.asked.model
        size = len(answers.results)
        got = batch.results[:size]
        right = verdict.comparison.right(model.result.kind, got, answers.results)
        if verdict.comparison.mode == "faithful":
            for mode in ("up", "down"):
                directed = model.changed(rounding=replace(model.rounding, mode=mode))
                neighbour = directed.compute(operands, before)[0].results
                right |= verdict.comparison.right(model.result.kind, got, neighbour)
        # A vector without a result is none of the set: it is out of place, and never right.
        right &= ~answers.missing
        answered = np.ones(size, np.bool_) if batch.damaged is None else ~batch.damaged[:size]
        right |= ~answered
        verdict.compared += int(np.count_nonzero(answered))
        result_wrong = ~right
        verdict.wrong_results += int(np.count_nonzero(result_wrong))
        compare_flags = verdict.comparison.flags and batch.flags is not None
        if compare_flags:
            assert batch.flags is not None
            flags_wrong = (batch.flags[:size] != answers.flags) & answered
            verdict.wrong_flags += int(np.count_nonzero(flags_wrong))
            places = np.flatnonzero(flags_wrong)
            if places.size and sum(part[0].size for part in self.flagged) < _REMEMBERED:
                self.flagged.append((places + start, batch.flags[places]))
            right = right & ~flags_wrong
        self._count_classes(np.flatnonzero(answered) + start, self.done)
        wrong = np.flatnonzero(~right)
        first_wrong = start + int(np.argmax(result_wrong)) if result_wrong.any() else None
        if not wrong.size:
            return None
        verdict.wrong += wrong.size
        self._count_classes(wrong + start, self.wrong_by_class)
        keep = np.flatnonzero(result_wrong)[: _REMEMBERED - self.kept]
        self.kept += keep.size
        if keep.size:
            self.remembered.append((keep + start, got[keep]))
        for place in wrong[: self.first - len(verdict.first_mismatches)].tolist():
            single = slice(place, place + 1)
            state = model.exact_of([x[: place + 1] for x in operands], before)[1] if model.streams else None
            number, asked = start + place, [patterns[single] for patterns in operands]
            stimulus = Stimulus(number, int(batch.lines[place]), self.asked.class_of(number), asked)
            flags = (
                int(batch.flags[place]) if compare_flags and batch.flags is not None and flags_wrong[place] else None
            )
            verdict.first_mismatches.append(explain(model, stimulus, answers.at(single), int(got[place]), flags, state))
        return first_wrong

    def _count_classes(self, numbers: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        hits = np.bincount(np.searchsorted(self.ends, numbers, side="right"), minlength=counts.size)
        counts += hits[: counts.size]


def _repaired(batch: Batch, wanted: Sequence[Patterns]) -> Batch:
    """Put the operands of the vectors in place of those that cannot be read."""
    if batch.damaged is None or batch.operands is None:
        return batch
    size = len(wanted[0])
    places = np.flatnonzero(batch.damaged[:size])
    operands = tuple(patterns.copy() for patterns in batch.operands)
    for got, right in zip(operands, wanted, strict=True):
        got[places] = right[places]
    return batch._replace(operands=operands)


def _same(operands: Sequence[Patterns], wanted: Sequence[Patterns]) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = np.ones(1, dtype=np.bool_)
    for got, right in zip(operands, wanted, strict=True):
        equal = got == right
        same = same & (equal.all(axis=1) if equal.ndim > 1 else equal)
    return same

"""Answers matched with the vectors in their places: how many are right, the first wrong ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..golden.golden import Answers, State
from ..golden.ports import Patterns
from ..vectors.vectors import VectorSet
from .answers import Batch
from .cases import REMEMBERED, Wrong
from .coverage import Coverage
from .explanation import Stimulus, explain, hexadecimal
from .outcome import Misplaced, Verdict

__all__ = ["Matching"]

_SEARCHED = 1 << 20  # vectors among which the place of a misplaced line is looked for


class _Cursor:
    """Takes any number of operands at a time from a set."""

    def __init__(self, asked: VectorSet) -> None:
        self._blocks: Iterator[tuple[Patterns, ...]] = asked.operand_blocks()
        self._rest: tuple[Patterns, ...] | None = None

    def take(self, count: int) -> tuple[Patterns, ...] | None:
        """Return the operands of the next vectors, at most so many; None at the end."""
        taken: list[tuple[Patterns, ...]] = []
        while count:
            if self._rest is None:
                self._rest = next(self._blocks, None)
                if self._rest is None:
                    break
            size = len(self._rest[0])
            taken.append(tuple(patterns[:count] for patterns in self._rest))
            self._rest = tuple(patterns[count:] for patterns in self._rest) if size > count else None
            count -= min(size, count)
        if not taken:
            return None
        return taken[0] if len(taken) == 1 else tuple(map(np.concatenate, zip(*taken, strict=True)))


class Matching:
    """A verification under way: `add` batches, then ask for what was wrong."""

    def __init__(self, asked: VectorSet, verdict: Verdict, first: int) -> None:
        self.asked, self.verdict, self.first = asked, verdict, first
        self.cursor = _Cursor(asked)
        self.evidence = verdict.evidence
        self.coverage = Coverage(asked.model)
        self.state: State | None = None
        self.remembered: list[tuple[NDArray[np.int64], Patterns]] = []
        self.unanswered: list[NDArray[np.int64]] = []
        self.flagged: list[tuple[NDArray[np.int64], Patterns]] = []
        self.kept = 0
        self.ends = np.cumsum(list(asked.classes.values()))
        self.done = np.zeros(self.ends.size, dtype=np.int64)
        self.wrong_by_class = np.zeros(self.ends.size, dtype=np.int64)

    def add(self, batch: Batch) -> None:
        """Compare the next answers."""
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

    def by_class(self) -> dict[str, tuple[int, int]]:
        """Return of each class of vectors how many were compared and how many were wrong."""
        counts = zip(self.done.tolist(), self.wrong_by_class.tolist(), strict=True)
        return dict(zip(self.asked.classes, counts, strict=True))

    def wrong_results(self) -> Wrong | None:
        """Return the wrong results that a diagnosis explains; None if there are none."""
        return self._wrong(self.remembered)

    def wrong_flags(self) -> Wrong | None:
        """Return the vectors with wrong flags; None if there are none."""
        return self._wrong(self.flagged)

    def _wrong(self, parts: Sequence[tuple[NDArray[np.int64], Patterns]]) -> Wrong | None:
        if not parts:
            return None
        numbers, got = (np.concatenate(column) for column in zip(*parts, strict=True))
        unanswered = np.concatenate([np.zeros(0, np.int64), *self.unanswered])
        return Wrong(numbers, got, min(self.verdict.received, self.verdict.expected), unanswered)

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
            if places.size and sum(part[0].size for part in self.flagged) < REMEMBERED:
                self.flagged.append((places + start, batch.flags[places]))
            right = right & ~flags_wrong
        self._count_classes(np.flatnonzero(answered) + start, self.done)
        wrong = np.flatnonzero(~right)
        first_wrong = start + int(np.argmax(result_wrong)) if result_wrong.any() else None
        if not wrong.size:
            return None
        verdict.wrong += wrong.size
        self._count_classes(wrong + start, self.wrong_by_class)
        keep = np.flatnonzero(result_wrong)[: REMEMBERED - self.kept]
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

"""Faults of a whole stream of answers: missing or repeated lines, or vectors of another setting.

One such slip puts everything after it out of place. The lines where that begins, and the last ones, tell which it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..golden.golden import golden
from ..golden.ports import Patterns
from ..vectors.classes import LEVELS
from ..vectors.vectors import VectorSet
from .answers import Batch

__all__ = ["Evidence", "Part", "other_setting", "recorded_setting", "shift"]

_KEPT = 64  # lines of a part
_FARTHEST = 8  # lines missing or doubled in one place
_SEEDS = 1 << 10  # seeds tried


class Part(NamedTuple):
    """Successive lines of a stream.

    Attributes
    ----------
    start : int
        Number of the first, from 0, among the answers.
    columns : tuple of ndarray
        What they hold: operands, or results if there are no operands.
    legible : ndarray of bool
        Which can be read.
    """

    start: int
    columns: tuple[Patterns, ...]
    legible: NDArray[np.bool_]

    @property
    def stop(self) -> int:
        """Number after the last."""
        return self.start + len(self.columns[0])

    def cut(self, start: int, stop: int) -> Part:
        """Return the lines with numbers from ``start`` to ``stop``, perhaps none."""
        first = min(max(start, self.start), self.stop)
        last = max(min(stop, self.stop), first)
        inside = slice(first - self.start, last - self.start)
        return Part(first, tuple(column[inside] for column in self.columns), self.legible[inside])

    def joined(self, after: Part) -> Part:
        """Return these lines and those after them."""
        columns = tuple(map(np.concatenate, zip(self.columns, after.columns, strict=True)))
        return Part(self.start, columns, np.concatenate([self.legible, after.legible]))

    def same(self, columns: tuple[Patterns, ...]) -> bool:
        """Say whether the lines that can be read hold just that."""
        return all(
            got.shape == wanted.shape and np.array_equal(got[self.legible], wanted[self.legible])
            for got, wanted in zip(self.columns, columns, strict=True)
        )


class Evidence:
    """What is kept of a stream: its first lines out of place, and its last ones.

    Attributes
    ----------
    received : int
        How many answers came in.
    operands : bool
        Whether they hold operands.
    line : int
        Number in the file, from 1, of the first line of ``opening``.
    damaged : int
        Number in the file of the last damaged line before ``line`` or at most a few after it, 0 if there is none.
    opening, end : Part, optional
        From the first line out of place on (without operands: from the first wrong result on); the last lines.
    """

    def __init__(self) -> None:
        self.received, self.line, self.damaged, self.operands = 0, 0, 0, False
        self.opening: Part | None = None
        self.end: Part | None = None

    def add(self, batch: Batch, start: int, suspicious: int | None) -> None:
        """Keep what is needed of answers from number ``start`` on; ``suspicious`` is the first out of place."""
        self.operands = batch.operands is not None
        legible = np.ones(len(batch.results), np.bool_) if batch.damaged is None else ~batch.damaged
        here = Part(start, batch.operands if batch.operands is not None else (batch.results,), legible)
        if self.opening is None and not legible.all():
            upto = legible.size if suspicious is None else suspicious - start + 1
            before = np.flatnonzero(~legible[:upto])
            self.damaged = int(batch.lines[before[-1]]) if before.size else self.damaged
        self.received = here.stop
        if self.opening is not None:
            self.opening = self.opening.joined(here.cut(start, self.opening.start + _KEPT))
        elif suspicious is not None:
            self.opening = here.cut(suspicious, suspicious + _KEPT)
            self.line = int(batch.lines[suspicious - start])
        if self.end is not None and here.stop - start < _KEPT:
            here = self.end.joined(here)
        self.end = here.cut(here.stop - _KEPT, here.stop)


def shift(asked: VectorSet, evidence: Evidence) -> str:
    """Say that lines are missing or came twice, if that puts the others out of place; else nothing.

    Without operands the number of answers must say so too.
    """
    opening, end = evidence.opening, evidence.end
    if opening is None or end is None or (asked.model.streams and not evidence.operands):
        return ""
    after = end.cut(opening.start, end.stop)
    for count in range(1, _FARTHEST + 1):
        for off in (count, -count):
            counted = evidence.received + off == len(asked)
            if not (evidence.operands or counted) or not _is_off(asked, evidence, opening, off):
                continue
            further = "" if counted and _is_off(asked, evidence, after, off) else ", and there is more of that later"
            first = evidence.line
            if off < 0 and evidence.damaged and not evidence.operands:
                more = "" if count == 1 else f"{count} lines "
                return f"line {evidence.damaged}, which is damaged, seems to be {more}too many{further}"
            if off < 0:
                lines = f"line {first} seems" if count == 1 else f"lines {first} to {first + count - 1} seem"
                return f"{lines} to have come twice{further}"
            where = f"after line {first - 1}" if first > 1 else "before line 1"
            # Without operands a slip shows where neighbours differ, which may be later.
            earlier = "" if evidence.operands else " or a little before"
            missing = "a line seems" if count == 1 else f"{count} lines seem"
            return f"{missing} to be missing {where}{earlier}{further}"
    return ""


def _is_off(asked: VectorSet, evidence: Evidence, part: Part, off: int) -> bool:
    """Say whether lines are those that belong ``off`` places further on."""
    start, stop = part.start + off, part.stop + off
    if start < 0 or stop > len(asked):
        return False
    operands = asked.operands_between(start, stop)
    return part.same(operands if evidence.operands else (asked.model.compute(operands)[0].results,))


def other_setting(asked: VectorSet, evidence: Evidence) -> str:
    """Say that the answers are to vectors of another level, seed or number, if they are; else nothing."""
    if not evidence.operands or evidence.end is None:
        return ""
    parts = [part for part in (evidence.opening, evidence.end) if part is not None]
    for level in sorted(LEVELS, key=lambda level: level != asked.level):
        structured = len(VectorSet(asked.model, level, 0, 0))
        random = evidence.received - structured
        if random < 0:
            continue
        made = VectorSet(asked.model, level, asked.seed, random)
        if not all(_fits(made, part.cut(0, structured)) for part in parts):
            continue
        drawn = [part.cut(structured, part.stop) for part in parts]
        seed = next((seed for seed in (asked.seed, *range(_SEEDS)) if _all_drawn(made, seed, drawn)), None)
        if seed is None and parts[0].start != structured:
            return ""  # another seed changes the first random vector of all
        given = {"--level": (level, asked.level), "--seed": (seed, asked.seed), "-n": (random, asked.random)}
        return _difference({option: pair for option, pair in given.items() if pair[0] != pair[1]})
    return ""


def _difference(differing: dict[str, tuple[int | None, int]]) -> str:
    if not differing:
        return ""
    values = {option: "of another value" if value is None else value for option, (value, _) in differing.items()}
    was = " ".join(f"{option} {value}" for option, value in values.items())
    here = " ".join(f"{option} {value}" for option, (_, value) in differing.items())
    random, wanted = differing.get("-n", (None, 0))
    if len(differing) == 1 and random is not None and random < wanted:
        return f"{was} makes so many vectors, and here it is {here}: give verify {was}, or the stream is cut short"
    return f"these are the vectors of {was}, and here it is {here}: give verify the options of the vectors"


def _fits(made: VectorSet, part: Part) -> bool:
    return part.same(made.operands_between(part.start, part.stop))


def _all_drawn(made: VectorSet, seed: int, parts: list[Part]) -> bool:
    other = VectorSet(made.model, made.level, seed, made.random)
    cheap = [part.cut(part.start, part.start + 1) for part in parts]  # one line rules most seeds out
    return all(_fits(other, part) for part in (*cheap, *parts))


def recorded_setting(asked: VectorSet, answers: Path, evidence: Evidence) -> str:
    """Say that these are answers to the vectors of a manifest in their folder, if they are; else nothing.

    Lines without operands can answer such vectors, if they are as many and fit where they are compared.
    """
    wanted = _setting(asked.manifest())
    differing = []
    for path, data in _manifests(answers):
        if data.get("operation") != asked.model.name or data.get("vectors") != evidence.received:
            continue
        differs = {key: (value, wanted[key]) for key, value in _setting(data).items() if value != wanted[key]}
        if not differs:
            return ""
        made = _made(asked, data)
        if made is not None and _answers_fit(made, evidence):
            differing.append((path, differs))
    if not differing:
        return ""
    path, differs = min(differing, key=lambda pair: len(pair[1]))
    differences = ", ".join(f"{key} {was} and not {here}" for key, (was, here) in differs.items())
    return f"{path.name} beside the answers is of other vectors: {differences}"


def _answers_fit(made: VectorSet, evidence: Evidence) -> bool:
    """Say whether lines without operands are right answers to other vectors."""
    if len(made) != evidence.received or evidence.operands or made.model.streams:
        return False
    parts = [part for part in (evidence.opening, evidence.end) if part is not None]
    return all(
        part.same((made.model.compute(made.operands_between(part.start, part.stop))[0].results,)) for part in parts
    )


def _made(asked: VectorSet, manifest: dict[str, Any]) -> VectorSet | None:
    """Return the vectors of a manifest; None if this version cannot make them."""
    try:
        model, rounding = asked.model, asked.model.rounding
        if manifest["formats"] != asked.manifest()["formats"]:
            ports = dict(port.split(":", 1) for port in manifest["formats"].split(" -> ")[0].split())
            result = manifest["formats"].split(" -> ")[1]
            formats = tuple(ports[name] for name in "abc" if name in ports) or result
            model = golden(manifest["operation"], formats, source=ports.get("x"),
                           result=None if "x" in ports else result)  # fmt: skip
        if model.into is not None:
            rounding = replace(rounding, mode=manifest["rounding"], overflow=manifest["overflow"])
        return VectorSet(model.changed(rounding=rounding), manifest["level"], manifest["seed"],
                         manifest["classes"].get("random", 0))  # fmt: skip
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None


def _setting(manifest: dict[str, Any]) -> dict[str, Any]:
    keys = {key: manifest.get(key) for key in ("formats", "rounding", "overflow", "level", "seed")}
    random = manifest["classes"].get("random", 0)
    return {**keys, "random vectors": random}


def _manifests(answers: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(answers.absolute().parent.glob("*.manifest.json"))[:100]:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(data, dict) and isinstance(data.get("classes"), dict):
            yield path, data

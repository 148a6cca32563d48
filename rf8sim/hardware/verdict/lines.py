"""One line of a design's answers: whether it is an answer, a damaged one, a comment or text.

A line is judged by its shape (`rf8sim.hardware.verdict.shapes`).
"""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ..golden.ports import Port
from .shapes import DIGIT, PREFIX, UNKNOWN, shapes_of

__all__ = ["Lines", "Malformed", "Shape", "Status", "shown"]

_FIELD = re.compile(rb"[^ ]+")


class Status(enum.IntEnum):
    """What a line is."""

    ANSWER = 0
    COMMENT = 1
    TEXT = 2
    DAMAGED = 3


class Malformed(NamedTuple):
    """A line that is no answer.

    Attributes
    ----------
    line : int
        Its number, from 1.
    text : str
        The line, shortened.
    reason : str
        What is wrong with it.
    """

    line: int
    text: str
    reason: str


class Shape(NamedTuple):
    """What lines of one shape are.

    Attributes
    ----------
    status : Status
        Whether they are answers.
    spans : list of (int, int)
        Where the digits of each field are, of answers.
    problem : str
        What is wrong; ``{}`` stands for a field.
    field : tuple of int, or None
        Where that field is.
    undriven : bool
        Whether there are unknown bits.
    """

    status: Status
    spans: list[tuple[int, int]]
    problem: str = ""
    field: tuple[int, int] | None = None
    undriven: bool = False

    def reason(self, text: bytes) -> str:
        """Return what is wrong with a line of this shape."""
        if self.field is None:
            return self.problem
        return self.problem.format(repr(text[slice(*self.field)].decode("ascii", "replace")))


_COMMENT = Shape(Status.COMMENT, [])
_UNDRIVEN = "{} has unknown bits: the design's output is not driven or not reset"


def shown(text: bytes) -> str:
    """Return the beginning of a line, of printable characters alone.

    Examples
    --------
    >>> shown(b"00 xx"), shown(bytes([27]) + b"[31m")
    ('00 xx', '?[31m')
    """
    characters = (chr(byte) if 32 <= byte < 127 else "?" for byte in text[:60])
    return "".join(characters) + ("..." if len(text) > 60 else "")


class Lines:
    """Judges lines: their layout is that of most of the first ones, or what a line of names says.

    Attributes
    ----------
    ports : tuple of Port
        What the fields are.
    header : int or None
        Number of the line of names, from 1.
    """

    def __init__(self, ports: Sequence[Port], first: Sequence[bytes]) -> None:
        *operands, result, flags = ports
        self.candidates = [(*operands, result), (*operands, result, flags), (result,), (result, flags)]
        self.header: int | None = None
        self._judged: dict[bytes, Shape] = {}
        shapes = Counter(shapes_of(first))
        votes = [_votes(layout, shapes) for layout in self.candidates]
        self.known = max(votes) > 0
        if not self.known:  # nothing can be read: as many fields
            counts: Counter[int] = Counter()
            for shape, lines in shapes.items():
                counts[len(_FIELD.findall(shape)) if set(shape) <= set(b"0x \x01") else 0] += lines
            votes = [counts[len(layout)] for layout in self.candidates]
        self.ports: tuple[Port, ...] = self.candidates[votes.index(max(votes))]
        for number, text in enumerate(first):
            named = self._named(text)
            if named is not None and _votes(named, shapes) >= max(votes):
                self.ports, self.header, self.known = named, number + 1, True
                break

    def _named(self, text: bytes) -> tuple[Port, ...] | None:
        """Return the ports that a line names, if it is a line of names."""
        if b"result" not in text.lower():
            return None
        by_name = {port.name: port for port in self.candidates[1]}
        names = re.split(r"[\s_,]+", text.decode("ascii", "replace").strip().lower())
        operands = {port.name for port in self.candidates[1][:-2]}
        complete = operands <= set(names) or not operands & set(names)
        if "result" in names and complete and set(names) <= set(by_name) and len(set(names)) == len(names):
            return tuple(by_name[name] for name in names)
        return None

    def status(self, shape: bytes, longest: int) -> Shape:
        """Judge the lines of a shape."""
        judged = self._judged.get(shape)
        if judged is None:
            judged = (
                self._judge(shape) if len(shape) < longest else Shape(Status.TEXT, [], "it is too long for a vector")
            )
            if len(self._judged) < 1 << 16:
                self._judged[shape] = judged
        return judged

    def _judge(self, shape: bytes) -> Shape:
        stripped = shape.strip(b" ")
        if not stripped or stripped.startswith((b"//", b"#")):
            return _COMMENT
        spans = _spans(self.ports, shape) if self.known else None
        if spans is not None:
            return Shape(Status.ANSWER, spans)
        fields = list(_FIELD.finditer(shape))
        likely = all(set(field[0].lstrip(PREFIX)) <= set(b"0x") for field in fields)
        off = min(abs(len(fields) - len(ports)) for ports in ([self.ports] if self.known else self.candidates))
        # What could be an answer: as many fields of digits, or one more or less; or digits where they belong.
        damaged = (likely and (off == 0 or (off == 1 and len(fields) > 1))) or self._resembles(stripped)
        status = Status.DAMAGED if damaged else Status.TEXT
        for field in fields:
            if UNKNOWN in field[0] and likely and (damaged or len(fields) > 1 or set(field[0]) == set(UNKNOWN)):
                return Shape(status, [], _UNDRIVEN, field.span(), True)
        if not likely or any(UNKNOWN in field[0] for field in fields):
            return Shape(status, [], "it is no line of hexadecimal fields")
        return Shape(status, [], self._wrong_fields([len(field[0].lstrip(PREFIX)) for field in fields]))

    def _resembles(self, stripped: bytes) -> bool:
        """Say whether a line has its digits where those of an answer are, but for a few."""
        if not self.known:
            return False
        wanted = b" ".join(DIGIT * port.digits for port in self.ports)
        if len(stripped) != len(wanted):
            return False
        places = [place for place, byte in enumerate(wanted) if byte == DIGIT[0]]
        digits = sum(stripped[place] in b"0x" for place in places)
        return 4 * digits >= 3 * len(places)

    def _wrong_fields(self, digits: list[int]) -> str:
        layouts = [self.ports] if self.known else self.candidates[1::2]
        wanted = " or ".join(" ".join(f"{port.name}({port.digits})" for port in ports) for ports in layouts)
        return f"its fields have {', '.join(map(str, digits))} digits, expected {wanted}"

    def beyond(self, text: bytes, spans: Sequence[tuple[int, int]]) -> str:
        """Return which field of an answer has more bits than its port."""
        for port, (start, stop) in zip(self.ports, spans, strict=True):
            field = text[start:stop]
            if int(field, 16) >> port.bits:
                return f"{field.decode()} has more than the {port.bits} bits of {port.name}"
        raise AssertionError("every field fits")


def _votes(ports: Sequence[Port], shapes: Counter[bytes]) -> int:
    """Return how many lines have just these fields."""
    return sum(lines for shape, lines in shapes.items() if _spans(ports, shape) is not None)


def _spans(ports: Sequence[Port], shape: bytes) -> list[tuple[int, int]] | None:
    """Return where the digits of each field are, if a shape has just these fields."""
    fields = list(_FIELD.finditer(shape))
    if len(fields) != len(ports):
        return None
    spans = []
    for port, field in zip(ports, fields, strict=True):
        digits = field[0][2:] if field[0].startswith(PREFIX) else field[0]
        if digits != DIGIT * port.digits:
            return None
        spans.append((field.end() - port.digits, field.end()))
    return spans

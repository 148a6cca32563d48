"""Reading what a design answers: lines of hexadecimal fields, in blocks, each line accounted for.

A line holds the operands, the result and the flags, or less: operands and result, result and flags, the result alone.
Fields are separated by blanks, underscores or commas and have their full number of digits, so that a line cut short is
never taken for another; ``0x`` may stand before the digits. Lines that begin with ``//`` or ``#`` are comments, and a
byte order mark of UTF-8 is passed over. Any other line is reported by its number and text. One that could be an answer
(undriven bits, a digit too few) is *damaged*: it keeps its place among the answers.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..golden.golden import Golden
from ..golden.ports import Patterns
from ..vectors.files import FLAGS, from_digits
from .lines import Lines, Malformed, Status, shown
from .shapes import digits_of, grouped, rows

__all__ = ["Batch", "Malformed", "read_answers"]

_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_IS_WIDE = "the file is UTF-16, which PowerShell's > writes: write it as ASCII or UTF-8"
_BUFFER = 1 << 22
_LONGEST = 1 << 16  # bytes of a line
_FIRST = 1 << 16  # bytes from which the layout of the lines is inferred
_SLOWLY = 1 << 14  # lines read by their shapes before trying in bulk again
_SPAN = 1 << 18  # bytes of them
_WINDOW = 1 << 16  # bytes first tried in bulk
_NO_LINES: NDArray[np.int64] = np.zeros(0, dtype=np.int64)


class Batch(NamedTuple):
    """Successive answers.

    Attributes
    ----------
    lines : ndarray of int64
        The number of each answer's line.
    operands : tuple of ndarray, or None
        Of each port, where the lines hold them.
    results : ndarray
        Bit patterns.
    flags : ndarray of uint8, or None
        Where the lines hold them.
    damaged : ndarray of bool, or None
        Which of these lines could be answers and cannot be read: their fields are 0 here. None if there are none.
    malformed : list of Malformed
        Lines among these that are no answers, damaged ones included: the first ones, with what is wrong.
    malformed_count : int
        How many there are.
    undriven : ndarray of int64
        Numbers of the damaged lines that have unknown bits.
    comments : int
        How many comments and empty lines were passed over.
    """

    lines: NDArray[np.int64]
    operands: tuple[Patterns, ...] | None
    results: Patterns
    flags: NDArray[np.uint8] | None
    damaged: NDArray[np.bool_] | None
    malformed: list[Malformed]
    malformed_count: int
    undriven: NDArray[np.int64]
    comments: int


class _Reader:
    def __init__(self, model: Golden, named: int) -> None:
        self.model, self.named = model, named
        self.lines: Lines | None = None
        self.line = 0
        self.template: bytes = b""
        self.spans: list[tuple[int, int]] = []

    def start(self, data: bytes) -> Lines:
        """Infer the layout from the first lines, once."""
        if self.lines is None:
            ports = (*self.model.operands, self.model.result, FLAGS)
            self.lines = Lines(ports, data.split(b"\n"))
        return self.lines

    def in_bulk(self, data: NDArray[np.uint8]) -> tuple[Batch | None, int]:
        """Read lines that look like the last one until one does not; return them and how many bytes they had."""
        if not self.template or not data.size:
            return None, 0
        template = np.frombuffer(self.template, np.uint8)
        count = data.size // template.size
        if not count:
            return None, 0
        table = np.ascontiguousarray(data[: count * template.size].reshape(count, -1).T)
        columns, fine, is_digit = self._columns(table)
        for place in np.flatnonzero(~is_digit):
            fine &= table[place] == template[place]
        good = count if fine.all() else int(np.argmin(fine))
        if not good:
            return None, 0
        numbers = np.arange(self.line + 1, self.line + 1 + good)
        self.line += good
        return self._batch(numbers, [column[:good] for column in columns]), good * template.size

    def _columns(self, table: NDArray[np.uint8]) -> tuple[list[Patterns], NDArray[np.bool_], NDArray[np.bool_]]:
        """Return the fields of lines of one shape, a line a column, where they are right, and the places of digits."""
        assert self.lines is not None
        fine = np.ones(table.shape[1], dtype=np.bool_)
        is_digit = np.zeros(table.shape[0], dtype=np.bool_)
        columns = []
        for port, (start, stop) in zip(self.lines.ports, self.spans, strict=True):
            digits = digits_of(table[start:stop])
            fine &= (digits < 16).all(axis=0)
            is_digit[start:stop] = True
            patterns, beyond = from_digits(port, digits.T)
            fine &= ~beyond
            columns.append(patterns)
        return columns, fine, is_digit

    def by_shape(self, data: NDArray[np.uint8], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Batch:
        """Read any lines, those of one shape together."""
        lines = self.start(b"")
        shapes, which = grouped(data, starts, stops)
        found = [lines.status(shape, _LONGEST) for shape in shapes]
        status = np.array([each.status for each in found], dtype=np.int8)[which]
        header = lines.header if lines.header is not None and self.line < lines.header <= self.line + starts.size else 0
        if header:
            status[header - self.line - 1] = Status.COMMENT
        reasons: dict[int, str] = {}
        placed = np.flatnonzero((status == Status.ANSWER) | (status == Status.DAMAGED))
        place = np.zeros(starts.size, dtype=np.int64)
        place[placed] = np.arange(placed.size)
        columns = [from_digits(port, np.zeros((placed.size, port.digits), np.uint8))[0] for port in lines.ports]
        for number, each in enumerate(found):
            if each.status is not Status.ANSWER:
                continue
            here = np.flatnonzero((which == number) & (status == Status.ANSWER))
            if not here.size:
                continue
            table = rows(data, starts[here], len(shapes[number]))
            self.template, self.spans = table[-1].tobytes(), each.spans
            read, fine, _ = self._columns(np.ascontiguousarray(table.T))
            for column, values in zip(columns, read, strict=True):
                column[place[here[fine]]] = values[fine]
            for i in here[~fine].tolist():
                reasons[i] = lines.beyond(data[starts[i] : stops[i]].tobytes(), each.spans)
            status[here[~fine]] = Status.DAMAGED
        malformed = np.flatnonzero((status == Status.TEXT) | (status == Status.DAMAGED))
        named = []
        for i in malformed[: self.named].tolist():
            text = data[starts[i] : stops[i]].tobytes()
            reason = reasons.get(i) or found[which[i]].reason(text)
            named.append(Malformed(self.line + i + 1, shown(text.strip()), reason))
        self.named -= len(named)
        damaged = status[placed] == Status.DAMAGED
        undriven = np.array([each.undriven for each in found], dtype=np.bool_)[which] & (status == Status.DAMAGED)
        batch = self._batch(placed + self.line + 1, columns)
        comments = int(np.count_nonzero(status == Status.COMMENT)) - bool(header)
        first = self.line + 1
        self.line += starts.size
        return batch._replace(
            damaged=damaged if damaged.any() else None,
            malformed=named,
            malformed_count=malformed.size,
            undriven=np.flatnonzero(undriven) + first,
            comments=comments,
        )

    def _batch(self, numbers: NDArray[np.int64], columns: Sequence[Patterns]) -> Batch:
        by_name = {port.name: column for port, column in zip(self.lines.ports if self.lines else (), columns)}  # noqa: B905
        names = [port.name for port in self.model.operands]
        operands = tuple(by_name[name] for name in names) if names[0] in by_name else None
        empty: Patterns = np.zeros(0, np.uint8)
        return Batch(numbers, operands, by_name.get("result", empty), by_name.get("flags"), None, [], 0, _NO_LINES, 0)

    def refused(self, text: bytes, reason: str) -> Batch:
        """Return what stands for a file that cannot be read at all."""
        self.line += 1
        malformed = [Malformed(self.line, shown(text), reason)]
        return self._batch(np.zeros(0, np.int64), [])._replace(malformed=malformed, malformed_count=1)


def read_answers(stream: BinaryIO, model: Golden, named: int = 1 << 10) -> Iterator[Batch]:
    """Read a design's answers a block at a time.

    Parameters
    ----------
    stream : binary file
        Lines, or a JSON object with ``vectors`` or an array of them.
    model : Golden
        What the fields are.
    named : int
        Lines that are no answers to be returned with what is wrong; the others are counted.

    Yields
    ------
    Batch
        Successive answers, and the lines that are none.
    """
    reader = _Reader(model, named)
    rest = b""
    first = True
    while True:
        piece = stream.read(_BUFFER)
        while first and piece and len(rest) + len(piece) < _FIRST:
            rest, piece = rest + piece, stream.read(_BUFFER)
        if first:
            rest = (rest + piece).removeprefix(codecs.BOM_UTF8)
            if rest.startswith(_WIDE):
                yield reader.refused(rest, _IS_WIDE)
                while stream.read(_BUFFER):  # a pipe is read to its end
                    pass
                return
            if rest.lstrip()[:1] in (b"{", b"["):
                yield from _read_json(rest + stream.read(), reader)
                return
            reader.start(rest[:_FIRST])
            data, first = rest, False
        else:
            data = rest + piece
        end = len(data) if not piece else data.rfind(b"\n") + 1
        if piece and not end and len(data) >= _LONGEST:
            end = len(data)  # one endless line
        yield from _block(data[:end], reader)
        rest = data[end:]
        if not piece:
            return


def _block(data: bytes, reader: _Reader) -> Iterator[Batch]:
    array = np.frombuffer(data, np.uint8)
    place, window = 0, _WINDOW
    while place < len(data):
        window = max(window, len(reader.template))
        batch, used = reader.in_bulk(array[place : place + window])
        if batch is not None:
            yield batch
            place += used
            if used > window - len(reader.template):  # all of it
                window = min(2 * window, _BUFFER)
                continue
        window = _WINDOW
        if place < len(data):
            starts, stops = _bounds(data, array, place)
            place = int(stops[-1])
            yield reader.by_shape(array, starts, stops)


def _bounds(data: bytes, array: NDArray[np.uint8], place: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the next lines begin and end."""
    stops = np.flatnonzero(array[place : place + _SPAN] == ord("\n"))[:_SLOWLY] + place + 1
    if not stops.size:
        stops = np.array([data.find(b"\n", place) + 1 or len(data)])
    return np.concatenate([[place], stops[:-1]]), stops


def _read_json(data: bytes, reader: _Reader) -> Iterator[Batch]:
    try:
        document = json.loads(data)
        rows = document["vectors"] if isinstance(document, dict) else document
        texts = [_row(row, reader) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        yield reader.refused(data, f"the JSON cannot be read: {type(error).__name__}: {error}")
        return
    text = b"".join(text + b"\n" for text in texts)
    reader.start(text[:_FIRST])
    yield from _block(text, reader)


def _row(row: Any, reader: _Reader) -> bytes:
    if isinstance(row, dict):
        names = [port.name for port in (*reader.model.operands, reader.model.result, FLAGS) if port.name in row]
        row = [row[name] for name in names]
    return " ".join(row).encode()

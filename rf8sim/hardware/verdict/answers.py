"""Reading what a design answers: lines of hexadecimal fields, in blocks, each line accounted for.

A line holds the operands, the result and the flags, or less: operands and result, result and flags, the result alone.
Fields are separated by blanks, underscores or commas and have their full number of digits, so that a line cut short is
never taken for another. Lines that begin with ``//`` or ``#`` are comments, and a byte order mark of UTF-8 is passed
over. Any other line is reported by its number and text.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..golden.golden import Golden
from ..golden.ports import Patterns, Port
from ..vectors.files import FLAGS, from_digits

__all__ = ["Batch", "Malformed", "read_answers"]

_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_IS_WIDE = "the file is UTF-16, which PowerShell's > writes: write it as ASCII or UTF-8"
_BUFFER = 1 << 22
_LONGEST = 1 << 16  # bytes of a line
_SLOWLY = 512  # lines read one by one before trying in bulk again
_VALUE = np.full(256, 255, dtype=np.uint8)
for _digits in (b"0123456789abcdef", b"0123456789ABCDEF"):
    _VALUE[list(_digits)] = np.arange(16)
_HEX = re.compile(rb"[0-9A-Fa-f]+")
_UNKNOWN = re.compile(rb"[0-9A-Fa-fXxZz?]+")


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
    malformed : list of Malformed
        Lines among these that are no answers.
    comments : int
        How many comments and empty lines were passed over.
    """

    lines: NDArray[np.int64]
    operands: tuple[Patterns, ...] | None
    results: Patterns
    flags: NDArray[np.uint8] | None
    malformed: list[Malformed]
    comments: int


class _Layout(NamedTuple):
    """Which ports the fields of a line are, and where the digits of the last line stood."""

    ports: tuple[Port, ...]
    template: bytes

    def spans(self) -> list[tuple[int, int]]:
        return [match.span() for match in _HEX.finditer(self.template)]


class _Reader:
    def __init__(self, model: Golden) -> None:
        self.model = model
        self.layout: _Layout | None = None
        self.header: list[str] | None = None
        self.line = 0

    # --- one line ---

    def candidates(self) -> list[tuple[Port, ...]]:
        operands, result = self.model.operands, self.model.result
        return [(*operands, result), (*operands, result, FLAGS), (result,), (result, FLAGS)]

    def parse(self, text: bytes) -> list[bytes] | str:
        """Return the fields of a line, or what is wrong with it."""
        words: list[bytes] = re.split(rb"[\s_,]+", text.strip())
        if self.layout is None and self.header is None:
            names = [field.decode("ascii", "replace").lower() for field in words]
            known = {port.name for port in (*self.model.operands, self.model.result, FLAGS)}
            asked = {port.name for port in self.model.operands}
            complete = asked <= set(names) or not asked & set(names)
            if "result" in names and complete and set(names) <= known and len(set(names)) == len(names):
                self.header = names
                return []
        for field in words:
            if not _HEX.fullmatch(field):
                if (_UNKNOWN.fullmatch(field) and len(words) > 1) or not field.lower().strip(b"xz?"):
                    return f"{field.decode()!r} has unknown bits: the design's output is not driven or not reset"
                return "it is no line of hexadecimal fields"
        digits = [len(field) for field in words]
        if self.layout is None:
            ports = self._choose(digits)
            if ports is None:
                return self._wrong_fields(digits)
            self.layout = _Layout(ports, text)
        if digits != [port.digits for port in self.layout.ports]:
            return self._wrong_fields(digits)
        for port, field in zip(self.layout.ports, words, strict=True):
            if int(field, 16) >> port.bits:
                return f"{field.decode()} has more than the {port.bits} bits of {port.name}"
        return words

    def _choose(self, digits: list[int]) -> tuple[Port, ...] | None:
        if self.header is not None:
            by_name = {port.name: port for port in (*self.model.operands, self.model.result, FLAGS)}
            return tuple(by_name[name] for name in self.header)
        return next((ports for ports in self.candidates() if [port.digits for port in ports] == digits), None)

    def _wrong_fields(self, digits: list[int]) -> str:
        shown = [self.layout.ports] if self.layout is not None else self.candidates()[1::2]
        wanted = " or ".join(" ".join(f"{port.name}({port.digits})" for port in ports) for ports in shown)
        return f"its fields have {', '.join(map(str, digits))} digits, expected {wanted}"

    # --- many lines ---

    def slowly(self, texts: Sequence[bytes]) -> Batch:
        kept: list[list[bytes]] = []
        numbers: list[int] = []
        malformed: list[Malformed] = []
        comments = 0
        for text in texts:
            self.line += 1
            stripped = text.strip()
            if not stripped or stripped.startswith((b"//", b"#")):
                comments += 1
                continue
            parsed = self.parse(text) if len(text) < _LONGEST else "it is too long for a vector"
            if isinstance(parsed, str):
                malformed.append(Malformed(self.line, _shown(stripped), parsed))
            elif parsed:
                kept.append(parsed)
                numbers.append(self.line)
                assert self.layout is not None
                self.layout = self.layout._replace(template=text)
        columns = []
        for place, port in enumerate(self.layout.ports if self.layout else ()):
            digits = _VALUE[np.frombuffer(b"".join(row[place] for row in kept), np.uint8)]
            columns.append(from_digits(port, digits.reshape(len(kept), port.digits))[0])
        return self.batch(np.array(numbers, dtype=np.int64), columns, malformed, comments)

    def in_bulk(self, data: NDArray[np.uint8]) -> tuple[Batch | None, int]:
        """Read lines that look like the last one until one does not; return them and how many bytes they had."""
        if self.layout is None or not data.size:
            return None, 0
        template = np.frombuffer(self.layout.template, np.uint8)
        count = data.size // template.size
        if not count:
            return None, 0
        table = np.ascontiguousarray(data[: count * template.size].reshape(count, -1).T)
        fine = np.ones(count, dtype=np.bool_)
        is_digit = np.zeros(template.size, dtype=np.bool_)
        columns = []
        for port, (start, stop) in zip(self.layout.ports, self.layout.spans(), strict=True):
            digits = _VALUE[table[start:stop]]
            fine &= (digits < 16).all(axis=0)
            is_digit[start:stop] = True
            patterns, beyond = from_digits(port, digits.T)
            fine &= ~beyond
            columns.append(patterns)
        for place in np.flatnonzero(~is_digit):
            fine &= table[place] == template[place]
        good = count if fine.all() else int(np.argmin(fine))
        if not good:
            return None, 0
        numbers = np.arange(self.line + 1, self.line + 1 + good)
        self.line += good
        return self.batch(numbers, [column[:good] for column in columns], [], 0), good * template.size

    def batch(
        self, lines: NDArray[np.int64], columns: Sequence[Patterns], malformed: list[Malformed], comments: int
    ) -> Batch:
        by_name = {port.name: column for port, column in zip(self.layout.ports if self.layout else (), columns)}  # noqa: B905
        names = [port.name for port in self.model.operands]
        operands = tuple(by_name[name] for name in names) if names[0] in by_name else None
        empty: Patterns = np.zeros(0, np.uint8)
        return Batch(lines, operands, by_name.get("result", empty), by_name.get("flags"), malformed, comments)


def read_answers(stream: BinaryIO, model: Golden) -> Iterator[Batch]:
    """Read a design's answers a block at a time.

    Parameters
    ----------
    stream : binary file
        Lines, or a JSON object with ``vectors`` or an array of them.
    model : Golden
        What the fields are.

    Yields
    ------
    Batch
        Successive answers, and the lines that are none.
    """
    reader = _Reader(model)
    rest = b""
    first = True
    while True:
        piece = stream.read(_BUFFER)
        if first:
            piece = piece.removeprefix(codecs.BOM_UTF8)
            if piece.startswith(_WIDE):
                yield reader.batch(np.zeros(0, np.int64), [], [Malformed(1, _shown(piece), _IS_WIDE)], 0)
                while stream.read(_BUFFER):  # whoever writes it is not cut off
                    pass
                return
        if first and piece.lstrip()[:1] in (b"{", b"["):
            yield from _read_json(piece + stream.read(), reader)
            return
        first = False
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
    place = 0
    while place < len(data):
        batch, used = reader.in_bulk(array[place:])
        if batch is not None:
            yield batch
            place += used
        texts: list[bytes] = []
        while place < len(data) and len(texts) < _SLOWLY:
            stop = data.find(b"\n", place) + 1 or len(data)
            texts.append(data[place:stop])
            place = stop
        if texts:
            yield reader.slowly(texts)


def _read_json(data: bytes, reader: _Reader) -> Iterator[Batch]:
    try:
        document = json.loads(data)
        rows = document["vectors"] if isinstance(document, dict) else document
        texts = [_row(row, reader) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        text = _shown(data)
        reader.line += 1
        nothing: Patterns = np.zeros(0, np.uint8)
        reason = f"the JSON cannot be read: {type(error).__name__}: {error}"
        yield Batch(np.zeros(0, np.int64), None, nothing, None, [Malformed(1, text, reason)], 0)
        return
    yield from _block(b"".join(text + b"\n" for text in texts), reader)


def _shown(text: bytes) -> str:
    """Return the beginning of a line, of printable characters alone."""
    characters = (chr(byte) if 32 <= byte < 127 else "?" for byte in text[:60])
    return "".join(characters) + ("..." if len(text) > 60 else "")


def _row(row: Any, reader: _Reader) -> bytes:
    if isinstance(row, dict):
        names = [port.name for port in (*reader.model.operands, reader.model.result, FLAGS) if port.name in row]
        row = [row[name] for name in names]
    return " ".join(row).encode()

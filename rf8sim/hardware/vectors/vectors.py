"""Test vectors: what a design is asked, and what it must answer, the same on every machine.

Examples
--------
>>> asked = vectors("multiply", "rf8")
>>> len(asked), asked.operands[0].dtype.name, hex(asked.results[0x7B6F])
(65536, 'uint8', '0x6f')
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import NDArray

from ..._base.checks import choose
from ..._base.files import write_files
from ..._version import __version__
from ...arithmetic.operations import Formats
from ..golden.golden import Answers, Golden, State, golden, joined
from ..golden.options import Options, check_given
from ..golden.ports import Patterns, Port
from . import classes
from . import files as vector_files
from .files import FLAGS, FORMS, SUFFIXES, Hashed, form_of
from .random_vectors import random_count, random_operands

__all__ = ["Block", "VectorSet", "make", "vectors"]

_BLOCK = 1 << 17  # vectors in memory at one time


class Block(NamedTuple):
    """Successive vectors of a set.

    Attributes
    ----------
    start : int
        Number of the first.
    operands : tuple of ndarray
        Bit patterns, an array a port.
    answers : Answers
        What must be answered.
    """

    start: int
    operands: tuple[Patterns, ...]
    answers: Answers


class VectorSet:
    """The vectors that a design is asked, in order; made by `vectors`.

    Attributes
    ----------
    model : Golden
        What must be answered.
    level, seed, random : int
        How thorough, the seed of the random vectors, and how many of these there are.
    """

    def __init__(self, model: Golden, level: int = 1, seed: int = 0, random: int | None = None) -> None:
        if level not in classes.LEVELS:
            raise ValueError(f"`level` must be 1 or 2, got {level}")
        if not 0 <= seed < 1 << 64:
            raise ValueError(f"`seed` must be from 0 to 2**64 - 1, got {seed}")
        if random is not None and random < 0:
            raise ValueError(f"the number of random vectors must not be negative, got {random}")
        self.model, self.level, self.seed = model, level, seed
        self.random = random_count(model, level) if random is None else random

    @property
    def ports(self) -> tuple[Port, ...]:
        """The operands, then the result."""
        return (*self.model.operands, self.model.result)

    @cached_property
    def _structured(self) -> list[tuple[str, tuple[Patterns, ...]]]:
        by_class: dict[str, list[tuple[Patterns, ...]]] = {}
        for name, operands in classes.structured(self.model, self.level):
            if self.model.into is not None and self.model.into.nan is None and not self.model.streams:
                asked = ~self.model.compute(operands)[0].missing
                operands = tuple(patterns[asked] for patterns in operands)
            by_class.setdefault(name, []).append(operands)
        return [(name, tuple(map(np.concatenate, zip(*parts, strict=True)))) for name, parts in by_class.items()]

    @cached_property
    def classes(self) -> dict[str, int]:
        """The classes of vectors and how many there are of each, in order."""
        sizes = {name: len(operands[0]) for name, operands in self._structured}
        return sizes | ({"random": self.random} if self.random else {})

    def __len__(self) -> int:
        return sum(self.classes.values())

    def class_of(self, number: int) -> str:
        """Return the class of a vector."""
        for name, size in self.classes.items():
            if number < size:
                return name
            number -= size
        return "beyond the set"

    def operand_blocks(self, size: int = _BLOCK) -> Iterator[tuple[Patterns, ...]]:
        """Yield the operands of successive vectors."""
        for _, operands in self._structured:
            for start in range(0, len(operands[0]), size):
                yield tuple(patterns[start : start + size] for patterns in operands)
        for start in range(0, self.random, size):
            yield self._drawn(start, min(start + size, self.random))

    def _drawn(self, start: int, stop: int) -> tuple[Patterns, ...]:
        """Return the random vectors of these numbers."""
        operands = random_operands(self.model, self.seed, start, stop)
        if self.model.into is not None and self.model.into.nan is None and not self.model.streams:
            # The result would have no code: the first vector of all is asked instead.
            missing = self.model.compute(operands)[0].missing
            for patterns, instead in zip(operands, self._structured[0][1], strict=True):
                patterns[missing] = instead[0]
        return operands

    def operands_between(self, start: int, stop: int) -> tuple[Patterns, ...]:
        """Return the operands of the vectors from number ``start``, from 0, to ``stop``; none beyond the last."""
        parts, first = [], 0
        for _, operands in self._structured:
            parts.append(tuple(patterns[max(start - first, 0) : max(stop - first, 0)] for patterns in operands))
            first += len(operands[0])
        begin, end = (min(max(number - first, 0), self.random) for number in (start, stop))
        if begin < end:
            parts.append(self._drawn(begin, end))
        return tuple(map(np.concatenate, zip(*parts, strict=True)))

    def blocks(self, size: int = _BLOCK) -> Iterator[Block]:
        """Yield successive vectors with their answers; memory is bounded by the size of a block."""
        start = 0
        state: State | None = None
        for operands in self.operand_blocks(size):
            answers, state = self.model.compute(operands, state)
            yield Block(start, operands, answers)
            start += len(operands[0])

    @cached_property
    def _all(self) -> tuple[tuple[Patterns, ...], Answers]:
        blocks = list(self.blocks())
        operands = tuple(map(np.concatenate, zip(*(block.operands for block in blocks), strict=True)))
        return operands, joined([block.answers for block in blocks])

    @property
    def operands(self) -> tuple[Patterns, ...]:
        """All operands: an array a port, of shape (vectors,) or (vectors, lanes)."""
        return self._all[0]

    @property
    def results(self) -> Patterns:
        """All results."""
        return self._all[1].results

    @property
    def flags(self) -> NDArray[np.uint8]:
        """All flags: inexact 1, underflow 2, overflow 4, divide by zero 8, invalid 16."""
        return self._all[1].flags

    def manifest(self) -> dict[str, Any]:
        """Return what the set is, for people and for JSON."""
        model = self.model
        formats = {p.name: p.kind.name for p in model.operands}
        exact = not model.rounds
        return {
            "made by": f"rf8sim {__version__}",
            "operation": model.name,
            "formats": " ".join(f"{name}:{kind}" for name, kind in formats.items()) + f" -> {model.result.kind.name}",
            "rounding": "none, the result is exact" if exact else model.rounding.mode,
            "overflow": "none" if exact else model.rounding.overflow,
            **model.particulars(),
            "level": self.level,
            "seed": self.seed,
            "vectors": len(self),
            "operands": [_describe(port) for port in model.operands],
            "result": _describe(model.result),
            "classes": self.classes,
        }

    def columns(self, which: str = "all", flags: bool = True) -> list[Port]:
        """Return the columns of a file: ``all``, ``in`` (operands) or ``out`` (result, and flags if wanted)."""
        out = [self.model.result, *([FLAGS] if flags else [])]
        return {"all": [*self.model.operands, *out], "in": list(self.model.operands), "out": out}[which]

    def text(self, form: str = "testfloat", *, which: str = "all", flags: bool = True) -> Iterator[bytes]:
        """Yield the text of a file in pieces.

        Parameters
        ----------
        form : str
            ``testfloat``, ``tv``, ``mem``, ``csv`` or ``json``.
        which : str
            ``all`` columns, ``in`` for the operands alone, ``out`` for what is answered.
        flags : bool
            Whether there is a column of flags.

        Yields
        ------
        bytes
            A piece.
        """
        ports = self.columns(which, flags)
        names = [port.name for port in ports]

        def blocks() -> Iterator[Sequence[tuple[Port, Patterns]]]:
            for block in self.blocks():
                patterns = dict(zip([port.name for port in self.model.operands], block.operands, strict=True))
                patterns |= {"result": block.answers.results, "flags": block.answers.flags}
                yield [(port, patterns[port.name]) for port in ports]

        return vector_files.lines(choose("form", form, FORMS), self.manifest(), names, blocks())

    def write(self, path: str | Path, form: str | None = None, *, flags: bool = True) -> list[Path]:
        """Write the vectors and, beside them, a manifest; nothing is left half-written.

        Parameters
        ----------
        path : str or Path
            The file. For the form ``mem`` there are two: ``mul.mem`` becomes ``mul.in.mem`` and ``mul.out.mem``.
            The manifest is ``path`` with ``.manifest.json`` after it.
        form : str, optional
            By default the file's suffix says it, see `rf8sim.hardware.vectors.files.form_of`.
        flags : bool
            Whether there is a column of flags.

        Returns
        -------
        list of Path
            The files, the manifest last.

        Raises
        ------
        ValueError
            If the form is unknown, or there is none and the suffix is none of a form.
        OSError
            If a file cannot be written.
        """
        target = Path(path)
        chosen = form_of(target) if form is None else choose("form", form, FORMS)
        stem = target.with_suffix("") if target.suffix in SUFFIXES else target
        parts = {"all": target} if chosen != "mem" else {
            which: stem.with_name(f"{stem.name}.{which}.mem") for which in ("in", "out")
        }  # fmt: skip
        files = {file: Hashed(self.text(chosen, which=which, flags=flags)) for which, file in parts.items()}

        def manifest() -> Iterator[bytes]:
            hashes = {file.name: pieces.sha256.hexdigest() for file, pieces in files.items()}
            columns = {file.name: [p.name for p in self.columns(which, flags)] for which, file in parts.items()}
            content = {**self.manifest(), "form": chosen, "columns": columns, "sha256": hashes}
            yield (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()

        beside = target.with_name(f"{target.name}.manifest.json")
        write_files({**files, beside: manifest()})
        return [*files, beside]


def _describe(port: Port) -> dict[str, Any]:
    return {
        "name": port.name, "kind": port.kind.name, "bits": port.kind.bits, "lanes": port.lanes, "digits": port.digits
    }  # fmt: skip


def make(model: Golden, level: int = 1, seed: int = 0, n: int | None = None) -> VectorSet:
    """Return the vectors of a golden model; see `vectors`."""
    return VectorSet(model, level, seed, n)


def vectors(
    operation: str,
    fmt: Formats = "rf8",
    *,
    level: int | None = None,
    seed: int | None = None,
    n: int | None = None,
    **options: Unpack[Options],
) -> VectorSet:
    """Make the test vectors of an operation.

    All combinations of operands of at most 16 bits together; for wider ones structured classes (thresholds of every
    rounding mode and their neighbours, every exponent and every distance of two, walking ones, specials, ties,
    cancellation, overflow, underflow) and random vectors.

    Parameters
    ----------
    operation : str
        A key of `rf8sim.hardware.golden.exact.OPERATIONS`; ``dot:n`` and ``block_dot:n`` with the number of products.
    fmt
        As for `rf8sim.hardware.golden.golden.golden`.
    level : int, optional
        1 (default), or 2 for many more vectors.
    seed : int, optional
        Of the random vectors, 0 by default.
    n : int, optional
        How many random vectors: by default 2**14 at level 1 and 2**20 at level 2, none where all combinations are
        asked anyway.
    **options
        ``source``, ``result``, ``rounding``, ``scale``, ``accumulator``, ``profile``, ``tininess`` and ``signalling``,
        as for `rf8sim.hardware.golden.golden.golden`.

    Returns
    -------
    VectorSet
        Arrays in ``.operands``, ``.results`` and ``.flags``; ``.write(path)`` for files; ``.blocks()`` a piece at a
        time.

    Raises
    ------
    ValueError
        If a name is unknown, the options do not fit together, or one of them changes nothing.

    Examples
    --------
    >>> weights = vectors("multiply", ("rf8", "int8"), result="fixed:9.19")
    >>> hex(weights.results[0x7B03]), weights.model.result.bits    # 1.0 times 3
    ('0x180000', 28)
    """
    model = golden(operation, fmt, **options)
    asked = VectorSet(model, 1 if level is None else level, 0 if seed is None else seed, n)
    check_given(model, {"level": level, "seed": seed, "n": n})
    return asked

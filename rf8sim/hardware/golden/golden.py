"""The golden model: what a design must answer, operation by operation.

An answer is made in three steps, each a function of its own, from which faulty designs are predicted too: operands are
*read* as numbers, the operation gives its *exact* result, and that is *rounded* once. Everything is integers and exact
tables, so the answers are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..._base.checks import choose
from ...arithmetic.operands import get_operand
from ...arithmetic.operations import (
    WORD,
    DrawTable,
    Formats,
    Integers,
    as_integers,
    draws,
    each_format,
    number_in_words,
    round_exact,
)
from ...codec.boundaries import place
from ...codec.rounding import Rounding, RoundingMode, as_rounding, check_choices
from ...formats import Format, get_format
from .exact import OPERATIONS, SHORT, Exact, State, accumulate, unless_nan
from .model import Model
from .options import check_given, given_rounding
from .ports import EXHAUSTIVE_BITS, Bits, Codes, Fixed, Float, Kind, Patterns, Port, get_kind, unsigned

__all__ = ["OPERATIONS", "Answers", "Exact", "Golden", "State", "all_operands", "golden", "joined"]

Array = NDArray[np.float64]

_PIECE = 1 << 15  # vectors that are float64 at one time
_TINY = 2.0**-900  # a random word of 32 bits does not bring so little to the smallest value of any format


class Answers(NamedTuple):
    """What a design must answer to some vectors.

    Attributes
    ----------
    results : ndarray of unsigned integers
        Bit patterns.
    flags : ndarray of uint8
        IEEE 754's exceptions, as bits of `rf8sim.arithmetic.codes.Flags` (TestFloat's).
    missing : ndarray of bool
        Where the result is NaN and its format has no code for it: such vectors are never asked.
    ties : ndarray of bool
        Where the exact result lies where the nearest modes must choose.
    """

    results: Patterns
    flags: NDArray[np.uint8]
    missing: NDArray[np.bool_]
    ties: NDArray[np.bool_]

    def at(self, where: NDArray[Any] | slice) -> Answers:
        """Return the answers to some of the vectors."""
        return Answers(self.results[where], self.flags[where], self.missing[where], self.ties[where])


def joined(pieces: Sequence[Answers]) -> Answers:
    """Return the answers of successive pieces as one."""
    results, flags, missing, ties = zip(*pieces, strict=True)
    return Answers(np.concatenate(results), np.concatenate(flags), np.concatenate(missing), np.concatenate(ties))


class Golden(Model):
    """A golden model, in three steps; `golden` makes one. Its attributes are those of `Model`."""

    def read(self, operands: Sequence[Patterns]) -> list[NDArray[Any]]:
        """Return the numbers that operands stand for; control bits and random words as they are."""
        return [
            patterns if isinstance(port.kind, Bits) else port.kind.values(patterns)
            for port, patterns in zip(self.operands, operands, strict=True)
        ]

    def exact(self, values: Sequence[NDArray[Any]], state: State | None = None) -> tuple[Exact, State | None]:
        """Return exact results, and what an accumulator then holds."""
        operation = OPERATIONS[self.operation].exact
        with np.errstate(all="ignore"):
            if operation is None:
                return accumulate(self, values, state)
            exact = operation(self, values)
            if isinstance(self.result.kind, Fixed) and exact.values.dtype == np.float64:
                finite = np.isfinite(exact.values)
                patterns = self.result.kind.patterns(np.where(finite, exact.values, 0.0))
                exact = unless_nan(self.result.kind.integers(patterns), ~finite, exact.flags)
        return exact, None

    def exact_of(self, operands: Sequence[Patterns], state: State | None = None) -> tuple[Exact, State | None]:
        """Return the exact results of operands, and what an accumulator then holds."""
        exact, state = self.exact(self.read(operands), state)
        kind, patterns = self.operands[0].kind, operands[0]
        if self.operation == "encode" and isinstance(kind, Fixed) and kind.bits > 53:
            exact = exact._replace(exactly=lambda index: kind.number(int(patterns[index])))
        return exact, state

    def round(self, exact: Exact, words: Patterns | None = None) -> Answers:
        """Round exact results; ``words`` are the random words of ``stochastic``."""
        values, flags, exactly = exact
        nowhere = np.zeros(values.shape, dtype=np.bool_)
        kind = self.result.kind
        if isinstance(kind, Fixed):
            return Answers(kind.wrapped(values), flags.astype(np.uint8), nowhere, nowhere)
        if isinstance(kind, Float):
            return Answers(kind.patterns(values), flags.astype(np.uint8), nowhere, nowhere)
        assert isinstance(kind, Codes)
        if not self.stochastic:
            rounded = round_exact(values, flags, kind.format, self.rounding, exactly)
            return Answers(*rounded, _ties(values, kind.format))
        assert words is not None
        return self._drawn(self._draws(exact), words)

    def _drawn(self, table: DrawTable, words: Patterns) -> Answers:
        one = np.uint64(1) << np.uint64(self.rounding.bits)
        fraction = table.fraction.astype(np.uint64) >> np.uint64(32 - self.rounding.bits)
        shift = np.where(fraction + (words.astype(np.uint64) & (one - np.uint64(1))) >= one, 16, 0).astype(np.uint32)
        assert self.into is not None
        codes = (table.codes >> shift).astype(self.into.code_dtype)
        raised = (table.flags >> shift).astype(np.uint8)
        return Answers(codes, raised, table.missing, np.zeros(codes.shape, dtype=np.bool_))

    def _draws(self, exact: Exact) -> DrawTable:
        values, flags, exactly = exact
        assert self.into is not None
        # Far below every value it does not matter how far: the fraction is 0.
        tiny = (np.abs(values) < _TINY) & (values != 0)
        values = np.where(tiny, np.copysign(_TINY, values), values)

        def magnitude(here: NDArray[np.bool_]) -> Integers:
            integers: Integers = abs(as_integers(values[here])) << WORD
            if exactly is not None:
                # What was cut off shows in the last bit alone.
                index = np.flatnonzero(here)
                odd = (values[here].view(np.uint64) & np.uint64(1) == 1) & ~tiny[here]
                integers[odd] = [number_in_words(exactly(int(place))) for place in index[odd]]
            return integers

        return draws(values, flags, self.into, self.rounding.overflow, magnitude)

    def first_word_up(self, operands: Sequence[Patterns]) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
        """Say of operands without their words where something is drawn, and the first word that rounds up there.

        That is ``2**bits`` where none does.
        """
        exact, _ = self.changed(operands=self.operands[:-1]).exact_of(operands)
        table = self._draws(exact)
        fraction = table.fraction.astype(np.uint64) >> np.uint64(32 - self.rounding.bits)
        return table.fraction != 0, np.uint64(1 << self.rounding.bits) - fraction

    def compute(self, operands: Sequence[Patterns], state: State | None = None) -> tuple[Answers, State | None]:
        """Return the answers to some vectors, and what an accumulator then holds.

        Parameters
        ----------
        operands : sequence of ndarray
            One array a port: of shape (vectors,), or (vectors, lanes) for ports of several lanes.
        state : State, optional
            What an accumulator held before; by default it is cleared.

        Returns
        -------
        Answers
            Of the vectors, in order.
        State or None
            None for operations without memory.
        """
        if self.exhaustive and not self.stochastic:
            index = _index(self.operands, operands)
            table = _whole_answers(self)
            return table.at(index), None
        if self.stochastic and sum(port.bits for port in self.operands[:-1]) <= EXHAUSTIVE_BITS and not self.streams:
            index = _index(self.operands[:-1], operands[:-1])
            drawn = _whole_draws(self).at(index)
            return self._drawn(drawn, operands[-1]), None
        pieces: list[Answers] = []
        size = len(operands[0])
        for start in range(0, max(size, 1), _PIECE):
            part = [patterns[start : start + _PIECE] for patterns in operands]
            exact, state = self.exact_of(part, state)
            pieces.append(self.round(exact, part[-1] if self.stochastic else None))
        return joined(pieces), state


@lru_cache(maxsize=16)
def _midpoints(fmt: Format, negative: bool) -> Array:
    return place(fmt, RoundingMode.NEAREST_AWAY, negative).point


def _ties(values: Array, fmt: Format) -> NDArray[np.bool_]:
    """Say which numbers lie exactly where the nearest modes choose between two neighbours."""
    ties = np.zeros(values.shape, dtype=np.bool_)
    for negative in (False, True)[: 1 + fmt.signed]:
        points = np.append(_midpoints(fmt, negative), np.inf)
        magnitudes = -values if negative else values
        place = np.searchsorted(points[:-1], magnitudes)
        ties |= (points[place] == magnitudes) & np.isfinite(values) & (values != 0)
    return ties


def _index(ports: Sequence[Port], operands: Sequence[Patterns]) -> NDArray[np.uint32]:
    index: NDArray[np.uint32] = np.zeros(len(operands[0]), dtype=np.uint32)
    for port, patterns in zip(ports, operands, strict=True):
        for lane in range(port.lanes - 1, -1, -1):
            column = patterns[:, lane] if port.lanes > 1 else patterns
            index = index << np.uint32(port.kind.bits) | column.astype(np.uint32)
    return index


@lru_cache(maxsize=8)
def _whole_answers(model: Golden) -> Answers:
    """Return the answers to all operands of at most 16 bits together, in ascending order."""
    return model.round(model.exact_of(all_operands(model.operands))[0])


@lru_cache(maxsize=8)
def _whole_draws(model: Golden) -> DrawTable:
    """Return what random words choose from for all operands of at most 16 bits together."""
    unworded = model.changed(operands=model.operands[:-1])
    return model._draws(unworded.exact_of(all_operands(unworded.operands))[0])


def all_operands(ports: Sequence[Port]) -> tuple[Patterns, ...]:
    """Return every combination of the operands' bits, the last operand's moving fastest."""
    below = sum(port.bits for port in ports)
    index: NDArray[np.uint64] = np.arange(1 << below, dtype=np.uint64)
    operands: list[Patterns] = []
    for port in ports:
        lanes = []
        for _ in range(port.lanes):
            below -= port.kind.bits
            lane = index >> np.uint64(below) & np.uint64((1 << port.kind.bits) - 1)
            lanes.append(lane.astype(unsigned(port.kind.bits)))
        # The first lane taken is the last of the array: lane 0 is in the lowest bits.
        operands.append(lanes[0] if port.lanes == 1 else np.stack(lanes[::-1], axis=1))
    return tuple(operands)


def golden(
    operation: str,
    fmt: Formats = "rf8",
    *,
    source: str | None = None,
    result: str | Format | None = None,
    rounding: str | Rounding | None = None,
) -> Golden:
    """Make the golden model of an operation.

    Parameters
    ----------
    operation : str
        ``decode``, ``encode``, ``add``, ``subtract``, ``multiply``, ``divide``, ``fma``, ``dot:n`` or ``accumulate``.
    fmt : str, Format or tuple
        Format of the operands, or a tuple with one for each of ``a``, ``b`` and ``c`` that there are. That of ``a`` is
        the result's too, but of ``decode``.
    source : str, optional
        What ``encode`` is given: ``float32`` (default), ``float16``, ``bfloat16``, ``float64`` or fixed point,
        ``fixed:I.F``.
    result : str or Format, optional
        What the result is: by default ``fmt``, and float32 for ``decode``. ``fixed:I.F`` for exact sums and products,
        which wrap around; other results that do not fit are refused. ``float16`` and ``bfloat16`` are formats, to which
        results are rounded, but for ``decode``.
    rounding : str or Rounding, optional
        As for `rf8sim.encode`: by default ``nearest-even``, with saturation. Of ``stochastic`` the random word is the
        last operand, as wide as the ``bits`` of the rounding; it has no seed, offset or words.

    Returns
    -------
    Golden
        The model.

    Raises
    ------
    ValueError
        If a name is unknown, the options do not fit together, or one of them changes nothing
        (`rf8sim.hardware.golden.options`).

    Examples
    --------
    >>> model = golden("multiply", "rf8")
    >>> [port.name for port in model.operands], model.bits
    (['a', 'b'], 16)
    >>> answers, _ = model.compute([np.array([0x7B], np.uint8), np.array([0x6F], np.uint8)])
    >>> hex(answers.results[0]), int(answers.flags[0])
    ('0x6f', 0)
    """
    name, colon, length = operation.partition(":")
    name = SHORT.get(name, name)
    if name != "dot":
        choose("operation", name, ["dot:n" if known == "dot" else known for known in OPERATIONS])
    lanes = int(length) if length.isdecimal() else 0
    if (name == "dot") != bool(colon) or (colon and not 1 <= lanes <= 1024):
        raise ValueError(f"operation {operation!r}: write dot:n for a dot product of n products, n from 1 to 1024")
    chosen = as_rounding("nearest-even" if rounding is None else rounding)
    formats = _formats(name, fmt)
    first = formats[0]
    kinds: dict[str, Kind] = {key: get_kind(value) for key, value in zip("abc", formats, strict=False)}
    kinds |= {"clear": Bits("bits:1", 1)} | ({"x": _source(source or "float32")} if name == "encode" else {})
    ports = [Port(key, kinds[key], lanes if name == "dot" and lanes > 1 else 1) for key in OPERATIONS[name].operands]
    given = {"source": source, "result": result, **given_rounding(rounding)}
    kind = _result_kind(name, result, first)
    if isinstance(kind, Codes):
        check_choices(kind.format, chosen)
        if chosen.stochastic:
            ports.append(Port("word", Bits(f"bits:{chosen.bits}", chosen.bits)))
    else:
        _check_exact_result(name, kind, formats)
    model = Golden(name, tuple(ports), Port("result", kind), chosen)
    check_given(model, given)
    if not isinstance(kind, Codes) and model.exhaustive:
        _whole_answers(model)  # a result that does not hold every answer is refused now
    return model


def _formats(name: str, fmt: Formats) -> list[Format]:
    """Return the formats of the operands that hold codes; of ``encode``, which has none, that of the result."""
    codes = [operand for operand in OPERATIONS[name].operands if operand in ("a", "b", "c")]
    if not isinstance(fmt, (str, Format)) and len(tuple(fmt)) != max(len(codes), 1):
        operands = ", ".join(codes) or "x, which are numbers,"
        raise ValueError(f"`fmt` has {len(tuple(fmt))} formats, and the operands of {name} are {operands}: give one "
                         "format, or one for each")  # fmt: skip
    return [get_format(each) for each in each_format(fmt, max(len(codes), 1))]


def _source(name: str) -> Kind:
    kind = get_kind(name)
    if isinstance(kind, Codes):
        raise ValueError(f"encode is given numbers: `source` is a float or fixed:I.F, got the format {name!r}")
    return kind


def _result_kind(name: str, result: str | Format | None, first: Format) -> Kind:
    """Return what the result is: ``float16`` and ``bfloat16`` are formats, but for ``decode``, which rounds nothing."""
    if result is None:
        return get_kind("float32" if name == "decode" else first)
    kind = get_kind(result)
    return get_kind(get_format(kind.name)) if name != "decode" and kind.name in ("float16", "bfloat16") else kind


def _check_exact_result(name: str, kind: Kind, formats: Sequence[Format]) -> None:
    able = ["decode", "add", "subtract", "multiply", *(["dot", "accumulate"] if isinstance(kind, Fixed) else [])]
    if name not in able:
        raise ValueError(f"the result of {name} is a code, not {kind.name}: leave `result` out, or name a format")
    if name in ("add", "subtract") and kind.bits > 53:
        grids = [get_operand(np.zeros(0, np.uint8), fmt).grid for fmt in formats]
        digits = max(grid.unit + grid.bits for grid in grids) + 1 - min(grid.unit for grid in grids)
        if digits > 53:
            raise ValueError(
                f"exact results of {name} have up to {digits} digits here, and 53 are computed: leave `result` out"
            )

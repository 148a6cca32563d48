"""The golden model: what a design must answer, operation by operation.

An answer is made in three steps, each a function of its own, from which faulty designs are predicted too: operands are
*read* as numbers, the operation gives its *exact* result, and that is *rounded* once. Everything is integers and exact
tables, so the answers are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from ...arithmetic.operations import (
    WORD,
    DrawTable,
    Flags,
    Formats,
    Integers,
    as_integers,
    draws,
    number_in_words,
)
from .answers import Answers, joined, round_result, with_conventions
from .choosing import (
    accumulation_of,
    check_result,
    conventions_of,
    operand_ports,
    parsed,
    result_kind,
    rounding_of,
    states_overflow,
)
from .conventions import get_profile, signalling_nans
from .exact import OPERATIONS, Exact, State, accumulate, unless_nan
from .model import Model
from .options import Options, check_given, given_rounding
from .ports import EXHAUSTIVE_BITS, Bits, Codes, Fixed, Patterns, Port, unsigned

__all__ = ["OPERATIONS", "Answers", "Exact", "Golden", "State", "all_operands", "golden", "joined"]

Array = NDArray[np.float64]

_PIECE = 1 << 15  # vectors that are float64 at one time
_TINY = 2.0**-900  # a random word of 32 bits does not bring so little to the smallest value of any format


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
                exact, state = accumulate(self, values, state)
            else:
                exact, state = operation(self, values), None
            if isinstance(self.result.kind, Fixed) and exact.values.dtype == np.float64:
                finite = np.isfinite(exact.values)
                patterns = self.result.kind.patterns(np.where(finite, exact.values, 0.0))
                exact = unless_nan(self.result.kind.integers(patterns), ~finite, exact.flags)
        return exact, state

    def exact_of(self, operands: Sequence[Patterns], state: State | None = None) -> tuple[Exact, State | None]:
        """Return the exact results of operands, and what an accumulator then holds."""
        exact, state = self.exact(self.read(operands), state)
        kind, patterns = self.operands[0].kind, operands[0]
        if self.operation == "encode" and isinstance(kind, Fixed) and kind.bits > 53:
            exact = exact._replace(exactly=lambda index: kind.number(int(patterns[index])))
        if self.conventions.signalling:
            exact = exact._replace(flags=exact.flags | self._signals(operands))
        return exact, state

    def _signals(self, operands: Sequence[Patterns]) -> NDArray[np.int64]:
        """Raise ``invalid`` where an operand is a signalling NaN."""
        signals = np.zeros(len(operands[0]), np.bool_)
        for port, patterns in zip(self.operands, operands, strict=True):
            signalling = signalling_nans(port.kind, patterns)
            signals |= signalling.any(axis=1) if port.lanes > 1 else signalling
        return np.where(signals, Flags.INVALID, 0).astype(np.int64)

    def round(self, exact: Exact, words: Patterns | None = None) -> Answers:
        """Round exact results; ``words`` are the random words of ``stochastic``."""
        if not self.stochastic:
            return with_conventions(self, round_result(self, exact))
        assert words is not None
        return self._drawn(self._draws(exact), words)

    def _drawn(self, table: DrawTable, words: Patterns) -> Answers:
        one = np.uint64(1) << np.uint64(self.rounding.bits)
        fraction = table.fraction.astype(np.uint64) >> np.uint64(32 - self.rounding.bits)
        shift = np.where(fraction + (words.astype(np.uint64) & (one - np.uint64(1))) >= one, 16, 0).astype(np.uint32)
        assert self.into is not None
        codes = (table.codes >> shift).astype(self.into.code_dtype)
        raised = (table.flags >> shift).astype(np.uint8)
        nowhere = np.zeros(codes.shape, dtype=np.bool_)
        return with_conventions(self, Answers(codes, raised, table.missing, nowhere))

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
    **options: Unpack[Options],
) -> Golden:
    """Make the golden model of an operation.

    Parameters
    ----------
    operation : str
        A key of `OPERATIONS`; ``dot:n`` and ``block_dot:n`` with the number of products.
    fmt : str, Format or tuple
        Format of the operands, or a tuple with one for each of ``a``, ``b`` and ``c`` that there are. That of ``a`` is
        the result's too, but of ``decode``, ``convert`` and ``compare``. Of ``dot`` and ``block_dot`` a third one makes
        an operand ``c``, which is added. Operands may be floats (``float32``, ``tf32``, ``e8m13``) too, and ``c``, and
        ``a`` of ``convert``, integers (``int32``, ``fixed:I.F``).
    **options
        ``source``: what ``encode`` is given: ``float32`` (default), ``float16``, ``bfloat16``, ``float64`` or fixed
        point, ``fixed:I.F``.

        ``result``: what the result is: by default ``fmt``, float32 for ``decode``, the accumulator's float where there
        is one. ``fixed:I.F`` for exact sums and products, which wrap around; other results that do not fit are refused.
        Results in formats and in floats of at most 32 bits are rounded, but of ``decode``.

        ``rounding``: as for `rf8sim.encode`: by default ``nearest-even``. A text without overflow means ``saturate``
        for formats, ``ieee`` for floats of more than 16 bits. Of ``stochastic`` the random word is the last operand, as
        wide as the ``bits`` of the rounding; it has no seed, offset or words.

        ``scale``: format of the scales of ``block_dot``, or of each of two: ``e8m0fnu`` by default.

        ``accumulator``: what ``dot``, ``block_dot``, ``fma`` and ``accumulate`` sum in, as `rf8sim.dot` takes it,
        before the sum is rounded to the result; by default sums are exact. An operand ``c`` is the running sum that
        joins the first block; in a stream each product is a step of its own. The flags are then those of that last
        rounding, and ``invalid``.

        ``profile``: conventions of `rf8sim.hardware.golden.conventions.PROFILES`: overflow, NaN patterns, tininess,
        signalling NaN.

        ``tininess``: ``before`` (default) or ``after`` rounding.

        ``signalling``: ``invalid`` if signalling NaNs raise that flag, or ``quiet`` (default).

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
    asked = parsed(operation)
    named = options.get("profile")
    profile = None if named is None else get_profile(named)
    ports = operand_ports(asked, fmt, options)
    accumulation = accumulation_of(asked, ports, options)
    kind = result_kind(asked, ports, fmt, accumulation, options)
    chosen = rounding_of(kind, options.get("rounding"), profile)
    if isinstance(kind, Codes) and chosen.stochastic:
        ports.append(Port("word", Bits(f"bits:{chosen.bits}", chosen.bits)))
    conventions = conventions_of(kind, profile, options)
    model = Golden(asked.name, tuple(ports), Port("result", kind), chosen, accumulation, conventions)
    stated = given_rounding(options.get("rounding"))
    check_given(model, {**options, "rounding": None, **stated, "stated": states_overflow(options.get("rounding"))})
    check_result(model)
    if not isinstance(kind, Codes) and model.exhaustive:
        _whole_answers(model)  # a result that does not hold every answer is refused now
    return model

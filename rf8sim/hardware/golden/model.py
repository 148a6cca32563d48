"""The description of an operation of a design, which the golden model computes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from ...arithmetic.accumulation import Accumulation
from ...arithmetic.accumulators import get_accumulator
from ...arithmetic.orders import get_order
from ...codec.rounding import Rounding, as_rounding
from ...formats import Format
from .conventions import Conventions
from .ports import EXHAUSTIVE_BITS, Codes, Float, Port

__all__ = ["LONG", "SUMS", "Model"]

_USUAL = Conventions()

LONG = ("dot", "block_dot")
"""Operations of so many products as their name says: ``dot:n``."""

SUMS = (*LONG, "fma", "accumulate")
"""Operations that sum products."""


@dataclass(frozen=True)
class Model:
    """What an operation of a design is: its operands, its result, and how that is rounded.

    Attributes
    ----------
    operation : str
        A key of `rf8sim.hardware.golden.exact.OPERATIONS`.
    operands : tuple of Port
        What a design is given.
    result : Port
        What it answers.
    rounding : Rounding
        How the result is rounded; of ``stochastic`` its ``bits`` are the width of the random word, the last operand.
    accumulation : Accumulation, optional
        How products are summed; None if exactly.
    conventions : Conventions
        NaN patterns, tininess, signalling NaN.
    """

    operation: str
    operands: tuple[Port, ...]
    result: Port
    rounding: Rounding
    accumulation: Accumulation | None = None
    conventions: Conventions = _USUAL

    @property
    def name(self) -> str:
        """The operation as it is asked for: with the length of a dot product."""
        return f"{self.operation}:{self.operands[0].lanes}" if self.operation in LONG else self.operation

    def particulars(self) -> dict[str, str]:
        """Return what differs from the usual in how sums are taken, and in conventions, for people and for JSON."""
        given = {}
        if self.accumulation is not None:
            kind, order = get_accumulator(self.accumulation.accumulator), get_order(self.accumulation.order)
            given["accumulator"] = f"{kind.name}, {order}, {as_rounding(self.accumulation.rounding)}"
        chosen = self.conventions
        if chosen != _USUAL:
            nan = "canonical" if chosen.nan is None else f"{chosen.nan:X}"
            signalling = "invalid" if chosen.signalling else "quiet"
            given["conventions"] = f"tininess {chosen.tininess} rounding, signalling NaN {signalling}, NaN {nan}"
        return given

    def find(self, name: str) -> int | None:
        """Return the place of an operand; None if there is none of that name."""
        return next((place for place, port in enumerate(self.operands) if port.name == name), None)

    @property
    def rounds(self) -> bool:
        """Whether the result may be rounded: it is a code, or a float that does not hold every exact result."""
        kind = self.result.kind
        if self.operation in ("minimum", "maximum") and all(port.kind == kind for port in self.operands):
            return False
        return isinstance(kind, Codes) or (isinstance(kind, Float) and not self.keeps)

    @property
    def keeps(self) -> bool:
        """Whether the result is a float into which nothing is rounded: of ``decode``, and float64."""
        kind = self.result.kind
        return isinstance(kind, Float) and (self.operation == "decode" or kind.bits == 64)

    @property
    def into(self) -> Format | None:
        """Format of the result, if it is one."""
        return self.result.kind.format if isinstance(self.result.kind, Codes) else None

    @property
    def formats(self) -> tuple[Format, ...]:
        """Formats of the operands that hold codes, in order."""
        return tuple(port.kind.format for port in self.operands if isinstance(port.kind, Codes))

    @property
    def divides_by_zero(self) -> bool:
        """Whether a number over zero is infinite; otherwise it is NaN."""
        kind = self.result.kind
        return isinstance(kind, Float) or (isinstance(kind, Codes) and kind.format.divides_by_zero)

    @property
    def stochastic(self) -> bool:
        """Whether a random word is the last operand."""
        kind = self.result.kind
        return self.rounding.stochastic and (isinstance(kind, Codes) or (isinstance(kind, Float) and not self.keeps))

    @property
    def bits(self) -> int:
        """Width of all operands."""
        return sum(port.bits for port in self.operands)

    @property
    def streams(self) -> bool:
        """Whether an answer depends on the vectors before it: there is an operand that clears a memory."""
        return any(port.name == "clear" for port in self.operands)

    @property
    def exhaustive(self) -> bool:
        """Whether all combinations of operands are asked: they have few bits together, and no memory."""
        return self.bits <= EXHAUSTIVE_BITS and not self.streams

    def changed(self, **options: Any) -> Self:
        """Return a model that differs in some attributes."""
        return replace(self, **options)

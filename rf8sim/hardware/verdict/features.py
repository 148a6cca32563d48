"""What is known of each vector: fields of operands and of the exact and the right result, as columns of small integers.

Conditions (`rf8sim.hardware.verdict.conditions`) are made of them. Each is a pure function of the model and arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...arithmetic.operations import Flags
from ...codec.codec import whole_table
from ...formats import Format
from ..golden.golden import Answers, Golden
from ..golden.ports import Codes, Fixed, Float, Patterns, Port
from .faults import codes_per_octave

__all__ = ["NONE", "Feature", "features"]

NONE = -(1 << 15)
"""Stands for a value where a feature has none."""

_SIXTEENTHS = 16
_FLAGS = {
    "inexact": ("the result is inexact", "the result is exact"),
    "overflow": ("the result overflows", "the result does not overflow"),
    "underflow": ("the result underflows", "the result does not underflow"),
    "invalid": ("the operation is invalid", "the operation is valid"),
    "divide by zero": ("a number is divided by zero", "no number is divided by zero"),
}
_LANES = 4  # lanes whose fields are features of their own


@dataclass(frozen=True, eq=False)
class Feature:
    """A column.

    Attributes
    ----------
    name : str
        A noun phrase, or a sentence of what is so where the value is 1.
    values : ndarray of integers
        One a vector, `NONE` where there is none.
    ordered : bool
        Whether ranges of it have sense.
    labels : tuple of str, or None
        For a feature that is so or not: the sentences for 0 and 1.
    digits : int
        Hexadecimal digits in which values are shown, 0 for decimals.
    cost : float
        How much there is to read in a condition on it.
    """

    name: str
    values: NDArray[Any]
    ordered: bool = True
    labels: tuple[str, str] | None = None
    digits: int = 0
    cost: float = 1.0

    def show(self, value: int) -> str:
        """Return a value in digits."""
        return "none" if value == NONE else f"{value:0{self.digits}X}" if self.digits else str(value)

    def sentence(self, allowed: tuple[int, ...] | None, low: int, high: int, negated: bool) -> str:
        """Say that the value is one of some, or in a range, or not."""
        if self.labels is not None:
            return self.labels[bool(allowed and allowed[0] == 1) ^ negated]
        if allowed is None:
            reaches = [int(self.values[self.values != NONE].min()) >= low, int(self.values.max()) <= high]
            if reaches[1]:
                return f"{self.name} is at least {self.show(low)}" if not reaches[0] else f"there is {self.name}"
            if reaches[0]:
                return f"{self.name} is at most {self.show(high)}"
            return f"{self.name} is from {self.show(low)} to {self.show(high)}"
        *most, last = map(self.show, allowed)
        return f"{self.name} is {'not ' if negated else ''}{', '.join(most)}{' or ' if most else ''}{last}"


def _flag(so: str, otherwise: str, where: Any, cost: float = 1.0) -> Feature:
    return Feature(so, np.asarray(where).astype(np.int8), False, (otherwise, so), 0, cost)


def features(
    model: Golden, operands: Sequence[Patterns], answers: Answers, exact: NDArray[np.float64]
) -> list[Feature]:
    """Return what is known of some vectors.

    Parameters
    ----------
    model : Golden
        What they are of.
    operands : sequence of ndarray
        Bit patterns, as of `Golden.compute`.
    answers : Answers
        The right answers.
    exact : ndarray of float64
        The exact results before they are rounded.

    Returns
    -------
    list of Feature
        Of the operands, of pairs of them, of the exact and the right result; constant ones are left out.
    """
    found: list[Feature] = []
    numbers: list[tuple[str, NDArray[np.float64]]] = []
    for port, patterns in zip(model.operands, operands, strict=True):
        lanes = [patterns] if port.lanes == 1 else [patterns[:, lane] for lane in range(port.lanes)]
        for lane, column in enumerate(lanes):
            name = port.name if port.lanes == 1 else f"lane {lane} of {port.name}"
            found += _operand(port, name, column, len(lanes) <= _LANES)
            if port.lanes == 1 and port.name in "abcx":
                numbers.append((name, port.kind.values(column)))
        if port.lanes > 1:
            found += _lanes(port, patterns)
    if model.streams:
        found += _stream(operands)
    found += _pairs(model, numbers, exact)
    found += _exact(model, answers, exact)
    found += _result(model, answers.results)
    return [feature for feature in found if feature.values.size and feature.values.min() != feature.values.max()]


# --- operands ---------------------------------------------------------------------------------------------------------


def _operand(port: Port, name: str, patterns: Patterns, closely: bool) -> Iterator[Feature]:
    kind = port.kind
    if isinstance(kind, Codes):
        for feature in _code_table(name, kind.format, closely):
            table = whole_table(feature.values)
            yield Feature(feature.name, table[patterns], feature.ordered, feature.labels, feature.digits, feature.cost)
    elif isinstance(kind, Float):
        yield from _float(name, kind, patterns)
    elif isinstance(kind, Fixed):
        yield from _fixed(name, kind, patterns)
    elif kind.bits == 1:
        yield _flag(f"{name} is 1", f"{name} is 0", patterns)
    else:
        yield _flag(f"{name} is all ones", f"{name} is not all ones", patterns == (1 << kind.bits) - 1)
        yield _flag(f"{name} is 0", f"{name} is not 0", patterns == 0)
        yield from _bits(name, kind.bits, patterns)


def _bits(name: str, width: int, patterns: NDArray[Any], cost: float = 1.4) -> Iterator[Feature]:
    for bit in range(width):
        where = patterns >> patterns.dtype.type(bit) & patterns.dtype.type(1)
        yield _flag(f"bit {bit} of {name} is 1", f"bit {bit} of {name} is 0", where, cost)


def _code_table(name: str, fmt: Format, closely: bool, of: str = "") -> Iterator[Feature]:
    """Yield features of each code of a format."""
    codes, values = np.arange(1 << fmt.bits), fmt.values
    finite = np.isfinite(values)
    ordinary = finite & (values != 0)
    is_kind = {
        "zero": values == 0, "NaN": np.isnan(values), "infinite": np.isinf(values),
        "subnormal": ordinary & (np.abs(values) < (fmt.subnormals_below or 0)),
        "an alias": (fmt.canonical != codes) & finite,
        "the largest or lowest value": ordinary & ((values == fmt.max) | (values == fmt.min)),
    }  # fmt: skip
    for what, where in is_kind.items():
        if where.any():
            yield _flag(f"{name} is {what}", f"{name} is not {what}", where)
    if fmt.signed:
        where = codes >> (fmt.bits - 1) & 1
        yield _flag(f"the sign bit of {name} is 1", f"the sign bit of {name} is 0", where)
    half = 1 << (fmt.bits - fmt.signed)
    magnitude = codes % half
    step = codes_per_octave(fmt) if fmt.family != "integer" else None
    if step is not None and closely:
        yield Feature(f"the exponent field of {name}", (magnitude // step).astype(np.int32))
        if step > 1:
            field = "residual" if fmt.depth is not None else "mantissa"
            yield Feature(f"the {field} field of {name}", (magnitude % step).astype(np.int32), cost=1.05)
    elif closely:
        octave = np.where(ordinary, np.frexp(np.where(ordinary, values, 1.0))[1] - 1, NONE)
        yield Feature(f"the octave of {name}", octave.astype(np.int32))
    if closely:
        yield Feature(f"{name}", codes.astype(np.int32), False, None, max(-(-fmt.bits // 4), 2), 1.2)
        yield Feature(
            f"the magnitude of {name}", magnitude.astype(np.int32), True, None, max(-(-fmt.bits // 4), 2), 1.3
        )
        yield from _bits(name, fmt.bits, codes)


def _float(name: str, kind: Float, patterns: Patterns) -> Iterator[Feature]:
    bits = patterns.astype(np.uint64)
    mantissa = np.uint64(kind.layout.mantissa_bits)
    width = kind.bits - 1 - int(mantissa)
    field = (bits >> mantissa & np.uint64((1 << width) - 1)).astype(np.int32)
    fraction = bits & np.uint64(kind.layout.mantissa_mask)
    sign = bits >> np.uint64(kind.bits - 1)
    yield _flag(f"the sign bit of {name} is 1", f"the sign bit of {name} is 0", sign)
    yield Feature(f"the exponent field of {name}", field)
    top = (1 << width) - 1
    kinds = {
        "zero": (field == 0) & (fraction == 0), "subnormal": (field == 0) & (fraction != 0),
        "infinite": (field == top) & (fraction == 0), "NaN": (field == top) & (fraction != 0),
        "a power of two": (field > 0) & (field < top) & (fraction == 0),
    }  # fmt: skip
    for what, where in kinds.items():
        yield _flag(f"{name} is {what}", f"{name} is not {what}", where)
    yield Feature(f"trailing zeros of {name}", _trailing(fraction, int(mantissa)), cost=1.3)
    yield from _bits(name, kind.bits, patterns)


def _fixed(name: str, kind: Fixed, patterns: Patterns) -> Iterator[Feature]:
    integers = kind.integers(patterns)
    length = np.frexp(np.abs(integers.astype(np.float64)))[1].astype(np.int32)
    if kind.signed:
        yield _flag(f"{name} is negative", f"{name} is not negative", integers < 0)
    yield _flag(f"{name} is zero", f"{name} is not zero", integers == 0)
    yield Feature(f"the length in bits of {name}", length)
    yield Feature(f"trailing zeros of {name}", _trailing(patterns.astype(np.uint64), kind.bits), cost=1.3)
    yield from _bits(name, kind.bits, patterns)


def _trailing(integers: NDArray[np.uint64], width: int) -> NDArray[np.int32]:
    """Return how many zeros each number ends with; ``width`` of zero."""
    lowest = integers & (~integers + np.uint64(1))
    zeros: NDArray[np.int32] = (np.frexp(lowest.astype(np.float64))[1] - 1).astype(np.int32)
    return np.where(integers == 0, width, zeros)


def _lanes(port: Port, patterns: Patterns) -> Iterator[Feature]:
    values = port.kind.values(patterns)
    yield Feature(f"the number of lanes of {port.name} that are not zero", (values != 0).sum(axis=1).astype(np.int32))
    for what, where in {"NaN": np.isnan(values), "infinite": np.isinf(values), "negative": values < 0}.items():
        yield _flag(f"a lane of {port.name} is {what}", f"no lane of {port.name} is {what}", where.any(axis=1))


def _stream(operands: Sequence[Patterns]) -> Iterator[Feature]:
    clear = operands[0].astype(np.bool_)
    place = np.arange(clear.size)
    since = place - np.maximum.accumulate(np.where(clear, place, 0))
    yield Feature("the number of vectors since clear", np.minimum(since, 1 << 14).astype(np.int32))


# --- results ----------------------------------------------------------------------------------------------------------


def _octave(values: NDArray[np.float64]) -> NDArray[np.int32]:
    ordinary = np.isfinite(values) & (values != 0)
    octave: NDArray[np.int32] = np.where(ordinary, np.frexp(np.where(ordinary, values, 1.0))[1] - 1, NONE)
    return octave.astype(np.int32)


def _pairs(
    model: Golden, numbers: Sequence[tuple[str, NDArray[np.float64]]], exact: NDArray[np.float64]
) -> Iterator[Feature]:
    """Yield how operands compare: products and the third operand of an fma as well."""
    if model.streams or len(numbers) < 2 or model.operation in ("encode", "decode"):
        return
    terms = list(numbers[:2])
    if len(numbers) == 3:
        with np.errstate(all="ignore"):
            terms = [("the product", numbers[0][1] * numbers[1][1]), numbers[2]]
    (first, x), (second, y) = terms
    ex, ey = _octave(x), _octave(y)
    both = (ex != NONE) & (ey != NONE)
    opposite = np.signbit(x) ^ np.signbit(y)
    yield _flag(f"{first} and {second} have opposite signs", f"{first} and {second} have the same sign", opposite)
    apart = np.where(both, ex - ey, NONE)
    exponents = f"the exponents of {first} and {second}"
    yield Feature(f"the difference of {exponents}", apart.astype(np.int32), cost=1.2)
    yield Feature(f"the distance of {exponents}", np.where(both, np.abs(apart), NONE).astype(np.int32), cost=1.2)
    higher = np.where(both, np.maximum(ex, ey), NONE).astype(np.int32)
    yield Feature(f"the higher of {exponents}", higher, cost=1.2)
    yield Feature(f"the lower of {exponents}", np.where(both, np.minimum(ex, ey), NONE).astype(np.int32), cost=1.2)
    with np.errstate(invalid="ignore"):
        larger, equal = np.abs(x) > np.abs(y), np.abs(x) == np.abs(y)
    yield _flag(f"{first} is larger in magnitude than {second}", f"{first} is not larger in magnitude than {second}",
                larger, 1.2)  # fmt: skip
    yield _flag(
        f"{first} and {second} have the same magnitude", f"{first} and {second} differ in magnitude", equal, 1.2
    )
    if exact.dtype != np.float64:
        return
    total = _octave(exact)
    here = both & (total != NONE)
    if model.operation == "multiply":
        carry = np.where(here, total - ex - ey, NONE)
        yield Feature("the carry of the significands' product", carry.astype(np.int32), cost=1.2)
    elif model.operation == "divide":
        carry = np.where(here, total - ex + ey, NONE)
        yield Feature("the normalization of the quotient", carry.astype(np.int32), cost=1.2)
    else:
        lost = np.where(here, higher - total, NONE)
        yield Feature("the number of leading bits that cancel", lost.astype(np.int32), cost=1.2)


def _exact(model: Golden, answers: Answers, exact: NDArray[np.float64]) -> Iterator[Feature]:
    flags = answers.flags
    for kind in Flags:
        word = str(kind.name).lower().replace("_", " ")
        so, otherwise = _FLAGS.get(word, (word, f"not {word}"))
        yield _flag(so, otherwise, flags & kind != 0)
    yield _flag("the exact result is a tie", "the exact result is no tie", answers.ties)
    if exact.dtype != np.float64:
        yield _flag("the exact result is negative", "the exact result is not negative", exact < 0)
        yield _flag("the exact result is zero", "the exact result is not zero", exact == 0)
        length = np.frexp(np.abs(exact.astype(np.float64)))[1]
        yield Feature("the length in bits of the exact result", length.astype(np.int32))
        return
    yield _flag("the exact result is negative", "the exact result is not negative", exact < 0)
    for what, where in {"zero": exact == 0, "NaN": np.isnan(exact), "infinite": np.isinf(exact)}.items():
        yield _flag(f"the exact result is {what}", f"the exact result is not {what}", where)
    yield Feature("the exponent of the exact result", _octave(exact))
    if model.into is not None:
        yield from _place(model.into, answers.results, exact)


def _place(into: Format, results: Patterns, exact: NDArray[np.float64]) -> Iterator[Feature]:
    """Yield where an exact result lies between its two neighbours, and which was taken."""
    position, odd = np.full(exact.shape, NONE, np.int32), np.full(exact.shape, NONE, np.int32)
    on_sixteenth = np.zeros(exact.shape, np.bool_)
    values = whole_table(into.values)[results]
    for negative, side in enumerate(into.sides[: 1 + into.signed]):
        magnitudes = np.append(side.magnitudes, [side.beyond] if np.isfinite(side.beyond) else [])
        here = np.flatnonzero(np.isfinite(exact) & (np.signbit(exact) == bool(negative)))
        x = np.abs(exact[here])
        place = np.searchsorted(magnitudes, x, side="right") - 1
        inside = (place >= 0) & (place < magnitudes.size - 1)
        here, x, place = here[inside], x[inside], place[inside]
        low, high = magnitudes[place], magnitudes[place + 1]
        share = _SIXTEENTHS * (x - low) / (high - low)
        position[here] = np.floor(share).astype(np.int32)
        on_sixteenth[here] = share == np.floor(share)
        odd[here] = place & 1
    yield Feature("the distance from the value below, in sixteenths of the gap,", position, cost=1.3)
    yield _flag(
        "the exact result is a sixteenth between two values", "the exact result is no sixteenth", on_sixteenth, 1.4
    )
    yield _flag("the value below has an odd rank", "the value below has no odd rank", odd == 1, 1.2)
    with np.errstate(invalid="ignore"):
        up, down = np.abs(values) > np.abs(exact), np.abs(values) < np.abs(exact)
        beyond = np.isinf(values) & (np.abs(exact) < into.beyond)
        carries = up & ((_octave(values) > _octave(exact)) | beyond)
        carries &= np.abs(exact) >= (into.subnormals_below or 0)
    yield _flag("the result is rounded up in magnitude", "the result is not rounded up in magnitude", up)
    yield _flag("the result is rounded down in magnitude", "the result is not rounded down in magnitude", down)
    yield _flag("rounding carries into the next octave", "rounding carries into no octave", carries)


def _result(model: Golden, results: Patterns) -> Iterator[Feature]:
    kind = model.result.kind
    name = "the right result"
    if isinstance(kind, Codes):
        for feature in _code_table(name, kind.format, True):
            table = whole_table(feature.values)
            yield Feature(feature.name, table[results], feature.ordered, feature.labels, feature.digits, feature.cost)
    elif isinstance(kind, Float):
        yield from _float(name, kind, results)
    elif isinstance(kind, Fixed):
        yield from _fixed(name, kind, results)

"""What the tests of arithmetic share: exact results of whole tables, and their codes and flags by the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from oracle_helpers import modes, overflows

from rf8sim import reference
from rf8sim.arithmetic.codes import Flags
from rf8sim.formats import Format, get_format
from rf8sim.reference import Number

TWO = ("add", "subtract", "multiply", "divide", "minimum", "maximum")
SELECTING = ("minimum", "maximum", "negate", "absolute")  # they give an operand, or that with another sign
ONE = ("negate", "absolute", "sqrt", "convert")
DIVIDE_BY_ZERO, INVALID, OVERFLOW = map(int, (Flags.DIVIDE_BY_ZERO, Flags.INVALID, Flags.OVERFLOW))  # faster than enums


def exact(operation: str, x: Number, y: Number = 0.0, rounding: str = "nearest-even") -> Number:
    """The exact result of an operation; the mode decides the sign of a zero alone."""
    match operation:
        case "add":
            return reference.add(x, y, rounding)
        case "subtract":
            return reference.add(x, -y, rounding)
        case "negate":
            return -x
        case "convert":
            return x
        case "absolute":
            return abs(x)
        case "sqrt":
            return reference.sqrt(x)
    return {
        "multiply": reference.multiply, "divide": reference.divide,
        "minimum": reference.minimum, "maximum": reference.maximum,
    }[operation](x, y)  # fmt: skip


def raised(operation: str, operands: tuple[Number, ...], result: Number) -> int:
    """The flags of the operation itself: a NaN out of none is invalid, x / 0 of a finite x divides by zero."""
    if operation == "divide" and operands[1] == 0 and operands[0] != 0 and isinstance(operands[0], Fraction):
        return DIVIDE_BY_ZERO
    return INVALID if result != result and all(x == x for x in operands) else 0


class Whole:
    """The exact results of an operation on all codes: each different one once, and where it stands."""

    def __init__(self, operation: str, formats: tuple[Format, ...], rounding: str) -> None:
        sets = [[reference.number(code, f) for code in range(1 << f.bits)] for f in formats]
        self.formats = formats
        self.results: list[tuple[Number, int]] = []
        places: dict[tuple[object, int], int] = {}
        index = []
        for operands in product(*sets):
            result = exact(operation, *operands, rounding=rounding)
            flags = raised(operation, operands, result)
            key = (result if isinstance(result, Fraction) else repr(result), flags)
            if key not in places:
                places[key] = len(self.results)
                self.results.append((result, flags))
            index.append(places[key])
        self.index = np.array(index).reshape([1 << f.bits for f in formats])


@lru_cache(maxsize=64)
def _whole(operation: str, formats: tuple[Format, ...], rounding: str) -> Whole:
    return Whole(operation, formats, rounding)


def whole(operation: str, formats: tuple[Format, ...], rounding: str = "nearest-even") -> Whole:
    """The exact results of an operation; two modes differ by the sign of zero sums alone."""
    signed_zeros = rounding == "down" and operation in ("add", "subtract")
    return _whole(operation, formats, "down" if signed_zeros else "nearest-even")


@lru_cache(maxsize=1 << 18)
def rounded(result: Number, flags: int, into: Format, rounding: str, overflow: str) -> tuple[int, int, bool]:
    """Code, flags, and whether it is a NaN that the format does not have."""
    if flags & DIVIDE_BY_ZERO and (into.family == "p3109" or not np.isinf(into.values).any()):
        result = np.nan  # section 7: x / 0 is NaN where there is no infinity; and in P3109
    if result != result and into.nan is None:
        return 0, flags, True
    code, more = reference.round_with_flags(result, into, rounding, overflow)
    return code, flags | more, False


def saturated(results: list[tuple[Number, int]], into: Format, rounding: str) -> list[tuple[int, int, bool]]:
    """`rounded` of each, saturating."""
    # A cache cannot tell -0.0 from 0.0.
    return [
        (rounded if result else rounded.__wrapped__)(result, flags, into, rounding, "saturate")
        for result, flags in results
    ]


@lru_cache(maxsize=64)
def _saturated(exactly: Whole, into: Format, rounding: str) -> list[tuple[int, int, bool]]:
    return saturated(exactly.results, into, rounding)


def outcomes(
    results: list[tuple[Number, int]], into: Format, rounding: str, overflow: str,
    saturating: list[tuple[int, int, bool]] | None = None,
) -> list[tuple[int, int, bool]]:  # fmt: skip
    """`rounded` of each; the overflow option is worked out anew only for what overflows where it saturates.

    In a signed format that depends on no more than the sign, and on whether it is an infinity (section 5).
    """
    saturating = saturated(results, into, rounding) if saturating is None else saturating
    if overflow == "saturate":
        return saturating
    beyond: dict[tuple[object, ...], tuple[int, int, bool]] = {}

    def anew(result: Number, flags: int) -> tuple[int, int, bool]:
        key = (result < 0, isinstance(result, float), flags) if into.signed else (result, flags)
        if key not in beyond:
            beyond[key] = rounded.__wrapped__(result, flags, into, rounding, overflow)
        return beyond[key]

    return [
        anew(*exactly) if outcome[1] & OVERFLOW else outcome
        for exactly, outcome in zip(results, saturating, strict=True)
    ]


def expected(
    operation: str, formats: tuple[Format, ...], into: Format, rounding: str, overflow: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    """Whole tables of codes, of flags, and of NaNs that the format does not have."""
    exactly = whole(operation, formats, rounding)
    results = outcomes(exactly.results, into, rounding, overflow, _saturated(exactly, into, rounding))
    if operation in SELECTING:
        infinite = [isinstance(x, float) and np.isinf(x) for x, _ in exactly.results]
        kept = [(np.flatnonzero(into.values == x)[:1] if big else [])
                for big, (x, _) in zip(infinite, exactly.results, strict=True)]  # fmt: skip
        results = [(int(code[0]), 0, False) if len(code) else result
                   for code, result in zip(kept, results, strict=True)]  # fmt: skip
    columns = zip(*results, strict=True)
    codes, flags, missing = (np.array(column)[exactly.index] for column in columns)
    return codes.astype(np.uint8), flags.astype(np.uint8), missing


def choices(into: Format) -> Iterator[tuple[str, str]]:
    """Every mode and overflow option of a format."""
    return product(modes(into), overflows(into))


def formats_of(operation: str, first: str, second: str) -> tuple[Format, ...]:
    """The formats of an operation's operands."""
    return (get_format(first), get_format(second))[: 2 if operation in TWO else 1]

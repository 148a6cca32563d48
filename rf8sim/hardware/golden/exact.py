"""The exact results of operations, before they are rounded: float64 rounded to odd, or integers.

Products of two values are exact in float64; a sum that needs more than 53 bits is rounded to odd, so that rounding it
once more is rounding the exact sum, wherever float64 has the boundary. Elsewhere the sum itself is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..._base.threads import in_pieces
from ...arithmetic.operations import OPERATIONS as TABLES
from ...arithmetic.operations import Flags, Numbers, exact_numbers, exact_sum, order
from ...arithmetic.running_sums import add_products, add_stream
from ...codec.dispatch import sum_terms
from .model import Model
from .ports import Fixed, Kind
from .summing import factor, grid

__all__ = ["OPERATIONS", "SHORT", "Exact", "Operation", "State", "accumulate", "unless_nan"]

Array = NDArray[np.float64]


class Exact(NamedTuple):
    """Exact results before they are rounded.

    Attributes
    ----------
    values : ndarray of float64, or of int64
        Rounded to odd where they need more than 53 bits; integers in units of the last place of a fixed-point sum.
    flags : ndarray of int
        Those of the operation itself.
    exactly : callable, optional
        From the index of a result that is rounded to odd to its exact value; None if float64 holds all of them.
    """

    values: NDArray[Any]
    flags: NDArray[np.int64]
    exactly: Numbers | None = None


class State(NamedTuple):
    """What there is between two pieces of a stream.

    Attributes
    ----------
    parts : ndarray of float64
        The exact sum since clear, in parts.
    whole : int64
        The sum in units of a fixed-point result's last place.
    specials : ndarray of int64, shape (4,)
        How many infinite products of either sign, NaN operands and invalid products there were since clear.
    register : float
        What a stated accumulator holds.
    """

    parts: Array
    whole: np.int64
    specials: NDArray[np.int64]
    register: float = 0.0


def _invalid(values: Array, operands: Sequence[Array]) -> NDArray[np.int64]:
    """Raise ``invalid`` where NaN comes of none."""
    nan = np.zeros(values.shape, dtype=np.bool_)
    for operand in operands:
        nan |= np.isnan(operand).any(axis=1) if operand.ndim > values.ndim else np.isnan(operand)
    return np.where(np.isnan(values) & ~nan, Flags.INVALID, 0).astype(np.int64)


def _same(model: Model, values: Sequence[Array]) -> Exact:
    return Exact(values[0], np.zeros(values[0].shape, np.int64))


def _binary(name: str) -> Callable[[Model, Sequence[Array]], Exact]:
    exact = TABLES[name].exact

    def operation(model: Model, values: Sequence[Array]) -> Exact:
        a, b = values[:2]
        # A sum that cancels is +0, and -0 in this one mode (IEEE 754-2019, 6.3).
        down = model.rounding.mode == "down" and name in ("add", "subtract")
        result = -exact(-a, -b) if down else exact(a, b)
        flags = _invalid(result, (a, b))
        if name == "divide":
            by_zero = (b == 0) & np.isfinite(a) & (a != 0)
            flags = np.where(by_zero, Flags.DIVIDE_BY_ZERO, flags)
            if not model.divides_by_zero:
                result = np.where(by_zero, np.nan, result)
        return Exact(result, flags, exact_numbers(name, a, b))

    return operation


def _unary(name: str) -> Callable[[Model, Sequence[Array]], Exact]:
    exact = TABLES[name].exact

    def operation(model: Model, values: Sequence[Array]) -> Exact:
        a = values[0]
        result = exact(a, a)
        return Exact(result, _invalid(result, (a,)), exact_numbers(name, a, a))

    return operation


def _compare(model: Model, values: Sequence[Array]) -> Exact:
    placed = order(*values[:2]).astype(np.int64)
    return Exact(placed, np.zeros(placed.shape, np.int64))


def _fma(model: Model, values: Sequence[Array]) -> Exact:
    a, b, c = values[:3]
    if isinstance(model.result.kind, Fixed) or model.accumulation is not None:
        return _dot(model, (a[:, None], b[:, None], c))
    result = -exact_sum(-(a * b), -c) if model.rounding.mode == "down" else exact_sum(a * b, c)
    product = a * b
    return Exact(result, _invalid(result, (a, b, c)), lambda index: Fraction(product[index]) + Fraction(c[index]))


def _dot(model: Model, values: Sequence[Array]) -> Exact:
    """Sum products, times the scales of both operands and with the addend c if there are any."""
    lanes = [value if value.ndim == 2 else value[:, None] for value in values[:2]]
    place = {name: model.find(name) for name in ("c", "scale_a", "scale_b")}
    extra = {name: values[index] for name, index in place.items() if index is not None}
    scales = [extra[name] for name in ("scale_a", "scale_b") if name in extra]
    operands = (*lanes, *extra.values())
    if model.accumulation is not None:
        kinds = [model.operands[index].kind for name, index in place.items() if index is not None and name != "c"]
        pairs = zip([port.kind for port in model.operands[:2]] + kinds, [*lanes, *scales], strict=True)
        total = add_products(model.accumulation, extra.get("c"), [factor(*pair) for pair in pairs])
        return Exact(total, _invalid(total, operands))
    terms = lanes[0] * lanes[1]
    for scale in scales:
        terms = terms * scale[:, None]
    if "c" in extra:
        terms = np.concatenate([terms, extra["c"][:, None]], axis=1)
    return _sum(model, terms, operands)


def _sum(model: Model, terms: Array, operands: Sequence[Array]) -> Exact:
    """Sum the columns of exact terms."""
    finite = np.isfinite(terms)
    special = np.where(finite, 0.0, terms).sum(axis=1)
    flags = _invalid(special, operands)
    kept = np.where(finite, terms, 0.0)
    if isinstance(model.result.kind, Fixed):
        integers = _whole(kept, model.result.kind).sum(axis=1)
        return unless_nan(integers, np.isnan(special), flags)
    total = np.empty(len(kept))
    columns = np.ascontiguousarray(kept.T)
    in_pieces(lambda start, stop: sum_terms(columns[:, start:stop], True, total[start:stop]), total.size)
    return Exact(np.where(special == 0, total, special), flags, lambda index: sum(map(Fraction, kept[index])))


def _whole(values: Array, kind: Fixed) -> NDArray[np.int64]:
    """Return products as integers in units of a fixed-point result's last place."""
    scaled = np.ldexp(values, kind.fraction)
    if np.any(scaled != np.rint(scaled)) or np.any(np.abs(scaled) >= 2.0**63):
        raise ValueError(f"products are finer or larger than {kind.name} holds: give it more bits")
    return scaled.astype(np.int64)


def unless_nan(integers: NDArray[np.int64], nan: NDArray[np.bool_], flags: NDArray[np.int64]) -> Exact:
    """Put 0 for NaN, which fixed point does not have, and raise ``invalid``."""
    return Exact(np.where(nan, 0, integers), np.where(nan, Flags.INVALID, flags))


class Operation(NamedTuple):
    """An operation as vectors know it.

    Attributes
    ----------
    operands : tuple of str
        Names of the operands.
    exact : callable, optional
        From the model and the operands' values to the exact results; None for ``accumulate``, which has a memory.
    summary : str
        What it does.
    addend : bool
        Whether there may be an operand ``c`` that is added.
    """

    operands: tuple[str, ...]
    exact: Callable[[Model, Sequence[Array]], Exact] | None
    summary: str
    addend: bool = False


OPERATIONS: dict[str, Operation] = {
    "decode": Operation(("a",), _same, "a code's value"),
    "encode": Operation(("x",), _same, "a number rounded to a code"),
    "add": Operation(("a", "b"), _binary("add"), "a + b"),
    "subtract": Operation(("a", "b"), _binary("subtract"), "a - b"),
    "multiply": Operation(("a", "b"), _binary("multiply"), "a * b"),
    "divide": Operation(("a", "b"), _binary("divide"), "a / b"),
    "fma": Operation(("a", "b", "c"), _fma, "a * b + c, rounded once"),
    "sqrt": Operation(("a",), _unary("sqrt"), "the square root of a"),
    "minimum": Operation(("a", "b"), _binary("minimum"), "the smaller, NaN if one is (IEEE 754-2019, 9.6)"),
    "maximum": Operation(("a", "b"), _binary("maximum"), "the larger, NaN if one is (IEEE 754-2019, 9.6)"),
    "compare": Operation(("a", "b"), _compare, "less 1, equal 2, greater 4, unordered 8"),
    "convert": Operation(("a",), _same, "a in another format"),
    "dot": Operation(("a", "b"), _dot, "dot:n, the sum of n products, rounded once", True),
    "block_dot": Operation(
        ("a", "b", "scale_a", "scale_b"), _dot, "block_dot:n, the sum of n products times both scales", True
    ),
    "accumulate": Operation(("clear", "a", "b"), None, "the sum of products since clear was 1"),
}
"""The operations that vectors are made for."""

SHORT = {"mul": "multiply", "sub": "subtract", "div": "divide"}
"""Short names of operations."""


def accumulate(model: Model, values: Sequence[NDArray[Any]], state: State | None) -> tuple[Exact, State]:
    """Return the sums of a stream after each vector, and what the accumulator then holds."""
    clear, a, b = values[0].astype(np.bool_), values[1], values[2]
    products = a * b
    finite = np.isfinite(products)
    kept = np.where(finite, products, 0.0)
    kinds = [products == np.inf, products == -np.inf, np.isnan(a) | np.isnan(b)]
    specials = np.stack([*kinds, np.isnan(products) & ~kinds[2]]).astype(np.int64)
    kind, accumulation = model.result.kind, model.accumulation
    operands = model.operands[1].kind, model.operands[2].kind
    parts = np.stack(_product_grid(*operands).slices(kept))
    in_units = isinstance(kind, Fixed) and accumulation is None
    integers = _whole(kept, kind) if in_units else np.zeros(clear.shape, np.int64)  # type: ignore[arg-type]
    if state is None:
        state = State(np.zeros(len(parts)), np.int64(0), np.zeros(4, np.int64))
    first = np.maximum.accumulate(np.where(clear, np.arange(clear.size), -1))
    # Each part is so many 20-bit integers that their float64 sums are exact: any order gives the same.
    parts = _since(parts, first, state.parts)
    integers = _since(integers[None], first, np.array([state.whole]))[0]
    specials = _since(specials, first, state.specials)
    after = state._replace(parts=parts[:, -1], whole=integers[-1], specials=specials[:, -1]) if clear.size else state
    plus, minus, nan, invalid = specials > 0
    if accumulation is not None:
        factors = [factor(each, x) for each, x in zip(operands, (a, b), strict=True)]
        sums = add_stream(accumulation, clear, factors, state.register)
        flags = np.where(np.isnan(sums) & ~nan, Flags.INVALID, 0).astype(np.int64)
        return Exact(sums, flags), after._replace(register=float(sums[-1]) if clear.size else state.register)
    flags = np.where((plus & minus | invalid) & ~nan, Flags.INVALID, 0).astype(np.int64)
    nan |= plus & minus | invalid
    if isinstance(kind, Fixed):
        return unless_nan(integers, nan | plus | minus, flags), after
    total = np.empty(clear.size)
    sum_terms(np.ascontiguousarray(parts), True, total)
    infinite = np.where(plus, np.inf, np.where(minus, -np.inf, total))
    return Exact(np.where(nan, np.nan, infinite), flags, lambda index: sum(map(Fraction, parts[:, index]))), after


def _since(terms: NDArray[Any], first: NDArray[np.int64], before: NDArray[Any]) -> NDArray[Any]:
    """Sum along the last axis from ``first`` on, from the start and what was ``before`` where that is -1."""
    sums = np.cumsum(terms, axis=1)
    base = sums[:, first] - terms[:, first]
    since: NDArray[Any] = np.where(first < 0, sums + before[:, None], sums - base)
    return since


@lru_cache(maxsize=16)
def _product_grid(first: Kind, second: Kind) -> Any:
    a, b = grid(first), grid(second)
    return a._replace(unit=a.unit + b.unit, bits=a.bits + b.bits)

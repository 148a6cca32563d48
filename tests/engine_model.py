"""Matrix engines in rational arithmetic, one output at a time: what MMA-Sim (arXiv 2511.10909) and RISC-V say of them.

Nothing is shared with the kernels: each sum is written as its source writes it, in fractions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from rf8sim.formats import FloatLayout, Format
from rf8sim.reference import floor_log2, power_of_two

ZERO = -(10**6)  # the exponent of a product that is zero: below that of any other


@dataclass(frozen=True)
class Spec:
    """An engine: `style` is "with", "grouped", "late", "apart" or "tree"."""

    style: str
    kind: FloatLayout
    rounding: str
    block: int
    fraction: int = 0
    cut: str = "toward-zero"
    group: int = 1
    kept: int = 0
    split: bool = False
    flush: bool = False


@dataclass(frozen=True)
class Term:
    """A product: its value, as a fraction or a float that is not finite, and the exponent that an adder sees."""

    value: Fraction | float
    exponent: int

    @property
    def special(self) -> bool:
        return not isinstance(self.value, Fraction)


def smallest_exponent(fmt: Format) -> int:
    """Of a subnormal number: that of the smallest normal one."""
    return floor_log2(Fraction(fmt.subnormals_below or fmt.smallest))


def exponent(x: float, smallest: int) -> int:
    return ZERO if x == 0 or not math.isfinite(x) else max(floor_log2(abs(Fraction(x))), smallest)


def product(x: float, y: float, smallest: tuple[int, int], scales: tuple[float, float] = (1.0, 1.0)) -> Term:
    p = x * y
    if not math.isfinite(p):
        return Term(p, ZERO)
    value = Fraction(x) * Fraction(y) * Fraction(scales[0]) * Fraction(scales[1])
    of_scales = sum(floor_log2(Fraction(scale)) for scale in scales)
    return Term(value, exponent(x, smallest[0]) + exponent(y, smallest[1]) + of_scales)


def to_integer(x: Fraction, mode: str) -> int:
    floor = math.floor(x)
    if floor == x or mode == "down":
        return floor
    if mode == "nearest-even":
        return round(x)
    if mode == "to-odd":
        return floor if floor % 2 else floor + 1
    return math.trunc(x)


def rounded(x: Fraction, kind: FloatLayout, mode: str) -> float:
    """Beyond the largest value, infinite, whatever the mode."""
    if x == 0:
        return 0.0
    last = power_of_two(max(floor_log2(abs(x)), kind.emin) - kind.precision + 1)
    kept = to_integer(x / last, mode) * last
    return float(kept) if abs(kept) <= kind.max else math.copysign(math.inf, kept)


def aligned(terms: list[Term], top: int, fraction: int, mode: str) -> Fraction:
    unit = power_of_two(top - fraction)
    return sum((to_integer(Fraction(term.value) / unit, mode) for term in terms), 0) * unit


def step(total: float, terms: list[Term], spec: Spec) -> float:
    """Return the running sum with one more block of products."""
    if spec.style == "late":  # what float32 does not hold is infinite
        limit = power_of_two(spec.kind.emax + 1)
        terms = [
            Term(math.copysign(math.inf, term.value), ZERO) if not term.special and abs(term.value) >= limit else term
            for term in terms
        ]
    special = [float(term.value) for term in terms if term.special]
    if special:
        return total + sum(special)
    if spec.style == "apart":
        top = max((term.exponent for term in terms if term.value), default=0)
        products = rounded(aligned(terms, top, spec.fraction, spec.cut), spec.kind, spec.rounding)
        if math.isinf(products) or not math.isfinite(total):
            return products + total
        return rounded(Fraction(products) + Fraction(total), spec.kind, spec.rounding)
    if not math.isfinite(total):
        return total
    running = Term(Fraction(total), max(exponent(total, spec.kind.emin), spec.kind.emin))
    if spec.style == "late":
        return rounded(late(running, terms, spec), spec.kind, spec.rounding)
    if spec.style == "grouped":
        terms = [grouped(terms[first : first + spec.group]) for first in range(0, len(terms), spec.group)]
    terms = [running, *terms]
    top = max(term.exponent for term in terms)
    return rounded(aligned(terms, top, spec.fraction, spec.cut), spec.kind, spec.rounding)


def grouped(terms: list[Term]) -> Term:
    """Of a group, the exponent is that of its scales, which its terms have in `exponent`."""
    return Term(sum((Fraction(term.value) for term in terms), Fraction(0)), terms[0].exponent)


def late(running: Term, terms: list[Term], spec: Spec) -> Fraction:
    streams = [terms[0::2], terms[1::2]] if spec.split else [terms]
    tops = [max((term.exponent for term in stream if term.value), default=ZERO) for stream in streams]
    sums = [
        aligned(stream, top, spec.fraction, spec.cut) if top > ZERO else Fraction(0)
        for stream, top in zip(streams, tops, strict=True)
    ]
    joint = max(tops)
    if spec.split and joint > ZERO:
        sums = [aligned([Term(part, 0)], joint, spec.fraction, "down") for part in sums]
    top = max(joint, running.exponent)
    kept = aligned([Term(sum(sums, Fraction(0)), 0)], top, spec.kept, "down")
    if spec.split and running.exponent < top - spec.fraction - 1:
        return kept
    return kept + aligned([running], top, spec.fraction, "down")


def tree(values: list[float], spec: Spec) -> float:
    """Sum a power of two of products; every sum is rounded."""
    if len(values) == 1:
        return values[0]
    return settled([tree(values[: len(values) // 2], spec), tree(values[len(values) // 2 :], spec)], spec)


def settled(values: list[float], spec: Spec) -> float:
    if not all(map(math.isfinite, values)):
        return sum(values)
    total = rounded(sum(map(Fraction, values), Fraction(0)), spec.kind, spec.rounding)
    return 0.0 if spec.flush and abs(total) < power_of_two(spec.kind.emin) else total


def dot(
    x: list[float], y: list[float], smallest: tuple[int, int], spec: Spec,
    scales: tuple[list[float], list[float]] | None = None, block_size: int = 1, start: float = 0.0,
) -> float:  # fmt: skip
    """Return one output; `smallest` are the smallest exponents of the operands, `scales` those of their blocks.

    `start` is the running sum before the first block.
    """
    total = 0.0 if spec.flush and abs(start) < power_of_two(spec.kind.emin) else start
    for first in range(0, len(x), spec.block):
        indices = range(first, min(first + spec.block, len(x)))
        if spec.style == "tree":
            total = settled([total, tree(products_of_tree(x, y, first, smallest, spec), spec)], spec)
            continue
        given = [(1.0, 1.0) if scales is None else (scales[0][k // block_size], scales[1][k // block_size])
                 for k in indices]  # fmt: skip
        terms = [product(x[k], y[k], smallest, pair) for k, pair in zip(indices, given, strict=True)]
        if spec.style == "grouped":
            of_scales = [sum(floor_log2(Fraction(scale)) for scale in pair) for pair in given]
            terms = [Term(term.value, e) for term, e in zip(terms, of_scales, strict=True)]
        total = step(total, terms, spec)
    return total


def products_of_tree(x: list[float], y: list[float], first: int, smallest: tuple[int, int], spec: Spec) -> list[float]:
    values = []
    for k in range(first, first + spec.block):
        if k >= len(x):
            values.append(0.0)
            continue
        pair = (x[k], y[k])
        if spec.flush:
            pair = tuple(0.0 if abs(v) < power_of_two(e) else v for v, e in zip(pair, smallest, strict=True))
        p = pair[0] * pair[1]
        finite = math.isfinite(pair[0]) and math.isfinite(pair[1])
        exact = Fraction(pair[0]) * Fraction(pair[1]) if finite else Fraction(0)
        values.append(settled_product(exact, spec) if finite else p)
    return values


def settled_product(exact: Fraction, spec: Spec) -> float:
    value = rounded(exact, spec.kind, spec.rounding)
    return 0.0 if spec.flush and abs(value) < power_of_two(spec.kind.emin) else value

"""What the vectors that were answered have exercised, bin by bin, and what they have not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...arithmetic.operations import Flags
from ...formats import Format
from ..golden.golden import Answers, Golden, all_operands
from ..golden.ports import Codes, Fixed, Float, Patterns, Port

__all__ = ["Coverage", "Group"]


class Group(NamedTuple):
    """Bins of one aspect of one port.

    Attributes
    ----------
    port, aspect : str
        What was counted.
    bins : dict of str to int
        How many vectors fell in each.
    """

    port: str
    aspect: str
    bins: dict[str, int]

    @property
    def hit(self) -> int:
        """How many bins were hit."""
        return sum(count > 0 for count in self.bins.values())

    @property
    def missed(self) -> list[str]:
        """Names of the bins that were not."""
        return [name for name, count in self.bins.items() if not count]


class Coverage:
    """Counts of the vectors of a model, added a block at a time."""

    def __init__(self, model: Golden) -> None:
        self.model = model
        self.counts: dict[str, NDArray[np.int64]] = {}
        self.flags: NDArray[np.int64] = np.zeros(256, dtype=np.int64)
        self.ties = 0

    def add(self, operands: Sequence[Patterns], answers: Answers) -> None:
        """Count some vectors and what must be answered to them."""
        columns = (*operands, answers.results)
        for port, patterns in zip((*self.model.operands, self.model.result), columns, strict=True):
            for key, index, size in _indexed(port, patterns):
                counts = np.bincount(index.ravel(), minlength=size)
                self.counts[key] = self.counts[key] + counts if key in self.counts else counts
        self.flags += np.bincount(answers.flags, minlength=256)
        self.ties += int(np.count_nonzero(answers.ties))

    def groups(self) -> list[Group]:
        """Return what was counted, without bins that no vector can hit."""
        groups = self._counted()
        if not self.model.exhaustive:
            return groups
        reachable = {(group.port, group.aspect): group.bins for group in _of_all(self.model)}
        kept = [
            group._replace(bins={
                name: count for name, count in group.bins.items()
                if count or reachable[group.port, group.aspect].get(name)
            })
            for group in groups
        ]  # fmt: skip
        return [group for group in kept if group.bins]

    def _counted(self) -> list[Group]:
        groups = []
        for port in (*self.model.operands, self.model.result):
            overflow = self.model.rounding.overflow if port is self.model.result else None
            groups += [group for group in _groups(port, self.counts, overflow) if len(group.bins)]
        flag = np.arange(256)
        raised = {
            str(kind.name).lower().replace("_", " "): int(self.flags[flag & kind != 0].sum())
            for kind in Flags
            if _possible(self.model, kind)
        }
        exact = int(self.flags[flag & Flags.INEXACT == 0].sum())
        if self.model.rounds:
            ties = {} if self.model.stochastic else {"tie": self.ties}
            groups.append(Group("result", "rounding outcomes", {"exact": exact, **ties, **raised}))
        return groups


@lru_cache(maxsize=8)
def _of_all(model: Golden) -> list[Group]:
    """Return the coverage of all combinations of operands."""
    operands = all_operands(model.operands)
    counted = Coverage(model)
    answers = model.compute(operands)[0]
    asked = ~answers.missing
    counted.add([patterns[asked] for patterns in operands], answers.at(asked))
    return counted._counted()


def _possible(model: Golden, kind: Flags) -> bool:
    """Say whether an operation can raise a flag: what is not counted otherwise."""
    if kind is Flags.DIVIDE_BY_ZERO:
        return model.operation == "divide"
    if kind is Flags.INVALID and model.operation in ("add", "subtract", "multiply", "fma", "dot", "accumulate"):
        # Of numbers alone no NaN comes.
        signed = model.into is None or model.into.signed or any(fmt.signed for fmt in model.formats)
        return bool(any(np.isinf(fmt.values).any() for fmt in model.formats)) or not signed or _no_nan(model)
    return True


def _no_nan(model: Golden) -> bool:
    return model.into is None or model.into.nan is None


def _indexed(port: Port, patterns: Patterns) -> list[tuple[str, NDArray[Any], int]]:
    """Return what is counted of a port: a key, small integers, and how many there are."""
    kind = port.kind
    if isinstance(kind, Codes) or kind.bits <= 8:
        return [(port.name, patterns, 1 << kind.bits)]
    if isinstance(kind, Float):
        fraction = patterns.dtype.type(kind.layout.mantissa_bits)
        field = (patterns >> fraction).astype(np.int64)
        is_power = patterns & patterns.dtype.type(kind.layout.mantissa_mask) == 0
        size = 1 << (kind.bits - int(fraction))
        return [(port.name, field, size), (f"{port.name} whole", field[is_power], size)]
    integers = kind.integers(patterns) if isinstance(kind, Fixed) else patterns.astype(np.int64)
    _, length = np.frexp(np.abs(integers.astype(np.float64)))
    negative = (integers < 0).astype(np.int64)
    return [(port.name, length.astype(np.int64) * 2 + negative, 2 * 66)]


def _groups(port: Port, counts: dict[str, NDArray[np.int64]], overflow: str | None) -> list[Group]:
    """Return what was counted of a port; ``overflow`` is the option of a result, None of an operand."""
    kind, name = port.kind, port.name
    if name not in counts:
        return []
    hits = counts[name]
    if isinstance(kind, Codes):
        return _code_groups(name, kind.format, hits, overflow)
    if isinstance(kind, Float):
        half = hits.size // 2
        by_exponent, powers = hits[:half] + hits[half:], counts[f"{name} whole"]
        powers = powers[:half] + powers[half:]
        zero, infinite = int(powers[0]), int(powers[-1])
        kinds = {"zero": zero, "subnormal": int(by_exponent[0]) - zero, "infinity": infinite,
                 "NaN": int(by_exponent[-1]) - infinite}  # fmt: skip
        signs = {"+": int(hits[:half].sum()), "-": int(hits[half:].sum())}
        exponents = {str(field): int(count) for field, count in enumerate(by_exponent)}
        groups = [Group(name, "signs", signs), Group(name, "exponent fields", exponents), Group(name, "kinds", kinds)]
        return groups if overflow is None else groups[:1]
    if isinstance(kind, Fixed):
        lengths = hits[::2] + hits[1::2]
        top = kind.bits - kind.signed
        bins = {str(length): int(lengths[length]) for length in range(top + 1)}
        signs = {"+": int(hits[::2].sum()), "-": int(hits[1::2].sum())} if kind.signed else {}
        return [Group(name, "signs", signs), Group(name, "lengths in bits", bins)]
    if kind.bits <= 8:
        return [Group(name, "values", {f"{value:X}": int(count) for value, count in enumerate(hits)})]
    return []


def _code_groups(name: str, fmt: Format, hits: NDArray[np.int64], overflow: str | None) -> list[Group]:
    values, codes = fmt.values, np.arange(1 << fmt.bits)
    counts = hits[: codes.size]
    finite, alias = np.isfinite(values), fmt.canonical != codes
    ordinary = finite & (values != 0)
    # A result is a canonical code, and no infinity unless the overflow option keeps or makes them.
    reachable = np.ones(codes.size, dtype=np.bool_) if overflow is None else ~alias
    if overflow in ("saturate", "nan"):
        reachable &= ~np.isinf(values)

    def bins(labels: dict[str, NDArray[np.bool_]]) -> dict[str, int]:
        # A bin that no code belongs to, or no right result, is none.
        return {label: int(counts[where].sum()) for label, where in labels.items() if (where & reachable).any()}

    if fmt.bits <= 8:
        groups = [Group(name, "codes", bins({f"{code:02X}": codes == code for code in codes}))]
    else:  # of so many codes: those that share their first 8 bits, and each bit
        top = codes >> (fmt.bits - 8)
        each = {f"{bit}={level}": codes >> bit & 1 == level for bit in range(fmt.bits) for level in (0, 1)}
        groups = [
            Group(name, "first 8 bits", bins({f"{byte:02X}": top == byte for byte in range(256)})),
            Group(name, "bits", bins(each)),
        ]
    groups += [
        Group(name, "signs", bins({"+": finite & (values > 0), "-": finite & (values < 0)})),
    ]
    if fmt.depth is not None:
        residual_bits = fmt.depth.bit_length()
        exponent = codes >> residual_bits & ((1 << (fmt.bits - 1 - residual_bits)) - 1)
        residual = codes & ((1 << residual_bits) - 1)
        labels = range(1 << residual_bits)
        exponents = {str(field): ordinary & (exponent == field) for field in np.unique(exponent)}
        groups.append(Group(name, "exponent fields", bins(exponents)))
        groups.append(Group(name, "residual fields", bins({str(r): ordinary & (residual == r) for r in labels})))
    else:
        octave = np.frexp(np.where(ordinary, values, 1.0))[1] - 1
        octaves = {str(e): ordinary & (octave == e) for e in np.unique(octave[ordinary])}
        groups.append(Group(name, "octaves", bins(octaves)))
    below = fmt.subnormals_below or 0.0
    kinds = {
        "zero": (values == 0) & ~np.signbit(values), "-0": (values == 0) & np.signbit(values), "NaN": np.isnan(values),
        "infinity": np.isinf(values), "subnormal": ordinary & (np.abs(values) < below), "alias": alias & finite,
        "smallest": np.abs(values) == fmt.smallest, "largest": values == fmt.max, "lowest": values == fmt.min,
    }  # fmt: skip
    groups.append(Group(name, "kinds", bins(kinds)))
    return groups

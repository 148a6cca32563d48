"""The operands, the result and the conventions of a golden model, from what is asked for by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..._base.checks import choose
from ...arithmetic.accumulation import Accumulation, as_accumulation
from ...arithmetic.accumulators import get_accumulator
from ...arithmetic.operations import Formats, each_format
from ...codec.rounding import Rounding, as_rounding, check_choices, fits
from ...formats import Format, get_format
from .conventions import SIGNALLING, Conventions, Profile
from .exact import OPERATIONS, SHORT, Operation
from .floats import check_layout_rounding
from .model import LONG, SUMS, Model
from .options import Options
from .ports import Bits, Codes, Fixed, Float, Kind, Port, Relation, get_kind
from .summing import check_accumulation, grid

__all__ = [
    "Asked", "accumulation_of", "check_result", "conventions_of", "operand_ports", "parsed", "result_kind",
    "rounding_of",
    "states_overflow",
]  # fmt: skip

_LANES = 1024  # products of a dot product at most
_DIGITS = 53  # of a term that float64 holds
_WIDEST_OPERAND = (9, 23)  # exponent and mantissa bits of a float operand: products and quotients stay in float64
_EXACT = ("decode", "add", "subtract", "multiply")
_FIXED = (*_EXACT, "fma", "dot", "block_dot", "accumulate")


class Asked(NamedTuple):
    """An operation by name: its key, how many lanes, and its entry."""

    name: str
    lanes: int
    operation: Operation


def parsed(operation: str) -> Asked:
    """Return the operation of a name such as ``dot:4``.

    Raises
    ------
    ValueError
        If there is none of that name, or its length is missing or out of range.
    """
    name, colon, length = operation.partition(":")
    name = SHORT.get(name, name)
    if name not in LONG:
        choose("operation", name, [f"{known}:n" if known in LONG else known for known in OPERATIONS])
    lanes = int(length) if length.isdecimal() else 0
    if (name in LONG) != bool(colon) or (colon and not 1 <= lanes <= _LANES):
        raise ValueError(f"operation {operation!r}: write dot:n or block_dot:n for n products, n from 1 to {_LANES}")
    return Asked(name, max(lanes, 1), OPERATIONS[name])


def operand_ports(asked: Asked, fmt: Formats, options: Options) -> list[Port]:
    """Return the operands of an operation, the random word left out."""
    kinds = _operand_kinds(asked, fmt)
    kinds |= {"clear": Bits("bits:1", 1)}
    if asked.name == "encode":
        kinds["x"] = _source(options.get("source") or "float32")
    if asked.name == "block_dot":
        pair = each_format(options.get("scale") or "e8m0fnu", 2)
        kinds |= {f"scale_{side}": get_kind(get_format(name)) for side, name in zip("ab", pair, strict=True)}
    names = [*asked.operation.operands, *(["c"] if asked.operation.addend and "c" in kinds else [])]
    ports = [Port(name, kinds[name], asked.lanes if name in ("a", "b") else 1) for name in names]
    _check_digits(ports)
    return ports


def _operand_kinds(asked: Asked, fmt: Formats) -> dict[str, Kind]:
    """Return the kinds of a, b and c; of ``encode``, which has none of these, nothing."""
    names = [name for name in asked.operation.operands if name in ("a", "b", "c")]
    given = 1 if isinstance(fmt, (str, Format)) else len(fmt)
    if asked.operation.addend and given == len(names) + 1 and not isinstance(fmt, (str, Format)):
        names = [*names, "c"]
    if given not in (1 if isinstance(fmt, (str, Format)) else 0, max(len(names), 1)):
        operands = ", ".join(names) or "x, which are numbers,"
        raise ValueError(f"`fmt` has {given} formats, and the operands of {asked.name} are {operands}: give one "
                         "format, or one for each")  # fmt: skip
    formats = each_format(fmt, max(len(names), 1))
    if not names:
        get_format(formats[0])
    if asked.name == "decode":
        return {name: get_kind(get_format(each)) for name, each in zip(names, formats, strict=False)}
    numbers = ("c", "a") if asked.name == "convert" else ("c",)
    return {name: _operand_kind(name, each, name in numbers) for name, each in zip(names, formats, strict=False)}


def _operand_kind(operand: str, name: str | Format, number: bool) -> Kind:
    """Return the kind of an operand: codes of a format, or a float; where ``number``, also an integer or float64."""
    kind = get_kind(name)
    if not number and (isinstance(kind, Fixed) or kind.bits == 64):
        raise ValueError(
            f"operand {operand} is a format, or a float of at most {_WIDEST_OPERAND[0]} exponent and "
            f"{_WIDEST_OPERAND[1]} mantissa bits such as float32, not {kind.name}"
        )
    if isinstance(kind, Float) and kind.bits <= 16:
        return get_kind(get_format(kind.name))
    if isinstance(kind, Float) and kind.bits != 64:
        exponent, mantissa = _WIDEST_OPERAND
        if kind.layout.exponent_bits > exponent or kind.layout.mantissa_bits > mantissa:
            raise ValueError(f"operands have at most {exponent} exponent and {mantissa} mantissa bits, not {kind.name}")
    return kind


def _check_digits(ports: Sequence[Port]) -> None:
    """Refuse terms of a sum that float64 does not hold."""
    factors = [port for port in ports if port.name in ("a", "b", "scale_a", "scale_b")]
    if len(factors) > 2:
        digits = sum(grid(port.kind).digits for port in factors)
        if digits > _DIGITS:
            raise ValueError(f"products with both scales have up to {digits} digits, and {_DIGITS} are computed")
    for port in ports:
        if port.name == "c" and not isinstance(port.kind, Codes) and port.bits > _DIGITS:
            raise ValueError(f"operand c is a number of at most {_DIGITS} digits, not {port.kind.name}")


def _source(name: str) -> Kind:
    kind = get_kind(name)
    if isinstance(kind, Codes):
        raise ValueError(f"encode is given numbers: `source` is a float or fixed:I.F, got the format {name!r}")
    return kind


def accumulation_of(asked: Asked, ports: Sequence[Port], options: Options) -> Accumulation | None:
    """Return how products are summed; None if exactly."""
    name = options.get("accumulator")
    if name is None or asked.name not in SUMS:
        return None
    accumulation = as_accumulation(name)
    if get_accumulator(accumulation.accumulator).exact:
        return None
    check_accumulation(accumulation, ports, stream=asked.name == "accumulate")
    return accumulation


def result_kind(
    asked: Asked, ports: Sequence[Port], fmt: Formats, accumulation: Accumulation | None, options: Options
) -> Kind:
    """Return what the result is: ``float16`` and ``bfloat16`` are formats, but for ``decode``, which rounds nothing."""
    result = options.get("result")
    if asked.name == "compare":
        return Relation("relation", 4)
    if result is None:
        return _usual_result(asked, ports, fmt, accumulation)
    kind = get_kind(result)
    kind = get_kind(get_format(kind.name)) if asked.name != "decode" and kind.name in ("float16", "bfloat16") else kind
    integer = accumulation is None or get_accumulator(accumulation.accumulator).integer is not None
    if isinstance(kind, Fixed) and not (asked.name in _FIXED and integer):
        raise ValueError(f"the result of {asked.name} is a code or a float, not {kind.name}: leave `result` out, or "
                         "name a format")  # fmt: skip
    if isinstance(kind, Float) and kind.bits == 64:
        _check_float64(asked, ports, kind)
    return kind


def _usual_result(asked: Asked, ports: Sequence[Port], fmt: Formats, accumulation: Accumulation | None) -> Kind:
    if asked.name == "decode":
        return get_kind("float32")
    if asked.name == "convert":
        raise ValueError("convert goes into another format: `result` says which")
    if asked.name == "encode":
        return get_kind(get_format(each_format(fmt, 1)[0]))
    if accumulation is not None:
        accumulator = get_accumulator(accumulation.accumulator)
        if accumulator.floating is not None:
            kind = get_kind(accumulator.floating.name)
            return get_kind(get_format(kind.name)) if kind.bits <= 16 else kind
        if accumulator.format is not None:
            return get_kind(accumulator.format)
        fraction = -sum(grid(port.kind).unit for port in ports if port.name in ("a", "b"))
        if accumulator.integer is not None and 0 <= fraction <= accumulator.integer[0]:
            return get_kind(f"fixed:{accumulator.integer[0] - fraction}.{fraction}")
    return ports[0].kind if asked.name != "accumulate" else ports[1].kind


def _check_float64(asked: Asked, ports: Sequence[Port], kind: Kind) -> None:
    """Refuse results in float64 that may need more digits: nothing is rounded to it."""
    if asked.name not in _EXACT:
        raise ValueError(f"the result of {asked.name} is rounded, and not to {kind.name}: choose float32 or narrower")
    if asked.name in ("add", "subtract"):
        grids = [grid(port.kind) for port in ports]
        digits = max(grid.unit + grid.bits for grid in grids) + 1 - min(grid.unit for grid in grids)
        if digits > _DIGITS:
            raise ValueError(
                f"exact results of {asked.name} have up to {digits} digits here, and {_DIGITS} are computed: leave "
                "`result` out"
            )


def states_overflow(rounding: str | Rounding | None) -> bool:
    """Return whether a rounding names what lies beyond the largest value: a `Rounding` does, and ``up/nan``."""
    return rounding is not None and (isinstance(rounding, Rounding) or "/" in rounding)


def rounding_of(kind: Kind, rounding: str | Rounding | None, profile: Profile | None) -> Rounding:
    """Return how the result is rounded.

    A text that names no overflow leaves it to the profile, and without one to the result: ``ieee`` for a float of more
    than 16 bits, ``saturate`` for a format. A `Rounding` states its overflow.
    """
    chosen = as_rounding("nearest-even" if rounding is None else rounding)
    if not states_overflow(rounding):
        usual = "ieee" if isinstance(kind, Float) else "saturate"
        chosen = Rounding(chosen.mode, usual if profile is None else profile.overflow)
        if isinstance(kind, Codes) and not fits(kind.format, Rounding(overflow=chosen.overflow)):
            chosen = Rounding(chosen.mode)
    if isinstance(kind, Codes):
        check_choices(kind.format, chosen)
    return chosen


def conventions_of(kind: Kind, profile: Profile | None, options: Options) -> Conventions:
    """Return the conventions: those of the profile, but for what is asked for by itself."""
    tininess, signalling, nan = "before", False, None
    if profile is not None:
        tininess, signalling, nan = profile.tininess, profile.signalling, profile.nans.get(kind.name)
    tininess = options.get("tininess") or tininess
    asked = options.get("signalling")
    if asked is not None:
        signalling = choose("signalling", asked, SIGNALLING) == "invalid"
    return Conventions(tininess, signalling, nan)


def check_result(model: Model) -> None:
    """Raise ValueError if results cannot be rounded as a model says."""
    kind = model.result.kind
    if isinstance(kind, Float) and not model.keeps:
        check_layout_rounding(kind.layout, model.rounding)
    if model.stochastic and model.conventions.tininess == "after":
        raise ValueError("`tininess` after rounding is not for stochastic rounding: leave it out")

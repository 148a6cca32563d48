"""Which options mean something for an operation: one that would change nothing is refused, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from ...arithmetic.accumulation import Accumulation
from ...arithmetic.operations import Formats
from ...codec.rounding import Rounding, as_rounding, fits
from ...formats import Format
from .conventions import PROFILES, has_signalling, has_subnormals
from .model import LONG, SUMS, Model
from .ports import EXHAUSTIVE_BITS, Codes, Relation

__all__ = ["IDLE", "Options", "check_given", "given_rounding"]

Given = Mapping[str, Any]


class Options(TypedDict, total=False):
    """Options of a golden model, all of which may be None: see `rf8sim.hardware.golden.golden.golden`."""

    source: str | None
    result: str | Format | None
    rounding: str | Rounding | None
    scale: Formats | None
    accumulator: str | Format | Accumulation | None
    profile: str | None
    tininess: str | None
    signalling: str | None


def _if_exact(model: Model, given: Given) -> str:
    if isinstance(model.result.kind, Relation):
        return f"{model.name} rounds nothing"
    return "" if model.rounds else f"a result in {model.result.kind.name} is exact"


def _accumulator(model: Model, given: Given) -> str:
    return "" if model.operation in SUMS else f"{model.name} sums no products in an accumulator"


def _tininess(model: Model, given: Given) -> str:
    kind = model.result.kind
    if model.rounds and has_subnormals(kind):
        return ""
    return f"a result in {kind.name} has no underflow that rounding decides"


def _signalling(model: Model, given: Given) -> str:
    kinds = [port.kind for port in model.operands]
    return "" if any(map(has_signalling, kinds)) else f"operands of {model.name} have no signalling NaN"


def _profile(model: Model, given: Given) -> str:
    kind = model.result.kind
    patterns = any(kind.name in profile.nans for profile in PROFILES.values())
    overflows = not given.get("stated") and not _if_exact(model, given)
    overflows &= not isinstance(kind, Codes) or fits(kind.format, Rounding(overflow="ieee"))
    if patterns or overflows or not (_tininess(model, given) and _signalling(model, given)):
        return ""
    return f"results in {kind.name} are the same by each"


def _level(model: Model, given: Given) -> str:
    if model.exhaustive:
        return f"all {1 << model.bits:,} combinations of operands are asked at every level"
    unworded = model.bits - (model.rounding.bits if model.stochastic else 0)
    grows = model.streams or model.operation in ("fma", *LONG) or unworded > EXHAUSTIVE_BITS
    return "" if grows or "n" not in given else "the level is but the number of random vectors, which `n` says"


def _seed(model: Model, given: Given) -> str:
    random = given.get("n", 0 if model.exhaustive else None)
    return "there are no random vectors, unless `n` asks for some" if random == 0 else ""


_FIXED_RESULTS = {"encode": "the result of encode is a code of `fmt`", "compare": "the result of compare is a relation"}

IDLE: dict[str, Callable[[Model, Given], str]] = {
    "source": lambda model, given: "" if model.operation == "encode" else f"{model.name} is given codes, of `fmt`",
    "result": lambda model, given: _FIXED_RESULTS.get(model.operation, ""),
    "rounding": _if_exact,
    "overflow": _if_exact,
    "bits": lambda model, given: "" if model.stochastic else "only stochastic rounding has a random word",
    "scale": lambda model, given: "" if model.operation == "block_dot" else f"{model.name} has no scales",
    "accumulator": _accumulator,
    "profile": _profile,
    "tininess": _tininess,
    "signalling": _signalling,
    "level": _level,
    "seed": _seed,
}
"""For each option of `vectors`, from the model and what was given: why it changes nothing.

``overflow`` and ``bits`` are fields of the option ``rounding``. ``fmt`` and ``n`` are not here: they always mean
something.
"""


def given_rounding(rounding: str | Rounding | None) -> dict[str, Any]:
    """Return which of the mode, ``overflow`` and ``bits`` a rounding sets; None sets nothing.

    Raises
    ------
    ValueError
        If it sets what a model has no use for: random words are an operand.

    Examples
    --------
    >>> given_rounding("up"), given_rounding(Rounding(overflow="nan")), given_rounding(None)
    ({'rounding': 'up'}, {'overflow': 'nan'}, {})
    """
    if rounding is None:
        return {}
    chosen, usual = as_rounding(rounding), Rounding()
    if chosen.seed or chosen.offset or chosen.words is not None:
        raise ValueError("the random words are an operand: leave out seed, offset and words of the rounding")
    if chosen.variant != "A":
        raise ValueError(f"vectors have the random words of variant 'A', a carry; got variant {chosen.variant!r}")
    fields = {"rounding": (chosen.mode, usual.mode), "overflow": (chosen.overflow, usual.overflow),
              "bits": (chosen.bits, usual.bits)}  # fmt: skip
    given = {name: value for name, (value, default) in fields.items() if value != default}
    if isinstance(rounding, str) and "/" in rounding:
        given["overflow"] = chosen.overflow
    return given or {"rounding": chosen.mode}


def check_given(model: Model, options: Given) -> None:
    """Refuse options that change nothing; those that are None were not given.

    Raises
    ------
    ValueError
        If there is one. Options are named in grave accents, by their names here.

    Examples
    --------
    >>> from rf8sim.hardware.vectors.vectors import vectors
    >>> vectors("multiply", "rf8", source="float16")
    Traceback (most recent call last):
    ...
    ValueError: `source` changes nothing: multiply is given codes, of `fmt`; leave it out
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        why = IDLE[name](model, given) if name in IDLE else ""
        if why:
            raise ValueError(f"`{name}` changes nothing: {why}; leave it out")

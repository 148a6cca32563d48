"""Rules that derive a scale from the numbers that share it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MODES", "RULES", "Rule"]


class Rule(NamedTuple):
    """A rule that derives the scale of a block from its numbers.

    Attributes
    ----------
    target : str
        What the largest magnitude is divided by: ``max``, the largest value of the format; ``emax``, its largest power
        of two; ``min``, its lowest value, with the sign of the extreme element; ``search``, no fixed one.
    rounding : str or None
        How the quotient is rounded to the scale's format; None: as the scales say.
    summary : str
        For people.
    """

    target: str
    rounding: str | None
    summary: str


RULES: dict[str, Rule] = {
    "mse": Rule("search", None, "least squared error on the data"),
    "ggd": Rule("search", None, "least expected squared error under a fitted generalized Gaussian"),
    "max": Rule("max", None, "the largest magnitude maps to the largest value"),
    "floor": Rule("emax", "toward-zero", "OCP MX 1.0, section 6.3: floor(log2(amax)) - emax (torchao FLOOR)"),
    "ceil": Rule("emax", "up", "ceil(log2(amax)) - emax (torchao CEIL)"),
    "rceil": Rule("max", "up", "ceil(log2(amax / max)) (torchao RCEIL; cvt.rp of NVIDIA's hardware)"),
    "even": Rule("emax", "toward-zero", "as floor, amax first rounded to the element's precision (torchao EVEN)"),
    "signed": Rule("min", "nearest-even", "the extreme element, of either sign, maps to the lowest value (GGUF Q4_0)"),
}
"""Every rule, by name. ``max`` and the powers of two: the scale's format and rounding come from `Scales`."""

MODES = ("nearest-even", "toward-zero", "up")
"""How rules that leave it open round a scale to its format."""

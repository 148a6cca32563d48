"""Bounds that a result must keep, as people write them: ``sqnr>=25dB``, ``loss<=+1%``, ``bits<=6``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from .._base.checks import choose

__all__ = ["QUANTITIES", "Requirement", "parse_requirement"]

QUANTITIES = {
    "sqnr": "signal-to-quantization-noise ratio of all quantized tensors together, in dB",
    "worst-sqnr": "SQNR of the worst tensor, in dB",
    "bits": "stored bits per weight, everything counted",
    "loss": "loss of the model, nats per token; +1% or +0.02 is relative to the unquantized model",
    "kl": "divergence of the predictions from the unquantized model's, nats per token; a budget of plans",
    "metric": "what the evaluation command prints; +1% or -0.5 is relative to the unquantized model",
}
"""What can be bounded, with the unit."""

_EXAMPLES = "'sqnr>=25dB', 'worst-sqnr>=20dB', 'bits<=6', 'loss<=+1%' or 'metric>=-1%'"

_FORM = re.compile(r"\s*([a-z-]+)\s*(<=|>=)\s*([-+]?)(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+)\s*(%|dB|bits)?\s*")
_UNITS = {"sqnr": ("dB",), "worst-sqnr": ("dB",), "bits": ("bits",), "loss": ("%",), "kl": (), "metric": ("%",)}


@dataclass(frozen=True)
class Requirement:
    """One bound.

    Attributes
    ----------
    quantity : str
        One of `QUANTITIES`.
    operator : str
        ``<=`` or ``>=``.
    value : float
        The bound, in the quantity's unit; a share where ``percent``.
    relative : bool
        Whether it is a difference from the original's figure.
    percent : bool
        Whether that difference is a share of the original's magnitude.
    text : str
        As it was written.
    """

    quantity: str
    operator: str
    value: float
    relative: bool
    percent: bool
    text: str

    def bound(self, original: float = math.nan) -> float:
        """Return the bound as an absolute figure, given the original's."""
        if not self.relative:
            return self.value
        return original + self.value * (abs(original) if self.percent else 1.0)

    def met(self, figure: float, original: float = math.nan) -> bool:
        """Return whether a figure keeps the bound; NaN never does.

        Examples
        --------
        >>> requirement = parse_requirement("loss<=+1%")
        >>> requirement.met(1.514, 1.5), requirement.met(1.516, 1.5), requirement.met(float("nan"), 1.5)
        (True, False, False)
        """
        bound = self.bound(original)
        return figure <= bound if self.operator == "<=" else figure >= bound


def parse_requirement(text: str, *, examples: str = _EXAMPLES) -> Requirement:
    """Read a bound.

    Parameters
    ----------
    text : str
        A quantity, ``<=`` or ``>=``, and a number with its unit or without; for ``loss`` and ``metric`` a number with
        a sign is a difference from the original's figure.
    examples : str
        What a refusal of another form shows.

    Returns
    -------
    Requirement
        The bound.

    Raises
    ------
    ValueError
        If it is not of that form, or the quantity or the unit is unknown.

    Examples
    --------
    >>> parse_requirement("sqnr >= 25 dB").value, parse_requirement("loss<=+1%").bound(2.0)
    (25.0, 2.02)
    >>> parse_requirement("sqnr=25")
    Traceback (most recent call last):
    ValueError: a requirement is QUANTITY>=BOUND or QUANTITY<=BOUND, such as 'sqnr>=25dB', ..., got 'sqnr=25'
    """
    form = _FORM.fullmatch(text)
    if form is None:
        raise ValueError(f"a requirement is QUANTITY>=BOUND or QUANTITY<=BOUND, such as {examples}, got {text!r}")
    quantity, operator, sign, number, unit = form.groups()
    choose("quantity of a requirement", quantity, QUANTITIES)
    if unit and unit not in _UNITS[quantity]:
        given = _UNITS[quantity][0] if _UNITS[quantity] else "nats per token, without a unit"
        raise ValueError(f"requirement {text!r}: {quantity} is given in {given}, not in {unit}")
    relative = bool(sign) and "%" in _UNITS[quantity]
    if unit == "%" and not relative:
        example = f"{quantity}{operator}{'+' if operator == '<=' else '-'}{number}%"
        raise ValueError(f"requirement {text!r}: percentages are relative to the unquantized model: write {example}")
    value = float(sign + number) / (100 if unit == "%" else 1)
    return Requirement(quantity, operator, value, relative, unit == "%", text.strip())

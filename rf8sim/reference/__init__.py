"""The oracle: what the specification says, one operation per function, in int and Fraction.

Nothing here is fast and nothing here is approximate. Everything is read off a format's table of values and
the project's specification of RF8 (section numbers below are its own); no code is shared with the encoder
that is checked against it.
"""

from __future__ import annotations

from .operations import Number, add, divide, maximum, minimum, multiply, number, overflows, round_with_flags, sqrt
from .philox import philox4x32, random_word
from .rationals import exact, floor_log2, nearest_exponent, power_of_two
from .rounding import MODES, OVERFLOWS, ladder, residual_depth, residual_round, residual_value, round_value, takes_upper

__all__ = [
    "MODES", "OVERFLOWS", "Number", "add", "divide", "exact", "floor_log2", "ladder", "maximum", "minimum", "multiply",
    "nearest_exponent", "number", "overflows", "philox4x32", "power_of_two", "random_word", "residual_depth",
    "residual_round", "residual_value", "round_value", "round_with_flags", "sqrt", "takes_upper",
]  # fmt: skip

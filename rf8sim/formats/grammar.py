"""Formats written as text: families with parameters, as calls (``posit(16,1)``) or short names (``int12``).

To add a family, add a line to ``_RULES``: what is written, what it means, an example, what builds it. A call is the
name of its family and the builder's arguments in parentheses, keywords last; a short name is a pattern whose groups
are the arguments.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from .base import Format
from .integer import fixed_point_format, integer_format
from .logarithmic import lns_format
from .minifloat import ieee_format, minifloat_format, p3109_format, unsigned_format
from .posit import bounded_posit_format, posit_format
from .quantile import quantile_format
from .residual import residual_format
from .takum import takum_format

__all__ = ["format_grammar", "parse_format"]

_Argument = int | float | bool | str


class _Rule(NamedTuple):
    """A line of the grammar; without a pattern it is a call."""

    form: str
    meaning: str
    example: str
    build: Callable[..., Format]
    pattern: str = ""

    @property
    def head(self) -> str:
        """The name of the family of a call."""
        return self.form.partition("(")[0]


def _posit(bits: int, exponent_size: int) -> Format:
    return posit_format(exponent_size, bits)


def _residual(exponent_bits: int, depth: int, bias: int | None = None) -> Format:
    return residual_format(exponent_bits, depth, bias)


def _quantile(bits: int, shape: float) -> Format:
    return quantile_format(bits, shape)


def _p3109(bits: int, precision: int, kind: str = "se") -> Format:
    return p3109_format(precision, bits, signed=kind[0] == "s", extended=kind[1] == "e")


_N = r"(0|[1-9]\d{0,3})"
_UNSIGNED_INTEGER, _LINEAR_TAKUM = partial(integer_format, signed=False), partial(takum_format, linear=True)

_RULES = (
    _Rule("rf(p,depth[,bias])", "residual float of p exponent bits", "rf(4,4,12)", _residual),
    _Rule("e{E}m{M}", "float as IEEE 754 has it, with infinities and NaN", "e4m2", ieee_format, rf"e{_N}m{_N}"),
    _Rule("ue{E}m{M}", "unsigned float, no infinity, one NaN: a scale", "ue5m3", unsigned_format, rf"ue{_N}m{_N}"),
    _Rule("minifloat(e,m[,bias=,nan=,inf=,signed_zero=,unsigned=,subnormals=])",
          "float of any rules; nan is ieee, all-ones, negative-zero or none", "minifloat(3,2,bias=5,nan=none)",
          minifloat_format),
    _Rule("binary{K}p{P}{s|u}{e|f}", "IEEE P3109: K bits, precision P, signed or unsigned, extended or finite",
          "binary8p3se", _p3109, rf"binary{_N}p{_N}([su][ef])"),
    _Rule("binary{K}p{P}", "the same, signed and extended", "binary8p3", _p3109, rf"binary{_N}p{_N}"),
    _Rule("int{n}", "integer of n bits, two's complement", "int12", integer_format, rf"int{_N}"),
    _Rule("int(n)", "the same", "int(12)", integer_format),
    _Rule("uint{n}", "unsigned integer of n bits", "uint12", _UNSIGNED_INTEGER, rf"uint{_N}"),
    _Rule("uint(n)", "the same", "uint(12)", _UNSIGNED_INTEGER),
    _Rule("q(i,f)", "fixed point of i + f bits, the sign one of the i", "q(1,15)", fixed_point_format),
    _Rule("uq(i,f)", "unsigned fixed point of i + f bits", "uq(8,8)", partial(fixed_point_format, signed=False)),
    _Rule("posit(n,es)", "posit of n bits, es of them for the exponent", "posit(16,1)", _posit),
    _Rule("posit{n}_es{es}", "the same", "posit16_es1", _posit, rf"posit{_N}_es{_N}"),
    _Rule("bposit(n[,es,rs])", "posit with a regime of at most rs bits", "bposit(16,5,6)", bounded_posit_format),
    _Rule("takum(n)", "logarithmic takum of n bits", "takum(12)", takum_format),
    _Rule("takum{n}", "the same", "takum12", takum_format, rf"takum{_N}"),
    _Rule("takum_linear(n)", "linear takum of n bits", "takum_linear(12)", _LINEAR_TAKUM),
    _Rule("takum_linear{n}", "the same", "takum_linear12", _LINEAR_TAKUM, rf"takum_linear{_N}"),
    _Rule("lns(i,f)", "sign and log2 in fixed point, i integer bits with their sign and f fraction bits", "lns(5,10)",
          lns_format),
    _Rule("quantile(bits,shape)", "quantiles of the generalized Gaussian of a shape", "quantile(8,0.7)", _quantile),
)  # fmt: skip
_CALLS = {rule.head: rule for rule in _RULES if not rule.pattern}
_SHORT = tuple(rule for rule in _RULES if rule.pattern)


def format_grammar() -> list[tuple[str, str, str]]:
    """Return how formats with parameters are written: text form, meaning and an example of each.

    Examples
    --------
    >>> format_grammar()[1]
    ('e{E}m{M}', 'float as IEEE 754 has it, with infinities and NaN', 'e4m2')
    """
    return [(rule.form, rule.meaning, rule.example) for rule in _RULES]


def parse_format(text: str) -> Format | None:
    """Build the format that a text of the grammar means, or return None if the text is none.

    Parameters
    ----------
    text : str
        A call or a short name of `format_grammar`.

    Returns
    -------
    Format or None
        The format, newly built, under its one name: ``posit(16,1)`` is ``posit16_es1``.

    Raises
    ------
    ValueError
        If the text is of the grammar, but there is no such format.

    Examples
    --------
    >>> parse_format("int(12)").name, parse_format("nothing")
    ('int12', None)
    >>> parse_format("takum(40)")
    Traceback (most recent call last):
    ...
    ValueError: format 'takum(40)': a takum has 3 to 16 bits here, got 40
    """
    call = re.fullmatch(r"(\w+)\((.*)\)", text, re.ASCII)
    if call is not None and call[1] in _CALLS:
        rule = _CALLS[call[1]]
        values, keywords = _arguments(call[2])
        if not values and not keywords:
            raise ValueError(f"format {text!r}: expected {rule.form}, such as {rule.example}")
        return _built(text, rule, values, keywords)
    for rule in _SHORT:
        groups = re.fullmatch(rule.pattern, text, re.ASCII)
        if groups is not None:
            return _built(text, rule, [_value(group) for group in groups.groups()], {})
    return None


def _built(text: str, rule: _Rule, values: list[_Argument], keywords: dict[str, _Argument]) -> Format:
    try:
        inspect.signature(rule.build).bind(*values, **keywords)
    except TypeError:
        raise ValueError(f"format {text!r}: expected {rule.form}, such as {rule.example}") from None
    try:
        return rule.build(*values, **keywords)
    except (TypeError, ValueError) as error:
        message = str(error).removeprefix(f"{text!r}: ").removeprefix(f"format {text!r}: ")
        raise ValueError(f"format {text!r}: {message}") from None


def _arguments(text: str) -> tuple[list[_Argument], dict[str, _Argument]]:
    values, keywords = [], {}
    for part in text.split(",") if text.strip() else ():
        key, equals, value = part.partition("=")
        if equals:
            keywords[key.strip()] = _value(value.strip())
        else:
            values.append(_value(key.strip()))
    return values, keywords


_WORDS: dict[str, _Argument] = {"true": True, "yes": True, "false": False, "no": False}


def _value(text: str) -> _Argument:
    """Return the number or truth value that a text is, else the text."""
    if re.fullmatch(r"[-+]?\d+", text, re.ASCII):
        return int(text)
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", text, re.ASCII):
        return float(text)
    return _WORDS.get(text, text)

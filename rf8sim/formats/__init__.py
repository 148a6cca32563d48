"""The registry of number formats. To add a format, add one entry to the table below."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from .._base.checks import suggestion
from .base import Format, Side
from .floats import FloatLayout, get_layout, layout_names
from .integer import integer_format
from .logarithmic import logarithmic_format
from .minifloat import ML_DTYPES, ml_dtypes_format, p3109_format
from .posit import posit_format
from .quantile import nf4_format, quantile_format
from .residual import residual_format

__all__ = [
    "FloatLayout", "Format", "Side", "format_names", "get_format", "get_layout", "integer_format", "layout_names",
    "logarithmic_format", "ml_dtypes_format", "p3109_format", "posit_format", "quantile_format", "register",
    "residual_format",
]  # fmt: skip

# A format is built when first asked for: listing names costs nothing.
_builders: dict[str, Callable[[], Format]] = {
    "rf8": lambda: residual_format(4, 4, name="rf8"),
    "rf8_e3": lambda: residual_format(3, 8, name="rf8_e3"),
    "rf6": lambda: residual_format(3, 2, name="rf6"),
    **{name: partial(ml_dtypes_format, name) for name in ML_DTYPES},
    "binary8p3": lambda: p3109_format(3),
    "binary8p4": lambda: p3109_format(4),
    "binary8p5": lambda: p3109_format(5),
    **{f"int{bits}": partial(integer_format, bits) for bits in (8, 4)},
    **{f"uint{bits}": partial(integer_format, bits, signed=False) for bits in (8, 4)},
    "posit8_es0": lambda: posit_format(0),
    "posit8_es1": lambda: posit_format(1),
    "posit8_es2": lambda: posit_format(2),
    "lns8": lambda: logarithmic_format(),
    "nf4": nf4_format,
    "nf8": lambda: quantile_format(8, 2.0, name="nf8"),
}
_built: dict[str, Format] = {}

# Formats with parameters, written as calls: rf(4,4,12) or quantile(8,0.7).
_parametric: dict[str, Callable[..., Format]] = {
    "int": integer_format,
    "rf": residual_format,
    "uint": partial(integer_format, signed=False),
    "quantile": quantile_format,
}


def register(fmt: Format) -> Format:
    """Add a format of your own to the registry, under its own name.

    Parameters
    ----------
    fmt : Format
        The format; its name must be new.

    Returns
    -------
    Format
        The same format.

    Raises
    ------
    ValueError
        If a format of that name exists.

    Examples
    --------
    >>> import rf8sim
    >>> rf8sim.register(rf8sim.get_format("rf8"))
    Traceback (most recent call last):
    ...
    ValueError: a format named 'rf8' exists already: choose another name
    """
    if not isinstance(fmt, Format):
        raise TypeError(f"register takes a Format, not {type(fmt).__name__}")
    if fmt.name in _builders or fmt.name in _built:
        raise ValueError(f"a format named {fmt.name!r} exists already: choose another name")
    _builders[fmt.name] = lambda: fmt
    return fmt


def format_names() -> list[str]:
    """Return the names of all registered formats, in the order of the registry.

    Examples
    --------
    >>> format_names()[:3]
    ['rf8', 'rf8_e3', 'rf6']
    """
    return list(_builders)


def get_format(fmt: str | Format) -> Format:
    """Look a format up by name.

    Parameters
    ----------
    fmt : str or Format
        A registered name; ``rf(p,depth)`` or ``rf(p,depth,bias)``; ``quantile(bits,shape)``; or a `Format`, which is
        returned as it is.

    Returns
    -------
    Format
        The format.

    Raises
    ------
    ValueError
        If there is no such format; the nearest name is suggested.

    Examples
    --------
    >>> get_format("rf(4,4,12)").max
    12.0
    >>> get_format("e4m3fm")
    Traceback (most recent call last):
    ...
    ValueError: unknown format 'e4m3fm': did you mean 'e4m3fn'? 'rf8sim formats' lists all
    """
    if isinstance(fmt, Format):
        return fmt
    if not isinstance(fmt, str):
        raise TypeError(f"a format is given by its name or as a Format, not as {type(fmt).__name__}")
    if fmt not in _built:
        if fmt in _builders:
            _built[fmt] = _builders[fmt]()
        else:
            _built[fmt] = _from_call(fmt)
    return _built[fmt]


def _from_call(text: str) -> Format:
    """Build a format from a name such as ``rf(4,4,12)``."""
    call = re.fullmatch(r"(\w+)\(([-+0-9.,e ]*)\)", text)
    if call and call[1] in _parametric:
        try:
            arguments = [float(part) if "." in part or "e" in part else int(part) for part in call[2].split(",")]
            return _parametric[call[1]](*arguments)
        except (TypeError, ValueError) as error:
            raise ValueError(f"format {text!r}: {error}") from None
    raise ValueError(f"unknown format {text!r}: {suggestion(text, _builders)}'rf8sim formats' lists all")

"""The registry of number formats. To add a format, add one entry to the table below."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable
from functools import partial

from .base import Format, Side
from .floats import FloatLayout, get_layout, layout_names
from .integer import integer_format
from .logarithmic import logarithmic_format
from .minifloat import ML_DTYPES, ml_dtypes_format, p3109_format
from .posit import posit_format
from .quantile import nf4_format, quantile_format
from .residual import residual_format

__all__ = [
    "FloatLayout", "Format", "Side", "format_aliases", "format_grammar", "format_names", "get_format", "get_layout",
    "integer_format", "is_format_file", "layout_names", "logarithmic_format", "ml_dtypes_format", "p3109_format",
    "plugin_packages", "posit_format", "quantile_format", "register", "residual_format",
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
    _built[fmt.name] = fmt
    return fmt


def format_names(bits: int = 8) -> list[str]:
    """Return the names of the registered formats of at most so many bits, in the order of the registry.

    Examples
    --------
    >>> format_names()[:3]
    ['rf8', 'rf8_e3', 'rf6']
    """
    return [name for name in _builders if name not in _built or _built[name].bits <= bits]


def format_aliases() -> dict[str, str]:
    """Return other names of registered formats: for each alias the name that it stands for."""
    return {}


def format_grammar() -> list[tuple[str, str, str]]:
    """Return the formats with parameters: how they are written, what that means, and an example.

    Examples
    --------
    >>> format_grammar()[0]
    ('rf(p,depth)', 'residual float: p exponent bits, powers of two at most depth apart', 'rf(4,4)')
    """
    return [
        ("rf(p,depth)", "residual float: p exponent bits, powers of two at most depth apart", "rf(4,4)"),
        ("rf(p,depth,bias)", "the same with an exponent bias", "rf(4,4,12)"),
        ("int(bits)", "integer, two's complement", "int(6)"),
        ("uint(bits)", "integer, unsigned", "uint(6)"),
        ("quantile(bits,shape)", "quantiles of the generalized Gaussian of a shape", "quantile(8,0.7)"),
    ]


def plugin_packages() -> dict[str, str]:
    """Return the formats of installed packages that are plug-ins: for each name the package.

    A package names its formats as entry points of the group ``rf8sim.formats``. A name that is built in or registered
    is not among them. Nothing is imported.
    """
    from .plugins import packages

    return {name: package for name, package in packages().items() if name not in _builders}


def is_format_file(text: str) -> bool:
    """Return whether a format is given by a file: its text ends in ``.csv`` or ``.json``.

    Examples
    --------
    >>> is_format_file("my.csv"), is_format_file("rf8")
    (True, False)
    """
    return text.lower().endswith((".csv", ".json"))


def get_format(fmt: str | os.PathLike[str] | Format) -> Format:
    """Look a format up by name, or read it from a file.

    Parameters
    ----------
    fmt : str, path or Format
        A registered name; ``rf(p,depth)`` or ``rf(p,depth,bias)``; ``quantile(bits,shape)``; the name of a format of an
        installed plug-in; a file that ends in ``.csv`` or ``.json`` (`rf8sim.formats.files`), whose format is known by
        its own name from then on; or a `Format`, which is returned as it is.

    Returns
    -------
    Format
        The format.

    Raises
    ------
    ValueError
        If there is no such format; the nearest name is suggested. If a file has no table of a format, or one with the
        name of another format.

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
    if isinstance(fmt, os.PathLike):
        return _from_file(os.fspath(fmt))
    if not isinstance(fmt, str):
        raise TypeError(f"a format is given by its name or as a Format, not as {type(fmt).__name__}")
    if is_format_file(fmt):
        return _from_file(fmt)
    if fmt not in _built:
        _built[fmt] = _builders[fmt]() if fmt in _builders else _from_call(fmt) or _from_plugin(fmt)
    return _built[fmt]


def _from_file(path: str) -> Format:
    """Read a format from a file and make it known by its name; the same file again gives the same format."""
    from .files import read_format

    fmt = read_format(path)
    try:
        known: Format | None = get_format(fmt.name)
    except ValueError:
        known = None if fmt.name in layout_names() else _built.setdefault(fmt.name, fmt)
    if known is None or known != fmt:
        raise ValueError(f"{path}: a format named {fmt.name!r} exists already and is another: choose another name")
    return known


def _from_call(text: str) -> Format | None:
    """Build a format from a name such as ``rf(4,4,12)``; None if it is no such name."""
    call = re.fullmatch(r"(\w+)\(([-+0-9.,e ]*)\)", text)
    if call and call[1] in _parametric:
        try:
            arguments = [float(part) if "." in part or "e" in part else int(part) for part in call[2].split(",")]
            return _parametric[call[1]](*arguments)
        except (TypeError, ValueError) as error:
            raise ValueError(f"format {text!r}: {error}") from None
    return None


def _from_plugin(name: str) -> Format:
    """Load a format of an installed plug-in."""
    from .plugins import load, packages

    known = packages()
    if name in known:
        return load(name)
    files = [f"{name}{suffix}" for suffix in (".csv", ".json") if os.path.isfile(f"{name}{suffix}")]
    close = files or difflib.get_close_matches(name.lower(), [*_builders, *known], n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"unknown format {name!r}: {hint}'rf8sim formats' lists all")

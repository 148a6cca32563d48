"""The registry of number formats: names, aliases and the grammar of formats with parameters.

To add a format, add one entry to the table below; to add a family with parameters, add a line to ``grammar.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from .._base.checks import suggestion
from .base import Format, Side
from .floats import FloatLayout, get_layout, layout_names
from .grammar import format_grammar, parse_format
from .hifloat import hifloat8_format
from .integer import fixed_point_format, integer_format
from .logarithmic import lns_format, logarithmic_format
from .minifloat import (
    ML_DTYPES,
    dlfloat_format,
    e8m0_even_format,
    ieee_format,
    minifloat_format,
    ml_dtypes_format,
    p3109_format,
    unsigned_format,
)
from .posit import bounded_posit_format, posit_format
from .quantile import nf4_format, quantile_format
from .residual import residual_format
from .takum import takum_format

__all__ = [
    "FloatLayout", "Format", "Side", "bounded_posit_format", "dlfloat_format", "e8m0_even_format", "fixed_point_format",
    "format_aliases", "format_grammar", "format_names", "get_format", "get_layout",
    "hifloat8_format", "ieee_format", "integer_format", "is_built_in", "is_format_file", "layout_names", "lns_format",
    "logarithmic_format", "minifloat_format", "ml_dtypes_format", "p3109_format", "plugin_packages", "posit_format",
    "quantile_format", "register", "residual_format", "takum_format", "unsigned_format",
]  # fmt: skip


class _Entry(NamedTuple):
    """A registered format. It is built when first asked for: listing names costs nothing."""

    bits: int
    build: Callable[[], Format]


_builders: dict[str, _Entry] = {
    # residual
    "rf8": _Entry(8, partial(residual_format, 4, 4, name="rf8")),
    "rf8_e3": _Entry(8, partial(residual_format, 3, 8, name="rf8_e3")),
    "rf6": _Entry(6, partial(residual_format, 3, 2, name="rf6")),
    # minifloat
    **{name: _Entry(get_layout(name).bits, partial(ml_dtypes_format, name)) for name in ML_DTYPES},
    "e8m0_even": _Entry(8, e8m0_even_format),
    "ue4m3": _Entry(7, partial(unsigned_format, 4, 3)),
    "ue5m3": _Entry(8, partial(unsigned_format, 5, 3)),
    "float16": _Entry(16, partial(ieee_format, 5, 10)),
    "bfloat16": _Entry(16, partial(ieee_format, 8, 7)),
    "dlfloat16": _Entry(16, dlfloat_format),
    # minifloat: IEEE P3109
    "binary8p3se": _Entry(8, partial(p3109_format, 3)),
    "binary8p4se": _Entry(8, partial(p3109_format, 4)),
    "binary8p5se": _Entry(8, partial(p3109_format, 5)),
    "binary8p3sf": _Entry(8, partial(p3109_format, 3, extended=False)),
    "binary8p4sf": _Entry(8, partial(p3109_format, 4, extended=False)),
    "binary8p5sf": _Entry(8, partial(p3109_format, 5, extended=False)),
    "binary16p8se": _Entry(16, partial(p3109_format, 8, 16)),
    "binary16p11se": _Entry(16, partial(p3109_format, 11, 16)),
    # hifloat
    "hifloat8": _Entry(8, hifloat8_format),
    # integer
    **{f"int{bits}": _Entry(bits, partial(integer_format, bits)) for bits in (8, 4, 16)},
    **{f"uint{bits}": _Entry(bits, partial(integer_format, bits, signed=False)) for bits in (8, 4, 16)},
    # posit
    **{f"posit8_es{es}": _Entry(8, partial(posit_format, es)) for es in (0, 1, 2)},
    **{f"posit16_es{es}": _Entry(16, partial(posit_format, es, 16)) for es in (1, 2)},
    # takum (takum8 and takum_linear8 span more than float32, as scales do not: they are of the grammar alone)
    "takum16": _Entry(16, partial(takum_format, 16)),
    "takum_linear16": _Entry(16, partial(takum_format, 16, linear=True)),
    # logarithmic
    "lns8": _Entry(8, logarithmic_format),
    # quantile
    "nf4": _Entry(4, nf4_format),
    "nf8": _Entry(8, partial(quantile_format, 8, 2.0, name="nf8")),
}
_BUILT_IN = frozenset(_builders)
_built: dict[str, Format] = {}

_ALIASES = {
    "fp16": "float16", "e5m10": "float16",
    "bf16": "bfloat16", "e8m7": "bfloat16",
    "dlfloat": "dlfloat16",
    "ue8m0": "e8m0fnu",
    "hif8": "hifloat8",
    "binary8p3": "binary8p3se", "binary8p4": "binary8p4se", "binary8p5": "binary8p5se",
    "posit8": "posit8_es2", "posit16": "posit16_es2",  # the Posit Standard 2022
}  # fmt: skip


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
    if fmt.name in _builders or fmt.name in _built or fmt.name in _ALIASES or _in_grammar(fmt.name):
        raise ValueError(f"a format named {fmt.name!r} exists already: choose another name")
    _builders[fmt.name] = _Entry(fmt.bits, lambda: fmt)
    return fmt


def is_built_in(name: str) -> bool:
    """Return whether a name, or its parameters, mean the same format in every installation of this version.

    A format that was registered, read from a file or is a plug-in's is not built in.

    Examples
    --------
    >>> is_built_in("float16"), is_built_in("posit(12,1)"), is_built_in("my_format")
    (True, True, False)
    """
    return name in _BUILT_IN or name in _ALIASES or _in_grammar(name)


def _in_grammar(text: str) -> bool:
    try:
        return parse_format(text) is not None
    except ValueError:
        return True


def format_names(bits: int = 8) -> list[str]:
    """Return the names of the registered formats of at most so many bits, in the order of the registry.

    Parameters
    ----------
    bits : int
        Largest width, 16 for all. The default is 8: what is proven for all pairs of codes.

    Returns
    -------
    list of str
        Names. `format_aliases` has other names of them, `format_grammar` the formats with parameters.

    Examples
    --------
    >>> format_names()[:3], "float16" in format_names(), "float16" in format_names(16)
    (['rf8', 'rf8_e3', 'rf6'], False, True)
    """
    return [name for name, entry in _builders.items() if entry.bits <= bits]


def format_aliases() -> dict[str, str]:
    """Return other names of formats, with the name that each stands for.

    Examples
    --------
    >>> format_aliases()["bf16"], get_format("bf16") is get_format("bfloat16")
    ('bfloat16', True)
    """
    return dict(_ALIASES)


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
        A registered name (`format_names`), an alias (`format_aliases`), a format with parameters such as
        ``rf(p,depth)`` or ``posit(16,1)`` (`format_grammar`), the name of a format of an installed plug-in, a file that
        ends in ``.csv`` or ``.json`` (`rf8sim.formats.files`), whose format is known by its own name from then on, or a
        `Format`, which is returned as it is.

    Returns
    -------
    Format
        The format, the same object however it is written.

    Raises
    ------
    ValueError
        If there is no such format; the nearest name is suggested.

    Examples
    --------
    >>> get_format("rf(4,4,12)").max, get_format("minifloat(5,10)").name
    (12.0, 'float16')
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
        name = _ALIASES.get(fmt, fmt)
        built = _builders[name].build() if name in _builders else parse_format(name)
        if built is None:
            built = _from_plugin(fmt)
        _built[fmt] = _built.setdefault(built.name, built)
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


def _from_plugin(name: str) -> Format:
    """Load a format of an installed plug-in."""
    from .plugins import load, packages

    known = packages()
    if name in known:
        return load(name)
    files = [f"{name}{suffix}" for suffix in (".csv", ".json") if os.path.isfile(f"{name}{suffix}")]
    hint = f"did you mean {files[0]!r}? " if files else suggestion(name, [*_builders, *_ALIASES, *known])
    raise ValueError(f"unknown format {name!r}: {hint}'rf8sim formats' lists all")

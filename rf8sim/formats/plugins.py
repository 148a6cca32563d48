"""Formats of installed packages: entry points of the group ``rf8sim.formats``, read when a name is looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Format

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["GROUP", "load", "packages"]

GROUP = "rf8sim.formats"
"""The group of entry points. Each is ``name = "module:function"``; the function returns the `Format` of that name."""


def packages() -> dict[str, str]:
    """Return the package of each plug-in's format; of several packages with one format, all of them."""
    names: dict[str, list[str]] = {}
    for entry in _entry_points():
        names.setdefault(entry.name, []).append(_package(entry))
    return {name: " and ".join(sorted(set(given))) for name, given in names.items()}


def load(name: str) -> Format:
    """Return the format of a plug-in.

    Parameters
    ----------
    name : str
        A key of `packages`.

    Returns
    -------
    Format
        The format, of that name.

    Raises
    ------
    ValueError
        If the plug-in cannot be imported, fails, or returns something else: one sentence, with the package.
    """
    entries = [entry for entry in _entry_points() if entry.name == name]
    if len({_package(entry) for entry in entries}) > 1:
        raise ValueError(f"format {name!r} is given by packages {packages()[name]}: uninstall all but one")
    where = f"format {name!r} of package {_package(entries[0])!r}"
    try:
        fmt = entries[0].load()()
    except Exception as error:  # whatever another's code raises
        words = " ".join(str(error).split())
        raise ValueError(f"{where} cannot be loaded: {type(error).__name__}: {words}") from error
    if not isinstance(fmt, Format):
        raise ValueError(f"{where}: {entries[0].value} returned {type(fmt).__name__}, expected a Format")
    if fmt.name != name:
        raise ValueError(f"{where} has the name {fmt.name!r}: its entry point must have the same")
    return fmt


def _entry_points() -> list[EntryPoint]:
    from importlib.metadata import entry_points

    return list(entry_points(group=GROUP))


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "unknown"

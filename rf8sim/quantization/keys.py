"""Schemes as texts for interfaces that take nothing else, such as operators of PyTorch."""

from __future__ import annotations

from ..formats import Format
from .scheme import Scheme, as_scheme

__all__ = ["key_of", "scheme_of"]

_SCHEMES: dict[str, Scheme] = {}
_KEYS: dict[Scheme, str] = {}


def key_of(scheme: str | Format | Scheme) -> str:
    """Return the text that stands for a scheme in operators: its own, or where that is another's, one with a number."""
    stored = as_scheme(scheme)
    key = _KEYS.get(stored)
    if key is None:
        key = stored.text
        try:
            same = as_scheme(key) == stored
        except ValueError:
            same = False
        if not same:
            key = f"{key}#{len(_KEYS)}"
        _KEYS[stored], _SCHEMES[key] = key, stored
    return key


def scheme_of(key: str) -> Scheme:
    """Return the scheme of a key."""
    scheme = _SCHEMES.get(key)
    return as_scheme(key) if scheme is None else scheme

"""Plan files: which format each tensor of a checkpoint gets, as TOML that people read and change.

::

    [defaults]
    scheme = "rf8/channel"

    [[tensor]]
    pattern = "*.mlp.down.weight"
    scheme = "fp8_128x128"

    [[tensor]]
    pattern = "head.weight"
    keep = true

The first ``[[tensor]]`` whose pattern matches a name decides; what it leaves out comes from ``[defaults]``. A tensor
that no pattern matches gets the defaults, unless it is of a kind that stays as it is (`Plan.choose`).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from .._base.checks import choose
from .._base.files import write_files
from ..formats import Format, get_format
from ..quantization.records import Count, convert
from ..quantization.scheme import Scales, Scheme, as_scheme, with_format_names

__all__ = [
    "CODERS",
    "KEPT_DTYPES",
    "KEPT_PATTERNS",
    "Plan",
    "Recipe",
    "Rule",
    "by_channel",
    "explicit",
    "read_plan",
    "write_plan",
]

CODERS = ("none", "huffman", "rans", "eg", "zstd")
"""How codes are stored: as they are, or entropy-coded."""

KEPT_PATTERNS = ("*norm*", "*ln_*", "*ln1*", "*ln2*", "*embed*", "*embd*", "*wte*", "*wpe*", "*position*", "*bias*")
"""Names of norms, embeddings and biases, which stay as they are unless a plan says otherwise."""

KEPT_DTYPES = ("own", "bfloat16", "float16")
"""Types of the tensors that stay as they are by their kind: their own, or a narrower one."""

_BY_KIND = ("norms, embeddings, biases", "one axis")


@dataclass(frozen=True)
class Recipe:
    """How one tensor is written.

    Attributes
    ----------
    scheme : Scheme
        How it is stored, or its text form, in which a bare format name means a scale for each channel.
    seed : int
        Of stochastic rounding.
    entropy : str
        How the codes are stored: one of `CODERS`.

    Raises
    ------
    ValueError
        If the scheme cannot be read, or another field is unknown or out of range.

    Examples
    --------
    >>> Recipe("mxfp4", entropy="rans").scheme.bits_per_weight((64, 64))
    4.25
    >>> Recipe("rf9")
    Traceback (most recent call last):
    ValueError: unknown format or scheme 'rf9': did you mean 'rf8'? 'rf8sim formats' lists all
    """

    scheme: Scheme
    seed: int
    entropy: str

    def __init__(self, scheme: str | Format | Scheme = "rf8", seed: int = 0, entropy: str = "none") -> None:
        choose("entropy coder", entropy, CODERS)
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be an integer of at least 0, got {seed!r}")
        stored = by_channel(scheme)
        for name, value in {"scheme": stored, "seed": seed, "entropy": entropy}.items():
            object.__setattr__(self, name, value)

    def for_tensor(self, name: str, shape: tuple[int, ...]) -> Recipe:
        """Return how a tensor of a name and shape is written.

        The channels of a weight of three axes are those of stacked experts, (experts, out); of one with ``conv`` in its
        name they are the outputs of a convolution of one dimension, (out, in, width).

        Examples
        --------
        >>> str(Recipe("int8").for_tensor("conv1.weight", (8, 4, 3)).scheme)
        'int8/1x*x*'
        """
        scales = self.scheme.scales
        if len(shape) != 3 or "conv" not in name.lower() or scales is None or scales.block != (1, -1):
            return self
        return replace(self, scheme=replace(self.scheme, scales=replace(scales, block=(1, -1, -1))))

    def options(self) -> dict[str, Any]:
        """Return the fields as a plan file has them."""
        return {"scheme": explicit(self.scheme), "seed": self.seed, "entropy": self.entropy}


def by_channel(scheme: str | Format | Scheme) -> Scheme:
    """Return a scheme as plans read it: a bare format name means a scale for each channel.

    Examples
    --------
    >>> str(by_channel("e4m3fn")), str(by_channel("rf8@residual")), str(by_channel("int8/tensor"))
    ('e4m3fn/channel', 'rf8/channel@residual', 'int8')
    >>> str(by_channel("int(12)")), str(by_channel("mxfp4"))
    ('int12/channel', 'mxfp4')
    """
    stored = as_scheme(scheme)
    name = with_format_names(scheme).partition("@")[0] if isinstance(scheme, str) else None
    bare = isinstance(scheme, Format) or (name is not None and _is_name_of(name, stored.format))
    return replace(stored, scales=Scales("channel")) if bare else stored


def explicit(scheme: Scheme) -> str:
    """Return the text form of a scheme that `by_channel` and `rf8sim.as_scheme` read alike.

    Examples
    --------
    >>> explicit(as_scheme("int8")), explicit(as_scheme("rf8@residual")), explicit(as_scheme("int8/channel"))
    ('int8/tensor', 'rf8/tensor@residual', 'int8/channel')
    """
    name, at, rounding = str(scheme).partition("@")
    return f"{name}/tensor{at}{rounding}" if name == scheme.format.name else str(scheme)


def _is_name_of(name: str, fmt: Format) -> bool:
    """Return whether a text is the name of a format, another name of it or its parameters: ``int12``, ``int(12)``."""
    try:
        return get_format(name) == fmt
    except ValueError:
        return False


@dataclass(frozen=True)
class Rule:
    """What tensors of a pattern get: one ``[[tensor]]`` of a plan.

    Attributes
    ----------
    pattern : str
        A name, or a pattern with ``*``, ``?`` and ``[...]``, capitals and small letters apart.
    options : dict
        What differs from the defaults: attributes of `Recipe`.
    keep : bool
        Whether the tensors stay as they are.
    """

    pattern: str
    options: Mapping[str, Any] = field(default_factory=dict)
    keep: bool = False


@dataclass(frozen=True)
class Plan:
    """What each tensor gets.

    Attributes
    ----------
    defaults : Recipe
        What a tensor gets that no rule matches.
    rules : tuple of Rule
        The first whose pattern matches decides.
    kept : tuple of str
        Patterns of names that stay as they are if no rule matches, and, if there are any, all tensors of less than two
        axes. Empty to quantize everything.
    kept_dtype : str
        One of `KEPT_DTYPES`: what float32 and float64 tensors are stored in that stay by ``kept``. Those of a rule with
        ``keep`` have their own.

    Examples
    --------
    >>> plan = Plan(Recipe("rf8"), (Rule("head.*", {"scheme": "mxfp4"}), Rule("mlp.*", keep=True)))
    >>> plan.choose("head.weight", (8, 4))
    Recipe(scheme=Scheme('mxfp4'), seed=0, entropy='none')
    >>> plan.choose("mlp.weight", (8, 4)), plan.choose("norm.weight", (8,))
    ("pattern 'mlp.*'", 'norms, embeddings, biases')
    """

    defaults: Recipe = field(default_factory=Recipe)
    rules: tuple[Rule, ...] = ()
    kept: tuple[str, ...] = KEPT_PATTERNS
    kept_dtype: str = "own"

    def __post_init__(self) -> None:
        choose("dtype of kept tensors", self.kept_dtype, KEPT_DTYPES)

    def narrowed(self, reason: str, dtype: str) -> Recipe | None:
        """Return how a tensor of a dtype is stored that stays as it is for a reason; None if in its own type.

        Examples
        --------
        >>> Plan(kept_dtype="bfloat16").narrowed("one axis", "float32")
        Recipe(scheme=Scheme('bfloat16/none'), seed=0, entropy='none')
        """
        wide = self.kept_dtype != "own" and dtype in ("float32", "float64")
        return Recipe(f"{self.kept_dtype}/none") if wide and reason in _BY_KIND else None

    def choose(self, name: str, shape: tuple[int, ...]) -> Recipe | str:
        """Return a tensor's recipe, or why it is kept in its own dtype: what it is, or the pattern that it matches.

        Parameters
        ----------
        name : str
            The tensor's name.
        shape : tuple of int
            Its shape.

        Returns
        -------
        Recipe or str
            The recipe, or the reason.
        """
        for rule in self.rules:
            if fnmatchcase(name, rule.pattern):
                if rule.keep:
                    return f"pattern {rule.pattern!r}"
                return replace(self.defaults, **rule.options)
        if self.kept and any(fnmatchcase(name.lower(), pattern) for pattern in self.kept):
            return _BY_KIND[0]
        if self.kept and len(shape) < 2:
            return _BY_KIND[1]
        return self.defaults

    def check(self) -> None:
        """Raise ValueError if an option of a rule is unknown or out of range."""
        for rule in self.rules:
            if not rule.keep:
                replace(self.defaults, **rule.options)


def read_plan(path: str | Path) -> Plan:
    """Read a plan file.

    Parameters
    ----------
    path : str or Path
        A TOML file, as at the top of this module.

    Returns
    -------
    Plan
        The plan, checked.

    Raises
    ------
    ValueError
        If the file cannot be read, is not TOML, or has an unknown key, scheme or option; the message names the field.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rules = (Rule("a", {"scheme": "rf8"}), Rule("b", keep=True))
    ...     write_plan(f"{folder}/plan.toml", Plan(Recipe("int8"), rules))
    ...     plan = read_plan(f"{folder}/plan.toml")
    >>> plan.defaults.scheme.text, [rule.pattern for rule in plan.rules]
    ('int8/channel', ['a', 'b'])
    """
    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{path}: the plan cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: not a plan: {error}") from None
    try:
        _check_keys(data)
        tables = convert(data, _PlanTable)
        defaults = _at("defaults", lambda: Recipe(**_given(tables.defaults)))
        rules = [Rule(table.pattern, _given(table), table.keep) for table in tables.tensor]
        for number, rule in enumerate(rules):
            if not rule.keep:
                _at(f"tensor[{number}]", partial(replace, defaults, **rule.options))
        kept = KEPT_PATTERNS if tables.kept is msgspec.UNSET else tuple(tables.kept)
        return Plan(defaults, tuple(rules), kept, tables.kept_dtype)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


class _DefaultsTable(msgspec.Struct):
    """Table ``[defaults]`` of a plan file: fields of `Recipe`."""

    scheme: str | msgspec.UnsetType = msgspec.UNSET
    seed: Count | msgspec.UnsetType = msgspec.UNSET
    entropy: str | msgspec.UnsetType = msgspec.UNSET


class _RuleTable(_DefaultsTable, kw_only=True):
    """A table ``[[tensor]]`` of a plan file."""

    pattern: str
    keep: bool = False


class _PlanTable(msgspec.Struct):
    """A plan file."""

    defaults: _DefaultsTable = msgspec.field(default_factory=_DefaultsTable)
    tensor: list[_RuleTable] = msgspec.field(default_factory=list)
    kept: list[str] | msgspec.UnsetType = msgspec.UNSET
    kept_dtype: str = "own"


def _given(table: _DefaultsTable) -> dict[str, Any]:
    """Return the fields of a recipe that a table has."""
    values = {name: getattr(table, name) for name in _DefaultsTable.__struct_fields__}
    return {name: value for name, value in values.items() if value is not msgspec.UNSET}


def _at(field_name: str, build: Callable[[], Recipe]) -> Recipe:
    try:
        return build()
    except ValueError as error:
        raise ValueError(f"field {field_name!r}: {error}") from None


def _check_keys(data: Mapping[str, Any]) -> None:
    """Raise ValueError with the nearest key for one that a plan does not have."""
    tables: list[tuple[str, Any, type[msgspec.Struct]]] = [("the plan", data, _PlanTable)]
    tables.append(("[defaults]", data.get("defaults"), _DefaultsTable))
    rules = data.get("tensor")
    tables += [("[[tensor]]", table, _RuleTable) for table in (rules if isinstance(rules, list) else [])]
    for where, table, kind in tables:
        for key in table if isinstance(table, dict) else ():
            choose(f"key of {where}", key, kind.__struct_fields__)


def write_plan(path: str | Path, plan: Plan, comment: str = "") -> None:
    """Write a plan file.

    Parameters
    ----------
    path : str or Path
        Where.
    plan : Plan
        The plan.
    comment : str
        Lines that go on top: where the plan comes from, for one.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    lines = [f"# {line}".rstrip() for line in comment.splitlines()] + ([""] if comment else [])
    if plan.kept != KEPT_PATTERNS:
        lines += [f"kept = {_toml(list(plan.kept))}", ""]
    if plan.kept_dtype != "own":
        lines += [f"kept_dtype = {_toml(plan.kept_dtype)}", ""]
    lines += ["[defaults]", *(f"{name} = {_toml(value)}" for name, value in plan.defaults.options().items())]
    for rule in plan.rules:
        lines += ["", "[[tensor]]", f"pattern = {_toml(rule.pattern)}"]
        lines += ["keep = true"] if rule.keep else [f"{name} = {_toml(value)}" for name, value in rule.options.items()]
    write_files({Path(path): ("\n".join(lines) + "\n").encode()})


def _toml(value: Any) -> str:
    """Return a string, an integer or a list as TOML: what JSON writes of these is TOML too, DEL apart."""
    return json.dumps(value).replace("\x7f", "\\u007f")

"""Plan files: which format each tensor of a checkpoint gets, as TOML that people read and change.

::

    [defaults]
    format = "rf8"
    scaling = "channel"

    [[tensor]]
    pattern = "*.mlp.down.weight"
    format = "e4m3fn"

    [[tensor]]
    pattern = "head.weight"
    keep = true

The first ``[[tensor]]`` whose pattern matches a name decides; what it leaves out comes from ``[defaults]``. A tensor
that no pattern matches gets the defaults, unless it is of a kind that stays as it is (`Plan.choose`).
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .._base.checks import choose
from .._base.files import write_files
from ..codec.rounding import Rounding, check_choices
from ..formats import get_format
from ..quantization.scaling import SCALE_RULES, SCALINGS

__all__ = ["CODERS", "KEPT_PATTERNS", "Plan", "Recipe", "Rule", "read_plan", "write_plan"]

CODERS = ("none", "huffman", "rans", "eg")
"""How codes are stored: as they are, or entropy-coded."""

KEPT_PATTERNS = ("*norm*", "*ln_*", "*ln1*", "*ln2*", "*embed*", "*wte*", "*wpe*", "*position*", "*bias*")
"""Names of norms, embeddings and biases, which stay as they are unless a plan says otherwise."""


@dataclass(frozen=True)
class Recipe:
    """How one tensor is quantized.

    Attributes
    ----------
    format, scaling, scale_rule, rounding : str
        As for `rf8sim.quantize`. A tensor is taken as a matrix, axis 0 by all the rest: channels are its rows, blocks
        lie along its columns.
    block_size : int
        Elements in a block.
    seed : int
        Of stochastic rounding.
    entropy : str
        How the codes are stored: one of `CODERS`.

    Examples
    --------
    >>> Recipe("rf8", scaling="channel").check()
    >>> Recipe("rf9").check()
    Traceback (most recent call last):
    ValueError: unknown format 'rf9': did you mean 'rf8'? 'rf8sim formats' lists all
    """

    format: str = "rf8"
    scaling: str = "channel"
    scale_rule: str = "mse"
    rounding: str = "nearest-even"
    block_size: int = 32
    seed: int = 0
    entropy: str = "none"

    def check(self) -> None:
        """Raise ValueError if an option is unknown or out of range."""
        check_choices(get_format(self.format), Rounding(self.rounding))
        choose("scaling", self.scaling, SCALINGS)
        choose("scale rule", self.scale_rule, SCALE_RULES)
        choose("entropy coder", self.entropy, CODERS)
        for name, least in (("block_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


_OPTIONS = tuple(field.name for field in dataclasses.fields(Recipe))


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
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
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

    Examples
    --------
    >>> plan = Plan(Recipe("rf8"), (Rule("head.*", {"format": "e4m3fn"}), Rule("mlp.*", keep=True)))
    >>> plan.choose("head.weight", (8, 4))
    Recipe(format='e4m3fn', scaling='channel', scale_rule='mse', rounding='nearest-even', block_size=32, seed=0, \
entropy='none')
    >>> plan.choose("mlp.weight", (8, 4)), plan.choose("norm.weight", (8,))
    ("the plan keeps 'mlp.*'", 'norms, embeddings and biases stay as they are')
    """

    defaults: Recipe = dataclasses.field(default_factory=Recipe)
    rules: tuple[Rule, ...] = ()
    kept: tuple[str, ...] = KEPT_PATTERNS

    def choose(self, name: str, shape: tuple[int, ...]) -> Recipe | str:
        """Return a tensor's recipe, or in words why it stays as it is.

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
                    return f"the plan keeps {rule.pattern!r}"
                return dataclasses.replace(self.defaults, **rule.options)
        if self.kept and any(fnmatchcase(name.lower(), pattern) for pattern in self.kept):
            return "norms, embeddings and biases stay as they are"
        if self.kept and len(shape) < 2:
            return "tensors of one axis stay as they are"
        return self.defaults

    def check(self) -> None:
        """Raise ValueError if a rule or an option is unknown."""
        self.defaults.check()
        for rule in self.rules:
            if not rule.keep:
                dataclasses.replace(self.defaults, **rule.options).check()


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
        If the file cannot be read, is not TOML, or has an unknown key, format or option; the message names it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rules = (Rule("a", {"format": "rf8"}), Rule("b", keep=True))
    ...     write_plan(f"{folder}/plan.toml", Plan(Recipe("int8"), rules))
    ...     plan = read_plan(f"{folder}/plan.toml")
    >>> plan.defaults.format, [rule.pattern for rule in plan.rules]
    ('int8', ['a', 'b'])
    """
    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: the plan cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: not a plan: {error}") from None
    _known(path, "the plan", data, ("defaults", "tensor", "kept"))
    defaults, tensors, kept = data.get("defaults", {}), data.get("tensor", []), data.get("kept", list(KEPT_PATTERNS))
    if not isinstance(defaults, dict) or not isinstance(tensors, list) or not all(isinstance(t, dict) for t in tensors):
        raise ValueError(f"{path}: expected a table [defaults] and tables [[tensor]]")
    if not isinstance(kept, list) or not all(isinstance(pattern, str) for pattern in kept):
        raise ValueError(f"{path}: 'kept' must be a list of patterns")
    _known(path, "[defaults]", defaults, _OPTIONS)
    rules = []
    for table in tensors:
        _known(path, "[[tensor]]", table, ("pattern", "keep", *_OPTIONS))
        pattern, keep = table.pop("pattern", None), table.pop("keep", False)
        if not isinstance(pattern, str) or not isinstance(keep, bool):
            raise ValueError(f"{path}: each [[tensor]] needs a pattern in quotes, and keep is true or false")
        rules.append(Rule(pattern, table, keep))
    plan = Plan(Recipe(**defaults), tuple(rules), tuple(kept))
    try:
        plan.check()
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None
    return plan


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
    lines += ["[defaults]", *(f"{name} = {_toml(getattr(plan.defaults, name))}" for name in _OPTIONS)]
    for rule in plan.rules:
        lines += ["", "[[tensor]]", f"pattern = {_toml(rule.pattern)}"]
        lines += ["keep = true"] if rule.keep else [f"{name} = {_toml(value)}" for name, value in rule.options.items()]
    write_files({Path(path): ("\n".join(lines) + "\n").encode()})


def _toml(value: Any) -> str:
    """Return a string, a whole number or a list as TOML: what JSON writes of these is TOML too, DEL apart."""
    return json.dumps(value).replace("\x7f", "\\u007f")


def _known(path: str | Path, where: str, table: Mapping[str, Any], options: tuple[str, ...]) -> None:
    try:
        for key in table:
            choose(f"key of {where}", key, options)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None

"""How a tensor is stored, as one value: `Scheme`, and the named schemes of the field.

A scale is a number of a format too. So OCP's MX block is ``Scheme("e4m3fn", Scales((1, 32), "e8m0fnu", "floor"))``, and
NVFP4 has scales of the scales.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from .._base.checks import choose, suggestion
from ..codec.rounding import Rounding, check_choices
from ..formats import Format, format_names, get_format, is_format_file
from .blocks import Block, row_pieces, scale_shape
from .named import NAMED
from .numbers import number_bits, number_format
from .rules import MODES, RULES

__all__ = ["Scales", "Scheme", "as_scheme", "scheme_names", "with_format_names"]


@dataclass(frozen=True)
class Scales:
    """The scales of a tensor: how many elements share one, what it is stored in, how it is chosen.

    Parameters
    ----------
    block : tuple of int, int or str, optional
        Elements that share a scale along each of the last axes; -1 for the whole axis. ``(1, 32)``, or 32: blocks along
        the last axis. ``(128, 128)``. ``"channel"``, which is ``(1, -1)``. None, or ``"tensor"``: all elements. See
        `Scheme` for the shapes that come of it.
    format : str, optional
        What a scale is stored in: a float layout (``float32``, ``float16``, ``bfloat16``) or a format
        (``e8m0fnu``, ``e4m3fn``). By default ``e8m0fnu``, a power of two, for the RF and logarithmic families and
        ``float32`` for others.
    rule : str
        One of `RULES`.
    rounding : str
        How rule ``max`` rounds a scale to its format: ``up``, ``nearest-even`` or ``toward-zero``. Rules that fix the
        rounding take no other.
    outer : Scales, optional
        Scales of these scales: of NVFP4, one float32 for the tensor.
    zero : str, optional
        For integer formats: what a zero point is stored in. An integer format: ``x ~ scale * (code - zero)``, as GPTQ
        and AWQ have it. A float layout: ``x ~ scale * code + zero``, as GGUF's Q4_1 has it.

    Raises
    ------
    ValueError
        If a field is unknown, out of range or does not fit another.

    Examples
    --------
    >>> Scales(32).block, Scales("channel").block, Scales("tensor").block
    ((1, 32), (1, -1), None)
    >>> str(Scales((1, 16), "e4m3fn", "max", outer=Scales(None, "float32", "max")))
    '1x16:e4m3fn,max/tensor:float32,max'
    """

    block: Block
    format: str
    rule: str
    rounding: str
    outer: Scales | None
    zero: str | None

    def __init__(
        self,
        block: Block | str | int = None,
        format: str = "",
        rule: str = "mse",
        rounding: str = "up",
        outer: Scales | None = None,
        zero: str | None = None,
    ) -> None:
        fields = {"format": format, "rule": rule, "rounding": rounding, "outer": outer, "zero": zero}
        for name, value in {"block": _checked_block(block), **fields}.items():
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        choose("scale rule", self.rule, RULES)
        choose("rounding of a scale", self.rounding, MODES)
        if RULES[self.rule].rounding and self.rounding != "up":
            raise ValueError(f"scale rule {self.rule!r} fixes how a scale is rounded: leave out {self.rounding!r}")
        for name in ("format", "zero"):
            if is_format_file(getattr(self, name) or ""):
                object.__setattr__(self, name, get_format(getattr(self, name)).name)
        if self.format:
            number_bits(self.format)
        if self.outer is not None and self.block is None:
            raise ValueError("one scale for the whole tensor has no outer scale: leave it out, or give a block")
        if self.outer is not None:
            if self.outer.zero is not None or self.outer.outer is not None or self.outer.rule != "max":
                raise ValueError("outer scales take rule 'max', no zero point and no outer scales of their own")
            if not self.outer.format:
                object.__setattr__(self, "outer", replace(self.outer, format="float32"))
        if self.zero is not None:
            number_bits(self.zero)
            if self.rule != "max":
                raise ValueError(
                    f"scales with a zero point take rule 'max', from the range of a block, not {self.rule!r}"
                )
            if self.outer is not None:
                raise ValueError("scales with a zero point have no outer scale")

    @property
    def block_text(self) -> str:
        """The block as the text form has it: ``tensor``, ``channel``, ``1x32``."""
        return _block_text(self.block)

    def __str__(self) -> str:
        """Return the text form, as part of that of a scheme."""
        parts = [f"{_block_text(self.block)}{f':{self.format}' if self.format else ''}"]
        parts += [self.rule] if self.rule != "mse" else []
        parts += [self.rounding] if self.rounding != "up" else []
        parts += [f"zero={self.zero}"] if self.zero else []
        return ",".join(parts) + (f"/{self.outer}" if self.outer else "")

    def to_json(self) -> dict[str, Any]:
        """Return the scales as plain data."""
        return {
            "block": None if self.block is None else list(self.block),
            "format": self.format,
            "rule": self.rule,
            "rounding": self.rounding,
            "outer": None if self.outer is None else self.outer.to_json(),
            "zero": self.zero,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scales:
        """Return the scales that `to_json` wrote."""
        _check_fields("scales", data, ("block", "format", "rule", "rounding", "outer", "zero"))
        outer = data.get("outer")
        block = data.get("block")
        return cls(**{
            **data,
            "block": tuple(block) if isinstance(block, list) else block,
            "outer": cls.from_json(outer) if isinstance(outer, Mapping) else outer,
        })  # fmt: skip


@dataclass(frozen=True)
class Scheme:
    """How a tensor is stored: a format for its elements, and the scales that multiply them.

    Parameters
    ----------
    format : str or Format
        The format of the elements.
    scales : Scales, str or None
        None: no scale. A text is that of the scales alone: ``"channel"``, ``"1x32:e8m0fnu,floor"``. By default one for
        the tensor, of least squared error.
    rounding : str
        Rounding mode of the elements, as for `rf8sim.encode`.
    overflow : str
        What an element beyond the largest value becomes.

    Raises
    ------
    ValueError
        If a name is unknown, or the parts do not fit each other.

    Notes
    -----
    Shapes of the scales of a weight, by `Scales.block`:

    ===================== ============== ================= ================
    weight                ``"channel"``  ``(1, 32)``       ``(128, 128)``
    ===================== ============== ================= ================
    (out, in)             (out, 1)       (out, in/32)      (out/128, in/128)
    experts (E, out, in)  (E, out, 1)    (E, out, in/32)   (E, out/128, in/128)
    convolution           (out, 1, 1, 1) (out, n/32, 1, 1) (out/128, n/128, 1, 1)
    (n,)                  (1,)           (n/32,)           (n/128,)
    ===================== ============== ================= ================

    The last block of an axis may be shorter. A tensor of four axes or more is taken as a matrix, out by all the rest
    (n), unless the block has as many entries as the tensor axes: ``(1, -1, -1)`` is a scale for each index of axis 0 of
    three.

    The text form is ``FORMAT/BLOCK:SCALE_FORMAT,RULE,ROUNDING,zero=FORMAT/OUTER@ROUNDING/OVERFLOW``, where all that has
    its default is left out: ``rf8``, ``int8/channel``, ``rf8/none``, ``e4m3fn/1x32:e8m0fnu,floor``,
    ``int8/128x*:float16@stochastic``. The name of a named scheme, such as ``mxfp4``, stands for it.

    Examples
    --------
    >>> mxfp8 = Scheme("e4m3fn", Scales((1, 32), "e8m0fnu", "floor"))
    >>> str(mxfp8), mxfp8.text, mxfp8 == as_scheme("mxfp8_e4m3")
    ('mxfp8_e4m3', 'e4m3fn/1x32:e8m0fnu,floor', True)
    >>> mxfp8.scale_shapes((256, 4096)), mxfp8.bits_per_weight((256, 4096))
    (((256, 128),), 8.25)
    >>> as_scheme("nvfp4").bits_per_weight((4096, 4096))
    4.500001907348633
    >>> Scheme("rf8", Scales("channel", "float32"), rounding="residual").text
    'rf8/channel:float32@residual'
    """

    format: Format
    scales: Scales | None
    rounding: str
    overflow: str

    def __init__(
        self,
        format: str | Format,
        scales: Scales | str | None = "tensor",
        rounding: str = "nearest-even",
        overflow: str = "saturate",
    ) -> None:
        element = get_format(format)
        mode, option = check_choices(element, Rounding(rounding, overflow))
        if isinstance(scales, str):
            scales = _parsed_scales(scales)
        if scales is not None and not scales.format:
            scales = replace(scales, format=_DEFAULT_SCALE.get(element.family, "float32"))
        if scales is not None:
            _check_fit(element, scales)
        for name, value in (
            ("format", element),
            ("scales", scales),
            ("rounding", str(mode)),
            ("overflow", str(option)),
        ):
            object.__setattr__(self, name, value)

    @cached_property
    def text(self) -> str:
        """The text form, which `as_scheme` reads."""
        stored = self.scales
        parts = self.format.name
        if stored is None:
            parts += "/none"
        else:
            usual = _DEFAULT_SCALE.get(self.format.family, "float32")
            shown = replace(stored, format="") if stored.format == usual and stored.outer is None else stored
            parts += "" if shown == Scales() else f"/{shown}"
        if self.overflow != "saturate":
            return f"{parts}@{self.rounding}/{self.overflow}"
        return parts if self.rounding == "nearest-even" else f"{parts}@{self.rounding}"

    def __str__(self) -> str:
        """Return the name if the scheme has one, else the text form."""
        return _NAMES.get(self.text, self.text)

    def __repr__(self) -> str:
        return f"Scheme({str(self)!r})"

    @property
    def levels(self) -> tuple[Scales, ...]:
        """The scales, then their outer scales; empty without scales."""
        if self.scales is None:
            return ()
        return (self.scales,) if self.scales.outer is None else (self.scales, self.scales.outer)

    def scale_shapes(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Return the shape of the scales of each of `levels` for a tensor of a shape."""
        shapes: list[tuple[int, ...]] = []
        for level in self.levels:
            shapes.append(scale_shape(level.block, shapes[-1] if shapes else shape))
        return tuple(shapes)

    def scale_bits(self, shape: tuple[int, ...]) -> int:
        """Return the bits that all scales and zero points of a tensor of a shape take."""
        bits = 0
        for level, shape_of_level in zip(self.levels, self.scale_shapes(shape), strict=True):
            bits += math.prod(shape_of_level) * (
                number_bits(level.format) + (number_bits(level.zero) if level.zero else 0)
            )
        return bits

    def bits_per_weight(self, shape: tuple[int, ...]) -> float:
        """Return the stored bits for each element of a tensor of a shape: codes, scales, zero points."""
        return self.format.bits + self.scale_bits(shape) / max(math.prod(shape), 1)

    def row_pieces(self, shape: tuple[int, ...], elements: int) -> list[range] | None:
        """Cut the matrix of a tensor into rows that can be quantized one piece after the other.

        Parameters
        ----------
        shape : tuple of int
            The tensor's shape.
        elements : int
            The most elements of a piece, unless whole blocks have more.

        Returns
        -------
        list of range or None
            Rows of `rf8sim.quantization.blocks.matrix_shape`; None where the tensor is one piece in its own shape.
        """
        if self.scales is None:
            return row_pieces(None, shape, elements)
        if self.scales.outer is not None and self.scales.outer.block is not None:
            return None
        return row_pieces(self.scales.block, shape, elements)

    def to_json(self) -> dict[str, Any]:
        """Return the scheme as plain data; `from_json` reads it back."""
        return {
            "format": self.format.name,
            "scales": None if self.scales is None else self.scales.to_json(),
            "rounding": self.rounding,
            "overflow": self.overflow,
        }

    @classmethod
    def from_json(cls, data: object) -> Scheme:
        """Return the scheme of plain data: what `to_json` wrote, or a text form.

        Raises
        ------
        ValueError
            If the data are not a scheme.
        """
        if isinstance(data, str):
            return as_scheme(data)
        if not isinstance(data, Mapping):
            raise ValueError(f"a scheme is a text or an object with 'format', got {data!r}")
        _check_fields("a scheme", data, ("format", "scales", "rounding", "overflow"), needed=("format",))
        scales = data.get("scales", Scales())
        return cls(**{**data, "scales": Scales.from_json(scales) if isinstance(scales, Mapping) else scales})


# --- validation -------------------------------------------------------------------------------------------------------

_DEFAULT_SCALE = {"residual": "e8m0fnu", "logarithmic": "e8m0fnu"}


def _checked_block(block: object) -> Block:
    if block is None or block == "tensor":
        return None
    if block == "channel":
        return (1, -1)
    if isinstance(block, str):
        raise ValueError(
            f"unknown block {block!r}: expected 'tensor', 'channel', or sizes such as '1x32' or (128, 128)"
        )
    sizes = (block,) if isinstance(block, int) and not isinstance(block, bool) else block
    if not isinstance(sizes, tuple | list) or not sizes:
        raise ValueError(f"a block is a tuple of sizes such as (1, 32), got {block!r}")
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int) or (size < 1 and size != -1):
            raise ValueError(f"a block has at least 1 element along each axis (-1: the whole axis), got {block!r}")
    return tuple(sizes) if len(sizes) > 1 else (1, *sizes)


def _block_text(block: Block) -> str:
    if block is None:
        return "tensor"
    return "channel" if block == (1, -1) else "x".join("*" if size == -1 else str(size) for size in block)


def _check_fit(element: Format, scales: Scales) -> None:
    target = RULES[scales.rule].target
    if scales.zero is not None and element.family != "integer":
        raise ValueError(f"zero points are for integer formats (int4, uint8, ...), not for {element.name!r}")
    if target == "min" and not element.signed:
        raise ValueError(f"scale rule 'signed' needs negative values, which {element.name!r} does not have")
    if scales.rule == "ggd" and element.bits > 8:
        raise ValueError(
            f"scale rule 'ggd' is for formats of at most 8 bits, and {element.name!r} has {element.bits}: use 'max' or "
            "'mse'"
        )
    stored = number_format(scales.format)
    if target == "emax" and (stored is None or not _powers_of_two(stored)):
        raise ValueError(
            f"scale rule {scales.rule!r} is for scales that are powers of two (e8m0fnu), not {scales.format!r}"
        )
    if target == "min" and stored is not None and not stored.signed:
        raise ValueError(f"scale rule 'signed' needs scales that can be negative, not {scales.format!r}")


def _powers_of_two(fmt: Format) -> bool:
    return fmt.family != "integer" and all(
        math.frexp(value)[0] == 0.5 for value in fmt.values.tolist() if value > 0 and math.isfinite(value)
    )


def _check_fields(what: str, data: Mapping[str, Any], names: tuple[str, ...], needed: tuple[str, ...] = ()) -> None:
    for name in data:
        choose(f"field of {what}", name, names)
    for name in needed:
        if name not in data:
            raise ValueError(f"{what} needs the field {name!r}")


# --- names and text ---------------------------------------------------------------------------------------------------


def scheme_names() -> list[str]:
    """Return the names of the named schemes.

    Examples
    --------
    >>> scheme_names()[:2]
    ['mxfp8_e4m3', 'mxfp8_e5m2']
    """
    return list(NAMED)


_NAMES = {text: name for name, (text, _) in NAMED.items()}


def as_scheme(scheme: str | Format | Scheme) -> Scheme:
    """Return a scheme by its name or text form.

    Parameters
    ----------
    scheme : str, Format or Scheme
        A named scheme (`scheme_names`), a text form as `Scheme` describes it, a format, or a scheme, which is returned
        as it is. The format of a text form may be a file: ``my.csv/channel``.

    Returns
    -------
    Scheme
        The scheme.

    Raises
    ------
    ValueError
        If the text cannot be read, or a name in it is unknown; the nearest one is suggested.

    Examples
    --------
    >>> as_scheme("int8/channel").scales.block
    (1, -1)
    >>> as_scheme("mxfp9")
    Traceback (most recent call last):
    ...
    ValueError: unknown format or scheme 'mxfp9': did you mean 'mxfp4'? 'rf8sim formats' lists all
    """
    if isinstance(scheme, Scheme):
        return scheme
    if isinstance(scheme, Format):
        return Scheme(scheme)
    if not isinstance(scheme, str):
        raise TypeError(f"a scheme is given by its name, as a Format or as a Scheme, not as {type(scheme).__name__}")
    return _parsed(NAMED[scheme][0] if scheme in NAMED else with_format_names(scheme))


# A file is the text up to its suffix, slashes included: "tables/my.csv/channel" is "my/channel" of that file.
_FILE = re.compile(r"([^@]*?\.(?:csv|json))(?=[/:,@]|$)", re.IGNORECASE)


def with_format_names(text: str) -> str:
    """Return the text of a scheme with the name of its format instead of the file that the format is read from.

    Raises
    ------
    ValueError
        If the file has no table of a format, or one with the name of another format or of a scheme.
    """
    file = _FILE.match(text)
    if file is None or re.search(r"[:,]", file[1]):  # a scale format's file stays: `Scales` reads it
        return text
    name = get_format(file[1]).name
    if name in NAMED:
        raise ValueError(f"{file[1]}: a scheme is named {name!r}: choose another name")
    return name + text[file.end() :]


@lru_cache(maxsize=256)
def _parsed(text: str) -> Scheme:
    stored, _, rounding = text.partition("@")
    name, slash, scales = stored.partition("/")
    mode, _, overflow = rounding.partition("/")
    if not slash and not rounding:
        return Scheme(_known_format(name))
    try:
        base = as_scheme(name) if name in NAMED and not slash else None
        chosen = (base.scales if base else Scales()) if not slash else _parsed_scales(scales)
        element: str | Format = base.format if base else _known_format(name, with_schemes=not slash)
        return Scheme(element, chosen, mode or "nearest-even", overflow or "saturate")
    except ValueError as error:
        raise ValueError(f"scheme {text!r}: {error}") from None


def _known_format(name: str, *, with_schemes: bool = True) -> str:
    """Return the name of a format; raise ValueError if there is none, with names of schemes where one may stand."""
    if name in NAMED:
        raise ValueError(
            f"{name!r} is a scheme, which has scales of its own ({NAMED[name][0]}): give a format in its place"
        )
    try:
        get_format(name)
    except ValueError as error:
        if not with_schemes or not str(error).startswith("unknown format"):
            raise
        hint = suggestion(name, [*format_names(16), *NAMED])
        raise ValueError(f"unknown format or scheme {name!r}: {hint}'rf8sim formats' lists all") from None
    return name


def _parsed_scales(text: str) -> Scales | None:
    if text == "none":
        return None
    inner, _, outer = text.partition("/")
    head, *options = inner.split(",")
    block, _, number = head.partition(":")
    fields: dict[str, Any] = {"block": _parsed_block(block), "format": number}
    for option in options:
        key, equals, value = option.partition("=")
        if equals:
            choose("option of scales", key, ("zero",))
            fields["zero"] = value
        elif option in MODES:
            fields["rounding"] = option
        else:
            fields["rule"] = choose("scale rule", option, [*RULES, *MODES])
    if outer:
        fields["outer"] = _parsed_scales(outer)
    return Scales(**fields)


def _parsed_block(text: str) -> Block | str | int:
    if re.fullmatch(r"(\d+|\*)(x(\d+|\*))*", text):
        sizes = tuple(-1 if size == "*" else int(size) for size in text.split("x"))
        return sizes if len(sizes) > 1 else sizes[0]
    return text

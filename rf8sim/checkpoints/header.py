"""What the header of a quantized file says, as records; their fields are the documentation of the file's form.

They stand as JSON under the key ``rf8sim`` of a safetensors header.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from ..formats import Format, get_format
from ..quantization.scheme import Scheme
from .errors import UnreadableError

__all__ = ["FORM", "FileHeader", "FormatHeader", "TensorHeader", "described", "read_form", "written_form"]

FORM = 2
"""The version of the form, which a reader must know."""


class FormatHeader(msgspec.Struct, omit_defaults=True):
    """A format: the value of each code (null for NaN, ``"inf"``), and what its family calls its parameters."""

    bits: int
    family: str
    values: list[float | str | None]
    exponent_bits: int = 0
    depth: int = 0
    bias: int = 0


class TensorHeader(msgspec.Struct, omit_defaults=True):
    """One tensor: why it stayed as it was, or how it is stored and where.

    Attributes
    ----------
    kept : str
        Why it stayed as it was; empty for a quantized one. The other fields are those of quantized tensors.
    scheme : dict
        The JSON form of its `Scheme`.
    seed : int
        Of stochastic rounding.
    entropy : str
        How the codes are stored.
    shape, dtype
        Its shape and its type before.
    scales : list of str
        Names of the arrays of its scales, the outer ones last.
    zero : str
        Name of the array of its zero points.
    exact_index, exact : str
        Names of the arrays of places and values of elements that are kept exactly.
    protected : int
        How many there are.
    kept_in : str
        Their type.
    largest : float
        The largest magnitude that the codes decode to.
    nans : int
        How many decode to NaN.
    """

    kept: str = ""
    scheme: dict[str, Any] = {}  # msgspec copies it
    seed: int = 0
    entropy: str = "none"
    shape: list[int] = []
    dtype: str = ""
    scales: list[str] = []
    zero: str = ""
    exact_index: str = ""
    exact: str = ""
    protected: int = 0
    kept_in: str = ""
    largest: float = 0.0
    nans: int = 0

    @property
    def layout_parts(self) -> list[str]:
        """Names of the arrays that say where codes belong: scales, zero points, places of exact values."""
        return [*self.scales, *(name for name in (self.zero, self.exact_index) if name)]

    @property
    def parts(self) -> list[str]:
        """Names of all arrays beside the codes."""
        return [*self.layout_parts, *([self.exact] if self.exact else [])]


class FileHeader(msgspec.Struct):
    """A file.

    Attributes
    ----------
    form : int
        `FORM`.
    version : str
        That of rf8sim which wrote it.
    source : dict of str to str
        SHA-256 of the files it was made from.
    formats : dict of str to FormatHeader
        Each format that a tensor is stored in.
    tensors : dict of str to TensorHeader
        Each tensor.
    sha256 : dict of str to str
        Of the bytes of each array of the file.
    """

    form: int
    version: str
    source: dict[str, str]
    formats: dict[str, FormatHeader]
    tensors: dict[str, TensorHeader]
    sha256: dict[str, str]


def read_form(path: object, text: str) -> FileHeader:
    """Return the header of a file from its JSON text.

    Raises
    ------
    UnreadableError
        If it is of another version, or not of this form; the message names the field.
    """
    try:
        version = msgspec.json.decode(text, type=dict[str, Any]).get("form")
        if version != FORM:
            raise UnreadableError(f"{path}: is of form {version}, this version reads form {FORM}: update rf8sim, or "
                                  "quantize the original again")  # fmt: skip
        return msgspec.json.decode(text, type=FileHeader)
    except msgspec.DecodeError as error:
        raise UnreadableError(f"{path}: its header is not of form {FORM}: {error}") from None


def written_form(header: FileHeader) -> str:
    """Return the JSON text of a header."""
    return msgspec.json.encode(header).decode()


def described(fmt: Format) -> FormatHeader:
    """Return a format as a header has it."""
    values = [None if math.isnan(v) else v if math.isfinite(v) else str(v) for v in fmt.values.tolist()]
    if fmt.depth is None:
        return FormatHeader(fmt.bits, fmt.family, values)
    exponent_bits = fmt.bits - 2 - fmt.depth.bit_length() + 1
    bias = 2**exponent_bits - 1 - round(math.log2(fmt.max / 1.5))
    return FormatHeader(fmt.bits, fmt.family, values, exponent_bits, fmt.depth, bias)


def format_of(path: object, name: str, header: FormatHeader) -> Format:
    """Return the format of a table of values: the registered one of that name, or one that can be decoded only.

    Raises
    ------
    UnreadableError
        If the registered one has other values.
    """
    values = np.array([math.nan if value is None else float(value) for value in header.values])
    try:
        known = get_format(name)
    except ValueError:
        return Format(name, header.bits, header.family, "from a quantized file", values)
    if not np.array_equal(known.values, values, equal_nan=True):
        raise UnreadableError(f"{path}: its format {name!r} has other values than the format of that name here")
    return known


def scheme_of(path: object, header: TensorHeader, formats: dict[str, Format]) -> Scheme:
    """Return the scheme of a tensor, its format taken from the file.

    Raises
    ------
    UnreadableError
        If it is none.
    """
    try:
        fmt = formats[header.scheme["format"]]
        return Scheme.from_json({**header.scheme, "format": fmt})
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableError(f"{path}: its header has a scheme that cannot be read: {error}") from None

"""What the header of a quantized file says, as records; their fields are the documentation of the file's form.

They stand as JSON under the key ``rf8sim`` of a safetensors header.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..formats import Format, get_format, is_built_in
from ..quantization.records import Count, convert
from ..quantization.scheme import Scheme
from .errors import CheckpointError, UnreadableError
from .plan import Recipe

__all__ = [
    "FORM", "FileHeader", "FormatHeader", "IndexHeader", "IndexMetadata", "ScalesHeader", "SchemeHeader",
    "TensorHeader", "described", "formats_of", "has_form", "read_form", "read_index", "recipe_of", "written_form",
]  # fmt: skip

FORM = 2
"""The version of the form, which a reader must know."""


class FormatHeader(msgspec.Struct, omit_defaults=True):
    """A format: the value of each code (null for NaN, ``"inf"``), and what its family calls its parameters.

    A format of more than 8 bits that the registry has is given by the SHA-256 of its values instead, as little-endian
    float64 numbers: thousands of them would be more than a small checkpoint has weights.
    """

    bits: Annotated[int, msgspec.Meta(ge=1, le=16)]
    family: str
    values: list[float | Literal["inf", "-inf"] | None] = []  # msgspec copies it
    values_sha256: str = ""
    exponent_bits: int = 0
    depth: int = 0
    bias: int = 0


class ScalesHeader(msgspec.Struct):
    """The JSON form of `Scales`."""

    block: list[int] | None
    format: str
    rule: str
    rounding: str
    outer: ScalesHeader | None
    zero: str | None


class SchemeHeader(msgspec.Struct):
    """The JSON form of a `Scheme`."""

    format: str
    scales: ScalesHeader | None
    rounding: str
    overflow: str


class TensorHeader(msgspec.Struct, omit_defaults=True):
    """One tensor: why it stayed as it was, or how it is stored and where.

    Attributes
    ----------
    kept : str
        Why it stayed as it was; empty for a quantized one. The other fields are those of quantized tensors.
    scheme : SchemeHeader or None
        How it is stored.
    seed : int
        Of stochastic rounding.
    entropy : str
        How the codes are stored.
    shape, dtype
        Its shape and its type before.
    codes : str
        Name of the array of its codes, where it is not the tensor's own.
    scales : list of str
        Names of the arrays of its scales, the outer ones last.
    outer_divides : bool
        Whether the array of the outer scale holds its reciprocal, which divides the scales. A weight is then its code
        times the quotient, rounded to float32.
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
    scheme: SchemeHeader | None = None
    seed: Count = 0
    entropy: str = "none"
    shape: list[Count] = []  # msgspec copies it
    dtype: str = ""
    codes: str = ""
    scales: list[str] = []
    outer_divides: bool = False
    zero: str = ""
    exact_index: str = ""
    exact: str = ""
    protected: Count = 0
    kept_in: str = ""
    largest: float = 0.0
    nans: Count = 0

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


class IndexMetadata(msgspec.Struct):
    """Metadata of the index of several files: the seal of each."""

    rf8sim_files: dict[str, str]


class IndexHeader(msgspec.Struct):
    """The index of several files: their seals, and the file of each array."""

    metadata: IndexMetadata
    weight_map: dict[str, str]


def has_form(metadata: Mapping[str, str]) -> bool:
    """Return whether the strings of a safetensors header hold that of a quantized file, not somebody's text."""
    try:
        data = msgspec.json.decode(metadata.get("rf8sim", ""))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(data, dict) and "form" in data


def read_form(path: object, text: str) -> FileHeader:
    """Return the header of a file from its JSON text.

    Raises
    ------
    UnreadableError
        If it is of another version.
    CheckpointError
        If it is not of this form; the message names the field.
    """
    data = _decoded(path, "its header", text)
    version = data.get("form") if isinstance(data, dict) else None
    if version != FORM:
        raise UnreadableError(f"{path}: is of form {version}, this version reads form {FORM}: update rf8sim, or "
                              "quantize the original again")  # fmt: skip
    try:
        return convert(data, FileHeader)
    except ValueError as error:
        raise CheckpointError(f"{path}: its header is damaged: {error}") from None


def read_index(path: object, text: bytes) -> IndexHeader:
    """Return the index of several files from its JSON text.

    Raises
    ------
    CheckpointError
        If it is none; the message names the field.
    """
    try:
        return convert(_decoded(path, "this index", text), IndexHeader)
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{path}: this index is damaged: {error}") from None


def _decoded(path: object, what: str, text: str | bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path}: {what} is damaged: {error}") from None


def written_form(header: FileHeader) -> str:
    """Return the JSON text of a header."""
    return msgspec.json.encode(header).decode()


def described(fmt: Format) -> FormatHeader:
    """Return a format as a header has it."""
    known = _known(fmt.name) if fmt.bits > 8 and is_built_in(fmt.name) else None
    if known is not None and np.array_equal(known.values, fmt.values, equal_nan=True):
        header = FormatHeader(fmt.bits, fmt.family, values_sha256=_digest(fmt.values))
    else:
        header = FormatHeader(fmt.bits, fmt.family, [_written(value) for value in fmt.values.tolist()])
    if fmt.depth is None:
        return header
    exponent_bits = fmt.bits - 2 - fmt.depth.bit_length() + 1
    bias = 2**exponent_bits - 1 - round(math.log2(fmt.max / 1.5))
    header.exponent_bits, header.depth, header.bias = exponent_bits, fmt.depth, bias
    return header


def _known(name: str) -> Format | None:
    try:
        return get_format(name)
    except ValueError:
        return None


def _digest(values: NDArray[np.float64]) -> str:
    """Return the SHA-256 of values as little-endian float64 numbers, with one pattern of NaN."""
    return hashlib.sha256(np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes()).hexdigest()


def _written(value: float) -> float | Literal["inf", "-inf"] | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else "inf" if value > 0 else "-inf"


def formats_of(path: object, header: FileHeader) -> dict[str, Format]:
    """Return the formats of a file: registered ones, or ones of its tables of values, which can be decoded only.

    Raises
    ------
    UnreadableError
        If a registered format has other values, or the file has no values of one that is not registered.
    CheckpointError
        If a table is that of no format.
    """
    formats = {}
    for name, described_format in header.formats.items():
        values = np.array([math.nan if value is None else float(value) for value in described_format.values])
        known, digest = _known(name), described_format.values_sha256
        if not values.size and not digest:
            raise CheckpointError(f"{path}: its header is damaged: field 'formats': {name!r}: it has no values")
        if known is None and digest:
            raise UnreadableError(
                f"{path}: its format {name!r} is unknown here, and the file has no values of it: update rf8sim, or "
                "register the format"
            )
        if known is None:
            try:
                family = described_format.family
                known = Format(name, described_format.bits, family, "from a quantized file", values)
            except ValueError as error:
                raise CheckpointError(f"{path}: its header is damaged: field 'formats': {name!r}: {error}") from None
        elif not (_digest(known.values) == digest if digest else np.array_equal(known.values, values, equal_nan=True)):
            raise UnreadableError(f"{path}: its format {name!r} has other values than the format of that name here")
        formats[name] = known
    return formats


def recipe_of(path: object, name: str, header: TensorHeader, formats: Mapping[str, Format]) -> Recipe:
    """Return how a tensor is quantized, its format taken from the file.

    Raises
    ------
    CheckpointError
        If the header has no scheme, coder or seed that is one; the message names the tensor.
    """
    try:
        if header.scheme is None:
            raise ValueError("it has no scheme")
        fmt = header.scheme.format
        if fmt not in formats:
            raise ValueError(f"its scheme has the format {fmt!r}, whose values the file does not have")
        scheme = Scheme.from_json({**msgspec.to_builtins(header.scheme), "format": formats[fmt]})
        return Recipe(scheme, header.seed, header.entropy)
    except ValueError as error:
        raise CheckpointError(f"{path}: its header is damaged: field 'tensors': {name!r}: {error}") from None

"""Records that go to JSON: declared once as msgspec structs, with schemes, arrays and infinite numbers in them.

The declaration gives the check of what is read, the error message, the JSON form and the JSON Schema.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import numpy as np

from .._base.checks import invalid_field
from ..codec.rounding import RoundingMode
from .scheme import Scales, Scheme

__all__ = ["Count", "ExtendedFloat", "Record", "SchemeField", "convert", "json_schema", "to_builtins"]

_Kind = TypeVar("_Kind")

Count = Annotated[int, msgspec.Meta(ge=0)]
"""A number of things."""

if TYPE_CHECKING:
    ExtendedFloat = float
    SchemeField = Scheme
else:

    class _Field(type):
        """Type of a field that msgspec hands to `_decode`, although its values are of a type that it knows."""

        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, cls.values)

    class ExtendedFloat(metaclass=_Field):
        """A float that may be infinite: null in JSON, read back as inf. `float | None` is read back as None."""

        values = float

    class SchemeField(metaclass=_Field):
        """A `Scheme`: in JSON what `Scheme.to_json` returns; a text form is read too."""

        values = Scheme


class Record(msgspec.Struct, frozen=True):
    """A record; the properties named in ``derived`` are written beside its fields, and not read back."""

    derived: ClassVar[tuple[str, ...]] = ()


_PLAIN = frozenset((int, str, bool, type(None)))


def to_builtins(value: Any) -> Any:
    """Return records, schemes and arrays as plain data for JSON.

    Parameters
    ----------
    value : object
        A `Record` or other struct, a dataclass, a `Scheme`, an array, a mapping, list or tuple of them, or plain data.

    Returns
    -------
    object
        Dicts, lists, texts, numbers, booleans and None. A float that is not finite is None.

    Raises
    ------
    TypeError
        If something else is among them.

    Examples
    --------
    >>> from rf8sim import as_scheme
    >>> class Error(Record, frozen=True):
    ...     scheme: SchemeField
    ...     decibels: ExtendedFloat
    >>> to_builtins(Error(as_scheme("rf8/none"), math.inf))
    {'scheme': {'format': 'rf8', 'scales': None, 'rounding': 'nearest-even', 'overflow': 'saturate'}, 'decibels': None}
    """
    if type(value) in _PLAIN or isinstance(value, int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Scheme):
        return value.to_json()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist() if value.dtype.kind in "iub" else to_builtins(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): to_builtins(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_builtins(item) for item in value]
    names = _field_names(type(value))
    if names is None:
        raise TypeError(f"{type(value).__name__} is no plain data for JSON")
    return {name: to_builtins(getattr(value, name)) for name in (*names, *getattr(value, "derived", ()))}


def convert(data: Any, kind: type[_Kind]) -> _Kind:
    """Return the record of plain data, as `to_builtins` gave them.

    Parameters
    ----------
    data : object
        Plain data, of a JSON file for one. Fields that the record does not have are ignored.
    kind : type
        The record, or another type that msgspec converts to: ``list[Record]``.

    Returns
    -------
    object
        Of that type.

    Raises
    ------
    ValueError
        If the data are not such a record: one sentence, with the path of the wrong field.

    Examples
    --------
    >>> class Size(Record, frozen=True):
    ...     rows: int
    >>> convert({"sizes": [{"rows": 3}, {"rows": "4"}]}, dict[str, list[Size]])
    Traceback (most recent call last):
    ...
    ValueError: field '[...][1].rows': expected int, got str
    """
    try:
        return msgspec.convert(data, kind, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ValueError(invalid_field(error)) from None


def _decode(kind: Any, value: Any) -> Any:
    if kind is ExtendedFloat:
        if value is None:
            return math.inf
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        raise ValueError(f"Expected a number or null, got {type(value).__name__}")
    if kind is SchemeField:
        return Scheme.from_json(value)
    if get_origin(kind) is np.ndarray:
        dtype = get_args(get_args(kind)[1])[0]
        array = np.array(value)
        if array.dtype.kind != np.dtype(dtype).kind and array.size:
            raise ValueError(f"Expected an array of {np.dtype(dtype).name}")
        return array.astype(dtype)
    raise TypeError(f"{kind} is read from no JSON")


# --- the schema -------------------------------------------------------------------------------------------------------


def json_schema(kind: type, title: str = "") -> dict[str, Any]:
    """Return the JSON Schema of what `to_builtins` writes for a record.

    Descriptions are those of the docstrings: the first line of a class, the entries of its section Attributes or
    Parameters, the first line of a property.

    Parameters
    ----------
    kind : type
        The record.
    title : str, optional
        Title of the schema.

    Returns
    -------
    dict
        A schema of draft 2020-12, in which every field is required and no other allowed.

    Examples
    --------
    >>> class Size(Record, frozen=True):
    ...     "Size of a matrix."
    ...     rows: Count
    >>> json_schema(Size)["$defs"]["Size"]["properties"]
    {'rows': {'type': 'integer', 'minimum': 0}}
    """
    kinds = _declared(Scales, _declared(kind, {}))
    properties = {record: _derived(record) for record in kinds}
    types = [kind, Scales, *(type_ for fields in properties.values() for type_, _ in fields.values())]
    schemas, components = msgspec.json.schema_components(types, schema_hook=_schema_of, ref_template="#/$defs/{name}")
    derived = iter(schemas[2:])
    for record in kinds:
        fields = {name: {**next(derived), "description": text} for name, (_, text) in properties[record].items()}
        components[record.__name__] = _described(record, components[record.__name__], fields)
    components["Scheme"] = _scheme_schema()
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", **({"title": title} if title else {})}
    return {**head, **schemas[0], "$defs": dict(sorted(components.items()))}


def _declared(kind: Any, known: dict[type, None]) -> dict[type, None]:
    """Add the records that a type is made of to those that are known."""
    names = _field_names(kind) if isinstance(kind, type) and kind not in known else None
    if names is not None:
        known[kind] = None
        hints = get_type_hints(kind)
        for name in names:
            _declared(hints[name], known)
    for inner in get_args(kind):
        _declared(inner, known)
    return known


def _field_names(kind: type) -> tuple[str, ...] | None:
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def _derived(kind: type) -> dict[str, tuple[Any, str]]:
    """Return the type and description of each derived property."""
    derived = {}
    for name in getattr(kind, "derived", ()):
        getter = inspect.getattr_static(kind, name).fget
        derived[name] = (get_type_hints(getter)["return"], _first_line(getter))
    return derived


def _described(kind: type, schema: dict[str, Any], derived: dict[str, Any]) -> dict[str, Any]:
    """Add descriptions and derived numbers to the schema of a record, and allow nothing else."""
    texts = _attributes(kind)
    fields = {}
    for name, field in schema["properties"].items():
        kept = {key: value for key, value in field.items() if key != "default"}
        fields[name] = {**kept, "description": texts[name]} if name in texts and "description" not in kept else kept
    return {
        "type": "object",
        "description": _first_line(kind),
        "additionalProperties": False,
        "required": [*fields, *derived],
        "properties": {**fields, **derived},
    }


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


_SECTION = re.compile(r"(?:Attributes|Parameters)\n-+\n(.*?\n)(?:\n\w+\n-+\n|\Z)", re.DOTALL)
_ENTRY = re.compile(r"^(\w[\w, ]*?)(?: : [^\n]*)?\n((?: +[^\n]*\n|\n)+)", re.MULTILINE)


def _attributes(kind: type) -> dict[str, str]:
    """Return the entries of the section Attributes, or Parameters, of a docstring."""
    section = _SECTION.search((inspect.getdoc(kind) or "") + "\n")
    entries = _ENTRY.findall(section[1] if section else "")
    return {name: " ".join(text.split()) for names, text in entries for name in names.split(", ")}


def _schema_of(kind: Any) -> dict[str, Any]:
    if kind is ExtendedFloat:
        return {"type": ["number", "null"]}
    if kind is SchemeField:
        return {"$ref": "#/$defs/Scheme"}
    if kind is np.ndarray:
        return {"type": "array", "items": {"type": "number"}}
    raise TypeError(f"{kind} has no JSON Schema")


def _scheme_schema() -> dict[str, Any]:
    texts = _attributes(Scheme)
    properties: dict[str, dict[str, Any]] = {
        "format": {"type": "string"},
        "scales": {"anyOf": [{"$ref": "#/$defs/Scales"}, {"type": "null"}]},
        "rounding": {"enum": [str(mode) for mode in RoundingMode]},
        "overflow": {"type": "string"},
    }
    return {
        "type": "object",
        "description": _first_line(Scheme),
        "additionalProperties": False,
        "required": list(properties),
        "properties": {name: schema | {"description": texts[name]} for name, schema in properties.items()},
    }

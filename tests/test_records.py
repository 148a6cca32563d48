"""Records of JSON: what is written is read back, and what is wrong is named."""

import json
import math

import jsonschema
import numpy as np
import pytest

import rf8sim
from rf8sim.quantization.metrics import QuantizationError, measure
from rf8sim.quantization.records import Count, ExtendedFloat, Record, SchemeField, convert, json_schema, to_builtins
from rf8sim.quantization.scheme import as_scheme


class Part(Record, frozen=True):
    """A part.

    Attributes
    ----------
    scheme : SchemeField
        How it is stored.
    error : QuantizationError
        What that costs,
        in sums.
    """

    scheme: SchemeField
    error: QuantizationError
    derived = ("name", "sqnr_db")

    @property
    def name(self) -> str:
        """Name of the scheme."""
        return str(self.scheme)

    @property
    def sqnr_db(self) -> float | None:
        """Signal to noise in dB."""
        return self.error.sqnr_db


class Whole(Record, frozen=True):
    """Parts."""

    parts: tuple[Part, ...]
    largest: ExtendedFloat
    missing: float | None = None
    count: Count = 0


X = np.random.default_rng(0).normal(size=(8, 64))
WHOLE = Whole(
    tuple(Part(as_scheme(name), measure(X, rf8sim.quantize(X, name))) for name in ("rf8", "mxfp4", "nvfp4", "q4_1")),
    math.inf,
    math.nan,
)


def test_json_and_back():
    data = json.loads(json.dumps(to_builtins(WHOLE), allow_nan=False))
    again = convert(data, Whole)
    assert to_builtins(again) == data
    assert [part.scheme for part in again.parts] == [part.scheme for part in WHOLE.parts]
    assert again.parts[1].error.code_counts.dtype == np.int64
    assert again.largest == math.inf
    assert again.missing is None
    assert data["parts"][1]["name"] == "mxfp4"
    assert data["parts"][1]["sqnr_db"] == WHOLE.parts[1].error.sqnr_db


def changed(path, value):
    data = to_builtins(WHOLE)
    *places, last = path
    inner = data
    for place in places:
        inner = inner[place]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ["parts", 1, "scheme", "format"],
            "rf9",
            r"field 'parts\[1\].scheme': unknown format 'rf9': did you mean 'rf8'",
        ),
        (["parts", 0, "scheme"], "mxfp5", r"field 'parts\[0\].scheme': .*did you mean"),
        (["parts", 0, "scheme", "scales", "rule"], "mx", r"field 'parts\[0\].scheme': unknown scale rule 'mx'"),
        (["parts", 0, "error", "count"], None, r"field 'parts\[0\].error.count' is missing"),
        (["parts", 0, "error", "count"], "3", r"field 'parts\[0\].error.count': expected int, got str"),
        (["parts", 0, "error", "sum_squares"], "3", r"field 'parts\[0\].error.sum_squares': expected a number or null"),
        (
            ["parts", 0, "error", "code_counts"],
            [0.5],
            r"field 'parts\[0\].error.code_counts': expected an array of int64",
        ),
        (["parts", 0, "error", "code_counts"], [[1], [1, 2]], r"field 'parts\[0\].error.code_counts': "),
        (["count"], -1, r"field 'count': expected int >= 0"),
        (["largest"], True, r"field 'largest': expected a number or null, got bool"),
    ],
)
def test_what_is_wrong_is_named(path, value, message):
    with pytest.raises(ValueError, match=f"^{message}") as refusal:
        convert(changed(path, value), Whole)
    assert "\n" not in str(refusal.value)
    assert "`" not in str(refusal.value)


def test_something_else():
    with pytest.raises(ValueError, match=r"^expected object, got int"):
        convert(3, Whole)
    with pytest.raises(TypeError, match="set is no plain data for JSON"):
        to_builtins({"a": {1, 2}})


def test_schema():
    schema = json_schema(Whole, "a test")
    jsonschema.Draft202012Validator.check_schema(schema)
    checker = jsonschema.Draft202012Validator(schema)
    checker.validate(to_builtins(WHOLE))
    for path, value in [
        (["parts", 0, "error", "count"], -1),
        (["parts", 0, "scheme", "scales", "rule"], 3),
        (["parts", 0, "scheme", "rounding"], "nearest"),
        (["parts", 0, "error", "sum_squares"], "3"),
        (["parts", 0, "sqnr_db"], "3"),
        (["parts", 0, "sqnr_db"], None),
        (["parts", 0, "another"], 3),
        (["missing"], None),
    ]:
        assert not checker.is_valid(changed(path, value)), path
    part = schema["$defs"]["Part"]
    assert part["description"] == "A part."
    assert part["properties"]["error"]["description"] == "What that costs, in sums."
    assert part["properties"]["sqnr_db"] == {
        "anyOf": [{"type": "number"}, {"type": "null"}],
        "description": "Signal to noise in dB.",
    }

"""Faults of float16 multipliers and bfloat16 adders are seen, counted, explained and named; right designs pass."""

import io

import float_design
import numpy as np
import pytest

import rf8sim
from rf8sim import Rounding
from rf8sim.formats import get_format
from rf8sim.hardware.golden.golden import golden
from rf8sim.hardware.golden.ports import get_kind
from rf8sim.hardware.vectors import files as vector_files
from rf8sim.hardware.vectors.vectors import make, vectors
from rf8sim.hardware.verdict.comparison import get_comparison, places
from rf8sim.hardware.verdict.faults import codes_per_octave
from rf8sim.hardware.verdict.hypotheses import hypotheses
from rf8sim.hardware.verdict.text import as_data, as_text
from rf8sim.hardware.verdict.verify import verify

DESIGNS = {
    "multiply": ("float16", float_design.multiply, float_design.MULTIPLIER_FAULTS),
    "add": ("bfloat16", float_design.add, float_design.ADDER_FAULTS),
}
MANTISSA = {"float16": 10, "bfloat16": 7}
FAULTS = [(operation, fault) for operation, (_, _, faults) in DESIGNS.items() for fault in faults]


@pytest.fixture(scope="module")
def asked():
    rounding = Rounding(overflow="ieee")
    return {operation: vectors(operation, fmt, rounding=rounding) for operation, (fmt, _, _) in DESIGNS.items()}


def results_of(asked, operation, fault=""):
    fmt, design, _ = DESIGNS[operation]
    return design(*asked[operation].operands, MANTISSA[fmt], get_format(fmt).nan, fault)


def lines(asked, results):
    columns = [*zip(asked.model.operands, asked.operands, strict=True), (asked.model.result, results)]
    return io.BytesIO(vector_files.fields(vector_files.FORMS["testfloat"], columns))


@pytest.mark.parametrize("operation", DESIGNS)
def test_a_right_design_passes(asked, operation):
    verdict = verify(asked[operation], lines(asked[operation], results_of(asked, operation)))
    assert verdict.passed, "\n".join(as_text(verdict))
    assert verdict.compared == len(asked[operation]) > 50_000


@pytest.mark.parametrize(("operation", "fault"), FAULTS)
def test_a_fault_is_counted_explained_and_named(asked, operation, fault):
    results = results_of(asked, operation, fault)
    wrong = results != asked[operation].results
    count = int(np.count_nonzero(wrong))
    verdict = verify(asked[operation], lines(asked[operation], results))
    assert not verdict.passed
    assert verdict.wrong_results == count > 0
    # Every vector with a wrong answer is in its class.
    ends = np.cumsum(list(asked[operation].classes.values()))
    by_class = np.bincount(np.searchsorted(ends, np.flatnonzero(wrong), side="right"), minlength=ends.size)
    assert [bad for _, bad in verdict.by_class.values()] == by_class.tolist()
    # A fault of rounding is seen by the structured classes, not by chance alone.
    assert by_class[:-1].sum() > 0
    name = DESIGNS[operation][2][fault]
    finding = next((finding for finding in verdict.findings if finding.name == name), None)
    assert finding is not None, [finding.statement() for finding in verdict.findings]
    assert finding.proved
    assert (finding.explained, finding.wrong, finding.vectors) == (count, count, len(asked[operation]))
    first = verdict.first_mismatches[0]
    place = int(np.argmax(wrong))
    assert first.vector == place + 1
    assert [value.pattern for value in first.operands] == [
        f"{column[place]:04X}" for column in asked[operation].operands
    ]
    assert (first.expected.pattern, first.got.pattern) == (
        f"{asked[operation].results[place]:04X}", f"{results[place]:04X}",
    )  # fmt: skip


@pytest.mark.parametrize("operation", DESIGNS)
def test_an_unknown_fault_is_counted_and_not_explained_falsely(asked, operation):
    results = results_of(asked, operation, "lost carry")
    count = int(np.count_nonzero(results != asked[operation].results))
    verdict = verify(asked[operation], lines(asked[operation], results))
    assert verdict.wrong_results == count > 0
    (finding,) = verdict.findings
    assert finding.kind == "location"
    assert finding.where == "rounding carries into the next octave"
    assert f"{count:,} of {count:,}, and none elsewhere" in finding.statement()


def test_places_of_65536_codes():
    """From the lowest to the largest value of bfloat16 are more places than 16 bits hold."""
    kind = get_kind(get_format("bfloat16"))
    off, sense = places(
        kind, np.array([0x7F7F, 0xFF7F, 0x3F80, 0x7FC0], np.uint16), np.array([0xFF7F, 0x7F7F, 0x3F81, 0], np.uint16)
    )
    assert off[:3].tolist() == [2 * 0x7F7F, -2 * 0x7F7F, -1]
    assert sense.tolist() == [True, True, True, False]
    assert get_comparison("ulp:1").right(kind, np.array([0x3F80], np.uint16), np.array([0x3F81], np.uint16))[0]


def test_codes_of_an_octave():
    expected = {"float16": 1024, "bfloat16": 128, "rf8": 8, "int16": None, "dlfloat16": 512}
    assert {name: codes_per_octave(get_format(name)) for name in expected} == expected


def test_coverage_of_wide_codes_has_bins_that_can_be_read(asked):
    verdict = verify(asked["multiply"], lines(asked["multiply"], asked["multiply"].results))
    groups = {f"{group.port} {group.aspect}": group for group in verdict.coverage}
    assert "a codes" not in groups
    a = asked["multiply"].operands[0]
    assert groups["a bits"].bins["10=1"] == np.count_nonzero(a >> 10 & 1)
    assert groups["a first 8 bits"].bins["3C"] == np.count_nonzero(a >> 8 == 0x3C)
    assert groups["a octaves"].bins["0"] == np.count_nonzero((a & 0x7C00) == 0x3C00)
    assert sum(len(group["bins"]) for group in as_data(verdict)["coverage"]) < 2000


@pytest.mark.parametrize(
    ("operation", "fmt", "options"),
    [
        ("add", "float16", {}), ("subtract", "int(12)", {}), ("multiply", "posit16_es1", {}), ("divide", "float16", {}),
        ("multiply", ("bfloat16", "e4m3fn"), {}), ("fma", "bfloat16", {}), ("dot:4", "float16", {}),
        ("accumulate", "bfloat16", {}), ("encode", "bfloat16", {"source": "fixed:4.8"}), ("decode", "float16", {}),
        ("add", "bfloat16", {"rounding": "stochastic"}), ("multiply", "int16", {"result": "fixed:32.0"}),
    ],
    ids=str,
)  # fmt: skip
def test_every_hypothesis_answers_codes_of_the_result(operation, fmt, options):
    """None of them crashes, and none answers what is no code: some hundred vectors of each class."""
    model = golden(operation, fmt, **options)
    asked = make(model, n=200)
    start, parts = 0, []
    for size in asked.classes.values():
        parts.append(asked.operands_between(start, start + min(size, 100)))
        start += size
    operands = [np.concatenate(column) for column in zip(*parts, strict=True)]
    right = model.compute(operands)[0].results
    names, changed = set(), 0
    for hypothesis in hypotheses(model):
        with np.errstate(all="ignore"):
            try:
                answers = hypothesis.answer(operands)
            except ValueError:  # a result that its type cannot hold
                continue
        names.add(hypothesis.name)
        assert answers.shape == right.shape
        assert int(answers.max()) >> model.result.bits == 0
        assert answers.dtype == right.dtype, hypothesis.name
        changed += bool(np.any(answers != right))
    assert changed > len(names) / 3


def test_the_first_lines_of_a_wide_verdict(asked):
    results = asked["multiply"].results.copy()
    results[7] ^= 1
    text = "\n".join(as_text(verify(asked["multiply"], lines(asked["multiply"], results))))
    assert f"FAIL: {len(results) - 1:,} of {len(results):,} results match" in text
    assert "line 8 (corners" in text
    assert "1 place too" in text


def test_a_library_is_a_design():
    """Sums of the library itself pass, in modes that numpy does not have."""
    for mode in ("up", "to-odd"):
        asked = vectors("subtract", "posit16_es2", rounding=mode, n=2000)
        results = rf8sim.subtract(*asked.operands, "posit16_es2", rounding=mode)
        assert verify(asked, lines(asked, results)).passed

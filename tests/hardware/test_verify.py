"""The verdict: what is right passes, whatever is wrong with a stream does not, and is said."""

import io
import json
import re
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rf8sim
from rf8sim.hardware.golden.ports import get_kind
from rf8sim.hardware.vectors import files as vector_files
from rf8sim.hardware.vectors.vectors import vectors
from rf8sim.hardware.verdict import answers, verify
from rf8sim.hardware.verdict.arrays import verify_arrays
from rf8sim.hardware.verdict.comparison import get_comparison, places


def run(asked, text, mode="bits", **options):
    names = ("any_nan", "flags")
    comparison = get_comparison(mode, **{name: options.pop(name) for name in names if name in options})
    return verify.verify(asked, io.BytesIO(text), comparison, **options)


@pytest.fixture(scope="module")
def products():
    return vectors("multiply", "rf8")


@pytest.fixture(scope="module")
def text(products):
    return b"".join(products.text())


@pytest.fixture(scope="module")
def lines(text):
    return text.splitlines(keepends=True)


# --- what passes ------------------------------------------------------------------------------------------------------

EVERY = [
    ("decode", {}), ("encode", {"n": 300}), ("add", {"fmt": "e5m2"}), ("fma", {"n": 300}), ("dot:3", {"n": 300}),
    ("dot:2", {"fmt": "rf6", "n": 300}), ("accumulate", {"n": 300}), ("multiply", {"result": "fixed:3.38"}),
    ("encode", {"rounding": rf8sim.Rounding("stochastic", bits=5), "n": 300}), ("divide", {"fmt": "int8"}),
    ("encode", {"source": "fixed:30.34", "n": 300}), ("decode", {"result": "fixed:2.19"}),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "options"), EVERY)
@pytest.mark.parametrize("form", vector_files.FORMS)
def test_right_answers_pass_in_every_form(operation, options, form):
    asked = vectors(operation, **{"fmt": "rf8", **options})
    for which, flags in (("all", True), ("all", False), ("out", True), ("out", False)):
        written = b"".join(asked.text(form, which=which, flags=flags))
        verdict = run(asked, written, flags=flags)
        assert verdict.passed, (which, flags, verdict.checks, verdict.first_malformed[:1])
        assert verdict.had_operands == (which == "all")
        assert verdict.had_flags == flags
        assert verdict.compared == len(asked)


@pytest.mark.parametrize(
    "change",
    [
        bytes.lower,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b" ", b"\t"),
        lambda text: text.replace(b" ", b" , "),
        lambda text: b"\n// a comment\n# another\n\n" + text,
        lambda text: text.replace(b"\n40 00", b"\n// in the middle\n40 00"),
        lambda text: text.rstrip(b"\n"),
        lambda text: b"B,Result,A,flags\n" + b"".join(
            b",".join([b, r, a, f]) + b"\n" for a, b, r, f in map(bytes.split, text.splitlines())
        ),
        lambda text: json.dumps([line.split() for line in text.decode().splitlines()]).encode(),
        lambda text: json.dumps({"vectors": [
            dict(zip(("a", "b", "result", "flags"), line.split(), strict=True)) for line in text.decode().splitlines()
        ]}).encode(),
    ],
)  # fmt: skip
def test_other_ways_to_write_the_same(products, text, change):
    assert run(products, change(text), flags=True).passed


def test_what_the_stream_says_of_results_is_not_believed(products, lines):
    """An expected column that is wrong throughout, as a design would answer it, is wrong throughout."""
    asked_up = b"".join(vectors("multiply", "rf8", rounding="up").text())
    verdict = run(products, asked_up)
    assert not verdict.passed
    assert verdict.wrong_results == np.count_nonzero(
        vectors("multiply", "rf8", rounding="up").results != products.results
    )


@pytest.mark.parametrize(("operation", "size"), [("decode", 1), ("decode", 7), ("decode", 64), ("accumulate", 1000)])
def test_blocks_do_not_matter(monkeypatch, operation, size):
    """Whatever pieces the stream comes in: a right one passes, a wrong one is wrong in the same places."""
    monkeypatch.setattr(verify, "diagnose", lambda *_: [])
    asked = vectors(operation, "rf8", n=50)
    right = b"".join(asked.text())
    wrong = right[:1000] + right[1000:].replace(b" 00\n", b" 00\nnonsense\n", 2).replace(b"7B", b"7C", 1)
    monkeypatch.setattr(answers, "_SLOWLY", 3)
    whole = run(asked, wrong)
    monkeypatch.setattr(answers, "_BUFFER", size)
    assert run(asked, right, flags=True).passed
    cut = run(asked, wrong)
    assert (cut.checks, cut.first_malformed, cut.first_misplaced) == (
        whole.checks, whole.first_malformed, whole.first_misplaced,
    )  # fmt: skip
    assert cut.first_mismatches == whole.first_mismatches


# --- what does not ----------------------------------------------------------------------------------------------------


def swapped(lines, i, j):
    changed = list(lines)
    changed[i], changed[j] = changed[j], changed[i]
    return changed


BROKEN = {
    "nothing": (lambda lines: [], "number of vectors", "nothing came in"),
    "comments alone": (lambda lines: [b"// 00 00 00 00\n"], "number of vectors", "nothing came in"),
    "cut after a line": (lambda lines: lines[:-1], "number of vectors", "1 too few"),
    "half of it": (lambda lines: lines[: len(lines) // 2], "number of vectors", "32,768 too few"),
    "cut in a line": (lambda lines: [*lines[:-1], lines[-1][:7]], "lines are vectors", "1 line is no vector"),
    "the first missing": (lambda lines: lines[1:], "operands in order", "65,535 lines are out of place"),
    "one missing": (lambda lines: lines[:300] + lines[301:], "operands in order", "out of place"),
    "one twice": (lambda lines: lines[:300] + lines[299:], "operands in order", "out of place"),
    "one twice, another missing": (
        lambda lines: lines[:300] + lines[299:300] + lines[301:],
        "operands in order",
        "1 line is",
    ),
    "two swapped": (lambda lines: swapped(lines, 40, 5000), "operands in order", "2 lines are out of place"),
    "backwards": (lambda lines: lines[::-1], "operands in order", "out of place"),
    "all of it twice": (lambda lines: lines * 2, "number of vectors", "65,536 too many"),
    "one more": (lambda lines: [*lines, b"00 00 00 00\n"], "number of vectors", "1 too many"),
    "another operand": (lambda lines: [*lines[:9], b"FF 09 00 00\n", *lines[10:]], "operands in order", "1 line is"),
    "another result": (lambda lines: [*lines[:9], b"00 09 01 00\n", *lines[10:]], "results", "1 result is wrong"),
    "not hexadecimal": (lambda lines: [*lines[:9], b"00 09 0G 00\n", *lines[10:]], "lines are vectors", "1 line is"),
    "unknown bits": (lambda lines: [*lines[:9], b"00 09 xx 00\n", *lines[10:]], "lines are vectors", "1 line is"),
    "a digit too many": (lambda lines: [*lines[:9], b"00 09 000 00\n", *lines[10:]], "lines are vectors", "1 line is"),
    "a field too many": (lambda lines: [*lines[:9], b"00 09 00 00 00\n", *lines[10:]], "lines are vectors", "1 line"),
    "a field too few": (lambda lines: [*lines[:9], b"00 09 00\n", *lines[10:]], "lines are vectors", "1 line is"),
    "a message": (lambda lines: [b"VCD info: dumpfile dut.vcd opened\n", *lines], "lines are vectors", "1 line is"),
    "an address": (lambda lines: [b"@0\n", *lines], "lines are vectors", "1 line is"),
    "another separator": (lambda lines: [*lines[:9], b"00.09 00 00\n", *lines[10:]], "lines are vectors", "1 line is"),
    "zero bytes": (lambda lines: [*lines[:9], bytes(12), *lines[10:]], "lines are vectors", "1 line is"),
    "an endless line": (lambda lines: [b"0" * 9_000_000], "lines are vectors", "no vector"),
    "broken JSON": (lambda lines: [b"[[1, 2"], "lines are vectors", "1 line is"),
    "JSON of something else": (lambda lines: [b'{"a": 1}'], "lines are vectors", "1 line is"),
    "another format's vectors": (
        lambda lines: b"".join(vectors("multiply", "rf6").text()).splitlines(True),
        "number of vectors",
        "4,096 answers",
    ),
    "another operation's vectors": (
        lambda lines: b"".join(vectors("decode", "rf8").text()).splitlines(True),
        "lines are vectors",
        "256 lines",
    ),
}


@pytest.mark.parametrize("slowly", [3, 512], ids=["in bulk", "one by one"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_stream_never_passes(monkeypatch, products, lines, name, slowly):
    """Whether the damage is met by the reader of many lines or by that of one."""
    monkeypatch.setattr(answers, "_SLOWLY", slowly)
    change, check, words = BROKEN[name]
    verdict = run(products, b"".join(change(lines)))
    assert not verdict.passed
    assert words in verdict.checks[check]


@pytest.mark.parametrize("slowly", [3, 5000])
def test_more_bits_than_a_code_has(monkeypatch, slowly):
    monkeypatch.setattr(answers, "_SLOWLY", slowly)
    asked = vectors("multiply", "rf6")
    verdict = run(asked, b"".join(asked.text()).replace(b"1F 1F 1F", b"1F 1F 5F"))
    assert not verdict.passed
    assert verdict.first_malformed[0].reason == "5F has more than the 6 bits of result"


def test_what_has_no_result_is_never_right():
    """INT8 has no NaN, so 1 / 0 is not asked; whoever answers it has answered something else."""
    asked = vectors("divide", "int8")
    text = b"".join(asked.text())
    verdict = run(asked, text.replace(b"01 01 01 00", b"01 00 00 00"))
    assert (verdict.misplaced, verdict.wrong_results) == (1, 1)


def test_flags_are_asked_for_and_missing(products, lines):
    without = b"".join(line.rsplit(b" ", 1)[0] + b"\n" for line in lines)
    assert run(products, without).passed
    verdict = run(products, without, flags=True)
    assert not verdict.passed
    assert verdict.checks["flags"] == "flags are to be compared, and the lines have none"


def test_wrong_flags(products, text):
    wrong = text.replace(b"7F 7F 7F 05", b"7F 7F 7F 01")
    assert run(products, wrong).passed
    verdict = run(products, wrong, flags=True)
    assert not verdict.passed
    assert (verdict.wrong_flags, verdict.wrong_results) == (1, 0)
    assert "flags inexact instead of inexact+overflow" in verdict.first_mismatches[0].sentences()[1]


def test_text_is_passed_over_only_when_asked(products, text):
    chatter = b"VCD info: dumpfile\n" + text + b"t.sv:9: $finish called at 655360 (1s)\n"
    assert not run(products, chatter).passed
    verdict = run(products, chatter, allow_text=True)
    assert verdict.passed
    assert verdict.malformed == 2
    assert verdict.first_malformed[0].line == 1
    # A vector that is damaged is no text.
    damaged = chatter.replace(b"7F 7F 7F 05", b"7F 7F 7x 05")
    assert not run(products, damaged, allow_text=True).passed


SMALL = vectors("decode", "rf8", result="fixed:2.19")
SMALL_TEXT = b"".join(SMALL.text())


def normal(text):
    """What the lines of a stream come to, as the documentation says: separators, case and comments aside."""
    kept = []
    for line in text.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        fields = re.split(rb"[\s_,]+", line.strip())
        if fields != [b""] and not line.strip().startswith((b"//", b"#")):
            kept.append([field.upper().removeprefix(b"0X") for field in fields])
    return kept


@given(st.integers(0, len(SMALL_TEXT)), st.integers(0, 9), st.binary(max_size=6))
def test_any_change_of_any_bytes_is_seen(place, length, instead):
    """Bytes anywhere replaced by others: only what comes to the same lines passes."""
    changed = SMALL_TEXT[:place] + instead + SMALL_TEXT[place + length :]
    with patch.object(verify, "diagnose", lambda *_: []), patch.object(answers, "_SLOWLY", 2):
        verdict = run(SMALL, changed)
    rows = normal(changed)
    same = [row[:2] for row in rows] == [row[:2] for row in normal(SMALL_TEXT)]
    every = all(len(row) == len(rows[0]) for row in rows)
    if verdict.passed:
        assert same
    elif same and every and changed.lstrip()[:1] not in (b"{", b"["):
        assert verdict.malformed  # flags that are none


# --- what is said -----------------------------------------------------------------------------------------------------


def test_a_wrong_answer_is_explained(products, lines):
    """1.25 times 1.0625 is 1.328125: halfway it is not, and 1.25 is right."""
    place = 0x7E << 8 | 0x7C
    assert lines[place] == b"7E 7C 7E 01\n"
    verdict = run(products, b"".join([*lines[:place], b"7E 7C 7F 01\n", *lines[place + 1 :]]))
    mismatch = verdict.first_mismatches[0]
    assert (mismatch.vector, mismatch.line, mismatch.stimulus) == (place + 1, place + 1, "exhaustive")
    assert mismatch.sentences() == [
        f"line {place + 1} (exhaustive, inexact): a = 7E (1.25), b = 7C (1.0625)",
        "    exact 1.328125, expected 7E (1.25), got 7F (1.5), 1 place too high",
    ]


def test_exact_results_are_the_real_ones():
    asked = vectors("divide", "rf8")
    text = b"".join(asked.text()).replace(b"7B 7F 76 01", b"7B 7F 75 01").replace(b"7B 00 80 08", b"7B 00 7F 08")
    first, second = run(asked, text).first_mismatches
    assert "exact inf, expected 80 (NaN), got 7F (1.5)" in first.sentences()[1]
    assert "exact 2/3 (about 0.666666667), expected 76" in second.sentences()[1] or "2/3" in second.exact
    for operation, exact in (("subtract", "1.25"), ("compare", "1.25"), ("add", "1.75")):
        asked = vectors(operation, "rf8")
        results = asked.results.copy()
        (place,) = np.flatnonzero((asked.operands[0] == 0x7F) & (asked.operands[1] == 0x6B))
        results[place] ^= 1
        (mismatch,) = verify_arrays(asked, results).first_mismatches
        assert mismatch.exact == exact
    stream = vectors("accumulate", "rf8", n=0)
    start = list(stream.classes).index("largest sums")
    number = sum(list(stream.classes.values())[:start]) + 4
    lines = b"".join(stream.text()).splitlines(keepends=True)
    lines[number] = lines[number].replace(b" 7F 05", b" 00 05")
    mismatch = run(stream, b"".join(lines)).first_mismatches[0]
    assert mismatch.exact == "11.25"  # five times 1.5 * 1.5
    assert "overflow" in mismatch.kind


def test_where_a_line_belongs(products, lines):
    missing = run(products, b"".join(lines[:300] + lines[301:])).first_misplaced[0].sentence()
    assert missing == "line 301: operands 01 2D where vector 301 has 01 2C; the vector after it: a line is missing"
    twice = run(products, b"".join(lines[:300] + lines[299:])).first_misplaced[0].sentence()
    assert twice == "line 301: operands 01 2B where vector 301 has 01 2C; the vector before it: a line came twice"
    moved = run(products, b"".join(swapped(lines, 40, 5000))).first_misplaced[0].sentence()
    assert moved.endswith("those of vector 5001")


def test_malformed_lines_are_named(products, lines):
    text = b"".join([*lines[:2], b"# a comment\n", b"hello \x1b[31m\n", b"00 02 xx 00\n", *lines[3:]])
    verdict = run(products, text)
    assert [(one.line, one.text) for one in verdict.first_malformed] == [(4, "hello ?[31m"), (5, "00 02 xx 00")]
    assert "unknown bits" in verdict.first_malformed[1].reason
    assert verdict.comments == 1


# --- how answers are compared -----------------------------------------------------------------------------------------


def answered(asked, results):
    columns = [*zip(asked.model.operands, asked.operands, strict=True), (asked.model.result, results)]
    return vector_files.fields(vector_files.FORMS["testfloat"], columns)


def test_aliases_are_equal_in_value():
    asked = vectors("add", "rf8")
    results = asked.results.copy()
    aliased = (results & 7 == 7) & (results & 0x78 < 0x78)
    results[aliased] += 1
    lines = answered(asked, results)
    verdict = run(asked, lines)
    assert verdict.wrong_results == np.count_nonzero(aliased)
    assert run(asked, lines, "value").passed
    assert run(asked, lines, "ulp:0").passed
    results[5] ^= 1
    assert run(asked, answered(asked, results), "value").wrong_results == 1


def test_zeros_nans_and_places():
    asked = vectors("multiply", "e5m2", rounding=rf8sim.Rounding(overflow="infinity"))
    results = asked.results.copy()
    results[results == 0x80] = 0
    assert not run(asked, answered(asked, results)).passed
    assert run(asked, answered(asked, results), "value").passed
    nan = np.isnan(rf8sim.get_format("e5m2").values)
    results = asked.results.copy()
    results[nan[results]] = 0xFE
    assert not run(asked, answered(asked, results)).passed
    assert run(asked, answered(asked, results), any_nan=True).passed
    assert run(asked, answered(asked, results), "value").passed
    for infinity in (0x7C, 0xFC):  # no NaN
        results[nan[asked.results]] = infinity
        assert not run(asked, answered(asked, results), "value").passed
        assert not run(asked, answered(asked, results), "ulp:200").passed


def test_ulps():
    asked = vectors("encode", "rf8", n=100)
    truncated = rf8sim.encode(asked.operands[0].view(np.float32), "rf8", rounding="toward-zero")
    assert not run(asked, answered(asked, truncated)).passed
    assert not run(asked, answered(asked, truncated), "ulp:0").passed
    assert run(asked, answered(asked, truncated), "ulp:1").passed
    # Far too low is as wrong as far too high.
    ranks = rf8sim.get_format("rf8").rank[asked.results]
    nothing = run(asked, answered(asked, np.zeros_like(asked.results)), "ulp:1")
    assert nothing.wrong_results == np.count_nonzero((ranks > 1) | (ranks < 0))
    with pytest.raises(ValueError, match="expected bits, value, faithful, or ulp:n"):
        get_comparison("ulps")


def test_places_are_the_order_of_values():
    for name in ("rf8", "e5m2", "int8", "posit8_es1"):
        kind = get_kind(name)
        codes = np.arange(256, dtype=np.uint8)
        values = kind.values(codes)
        order = codes[np.argsort(np.where(np.isnan(values), np.inf, values), kind="stable")]
        order = order[~np.isnan(values[order])]
        for low, high in pairwise(order.tolist()):
            off, sense = places(kind, np.array([high], np.uint8), np.array([low], np.uint8))
            assert sense[0]
            assert off[0] == (values[high] != values[low])
    kind = get_kind("float32")
    low, high = np.float32([-0.0, 1.0]), np.nextafter(np.float32([0.0, 1.0]), np.float32(9))
    off, _ = places(kind, high.view(np.uint32), low.view(np.uint32))
    assert off.tolist() == [1, 1]
    kind = get_kind("fixed:4.4")
    assert places(kind, np.array([0xFF], np.uint8), np.array([1], np.uint8))[0].tolist() == [-2]


def test_coverage_counts_what_came_in(products, lines):
    """Half a stream: the codes of a that never came are named."""
    verdict = run(products, b"".join(lines[: 0x80 << 8]))
    groups = {f"{group.port} {group.aspect}": group for group in verdict.coverage}
    assert groups["a codes"].missed == [f"{code:02X}" for code in range(0x80, 0x100)]
    assert groups["a signs"].bins == {"+": 127 * 256, "-": 0}
    assert groups["a kinds"].missed == ["NaN", "lowest"]
    assert groups["b codes"].missed == []
    table = products.flags[: 0x80 << 8]
    assert groups["result rounding outcomes"].bins["overflow"] == np.count_nonzero(table & 4)
    assert groups["result rounding outcomes"].bins["exact"] == np.count_nonzero(table & 1 == 0)

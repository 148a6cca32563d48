"""Faults of a whole stream: named from its lines, and only if they are so."""

import io

import pytest

from rf8sim.hardware.vectors.vectors import vectors
from rf8sim.hardware.verdict import answers, verify
from rf8sim.hardware.verdict import text as verdict_text
from rf8sim.hardware.verdict.comparison import get_comparison

MUL = vectors("multiply", "rf6")
LINES = b"".join(MUL.text()).splitlines(keepends=True)
RESULTS = [line.split()[2] + b"\n" for line in LINES]


def run(asked, lines, **options):
    return verify.verify(asked, io.BytesIO(b"".join(lines)), get_comparison("bits"), **options)


def said(verdict):
    return list(verdict_text.as_text(verdict, coverage=False))


@pytest.mark.parametrize("buffer", [100, 1 << 22])
@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        (LINES[:300] + LINES[301:], "a line seems to be missing after line 300"),
        (LINES[1:], "a line seems to be missing before line 1"),
        (LINES[:4000] + LINES[4003:], "3 lines seem to be missing after line 4000"),
        (LINES[:-2] + LINES[-1:], "a line seems to be missing after line 4094"),
        (LINES[:300] + LINES[299:], "line 301 seems to have come twice"),
        (LINES[:300] + LINES[298:], "lines 301 to 302 seem to have come twice"),
        (
            LINES[:300] + LINES[301:900] + LINES[901:],
            "a line seems to be missing after line 300, and there is more of that later",
        ),
        # What is no slip of that kind is not called one.
        ([*LINES[:300], LINES[302], LINES[301], LINES[300], *LINES[303:]], ""),
        (LINES[:300] + LINES[299:300] + LINES[301:], ""),
        (LINES[::-1], ""),
        (LINES[:-1], ""),
        ([*LINES[:300], b"3F 3F 00 00\n", *LINES[301:]], ""),
        (LINES[:300] + LINES[350:], ""),
        (LINES * 2, ""),
    ],
)
def test_lines_missing_or_doubled(monkeypatch, changed, cause, buffer):
    monkeypatch.setattr(answers, "_BUFFER", buffer)
    monkeypatch.setattr(answers, "_SLOWLY", 3)
    verdict = run(MUL, changed)
    assert not verdict.passed
    assert verdict.cause == cause
    shown = said(verdict)
    assert (f"  cause: {cause}" in shown) == bool(cause)
    if cause:
        assert sum("where vector" in line for line in shown) == 1
        assert not verdict.findings


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        (RESULTS[:2000] + RESULTS[2001:], "a line seems to be missing after line 20"),
        (RESULTS[:2000] + RESULTS[1999:], "seems to have come twice"),
        (RESULTS[:-9], ""),
        ([*RESULTS[:2000], b"00\n", *RESULTS[2001:]], ""),
    ],
)
def test_results_alone(changed, cause):
    verdict = run(MUL, changed)
    assert not verdict.passed
    assert cause in verdict.cause
    assert bool(cause) == bool(verdict.cause)
    if cause:
        shown = said(verdict)
        assert sum("expected" in line for line in shown) == 1
        assert "  none while lines are out of place: that comes first" in shown


def test_a_late_design_is_a_design_with_a_fault():
    """Answers that are one vector late from the first on are as many as asked, so no line is doubled."""
    verdict = run(MUL, [b"00\n", *RESULTS[:-1]])
    assert verdict.cause == ""
    assert verdict.findings


ENCODE = {"fmt": "rf6", "source": "fixed:4.14", "n": 60, "seed": 2}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"seed": 7}, "these are the vectors of --seed 7, and here it is --seed 2: give verify the options"),
        ({"seed": 10**6}, "these are the vectors of --seed of another value, and here it is --seed 2"),
        ({"n": 90}, "these are the vectors of -n 90, and here it is -n 60"),
        ({"n": 20}, "-n 20 makes so many vectors, and here it is -n 60: give verify -n 20, or the stream is cut short"),
        ({"n": 0}, "-n 0 makes so many vectors"),
        ({"n": 90, "seed": 0}, "these are the vectors of --seed 0 -n 90, and here it is --seed 2 -n 60"),
        ({"level": 2}, "these are the vectors of --level 2, and here it is --level 1"),
        ({"level": 2, "seed": 5, "n": 61}, "--level 2 --seed 5 -n 61, and here it is --level 1 --seed 2 -n 60"),
        ({"rounding": "up"}, ""),
    ],
)
@pytest.mark.parametrize("operation", ["encode", "dot:2"])
def test_vectors_of_other_options(operation, change, cause):
    options = {name: value for name, value in ENCODE.items() if operation == "encode" or name != "source"}
    asked = vectors(operation, **options)
    made = {**options, **change}
    if made["n"] == 0:
        del made["seed"]  # it would change nothing
    verdict = run(asked, vectors(operation, **made).text())
    assert not verdict.passed
    assert cause in verdict.cause
    assert bool(cause) == bool(verdict.cause)


def test_damage_is_not_another_seed():
    asked = vectors("encode", **ENCODE)
    lines = b"".join(asked.text()).splitlines(keepends=True)
    first = len(lines) - 60
    for place in (first, first + 30, len(lines) - 1, 5):
        verdict = run(asked, [*lines[:place], b"00000 00 00\n", *lines[place + 1 :]])
        assert verdict.misplaced == 1
        assert "of another value" not in verdict.cause or place == first
    assert run(asked, lines).cause == ""
    assert run(asked, lines[: first - 1]).cause == ""


def test_marks_of_encodings():
    mark = b"\xef\xbb\xbf"
    verdict = run(MUL, [mark, *LINES])
    assert verdict.passed
    assert verdict.malformed == 0
    assert run(MUL, [mark, b"".join(MUL.text("json"))]).passed
    assert run(MUL, [mark, b"".join(MUL.text("csv"))]).passed
    assert not run(MUL, [*LINES[:9], mark, *LINES[9:]]).passed
    for encoding in ("utf-16-le", "utf-16-be"):
        text = ("\ufeff" + b"".join(LINES).decode()).encode(encoding)
        verdict = run(MUL, [text])
        assert not verdict.passed
        assert (verdict.received, verdict.malformed) == (0, 1)
        assert "UTF-16, which PowerShell's > writes: write it as ASCII or UTF-8" in verdict.first_malformed[0].reason

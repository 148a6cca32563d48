"""Lines that cannot be read keep their place, are told as what they are, and hide nothing."""

import io
import time

import numpy as np
import pytest

from rf8sim.hardware.vectors.vectors import vectors
from rf8sim.hardware.verdict import answers
from rf8sim.hardware.verdict.comparison import get_comparison
from rf8sim.hardware.verdict.text import as_text
from rf8sim.hardware.verdict.verify import verify

PRODUCTS = vectors("multiply", "rf6")
LINES = b"".join(PRODUCTS.text(flags=False)).splitlines(keepends=True)
RESULTS = [line.split()[2] + b"\n" for line in LINES]


def run(lines, **options):
    return verify(PRODUCTS, io.BytesIO(b"".join(lines)), **options)


@pytest.mark.parametrize("slowly", [3, 4096])
@pytest.mark.parametrize(
    "line", [b"04 2C xx\n", b"04 xx xX\n", b"04 2C 0Z\n", b"04 2C UU\n", b"04 2C ??\n", b"xx xx xx\n", b"04 2C xxxx\n"]
)
def test_an_undriven_line_keeps_its_place(monkeypatch, slowly, line):
    monkeypatch.setattr(answers, "_SLOWLY", slowly)
    verdict = run([*LINES[:300], line, *LINES[301:]])
    assert not verdict.passed
    assert (verdict.received, verdict.compared, verdict.wrong, verdict.misplaced) == (4096, 4095, 0, 0)
    assert (verdict.damaged, verdict.undriven, verdict.first_undriven) == (1, 1, 301)
    assert verdict.cause == ""
    assert verdict.checks["lines are vectors"] == "1 line is no vector: undriven bits, first in line 301"
    assert "unknown bits: the design's output is not driven" in verdict.first_malformed[0].reason


@pytest.mark.parametrize("line", [b"04 2C 000\n", b"04 2C\n", b"04 2C 0G\n", b"04.2C 00\n", b"04 2C 00 00\n"])
def test_a_damaged_line_keeps_its_place(line):
    verdict = run([*LINES[:300], line, *LINES[301:]])
    assert (verdict.received, verdict.compared, verdict.wrong, verdict.misplaced) == (4096, 4095, 0, 0)
    assert verdict.cause == ""
    assert verdict.checks["lines are vectors"] == "1 line is no vector"
    assert not run([*LINES[:300], line, *LINES[301:]], allow_text=True).passed


def test_undriven_lines_do_not_hide_the_diagnosis():
    up = vectors("multiply", "rf6", rounding="up").results
    changed = [b"%s %02X\n" % (line[:5], code) for line, code in zip(LINES, up.tolist(), strict=True)]
    differing = np.flatnonzero(up != PRODUCTS.results)  # nothing is known of these, whatever the cause predicts
    for place in (0, 7, 4095, *differing[[3, 500]].tolist()):
        changed[place] = b"xx xx xx\n"
    verdict = run(changed)
    assert verdict.findings[0].name == "rounds up"
    assert verdict.findings[0].proved
    assert verdict.findings[0].where == ""
    assert verdict.undriven == 5


def test_without_operands_an_undriven_line_and_the_rest_late():
    """The first answer unknown, all others one late: not 4,095 right ones of 4,096."""
    verdict = run([b"xx\n", *RESULTS[:-1]])
    assert verdict.received == 4096
    assert verdict.wrong > 1000
    assert [finding.name for finding in verdict.findings] == ["late by 1"]
    assert verdict.findings[0].proved
    # As many answers as asked behind it: that line is one too many.
    verdict = run([b"xx\n", *RESULTS])
    assert verdict.cause == "line 1, which is damaged, seems to be too many"
    verdict = run([*RESULTS[:9], b"xx\n", *RESULTS[10:]])
    assert (verdict.wrong, verdict.compared, verdict.cause) == (0, 4095, "")


def test_a_prefix():
    with_prefix = [b" ".join(b"0x" + field for field in line.split()) + b"\n" for line in LINES]
    assert run(with_prefix).passed
    assert run([line.replace(b"0x", b"0X") for line in with_prefix]).passed
    assert run([b"0x" + line for line in RESULTS]).passed
    assert run([*LINES[:9], with_prefix[9], *LINES[10:]]).passed
    verdict = run([*LINES[:9], b"00 09 0x\n", *LINES[10:]])  # the low digit is unknown
    assert verdict.undriven == 1
    assert not verdict.passed


def test_a_line_that_could_be_an_answer_is_never_text():
    chatter = [b"VCD info: dumpfile dut.vcd\n", *LINES, b"$finish called at 40 ns\n"]
    assert run(chatter, allow_text=True).passed
    for line in (b"3F xx 00\n", b"xx xx xx\n", b"0x zz 11\n", b"3F 3F 3F\n", b"3F 3F 003F\n"):
        assert not run([*chatter[:20], line, *chatter[20:]], allow_text=True).passed
        assert not run([*chatter[:20], line, *chatter[21:]], allow_text=True).passed
    verdict = run([*chatter[:20], b"xx xx xx\n", *chatter[21:]], allow_text=True)
    assert verdict.checks["lines are vectors"].startswith("1 line is no vector")


def test_a_first_line_does_not_choose_the_layout():
    for first in (b"ab\n", b"add\n", b"00 01\n"):
        verdict = run([first, *LINES])
        assert verdict.compared == 4096 or first == b"00 01\n"
        assert verdict.had_operands
        assert verdict.malformed == 1
    assert run([b"ab\n", *LINES], allow_text=True).passed
    assert run([b"result\n", b"a b result\n", *LINES], allow_text=True).passed


def test_a_line_of_names_is_no_comment():
    verdict = run([b"a b result\n", b"# made by hand\n", *LINES])
    assert verdict.passed
    assert verdict.comments == 1


def test_flags_of_a_damaged_line_are_not_compared():
    lines = b"".join(PRODUCTS.text()).splitlines(keepends=True)
    raised = next(place for place, line in enumerate(lines) if line.split()[-1] != b"00")
    lines[raised] = b"xx " * (lines[raised].count(b" ")) + b"xx\n"
    verdict = run(lines, comparison=get_comparison("bits", flags=True))
    assert (verdict.wrong_flags, verdict.wrong, verdict.damaged) == (0, 0, 1)


def test_files_without_one_answer():
    verdict = run([b"xx\n"] * 4096)
    assert (verdict.received, verdict.compared, verdict.undriven, verdict.had_operands) == (4096, 0, 4096, False)
    assert not verdict.passed
    assert run([b"\x01\x01" + line for line in LINES]).malformed == 4096


@pytest.mark.parametrize("every", [1, 2, 50])
def test_malformed_lines_are_read_fast(every):
    """At a rate above what judging each line for itself can have."""
    asked = vectors("encode", "rf8", n=0)
    good = b"".join(asked.text(flags=False)).splitlines(keepends=True)[:2000]
    lines = [b"time 12345 ns: x\n" if i % every == 0 else line for i, line in enumerate(good * 150)]
    data = b"".join(lines)
    start = time.process_time()
    batches = list(answers.read_answers(io.BytesIO(data), asked.model))
    seconds = time.process_time() - start
    assert sum(batch.malformed_count for batch in batches) == len(range(0, 300_000, every))
    assert sum(len(batch.results) for batch in batches) == 300_000 - len(range(0, 300_000, every))
    assert seconds < 0.6


def test_a_shape_of_two_kinds_is_read_line_by_line():
    """Lines of one shape whose digits say more than a port has bits are damaged one by one."""
    lines = [*LINES]
    lines[5], lines[4000] = b"00 05 C0\n", b"FF FF 00\n"
    verdict = run(lines)
    assert (verdict.damaged, verdict.compared, verdict.wrong) == (2, 4094, 0)
    assert verdict.first_malformed[0].reason == "C0 has more than the 6 bits of result"


def test_text_says_where():
    verdict = run([*LINES[:300], b"04 2C xx\n", *LINES[301:]])
    text = list(as_text(verdict, coverage=False))
    assert text[0] == "FAIL: 4,095 of 4,096 results match"
    assert any("first in line 301" in line for line in text)

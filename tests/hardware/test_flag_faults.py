"""Wrong flags are located, each flag for itself."""

import io

import numpy as np

from rf8sim.hardware.vectors.vectors import vectors
from rf8sim.hardware.verdict.arrays import verify_arrays
from rf8sim.hardware.verdict.comparison import get_comparison
from rf8sim.hardware.verdict.text import as_text
from rf8sim.hardware.verdict.verify import verify

FLAGS = get_comparison("bits", flags=True)


def located(asked, flags):
    verdict = verify_arrays(asked, asked.results, flags, FLAGS)
    assert not verdict.passed
    assert verdict.wrong_flags == np.count_nonzero(flags != asked.flags)
    text = list(as_text(verdict, coverage=False))
    assert "Flags:" in text
    return [finding.sentence for finding in verdict.flag_findings]


def test_flags_have_a_diagnosis():
    asked = vectors("multiply", "e4m3fn")
    flags, a = asked.flags, asked.operands[0]
    count = np.count_nonzero(flags & 4)
    assert located(asked, flags & 0xFB) == [f"the flag overflow is never raised: {count:,} vectors"]
    negative = a >= 128
    lost = np.count_nonzero((flags & 4 != 0) & negative)
    assert located(asked, np.where(negative, flags & 0xFB, flags)) == [
        f"the flag overflow is missing exactly where the sign bit of a is 1: {lost:,} of {lost:,}, and nowhere else"
    ]
    zero = a & 127 == 0
    assert located(asked, np.where(zero, flags | 16, flags)) == [
        "the flag invalid is raised in vain exactly where a is zero: 512 of 512, and nowhere else"
    ]
    assert verify_arrays(asked, asked.results, flags, FLAGS).flag_findings == []


def test_a_line_that_cannot_be_read_hides_no_flag():
    asked = vectors("multiply", "e4m3fn")
    rows = zip(*asked.operands, asked.results, asked.flags & 0xFB, strict=True)
    lines = [" ".join(f"{int(field):02X}" for field in row) + "\n" for row in rows]
    place = int(np.argmax(asked.flags & 4 != 0))
    lines[place] = lines[place][:-3] + "xx\n"
    verdict = verify(asked, io.BytesIO("".join(lines).encode()), FLAGS)
    count = np.count_nonzero(asked.flags & 4) - 1
    assert [each.sentence for each in verdict.flag_findings] == [
        f"the flag overflow is never raised: {count:,} vectors"
    ]


def test_flags_that_are_right_are_not_shown_as_wrong():
    asked = vectors("multiply", "e4m3fn")
    results = asked.results.copy()
    results[0x3839] ^= 1
    verdict = verify_arrays(asked, results, asked.flags, FLAGS)
    assert "flags" not in verdict.first_mismatches[0].sentences()[1]
    verdict = verify_arrays(asked, asked.results, asked.flags | 32, FLAGS)
    assert "flags bit 5 instead of none" in verdict.first_mismatches[0].sentences()[1]

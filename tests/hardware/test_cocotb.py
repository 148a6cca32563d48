"""The scoreboard for cocotb, with designs that are right and designs that are wrong, in Icarus Verilog."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rf8sim.arithmetic.operations import operation_table
from rf8sim.hardware.cocotb import Handshake, Scoreboard
from rf8sim.hardware.vectors.vectors import vectors
from rf8sim.hardware.verdict.comparison import get_comparison
from rf8sim.hardware.verdict.coverage_file import as_coverage
from rf8sim.hardware.verdict.verify import verify

pytestmark = pytest.mark.hardware
ROOT = Path(__file__).parents[2]

# A multiplier by table: combinational, in a pipeline, and behind handshakes with a buffer of one result.
DESIGN = """
module table_multiply (input [5:0] a, input [5:0] b, output [5:0] code);
  reg [5:0] table_[0:4095];
  initial $readmemh("table.mem", table_);
  assign code = table_[{a, b}];
endmodule

module pipeline (input clk, input [5:0] a, input [5:0] b, output reg [5:0] result);
  reg [5:0] x, y;
  wire [5:0] code;
  table_multiply core (x, y, code);
  always @(posedge clk) begin x <= a; y <= b; result <= code; end
endmodule

module stream (input clk, input reset, input in_valid, output in_ready, input [5:0] a, input [5:0] b,
    output reg out_valid, input out_ready, output reg [5:0] result);
  wire [5:0] code;
  table_multiply core (a, b, code);
  wire moves = !out_valid || out_ready;
  assign in_ready = moves;
  always @(posedge clk)
    if (reset) out_valid <= 0;
    else if (moves) begin
      out_valid <= in_valid && in_ready;
      if (in_valid) result <= code;
    end
endmodule
"""
BENCH = """
import os, pathlib
import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from rf8sim.hardware.cocotb import Handshake, Scoreboard
from rf8sim.hardware.vectors.vectors import vectors

HERE = pathlib.Path(os.environ["RESULTS"])
CHECK = dict(junit=HERE / "junit.xml", report=HERE / "verdict.json", coverage=HERE / "coverage.xml",
             write_answers=HERE / "answers.txt")

@cocotb.test(skip=os.environ.get("COCOTB_TOPLEVEL") != "table_multiply")
async def combinational(dut):
    board = Scoreboard(vectors("multiply", "e3m2fn"))
    await board.drive(dut, names={"result": "code"})
    board.check(**CHECK)

@cocotb.test(skip=os.environ.get("COCOTB_TOPLEVEL") != "pipeline")
async def pipeline(dut):
    Clock(dut.clk, 2, "ns").start()
    board = Scoreboard(vectors("multiply", "e3m2fn"))
    await board.drive(dut, clock=dut.clk, latency=int(os.environ.get("LATENCY", 2)))
    board.check(**CHECK)

@cocotb.test(skip=os.environ.get("COCOTB_TOPLEVEL") != "stream")
async def stream(dut):
    Clock(dut.clk, 2, "ns").start()
    dut.reset.value, dut.in_valid.value, dut.out_ready.value = int("RESET" not in os.environ), 0, 0
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.reset.value = 0
    board = Scoreboard(vectors("multiply", "e3m2fn"))
    handshake = Handshake("in_valid", "out_valid", "in_ready", "out_ready", gaps=0.2, stalls=0.3, patience=50)
    await board.drive(dut, clock=dut.clk, handshake=handshake)
    board.check(**CHECK)
"""
RUN = """
import sys
from cocotb_tools.runner import get_runner
runner = get_runner("icarus")
scale = ("1ns", "1ps")
runner.build(sources=["design.v"], hdl_toplevel=sys.argv[1], build_dir="build", always=True, timescale=scale)
runner.test(test_module="bench", hdl_toplevel=sys.argv[1], build_dir="build", test_dir=".", timescale=scale)
"""


@pytest.fixture
def simulate(tmp_path):
    """Return a function that simulates a module, with a change of the design, and gives what was printed."""
    pytest.importorskip("cocotb", reason="needs cocotb 2")
    if shutil.which("iverilog") is None:
        pytest.skip("needs Icarus Verilog")

    def run(top, changes=(), **variables):
        text = DESIGN
        for old, new in changes:
            assert text.count(old) == 1
            text = text.replace(old, new)
        (tmp_path / "design.v").write_text(text)
        rows = "".join(
            f"{code:02x}\n" for code in operation_table("multiply", "e3m2fn").codes[:64, :64].ravel().tolist()
        )
        (tmp_path / "table.mem").write_text(rows)
        (tmp_path / "bench.py").write_text(textwrap.dedent(BENCH))
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("COV_", "PYTEST"))}
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**kept, "RESULTS": str(tmp_path), "PYTHONPATH": path, **variables}
        done = subprocess.run(
            [sys.executable, "-c", RUN, top], cwd=tmp_path, capture_output=True, text=True, env=environment
        )  # fmt: skip
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize("top", ["table_multiply", "pipeline", "stream"])
def test_a_right_design_passes(top, simulate, tmp_path):
    printed = simulate(top)
    assert "PASS=1 FAIL=0" in printed, printed[-3000:]
    data = json.loads((tmp_path / "verdict.json").read_text())
    assert data["passed"]
    assert data["counts"]["compared"] == 4096
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().get("failures") == "0"
    root = ElementTree.parse(tmp_path / "coverage.xml").getroot()
    assert int(root.get("size")) - int(root.get("coverage")) <= 1
    command = [
        sys.executable,
        "-m",
        "rf8sim",
        "verify",
        "multiply",
        "-f",
        "e3m2fn",
        str(tmp_path / "answers.txt"),
        "--json",
    ]
    again = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    assert again == data


FAULTS = {
    "a sign lost": ("table_multiply", [("= table_[{a, b}]", "= table_[{a, b}] & 6'h1f")], {}, "proved: the result"),
    "one stage more": (
        "pipeline",
        [("reg [5:0] x, y;", "reg [5:0] x, y, held;"), ("y <= b; result <=", "y <= b; result <= held; held <=")],
        {}, "late|lag",
    ),
    "latency taken too short": ("pipeline", [], {"LATENCY": "1"}, "late|lag|no vector"),
    "a result lost": ("stream", [("in_valid && in_ready;", "in_valid && a != 6'h15;")], {}, "too few"),
    "it hangs": ("stream", [("in_ready = moves", "in_ready = moves && a != 6'h15")], {}, "too few"),
    "not reset": ("stream", [], {"RESET": "0"}, "out_valid is X: reset the design"),
    "unknown bits": ("table_multiply", [("= table_[{a, b}]", "= a == 6'h15 ? 6'hxx : table_[{a, b}]")], {}, "'15 00 X"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_design_fails(name, simulate, tmp_path):
    top, changes, variables, words = FAULTS[name]
    printed = simulate(top, changes, **variables)
    assert "PASS=0 FAIL=1" in printed, printed[-3000:]
    assert "AssertionError: " in printed
    assert re.search(words, printed), printed[-3000:]
    if name != "not reset":
        assert not json.loads((tmp_path / "verdict.json").read_text())["passed"]
        assert "<failure" in (tmp_path / "junit.xml").read_text()


def answered(asked, results, comparison=None, flags=None):
    board = Scoreboard(asked, comparison)
    for number, result in enumerate(results):
        board.record(result, *([] if flags is None else [flags[number]]))
    return board


def test_stimuli_are_the_operands():
    asked = vectors("dot:4", "e2m1fn", n=10)
    for number, operands in enumerate(Scoreboard(asked).stimuli()):
        for name, patterns in zip("ab", asked.operands, strict=True):
            assert operands[name] == sum(int(code) << 4 * lane for lane, code in enumerate(patterns[number]))
    assert number == len(asked) - 1


def test_answers_may_be_numbers_or_bits():
    asked = vectors("encode", "e2m1fn", source="fixed:3.4")
    bits = [f"{code:04b}" for code in asked.results]
    for results in (asked.results, asked.results.tolist(), bits):
        assert answered(asked, results).check().passed
    assert answered(asked, [text.replace("0", "L").replace("1", "H") for text in bits]).check().passed


@pytest.mark.parametrize("answer", [16, -1, "00000", "", "101", "-101"])
def test_an_answer_of_another_width_is_refused(answer):
    board = Scoreboard(vectors("decode", "e2m1fn", result="e2m1fn"))
    with pytest.raises(ValueError, match="result has 4 bits"):
        board.record(answer)


def test_flags_are_compared_where_asked():
    asked = vectors("multiply", "e2m1fn")
    comparison = get_comparison("bits", flags=True)
    assert answered(asked, asked.results, comparison, asked.flags).check().passed
    wrong = asked.flags.copy()
    wrong[5] ^= 1
    with pytest.raises(AssertionError, match="1 vector is with wrong flags"):
        answered(asked, asked.results, comparison, wrong).check()


def test_the_error_is_the_verdict(tmp_path):
    asked = vectors("multiply", "e2m1fn")
    wrong = asked.results.copy()
    wrong[77] ^= 1
    for results, words in (
        (wrong, "FAIL: 255 of 256 results match"),
        (asked.results[:-1], "1 too few"),
        ([*asked.results, 0], "1 too many"),
        ([], "nothing came in"),
    ):
        board = answered(asked, results)
        with pytest.raises(AssertionError, match=words):
            board.check(junit=tmp_path / "junit.xml", report=tmp_path / "verdict.json")
        assert "<failure" in (tmp_path / "junit.xml").read_text()
        assert not json.loads((tmp_path / "verdict.json").read_text())["passed"]
        assert not board.verdict().passed


@pytest.mark.parametrize("options", [{"gaps": 1.0}, {"stalls": -0.1}, {"stalls": 0.5}])
def test_a_handshake_says_what_is_wrong_with_it(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Handshake("valid", "done", **options)


def test_no_cocotb_is_needed_to_import():
    code = "import sys, rf8sim.hardware.cocotb; assert 'cocotb' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# --- files of coverage ------------------------------------------------------------------------------------------------


def half():
    """A verdict on the first half of a set, whose operands are not all asked."""
    asked = vectors("multiply", "e2m1fn")
    return verify(asked, io.BytesIO(b"".join(b"".join(asked.text()).splitlines(keepends=True)[:128])))


@pytest.mark.parametrize("suffix", [".xml", ".yml"])
def test_a_coverage_file_is_read_by_cocotb_coverage(suffix, tmp_path):
    coverage = pytest.importorskip("cocotb_coverage.coverage", reason="needs cocotb-coverage")
    verdict = half()
    one, two, merged = (tmp_path / f"{name}{suffix}" for name in ("one", "two", "merged"))
    one.write_bytes(as_coverage(verdict, one))
    asked = verdict.asked
    two.write_bytes(as_coverage(verify(asked, io.BytesIO(b"".join(asked.text()))), two))
    coverage.merge_coverage(lambda _: None, str(merged), str(one), str(two))
    before, after = (points(path) for path in (one, merged))
    for (name, (size, hit, bins)), group in zip(before.items(), verdict.coverage, strict=True):
        assert (size, hit, bins) == (len(group.bins), group.hit, group.bins), name
    assert any(hit < size for size, hit, _ in before.values())
    # The whole set hits what the half does and twice as much.
    merged = points(two)
    for name, (size, hit, bins) in after.items():
        assert (size, hit) == merged[name][:2]
        assert bins == {label: hits + merged[name][2][label] for label, hits in before[name][2].items()}


def points(path):
    """Return size, bins hit and hits of every cover point of a file, in the order of the tree of one that is ours."""
    if path.suffix == ".xml":
        elements = [element for element in ElementTree.parse(path).iter() if element.get("weight")]
        return {
            element.get("abs_name"): (
                int(element.get("size")),
                int(element.get("coverage")),
                {each.get("bin"): int(each.get("hits")) for each in element},
            )
            for element in elements
        }
    import yaml

    data = yaml.safe_load(path.read_text())
    return {
        name: (entry["size"], entry["coverage"], entry["bins:_hits"])
        for name, entry in data.items()
        if "weight" in entry
    }


def test_coverage_of_nothing_is_a_file_too(tmp_path):
    asked = vectors("multiply", "e2m1fn")
    verdict = verify(asked, io.BytesIO(b""))
    root = ElementTree.fromstring(as_coverage(verdict, Path("none.xml")))
    assert root.get("coverage") == "0"


def test_the_command_writes_coverage(tmp_path):
    answers, coverage = tmp_path / "answers.txt", tmp_path / "coverage.yaml"
    answers.write_bytes(b"".join(vectors("multiply", "e2m1fn").text()))
    command = [sys.executable, "-m", "rf8sim", "verify", "multiply", "-f", "e2m1fn", str(answers), "--coverage-file"]
    subprocess.run([*command, str(coverage)], check=True, cwd=ROOT, capture_output=True)
    assert json.loads(coverage.read_text())["top.multiply_result.codes"]["cover_percentage"] == 100
    refused = subprocess.run([*command, "coverage.html"], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "coverage.html: a coverage file ends in .xml, .yml, .yaml" in refused.stderr.replace("\n", " ")

"""``rf8sim vectors`` and ``rf8sim verify``: files, pipes, exit codes, JSON and JUnit."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import rf8sim.hardware
from rf8sim import cli
from rf8sim.hardware.vectors.vectors import vectors

SCHEMA = Path(rf8sim.hardware.__file__).parent / "verdict.schema.json"
DUT = """import sys
for line in sys.stdin:
    a, b = line.split()[:2]
    code = TABLE[int(a, 16)][int(b, 16)]
    print(a, b, f"{code:02X}")
"""


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture
def answers(tmp_path):
    assert run("vectors", "multiply", "-f", "rf6", "-o", tmp_path / "a.txt", "-q") == 0
    return tmp_path / "a.txt"


def test_vectors_to_files(capsys, tmp_path):
    assert run("vectors", "multiply", "-f", "rf6", "--rounding", "up", "-o", tmp_path / "m.mem", "--no-flags") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("4,096 vectors of multiply\n")
    assert {path.name for path in tmp_path.iterdir()} == {"m.in.mem", "m.out.mem", "m.mem.manifest.json"}
    assert "// rounding: up" in (tmp_path / "m.in.mem").read_text()


def test_vectors_to_a_pipe_are_those_of_the_library(capfdbinary):
    assert run("vectors", "dot:2", "--format", "rf6", "-n", 5, "--seed", 9, "--form", "tv") == 0
    out, err = capfdbinary.readouterr()
    assert out == b"".join(vectors("dot:2", "rf6", n=5, seed=9).text("tv"))
    assert err == b""
    assert run("vectors", "multiply", "-f", "rf6", "--inputs-only") == 0
    assert capfdbinary.readouterr().out.splitlines()[:2] == [b"00 00", b"00 01"]


def test_verify_a_file(capsys, answers):
    assert run("verify", "multiply", answers, "-f", "rf6", "--flags") == 0
    out, err = capsys.readouterr()
    assert out.startswith("PASS: all 4,096 results match\n")
    assert "compared: every bit of the result; flags are compared" in out
    assert "Coverage:" in out
    assert err == ""
    assert run("verify", "multiply", answers, "-f", "rf6", "-q") == 0
    assert capsys.readouterr().out == ""


def test_the_exit_code_is_the_verdict(capsys, answers):
    """1 for answers that are wrong or missing, 2 for what one typed."""
    lines = answers.read_text().splitlines(keepends=True)
    answers.write_text("".join(lines[:-1]))
    assert run("verify", "multiply", answers, "-f", "rf6", "-q") == 1
    answers.write_text("")
    assert run("verify", "multiply", answers, "-f", "rf6", "-q") == 1
    answers.write_text("".join(lines).replace("1F 1F 1F", "1F 1F 1E"))
    assert run("verify", "multiply", answers, "-f", "rf6", "--no-coverage", "--first", 1) == 1
    out = capsys.readouterr().out
    assert "FAIL: 4,095 of 4,096 results match" in out
    assert "exact 2.25, expected 1F (1.5), got 1E (1.25), 1 place too low" in out
    assert "Coverage" not in out
    assert run("verify", "multiply", answers, "-f", "rf6", "--compare", "ulp:1", "-q") == 0


def test_json_has_its_schema(capsys, answers):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validate = jsonschema.Draft202012Validator(schema).validate
    assert run("verify", "multiply", answers, "-f", "rf6", "--json") == 0
    passed = json.loads(capsys.readouterr().out)
    validate(passed)
    assert passed["passed"] is True
    assert passed["counts"]["compared"] == passed["counts"]["expected"] == 4096
    text = answers.read_text().replace("01 1F 01 00", "01 1F 02 00").replace("00 05 00 00", "00 05 zz 00")
    answers.write_text(text.replace("00 03 00 00", "00 04 00 00"))
    assert run("verify", "multiply", answers, "-f", "rf6", "--json", "--flags") == 1
    failed = json.loads(capsys.readouterr().out)
    validate(failed)
    assert failed["passed"] is False
    assert failed["checks"]["lines are vectors"] == "1 line is no vector: undriven bits, first in line 6"
    assert failed["checks"]["number of vectors"] == "passed"
    assert (failed["counts"]["damaged"], failed["counts"]["undriven"]) == (1, 1)
    assert failed["misplaced"]
    assert failed["malformed"][0]["line"] == 6
    del failed["counts"]["wrong"]
    with pytest.raises(jsonschema.ValidationError):
        validate(failed)


def test_junit(capsys, answers, tmp_path):
    report = tmp_path / "junit.xml"
    assert run("verify", "multiply", answers, "-f", "rf6", "--junit", report, "-q") == 0
    root = ElementTree.parse(report).getroot()
    assert (root.tag, root.get("failures")) == ("testsuites", "0")
    assert int(root.get("tests")) == len(root.findall("testsuite/testcase")) == 5
    answers.write_text("\x00\x1b<&>\n" + answers.read_text().replace("1F 1F 1F", "1F 1F 1E"))
    assert run("verify", "multiply", answers, "-f", "rf6", "--junit", report, "-q") == 1
    root = ElementTree.parse(report).getroot()
    failures = {case.get("name"): case[0] for case in root.iter("testcase") if len(case)}
    assert set(failures) == {"lines are vectors", "results", "vectors: exhaustive"}
    assert root.get("failures") == root[0].get("failures") == "3"
    assert failures["results"].get("message") == "1 result is wrong"
    assert "got 1E (1.25)" in failures["results"].text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vectors", "multipl"], "unknown operation 'multipl': did you mean 'multiply'?"),
        (["vectors", "multiply", "-f", "rf9"], "unknown format 'rf9'"),
        (["vectors", "multiply", "--form", "xml"], "unknown form 'xml'"),
        (["vectors", "multiply", "--form", "mem"], "the form mem is two files"),
        (
            ["vectors", "multiply", "-o", "OUT.hex"],
            ".txt, .tv, .mem, .csv, .json: choose one of these, or a --form",
        ),
        (["vectors", "multiply", "--inputs-only", "-o", "OUT"], "--inputs-only is for standard output"),
        (["vectors", "multiply", "--level", "3"], "Invalid value for '--level'"),
        (["vectors", "encode", "--from", "float8"], "unknown format 'float8'"),
        (["verify", "multiply", "NONE"], "NONE: cannot be read: No such file or directory"),
        (
            ["vectors", "multiply", "--inputs-only", "--no-flags"],
            "--no-flags changes nothing: --inputs-only",
        ),
        (
            ["verify", "multiply", "FILE", "--compare", "value", "--any-nan"],
            "--any-nan changes nothing: by value any NaN",
        ),
        (
            ["verify", "multiply", "FILE", "--compare", "ulp:1", "--any-nan"],
            "--any-nan changes nothing: by ulp:1 any NaN",
        ),
        (["hdl", "--area", "--format", "e5m2"], "--format changes nothing without --output: --area compares"),
        (["verify", "multiply", "FILE", "--compare", "almost"], "unknown comparison 'almost'"),
        (["verify", "divide", "FILE", "--result", "fixed:2.2"], "the result of divide is a code"),
    ],
)
def test_refusals(capsys, tmp_path, answers, arguments, message):
    replaced = {"OUT": str(tmp_path / "out"), "OUT.hex": str(tmp_path / "out.hex"), "FILE": str(answers)}
    assert cli.main([replaced.get(argument, argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("rf8sim: error: ")
    assert err.count("\n") == 1


def test_the_record_beside_results_alone(capsys, tmp_path):
    """Lines without operands do not say which vectors they answer: the manifest of these does."""
    assert run("vectors", "encode", "-o", tmp_path / "e.mem", "-n", 50, "--seed", 3, "--no-flags", "-q") == 0
    answers = tmp_path / "answers.txt"
    answers.write_bytes((tmp_path / "e.out.mem").read_bytes())
    assert run("verify", "encode", answers, "-n", 50, "--seed", 3, "-q") == 0
    assert run("verify", "encode", answers, "-n", 50) == 1
    out = capsys.readouterr().out
    assert "  cause: e.mem.manifest.json beside the answers is of other vectors: seed 3 and not 0\n" in out
    assert run("verify", "encode", answers, "-n", 40, "--seed", 3, "--rounding", "up") == 1
    assert "rounding nearest-even and not up, random vectors 50 and not 40\n" in capsys.readouterr().out
    # Lines that are cut short, or hold operands, do not answer the vectors of a record that lies beside.
    (tmp_path / "short.txt").write_bytes(answers.read_bytes()[: answers.stat().st_size // 2 // 3 * 3])
    for file in ("short.txt", "all.tv"):
        if file == "all.tv":
            assert run("vectors", "encode", "-o", tmp_path / file, "--rounding", "down", "-q") == 0
            (tmp_path / file).write_bytes((tmp_path / file).read_bytes().replace(b"\n", b"\n", 1)[:-6])
        assert run("verify", "encode", tmp_path / file, "-n", 50) == 1
        assert "e.mem.manifest.json" not in capsys.readouterr().out
    # A record of the vectors asked, or none of the operation, is nothing to speak of.
    answers.write_text(answers.read_text().replace("\n3F\n", "\n3E\n"))
    assert run("verify", "encode", answers, "-n", 50, "--seed", 3) == 1
    assert "cause:" not in capsys.readouterr().out
    assert run("verify", "decode", answers) == 1
    assert "cause:" not in capsys.readouterr().out


def test_an_unrelated_record_is_no_cause(capsys, tmp_path):
    """A manifest of as many vectors lies there, and the answers are not to them, but a faulty design's."""
    assert run("vectors", "multiply", "-f", "rf6", "-o", tmp_path / "m.mem", "--rounding", "up", "-q") == 0
    asked = vectors("multiply", "rf6")
    answers = tmp_path / "answers.txt"
    for results in (vectors("multiply", "rf6", rounding="down").results, asked.results ^ (asked.operands[0] == 9)):
        answers.write_text("".join(f"{code:02X}\n" for code in results.tolist()))
        assert run("verify", "multiply", answers, "-f", "rf6") == 1
        assert "cause:" not in capsys.readouterr().out


def test_nothing_is_half_written(capsys, tmp_path, monkeypatch):
    def breaks(*_, **__):
        yield b"00"
        raise OSError(28, "No space left on device", None)

    monkeypatch.setattr("rf8sim.hardware.vectors.files.lines", breaks)
    (tmp_path / "v").mkdir()
    assert run("vectors", "multiply", "-o", tmp_path / "v" / "m.tv") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list((tmp_path / "v").iterdir()) == []


def pipe(dut: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``rf8sim vectors multiply | dut | rf8sim verify multiply`` as a shell does."""
    command = [sys.executable, "-m", "rf8sim"]
    asked = subprocess.Popen([*command, "vectors", "multiply", *arguments], stdout=subprocess.PIPE)
    answered = subprocess.Popen([sys.executable, "-c", dut], stdin=asked.stdout, stdout=subprocess.PIPE)
    asked.stdout.close()
    done = subprocess.run(
        [*command, "verify", "multiply", *(word for word in arguments if word != "--inputs-only")],
        stdin=answered.stdout, capture_output=True, text=True, check=False,
    )  # fmt: skip
    answered.stdout.close()
    asked.wait()
    answered.wait()
    return done


def test_a_design_in_a_pipe():
    """A tiny design that gets nothing but operands: right, then with one cell of its table wrong, then cut off."""
    asked = vectors("multiply", "rf6")
    table = asked.results.reshape(64, 64).tolist()
    right = pipe(f"TABLE = {table}\n{DUT}", "--format", "rf6", "--inputs-only")
    assert (right.returncode, right.stderr) == (0, "")
    assert right.stdout.startswith("PASS")
    table[0x1D][0x1D] ^= 1
    wrong = pipe(f"TABLE = {table}\n{DUT}", "--format", "rf6", "--inputs-only")
    assert wrong.returncode == 1
    assert "1 result is wrong" in wrong.stdout
    assert "a = 1D (1), b = 1D (1)" in wrong.stdout
    dies = pipe("import sys\nfor n, line in zip(range(100), sys.stdin): print(line, end='')", "--format", "rf6")
    assert dies.returncode == 1
    assert "100 answers for 4,096 vectors" in dies.stdout
    assert "Traceback" not in dies.stderr

"""The command line: what it prints and writes, and one sentence for whatever goes wrong."""

import csv
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import typer
from safetensors.numpy import save_file

import rf8sim
from rf8sim import cli

REPORT = ["report.html", "report.json", "report.md"]


@pytest.fixture
def checkpoint(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {"a.weight": rng.laplace(size=(20, 30)).astype(np.float32), "a.bias": np.ones(3, np.float32)}
    save_file({**tensors, "ids": np.arange(3)}, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def refused(capsys, arguments, *, code=2):
    """Run a command that must fail and return its one sentence."""
    assert cli.main([str(argument) for argument in arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("rf8sim: error: ")
    assert err.count("\n") == 1
    return err


# --- help ---------------------------------------------------------------------------------------------------


COMMANDS = sorted(command.name or command.callback.__name__ for command in cli.app.registered_commands)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_has_an_example(capsys, command, option):
    assert cli.main([*command, option]) == 0
    out, err = capsys.readouterr()
    assert "Example" in out
    assert "rf8sim " + " ".join(command) in out.split("Example")[1]
    assert err == ""


@pytest.mark.parametrize("command", ["report", "fit", "evaluate", "formats", "compare"])
def test_help_names_what_an_option_takes(capsys, command):
    cli.main([command, "--help"])
    options = capsys.readouterr().out.split("Options:")[1]
    assert not re.search(r"<(int|str|float|path)", options)


def test_a_figure_in_a_file_is_refused_before_it_is_drawn(capsys, tmp_path):
    (tmp_path / "afile").write_text("")
    said = refused(capsys, ["formats", "rf8", "--figure", tmp_path / "afile" / "x.svg"])
    assert "afile is not a folder" in said


def test_there_are_commands():
    assert {"report", "fit", "evaluate", "formats", "quantize", "vectors", "verify", "hdl", "doctor"} <= set(COMMANDS)


def test_no_arguments_and_version(capsys):
    assert cli.main([]) == 0
    assert capsys.readouterr().out.startswith("Usage: rf8sim")
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"rf8sim {rf8sim.__version__}\n"


def test_help_imports_nothing_heavy():
    code = "import sys; from rf8sim.cli import main; main(['report', '--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(eval(done.stdout.splitlines()[-1]))
    assert not {"numpy", "numba", "scipy", "matplotlib", "ml_dtypes", "safetensors", "jinja2", "torch"} & loaded


# --- report -------------------------------------------------------------------------------------------------


def test_report(capsys, checkpoint, tmp_path):
    assert cli.main(["report", str(checkpoint), "-o", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == REPORT
    assert "Most accurate is" in out
    for name in ("rf8", "e4m3fn", "e5m2", "e3m4", "int8", *REPORT):
        assert name in out
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    from rf8sim.report.sections.contents import Contents
    from rf8sim.report.sections.defaults import quantized

    record = quantized(Contents.from_json(data).experiment).total.schemes[0]
    assert f"{record.sqnr_db:.2f}" in out


def test_report_options(capsys, checkpoint, tmp_path):
    arguments = ["report", checkpoint, "-o", tmp_path, "--format", "rf8/1x16,max@residual", "-f", "mxfp4", "-q"]
    arguments += ["-f", "rf(3,8)", "-f", "rf8/1x16:e8m0fnu,max@residual"]
    arguments += ["--include", "a.*", "--exclude", "*.bias", "--no-figures", "--seed", 3]
    assert cli.main([str(argument) for argument in arguments]) == 0
    assert capsys.readouterr() == ("", "")
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["settings"] == {
        "schemes": [rf8sim.as_scheme(name).to_json() for name in ("rf8/1x16,max@residual", "mxfp4", "rf(3,8)/channel")],
        "seed": 3,
        "include": ["a.*"],
        "exclude": ["*.bias"],
    }
    assert [tensor["name"] for tensor in data["tensors"]] == ["a.weight"]
    assert data["skipped"] == []
    assert "<svg" not in (tmp_path / "report.html").read_text()


def test_help_names_arguments_alone(capsys):
    assert cli.main(["report", "--help"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"report \[OPTIONS\] CHECKPOINT(\.\.\.)?$", shown, re.MULTILINE)  # dots with a newer typer
    assert not any(odd in shown for odd in ("{", "<", "list["))


@pytest.mark.parametrize(
    "command", [command.name or command.callback.__name__ for command in cli.app.registered_commands]
)
def test_help_has_words_for_types_and_defaults(capsys, command):
    assert cli.main([command.replace("_", "-"), "--help"]) == 0
    shown = capsys.readouterr().out
    assert not re.findall(r"<(?:str|int|float|path|text|integer)[a-z ]*>|\[default: \(", shown, re.IGNORECASE)
    assert not re.findall(r"\b(?:TEXT|INTEGER|FLOAT|INTEGER RANGE)\b", shown)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bogus"], "No such command 'bogus'; see rf8sim --help"),
        (["report"], "Missing argument 'CHECKPOINT"),
        (["report", "M"], "Missing option '--output' / '-o'; see"),
        (["report", "M", "-o", "OUT", "--bogus"], "No such option: --bogus"),
        (["report", "M", "-o", "OUT", "--seed", "-1"], "Invalid value for '--seed'"),
        (["report", "M", "-o", "OUT", "--scaling", "channel"], "No such option: --scaling"),
        (["report", "M", "-o", "OUT", "-f", "int8/1x0"], "scheme 'int8/1x0': a block has at least 1 element"),
        (["report", "M", "-o", "OUT", "--formt", "rf8"], "No such option: --formt"),
        (["report", "M", "-o", "OUT", "-f", "rf9"], "unknown format or scheme 'rf9': did you mean 'rf8'?"),
        (["report", "M", "-o", "OUT", "-f", "mxfp5"], "unknown format or scheme 'mxfp5': did you mean 'mxfp4'?"),
        (["report", "M", "-o", "OUT", "-f", "int8/row"], "scheme 'int8/row': unknown block 'row'"),
        (["report", "M", "-o", "OUT", "-f", "int8/tensor,mx"], "unknown scale rule 'mx': did you mean 'max'?"),
        (["report", "M", "-o", "OUT", "-f", "int8@nearest"], "unknown rounding"),
        (["report", "M", "-o", "OUT", "-f", "e4m3fn@residual"], "for the RF family only (rf8, ...), not for 'e4m3fn'"),
        (["report", "M", "M", "-o", "OUT"], "the same checkpoint was given twice"),
        (["report", "M.npz", "-o", "OUT"], "M.npz: no such file or folder"),
        (["report", "M", "-o", "OUT", "--include", "zz"], "no tensor is left by the patterns"),
        (["report", "M", "-o", "OUT", "--include", "ids"], "'ids': I64 is not a floating-point type"),
        (["fit"], "Missing argument"),
        (["fit", "M.npz"], "no such file or folder"),
        (["formats", "int_8"], "unknown format or scheme 'int_8': did you mean 'int8'?"),
        (
            ["formats", "mxfp4"],
            "'mxfp4' is a scheme (e2m1fn/1x32:e8m0fnu,floor); for its element codes run 'rf8sim formats e2m1fn'",
        ),
        (["formats", "int8/channel"], "is a scheme; for its element codes run 'rf8sim formats int8'"),
        (["formats", "mxfp8"], "did you mean 'mxfp8_e4m3' or 'mxfp8_e5m2'?"),
        (["formats", "rf8", "--schemes"], "--schemes lists the named schemes: leave out names of formats"),
        (["formats", "--csv", "--json"], "--csv and --json exclude each other"),
        (["formats", "--figure", "OUT.gif"], "unknown kind of figure: expected .svg, .png or .pdf"),
    ],
)
def test_bad_input(capsys, checkpoint, tmp_path, arguments, message):
    places = {"M": checkpoint, "OUT": tmp_path / "out", "OUT.gif": tmp_path / "x.gif"}
    before = sorted(tmp_path.rglob("*"))
    assert message in refused(capsys, [places.get(argument, argument) for argument in arguments])
    assert sorted(tmp_path.rglob("*")) == before


def test_damaged_checkpoint(capsys, checkpoint, tmp_path):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-4])
    assert "truncated or damaged" in refused(capsys, ["report", checkpoint, "-o", tmp_path / "out"])
    assert not (tmp_path / "out").exists()


def test_output_that_cannot_be_written(capsys, checkpoint, tmp_path):
    assert "is not a folder" in refused(capsys, ["report", checkpoint, "-o", checkpoint])
    assert "is not a folder" in refused(capsys, ["report", checkpoint, "-o", checkpoint / "sub"])
    figure = tmp_path / "values.svg"
    figure.mkdir()
    assert "cannot be written: Is a directory" in refused(capsys, ["formats", "rf8", "--figure", figure], code=1)


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(capsys, checkpoint, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "Permission denied" in refused(capsys, ["report", checkpoint, "-o", tmp_path / "locked"])


def test_permission_is_asked_before_the_work(capsys, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda _, mode: mode == os.R_OK)
    monkeypatch.setattr("rf8sim.studies.measuring.run", None)
    message = refused(capsys, ["report", checkpoint, "-o", tmp_path / "y"])
    assert "y: cannot be written: Permission denied" in message


@pytest.mark.parametrize(
    "command", [["fit"], ["report", "-o", "out"], ["tradeoff", "-o", "out"], ["plan", "--budget", "bits<=9"]]
)
def test_codes_are_not_measured_as_weights(capsys, checkpoint, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["quantize", str(checkpoint), "-o", "q.safetensors", "-f", "e4m3fn", "-q"]) == 0
    message = refused(capsys, [*command, "q.safetensors"])
    assert "q.safetensors: already quantized; run 'rf8sim dequantize' first or pass the original" in message
    assert not (tmp_path / "out").exists()


WRITERS = {
    "report": ["M", "-o"], "evaluate": ["M", "-o"], "tradeoff": ["M", "-o"], "prune": ["M", "-o"], "rf-family": ["-o"],
    "hdl": ["-o"], "vectors": ["add", "-f", "rf6", "-o"], "verify": ["add", "M", "--junit"], "quantize": ["M", "-o"],
    "dequantize": ["M", "-o"], "plan": ["M", "--budget", "bits<=9", "-o"], "fit": ["M", "--report"],
    "formats": ["rf8", "--figure"], "compare": ["M", "M", "--report"], "compare-schemes": ["M", "-o"],
    "pack": ["M", "-o"], "unpack": ["M", "-o"],
    "compress": ["M", "--text", "M", "--budget", "kl<=1", "-o"],
}  # fmt: skip


def test_every_command_that_writes_is_known():
    def writes(command):
        return any(option.name in ("output", "figure", "junit") for option in command.params)

    group = typer.main.get_command(cli.app)
    assert {name for name, command in group.commands.items() if writes(command)} <= set(WRITERS)


@pytest.mark.parametrize("command", WRITERS)
def test_the_folder_around_what_is_written_must_be_there(capsys, checkpoint, tmp_path, monkeypatch, command):
    """A slip in a path makes no folders; ``-`` makes no file of that name."""
    monkeypatch.chdir(tmp_path)
    words = [checkpoint if word == "M" else word for word in WRITERS[command]]
    before = sorted(tmp_path.rglob("*"))
    message = refused(capsys, [command, *words, "typo/out.toml"])
    option = {"-o": "--output"}.get(words[-1], words[-1])
    assert f"{option} typo/out.toml: cannot be written: there is no folder typo: make it first" in message
    assert f"{option} - is not taken for standard output: name a f" in refused(capsys, [command, *words, "-"])
    assert sorted(tmp_path.rglob("*")) == before


def test_interrupt_leaves_nothing(capsys, checkpoint, tmp_path, monkeypatch):
    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("rf8sim.report.render.html", interrupted)
    before = sorted(tmp_path.rglob("*"))
    arguments = ["report", checkpoint, "-o", tmp_path / "out", "--no-figures"]
    assert "interrupted" in refused(capsys, arguments, code=130)
    assert sorted(tmp_path.rglob("*")) == before


def test_interrupt_while_writing(capsys, checkpoint, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.md").write_text("older")
    real = os.replace

    def interrupted(source, target):
        if os.fspath(target).endswith("report.md"):
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr("os.replace", interrupted)
    refused(capsys, ["report", checkpoint, "-o", tmp_path / "out", "--no-figures"], code=130)
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["older"]


def test_a_bug_is_not_hidden(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("rf8sim.report.render.html", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["report", str(checkpoint), "-o", str(tmp_path / "out"), "--no-figures"])


# --- fit and formats ----------------------------------------------------------------------------------------


def test_fit(capsys, checkpoint):
    assert cli.main(["fit", str(checkpoint)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("a.weight", "20 × 30", "all together", "GGD shape", "distinct magnitude"):
        assert word in out
    assert cli.main(["fit", str(checkpoint), "--include", "*.weight", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    [tensor] = data["tensors"]
    assert abs(tensor["fit"]["shape"] - 1) < 5 * tensor["fit"]["shape_error"]


def test_formats_lists_all(capsys):
    assert cli.main(["formats"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in rf8sim.format_names())
    assert cli.main(["formats", "--json"]) == 0
    rows = {row["format"]: row for row in json.loads(capsys.readouterr().out)}
    assert sorted(rows) == sorted(rf8sim.format_names(16))
    assert rows["rf8"]["zero"] == "0x00"
    assert rows["rf8"]["NaN"] == "0x80"
    assert rows["e5m2"]["infinities"] == "0x7C 0xFC"
    assert rows["e8m0fnu"]["Gaussian SQNR, dB"] is None


def test_formats_lists_the_named_schemes(capsys):
    assert cli.main(["formats"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in rf8sim.scheme_names())
    assert cli.main(["formats", "--schemes", "--json"]) == 0
    rows = {row["scheme"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == rf8sim.scheme_names()
    assert rows["mxfp4"]["bits/w."] == 4.25
    assert rows["nvfp4"]["bits/w."] == 4.5 + 32 / 4096**2
    for row in rows.values():
        assert str(rf8sim.as_scheme(row["text form"])) == row["scheme"]
        assert row["source"]


def test_gaussian_sqnr_against_samples(capsys):
    assert cli.main(["formats", "rf8", "e4m3fn", "int8", "--csv"]) == 0
    rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
    x = np.random.default_rng(0).standard_normal(200_000)
    for row in rows:
        best = -np.inf
        fmt = rf8sim.get_format(row["format"])
        for scale in 2.0 ** np.arange(0, 8, 1 / 4) / fmt.max:
            y = rf8sim.decode(rf8sim.encode(x / scale, fmt), fmt, dtype=np.float64) * scale
            best = max(best, 10 * np.log10(np.sum(x**2) / np.sum((x - y) ** 2)))
        assert float(row["Gaussian SQNR, dB"]) == pytest.approx(best, abs=0.15)


@pytest.mark.parametrize("name", ["rf8", "e4m3fn", "e5m2", "int8", "nf4"])
def test_code_table(capsys, name):
    fmt = rf8sim.get_format(name)
    assert cli.main(["formats", name, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [int(row["code"], 16) for row in rows] == list(range(1 << fmt.bits))
    for row, value in zip(rows, fmt.values, strict=True):
        assert int(row["bits"], 2) == int(row["code"], 16)
        assert len(row["bits"]) == fmt.bits
        assert (row["value"] == "") == np.isnan(value)
        if row["value"]:
            assert float(row["value"]).hex() == float(value).hex()
    assert cli.main(["formats", name, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1 << fmt.bits
    assert cli.main(["formats", name]) == 0
    assert "0x0F" in capsys.readouterr().out


def test_kinds_of_codes(capsys):
    cli.main(["formats", "rf8", "--csv"])
    kinds = [row["kind"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert {kind: kinds.count(kind) for kind in kinds} == {"zero": 1, "NaN": 1, "alias": 30, "number": 224}


def test_figure_of_formats(capsys, tmp_path):
    for name in ("values.svg", "values.png"):
        assert cli.main(["formats", "rf8", "int8", "--figure", str(tmp_path / name)]) == 0
        assert (tmp_path / name).stat().st_size > 1000
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_goes_away():
    command = [sys.executable, "-m", "rf8sim", "formats", "rf8", "--csv"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() in (0, 1)  # 1 is what typer makes of a broken pipe


# --- memory -------------------------------------------------------------------------------------------------

_GROWTH = """
import resource, sys
from rf8sim.cli import main
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
options = ["--no-figures", "-q", *sys.argv[4:]]
assert main(["report", sys.argv[1], "-o", sys.argv[3], *options]) == 0
before = peak()
assert main(["report", sys.argv[2], "-o", sys.argv[3], *options]) == 0
print(peak() - before)
"""


@pytest.mark.parametrize(
    "block", ["tensor", *(pytest.param(block, marks=pytest.mark.slow) for block in ("channel", "1x32", "128x128"))]
)
def test_memory_does_not_grow_with_the_file(tmp_path, block):
    for name, rows in (("small", 1 << 10), ("big", 40 << 10)):
        entry = {"dtype": "F32", "shape": [rows, 1 << 10], "data_offsets": [0, rows << 12]}
        text = json.dumps({"w": entry}).encode()
        with (tmp_path / f"{name}.safetensors").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + (rows << 12))  # zeros that take no room: 4 and 160 MiB
    places = [tmp_path / "small.safetensors", tmp_path / "big.safetensors", tmp_path / "out"]
    command = [sys.executable, "-c", _GROWTH, *places, "-f", f"rf8/{block},max", "-f", f"int8/{block},max"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40 << 10  # KiB


# --- what a reader is told ----------------------------------------------------------------------------------


def test_the_terminal_says_why_a_tensor_was_not_measured(checkpoint, tmp_path, capsys):
    assert cli.main(["report", str(checkpoint), "-o", str(tmp_path / "r"), "--no-figures"]) == 0
    assert "Not measured: 'ids': " in capsys.readouterr().out


def test_a_wrong_use_points_to_the_command_s_own_help(checkpoint, capsys):
    assert refused(capsys, ["report", checkpoint]).endswith("; see rf8sim report --help\n")


def test_an_empty_tensor_alone_is_called_empty(tmp_path, capsys):
    save_file({"e": np.zeros((0, 3), np.float32)}, tmp_path / "e.safetensors")
    assert "'e': it has no elements" in refused(capsys, ["report", tmp_path / "e.safetensors", "-o", tmp_path / "r"])

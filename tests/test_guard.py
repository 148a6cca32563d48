"""Guard rails: what breaks a bound is not written; protection protects; the manifest says what was checked."""

import hashlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import rf8sim
from rf8sim import cli
from rf8sim.checkpoints.guard import command_metric
from rf8sim.checkpoints.manifest import RefusedError, manifest_path
from rf8sim.checkpoints.plan import Plan, Recipe
from rf8sim.checkpoints.protect import Protection, read_sensitivity
from rf8sim.checkpoints.quantized import open_quantized
from rf8sim.models.loss import activation_power, model_loss, window_losses
from rf8sim.models.transformer import load_model, read_windows

LM = Path(__file__).parents[1] / "examples" / "lm" / "model.safetensors"
DATA = LM.parent / "validation.bin"


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {"a.weight": rng.normal(size=(20, 30)).astype(np.float32), "a.bias": np.ones(20, np.float32)}
    save_file(tensors, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# --- requirements -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "passes"),
    [("sqnr>=28dB", True), ("sqnr>=40dB", False), ("worst-sqnr>=28", True), ("worst-sqnr>=40", False),
     ("bits<=200", True), ("bits<=8", False)],
)  # fmt: skip
def test_bounds(source, tmp_path, capsys, bound, passes):
    out = tmp_path / "q.safetensors"
    rf8sim.quantize_checkpoint(source, out, Plan(Recipe("int8")))
    before = files(tmp_path)
    code = run("quantize", source, "-o", out, "-f", "rf8", "--require", bound)
    text, err = capsys.readouterr()
    if passes:
        assert code == 0
        assert re.search(
            r"Passed: (SQNR|SQNR of the worst tensor|size) \S+ (dB|bits per weight) [<>]= \S+ (dB|bits)", text
        )
        assert "Passed: the file read back is identical to what was written." in text
        assert open_quantized(out)["a.weight"].format.name == "rf8"
    else:
        assert (code, text) == (1, "")
        assert err.startswith(f"rf8sim: refused: {out.name}: not written: ")
        assert re.search(r"(SQNR|size) .*\S+ (dB|bits per weight) [<>] required \S+ (dB|bits per weight)", err)
        assert ("everything counted: codes" in err) is bound.startswith("bits")
        assert err.count("\n") == 1
        assert files(tmp_path) == before


def test_manifest(source, tmp_path):
    out = tmp_path / "q.safetensors"
    manifest = rf8sim.quantize_checkpoint(source, out, Plan(Recipe("e4m3fn")), require=["sqnr>=25dB", "bits<=120"])
    data = json.loads(manifest_path(out).read_bytes())
    assert [check["name"] for check in data["checks"]] == ["read back", "same tensors", "sqnr>=25dB", "bits<=120"]
    assert all(check["passed"] for check in data["checks"])
    assert data["seals"] == dict(open_quantized(out).seals)
    weight, bias = data["tensors"] if data["tensors"][0]["name"] == "a.weight" else data["tensors"][::-1]
    found = rf8sim.load_quantized(out)["a.weight"].astype(np.float64)
    original = load_file(source)["a.weight"].astype(np.float64)
    sqnr = 10 * np.log10(np.sum(original**2) / np.sum((found - original) ** 2))
    assert weight["sqnr_db"] == pytest.approx(sqnr, abs=1e-4) == data["checks"][2]["figure"]
    assert data["checks"][2]["bound"] == 25
    assert data["checks"][3]["figure"] == pytest.approx(8 * out.stat().st_size / 620)
    assert bias == {
        "name": "a.bias", "scheme": None, "elements": 20, "bits_per_weight": 32.0, "sqnr_db": None,
        "signal": 0.0, "noise": 0.0, "differing": 0,
        "reason": "norms, embeddings, biases",
        "original_sha256": hashlib.sha256(np.ones(20, np.float32).tobytes()).hexdigest(),
    }  # fmt: skip
    assert manifest.passed
    assert sum(data["bits"].values()) == pytest.approx(data["bits_per_weight"])
    assert data["bits"]["kept tensors"] == 32 * 20 / 620
    assert data["bits"]["scales"] == 32 * 20 / 620
    assert data["bits"]["codes"] == 8 * 600 / 620


def test_infinities_do_not_become_numbers(tmp_path):
    save_file({"a.weight": np.array([[1.0, np.inf]], np.float32)}, tmp_path / "m.safetensors")
    message = r"'a.weight' has 1 infinite or NaN elements that would become numbers: replace them .* --keep 'a.weight'"
    with pytest.raises(RefusedError, match=message.replace(" --", ".*--")):
        rf8sim.quantize_checkpoint(tmp_path / "m.safetensors", tmp_path / "q.safetensors")
    assert sorted(files(tmp_path)) == ["m.safetensors"]


def test_the_models_loss(tmp_path, capsys):
    """The guard's loss is that of the weights that load, and a format that loses too much is refused."""
    out = tmp_path / "lm.safetensors"
    options = ["--tokens", 1024, "-q"]
    assert run("quantize", LM, "-o", out, "-f", "rf8", "--require", "loss<=+1%", *options) == 0
    check = json.loads(manifest_path(out).read_bytes())["checks"][-1]
    model = load_model(LM)
    windows = read_windows(DATA, model, tokens=1024)
    mine = window_losses(model, windows, rf8sim.load_quantized(out))
    assert check["figure"] == pytest.approx(mine.mean(), abs=1e-6)
    assert check["bound"] == pytest.approx(1.01 * window_losses(model, windows).mean(), abs=1e-6)
    before = files(tmp_path)
    assert run("quantize", LM, "-o", out, "-f", "e2m1fn", "--require", "loss<=+1%", *options) == 1
    assert "nats per token > required" in capsys.readouterr().err
    assert files(tmp_path) == before
    assert run("quantize", LM, "-o", out, "-f", "e2m1fn", "--require", "loss<=+50%", *options) == 0


METRIC = """
import sys
from safetensors.numpy import load_file
print("tensors", len(load_file(sys.argv[1])))
print("mean", abs(load_file(sys.argv[1])["a.weight"]).mean())
"""


@pytest.mark.parametrize(("bound", "code"), [("metric>=-1%", 0), ("metric>=+1%", 1), ("metric>=0.5", 0)])
def test_a_users_command(source, tmp_path, bound, code):
    """It gets a plain checkpoint with the decoded weights, and then the original."""
    script = tmp_path / "a script.py"
    script.write_text(METRIC)
    out = tmp_path / "q.safetensors"
    command = f"'{sys.executable}' '{script}' {{}}"
    assert run("quantize", source, "-o", out, "-q", "--require", bound, "--evaluate", command) == code
    assert out.exists() is (code == 0)
    if code == 0:
        check = json.loads(manifest_path(out).read_bytes())["checks"][-1]
        assert check["figure"] == pytest.approx(np.abs(rf8sim.load_quantized(out)["a.weight"]).mean(), rel=1e-5)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("false {}", "the evaluation command failed with exit status 1"),
        ("echo no figure; true {}", "the evaluation command printed no number"),
        ("echo nan {} is nan", "metric nan is not >= "),
    ],
)
def test_a_command_that_fails_fails_the_check(source, tmp_path, capsys, command, message):
    code = run("quantize", source, "-o", tmp_path / "q.safetensors", "--require", "metric>=0", "--evaluate", command)
    assert code == 1
    assert message in capsys.readouterr().err
    assert sorted(files(tmp_path)) == ["m.safetensors"]


def test_paths_with_spaces_reach_the_command(tmp_path):
    path = tmp_path / "it's a file.npz"
    path.write_text("x")
    assert command_metric("test -f {} && echo 1.5e-1", path)(None) == 0.15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--require", "loss<=+1%", "--evaluate", "echo {}"], "write metric in place of loss"),
        (["--require", "metric>=1"], "give it with --evaluate"),
        (["--require", "metric>=1", "--evaluate", "echo 1"], "must have {} where the checkpoint's path goes"),
        (["--require", "loss<=+1%"], "config.json: cannot be read"),
        (
            ["--require", "sqnr>25"],
            "such as 'sqnr>=25dB', 'worst-sqnr>=20dB', 'bits<=6', 'loss<=+1%' or 'metric>=-1%', got",
        ),
        (["--require", "loss<=1%"], "percentages are relative to the unquantized model: write loss<=+1%"),
        (["--require", "sqnr>=25%"], "sqnr is given in dB, not in %"),
        (["--protect", "much"], "--protect takes a share such as 1% or 0.01, got 'much'"),
        (["--protect", "100%"], "the share of protected weights must lie between 0 and 1, got 1"),
        (["--protect", "1%", "--protect-in", "int8"], "unknown type of protected weights 'int8'"),
        (["--calibrate", "x.bin"], "--calibrate needs --protect SHARE, e.g. --protect 1%"),
        (["--sensitivity", "x.npz"], "--sensitivity needs --protect SHARE, e.g. --protect 1%"),
        (
            ["-f", "mxfp4", "-f", "nvfp4"],
            "--format without PATTERN= is given twice (mxfp4, nvfp4): quantize writes one checkpoint; give one, or "
            "PATTERN=SCHEME",
        ),
        (["-f", "a.*=rf8", "-f", "b.*=rf8", "-f", "a.*=int8"], "--format for 'a.*' is given twice (rf8, int8)"),
        (["-f", "rf9"], "unknown format or scheme 'rf9': did you mean 'rf8'?"),
        (["-f", "*.weight=rf9"], "unknown format or scheme 'rf9': did you mean 'rf8'?"),
        (["-f", "rf8/row"], "unknown block 'row'"),
        (["--plan", "none.toml"], "none.toml: the plan cannot be read"),
        (["--entropy", "zip"], "unknown entropy coder 'zip'"),
        (["-f", "int8@residual"], "residual"),
    ],
)
def test_bad_options_are_one_sentence(source, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run("quantize", source, "-o", tmp_path / "q.safetensors", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("rf8sim: error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "q.safetensors").exists()


def test_outputs_that_are_refused(source, tmp_path, capsys):
    assert run("quantize", source, "-o", source) == 2
    assert "output would overwrite the input" in capsys.readouterr().err
    assert run("quantize", source, "-o", tmp_path) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    for name in ("t.bin", "t.pt", "t.NPZ"):  # a folder of that name was not meant
        assert run("quantize", source, "-o", tmp_path / name) == 2
        assert f"{name}: the output is a .safetensors file or a folder" in capsys.readouterr().err
        assert not (tmp_path / name).exists()
    (tmp_path / "link.safetensors").symlink_to(source)
    assert run("quantize", source, "-o", tmp_path / "link.safetensors") == 2
    (tmp_path / "dir.safetensors").mkdir()
    assert run("quantize", source, "-o", tmp_path / "dir.safetensors") == 1
    assert "dir.safetensors: cannot be written: Is a directory" in capsys.readouterr().err
    assert run("quantize", source, "-o", tmp_path / "new-1.5b", "-q") == 0
    assert run("quantize", source, "-o", tmp_path / "new", "-q") == 0
    assert run("dequantize", tmp_path / "new", "-o", tmp_path / "t.bin") == 2
    assert "t.bin: the output is a .safetensors file or a folder" in capsys.readouterr().err
    assert sorted(files(tmp_path / "new")) == ["m.safetensors", "manifest.json"]


def test_options_and_plans(source, tmp_path, capsys):
    tensors = {"a.weight": np.ones((4, 4), np.float32), "b.weight": np.ones((4, 4), np.float32),
               "embed.weight": np.ones((4, 4), np.float32), "bias": np.ones(4, np.float32)}  # fmt: skip
    save_file(tensors, source)
    (tmp_path / "plan.toml").write_text("[defaults]\nscheme = 'e5m2'\n[[tensor]]\npattern = 'b.*'\nscheme = 'int8'\n")

    def formats(*arguments):
        out = tmp_path / "q.safetensors"
        assert run("quantize", source, "-o", out, *arguments) == 0
        return {t.name: str(t.scheme) if t.recipe else "" for t in open_quantized(out)}

    none = {"embed.weight": "", "bias": ""}
    rf8, e5m2, int8 = "rf8/channel", "e5m2/channel", "int8/channel"
    assert formats() == {"a.weight": rf8, "b.weight": rf8, **none}
    assert "2 tensors kept in float32 (norms, embeddings, biases): bias, embed.weight." in capsys.readouterr().out
    assert formats("--plan", tmp_path / "plan.toml") == {"a.weight": e5m2, "b.weight": int8, **none}
    assert formats("--plan", tmp_path / "plan.toml", "-f", "b.*=rf8/tensor", "-f", "mxfp4") == {
        "a.weight": "mxfp4", "b.weight": "rf8", **none
    }  # fmt: skip
    zeros = "uint4/1x2:float16,max,zero=float16"
    assert formats("-f", zeros, "-f", f"b.*={zeros}@up") == {"a.weight": zeros, "b.weight": f"{zeros}@up", **none}
    assert formats("-f", "embed*=int8", "--keep", "b.*") == {
        "a.weight": rf8, "b.weight": "", "embed.weight": int8, "bias": ""
    }  # fmt: skip
    assert formats("--everything", "-f", "int8", "-q") == dict.fromkeys(tensors, int8)
    capsys.readouterr()
    assert run("quantize", source, "-o", tmp_path / "j.safetensors", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads(manifest_path(tmp_path / "j.safetensors").read_bytes())
    assert written.pop("rf8sim_seal")
    assert printed == written


# --- protection ---------------------------------------------------------------------------------------------


def test_outliers_are_protected_and_the_gain_is_recorded(tmp_path, capsys):
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(32, 64)).astype(np.float32)
    weight[rng.integers(0, 32, 8), rng.integers(0, 64, 8)] = 60
    save_file({"a.weight": weight}, tmp_path / "m.safetensors")
    out = tmp_path / "q.safetensors"
    options = ["-f", "int8/tensor,max"]
    assert run("quantize", tmp_path / "m.safetensors", "-o", out, *options, "--protect", "0.5%") == 0
    assert "Protected (0.500% kept in exact, by size of the error): sqnr_db" in capsys.readouterr().out
    places, values = open_quantized(out)["a.weight"].exact()
    assert set(np.flatnonzero(weight.ravel() == 60)) <= set(places)
    assert (values == weight.ravel()[places]).all()
    gain = json.loads(manifest_path(out).read_bytes())["gain"]
    assert gain["sqnr_db"][1] > gain["sqnr_db"][0] + 15
    assert gain["bits_per_weight"][1] > gain["bits_per_weight"][0]
    found = rf8sim.load_quantized(out)["a.weight"]
    assert 10 * np.log10(np.sum(weight**2) / np.sum((found - weight) ** 2)) == pytest.approx(
        gain["sqnr_db"][1], abs=1e-3
    )


def test_sensitivity_decides_what_is_protected(tmp_path):
    rng = np.random.default_rng(2)
    weight = rng.normal(size=(8, 40)).astype(np.float32)
    columns, elements = np.ones(40), np.ones((8, 40))
    columns[7], elements[3, :] = 1e6, 1e6
    for sensitivity, chosen in ((columns, lambda p: p % 40 == 7), (elements, lambda p: p // 40 == 3)):
        save_file({"a.weight": sensitivity}, tmp_path / "s.safetensors")
        save_file({"a.weight": weight}, tmp_path / "m.safetensors")
        out = tmp_path / "q.safetensors"
        arguments = ["--protect", "0.02", "--sensitivity", tmp_path / "s.safetensors", "-q"]
        assert run("quantize", tmp_path / "m.safetensors", "-o", out, *arguments) == 0
        places, _ = open_quantized(out)["a.weight"].exact()
        assert places.size == 7
        assert chosen(places).all()
    with pytest.raises(ValueError, match="expected one number for each of its 320 elements or 40 columns"):
        Protection(0.1, sensitivity={"w": np.ones(3)}).cost("w", weight)
    save_file({"a.weight": -columns}, tmp_path / "s.safetensors")
    with pytest.raises(ValueError, match="must hold squares"):
        read_sensitivity(tmp_path / "s.safetensors")


def test_activation_power_is_the_mean_square_of_the_inputs():
    """Against the definition: what noise in the weights of one product does to its outputs."""
    model = load_model(LM)
    windows = read_windows(DATA, model, tokens=256)
    power = activation_power(model, windows)
    assert set(power) == {f"{name}.weight" for name in model.products}
    from rf8sim.models.transformer import forward

    seen = {}

    def product(name, x):
        seen[name] = x
        return x @ model.weights[f"{name}.weight"].T

    forward(model, windows[:, :-1].astype(np.int64), product)
    name = "blocks.1.mlp.down"
    x = seen[name].astype(np.float64)
    noise = np.random.default_rng(0).normal(size=(400, x.shape[1]))
    measured = np.mean((x @ noise.T) ** 2)
    assert measured == pytest.approx(np.sum(power[f"{name}.weight"]), rel=0.1)
    np.testing.assert_allclose(power[f"{name}.weight"], np.mean(x**2, axis=0), rtol=1e-5)


def test_calibration_and_judgement_use_different_windows(tmp_path, capsys):
    out = tmp_path / "lm.safetensors"
    arguments = [
        "-f",
        "e2m1fn/tensor,max",
        "--protect",
        "1%",
        "--calibrate",
        DATA,
        "--tokens",
        1024,
        "-q",
    ]
    assert run("quantize", LM, "-o", out, *arguments) == 0
    gain = json.loads(manifest_path(out).read_bytes())["gain"]
    assert gain["evaluated"][1] < gain["evaluated"][0]
    model = load_model(LM)
    windows = read_windows(DATA, model)[1::2]
    windows = windows[[index * len(windows) // 8 for index in range(8)]]
    loss = model_loss(LM, windows)
    mine = window_losses(model, windows, rf8sim.load_quantized(out)).mean()
    assert gain["evaluated"][1] == pytest.approx(mine, abs=1e-6)
    assert loss(None) < mine

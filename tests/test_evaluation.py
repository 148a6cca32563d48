"""A model run in a datapath: the same model as the example's, its products as stated, its loss where it should be."""

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import rf8sim
from rf8sim import cli
from rf8sim.arithmetic.accumulation import ENGINES
from rf8sim.checkpoints.checkpoint import CheckpointError
from rf8sim.models import evaluation
from rf8sim.models.datapath import Datapath
from rf8sim.models.evaluation import Evaluation, evaluate, paired
from rf8sim.models.transformer import forward, load_model, read_windows
from rf8sim.quantization.scaling import choose_scales
from rf8sim.report.sections import evaluation as evaluation_sections

LM = Path(__file__).parents[1] / "examples" / "lm"
sys.path.insert(0, str(LM))

import numpy_model  # noqa: E402

VALIDATION = LM / "validation.bin"


@pytest.fixture(scope="module")
def model():
    return load_model(LM / "model.safetensors")


@pytest.fixture(scope="module")
def windows(model):
    return read_windows(VALIDATION, model, 512)


@pytest.fixture(scope="module")
def config():
    return json.loads((LM / "config.json").read_text(encoding="utf-8"))


# --- the model ----------------------------------------------------------------------------------------------


def test_forward_is_the_example_model(model, config, windows):
    tokens = windows[:, :-1].astype(np.int64)
    logits = forward(model, tokens, lambda name, x: x @ model.weights[f"{name}.weight"].T)
    expected = numpy_model.forward(model.weights, config["model"], tokens)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, expected)


def test_documented_loss(model, config):
    """All windows in float32: the loss that config.json and the README state."""
    windows = read_windows(VALIDATION, model)
    assert len(windows) == config["validation"]["windows"]
    losses = []
    for start in range(0, len(windows), 64):
        part = windows[start : start + 64].astype(np.int64)
        logits = forward(model, part[:, :-1], lambda name, x: x @ model.weights[f"{name}.weight"].T)
        losses += evaluation._predictions(logits, part[:, 1:]).losses.tolist()
    assert np.mean(losses) == pytest.approx(config["validation"]["nats_per_byte"], abs=2e-6)


def test_baseline_is_the_example_loss(model, config, windows):
    [result] = evaluate(model, windows, [Datapath("int8", "int8")])
    assert result.baseline == pytest.approx(numpy_model.evaluate(model.weights, config["model"], windows), abs=1e-6)
    assert result.tokens == 512


def test_windows(model):
    whole = read_windows(VALIDATION, model)
    assert whole.shape == (512, 129)
    np.testing.assert_array_equal(read_windows(VALIDATION, model, 65536), whole)
    np.testing.assert_array_equal(read_windows(VALIDATION, model, 129), whole[[0, 256]])


# --- the datapath -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scheme",
    [
        "rf8@residual",
        "rf8/channel@residual",
        "e4m3fn",
        "e4m3fn/channel",
        "mxfp4",
        "nvfp4",
        "q4_0",
        "q4_1",
        "fp8_128x128",
        "int4/channel:float16,signed",
    ],
)
def test_weights_only_is_the_model_with_dequantized_weights(model, config, windows, scheme):
    changed = {key: rf8sim.quantize(w, scheme).dequantize() if w.ndim == 2 else w for key, w in model.weights.items()}
    expected = numpy_model.evaluate(changed, config["model"], windows)
    [result] = evaluate(model, windows, [Datapath(scheme)])
    assert result.loss == pytest.approx(expected, abs=2e-6)
    assert abs(result.cost) > 1e-4  # so that leaving weights as they are would be seen


@pytest.mark.parametrize("scaling", ["tensor", "channel"])
@pytest.mark.parametrize("inputs", ["rf8", "int8"])
def test_weights_and_activations(model, windows, inputs, scaling):
    """Against products of dequantized operands in float64, each activation's scale found by hand."""
    tokens, seen = windows[:, :-1].astype(np.int64), {}

    def plain(name, x):
        seen[name] = x
        return x @ model.weights[f"{name}.weight"].T

    forward(model, tokens, plain)
    weights = {
        key: rf8sim.quantize(w, f"rf8/{scaling}").dequantize() for key, w in model.weights.items() if w.ndim == 2
    }

    def product(name, x):
        if scaling == "tensor":
            rounded = rf8sim.quantize(x, inputs, scale=choose_scales(seen[name], inputs))
        else:
            rounded = rf8sim.quantize(x, f"{inputs}/channel,max")
        exact = rounded.dequantize(np.float64) @ weights[f"{name}.weight"].T.astype(np.float64)
        return exact.astype(np.float32)

    logits = forward(model, tokens, product, {**model.weights, **weights})
    expected = evaluation._predictions(logits, windows[:, 1:].astype(np.int64))
    [result] = evaluate(
        model, windows, [Datapath(f"rf8/{scaling}", inputs if scaling == "tensor" else f"{inputs}/channel,max")]
    )
    np.testing.assert_allclose(result.losses, expected.losses, atol=2e-3)  # a rounding that flips moves one activation
    assert result.loss == pytest.approx(expected.losses.mean(), abs=5e-4)
    assert result.divergence > 2e-3


def test_negative_control(model, windows):
    """Formats too coarse, accumulators too narrow and weights in the wrong place cost much, good ones little."""
    paths = [Datapath("rf8", "rf8"), Datapath("e2m1fn", "e2m1fn"), Datapath("rf8", "rf8", "e4m3fn")]
    paths += [Datapath("int8", "int8", "int:24"), Datapath("int8", "int8", "int:12")]
    good, coarse, rough, wide, narrow = evaluate(model, windows, paths)
    for bad in (coarse, rough, narrow):
        for fine in (good, wide):
            gap, error = paired(fine.losses, bad.losses)
            assert gap > max(0.05, 3 * error)
            assert bad.divergence > 5 * fine.divergence
            assert bad.agreement < fine.agreement - 0.05
    rng = np.random.default_rng(0)
    shuffled = {**model.weights, "head.weight": rng.permutation(model.weights["head.weight"])}
    [result] = evaluate(replace(model, weights=shuffled), windows, [Datapath("int8", "int8")])
    assert result.baseline > good.baseline + 1


def test_accumulators_differ_as_they_should(model, windows):
    two = windows[:2]
    held = ["exact", "float32", "float16", "bfloat16", "e5m2"]
    exact, single, half, brain, coarse = evaluate(model, two, [Datapath("rf8", "rf8", name) for name in held])
    moved = [np.abs(np.subtract(other.losses, exact.losses)).max() for other in (single, half, brain, coarse)]
    assert moved[0] < 1e-4
    assert all(0 < move < 0.02 for move in moved[1:3])
    assert coarse.divergence > 10 * exact.divergence
    one, whole = evaluate(model, two, [Datapath("rf8", "rf8", "e5m2", f"blocked:{k}") for k in (1, 512)])
    assert one.losses == coarse.losses
    assert whole.divergence < coarse.divergence / 2  # one rounding instead of hundreds


@pytest.mark.parametrize("inputs", [None, "int8/1x32,max", "uint8/tensor:float32,max,zero=uint8"])
def test_accumulators_of_block_scaled_products(model, windows, inputs):
    """Products of the numbers that codes stand for go into the stated accumulator; its shift rounds nothing."""
    kinds = ("exact", "bfloat16", "float16")
    exact, brain, half = evaluate(model, windows[:2], [Datapath("mxfp4", inputs, kind) for kind in kinds])
    moved = [np.abs(np.subtract(other.losses, exact.losses)).max() for other in (brain, half)]
    assert 0 < moved[1] < moved[0] < 0.02
    assert half.not_finite == 0
    [shifted] = evaluate(model, windows[:2], [Datapath("mxfp4", inputs, shift=9)])
    assert shifted.losses == exact.losses


@pytest.mark.parametrize(("scheme", "engine"), [("mxfp4", "blackwell-mxfp4"), ("nvfp4", "blackwell-nvfp4"),
                                                ("mxfp8_e4m3", "blackwell-mxfp8")])  # fmt: skip
def test_engines_of_block_scaled_codes(model, windows, scheme, engine):
    """Codes and the scales of their blocks go in: nearly the exact sums, and far from those of 6 bits."""
    paths = [Datapath(scheme, scheme, kind) for kind in ("exact", engine, "aligned:6:64")]
    exact, machine, coarse = evaluate(model, windows[:1], paths)
    moved = [np.abs(np.subtract(other.losses, exact.losses)).max() for other in (machine, coarse)]
    assert moved[0] < 1e-4 < 1e-3 < moved[1]


def test_shift(model, windows):
    """It rounds nothing by itself, and keeps float16 from overflowing."""
    one = windows[:1]
    for inputs in (None, "rf8"):
        plain, shifted = evaluate(model, one, [Datapath("rf8", inputs, shift=shift) for shift in (0, 7)])
        assert plain.losses == shifted.losses
    whole, automatic = evaluate(model, one, [Datapath("int8", "int8", "float16", shift=shift) for shift in (-4, None)])
    assert whole.not_finite > 0
    assert automatic.not_finite == 0
    assert automatic.cost < 0.05


@pytest.mark.parametrize("rounding", ["nearest-even", "stochastic"])
def test_batches_do_not_matter(model, windows, monkeypatch, rounding):
    path = Datapath(f"rf8/channel@{rounding}", f"rf8/channel,max@{rounding}", seed=3)
    [together] = evaluate(model, windows[:3], [path])
    monkeypatch.setattr(evaluation, "_BATCH", 1)
    [single] = evaluate(model, windows[:3], [path])
    assert together.losses == single.losses


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "rf9"}, "unknown format or scheme 'rf9': did you mean 'rf8'"),
        ({"activations": "int_8"}, "unknown format or scheme 'int_8'"),
        ({"accumulator": "float61"}, "unknown accumulator 'float61': did you mean 'float16'"),
        ({"accumulator": "int:24"}, "give the activations a format too"),
        ({"order": "backwards"}, "unknown order"),
        ({"weights": "rf8/row"}, "unknown block 'row'"),
        ({"weights": "rf8/tensor,least"}, "unknown scale rule"),
        ({"weights": "rf8@nearest"}, "unknown rounding mode"),
        ({"weights": "int8@residual"}, "for the RF family only"),
        (
            {"weights": "mxfp4", "activations": "int8", "accumulator": "int:24"},
            "one positive scale for the tensor or for each channel, not mxfp4",
        ),
        (
            {"weights": "int8/tensor:float16,signed", "activations": "int8", "accumulator": "int:24"},
            "one positive scale for the tensor or for each channel, not int8/tensor:float16,signed",
        ),
        ({"accumulator": "float32", "accumulator_rounding": "residual"}, "is not for accumulator"),
        ({"shift": 65}, "shift must be -64 to 64"),
    ],
)
def test_bad_datapath(model, windows, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model, windows[:1], [Datapath(**{"weights": "rf8", **options})])


def test_no_windows(model, windows):
    with pytest.raises(ValueError, match="no windows"):
        evaluate(model, windows[:0], [Datapath("rf8")])


# --- what is said of it -------------------------------------------------------------------------------------


def made(path, losses, divergences=(0.1, 0.1, 0.1)):
    return Evaluation("m", path, 6, (1.0, 2.0, 3.0), losses, divergences, 1.0, 0.0)


def test_json_round_trip():
    result = made(Datapath("rf8", "int8", "float16", shift=2), (1.0, float("nan"), 3.0))
    data = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert data["loss"] is None
    again = Evaluation.from_json(data)
    assert again.datapath == result.datapath
    assert str(again) == str(result)


def test_json_of_a_datapath_is_that_of_its_schemes():
    data = made(Datapath("mxfp4", "int8/channel,max"), (1.0, 2.0, 3.0)).to_json()
    assert data["datapath"]["weights"] == rf8sim.as_scheme("mxfp4").to_json()
    data["datapath"]["weights"] = "mxfp4"  # a text form is read too
    assert Evaluation.from_json(data).datapath == Datapath("mxfp4", "int8/channel,max")
    assert math.isnan(made(Datapath("rf8"), (1.0, math.inf, 3.0)).loss)
    del data["datapath"]["weights"]
    with pytest.raises(ValueError, match=r"field 'datapath\.weights' is missing"):
        Evaluation.from_json(data)
    with pytest.raises(ValueError, match="field 'tokens': expected int >= 0"):
        Evaluation.from_json({**made(Datapath("rf8"), (1.0, 2.0, 3.0)).to_json(), "tokens": -1})


def test_standard_error():
    before, after = np.random.default_rng(0).normal(size=(2, 20))
    mean, error = paired(before, after)
    assert mean == pytest.approx(np.mean(after - before))
    assert error == pytest.approx(np.std(after - before, ddof=1) / np.sqrt(20))


def test_noise_is_not_claimed():
    apart = [made(Datapath("rf8"), (1.1, 2.1, 3.1)), made(Datapath("int8"), (1.2, 2.21, 3.2))]
    noise = [made(Datapath("rf8"), (1.1, 2.1, 3.1)), made(Datapath("int8"), (1.5, 2.1, 3.0))]
    assert "Worse: int8" in " ".join(evaluation_sections.verdict(apart))
    text = " ".join(evaluation_sections.verdict(noise))
    assert "No significant difference: int8" in text
    assert "Worse" not in text
    assert "rf8 0.1000 ≈ int8 0.1000" in text
    lost = [*apart, made(Datapath("e5m2"), (float("nan"),) * 3, (float("nan"),) * 3)]
    assert "e5m2" not in " ".join(evaluation_sections.verdict(lost))


def test_one_window_has_no_standard_error():
    results = [
        Evaluation("m", Datapath("rf8", accumulator=held), 2, (1.0,), (loss,), (0.1,), 1.0, 0.0)
        for held, loss in (("exact", 1.1), ("float16", 1.2))
    ]
    text = " ".join(evaluation_sections.verdict(results))
    assert "at most 0.1 (+0.1: rf8," in text
    assert "nan" not in text


def test_what_else_is_compared():
    base = Datapath("rf8", "rf8", "exact")
    worse, noisy = (1.2, 2.2, 3.2), (1.5, 2.0, 3.0)
    results = [
        made(base, (1.1, 2.1, 3.1)),
        made(Datapath("rf8@residual", "rf8@residual"), worse, (0.3, 0.3, 0.4)),
        made(Datapath("rf8/channel", "rf8/channel,max"), (1.1, 2.1, 3.1), (0.05, 0.05, 0.05)),
        made(replace(base, accumulator="float16"), noisy, (0.2, 0.2, 0.3)),
        msgspec.structs.replace(made(replace(base, accumulator="e5m2"), worse), not_finite=0.5),
    ]
    text = " ".join(evaluation_sections.verdict(results))
    assert "residual in place of nearest-even adds +0.1000 ± 0.0000" in text
    assert "it is worse in 1 of 1 cases; by divergence, in 1." in text
    assert "take the divergence of rf8 0.1000 to 0.0500." in text
    assert "Accumulator float16 in place of exact changes the loss by at most 0.07" in text
    assert "standard errors in 0 of 1 cases; by divergence, in 1." in text
    assert "Accumulator e5m2" in text
    assert "Sums overflowed in rf8 (weights and activations, one scale per tensor, accumulator e5m2)" in text


# --- the command --------------------------------------------------------------------------------------------


def test_command(capsys, tmp_path):
    schemes = ["rf8@residual", "rf8", "int8", "mxfp4"]
    arguments = ["evaluate", str(LM / "model.safetensors"), "--tokens", "256", "--activations", "same"]
    arguments += [word for scheme in schemes for word in ("-f", scheme)] + ["-o", str(tmp_path)]
    assert cli.main([*arguments, "--accumulator", "exact", "--accumulator", "float16"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluate.html", "evaluate.json", "evaluate.md"]
    data = json.loads((tmp_path / "evaluate.json").read_text(encoding="utf-8"))
    found = [Evaluation.from_json(result).datapath for result in data["results"]]
    kinds = ("exact", "float16")
    assert {(str(path.weights), path.accumulator) for path in found} == {(s, k) for s in schemes for k in kinds}
    assert len(found) == len(schemes) * len(kinds)
    page = (tmp_path / "evaluate.md").read_text(encoding="utf-8")
    for sentence in data["verdict"]:
        assert sentence in page
    assert f"{data['results'][0]['loss']:.5f}" in page
    assert f"{data['results'][0]['loss']:.5f}" in out
    assert "`rf8sim evaluate model.safetensors --format rf8@residual --format rf8 " in page


def test_help_names_what_each_option_takes(capsys):
    assert cli.main(["evaluate", "--help"]) == 0
    page = capsys.readouterr().out
    options = page[page.index("Options:") : page.index("Examples:")]
    assert options.count("--") > 10
    assert "<" not in options  # a type's own name, where a metavar is missing
    assert f"Engines:{','.join(ENGINES)}." in "".join(options.split())


def test_command_json_and_quiet(capsys):
    arguments = ["evaluate", str(LM / "model.safetensors"), "-f", "int8", "--activations", "int8", "--tokens", "128"]
    assert cli.main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert cli.main([*arguments, "--json", "--data", str(VALIDATION), "--shift", "-2"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["results"][0]["datapath"]["shift"] == -2
    assert data["results"][0]["error"] is None  # one window has no spread


@pytest.fixture
def copy(tmp_path):
    for name in ("model.safetensors", "config.json", "validation.bin"):
        shutil.copy(LM / name, tmp_path / name)
    return tmp_path


def refused(capsys, folder, *options):
    before = sorted(folder.rglob("*"))
    assert cli.main(["evaluate", str(folder / "model.safetensors"), *options, "-o", str(folder / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("rf8sim: error: ")
    assert err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before
    return err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-f", "rf9"], "unknown format or scheme 'rf9'"),
        (["--activations", "nothing"], "unknown format or scheme 'nothing'"),
        (["--accumulator", "float61"], "unknown accumulator 'float61': did you mean 'float16'"),
        (["--order", "blocked"], "unknown order 'blocked': did you mean 'blocked:K'? the choices are sequential, "),
        (["--order", "blocked:0"], "expected 'blocked:K'"),
        (["--shift", "some"], "--shift must be a whole number or 'auto', got 'some'"),
        (["--tokens", "100000"], "tokens must be 1 to 65536"),
        (["--tokens", "-1"], "Invalid value for '--tokens'"),
        (["--data", "no.bin"], "no.bin: data cannot be read: No such file"),
        (["-f", "int8@residual"], "for the RF family only"),
    ],
)
def test_bad_options(capsys, copy, options, message):
    assert message in refused(capsys, copy, *options)


def test_missing_data(capsys, copy):
    (copy / "validation.bin").unlink()
    assert "validation.bin: data cannot be read" in refused(capsys, copy)
    (copy / "validation.bin").write_bytes(b"x" * 130)
    assert "expected windows of 129 bytes one after the other, got 130 bytes" in refused(capsys, copy)


def test_another_architecture(capsys, copy):
    tensors = load_file(copy / "model.safetensors")
    head = tensors.pop("head.weight")
    save_file(tensors, copy / "model.safetensors")
    assert "has no tensor 'head.weight'" in refused(capsys, copy)
    save_file({**tensors, "head.weight": head[:, :-1].copy()}, copy / "model.safetensors")
    assert "'head.weight' has shape (256, 127), not (256, 128)" in refused(capsys, copy)
    (copy / "model.safetensors").unlink()
    assert "no such file" in refused(capsys, copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "has no object 'model'"),
        ('{"model": {"vocabulary": 256}}', "must have a positive number 'context', got None"),
        ('{"model": {"vocabulary": "256"}}', "must have a positive number 'vocabulary', got '256'"),
    ],
)
def test_bad_config(copy, text, message):
    (copy / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        load_model(copy / "model.safetensors")


def test_bad_heads_and_bytes(copy, model):
    config = json.loads((copy / "config.json").read_text())
    config["model"]["heads"] = 3
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="width 128 is not a multiple of heads 3"):
        load_model(copy / "model.safetensors")
    (copy / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        load_model(copy / "model.safetensors")
    with pytest.raises(ValueError, match=r"has byte 2\d\d, the model knows 200"):
        read_windows(LM / "model.safetensors", replace(model, vocabulary=200, context=7))


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path):
    """A loss of NaN compares with nothing."""
    weights = load_file(LM / "model.safetensors")
    weights["blocks.0.mlp.up.weight"][3, 4] = np.nan
    save_file(weights, tmp_path / "model.safetensors")
    shutil.copy(LM / "config.json", tmp_path)
    with pytest.raises(CheckpointError, match=r"'blocks\.0\.mlp\.up\.weight' holds NaN or infinities"):
        load_model(tmp_path / "model.safetensors")

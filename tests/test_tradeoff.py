"""The trade-off: each figure against another way to it, and what must hold between quantizers and bounds."""

import json
import math

import numpy as np
import pytest
from safetensors.numpy import save_file

import ggd
import rf8sim
from rf8sim import cli
from rf8sim.checkpoints.plan import Recipe
from rf8sim.entropy.code_lengths import code_lengths
from rf8sim.entropy.coding import compress, stored_bits
from rf8sim.quantization.metrics import measure
from rf8sim.report.render import write_page
from rf8sim.report.sections import tradeoff as sections
from rf8sim.report.sections.pages import TRADEOFF
from rf8sim.studies.rate_distortion import Cost, coded_bits, cost_of, cost_of_uniform, open_matrices
from rf8sim.studies.tradeoff import ALL, CODE_COLUMNS, Point, Tradeoff, measure_tradeoff

FORMATS = ("rf8", "e4m3fn", "int8", "nf4")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Two kinds of tensors of generalized Gaussian weights, one vector, and one tensor of integers."""
    path = tmp_path_factory.mktemp("tradeoff") / "m.safetensors"
    weights = {
        "mlp.weight": ggd.GGD.from_std(1.0, 0.02).sample(400_000, seed=1).reshape(400, 1000),
        "attn.weight": ggd.GGD.from_std(2.0, 0.5).sample(200_000, seed=2).reshape(200, 1000),
        "norm.weight": np.ones(1000),
    }
    tensors = {name: value.astype(np.float32) for name, value in weights.items()}
    save_file({**tensors, "ids": np.arange(6).reshape(2, 3)}, path)
    return path


@pytest.fixture(scope="module")
def found(checkpoint):
    return measure_tradeoff(checkpoint, FORMATS)


# --- costs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["tensor", "channel", "1x32", "none"])
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("entropy", ["rans", "huffman", "eg", "none"])
def test_a_cost_is_the_bytes_and_the_error_of_the_thing_itself(checkpoint, scaling, fmt, entropy):
    values = open_matrices(checkpoint, lambda name: name == "attn.weight")[0].read()
    cost, quantized = cost_of(
        values, Recipe(f"{fmt}/{scaling}" + ("" if scaling == "none" else ",max"), entropy=entropy)
    )
    packed = quantized.codes.size * quantized.format.bits / 8
    stored = packed if entropy == "none" else len(compress(quantized.codes, entropy))
    scales = 0 if scaling == "none" else quantized.scale.size * (1 if fmt == "rf8" else 4)
    assert cost.weights == 200_000
    assert cost.scale_bits == 8 * scales
    assert abs(cost.code_bits / 8 - stored) <= 32
    assert cost.entropy_bits <= cost.code_bits
    error = values.astype(np.float64) - quantized.dequantize(np.float64)
    assert cost.error == pytest.approx(np.sum(error**2), rel=1e-9)
    assert cost.signal == pytest.approx(np.sum(values.astype(np.float64) ** 2), rel=1e-9)


def test_costs_add_up():
    a, b = Cost(10, 60.0, 8.0, 50.0, 4.0, 0.04), Cost(30, 90.0, 8.0, 80.0, 12.0, 0.12)
    both = a | b
    assert both == Cost(40, 150.0, 16.0, 130.0, 16.0, 0.16)
    assert both.bits_per_weight == 166 / 40
    assert both.sqnr_db == pytest.approx(20.0)
    assert math.isnan(Cost().bits_per_weight)
    assert Cost(1, signal=1.0).sqnr_db == math.inf


def test_no_matrix_is_left(tmp_path, checkpoint):
    with pytest.raises(ValueError, match=r"no tensor of two axes or more is left by the patterns"):
        open_matrices(checkpoint, lambda name: name in ("norm.weight", "ids"))
    save_file({"w": np.array([[1.0, np.nan]], np.float32)}, tmp_path / "n.safetensors")
    with pytest.raises(ValueError, match=r"'w' holds NaN or infinities: replace them"):
        open_matrices(tmp_path / "n.safetensors")[0].read()


# --- the points -------------------------------------------------------------------------------------------------------


def test_points_are_of_all_matrices_and_of_kinds(found):
    assert found.tensors == {"attn.weight": "attention", "mlp.weight": "MLP"}
    assert found.kinds == [ALL, "attention", "MLP"]
    names = [point.label for point in found.of_kind(ALL)]
    assert names[:4] == list(FORMATS)
    assert len(names) == 15
    for name, points in ((p.label, [q for q in found.points if q.label == p.label]) for p in found.of_kind(ALL)):
        total, *parts = points
        summed = parts[0].cost | parts[1].cost
        assert total.cost.weights == 600_000, name
        assert total.cost.bits_per_weight == pytest.approx(summed.bits_per_weight)
        assert total.cost.sqnr_db == pytest.approx(summed.sqnr_db)


def test_a_uniform_quantizer_is_rounding_to_its_step(found, checkpoint):
    values = open_matrices(checkpoint, lambda name: name == "mlp.weight")[0].read().astype(np.float64)
    rms = np.sqrt(np.mean(values**2))
    for point in found.of_kind("MLP"):
        if point.step is None:
            continue
        scale = float(np.float32(point.step * rms))
        index = np.rint(values / scale)
        error = np.sum((values - index * scale) ** 2)
        assert point.cost.error == pytest.approx(error, rel=1e-6)
        counts = np.unique(index, return_counts=True)[1]
        assert point.cost.entropy_bits == pytest.approx(code_lengths(counts, "entropy").payload_bits)


def test_a_uniform_quantizer_clips_nothing(tmp_path):
    """A few weights far out cost it a few bits, not an error: a coarser format cannot come out above it."""
    weights = ggd.GGD.from_std(2.0, 0.02).sample(200_000, seed=3).astype(np.float32)
    weights[:20] = 1.0  # 50 deviations
    save_file({"w": weights.reshape(200, 1000)}, tmp_path / "m.safetensors")
    study = measure_tradeoff(tmp_path / "m.safetensors", ("e4m3fn",))
    e4m3, *uniform = study.of_kind(ALL)
    for point in uniform:
        step = np.float32(point.step * np.sqrt(np.mean(weights.astype(np.float64) ** 2)))
        assert point.cost.error <= weights.size * float(step) ** 2 / 4, point
        if point.step < 1:
            assert point.cost.error == pytest.approx(weights.size * float(step) ** 2 / 12, rel=0.1), point
    assert uniform[-1].width == pytest.approx(11, abs=0.01)  # 1 / (0.0374 / 16) steps, and the sign
    beside = sections.points(study).rows[0][5]
    finest = uniform[-1].cost
    continued = finest.sqnr_db + 6.02 * (e4m3.cost.bits_per_weight - finest.bits_per_weight)
    assert beside == pytest.approx(e4m3.cost.sqnr_db - continued, abs=0.01)
    assert beside < -4
    [sentence] = [line for line in sections.verdict(study) if "relative to a uniform quantizer" in line]
    assert f"e4m3fn {beside:+.1f} dB" in sentence


def test_an_escape_costs_what_its_code_takes():
    """The bits of what lies beyond the alphabet, written out: sign, and zeros, a one and the bits of Exp-Golomb."""
    indices = np.r_[np.arange(-127, 128), [128, -129, 1000, -70_000]]
    cost, width, rounded = cost_of_uniform(indices.astype(np.float64), np.float32(1), "huffman")
    assert width == 18
    assert np.array_equal(rounded(), indices)
    assert cost.error == 0
    assert cost.entropy_bits == pytest.approx(259 * np.log2(259))
    symbols = np.r_[4, np.ones(255, np.int64)]
    tails = [
        sum(2 * (((abs(i) - 128) >> k) + 1).bit_length() - 1 + k for i in (128, -129, 1000, -70_000)) for k in range(9)
    ]
    assert cost.code_bits == stored_bits(code_lengths(symbols, "huffman")) + 4 + min(tails) + 8


@pytest.mark.parametrize(
    ("gap", "words"), [(-0.3, "is the best scalar quantizer at these rates"), (0.3, "Above it is rf8:")]
)
def test_the_sentence_follows_the_sign(gap, words):
    uniform = [
        Point(ALL, "uniform", s, Cost(1, b, 0.0, b, 1.0, 10 ** (-h / 10)), 8.0) for s, b, h in ((1, 2, 9), (0.5, 3, 15))
    ]
    height = 12 + gap
    rf8 = Point(ALL, "rf8", None, Cost(1, 2.5, 0.0, 2.5, 1.0, 10 ** (-height / 10)), 8.0)
    study = Tradeoff("m", "rans", {"w": "MLP"}, (rf8, *uniform), (), ())
    [sentence, _] = sections.verdict(study)
    assert f"rf8 {gap:+.1f} dB" in sentence
    assert words in sentence


def test_bounds_hold_for_weights_that_are_what_they_assume(found):
    """None beats Shannon's bound, none the uniform one by more than noise; and a uniform quantizer reaches that."""
    for kind in found.kinds:
        bounds = [bound for bound in found.bounds if bound.kind == kind]
        bits = [bound.bits for bound in bounds]
        for point in found.of_kind(kind):
            rate = point.cost.entropy_per_weight
            shannon = np.interp(rate, bits, [bound.shannon_db for bound in bounds])
            uniform = np.interp(rate, bits, [bound.uniform_db for bound in bounds])
            assert point.cost.sqnr_db < shannon, point
            assert point.cost.sqnr_db < uniform + 0.15, point
            if point.step is not None and kind != ALL and point.step < 2:
                assert point.cost.sqnr_db == pytest.approx(uniform, abs=0.15), point


def test_lloyd_max_lies_between(found):
    for bound in found.bounds:
        assert (bound.lloyd_max_db is None) == (bound.bits % 1 != 0)
        if bound.lloyd_max_db is not None:
            assert bound.lloyd_max_db < bound.shannon_db
            if bound.bits >= 2:
                assert bound.lloyd_max_db < bound.uniform_db
    gaussian = [bound for bound in found.bounds if bound.kind == "attention" and bound.bits == 8]
    assert gaussian[0].shannon_db == pytest.approx(48.16, abs=0.05)  # 6.02 dB a bit
    assert gaussian[0].shannon_db - gaussian[0].uniform_db == pytest.approx(1.53, abs=0.02)


def test_codes_are_compared_on_the_same_codes(found, checkpoint):
    by_format = {costs.scheme: dict(zip(CODE_COLUMNS, costs.bits, strict=True)) for costs in found.codes}
    assert list(by_format) == list(FORMATS)
    codes = [rf8sim.quantize(m.read(), "int8").codes for m in open_matrices(checkpoint)]
    total = sum(code_lengths(np.bincount(c.ravel(), minlength=256), "huffman").total_bits for c in codes) / 600_000
    assert by_format["int8"]["Huffman"] == pytest.approx(total)
    for bits in by_format.values():
        assert bits["entropy"] < bits["rANS"] < bits["Huffman"] < bits["Exp-Golomb, best k"]
        assert bits["Exp-Golomb, best k"] <= bits["Exp-Golomb, k = 0"] <= bits["Exp-Golomb of values, k = 0"] + 0.05


@pytest.mark.parametrize("entropy", ["none", "rans"])
def test_coded_bits_of_nothing(entropy):
    assert coded_bits(np.zeros(256, np.int64), entropy) == (0.0 if entropy == "none" else 8.0 * 28, 0.0)


def test_measure_agrees(checkpoint):
    values = open_matrices(checkpoint)[0].read()
    cost, quantized = cost_of(values, Recipe("rf8/channel", entropy="rans"))
    assert cost.sqnr_db == measure(values, quantized).sqnr_db


# --- the page and the command -----------------------------------------------------------------------------------------


def test_the_page_and_its_data(found, tmp_path):
    written = write_page(TRADEOFF.page(found, "rf8sim tradeoff m.safetensors"), tmp_path)
    assert [path.name for path in written] == ["tradeoff.html", "tradeoff.md", "tradeoff.json", "tradeoff.svg"]
    page = written[1].read_text()
    data = json.loads(written[2].read_text())
    assert "relative to a uniform quantizer of the same rate" in page
    assert data["points"][0]["sqnr_db"] == found.points[0].cost.sqnr_db
    assert len(data["bounds"]) == len(found.bounds)
    assert "Kind: attention" in page
    again = write_page(TRADEOFF.page(found, "rf8sim tradeoff m.safetensors"), tmp_path / "b")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


def test_the_command(capsys, checkpoint, tmp_path):
    arguments = ["tradeoff", str(checkpoint), "-o", str(tmp_path / "out"), "-f", "rf8", "--include", "attn*"]
    assert cli.main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "uniform, step 0.5 rms" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "tradeoff.html",
        "tradeoff.json",
        "tradeoff.md",
        "tradeoff.svg",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-f", "rf9"], "unknown format or scheme 'rf9': did you mean 'rf8'?"),
        (["--coder", "zstd"], "unknown entropy coder 'zstd': the choices are rans, huffman, eg"),
        (["--coder", "none"], "unknown entropy coder 'none': the choices are rans, huffman, eg"),
        (["--include", "nothing"], "no tensor of two axes or more is left by the patterns"),
        (["--model"], "the sizes of the model are read from this file"),
    ],
)
def test_the_command_refuses(capsys, checkpoint, tmp_path, options, message):
    assert cli.main(["tradeoff", str(checkpoint), "-o", str(tmp_path / "out"), *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_losses_of_the_shipped_model():
    """With a model: formats that keep the weights keep the loss, a coarse one does not."""
    from rf8sim.models.transformer import load_model, read_windows

    model = load_model("examples/lm/model.safetensors")
    windows = read_windows("examples/lm/validation.bin", model, 256)
    found = measure_tradeoff("examples/lm/model.safetensors", ("e3m4",), steps=(2.0,), model=model, windows=windows)
    e3m4, coarse = (np.mean(point.losses) - np.mean(found.baseline) for point in found.of_kind(ALL))
    assert abs(e3m4) < 0.01 < 1 < coarse
    assert all(point.losses == () for point in found.points if point.kind != ALL)

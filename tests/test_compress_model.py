"""Models compressed to a budget: what is known of their layers, the search, and the file that is written."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from rf8sim.__main__ import main  # noqa: E402
from rf8sim.checkpoints.guard import quantize_checkpoint  # noqa: E402
from rf8sim.checkpoints.plan import Plan, Rule  # noqa: E402
from rf8sim.checkpoints.quantized import find_damage, open_quantized  # noqa: E402
from rf8sim.checkpoints.requirements import parse_requirement  # noqa: E402
from rf8sim.compression.methods import BEST, METHODS, Compression, Point, TensorSize, search_price  # noqa: E402
from rf8sim.compression.rounding import round_weights  # noqa: E402
from rf8sim.report.sections.pages import COMPRESS  # noqa: E402
from rf8sim.torch import load_quantized  # noqa: E402
from rf8sim.torch.calibration import calibrate  # noqa: E402
from rf8sim.torch.compression import compress_model  # noqa: E402
from rf8sim.torch.matrices import Matrices  # noqa: E402
from rf8sim.torch.pretrained import load_pretrained, windows_of  # noqa: E402

pytestmark = pytest.mark.torch

WORDS = [f"w{number}" for number in range(90)]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, one_thread):
    """A tiny Llama with a tokenizer of words, and a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    place = tmp_path_factory.mktemp("llama")
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(["<unk>", *WORDS])}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(place)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=96, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.2, tie_word_embeddings=True,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(place)
    (place / "text.txt").write_text(" ".join(np.random.default_rng(0).choice(WORDS, 400)), encoding="utf-8")
    return place


def divergence_of(pretrained, batches, weights):
    """The divergence with other weights, by its definition."""
    model, means = pretrained.model, []
    with torch.no_grad():
        before = [torch.log_softmax(model(batch).logits.double(), -1) for batch in batches]
        kept = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        for name, numbers in weights.items():
            model.get_parameter(name).copy_(torch.from_numpy(numbers))
        for batch, expected in zip(batches, before, strict=True):
            actual = torch.log_softmax(model(batch).logits.double(), -1)
            means.append(float((expected.exp() * (expected - actual)).sum(-1)[0, :-1].mean()))
        for name, parameter in kept.items():
            model.get_parameter(name).copy_(parameter)
    return float(np.mean(means))


# --- calibration ------------------------------------------------------------------------------------------------------


def test_the_moments_and_importances_of_a_head_by_hand():
    """Of the last layer the gradient of the loss is the predicted distribution less the token that was drawn."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Embedding(30, 8), torch.nn.Linear(8, 30))
    batches = [torch.randint(0, 30, (2, 40)) for _ in range(3)]
    with Matrices(model) as matrices, calibrate(model, matrices, batches, seed=5) as calibration:
        moments, importance = calibration.moments("1.weight"), calibration.importance("1.weight")
        columns = calibration.moments("0.weight")
        assert calibration.predictions == 2 * 39 * 3
    generator = torch.Generator().manual_seed(5)
    total, rows, shares, looked_up = np.zeros((8, 8)), np.zeros(30), 0.0, np.zeros(8)
    for batch in batches:
        with torch.no_grad():
            x = model[0](batch)[:, :-1].reshape(-1, 8)
            p = torch.softmax(model[1](x), -1)
        drawn = torch.multinomial(p, 1, generator=generator)[:, 0]
        g = (p - torch.nn.functional.one_hot(drawn, 30)).double().numpy()
        share = np.square(g).sum(1)
        total += (x.double().numpy() * share[:, None]).T @ x.double().numpy()
        rows += np.square(g).sum(0)
        shares += share.sum()
        looked_up += np.square(g @ model[1].weight.detach().double().numpy()).sum(0)
    np.testing.assert_allclose(moments, total / shares, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(importance, rows / (2 * 234), rtol=1e-4)
    np.testing.assert_allclose(columns, looked_up / looked_up.mean(), rtol=1e-4)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_expected_divergence_is_the_measured_one():
    """Small errors of a head: half of Fisher's information times the error is the divergence."""
    torch.manual_seed(2)
    model = torch.nn.Sequential(torch.nn.Embedding(40, 16), torch.nn.Linear(16, 40))
    batches = [torch.randint(0, 40, (4, 100)) for _ in range(5)]
    with Matrices(model) as matrices, calibrate(model, matrices, batches) as calibration:
        moments, importance = calibration.moments("1.weight"), calibration.importance("1.weight")
    off = 0.02 * np.random.default_rng(0).normal(size=(40, 16))
    expected = float(np.einsum("r,ri,ij,rj->", importance, off, moments, off))
    with torch.no_grad():
        x = torch.cat([model[0](batch)[:, :-1].reshape(-1, 16) for batch in batches]).double()
        head = model[1].weight.double()
        p = torch.log_softmax(x @ head.T + model[1].bias.double(), -1)
        q = torch.log_softmax(x @ (head + torch.from_numpy(off)).T + model[1].bias.double(), -1)
    assert expected == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=0.15)


def test_layers_that_are_not_called_are_left_out():
    class Spare(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = torch.nn.Linear(6, 4), torch.nn.Linear(6, 4)

        def forward(self, x):
            return self.used(x)

    model = Spare()
    with Matrices(model) as matrices, calibrate(model, matrices, [torch.randn(3, 6)]) as calibration:
        assert calibration.names == ("used.weight",)


# --- the search -------------------------------------------------------------------------------------------------------


def curve(price):
    return Point(BEST, price, 3 - 0.4 * math.log2(price), 0.1 * price**1.2)


@pytest.mark.parametrize("first", [1e-6, 0.1, 1e4])
@pytest.mark.parametrize("text", ["kl<=0.02", "sqnr>=20dB", "bits<=2.5"])
def test_the_budget_is_kept_and_used(text, first):
    point = search_price(curve, parse_requirement(text), first)
    if text.startswith("bits"):
        assert 2.47 < point.bits_per_weight <= 2.5
    else:
        bound = 0.02 if text.startswith("kl") else 0.01
        assert 0.96 * bound < point.distortion <= bound


def test_a_budget_that_nothing_keeps():
    with pytest.raises(ValueError, match="no step that was tried keeps it"):
        search_price(lambda price: Point(BEST, price, 3.0, 0.5), parse_requirement("kl<=0.02"), 1.0)


# --- the command ------------------------------------------------------------------------------------------------------


def compress(folder, *options):
    return main(["compress", str(folder), "--text", str(folder / "text.txt"), "--context", "24", "--quiet", *options])


def parts_of(batches):
    """What the command calibrates with, chooses on, and measures on: a half and two quarters."""
    part = len(batches) // 4
    return batches[: -2 * part], batches[-2 * part : -part], batches[-part:]


@pytest.fixture(scope="module")
def compressed(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("compressed")
    assert compress(folder, "--budget", "kl<=0.05", "-o", str(place / "small.safetensors"),
                    "--report", str(place / "compress.md")) == 0  # fmt: skip
    return place


def test_the_file_keeps_the_budget(folder, compressed):
    pretrained = load_pretrained(folder)
    batches = windows_of(pretrained, (folder / "text.txt").read_text(), 0, 24)
    file = compressed / "small.safetensors"
    assert find_damage(file) == []
    stored = {tensor.name: tensor for tensor in open_quantized(file)}
    weights = {name: tensor.dequantize(np.float32) for name, tensor in stored.items() if tensor.recipe}
    assert sorted(weights) == sorted(name for name in stored if "norm" not in name)
    _, selection, _ = parts_of(batches)
    assert 0.045 < divergence_of(pretrained, selection, weights) <= 0.05
    assert {tensor.recipe.entropy for tensor in stored.values() if tensor.recipe} == {"rans"}


def test_our_loader_opens_the_file(folder, compressed):
    model = load_quantized(load_pretrained(folder).model, compressed / "small.safetensors")
    stored = open_quantized(compressed / "small.safetensors")["model.layers.0.mlp.down_proj.weight"]
    weight = model.model.layers[0].mlp.down_proj.weight.detach().numpy()
    np.testing.assert_array_equal(weight, stored.dequantize(np.float32))


def test_the_page(compressed):
    page = (compressed / "compress.md").read_text(encoding="utf-8")
    assert all(name in page for name in METHODS)
    assert "bits per weight" in page
    assert (compressed / "compress.svg").exists()


def test_the_record_is_of_the_file(folder, compressed):
    pretrained = load_pretrained(folder)
    batches = windows_of(pretrained, (folder / "text.txt").read_text(), 0, 24)
    calibration, selection, held_out = parts_of(batches)
    before = {name: parameter.detach().clone() for name, parameter in pretrained.model.named_parameters()}
    result = compress_model(pretrained.model, calibration, selection, held_out, parse_requirement("kl<=0.05"))
    assert all(torch.equal(before[name], parameter) for name, parameter in pretrained.model.named_parameters())
    stored = open_quantized(compressed / "small.safetensors")
    for name, tensor in result.tensors.items():
        np.testing.assert_array_equal(stored[name].dequantize(np.float32), tensor.dequantize())
    weights = {name: tensor.dequantize() for name, tensor in result.tensors.items()}
    for batches, point in ((selection, result.record.selected), (held_out, result.record.chosen)):
        assert divergence_of(pretrained, batches, weights) == pytest.approx(point.distortion, rel=1e-6)
    assert (result.record.selected_on, result.record.judged) == (23 * len(selection), 23 * len(held_out))
    bits = sum(stored[name].bits_per_weight * stored[name].size for name in result.tensors)
    assert bits / result.record.weights == pytest.approx(result.record.chosen.bits_per_weight, rel=0.02)


def test_feedback_and_lengths_take_fewer_bits_than_the_nearest_steps(folder):
    pretrained = load_pretrained(folder)
    batches = windows_of(pretrained, (folder / "text.txt").read_text(), 0, 24)
    record = compress_model(
        pretrained.model, batches, batches, batches, parse_requirement("kl<=0.05"), curves=True,
        filter_fn=lambda name, _: "embed" not in name,
    ).record  # fmt: skip
    plain = record.bits_at("nearest", record.chosen.distortion)
    assert plain is None or record.chosen.bits_per_weight < plain
    assert len(record.points) == 3 * len(METHODS)
    assert record.selected == record.chosen in record.points
    assert COMPRESS.page(record, "rf8sim compress").verdict


def test_a_model_without_a_loss_is_held_to_its_outputs():
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(32, 96), torch.nn.ReLU(), torch.nn.Linear(96, 24))
    batches = list(torch.randn(8, 40, 32))
    result = compress_model(model, batches[:4], batches[4:6], batches[6:], parse_requirement("sqnr>=20dB"))
    with torch.no_grad():
        before = torch.stack([model(batch) for batch in batches[4:]]).double()
        for name, tensor in result.tensors.items():
            model.get_parameter(name).copy_(torch.from_numpy(tensor.dequantize()))
        after = torch.stack([model(batch) for batch in batches[4:]]).double()
    errors, signals = (after - before).square().sum((1, 2)).numpy(), before.square().sum((1, 2)).numpy()
    share, held_out = errors[:2].sum() / signals[:2].sum(), errors[2:].sum() / signals[2:].sum()
    assert result.record.selected.distortion == pytest.approx(share, rel=1e-6)
    assert 0.0095 < share <= 0.01
    assert result.record.chosen.distortion == pytest.approx(held_out, rel=1e-6)
    spread = float(np.std(errors[2:] - held_out * signals[2:], ddof=1)) / math.sqrt(2) / float(signals[2:].mean())
    assert result.record.chosen.standard_error == pytest.approx(spread, rel=1e-6)
    words = COMPRESS.page(result.record, "rf8sim compress", figures=False).verdict
    assert "an SQNR of the outputs of " in words[0]
    assert "The budget sqnr>=20dB was kept" in words[1]
    assert ", at an SQNR of the outputs of 20." in words[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget", "sqnr>=20dB"], "a model of this kind is held to 'kl<=0.02' or to 'bits<=3'"),
        (["--budget", "kl=0.1"], "such as 'kl<=0.02', 'sqnr>=20dB' or 'bits<=3', got 'kl=0.1'"),
        (["--budget", "kl>=0.1"], "a model of this kind is held to"),
        (["--budget", "kl<=0.1", "--tokens", "60"], "windows are too few, 4 are needed"),
        (["--budget", "kl<=0.1", "-o", "small.bin"], "a name that ends in .safetensors"),
        (["--budget", "kl<=0.1", "--include", "nothing*"], "no matrix to round"),
    ],
)
def test_refusals(folder, capsys, options, message):
    assert compress(folder, *options) == 2
    text = capsys.readouterr().err
    assert message in text
    assert "Traceback" not in text


def test_a_file_is_no_folder(tmp_path, capsys):
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    assert main(["compress", str(tmp_path / "a.gguf"), "--text", "x", "--budget", "kl<=1"]) == 2
    assert "from a Hugging Face folder" in capsys.readouterr().err


# --- files and records ------------------------------------------------------------------------------------------------


def test_tensors_that_are_rounded_already_must_be_those_of_the_plan(tmp_path):
    from safetensors.numpy import save_file

    weight = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
    save_file({"w": weight}, tmp_path / "m.safetensors")
    rounded = round_weights(weight, "int4/channel", price=0.1).tensor
    for scheme in ("int4/channel", "int8/channel"):
        plan = Plan(rules=(Rule("w", {"scheme": scheme}),))
        if scheme == "int8/channel":
            with pytest.raises(ValueError, match="is rounded as int4/channel"):
                quantize_checkpoint(tmp_path / "m.safetensors", tmp_path / "bad.safetensors", plan,
                                    rounded={"w": rounded})  # fmt: skip
            assert not (tmp_path / "bad.safetensors").exists()
        else:
            quantize_checkpoint(tmp_path / "m.safetensors", tmp_path / "good.safetensors", plan, rounded={"w": rounded})
            stored = open_quantized(tmp_path / "good.safetensors")["w"]
            np.testing.assert_array_equal(stored.dequantize(np.float32), rounded.dequantize())


def test_bits_between_measured_points():
    points = tuple(Point("nearest", price, 3 - math.log2(price), 0.01 * price) for price in (1.0, 4.0))
    record = Compression(
        "m", "t", "next-token", "kl<=1", points[0], points[0], points, (TensorSize("w", (2, 3), "s", 3.0),), 1, 1, 1
    )
    assert record.bits_at("nearest", 0.02) == pytest.approx(2.0)
    assert record.bits_at("nearest", 0.05) is None
    assert record.bits_at("feedback", 0.02) is None
    assert record.weights == 6

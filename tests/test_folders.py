"""Folders that are written, opened by transformers and compressed-tensors: the same numbers, or an error."""

import json
import sys

import numpy as np
import pytest

from rf8sim.checkpoints.dequantization import dequantize_checkpoint
from rf8sim.checkpoints.folders import why_stopped
from rf8sim.checkpoints.guard import quantize_checkpoint
from rf8sim.checkpoints.plan import Plan, Recipe, Rule, read_plan, write_plan
from rf8sim.checkpoints.quantized import open_quantized

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

FORMS = {
    "e4m3fn": "float-quantized", "int8": "int-quantized", "mxfp4": "mxfp4-pack-quantized",
    "nvfp4": "nvfp4-pack-quantized", "fp8_128x128": "float-quantized", "mxfp8_e4m3": "mxfp8-quantized",
}  # fmt: skip
LLAMA = {
    "vocab_size": 96, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip


class Models:
    """Small models of transformers, in folders, and what they compute."""

    def __init__(self, folder):
        self.torch, self.transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
        pytest.importorskip("compressed_tensors")
        self.transformers.utils.logging.set_verbosity_error()
        self.transformers.utils.logging.disable_progress_bar()
        self.folder, lib = folder, self.transformers
        bert = {name: size for name, size in LLAMA.items() if name != "num_key_value_heads"}
        resnet = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"}
        self.classes = {
            "llama": (lib.LlamaForCausalLM, lib.LlamaConfig(**LLAMA, tie_word_embeddings=False)),
            "tied": (lib.LlamaForCausalLM, lib.LlamaConfig(**LLAMA, tie_word_embeddings=True)),
            "bert": (lib.BertForMaskedLM, lib.BertConfig(**bert)),
            "mixtral": (lib.MixtralForCausalLM, lib.MixtralConfig(**LLAMA, num_local_experts=4)),
            "resnet": (lib.ResNetForImageClassification, lib.ResNetConfig(**resnet)),
        }
        self.torch.manual_seed(0)
        for name, (cls, config) in self.classes.items():
            model = cls(config)
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.data.normal_(0, 0.05)
            model.save_pretrained(folder / name)

    def logits(self, name, path, **options):
        torch, (cls, _) = self.torch, self.classes[name]
        images = {"pixel_values": torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)}
        inputs = images if name == "resnet" else {"input_ids": torch.arange(24).reshape(2, 12)}
        with torch.no_grad():
            return cls.from_pretrained(path, **options).eval()(**inputs).logits

    def quantized(self, name, out, scheme, **options):
        plan = Plan(Recipe(scheme), **options)
        quantize_checkpoint(self.folder / name, out, plan)
        return json.loads((out / "config.json").read_text())


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return Models(tmp_path_factory.mktemp("models"))


CASES = [
    *((name, scheme) for name in ("llama", "tied", "bert") for scheme in FORMS),
    ("mixtral", "e4m3fn"), ("mixtral", "e4m3fn/tensor"), ("resnet", "e4m3fn"), ("resnet", "int8"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "scheme"), CASES)
def test_the_logits_are_those_of_the_dequantized_weights(models, tmp_path, name, scheme):
    """compressed-tensors decodes NVFP4 to bfloat16."""
    out, plain = tmp_path / "out", tmp_path / "plain"
    config = models.quantized(name, out, scheme)
    assert config["quantization_config"]["format"] == FORMS.get(scheme, "float-quantized")
    assert why_stopped(out) is None
    dequantize_checkpoint(out, plain, "bfloat16" if scheme == "nvfp4" else None)
    opened, expected = models.logits(name, out), models.logits(name, plain)
    original = models.logits(name, models.folder / name)
    assert models.torch.equal(opened, expected)
    assert not models.torch.equal(opened, original)
    assert float((opened - original).abs().max()) < 0.5 * float(original.abs().max())


@pytest.mark.parametrize("name", ["llama", "tied", "bert"])
@pytest.mark.parametrize("scheme", ["e4m3fn", "int8"])
def test_compressed_tensors_decodes_linear_layers_itself(models, tmp_path, name, scheme):
    """Without ``dequantize`` a module is decoded by its own scheme: tied heads must be among those that are ignored."""
    models.quantized(name, tmp_path / "out", scheme)
    itself = models.transformers.CompressedTensorsConfig(dequantize=False)
    opened = models.logits(name, tmp_path / "out", quantization_config=itself)
    assert models.torch.equal(opened, models.logits(name, tmp_path / "out"))


STOPPED = [
    ("llama", "rf8", {}, "is stored as rf8/channel, which they do not have"),
    ("llama", "e5m2", {}, "is stored as e5m2/channel, which they do not have"),
    ("bert", "e4m3fn", {"kept": ()}, "is not named as the weight of a layer"),
    ("tied", "e4m3fn", {"kept": ()}, "has one axis"),
    ("mixtral", "nvfp4", {}, "is one expert of several"),
    ("mixtral", "int8", {}, "is one expert of several"),
    ("resnet", "mxfp4", {}, "is stored as mxfp4, which they do not have"),
]


@pytest.mark.parametrize(("name", "scheme", "options", "reason"), STOPPED)
def test_what_would_be_misread_stops(models, tmp_path, name, scheme, options, reason):
    out = tmp_path / f"{name}-q"  # transformers guesses a model's type from its folder's name
    models.quantized(name, out, scheme, **options)
    assert reason in why_stopped(out)
    for cls in (models.transformers.AutoModel, models.classes[name][0]):
        with pytest.raises(ValueError, match="rf8sim dequantize"):
            cls.from_pretrained(out)
    config = models.transformers.AutoConfig.from_pretrained(models.folder / name)
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):  # a config given apart is not the folder's
        models.classes[name][0].from_pretrained(out, config=config)
    dequantize_checkpoint(out, tmp_path / "plain")
    assert (tmp_path / "plain" / "model.safetensors").is_file()
    original = json.loads((models.folder / name / "config.json").read_text())
    assert json.loads((tmp_path / "plain" / "config.json").read_text()) == original
    assert bool(models.logits(name, tmp_path / "plain").isfinite().all())


def test_what_lies_beside_the_weights_is_carried_over(models, tmp_path):
    source, out, plain = tmp_path / "source", tmp_path / "out", tmp_path / "plain"
    models.classes["llama"][0].from_pretrained(models.folder / "llama").save_pretrained(source)
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text("{}")
    (source / "onnx").mkdir()
    (source / "onnx" / "notes.txt").write_text("of another form")
    carried = ["tokenizer.json", "tokenizer.model", "chat_template.jinja", "modeling_own.py", "merges.txt", "LICENSE"]
    for name in [*carried, "optimizer.pt", "pytorch_model.bin", "data.parquet", ".hidden.json"]:
        (source / name).write_bytes(name.encode())
    quantize_checkpoint(source, out, Plan(Recipe("int8")))
    dequantize_checkpoint(out, plain)
    for folder in (out, plain):
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        names = {*carried, "config.json", "generation_config.json", "model.safetensors", "1_Pooling/config.json"}
        assert files == names | ({"manifest.json"} if folder == out else set())
        assert (folder / "tokenizer.model").read_bytes() == b"tokenizer.model"


def test_a_lone_file_takes_nothing_from_its_folder(tmp_path):
    from safetensors.numpy import save_file

    source = tmp_path / "source"
    source.mkdir()
    save_file({"a.weight": np.eye(4, dtype=np.float32)}, source / "model.safetensors")
    (source / "diary.txt").write_text("no model's")
    quantize_checkpoint(source / "model.safetensors", tmp_path / "out", Plan(Recipe("int8")))
    assert not (tmp_path / "out" / "diary.txt").exists()


@pytest.mark.parametrize("name", ["tied", "bert"])
def test_a_tied_model_is_saved_and_loaded(models, tmp_path, name):
    from rf8sim.torch import load_quantized, save_quantized

    cls, config = models.classes[name]
    models.quantized(name, tmp_path / "out", "int8")
    expected = models.logits(name, tmp_path / "out")
    model = load_quantized(cls(config), tmp_path / "out").eval()
    inputs, heads = models.torch.arange(24).reshape(2, 12), model.get_output_embeddings()
    assert heads.weight is model.get_input_embeddings().weight
    with models.torch.no_grad():
        assert models.torch.equal(model(inputs).logits, expected)
    save_quantized(model, tmp_path / "again.safetensors", Plan(Recipe("int8")))
    again = load_quantized(cls(config), tmp_path / "again.safetensors").eval()
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight


@pytest.mark.parametrize("scheme", ["int8/channel", "e4m3fn", "mxfp4", "nvfp4", "mxfp8_e4m3", "fp8_128x128"])
def test_a_trained_model_is_opened_by_transformers(models, tmp_path, scheme):
    """With the scales that it was trained with, which the rounded weights would not give again."""
    from rf8sim.torch import QuantizeConfig, dequantize_, load_quantized, quantize_, save_quantized

    torch, (cls, config) = models.torch, models.classes["llama"]
    torch.manual_seed(1)
    model = cls.from_pretrained(models.folder / "llama")
    linear = torch.nn.Linear
    quantize_(model, QuantizeConfig(scheme), lambda module, name: isinstance(module, linear) and name != "lm_head")
    tokens = torch.arange(24).reshape(2, 12)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
    save_quantized(model, tmp_path / "out")
    loaded = load_quantized(cls(config), tmp_path / "out")
    dequantize_(model)
    state = loaded.state_dict()
    last_place = 2**-23 if scheme == "nvfp4" else 0.0  # of scales that are stored as their reciprocals
    for name, value in model.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=2 * last_place, atol=0.0)
    with torch.no_grad():
        opened, expected = models.logits("llama", tmp_path / "out"), model.eval()(tokens).logits
    torch.testing.assert_close(opened, expected, rtol=0.0, atol=0.02 if scheme == "nvfp4" else 0.0)  # as above


def test_nvfp4_gives_the_same_bytes_again(models, tmp_path):
    """Its outer scale is stored as its reciprocal."""
    models.quantized("llama", tmp_path / "out", "nvfp4")
    dequantize_checkpoint(tmp_path / "out", tmp_path / "plain")
    quantize_checkpoint(tmp_path / "plain", tmp_path / "again")
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "again"))
    assert first == second


def test_a_command_evaluates_a_folder_that_opens(models, tmp_path):
    """The original, then the dequantized one, as transformers opens them."""
    from rf8sim import __main__ as cli

    script = tmp_path / "test.py"
    script.write_text(
        "import sys, json, pathlib\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "config = json.loads((folder / 'config.json').read_text())\n"
        "assert config['model_type'] == 'llama' and 'quantization_config' not in config\n"
        "assert (folder / 'generation_config.json').is_file()\n"
        "print((folder / 'model.safetensors').is_file() + 0)\n"
    )
    command = f"{sys.executable} {script} {{}}"
    options = ["-f", "rf8", "--require", "metric>=-0%", "--evaluate", command, "-q"]
    for out in ("out", "out.safetensors"):
        assert cli.main(["quantize", str(models.folder / "llama"), "-o", str(tmp_path / out), *options]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json", "generation_config.json", "manifest.json", "rf8sim-codes-model.safetensors"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["bert", "tied"])
def test_kept_tensors_take_half_in_bfloat16(models, tmp_path, name, capsys):
    from rf8sim import __main__ as cli

    def run(out, *options):
        command = ["quantize", str(models.folder / name), "-o", str(tmp_path / out), "-f", "e4m3fn", *options]
        assert cli.main(command) == 0
        return " ".join(capsys.readouterr().out.split())

    message = run("own")
    assert "Kept tensors of float32 take" in message
    assert "--kept-dtype bfloat16 saves" in message
    assert "transformers opens it: AutoModel.from_pretrained" in message
    assert "tensors kept in bfloat16 (--kept-dtype)" in run("half", "--kept-dtype", "bfloat16")
    own, half = (open_quantized(tmp_path / out) for out in ("own", "half"))
    kept = [tensor for tensor in own if tensor.kept]
    saved = sum(16 * tensor.size for tensor in kept) / sum(tensor.size for tensor in own)
    bits = [opened.bits_per_weight - opened.bits["headers"] for opened in (own, half)]
    assert bits[0] - bits[1] == pytest.approx(saved)
    assert {half[tensor.name].entry.dtype for tensor in kept} == {"BF16"}
    dequantize_checkpoint(tmp_path / "half", tmp_path / "plain")
    assert models.torch.equal(models.logits(name, tmp_path / "half"), models.logits(name, tmp_path / "plain"))
    quantize_checkpoint(tmp_path / "plain", tmp_path / "again")
    first, second = ((tmp_path / out / "model.safetensors").read_bytes() for out in ("half", "again"))
    assert first == second


def test_a_pattern_keeps_its_own_dtype(models, tmp_path):
    """--keep is for what must not change."""
    plan = Plan(Recipe("int8"), (Rule("lm_head*", keep=True),), kept_dtype="bfloat16")
    quantize_checkpoint(models.folder / "llama", tmp_path / "out.safetensors", plan)
    opened = open_quantized(tmp_path / "out.safetensors")
    dtypes = {name: opened[name].entry.dtype for name in ("lm_head.weight", "model.embed_tokens.weight")}
    assert dtypes == {"lm_head.weight": "F32", "model.embed_tokens.weight": "BF16"}
    write_plan(tmp_path / "plan.toml", plan)
    assert read_plan(tmp_path / "plan.toml").kept_dtype == "bfloat16"
    with pytest.raises(ValueError, match="unknown dtype of kept tensors 'float8'"):
        Plan(kept_dtype="float8")


def test_an_index_that_others_must_not_open_has_another_name(models, tmp_path):
    source, out, plain = tmp_path / "source", tmp_path / "out", tmp_path / "plain"
    cls = models.classes["llama"][0]
    model = cls.from_pretrained(models.folder / "llama")
    model.save_pretrained(source, max_shard_size="20KB")
    index = "model.safetensors.index.json"
    shards = {path.name for path in source.glob("*.safetensors")}
    assert len(shards) > 1
    quantize_checkpoint(source, out, Plan(Recipe("rf8")))
    assert {path.name for path in out.glob("*.safetensors*")} == {*shards, f"rf8sim-codes-{index}"}
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        cls.from_pretrained(out, config=model.config)
    dequantize_checkpoint(out, plain)
    assert {path.name for path in plain.glob("*.safetensors*")} == {*shards, index}
    assert bool(models.logits("llama", plain).isfinite().all())
    quantize_checkpoint(plain, tmp_path / "again", Plan(Recipe("rf8")))
    assert {path.name for path in (tmp_path / "again").glob("*.json")} == {path.name for path in out.glob("*.json")}

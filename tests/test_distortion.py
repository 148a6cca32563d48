"""`rf8sim compare ORIGINAL QUANTIZED`: any two checkpoints, paired by names that are certain."""

import csv
import io
import json
import math
import warnings

import numpy as np
import pytest
from safetensors.numpy import save_file

import rf8sim
from rf8sim import cli
from rf8sim.checkpoints.checkpoint import open_checkpoint
from rf8sim.checkpoints.comparison import compare
from rf8sim.checkpoints.errors import CheckpointError
from rf8sim.checkpoints.gguf_names import REORDERED, gguf_name
from rf8sim.checkpoints.pairing import pair_tensors
from rf8sim.checkpoints.plan import Plan, Recipe
from rf8sim.report.sections.distortion import Bounds, Compared, answer
from rf8sim.report.sections.distortion import tensors as tensors_section
from rf8sim.report.sections.pages import COMPARE_CHECKPOINTS
from rf8sim.studies import distortion
from rf8sim.studies.distortion import compare_checkpoints

LLAMA = {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def write(folder, tensors, config=None):
    folder.mkdir(exist_ok=True, parents=True)
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def int8(name, weight):
    scale = np.abs(weight).max(axis=1, keepdims=True) / np.float32(127)
    codes = np.rint(weight / scale).astype(np.int8)
    return {name: codes, f"{name}_scale": scale}, codes * scale


def paired(first, second):
    pairing = pair_tensors(open_checkpoint(first), open_checkpoint(second))
    names = {pair.original.name: pair.quantized.name for pair in pairing.pairs}
    return names, {tensor.name: tensor.reason for tensor in pairing.unpaired}, pairing


def test_numbers_are_those_of_their_formulas(tmp_path):
    weight = noise(30, 40)
    weight[0, 0], weight[1, 1], weight[2, 2] = np.nan, np.inf, 0
    stored = weight.copy()
    stored[3:6] = stored[3:6].round(1)
    stored[1, 1], stored[4, 4] = 7, 0
    tensors = {"l.weight": weight, "norm.weight": noise(40)}
    first = write(tmp_path / "a", tensors)
    found = compare_checkpoints(first, write(tmp_path / "b", {**tensors, "l.weight": stored}))
    [row, norm] = found.tensors
    both = np.isfinite(weight) & np.isfinite(stored)
    x, y = weight[both].astype(np.float64), stored[both].astype(np.float64)
    assert (row.elements, row.finite, row.differing) == (1200, 1198, 1)
    assert row.sqnr_db == pytest.approx(10 * math.log10(np.sum(x**2) / np.sum((x - y) ** 2)), rel=1e-12)
    assert row.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), rel=1e-12)
    assert row.relative_error == pytest.approx(np.linalg.norm(x - y) / np.linalg.norm(x), rel=1e-12)
    assert (row.largest_error, row.largest_value) == (np.abs(x - y).max(), np.abs(x).max())
    related = (x != 0) & (y != 0)
    assert row.mean_relative_error == pytest.approx(np.mean(np.abs(x - y)[related] / np.abs(x)[related]), rel=1e-12)
    assert row.underflow == np.count_nonzero((x != 0) & (y == 0)) > 0
    assert row.equal == np.count_nonzero(x == y)
    assert (norm.identical, norm.cosine, norm.sqnr_db) == (True, 1.0, math.inf)
    assert found.total.noise == row.noise
    assert found.total.signal == pytest.approx(row.signal + norm.signal, rel=1e-15)
    assert found.changed == (row,)


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_types_of_originals(tmp_path, dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    weight = noise(20, 30).astype(getattr(ml_dtypes, dtype, None) or dtype)
    tensors, numbers = int8("l.weight", weight.astype(np.float32))
    first, second = write(tmp_path / "a", {"l.weight": weight}), write(tmp_path / "b", tensors)
    [row] = compare_checkpoints(first, second).tensors
    error = weight.astype(np.float64) - numbers.astype(np.float64)
    assert row.noise == pytest.approx(float(np.sum(error**2)), rel=1e-12)
    assert row.original_as == dtype
    assert row.stored_as == "int8, a float32 scale for each channel"
    assert row.bits_per_weight == 8 + 32 / 30


def test_pieces_and_threads_change_no_bit(tmp_path, monkeypatch):
    weight = noise(300, 70)
    tensors, _ = int8("l.weight", weight)
    first, second = write(tmp_path / "a", {"l.weight": weight}), write(tmp_path / "b", tensors)
    monkeypatch.setattr(distortion, "CHUNK_ELEMENTS", 1000)
    monkeypatch.setattr(distortion, "_PIECES", 2)
    calls = []
    results = [compare_checkpoints(first, second, threads=n, progress=lambda *c: calls.append(c)) for n in (1, 2, 5)]
    assert results[0] == results[1] == results[2]
    assert max(done for _, done, _ in calls) == 21000
    monkeypatch.undo()
    whole = compare_checkpoints(first, second).total
    assert results[0].total.noise == pytest.approx(whole.noise, rel=1e-13)
    assert results[0].total.finite == whole.finite == 21000


def test_our_own_files(tmp_path):
    """Those of `quantize` have the figures of `check --against`, and kept tensors are compared too."""
    source = write(tmp_path / "a", {"l.weight": noise(64, 48), "norm.weight": noise(48)})
    rf8sim.quantize_checkpoint(source, tmp_path / "out")
    rows = {row.name: row for row in compare_checkpoints(source, tmp_path / "out").tensors}
    for wanted in compare(open_checkpoint(source), rf8sim.open_quantized(tmp_path / "out")):
        row = rows[wanted.name]
        assert row.noise == pytest.approx(wanted.noise, rel=1e-13)
        assert row.bits_per_weight == wanted.bits_per_weight
    assert rows["norm.weight"].identical
    assert rows["l.weight"].stored_as == "rf8/channel"
    path = tmp_path / "out" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="checksum"):
        compare_checkpoints(source, tmp_path / "out")


PRESETS = {
    "float-quantized": {"num_bits": 8, "type": "float", "strategy": "channel"},
    "int-quantized": {"num_bits": 8, "type": "int", "strategy": "channel"},
    "pack-quantized": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32},
}


@pytest.mark.torch
@pytest.mark.parametrize("form", PRESETS)
def test_against_the_decompressor_of_compressed_tensors(tmp_path, form):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization = pytest.importorskip("compressed_tensors.quantization")
        compressors = pytest.importorskip("compressed_tensors.compressors")
    args = quantization.QuantizationArgs(**PRESETS[form], symmetric=True)
    scheme = quantization.QuantizationScheme(targets=["Linear"], weights=args)
    weight = torch.from_numpy(noise(16, 64))
    scale = weight.reshape(16, -1, PRESETS[form].get("group_size", 64)).abs().amax(-1)
    state = {
        "weight": weight,
        "weight_scale": scale / {"float": 448, "int": 127 if "group" not in str(args) else 7}[args.type],
    }
    compressor = compressors.BaseCompressor.get_value_from_registry(form)
    packed = compressor.compress(state, scheme)
    for folder, tensors in (("a", {"weight": weight}), ("b", packed)):
        (tmp_path / folder).mkdir()
        save({f"l.{k}": v.contiguous() for k, v in tensors.items()}, tmp_path / folder / "model.safetensors")
    theirs = compressor.decompress(packed, scheme)["weight"].double()
    [row] = compare_checkpoints(tmp_path / "a", tmp_path / "b").tensors
    assert row.noise == pytest.approx(float((weight.double() - theirs).square().sum()), rel=1e-5)
    assert 0 < row.noise < row.signal


# Names


def test_a_prefix_that_all_have(tmp_path):
    names = ("norm.weight", "layers.0.norm.weight", "layers.1.norm.weight")
    first = write(tmp_path / "a", {**{name: noise(8) for name in names}, "lm_head.weight": noise(9, 8)})
    second = write(tmp_path / "b", {**{f"model.{name}": noise(8) for name in names}, "lm_head.weight": noise(9, 8)})
    for one, other in ((first, second), (second, first)):
        found, left, pairing = paired(one, other)
        assert len(found) == 4
        assert all(name.removeprefix("model.") == mapped.removeprefix("model.") for name, mapped in found.items())
        assert not left
        assert "3 names begin with 'model.'" in pairing.notes[0]


@pytest.mark.parametrize(
    "names",
    [
        ("model.norm.weight", "other.norm.weight"),  # two prefixes for one name
        ("model.norm.bias",),  # another name
    ],
)
def test_names_in_doubt_are_not_paired(tmp_path, names):
    first = write(tmp_path / "a", {"norm.weight": noise(8), "l.weight": noise(8)})
    second = write(tmp_path / "b", {**{name: noise(8) for name in names}, "l.weight": noise(8)})
    found, left, _ = paired(first, second)
    assert found == {"l.weight": "l.weight"}
    assert left == {"norm.weight": "not in the quantized checkpoint", **dict.fromkeys(names, "not in the original")}


def test_a_prefix_with_other_shapes_is_not_taken(tmp_path):
    first = write(tmp_path / "a", {"norm.weight": noise(8), "b.weight": noise(8), "l.weight": noise(3)})
    second = write(tmp_path / "b", {"m.norm.weight": noise(8), "m.b.weight": noise(9), "l.weight": noise(3)})
    assert paired(first, second)[0] == {"l.weight": "l.weight"}


def test_wrappers_of_compiled_modules(tmp_path):
    first = write(tmp_path / "a", {"layers.0.w.weight": noise(8)})
    second = write(tmp_path / "b", {"_orig_mod.layers.0._checkpoint_wrapped_module.w.weight": noise(8)})
    assert len(paired(first, second)[0]) == 1


@pytest.mark.parametrize("lacking", ["a", "b"])
def test_a_tied_head_is_the_embedding(tmp_path, lacking):
    embedding, head = {"model.embed_tokens.weight": noise(20, 8)}, {"lm_head.weight": noise(20, 8)}
    for folder in "ab":
        write(tmp_path / folder, embedding if folder == lacking else {**embedding, **head})
    found = compare_checkpoints(tmp_path / "a", tmp_path / "b")
    assert found.missing == ()
    assert sorted((row.name, row.quantized_name, row.tied) for row in found.tensors) == sorted(
        [
            ("model.embed_tokens.weight", "model.embed_tokens.weight", False),
            ("model.embed_tokens.weight", "lm_head.weight", True)
            if lacking == "a"
            else ("lm_head.weight", "model.embed_tokens.weight", True),
        ]
    )
    assert found.total.elements == 160
    (tmp_path / lacking / "config.json").write_text('{"tie_word_embeddings": false}')
    assert len(compare_checkpoints(tmp_path / "a", tmp_path / "b").tensors) == 1


def hugging_face(heads=4, kv_heads=2, rows=8):
    layer = {"q_proj": heads * rows, "k_proj": kv_heads * rows, "v_proj": kv_heads * rows}
    tensors = {
        f"model.layers.{layer_number}.self_attn.{module}.weight": noise(size, 32, seed=layer_number + ord(module[0]))
        for layer_number in range(2)
        for module, size in layer.items()
    }
    return {**tensors, "model.embed_tokens.weight": noise(40, 32, seed=1), "model.norm.weight": noise(32, seed=2),
            "model.layers.0.self_attn.q_proj.bias": noise(32, seed=3)}  # fmt: skip


def llama_cpp(name, tensor):
    """Reorder as convert_hf_to_gguf.py does."""
    heads = {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2], 0)
    if not heads:
        return tensor
    return tensor.reshape(heads, 2, len(tensor) // heads // 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


@pytest.mark.parametrize("swapped", [False, True])
def test_names_and_rows_of_gguf(tmp_path, monkeypatch, swapped):
    monkeypatch.setattr(distortion, "CHUNK_ELEMENTS", 300)  # pieces of whole heads: 8 rows of 32
    tensors = hugging_face()
    theirs = {gguf_name(name): llama_cpp(name, tensor) for name, tensor in tensors.items()}
    first, second = (
        write(tmp_path / "a", tensors, LLAMA),
        write(tmp_path / "b", {**theirs, "rope_freqs.weight": noise(4)}),
    )
    found = compare_checkpoints(*((second, first) if swapped else (first, second)))
    assert len(found.tensors) == len(tensors)
    assert all(row.identical for row in found.tensors)
    assert [(left.name, left.matters) for left in found.not_compared] == [("rope_freqs.weight", swapped)]
    (first / "config.json").write_text(json.dumps({**LLAMA, "model_type": "qwen2"}))  # whose rows stay
    found = compare_checkpoints(first, second)
    assert sorted(row.name for row in found.tensors if not row.identical) == sorted(
        name for name in tensors if "q_proj" in name or "k_proj" in name
    )
    assert any(sentence.startswith("Check ") for sentence in answer(Compared(found)))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (None, "no config.json says what model it is"),
        ({"model_type": "gemma"}, "of model_type 'gemma' it is not known how llama.cpp stores it"),
    ],
)
def test_gguf_of_a_model_that_is_not_known_is_not_compared(tmp_path, config, reason):
    tensors = hugging_face()
    first = write(tmp_path / "a", tensors, config)
    second = write(tmp_path / "b", {gguf_name(name): tensor for name, tensor in tensors.items()})
    with pytest.raises(CheckpointError, match=reason):
        compare_checkpoints(first, second)


def test_gguf_without_the_number_of_heads(tmp_path):
    tensors = hugging_face()
    first = write(tmp_path / "a", tensors, {"model_type": "llama"})
    second = write(tmp_path / "b", {gguf_name(name): tensor for name, tensor in tensors.items()})
    found = compare_checkpoints(first, second)
    assert all("q_proj" in name or "k_proj" in name for name in found.missing)
    assert len(found.missing) == 5


def test_names_are_those_of_the_gguf_package():
    gguf = pytest.importorskip("gguf")
    modules = (
        "embed_tokens", "norm", *(f"layers.1.{m}" for m in ("input_layernorm", "post_attention_layernorm",
        "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", *(f"self_attn.{p}_proj" for p in "qkvo"))),
    )  # fmt: skip
    for model_type in REORDERED:
        architecture = getattr(gguf.MODEL_ARCH, "LLAMA" if model_type == "mistral" else model_type.upper())
        names = gguf.get_tensor_name_map(architecture, 2)
        for module in modules:
            assert gguf_name(f"model.{module}.weight") == f"{names.get_name(f'model.{module}')}.weight"
        assert gguf_name("lm_head.weight") == f"{names.get_name('lm_head')}.weight"


# The command


@pytest.fixture
def model(tmp_path):
    weight = {"a.weight": noise(64, 32), "b.weight": noise(32, 32, seed=1), "norm.weight": noise(32)}
    stored = {"norm.weight": weight["norm.weight"], **int8("a.weight", weight["a.weight"])[0]}
    stored["b.weight"] = weight["b.weight"].round(0)
    return str(write(tmp_path / "model", weight)), str(write(tmp_path / "stored", stored))


def test_a_summary_and_the_worst(capsys, model, tmp_path):
    page = tmp_path / "page"
    assert cli.main(["compare", *model, "--worst", "1", "--report", str(page)]) == 0
    out = capsys.readouterr().out
    assert "b.weight" in out
    assert "int8, a float32 scale for each channel" not in out
    assert "The tensor of lowest SQNR (--all: 2 more)" in out
    assert "2 tensors changed, 1 did not" in out
    assert {file.name for file in page.iterdir()} >= {"distortion.html", "distortion.md", "distortion.json"}
    assert "int8, a float32 scale" in (page / "distortion.md").read_text()
    assert cli.main(["compare", *model, "--all"]) == 0
    assert "norm.weight" in capsys.readouterr().out


def test_numbers_for_programs(capsys, model):
    assert cli.main(["compare", *model, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    worst = min((row for row in data["tensors"] if row["sqnr_db"] is not None), key=lambda row: row["sqnr_db"])
    assert worst["name"] == "b.weight"
    assert data["passed"] is True
    assert cli.main(["compare", *model, "--csv", "--exclude", "norm*"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["name"] for row in rows] == ["a.weight", "b.weight"]
    assert float(rows[1]["sqnr_db"]) == worst["sqnr_db"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--min-sqnr", "5"], 0, ""),
        (["--min-sqnr", "30"], 1, "the SQNR of 'b.weight'"),
        (["--min-sqnr", "30", "--include", "a.*"], 0, ""),
        (["--min-cosine", "0.9999"], 1, "the cosine of 'b.weight'"),
        (["--min-model-sqnr", "60"], 1, "the SQNR of all weights"),
        (["--max-bits", "8"], 1, "bits per weight are stored, more than 8"),
        (["--max-bits", "20"], 0, ""),
    ],
)
def test_bounds_give_the_exit_status(capsys, model, options, code, words):
    assert cli.main(["compare", *model, *options]) == code
    out = capsys.readouterr().out
    assert words in out
    assert out.count("Failed:") == code
    assert cli.main(["compare", *model, *options, "-q"]) == code
    assert capsys.readouterr().out == ""


def test_a_bound_counts_what_is_not_finite(tmp_path):
    weight = noise(8, 8)
    stored = weight.copy()
    stored[0, 0] = np.nan
    found = compare_checkpoints(write(tmp_path / "a", {"w": weight}), write(tmp_path / "b", {"w": stored}))
    assert Bounds(sqnr=1.0).broken(found) == ["1 elements are finite in one of the two alone"]


def test_a_missing_weight_is_named_and_fails(capsys, model, tmp_path):
    weight, _ = model
    codes = {"a.weight": np.zeros((64, 16), np.uint8), "a.weight.scale": np.ones(64, np.float32)}
    other = write(tmp_path / "other", {**codes, "norm.weight": noise(32), "extra": noise(3)})
    assert cli.main(["compare", weight, str(other)]) == 1
    out = capsys.readouterr().out
    assert "'b.weight' (not in the quantized checkpoint)" in out
    assert "not recognized" in out
    assert "'extra'" in out
    assert cli.main(["compare", weight, str(other), "--include", "norm*", "-q"]) == 0


def test_what_cannot_be_compared_is_refused(capsys, model, tmp_path):
    weight, stored = model
    foreign = write(tmp_path / "foreign", {"z": noise(3)})
    for words, said in (
        ([weight, str(foreign)], "has no tensor to compare"),
        ([weight, "nothing"], "nothing: no such file or folder"),
        ([weight, stored, "--sqnr", "1"], "--sqnr is an option of the comparison of reports, not of checkpoints"),
        ([weight, stored, "--json", "--csv"], "exclude each other"),
        ([weight, stored, "--min-sqnr", "nan"], "bound sqnr must be a finite number"),
        (["a.json", "b.json", "--min-sqnr", "1"], "--min-sqnr is an option of the comparison of checkpoints"),
    ):
        assert cli.main(["compare", *words]) == 2
        captured = capsys.readouterr()
        assert said in captured.err
        assert captured.err.count("\n") == 1


def test_the_page_begins_with_all_and_the_worst(model):
    measured = compare_checkpoints(*model)
    lead = COMPARE_CHECKPOINTS.page(Compared(measured, Bounds(sqnr=30.0)), figures=False).sections[0].lead
    of, weights, bits, sqnr, *_, check = lead.rows[0]
    total = measured.total
    assert (of, weights, bits, sqnr) == ("all weights", total.elements, total.bits_per_weight, total.sqnr_db)
    assert check == "1 broken bound"
    worst = measured.changed[0]
    assert lead.rows[1][0] == f"the lowest SQNR: {worst.name}"
    assert lead.rows[1][3] == worst.sqnr_db == min(tensor.sqnr_db for tensor in measured.changed)
    same = COMPARE_CHECKPOINTS.page(Compared(compare_checkpoints(model[0], model[0])), figures=False).sections[0].lead
    assert [row[-1] for row in same.rows] == ["nothing unusual"]


def test_the_figure_of_a_page(model, tmp_path):
    measured = compare_checkpoints(*model)
    section = tensors_section(Compared(measured, Bounds(sqnr=20.0)), True)
    [figure] = section.figures
    [axes] = figure.canvas.axes
    assert sorted(value for line in axes.lines[:-1] for value in line.get_ydata()) == sorted(
        row.sqnr_db for row in measured.changed
    )
    assert axes.lines[-1].get_ydata() == [20.0, 20.0]
    assert any("b.weight" in hint for hints in figure.hints.values() for hint in hints)
    same = compare_checkpoints(model[0], model[0])
    assert tensors_section(Compared(same), True).figures == ()
    assert tensors_section(Compared(measured), False).figures == ()


def test_nothing_changed_has_no_table(capsys, model):
    assert cli.main(["compare", model[0], model[0]]) == 0
    out = capsys.readouterr().out
    assert "No element of any tensor changed." in out
    assert "lowest SQNR" not in out


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("x/m", "y/m")])
def test_names_of_folders(tmp_path, first, second):
    paths = [write(tmp_path / name, {"w": noise(4)}) for name in (first, second)]
    found = compare_checkpoints(*paths)
    assert (found.original, found.quantized) == (first, second)


def test_a_config_with_a_byte_order_mark(tmp_path):
    tensors = hugging_face()
    theirs = {gguf_name(name): llama_cpp(name, tensor) for name, tensor in tensors.items()}
    first, second = write(tmp_path / "a", tensors), write(tmp_path / "b", theirs)
    (first / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8-sig")
    assert all(row.identical for row in compare_checkpoints(first, second).tensors)


@pytest.mark.parametrize("scheme", ["int8", "rf8", "e4m3fn", "mxfp4", "nvfp4", "float16", "takum16"])
def test_schemes_of_our_own_files(tmp_path, scheme):
    """The numbers are those that `load_quantized` rounds to float32."""
    weight = noise(16, 64)
    source = write(tmp_path / "a", {"l.weight": weight})
    rf8sim.quantize_checkpoint(source, tmp_path / "out", Plan(Recipe(scheme), kept=()))
    numbers = rf8sim.load_quantized(tmp_path / "out")["l.weight"]
    [row] = compare_checkpoints(source, tmp_path / "out").tensors
    error = weight.astype(np.float64) - numbers
    assert row.noise == pytest.approx(float(np.sum(error**2)), rel=1e-4)
    assert row.noise > 0


def test_gguf_against_its_own_decoder(tmp_path):
    """A Hugging Face model and a GGUF file of it: the errors are those of the numbers of gguf.dequantize."""
    gguf = pytest.importorskip("gguf")
    from gguf.quants import dequantize, quantize

    weight = noise(16, 256)
    source = write(tmp_path / "a", {"model.layers.0.mlp.up_proj.weight": weight}, LLAMA)
    kinds = gguf.GGMLQuantizationType
    for kind in (kinds.Q4_0, kinds.Q8_0, kinds.Q5_1):
        data = quantize(weight, kind)
        path = tmp_path / f"{kind.name}.gguf"
        writer = gguf.GGUFWriter(str(path), "llama")
        writer.add_tensor("blk.0.ffn_up.weight", data, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        [row] = compare_checkpoints(source, path).tensors
        error = weight.astype(np.float64) - dequantize(data, kind)
        assert row.noise == pytest.approx(float(np.sum(error**2)), rel=1e-12)
        assert row.stored_as == f"GGUF {kind.name}"


def test_onnx_and_ids_of_hugging_face(tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx")
    hub = pytest.importorskip("huggingface_hub")
    weight = noise(16, 32)
    write(tmp_path / "a", {"w": weight})
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **_: str(tmp_path / name.partition("/")[2]))
    stored = onnx.numpy_helper.from_array(weight.astype(np.float16), "w")
    graph = onnx.helper.make_graph([], "g", [], [], [stored])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "b.onnx")
    found = compare_checkpoints("org/a", tmp_path / "b.onnx")
    assert (found.original, found.quantized) == ("a", "b.onnx")
    error = weight.astype(np.float64) - weight.astype(np.float16)
    assert found.total.noise == pytest.approx(float(np.sum(error**2)), rel=1e-12)
    rf8sim.quantize_checkpoint(tmp_path / "a", tmp_path / "c", Plan(Recipe("rf8"), kept=()))
    assert compare_checkpoints("org/a", "org/c").tensors[0].stored_as == "rf8/channel"

"""GGUF files that are written: codes beside llama.cpp's own, metadata and kept tensors to the byte, refusals."""

import json

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")
from gguf.constants import GGMLQuantizationType as Type  # noqa: E402
from gguf.quants import dequantize, quantize  # noqa: E402

import rf8sim  # noqa: E402
from rf8sim.__main__ import main  # noqa: E402
from rf8sim.checkpoints.checkpoint import open_checkpoint  # noqa: E402
from rf8sim.checkpoints.gguf_blocks import BLOCK_TYPES  # noqa: E402
from rf8sim.checkpoints.gguf_output import compare_gguf, write_gguf  # noqa: E402
from rf8sim.checkpoints.plan import Plan, Recipe  # noqa: E402

TYPES = {name: Type[kind.name] for name, kind in BLOCK_TYPES.items()}
RANDOM, ON_GRID, ODD = "blk.0.attn_q.weight", "blk.0.ffn_up.weight", "blk.0.ssm.weight"


def write(path, tensors, fields=(), arch="llama"):
    writer = gguf.GGUFWriter(str(path), arch)
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc", "ä d"])
    writer.add_array("tokenizer.ggml.scores", [1.5, 2.5, -1.0])
    writer.add_string("tokenizer.chat_template", "{{ messages }}")
    writer.add_float32("llama.rope.freq_base", 1e5)
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_file_type(0)
    for name, value in fields:
        writer.add_uint16(name, value)
    for name, data, kind in tensors:
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def on_grid(rng):
    """Weights whose scales are float16 exactly and whose quotients are codes of every type; a block of zeros too."""
    codes = rng.integers(0, 2, (6, 96)).astype(np.float32)
    codes[:, ::32], codes[:, 1::32] = -8, 7  # of int4 the extreme element is -8; of uint4 codes go from 0 to 15
    grid = codes * np.float32(2.0**-5)
    grid[0, :32] = 0
    return grid


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    rng = np.random.default_rng(5)
    weights = (0.02 * rng.standard_normal((40, 96))).astype(np.float32)
    weights[3, 32:64] = 0
    tensors = [
        ("token_embd.weight", quantize(weights[:8], Type.Q8_0), Type.Q8_0),
        ("blk.0.attn_norm.weight", weights[0], None),
        (RANDOM, weights, None),
        ("rope_freqs.index", np.arange(5, dtype=np.int32), None),
        (ON_GRID, on_grid(rng), None),
        ("blk.0.ffn_down.weight", weights[:16].astype(np.float16), None),
    ]
    return write(tmp_path_factory.mktemp("source") / "model.gguf", tensors)


@pytest.fixture(scope="module")
def written(source, tmp_path_factory):
    """The file quantized to each type."""
    folder = tmp_path_factory.mktemp("written")
    for name in TYPES:
        command = ["quantize", str(source), "-o", str(folder / f"{name}.gguf"), "-f", name, "-q"]
        assert main(command) == 0
    return {name: folder / f"{name}.gguf" for name in TYPES}


def tensors_of(path):
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def plain(path):
    return {info.name: info for info in open_checkpoint(path)}


@pytest.mark.parametrize("name", TYPES)
def test_gguf_decodes_the_numbers_of_the_scheme(written, source, name):
    tensors, originals = tensors_of(written[name]), tensors_of(source)
    for tensor in (RANDOM, ON_GRID, "blk.0.ffn_down.weight"):
        assert tensors[tensor].tensor_type == TYPES[name]
        want = rf8sim.quantize(np.array(originals[tensor].data, np.float32), name).dequantize(np.float32)
        assert np.array_equal(dequantize(tensors[tensor].data, TYPES[name]), want)


@pytest.mark.parametrize("name", TYPES)
def test_codes_are_those_of_gguf_where_the_rule_gives_the_same(written, source, name):
    data, original = tensors_of(written[name]), tensors_of(source)
    if name == "q4_0":  # the grid has its scales and its elements exactly
        assert np.array_equal(data[ON_GRID].data, quantize(np.array(original[ON_GRID].data), TYPES[name]))
    theirs = quantize(np.array(original[RANDOM].data), TYPES[name])
    if name == "mxfp4":  # no element lies halfway
        assert np.array_equal(data[RANDOM].data, theirs)
    same = (data[RANDOM].data == theirs).mean()
    assert same > 0.97
    blocks = data[RANDOM].data.reshape(-1, BLOCK_TYPES[name].size)
    scale_bytes = slice(0, 1 if name == "mxfp4" else 2)
    assert np.array_equal(blocks[:, scale_bytes], theirs.reshape(blocks.shape)[:, scale_bytes])  # zeros too


def test_q8_0_on_a_grid_of_its_own_is_gguf_s_to_the_byte(tmp_path):
    codes = np.random.default_rng(1).integers(-126, 127, (8, 64)).astype(np.float32)
    codes[:, ::32] = 127
    grid = codes * np.float32(2.0**-9)
    path = write(tmp_path / "grid.gguf", [("w.weight", grid, None)])
    assert main(["quantize", str(path), "-o", str(tmp_path / "out.gguf"), "-q"]) == 0  # q8_0 by default
    assert np.array_equal(tensors_of(tmp_path / "out.gguf")["w.weight"].data, quantize(grid, Type.Q8_0))


def test_metadata_and_kept_tensors_are_those_of_the_source(written, source):
    before, after = gguf.GGUFReader(source), gguf.GGUFReader(written["q4_0"])
    added = {"general.quantization_version": 2}
    for key, field in after.fields.items():
        if key == "general.file_type":
            assert field.contents() == 2  # mostly Q4_0
        elif key in before.fields and not key.startswith("GGUF."):
            assert field.contents() == before.fields[key].contents(), key
            assert field.types == before.fields[key].types
        elif not key.startswith("GGUF."):
            assert field.contents() == added.pop(key)
    assert not added
    assert set(before.fields) <= set(after.fields)
    assert [tensor.name for tensor in before.tensors] == [tensor.name for tensor in after.tensors]
    kept = {tensor.name: tensor for tensor in after.tensors}
    for tensor in before.tensors:
        if tensor.name in ("token_embd.weight", "blk.0.attn_norm.weight", "rope_freqs.index"):
            assert kept[tensor.name].tensor_type == tensor.tensor_type
            assert kept[tensor.name].data.tobytes() == tensor.data.tobytes()


def test_manifest_and_summary(capsys, source, tmp_path):
    out = tmp_path / "out.gguf"
    assert main(["quantize", str(source), "-o", str(out), "-f", "q4_0", "--require", "bits<=12"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "gguf decodes the numbers that were quantized" in text
    assert "kept in Q8_0 (norms, embeddings, biases): token_embd.weight." in text
    manifest = json.loads((tmp_path / "out.gguf.manifest.json").read_text())
    assert sum(manifest["bits"].values()) * sum(t["elements"] for t in manifest["tensors"]) == pytest.approx(
        8 * out.stat().st_size
    )
    assert main(["compare", str(source), str(out), "--min-sqnr", "15", "-q"]) == 0


def test_a_split_model_becomes_one_file(source, tmp_path):
    weights = np.random.default_rng(3).standard_normal((4, 64)).astype(np.float32)
    for number in (1, 2):
        fields = (("split.no", number - 1), ("split.count", 2))
        write(tmp_path / f"m-0000{number}-of-00002.gguf", [(f"w{number}.weight", weights * number, None)], fields)
    assert main(["quantize", str(tmp_path / "m-00001-of-00002.gguf"), "-o", str(tmp_path / "one.gguf"), "-q"]) == 0
    reader = gguf.GGUFReader(tmp_path / "one.gguf")
    assert [tensor.name for tensor in reader.tensors] == ["w1.weight", "w2.weight"]
    assert not [key for key in reader.fields if key.startswith("split.")]
    assert reader.fields["tokenizer.ggml.tokens"].contents() == ["a", "bc", "ä d"]


def test_damage_is_seen_when_it_is_read_back(source, tmp_path):
    out = write_gguf(open_checkpoint(source), tmp_path / "out.gguf", Plan(Recipe("q8_0")))
    compared, damage = compare_gguf(out)
    assert not damage
    assert not any(tensor.differing for tensor in compared)
    tensors = tensors_of(out.path)
    offsets = {name: int(tensors[name].data_offset) for name in (RANDOM, "token_embd.weight")}
    del tensors
    data = bytearray(out.path.read_bytes())
    for offset in offsets.values():
        data[offset + 5] ^= 0x10
    out.path.write_bytes(data)
    compared, damage = compare_gguf(out)
    assert [sentence for sentence in damage if RANDOM in sentence]
    assert [tensor.name for tensor in compared if tensor.differing] == ["token_embd.weight"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A file with rows that are no whole blocks, and the same weights as safetensors."""
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("odd")
    rows = np.random.default_rng(2).standard_normal((4, 33)).astype(np.float32)
    write(folder / "odd.gguf", [(ODD, rows, None)])
    save_file({ODD: rows}, folder / "plain.safetensors")
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.gguf", "-f", "rf8"], "GGUF has no type for rf8/channel: use q8_0, q4_0, q4_1, mxfp4"),
        (["odd.gguf", "-f", "q8_0"], "its rows of 33 are no whole blocks of 32: keep it (--keep"),
        (["plain.safetensors", "-f", "q8_0"], "GGUF is written from GGUF"),
        (["model.gguf", "-f", "q8_0", "--entropy", "rans"], "GGUF has no entropy-coded tensors"),
        (["model.gguf", "-f", "q8_0", "--protect", "1%"], "GGUF holds no protected weights"),
        (["model.gguf", "-f", "q8_0", "--kept-dtype", "bfloat16"], "carried over byte for byte"),
        (["model.gguf", "-f", "q8_0", "--require", "metric>=-1%", "--evaluate", "echo 1 {}"], "is not evaluated here"),
        (["model.gguf", "-f", "q8_0", "--keep", "no.such"], "matches none of the"),
    ],
)
def test_what_cannot_be_written_is_refused_in_a_sentence(capsys, source, odd, tmp_path, arguments, message):
    path = source if arguments[0] == "model.gguf" else odd / arguments[0]
    assert main(["quantize", str(path), "-o", str(tmp_path / "out.gguf"), *arguments[1:]]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error
    assert not list(tmp_path.iterdir())


def test_a_broken_requirement_leaves_nothing(capsys, source, tmp_path):
    command = ["quantize", str(source), "-o", str(tmp_path / "out.gguf"), "-f", "q4_0", "--require", "sqnr>=60dB"]
    assert main(command) == 1
    assert "refused" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

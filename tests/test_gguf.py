"""GGUF files: every type against gguf's own decoder, split models, damaged files, and the commands on them."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType  # noqa: E402
from gguf.quants import _type_traits, dequantize, quantize  # noqa: E402

from rf8sim.checkpoints import checkpoint, containers  # noqa: E402
from rf8sim.checkpoints.checkpoint import CheckpointError, open_checkpoint  # noqa: E402
from rf8sim.checkpoints.readers import gguf as gguf_reader  # noqa: E402
from rf8sim.checkpoints.readers.gguf_layouts import LAYOUTS, block_decoder  # noqa: E402

TYPES = sorted(_type_traits, key=lambda kind: kind.value)
ROWS, COLUMNS = 3, 512


def blocks_of(kind) -> np.ndarray:
    """Rows of a type as gguf quantizes them; random ones where it cannot."""
    rng = np.random.default_rng(kind.value)
    try:
        with np.errstate(all="ignore"):
            return quantize(rng.normal(size=(ROWS, COLUMNS)).astype(np.float32), kind)
    except NotImplementedError:
        block, size = GGML_QUANT_SIZES[kind]
        return rng.integers(0, 256, (ROWS, COLUMNS // block * size), np.uint8)


def write(path: Path, tensors, arch: str = "llama", fields=()) -> Path:
    writer = gguf.GGUFWriter(str(path), arch)
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc", "d"])
    writer.add_array("numbers", [1, 2, 3])
    for name, value in fields:
        writer.add_uint16(name, value)
    for name, data, kind in tensors:
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def every_type(tmp_path_factory) -> tuple[Path, dict]:
    data = {kind: blocks_of(kind) for kind in TYPES}
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write(path, [(kind.name, array, kind) for kind, array in data.items()])
    return path, data


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(8, 64)).astype(np.float32)
    return write(
        tmp_path_factory.mktemp("small") / "small.gguf",
        [
            ("blk.0.attn_q.weight", quantize(rows, GGMLQuantizationType.Q8_0), GGMLQuantizationType.Q8_0),
            ("blk.0.ffn_up.weight", rows, None),
            ("blk.0.attn_norm.weight", rows[0], None),
        ],
    )


def bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32).view(np.uint32)


@pytest.mark.parametrize("large", [False, True], ids=["gguf", "compiled"])
@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_each_type_is_read_as_gguf_decodes_it(kind, large, every_type, monkeypatch):
    """Random blocks, so some scales are NaN or infinite; a small tensor by gguf itself, a large one by our own loop."""
    monkeypatch.setattr(gguf_reader, "_LARGE", 0 if large else 1 << 40)
    path, data = every_type
    info = next(tensor for tensor in open_checkpoint(path) if tensor.name == kind.name)
    with np.errstate(all="ignore"):
        want = dequantize(data[kind], kind).reshape(ROWS, COLUMNS)
    assert info.shape == (ROWS, COLUMNS)
    [all_rows] = info.row_chunks([range(ROWS)])
    assert np.array_equal(bits(all_rows.values), bits(want))
    # pieces that begin and end inside blocks
    for start, count in ((0, 1), (37, 300), (511, 2), (1000, ROWS * COLUMNS - 1000)):
        assert np.array_equal(bits(info.elements(start, count)), bits(want.reshape(-1)[start : start + count]))
    pieces = np.concatenate([chunk.values.reshape(-1) for chunk in info.chunks(elements=100)])
    assert np.array_equal(bits(pieces), bits(want.reshape(-1)))
    if kind.name == "BF16":
        assert info.dtype == "bfloat16"
        assert info.coded is None
    else:
        block, size = GGML_QUANT_SIZES[kind]
        assert info.dtype == "float32"
        assert info.coded.words == f"GGUF {kind.name}"
        assert info.coded.bits == 8 * size / block


@pytest.mark.parametrize("kind", LAYOUTS)
def test_every_code_and_scale_of_a_layout(kind):
    """Random bytes, a block for each of many scales, against gguf's own decoder, to the bit."""
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    layout, decode = LAYOUTS[kind], block_decoder(kind)
    assert layout.size == block
    data = np.random.default_rng(block + size).integers(0, 256, (3000, size), np.uint8)
    blocks = data.copy()
    for high in {layout.d + 1, (layout.d2 if layout.sign else layout.d) + 1}:
        blocks[:, high] &= 0xBB  # no exponent of an infinity
    want = dequantize(blocks.reshape(1, -1), GGMLQuantizationType[kind])
    assert np.array_equal(bits(decode(blocks)).reshape(-1), bits(want).reshape(-1))
    data[7, layout.d : layout.d + 2] = 255, 255  # NaN: left to gguf
    assert decode(data) is None
    blocks[5, size // 2] ^= 16
    assert not np.array_equal(bits(decode(blocks)).reshape(-1), bits(want).reshape(-1))


def test_a_large_tensor_is_read_in_pieces_that_are_decoded_apart(tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 1 << 16)).astype(np.float32)
    kind = GGMLQuantizationType.Q4_0
    data = quantize(values, kind)
    [info] = open_checkpoint(write(tmp_path / "w.gguf", [("w", data, kind)]))
    want = dequantize(data, kind).reshape(-1)
    assert np.array_equal(info.elements(7, want.size - 9), want[7:-2])


def test_plain_types_and_shapes(tmp_path):
    rng = np.random.default_rng(1)
    arrays = {
        "f32": rng.normal(size=(2, 3, 4)).astype(np.float32),
        "f16": rng.normal(size=(5, 4)).astype(np.float16),
        "f64": rng.normal(size=6),
        "i32": np.arange(4, dtype=np.int32),
    }
    path = write(tmp_path / "plain.gguf", [(name, array, None) for name, array in arrays.items()])
    for info in open_checkpoint(path):
        want = arrays[info.name]
        assert (info.shape, info.dtype) == (want.shape, want.dtype.name)
        assert np.array_equal(info.elements(0, info.size).reshape(info.shape), want)
        assert (info.skipped is None) == (info.name != "i32")


def test_a_type_that_gguf_does_not_decode_is_named(tmp_path):
    kind = GGMLQuantizationType.Q8_1
    block, size = GGML_QUANT_SIZES[kind]
    path = write(tmp_path / "w.gguf", [("w", np.zeros((1, 2 * size), np.uint8), kind)])
    [info] = open_checkpoint(path)
    assert "Q8_1 is not a type" in info.skipped
    assert info.shape == (1, 2 * block)


def test_any_part_of_a_split_model_stands_for_all(tmp_path):
    for number in (1, 2):
        tensors = [(f"w{number}", np.full((2, 2), number, np.float32), None)]
        write(tmp_path / f"m-0000{number}-of-00002.gguf", tensors, fields=[("split.count", 2)])
    for path in (tmp_path, tmp_path / "m-00001-of-00002.gguf", tmp_path / "m-00002-of-00002.gguf"):
        assert [tensor.name for tensor in open_checkpoint(path)] == ["w1", "w2"]
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(CheckpointError, match=r"part 'm-00002-of-00002.gguf' of the model is missing"):
        open_checkpoint(tmp_path)


def test_damaged_and_foreign_files_are_refused_in_a_sentence(small, tmp_path):
    data, path = small.read_bytes(), tmp_path / "bad.gguf"
    cuts = [0, 3, 4, 8, 20, *range(24, 300, 7), len(data) - 1]
    for cut in cuts:
        path.write_bytes(data[:cut])
        with pytest.raises(CheckpointError) as error:
            open_checkpoint(path)
        assert "\n" not in str(error.value)
    for bad, message in (
        (b"PK" + data[2:], "does not begin with 'GGUF'"),
        (data[:4] + struct.pack(">I", 3) + data[8:], "big-endian"),
        (data[:4] + struct.pack("<I", 1) + data[8:], "version 1"),
        (data[:8] + struct.pack("<Q", 1 << 60) + data[16:], "truncated or damaged"),
        (data[:16] + struct.pack("<Q", 1 << 60) + data[24:], "truncated or damaged"),
    ):
        path.write_bytes(bad)
        with pytest.raises(CheckpointError, match=message):
            open_checkpoint(path)


def test_changed_bytes_never_end_in_a_traceback(small, tmp_path):
    data, path, rng = small.read_bytes(), tmp_path / "bad.gguf", np.random.default_rng(3)
    for _ in range(150):
        changed = bytearray(data)
        changed[rng.integers(4, 400)] = rng.integers(0, 256)
        path.write_bytes(changed)
        try:
            for info in open_checkpoint(path):
                if info.skipped is None:
                    list(info.chunks())
        except CheckpointError:
            pass


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "rf8sim", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


@pytest.mark.slow  # each command is a process that compiles
def test_commands_take_them(small, tmp_path):
    shown = command("report", small, "-f", "int8", "-o", tmp_path / "report", "-q")
    assert shown.returncode == 0, shown.stderr
    record = json.loads((tmp_path / "report" / "report.json").read_text())
    records = {tensor["name"]: tensor for tensor in record["tensors"]}
    assert records["blk.0.attn_q.weight"]["stored_as"] == "GGUF Q8_0"
    assert records["blk.0.attn_q.weight"]["stored_bits"] == 8.5
    out = tmp_path / "out.safetensors"
    done = command("quantize", small, "-o", out, "-f", "int8", "-q")
    assert done.returncode == 0, done.stderr
    assert command("check", out, "--against", small, "-q").returncode == 0


def test_readers_and_help_have_the_same_suffixes():
    assert tuple(checkpoint._READERS) == containers.SUFFIXES
    assert ".gguf" in command("report", "--help", COLUMNS="200").stdout


def test_files_that_are_not_read_say_how_to_convert_them(tmp_path):
    for suffix in containers.CONVERSIONS:
        path = tmp_path / f"model{suffix}"
        path.write_bytes(b"x")
        with pytest.raises(CheckpointError, match=f"{suffix} files are not read: "):
            open_checkpoint(path)


def test_without_the_package_the_command_to_install_it_is_given(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(CheckpointError, match="pip install gguf"):
        open_checkpoint(small)

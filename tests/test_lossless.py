"""Packed checkpoints: the file comes back to the byte, whatever is in it; damage is named; no half of one is seen."""

import hashlib
import json
import struct
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rf8sim.checkpoints import lossless
from rf8sim.checkpoints.errors import CheckpointError
from rf8sim.checkpoints.lossless import (
    cut_of,
    find_packed_damage,
    is_packed,
    pack_checkpoint,
    unpack_checkpoint,
)
from rf8sim.checkpoints.prediction import PREDICTED, Predictor, packed_bits
from rf8sim.checkpoints.safetensors import DTYPES, dtype_of, read_header
from rf8sim.cli import main
from rf8sim.formats.floats import SAFETENSORS_LAYOUTS

EXAMPLE = Path(__file__).parents[1] / "examples" / "lm" / "model.safetensors"
MORE = {"F4": 2, "F6_E2M3": 4, "SOMETHING": 1}  # types that this project does not read: elements in so many bytes


def file_of(tensors, metadata=None, indent=None, pad=b"", order=None):
    """Return the bytes of a safetensors file of names to (dtype, shape, bytes)."""
    table, at = ({"__metadata__": metadata} if metadata else {}), 0
    for name in order or tensors:
        dtype, shape, data = tensors[name]
        table[name] = {"shape": shape, "data_offsets": [at, at + len(data)], "dtype": dtype}
        at += len(data)
    text = json.dumps(dict(reversed(table.items())), indent=indent).encode() + pad
    return struct.pack("<Q", len(text)) + text + b"".join(tensors[name][2] for name in order or tensors)


def round_trip(folder: Path, data: bytes, coder="rans", **options):
    """Pack and unpack; return the report."""
    source, packed, back = (folder / name for name in ("a.safetensors", "a.rf8z", "back.safetensors"))
    source.write_bytes(data)
    report = pack_checkpoint(source, packed, coder, **options)
    unpack_checkpoint(packed, back)
    assert back.read_bytes() == data
    assert report.stored == packed.stat().st_size
    assert find_packed_damage(packed) == []
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    return report


def of_every_type(count, seed=0):
    generator = np.random.default_rng(seed)
    tensors = {}
    for dtype in DTYPES:
        kind = dtype_of(dtype)
        numbers = generator.normal(0, 3, count)
        with np.errstate(all="ignore"):
            data = numbers.astype(kind).tobytes()
        tensors[f"of.{dtype}"] = (dtype, [count], data)
    for dtype, share in MORE.items():
        tensors[f"of.{dtype}"] = (dtype, [count * share, 1], generator.bytes(count))
    return tensors


@pytest.mark.parametrize("coder", ["rans", "huffman"])
@pytest.mark.parametrize("count", [0, 1, 7, 5000])
def test_every_type_comes_back(tmp_path, count, coder):
    tensors = of_every_type(count)
    tensors["header"] = ("F32", [], struct.pack("<f", -0.0))  # the name that the packed header would have
    tensors["empty"] = ("F16", [3, 0, 2], b"")
    report = round_trip(tmp_path, file_of(tensors, {"format": "pt", "note": "ä\n"}), coder)
    assert {t.name for t in report.tensors} == tensors.keys()
    assert {t.dtype for t in report.tensors} >= DTYPES.keys() | MORE.keys()
    if count == 5000:
        by_name = {t.name: t for t in report.tensors}
        for dtype in ("BF16", "F16", "F32", "I64", "BOOL"):
            assert by_name[f"of.{dtype}"].stored < 0.95 * by_name[f"of.{dtype}"].nbytes, dtype


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_in_any_type_come_back(tmp_path, data):
    tensors = {}
    for name in data.draw(
        st.lists(st.text(min_size=1, max_size=8).filter("__metadata__".__ne__), max_size=4, unique=True)
    ):
        dtype = data.draw(st.sampled_from([*DTYPES, *MORE]))
        count = data.draw(st.integers(0, 12))
        size = count * (dtype_of(dtype).itemsize if dtype in DTYPES else 1)
        part, repeats = data.draw(st.binary(min_size=size, max_size=size)), data.draw(st.sampled_from([1, 2, 700]))
        tensors[name] = (dtype, [repeats, count], part * repeats)
    round_trip(
        tmp_path,
        file_of(tensors, indent=data.draw(st.sampled_from([None, 1])), pad=b" " * data.draw(st.integers(0, 9))),
    )


def test_the_header_comes_back_as_it_was(tmp_path):
    """Spaces, order of keys and tensors, an odd length: all of the header's bytes."""
    weights = np.random.default_rng(0).normal(size=3000).astype(np.float32).tobytes()
    tensors = {"b": ("F32", [3000], weights), "a": ("U8", [3], b"abc"), "c": ("BF16", [1500], weights[:3000])}
    for indent, pad in ((None, b""), (3, b"  "), (None, b"\n\t ")):
        for order in (["b", "a", "c"], ["c", "a", "b"]):
            round_trip(tmp_path, file_of(tensors, {"z": "1", "a": "2"}, indent, pad, order))


def test_no_tensor(tmp_path):
    assert round_trip(tmp_path, file_of({})).tensors == ()


def test_several_pieces(tmp_path, monkeypatch):
    """Each piece has codes of its own; a tensor ends in the middle of one."""
    monkeypatch.setattr(lossless, "_PIECE", 1 << 13)
    weights = np.random.default_rng(0).normal(size=(2, 20_001))
    weights[1] *= 1000
    tensors = {"a": ("F32", [2, 20_001], weights.astype(np.float32).tobytes()),
               "b": ("BF16", [40_002], weights.astype(ml_dtypes.bfloat16).tobytes())}  # fmt: skip
    data = file_of(tensors)
    many = round_trip(tmp_path, data).stored
    assert many < 0.85 * len(data)
    monkeypatch.setattr(lossless, "_PIECE", 1 << 20)
    assert round_trip(tmp_path, data).stored != many


def test_memory_is_bounded(tmp_path, monkeypatch):
    """It depends on the size of a piece, not on that of a tensor."""
    monkeypatch.setattr(lossless, "_PIECE", 1 << 16)
    block = np.random.default_rng(0).normal(size=1 << 20).astype(ml_dtypes.bfloat16).tobytes()
    source = tmp_path / "a.safetensors"
    source.write_bytes(file_of({"a": ("BF16", [20, 1 << 20], block * 20)}))
    tracemalloc.start()
    try:
        pack_checkpoint(source, tmp_path / "a.rf8z", threads=1)
        unpack_checkpoint(tmp_path / "a.rf8z", tmp_path / "b.safetensors", threads=1)
        assert tracemalloc.get_traced_memory()[1] < 12e6
    finally:
        tracemalloc.stop()
    assert (tmp_path / "b.safetensors").read_bytes() == source.read_bytes()


def test_a_folder_comes_back(tmp_path):
    source = tmp_path / "model"
    (source / "vae").mkdir(parents=True)
    (source / ".cache").mkdir()
    (source / ".cache" / "x").write_text("hidden")
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "vae/weights.safetensors"]
    for seed, name in enumerate(shards):
        (source / name).write_bytes(file_of(of_every_type(3000, seed)))
    (source / "config.json").write_text("{}")
    (source / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    report = pack_checkpoint(source, tmp_path / "packed")
    assert is_packed(tmp_path / "packed")
    assert not is_packed(source)
    assert sorted(p.name for p in (tmp_path / "packed").iterdir()) == [
        "config.json", "model-00001-of-00002.safetensors.rf8z", "model-00002-of-00002.safetensors.rf8z",
        "model.safetensors.index.json", "vae",
    ]  # fmt: skip
    assert report.nbytes == sum((source / name).stat().st_size for name in shards)
    assert find_packed_damage(tmp_path / "packed") == []
    unpack_checkpoint(tmp_path / "packed", tmp_path / "back")
    names = [path.relative_to(tmp_path / "back") for path in (tmp_path / "back").rglob("*") if path.is_file()]
    assert len(names) == 5
    assert all((source / name).read_bytes() == (tmp_path / "back" / name).read_bytes() for name in names)
    (source / f"{shards[0]}.rf8z").write_bytes(b"")
    with pytest.raises(CheckpointError, match="move one of them away"):
        pack_checkpoint(source, tmp_path / "again")
    with pytest.raises(CheckpointError, match="lies in the folder"):
        pack_checkpoint(source, source / "packed")


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path):
    weights = np.random.default_rng(0).normal(size=3000)
    tensors = {
        "first": ("F32", [3000], weights.astype(np.float32).tobytes()),
        "second": ("BF16", [3000], weights.astype(ml_dtypes.bfloat16).tobytes()),
    }
    (tmp_path / "a.safetensors").write_bytes(file_of(tensors))
    pack_checkpoint(tmp_path / "a.safetensors", tmp_path / "a.rf8z")
    return tmp_path / "a.rf8z"


def test_every_damaged_byte_is_named(packed):
    original = packed.read_bytes()
    header = read_header(packed)
    out = packed.parent / "out.safetensors"
    out.write_text("what was there before")
    step = 101
    for at in [*range(0, len(header.raw), step), *range(len(header.raw), len(original), step), len(original) - 1]:
        wrong = bytearray(original)
        wrong[at] ^= 1 << at % 8
        packed.write_bytes(wrong)
        place = at - len(header.raw)
        name = next((name for name, entry in header.entries.items() if entry.begin <= place < entry.end), "header")
        with pytest.raises(CheckpointError, match="header" if name == "header" else f"tensor '{name}' is damaged"):
            unpack_checkpoint(packed, out)
        assert len(find_packed_damage(packed)) == 1
    for size in (0, 7, 8, len(header.raw), len(original) - 1):
        packed.write_bytes(original[:size])
        with pytest.raises(CheckpointError):
            unpack_checkpoint(packed, out)
    packed.write_bytes(original + b"\0")
    with pytest.raises(CheckpointError, match="too long"):
        unpack_checkpoint(packed, out)
    assert out.read_text() == "what was there before"


def test_all_damaged_tensors_are_listed(packed):
    header, wrong = read_header(packed), bytearray(packed.read_bytes())
    for name in ("first", "second"):
        wrong[len(header.raw) + header.entries[name].end - 1] ^= 1
    packed.write_bytes(wrong)
    assert ["'first'" in find_packed_damage(packed)[0], "'second'" in find_packed_damage(packed)[1]] == [True, True]


def resealed(packed: Path, **fields):
    """Change fields of the form, and seal the header again."""
    from rf8sim.checkpoints.safetensors import NO_SEAL, SEAL, seal

    data, header = packed.read_bytes(), read_header(packed)
    form = json.loads(header.metadata["rf8sim_packed"]) | fields
    table = json.loads(header.raw[8:])
    table["__metadata__"] = {"rf8sim_packed": json.dumps(form), SEAL: NO_SEAL}
    text = json.dumps(table).encode().ljust(len(header.raw) + 64)
    packed.write_bytes(seal(len(text).to_bytes(8, "little") + text) + data[len(header.raw) :])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"form": 2}, "is of form 2, this version reads form 1"),
        ({"sha256": "0" * 64}, "is not the original"),
        ({"size": 12}, "header"),
        ({"header": "nothing"}, "header is damaged"),
        ({"header": "first"}, "header is damaged"),
        ({"size": "many"}, "header is damaged"),
    ],
)
def test_a_form_that_was_changed_is_refused(packed, fields, message):
    resealed(packed)
    assert find_packed_damage(packed) == []
    resealed(packed, **fields)
    with pytest.raises(CheckpointError, match=message):
        unpack_checkpoint(packed, packed.parent / "out.safetensors")
    assert not (packed.parent / "out.safetensors").exists()
    assert len(find_packed_damage(packed)) == 1


def test_a_source_that_changes_is_not_packed(tmp_path, monkeypatch):
    """What was written is compared with the file as it then is."""
    source = tmp_path / "a.safetensors"
    source.write_bytes(file_of(of_every_type(2000)))
    pack = lossless._pack

    def packs_then_changes(path, *rest):
        yield from pack(path, *rest)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    monkeypatch.setattr(lossless, "_pack", packs_then_changes)
    with pytest.raises(CheckpointError, match=r"tensor 'of\.SOMETHING' changed"):
        pack_checkpoint(source, tmp_path / "a.rf8z")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_wrong_coder_is_seen_before_anything_is_in_place(tmp_path, monkeypatch):
    source = tmp_path / "a.safetensors"
    source.write_bytes(file_of(of_every_type(2000)))
    compress = lossless.compress_patterns

    def wrong(data, *rest, **options):
        data = data.copy()
        data[data.size // 2 :] = data[data.size // 2 :][::-1]
        return compress(data, *rest, **options)

    monkeypatch.setattr(lossless, "compress_patterns", wrong)
    with pytest.raises(CheckpointError, match="memory is faulty"):
        pack_checkpoint(source, tmp_path / "a.rf8z")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


# --- what is refused, and the command line ----------------------------------------------------------------------------


def test_what_cannot_be_packed(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"")
    (tmp_path / "a.safetensors").write_bytes(file_of({}))
    (tmp_path / "cut.safetensors").write_bytes(b"12345")
    (tmp_path / "empty").mkdir()
    for source, output, message in [
        ("no/such/file", "a.rf8z", "no such file or folder"),
        ("a.npy", "a.rf8z", "expected a .safetensors file"),
        ("a.safetensors", "a.safetensors", "a packed checkpoint is a .rf8z file"),
        ("a.safetensors", "b", "end its name"),
        ("empty", "a.rf8z", "name a folder"),
        ("empty", "b", "holds no .safetensors file"),
        ("cut.safetensors", "a.rf8z", "truncated"),
    ]:
        with pytest.raises(ValueError, match=message):
            pack_checkpoint(tmp_path / source, tmp_path / output)
    with pytest.raises(ValueError, match="zstd"):
        pack_checkpoint(tmp_path / "a.safetensors", tmp_path / "a.rf8z", "zstd")
    (tmp_path / "b.rf8z").write_bytes((tmp_path / "a.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="is not packed"):
        unpack_checkpoint(tmp_path / "b.rf8z", tmp_path / "b.safetensors")
    pack_checkpoint(tmp_path / "a.safetensors", tmp_path / "a.rf8z")
    (tmp_path / "again.safetensors").write_bytes((tmp_path / "a.rf8z").read_bytes())
    with pytest.raises(CheckpointError, match="is packed already"):
        pack_checkpoint(tmp_path / "again.safetensors", tmp_path / "c.rf8z")


def test_the_commands(tmp_path, capsys):
    packed, back = str(tmp_path / "lm.rf8z"), str(tmp_path / "lm.safetensors")
    assert main(["pack", str(EXAMPLE), "-o", packed, "--predict"]) == 0
    out = capsys.readouterr().out
    assert "predicted bits" in out
    assert "equal to the byte" in out
    assert main(["check", packed]) == 0
    assert "no damage" in capsys.readouterr().out
    assert main(["unpack", packed, "-o", back]) == 0
    digests = [hashlib.sha256(Path(path).read_bytes()).digest() for path in (EXAMPLE, back)]
    assert digests[0] == digests[1]
    capsys.readouterr()
    assert main(["pack", str(EXAMPLE), "-o", packed, "--json", "--coder", "huffman"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["stored"] == Path(packed).stat().st_size
    assert report["tensors"][0]["prediction"] is None
    data = bytearray(Path(packed).read_bytes())
    data[-1] ^= 1
    Path(packed).write_bytes(data)
    assert main(["check", packed]) == 1
    assert "is damaged" in capsys.readouterr().err
    assert main(["unpack", packed, "-o", back]) == 2
    assert "restore the file from a copy" in capsys.readouterr().err
    assert main(["report", packed, "-o", str(tmp_path / "r")]) == 2
    assert "rf8sim unpack" in capsys.readouterr().err


# --- prediction -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [0.6, 1.0, 2.0])
@pytest.mark.parametrize("dtype", PREDICTED)
def test_prediction_and_result_agree(tmp_path, dtype, shape):
    """On numbers of the family, within 0.5 %: what follows from two parameters is what the file takes."""
    import ggd

    weights = ggd.GGD(shape, 4.0).sample(1_000_000, seed=3)
    weights[::10] = 0.0
    data = weights.astype(dtype_of(dtype)).tobytes()
    (tensor,) = round_trip(tmp_path, file_of({"w": (dtype, [1000, 1000], data)}), predict=True).tensors
    assert tensor.prediction.shape == pytest.approx(shape, rel=0.03)
    assert tensor.bits == pytest.approx(tensor.prediction.bits, rel=0.005)


def test_what_has_no_prediction():
    assert Predictor("I8").result() is None
    predictor = Predictor("F32")
    assert predictor.result() is None
    predictor.add(np.zeros(400, np.uint8))
    assert predictor.result() is None


def test_a_distribution_of_zeros_takes_nothing():
    import ggd

    assert packed_bits(ggd.GGD(1.0), SAFETENSORS_LAYOUTS["BF16"], 1.0) == pytest.approx(0.0, abs=1e-9)


def test_cuts_of_all_types():
    """Every type has a cut whose numbers its bytes are."""
    for dtype in DTYPES:
        assert dtype_of(dtype).itemsize % cut_of(dtype, 1 << 20).planes == 0

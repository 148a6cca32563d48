"""How the error of a dot product grows with its length, accumulator by accumulator, on the example model's real data.

python benchmarks/accumulators.py [--save reports/accumulators.md]

The figure is written beside the page.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import rf8sim
from rf8sim.arithmetic.accumulation import ENGINES
from rf8sim.arithmetic.linalg import matmul

LM = Path(__file__).parents[1] / "examples" / "lm"
sys.path.insert(0, str(LM))

import corpus  # noqa: E402
import numpy_model  # noqa: E402

ACCUMULATORS = ("float32", "float16", "bfloat16", "e4m3fn", "e5m2")
ORDERS = ("sequential", "blocked:16", "pairwise")
MATRIX_ENGINES = ("hopper-fp8", "blackwell-fp8", "cdna3-fp8", "riscv-fp8")
LENGTH = 4096  # of the dot products of stored operands
STORED = (
    ("e4m3fn/channel", ("float32", "hopper-fp8", "blackwell-fp8", "cdna3-fp8", "riscv-fp8")),
    ("mxfp8_e4m3", ("float32", "blackwell-mxfp8")), ("mxfp4", ("float32", "blackwell-mxfp4")),
    ("nvfp4", ("float32", "blackwell-nvfp4")),
)  # fmt: skip
ROWS = 128  # rows of activations of each layer, spread over all windows
COLUMNS = 64  # columns of each weight matrix
NAMES = ("attn.qkv", "attn.proj", "mlp.up", "mlp.down")


@dataclass
class Product:
    """Activations (rows, depth) and weights (depth, columns) of one layer, as the model multiplies them."""

    name: str
    activations: np.ndarray
    weights: np.ndarray


def products(windows: int) -> list[Product]:
    """Return every product with a weight matrix that the model makes of validation windows."""
    weights, config = numpy_model.load(LM / "model.safetensors")
    tokens = corpus.read_windows(LM / "validation.bin", int(config["context"]) + 1)[:windows, :-1].astype(np.int64)
    seen: list[Product] = []

    def record(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        layer, which = divmod(len(seen), len(NAMES))
        name = "head" if layer == int(config["layers"]) else f"blocks.{layer}.{NAMES[which]}"
        seen.append(Product(name, x, w))
        return x @ w

    numpy_model.forward(weights, config, tokens, matmul=record)
    return seen


def lengths(longest: int) -> list[int]:
    return [2**k for k in range(3, longest.bit_length())]


def growth(pairs: list[tuple[np.ndarray, np.ndarray]], fmt: str) -> dict[tuple[str, str, str], dict[int, float]]:
    """Return, for each accumulator, order and mode, the relative error of accumulation at each length.

    Of each pair the first terms of the summed axis are taken. The error is the root mean square over all outputs
    relative to that of the exact result, and then the root mean square over the pairs that are long enough. The
    key ``("inputs", "", "")`` holds the error that quantizing the inputs makes.
    """
    choices = [(held, order, "nearest-even") for held in ACCUMULATORS for order in ORDERS]
    choices.append(("bfloat16", "sequential", "stochastic"))
    machines = {choice: rf8sim.Accumulation(choice[0], order=choice[1], rounding=choice[2]) for choice in choices}
    machines |= {(name, str(ENGINES[name].order), str(ENGINES[name].rounding)): ENGINES[name]
                 for name in MATRIX_ENGINES}  # fmt: skip
    squares: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    for a, b in pairs:
        left, right = rf8sim.quantize(a, f"{fmt}/channel,max"), rf8sim.quantize(b, f"{fmt}/*x1,max")
        for length in lengths(a.shape[1]):
            codes = left.codes[:, :length], right.codes[:length]
            ideal = matmul(*codes, fmt)
            exact = a[:, :length].astype(np.float64) @ b[:length].astype(np.float64)
            parts = {("inputs", "", ""): (ideal * (left.scale * right.scale), exact)}
            for choice, machine in machines.items():
                summed = matmul(*codes, fmt, accumulator=machine)
                parts[choice] = summed * (left.scale * right.scale), parts["inputs", "", ""][0]
            for choice, (got, wanted) in parts.items():
                share = np.sum(np.square(got - wanted)) / np.sum(np.square(exact))
                squares.setdefault(choice, {}).setdefault(length, []).append(float(share))
    return {
        choice: {n: float(np.sqrt(np.mean(values))) for n, values in found.items()} for choice, found in squares.items()
    }


def costs(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[list[str]]:
    """Return a row of a table for each scheme and accumulator: both errors of products of `LENGTH` terms, relative."""
    rows = []
    for scheme, accumulators in STORED:
        shares: dict[str, list[tuple[float, float]]] = {name: [] for name in accumulators}
        for a, b in pairs:
            left, right = (rf8sim.quantize(np.ascontiguousarray(x), scheme) for x in (a[:, :LENGTH], b[:LENGTH].T))
            exact = a[:, :LENGTH].astype(np.float64) @ b[:LENGTH].astype(np.float64)
            stored = left.dequantize(np.float64) @ right.dequantize(np.float64).T
            for name in accumulators:
                error = _summed(left, right, name) - _summed(left, right, "exact")
                parts = (np.sum(np.square(part)) / np.sum(np.square(exact)) for part in (stored - exact, error))
                shares[name].append(tuple(map(float, parts)))
        for name, parts in shares.items():
            stored_error, summed_error = np.sqrt(np.mean(parts, axis=0))
            ratio = summed_error / stored_error
            rows.append([scheme, name, f"{stored_error:.1e}", f"{summed_error:.1e}", f"{ratio:.1e}"])
    return rows


def _summed(left: rf8sim.QuantizedTensor, right: rf8sim.QuantizedTensor, accumulator: str) -> np.ndarray:
    """Multiply the rows of two matrices; scales of blocks join the products, others multiply the sums."""
    codes, outer = (left.codes, right.codes.T), 1.0
    scales = left.scheme.scales
    if scales is None or scales.block is None or scales.block[1] < 0:
        return matmul(*codes, left.format, accumulator=accumulator) * (left.scale * right.scale.T)
    if len(left.scales) > 1:
        outer = float(left.scales[1]) * float(right.scales[1])
    size = int(scales.block[1])
    given = rf8sim.OperandScales(left.scales[0], right.scales[0].T, size, scales.format)
    machine = rf8sim.Accumulation("float32", f"blocked:{size}") if accumulator == "float32" else accumulator
    return matmul(*codes, left.format, scales=given, accumulator=machine) * outer


def integer_bits(product: Product, fmt: str) -> int:
    """Return the bits of the integers that hold every result of a layer exactly."""
    left = rf8sim.quantize(product.activations, f"{fmt}/channel,max")
    right = rf8sim.quantize(product.weights, f"{fmt}/*x1,max")
    unit = 2.0 ** (2 * -19)
    largest = np.abs(matmul(left.codes, right.codes, fmt)).max() / unit
    return int(largest).bit_length() + 1


def draw(panels: list[tuple[str, dict[tuple[str, str, str], dict[int, float]]]], path: Path) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    colours = dict(zip(ACCUMULATORS, ("#1d4ed8", "#0f766e", "#c2410c", "#7e22ce", "#a16207"), strict=True))
    colours |= dict(zip(MATRIX_ENGINES, ("#be123c", "#4d7c0f", "#0891b2", "#9d174d"), strict=True))
    styles = dict(zip(ORDERS, ("-", "--", ":"), strict=True))
    options = {"svg.hashsalt": "accumulators", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
               "axes.spines.right": False}  # fmt: skip
    with matplotlib.rc_context(options):
        figure = Figure(figsize=(10.5, 4.8), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True)
        for axis, (title, lines) in zip(axes, panels, strict=True):
            for (held, order, mode), points in lines.items():
                style = {"color": "#1c2128", "linewidth": 2.5, "label": "RF8 inputs (quantization)"}
                if held != "inputs":
                    style = {
                        "color": colours[held], "linestyle": styles.get(order, "-") if mode == "nearest-even" else "-.",
                        "label": held if order not in ORDERS
                        else f"{held}, {order}" + ("" if mode == "nearest-even" else f", {mode}"),
                    }  # fmt: skip
                x = [n for n, value in points.items() if value > 0]
                if x:
                    axis.plot(x, [points[n] for n in x], marker=".", markersize=4, **style)
            axis.set(xscale="log", yscale="log", title=title, xlabel="length of the dot product")
            axis.set_xscale("log", base=2)
            axis.grid(color="#e3e6ea")
        axes[0].set_ylabel("error of accumulation, relative (rms)")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
        figure.savefig(path, metadata={"Date": None})


def table(lines: dict[tuple[str, str, str], dict[int, float]]) -> list[str]:
    shown = sorted({n for points in lines.values() for n in points})
    shown = [n for i, n in enumerate(shown) if i % 2 == (len(shown) - 1) % 2]
    rows = ["| accumulator | order | rounding | " + " | ".join(f"n = {n}" for n in shown) + " |"]
    rows.append("|---|---|---|" + "---:|" * len(shown))
    for (held, order, mode), points in lines.items():
        name = "(input quantization)" if held == "inputs" else held
        rows.append(f"| {name} | {order} | {mode} | " + " | ".join(f"{points[n]:.1e}" for n in shown) + " |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=128, help="validation windows of 128 bytes")
    parser.add_argument("--save", type=Path, default=Path("reports/accumulators.md"))
    arguments = parser.parse_args()

    found = products(arguments.windows)
    tokens = len(found[0].activations)
    rows = np.linspace(0, tokens - 1, ROWS).astype(np.int64)
    layers = [(product.activations[rows], product.weights[:, :COLUMNS]) for product in found]
    # Sums over tokens: what a calibration pass (X'X) and a weight's gradient are made of.
    grams = [(product.activations.T[:32].copy(), product.activations[:, 32:64].copy()) for product in found]
    panels = [
        ("Layers: activations times weights", growth(layers, "rf8")),
        ("Over tokens: activations times activations, X'X", growth(grams, "rf8")),
    ]
    arguments.save.parent.mkdir(parents=True, exist_ok=True)
    figure = arguments.save.with_suffix(".svg")
    draw(panels, figure)
    bits = {product.name: integer_bits(product, "rf8") for product in found}
    lines = [
        "# Error of accumulation against the length of the dot product", "",
        f"![Relative error of accumulation against length, a line for each accumulator and order]({figure.name})", "",
        f"Command: `python benchmarks/accumulators.py --windows {arguments.windows}`. Data: the example language "
        f"model (`examples/lm`), its {len(found)} weight matrices with the activations they meet on {tokens} bytes of "
        "the validation set. RF8 codes on both sides, scales of rule `max` for each row and column, nearest-even. Each "
        "value is the root mean square of the error over that of the exact product, then the root mean square over the "
        f"matrices that are long enough. Left, {ROWS} rows of activations times {COLUMNS} columns of each weight "
        "matrix, the first n of the summed axis (its whole length is 128, or 512 for `mlp.down`). Right, sums over "
        "tokens: 32 columns of the activations times 32 others.", "",
        "Products are exact and each sum is rounded once (`rf8sim.matmul`). float32 shows no error where a sum has at "
        "most 24 bits. The error of quantizing the inputs, black, is there whatever the accumulator: one that stays "
        "well below it costs nothing. `hopper-fp8` and the names after it are [matrix engines]"
        "(../docs/accumulators.md) of NVIDIA, AMD and RISC-V as published models have them: `aligned:F:K` shifts K "
        "products, and as a rule the running sum, to the largest exponent and cuts them F bits below it. A float32 "
        "accumulator that rounds each sum once, as is often assumed of them, has the errors of the rows of float32.",
        "",
    ]  # fmt: skip
    for title, values in panels:
        lines += [f"## {title}", "", *table(values), ""]
    lines += [
        f"## Stored operands at n = {LENGTH}", "",
        f"The same sums over tokens, {LENGTH} of them, of operands stored by each scheme, with its scales along the "
        "tokens. No layer of this model is that long, so these are its activations, not its weights. Errors "
        "are relative to the exact product of the numbers before they were stored. float32 adds exact sums of a block "
        "where blocks have scales, else one product after the other.", "",
        "| scheme | accumulator | error of storing | error of accumulation | ratio |",
        "|---|---|---:|---:|---:|", *(f"| {' | '.join(row)} |" for row in costs(grams)), "",
        "## Integer accumulators", "",
        "Bits of a two's complement integer, in units of 2^-38, that holds every result exactly: from "
        f"{min(bits.values())} to {max(bits.values())} over the matrices "
        f"({', '.join(f'{name} {count}' for name, count in bits.items())}).", "",
    ]  # fmt: skip
    text = "\n".join(lines)
    arguments.save.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

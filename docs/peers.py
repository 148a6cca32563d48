"""Write the table of further packages in docs/comparison.md, and check its claims on the packages that are installed.

pip install --no-deps --target peers apytypes pychop gfloat torchao fpy2 compressed-tensors llmcompressor \
    brevitas qonnx dfloat11 zipnn
PYTHONPATH=peers python docs/peers.py [--check]

A claim names the file of the package that shows it, and what stands there.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).with_name("comparison.md")
PLACE = re.compile(r"(<!-- peers:[^\n]*-->\n).*?(<!-- end of peers -->)", re.DOTALL)


class Claim(NamedTuple):
    """What a package offers; the file in it that shows so, and patterns that stand there."""

    words: str
    file: str
    patterns: tuple[str, ...]


class Peer(NamedTuple):
    """A package: its name in the registry, the version that was looked at, what it is for, and its claims."""

    package: str
    version: str
    purpose: str
    claims: tuple[Claim, ...]


PEERS = (
    Peer("apytypes", "0.5.1", "fixed and floating point of any width, as in hardware", (
        Claim("ROMs in VHDL from arrays", "apytypes/vhdl.py", (r"def generate_rom",)),
    )),
    Peer("pychop", "0.6.2", "round to low precision in NumPy, PyTorch and JAX", (
        Claim("OCP MX", "pychop/__init__.py", (r"MXTensor", r"mx_quantize")),
        Claim("block floating point", "pychop/__init__.py", (r"BFPTensor", r"bfp_quantize")),
        Claim("IEEE P3109", "pychop/__init__.py", (r"p3109_quantize",)),
        Claim("faults injected into bits", "pychop/__init__.py", (r"FaultChop",)),
    )),
    Peer("gfloat", "0.5.2", "reference of formats", (
        Claim("9 rounding modes, 4 of them stochastic", "gfloat/types.py", (
            r"TowardZero", r"TowardNegative", r"TowardPositive", r"TiesToEven", r"TiesToAway", r"Stochastic ",
            r"StochasticOdd", r"StochasticFast ", r"StochasticFastest",
        )),
        Claim("arrays of the array API", "gfloat/round_ndarray.py", (r"array_api_compat",)),
        Claim("block formats", "gfloat/block.py", (r"def quantize_block",)),
    )),
    Peer("torchao", "0.18.0", "quantize PyTorch models to run them fast", (
        Claim("NVFP4", "torchao/prototype/mx_formats/nvfp4_tensor.py", (r"class NVFP4Tensor",)),
        Claim("MX scales in 4 modes", "torchao/prototype/mx_formats/config.py", (
            r"FLOOR = ", r"RCEIL = ", r"\bCEIL = ", r"EVEN = ",
        )),
    )),
    Peer("fpy2", "0.3.0", "programs in stated number formats, transformed and run", (
        Claim("a library of numbers and of rounding contexts", "fpy2/number/round.py", (r"\bclass ", r"def ")),
    )),
    Peer("compressed-tensors", "0.20.1", "the file form of quantized models for vLLM and transformers", (
        Claim("schemes by name: integers of 2 to 8 bits, FP8, MXFP4, MXFP6, MXFP8, NVFP4",
              "compressed_tensors/quantization/quant_scheme.py",
              ('"W4A16"', '"FP8"', '"MXFP4"', '"MXFP6A16"', '"MXFP8"', '"NVFP4"', '"W2A16"')),
    )),
    Peer("llmcompressor", "0.14.0.1", "quantize language models with calibration", (
        Claim("GPTQ", "llmcompressor/modifiers/gptq/base.py", (r"class GPTQ",)),
        Claim("SmoothQuant", "llmcompressor/modifiers/smoothquant/__init__.py", (r"import",)),
        Claim("SparseGPT", "llmcompressor/modifiers/pruning/sparsegpt/__init__.py", (r"import",)),
    )),
    Peer("brevitas", "0.13.4", "quantization-aware training in PyTorch", (
        Claim("OCP and FNUZ minifloats", "brevitas/quant/float_quant_ocp.py", (r"class ",)),
        Claim("OCP MX", "brevitas/quant/mx_quant_ocp.py", (r"class ",)),
    )),
    Peer("qonnx", "1.0.0", "quantization of any width in ONNX graphs", (
        Claim("operators for integers and floats of any width", "qonnx/custom_op/general/floatquant.py", (r"class ",)),
    )),
    Peer("dfloat11", "0.5.0", "bfloat16 weights kept exactly in about 11 bits, decoded on a GPU", (
        Claim("Huffman codes of exponents", "dfloat11/dfloat11_utils.py", (r"HuffmanCodec",)),
    )),
    Peer("zipnn", "0.5.4", "lossless compression of weights", (
        Claim("Huffman, zstd, lz4 and snappy over separated bytes", "zipnn/zipnn.py",
              (r"(?i)huffman", r"(?i)zstd", r"(?i)lz4", r"bfloat16")),
    )),
)  # fmt: skip
"""MMA-Sim, LoFloat, ggufkit and NNCodec are not in the registry, or do not install: nothing is claimed of them."""


def table() -> str:
    """Return the table."""
    lines = ["| package | version | for | it also has |", "|---|---|---|---|"]
    lines += [
        f"| {peer.package} | {peer.version} | {peer.purpose} | {'; '.join(claim.words for claim in peer.claims)} |"
        for peer in PEERS
    ]
    return "\n".join(lines)


def failures(peer: Peer) -> list[str] | None:
    """Return the claims that an installed package does not bear out; None where that version is not installed."""
    try:
        installed = metadata.distribution(peer.package)
    except metadata.PackageNotFoundError:
        return None
    if installed.version != peer.version:
        return None
    wrong = []
    for claim in peer.claims:
        path = Path(str(installed.locate_file(claim.file)))
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        missing = [pattern for pattern in claim.patterns if not re.search(pattern, text)]
        wrong += [f"{peer.package}: {claim.words}: {claim.file} has no {pattern}" for pattern in missing]
    return wrong


def main() -> None:
    """Check the claims, and write the table, or with --check compare it."""
    wrong = []
    for peer in PEERS:
        of_peer = failures(peer)
        verdict = "not installed" if of_peer is None else "as claimed"
        print(f"{peer.package} {peer.version}: {'; '.join(of_peer or []) or verdict}")
        wrong += of_peer or []
    page = PAGE.read_text(encoding="utf-8")
    made = PLACE.sub(lambda match: f"{match[1]}\n{table()}\n\n{match[2]}", page)
    if "--check" in sys.argv[1:]:
        wrong += [] if made == page else [f"{PAGE} is not what {Path(__file__).name} writes"]
    else:
        PAGE.write_text(made, encoding="utf-8")
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()

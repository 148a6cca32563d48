"""Entropy coders on codes of weights: size and speed against zstd, brotli and constriction, in one run.

python benchmarks/coding.py [--log2-size 24] [--rounds 7] [--save reports/speed_coding.md]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from harness import Contender, machine, race, version

import ggd
import rf8sim
from rf8sim.entropy.code_lengths import code_lengths
from rf8sim.entropy.coding import CODERS, compress, decompress

SLOW = 1 << 20  # peers below 1e8 a second get fewer symbols: their rate does not depend on the size


class Peer(NamedTuple):
    name: str
    bytes_per_symbol: float
    encode: Callable[[], object]
    decode: Callable[[], object]
    symbols: int


def ours(codes: np.ndarray) -> list[Peer]:
    found = []
    for coder in CODERS if version("zstandard") else CODERS[:-1]:
        blob = compress(codes, coder)
        assert np.array_equal(decompress(blob), codes)
        found.append(
            Peer(
                f"rf8sim {coder}",
                len(blob) / codes.size,
                lambda coder=coder: compress(codes, coder, threads=1),
                lambda blob=blob: decompress(blob, threads=1),
                codes.size,
            )
        )
    return found


def general(codes: np.ndarray) -> list[Peer]:
    """Compressors of anything, which look for repeats."""
    found, data, few = [], codes.tobytes(), codes[:SLOW].tobytes()
    if version("zstandard"):
        import zstandard

        for level in (1, 3, 19):
            source = data if level < 19 else few
            encoder, decoder = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()
            packed = encoder.compress(source)
            assert decoder.decompress(packed) == source
            found.append(
                Peer(
                    f"zstd level {level}",
                    len(packed) / len(source),
                    lambda encoder=encoder, source=source: encoder.compress(source),
                    lambda decoder=decoder, packed=packed: decoder.decompress(packed),
                    len(source),
                )
            )
    if version("brotli"):
        import brotli

        for quality in (1, 5, 11):
            packed = brotli.compress(few, quality=quality)
            assert brotli.decompress(packed) == few
            found.append(
                Peer(
                    f"brotli quality {quality}",
                    len(packed) / len(few),
                    lambda quality=quality: brotli.compress(few, quality=quality),
                    lambda packed=packed: brotli.decompress(packed),
                    len(few),
                )
            )
    return found


def constriction_ans(codes: np.ndarray) -> list[Peer]:
    if not version("constriction"):
        return []
    import constriction

    few = codes[:SLOW].astype(np.int32)
    counts = np.bincount(few, minlength=256)
    model = constriction.stream.model.Categorical((counts / counts.sum()).astype(np.float32), perfect=False)

    def encode() -> np.ndarray:
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(few, model)
        return coder.get_compressed()

    packed = encode()

    def decode() -> np.ndarray:
        return constriction.stream.stack.AnsCoder(packed).decode(model, few.size)

    assert np.array_equal(decode(), few)
    return [Peer("constriction ANS, model not stored", packed.nbytes / few.size, encode, decode, few.size)]


def table(name: str, codes: np.ndarray, rounds: int) -> list[str]:
    entropy = code_lengths(np.bincount(codes, minlength=256), "entropy").bits_per_symbol
    target, source = np.empty_like(codes), codes.copy()
    peers = [*ours(codes), *general(codes), *constriction_ans(codes)]
    contenders = [Contender("np.copyto of the codes", lambda: np.copyto(target, source), codes.size)]
    contenders += [Contender(f"{p.name}: encode", p.encode, p.symbols) for p in peers]
    contenders += [Contender(f"{p.name}: decode", p.decode, p.symbols) for p in peers]
    rates = race(contenders, rounds, time.process_time)
    lines = [
        f"## {name}: entropy {entropy:.4f} bits a code",
        "",
        "| coder | bits a code | over the entropy, % | encode, MB/s | decode, MB/s |",
        "|---|---:|---:|---:|---:|",
    ]
    for p in peers:
        encode, decode = (rates[f"{p.name}: {way}"] / 1e6 for way in ("encode", "decode"))
        bits = 8 * p.bytes_per_symbol
        lines.append(f"| {p.name} | {bits:.4f} | {100 * (bits / entropy - 1):+.3f} | {encode:.0f} | {decode:.0f} |")
    copied = rates["np.copyto of the codes"] / 1e6
    return [*lines, "", f"`np.copyto` of the codes: {copied:.0f} MB/s.", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log2-size", type=int, default=24, help="base-2 logarithm of the number of codes")
    parser.add_argument("--rounds", type=int, default=7, help="timed calls each; the median counts")
    parser.add_argument("--save", type=Path, help="write the result as Markdown")
    arguments = parser.parse_args()
    size, rounds = arguments.log2_size, arguments.rounds
    weights = ggd.GGD.from_std(1.0, 0.02).sample(1 << size, seed=0).astype(np.float32)
    lines = [
        "# Speed and size of the entropy coders",
        "",
        f"{machine()}, "
        + ", ".join(f"{n} {version(n)}" for n in ("zstandard", "brotli", "constriction") if version(n)),
        "",
        f"Command: `python benchmarks/coding.py --log2-size {size} --rounds {rounds}`. Median of {rounds} calls, "
        f"contenders taking turns, processor time of one thread each; codes of 2^{size} Laplace weights (generalized "
        "Gaussian of shape 1), scales of least error; slow peers get the first "
        f"2^{SLOW.bit_length() - 1}. Sizes count everything: tables, heads, checksums. A code is a byte, so MB/s are "
        "1e6 codes a second; encoding includes counting the codes, decoding the checksums. The machine was busy with "
        "other work, which slows all alike: compare within this run.",
        "",
    ]
    for name in ("rf8", "int8", "nf4"):
        codes = rf8sim.quantize(weights, name).codes
        lines += table(name, codes, rounds)
    text = "\n".join(lines)
    print(text)
    if arguments.save:
        arguments.save.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

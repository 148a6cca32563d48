"""The example of a sentence-embedding model, on a small one with random weights: nothing is downloaded here."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples" / "sentence_embeddings"))

import compare  # noqa: E402
import fits  # noqa: E402
import minilm  # noqa: E402

import ggd  # noqa: E402
from rf8sim.checkpoints.plan import Recipe  # noqa: E402

WIDTH, LAYERS, HEADS = 12, 2, 3
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "un",
    "##believ",
    "##able",
    "believ",
    "cafe",
    "!",
    "a",
    "b",
    "##b",
    "京",
]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)

    def linear(name, outputs, inputs):
        return {
            f"{name}.weight": rng.normal(size=(outputs, inputs)) / np.sqrt(inputs),
            f"{name}.bias": np.zeros(outputs),
        }

    def norm(name):
        return {f"{name}.weight": np.ones(WIDTH), f"{name}.bias": np.zeros(WIDTH)}

    tensors = norm("embeddings.LayerNorm")
    for name, rows in (("word", len(VOCABULARY)), ("position", 300), ("token_type", 2)):
        tensors[f"embeddings.{name}_embeddings.weight"] = rng.normal(size=(rows, WIDTH))
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        for name in ("query", "key", "value"):
            tensors |= linear(f"{layer}.attention.self.{name}", WIDTH, WIDTH)
        tensors |= linear(f"{layer}.attention.output.dense", WIDTH, WIDTH) | norm(f"{layer}.attention.output.LayerNorm")
        tensors |= linear(f"{layer}.intermediate.dense", 2 * WIDTH, WIDTH)
        tensors |= linear(f"{layer}.output.dense", WIDTH, 2 * WIDTH) | norm(f"{layer}.output.LayerNorm")
    save_file({name: tensor.astype(np.float32) for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    config = {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "layer_norm_eps": 1e-12}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("unbelievable", ["un", "##believ", "##able"]), ("Café!", ["cafe", "!"]), ("a, bb", ["a", "[UNK]", "b", "##b"]),
        ("a京a", ["a", "京", "a"]), ("", []), ("b" * 101, ["[UNK]"]), ("believ able", ["believ", "[UNK]"]),
    ],
)  # fmt: skip
def test_tokens(folder, text, tokens):
    found = minilm.Tokenizer(folder / "vocab.txt")(text)
    assert [VOCABULARY[i] for i in found] == ["[CLS]", *tokens, "[SEP]"]


def test_long_texts_are_cut(folder):
    assert len(minilm.Tokenizer(folder / "vocab.txt")("a " * 1000)) == minilm.MAX_TOKENS


def test_embeddings(folder):
    encoder = minilm.Encoder(folder, load_file(folder / "model.safetensors"))
    first, second, third = encoder([[2, 10, 3], [2, 11, 11, 3], [2, 10, 3]])
    assert np.linalg.norm([first, second, third], axis=1) == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(first, third)
    assert abs(first @ second) < 0.999


@pytest.mark.torch
def test_pytorch_gives_the_same_layer(folder):
    """One layer against PyTorch's own encoder layer: post-norm, GELU, the same attention."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    own = {name: torch.from_numpy(tensor) for name, tensor in load_file(folder / "model.safetensors").items()}
    layer = torch.nn.TransformerEncoderLayer(
        WIDTH, HEADS, 2 * WIDTH, dropout=0.0, activation="gelu", layer_norm_eps=1e-12, batch_first=True
    ).eval()
    tokens = [2, 10, 4, 5, 3]
    x = own["embeddings.word_embeddings.weight"][tokens] + own["embeddings.position_embeddings.weight"][:5]
    x = torch.nn.functional.layer_norm(x + own["embeddings.token_type_embeddings.weight"][0], (WIDTH,), eps=1e-12)
    for i in range(LAYERS):
        at = f"encoder.layer.{i}"
        parts = [own[f"{at}.attention.self.{name}.weight"] for name in ("query", "key", "value")]
        state = {
            "self_attn.in_proj_weight": torch.cat(parts), "self_attn.in_proj_bias": torch.zeros(3 * WIDTH),
            **{f"{theirs}.{kind}": own[f"{at}.{mine}.{kind}"] for kind in ("weight", "bias") for theirs, mine in (
                ("self_attn.out_proj", "attention.output.dense"), ("linear1", "intermediate.dense"),
                ("linear2", "output.dense"), ("norm1", "attention.output.LayerNorm"), ("norm2", "output.LayerNorm"),
            )},
        }  # fmt: skip
        layer.load_state_dict(state)
        with torch.no_grad():
            x = layer(x[None])[0]
    mean = x.mean(dim=0)
    encoder = minilm.Encoder(folder, load_file(folder / "model.safetensors"))
    np.testing.assert_allclose(encoder([tokens])[0], (mean / mean.norm()).numpy(), atol=1e-5)


def test_the_page(folder, capsys):
    rng = np.random.default_rng(1)
    texts = ["a b", "unbelievable!", "cafe cafe a", "京 b b", "a", "bb bb un", "believ !"]
    human = rng.random((len(texts), len(texts)))
    page = compare.compare(folder, texts, human, [Recipe("rf8"), Recipe("mxfp4")])
    cosines = [float(row.split("|")[6]) for row in re.findall(r"^\| (?:rf8|mxfp4).*", page, re.MULTILINE)]
    assert 1 > cosines[0] > cosines[1] > 0.5
    assert "on 7 news" in page
    assert capsys.readouterr().out.count("\n") == 2
    assert compare.neighbours(np.eye(6), np.eye(6)) == 1


def test_the_committed_page_has_every_case():
    page = (ROOT / "reports" / "minilm.md").read_text(encoding="utf-8")
    formats, fitted = page.split("## What its weights are like")
    cells = [line.split("|")[1:3] for line in formats.splitlines() if re.match(r"\| \w", line)]
    rows = [(first.strip(), second.strip()) for first, second in cells][1:]
    cases = [(str(case.scheme), "" if case.entropy == "none" else case.entropy) for case in compare.CASES]
    expected = [("float32", ""), *cases]
    assert rows == expected
    kinds = re.findall(r"^\| (\w[^|]*) \| +(\d+) \| ([\d,]+) \|", fitted, re.MULTILINE)
    assert [kind for kind, _, _ in kinds] == list(fits.KINDS)
    assert sum(int(count) for _, count, _ in kinds) == 40
    assert sum(int(weights.replace(",", "")) for _, _, weights in kinds) == 22_682_112


def test_fits_by_kind(folder):
    """Each matrix is of one kind, counted once, with the fit that `ggd` makes of it."""
    weights = load_file(folder / "model.safetensors")
    table, findings = fits.fit_by_kind(weights)
    rows = {
        row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:-1]] for row in table.splitlines()[2:]
    }
    assert list(rows) == [kind for kind in fits.KINDS if kind != "pooler"]
    counts = {kind: int(cells[0]) for kind, cells in rows.items()}
    assert counts == {
        "word embeddings": 1, "positions and token types": 2, "attention: query, key": 2 * LAYERS,
        "attention: value": LAYERS, "attention: output": LAYERS, "MLP: up": LAYERS, "MLP: down": LAYERS,
    }  # fmt: skip
    matrices = [tensor for tensor in weights.values() if tensor.ndim == 2]
    assert sum(int(cells[1].replace(",", "")) for cells in rows.values()) == sum(matrix.size for matrix in matrices)
    words = ggd.fit(weights["embeddings.word_embeddings.weight"])
    assert rows["word embeddings"][2].split(", ") == [f"{words.shape:.2f}"] * 3
    assert findings.startswith("* ")

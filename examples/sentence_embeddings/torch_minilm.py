"""all-MiniLM-L6-v2 in PyTorch: the weights and their names are those of `minilm.py`, what it calculates too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional


def _layer(width: int, inner: int, epsilon: float) -> nn.ModuleDict:
    """Return the modules of a layer, by the names of the checkpoint."""

    def output(inputs: int) -> nn.ModuleDict:
        return nn.ModuleDict({"dense": nn.Linear(inputs, width), "LayerNorm": nn.LayerNorm(width, epsilon)})

    heads = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
    return nn.ModuleDict(
        {
            "attention": nn.ModuleDict({"self": heads, "output": output(width)}),
            "intermediate": nn.ModuleDict({"dense": nn.Linear(width, inner)}),
            "output": output(inner),
        }
    )


class Encoder(nn.Module):
    """The model. Texts of a batch have the same number of tokens: nothing is padded, nothing masked."""

    def __init__(self, folder: Path, weights: Mapping[str, NDArray[np.float32]]) -> None:
        super().__init__()
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.heads, epsilon = config["num_attention_heads"], config["layer_norm_eps"]
        words, width = weights["embeddings.word_embeddings.weight"].shape
        inner = len(weights["encoder.layer.0.intermediate.dense.bias"])
        tables = {"word": words, "position": len(weights["embeddings.position_embeddings.weight"]), "token_type": 2}
        self.embeddings = nn.ModuleDict({f"{name}_embeddings": nn.Embedding(n, width) for name, n in tables.items()})
        self.embeddings["LayerNorm"] = nn.LayerNorm(width, epsilon)
        layers = nn.ModuleList(_layer(width, inner, epsilon) for _ in range(config["num_hidden_layers"]))
        self.encoder = nn.ModuleDict({"layer": layers})
        # The file holds two tensors more, which embeddings do not depend on: the pooler and the position numbers.
        self.load_state_dict({name: torch.from_numpy(weights[name].copy()) for name in self.state_dict()})

    def states(self, tokens: Tensor) -> Tensor:
        """Return the last states of (texts, tokens): (texts, tokens, width)."""
        own = self.embeddings
        x = own["word_embeddings"](tokens) + own["position_embeddings"].weight[: tokens.shape[1]]
        x = own["LayerNorm"](x + own["token_type_embeddings"].weight[0])
        for layer in self.encoder["layer"]:
            attention = layer["attention"]
            query, key, value = (
                attention["self"][name](x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
            x = attention["output"]["LayerNorm"](x + attention["output"]["dense"](mixed))
            inner = functional.gelu(layer["intermediate"]["dense"](x))
            x = layer["output"]["LayerNorm"](x + layer["output"]["dense"](inner))
        return x

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the embeddings of (texts, tokens), of length 1: (texts, width)."""
        return embedding(self.states(tokens))


def embedding(states: Tensor) -> Tensor:
    """Return the embeddings that last states make: their means, of length 1."""
    return functional.normalize(states.mean(dim=1), dim=-1)

"""Names of GGUF's tensors, and the order of rows that llama.cpp changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["REORDERED", "gguf_name", "head_rows", "is_gguf_name"]

REORDERED = {"llama": True, "mistral": True, "qwen2": False, "qwen3": False}
"""Models (``model_type``) whose names and values llama.cpp's converter keeps; whether it reorders rows of q and k."""

_WHOLE = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
_IN_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_NAME = re.compile(
    r"(?:model\.)?(?:layers\.(?P<layer>\d+)\.(?P<inner>[a-z_.]+)|(?P<outer>[a-z_]+))\.(?P<kind>weight|bias)"
)
_GGUF = re.compile(r"(blk\.\d+\.\w+|token_embd|output_norm|output)\.(weight|bias)")


def is_gguf_name(name: str) -> bool:
    """Say whether GGUF calls a tensor so.

    Examples
    --------
    >>> is_gguf_name("blk.0.attn_q.weight"), is_gguf_name("model.layers.0.self_attn.q_proj.weight")
    (True, False)
    """
    return _GGUF.fullmatch(name) is not None


def gguf_name(name: str) -> str | None:
    """Return what GGUF calls a tensor of a Hugging Face model of `REORDERED`; None if it is none of theirs.

    Examples
    --------
    >>> gguf_name("model.layers.3.self_attn.q_proj.weight"), gguf_name("vision.norm.weight")
    ('blk.3.attn_q.weight', None)
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    if match["layer"] is None:
        module = _WHOLE.get(match["outer"])
        return None if module is None else f"{module}.{match['kind']}"
    module = _IN_LAYER.get(match["inner"])
    return None if module is None else f"blk.{match['layer']}.{module}.{match['kind']}"


def head_rows(name: str, rows: int, config: Mapping[str, Any]) -> int | None:
    """Return how many rows of a tensor llama.cpp reorders together; 0 for none, None if the config does not say.

    In each head the first half of the rows and the second half become pairs: row i of the first, row i of the second.

    Parameters
    ----------
    name : str
        As GGUF has it.
    rows : int
        Of the tensor.
    config : dict
        The model's ``config.json``.

    Examples
    --------
    >>> llama = {"model_type": "llama", "num_attention_heads": 32, "num_key_value_heads": 8}
    >>> head_rows("blk.0.attn_k.weight", 1024, llama), head_rows("blk.0.attn_v.weight", 1024, llama)
    (128, 0)
    """
    if not REORDERED[config["model_type"]] or not re.fullmatch(r"blk\.\d+\.attn_[qk]\.(weight|bias)", name):
        return 0
    heads = config.get("num_attention_heads")
    if ".attn_k." in name:
        heads = config.get("num_key_value_heads") or heads
    if not isinstance(heads, int) or heads < 1 or rows % (2 * heads):
        return None
    return rows // heads

"""How a model lies in a GGUF file: names of tensors, order of rotary rows, how a tokenizer cuts text.

What reads such files and what writes them both go by this, so that neither can drift from the other.
"""

import re

import numpy as np

ROTARY_ORDER = {"llama": True, "qwen2": False, "qwen3": False}
"""The families known here, by their name in GGUF and in transformers, and whether llama.cpp interleaves the
two halves of each head's rows."""
NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GGUF_NAMES = {name: gguf_name for gguf_name, name in NAMES.items()}
_GGUF_LAYER_NAMES = {name: gguf_name for gguf_name, name in LAYER_NAMES.items()}

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {"llama-bpe": rf"{_WORDS}\p{{N}}{{1,3}}{_REST}", "qwen2": rf"{_WORDS}\p{{N}}{_REST}"}
"""Patterns by which text is cut before merging, by the name GGUF gives them."""
DIGITS_FIRST = {"gpt-2": False, "smollm": True}
"""The same for GPT-2's own pattern: whether numbers are cut into digits first."""
CONTROL_TOKEN, USER_TOKEN, UNUSED_TOKEN = 3, 4, 5


def name_of(gguf_name: str) -> str | None:
    """A tensor's name in transformers; None when there is none."""
    layer = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", gguf_name)
    if layer is None:
        return NAMES.get(gguf_name)
    name = LAYER_NAMES.get(layer[2])
    return f"model.layers.{layer[1]}.{name}.{layer[3]}" if name else None


def gguf_name_of(name: str) -> str | None:
    """A tensor's name in GGUF; None when there is none."""
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if layer is None:
        return _GGUF_NAMES.get(name)
    gguf_name = _GGUF_LAYER_NAMES.get(layer[2])
    return f"blk.{layer[1]}.{gguf_name}.{layer[3]}" if gguf_name else None


def interleave_rotary(array: np.ndarray, num_heads: int) -> np.ndarray:
    """Rows of queries or keys from transformers' order, one half of each head after the other, to GGUF's."""
    split = array.reshape(num_heads, 2, len(array) // num_heads // 2, *array.shape[1:])
    return split.swapaxes(1, 2).reshape(array.shape)


def undo_rotary(array: np.ndarray, num_heads: int) -> np.ndarray:
    """The inverse of `interleave_rotary`."""
    split = array.reshape(num_heads, len(array) // num_heads // 2, 2, *array.shape[1:])
    return split.swapaxes(1, 2).reshape(array.shape)

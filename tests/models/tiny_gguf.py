"""Writes the tiny model as GGUF, and such a file as a wheel, as a package index would have it."""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from heliostat.models.catalogue import WheelModel

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(
    folder: Path,
    target: Path,
    fields: dict[str, str] | None = None,
    tensors: dict[str, np.ndarray] | None = None,
) -> None:
    """A Llama folder with a byte-level BPE tokenizer as an F32 GGUF; `fields` are set to other values."""
    from gguf import GGUFWriter

    fields = fields or {}
    config = json.loads((folder / "config.json").read_text())
    rules = json.loads((folder / "tokenizer.json").read_text())
    writer = GGUFWriter(target, fields.get("general.architecture", "llama"))
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    vocabulary = rules["model"]["vocab"]
    special = {token["content"] for token in rules["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(fields.get("tokenizer.ggml.pre", "gpt-2"))
    tokens = sorted(vocabulary, key=vocabulary.get)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in rules["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_chat_template((folder / "chat_template.jinja").read_text())
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, array in load_file(folder / "model.safetensors").items():
        writer.add_tensor(_gguf_name(name), _rotary_order(array, heads.get(name.split(".")[-2])))
    for name, array in (tensors or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_wheel(gguf: Path, folder: Path) -> WheelModel:
    """A wheel `tiny-llama` 1.0 with the file in it, and the catalogue entry that fits it."""
    wheel = folder / "tiny_llama-1.0-py3-none-any.whl"
    files: dict[str, bytes] = {
        "tiny_llama/tiny.gguf": gguf.read_bytes(),
        "tiny_llama-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-llama\nVersion: 1.0\n",
        "tiny_llama-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny_llama-1.0.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return WheelModel("tiny-llama", "1.0", wheel.name, sha256, "tiny_llama/tiny.gguf", "Apache-2.0")


def _gguf_name(name: str) -> str:
    if name in NAMES:
        return NAMES[name]
    _, _, layer, part = name.removesuffix(".weight").split(".", maxsplit=3)
    return f"blk.{layer}.{NAMES[part]}.weight"


def _rotary_order(array: np.ndarray, num_heads: Any) -> np.ndarray:
    if num_heads is None:
        return array
    rows, columns = array.shape
    split = array.reshape(num_heads, 2, rows // num_heads // 2, columns)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows, columns))

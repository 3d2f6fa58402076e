"""A GGUF file as a Hugging Face folder in float32: Llama weights with a byte-level BPE tokenizer.

The weights are dequantised with the format's own reference code; neither torch nor transformers is needed.
Anything this does not know to be convertible is refused rather than guessed.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from heliostat.errors import ModelError

# How tokenizers cut text before merging, by the name GGUF gives it. SmolLM also cuts numbers into digits.
DIGITS_FIRST_BY_PRE_TOKENIZER = {"gpt-2": False, "smollm": True}
CONTROL_TOKEN, USER_TOKEN = 3, 4

NAME_BY_GGUF_NAME = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER_NAME_BY_GGUF_NAME = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert_gguf(file: Path, out_folder: Path) -> None:
    """Write `config.json`, `model.safetensors` and the tokenizer of a GGUF file into `out_folder`.

    Raises:
        ModelError: not a GGUF file, or one of an architecture, tokenizer or tensor that is not known here.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
    except ValueError as error:
        raise ModelError(f"{file}: not a readable GGUF file: {error}") from None
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    _require(file, fields, "general.architecture", ("llama",))
    _require(file, fields, "tokenizer.ggml.model", ("gpt2",))
    _require(file, fields, "tokenizer.ggml.pre", tuple(DIGITS_FIRST_BY_PRE_TOKENIZER))
    config = _model_config(fields, tied="output.weight" not in {tensor.name for tensor in reader.tensors})
    _write_json(out_folder / "config.json", config)
    token_ids = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _write_json(out_folder / "generation_config.json", token_ids)
    _write_tokenizer(fields, config, out_folder)
    _write_weights(file, reader.tensors, config, out_folder)


def _require(file: Path, fields: dict[str, Any], name: str, known: tuple[str, ...]) -> None:
    value = fields[name].contents() if name in fields else None
    if value not in known:
        raise ModelError(
            f"{file}: {name} is '{value}', which cannot be converted (known: {', '.join(known)})"
        )


def _model_config(fields: dict[str, Any], tied: bool) -> dict[str, Any]:
    def value(name: str) -> Any:
        return fields[name].contents()

    heads = value("llama.attention.head_count")
    end = value("tokenizer.ggml.eos_token_id")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": len(fields["tokenizer.ggml.tokens"].data),
        "hidden_size": value("llama.embedding_length"),
        "intermediate_size": value("llama.feed_forward_length"),
        "num_hidden_layers": value("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": value("llama.attention.head_count_kv"),
        "head_dim": value("llama.embedding_length") // heads,
        "max_position_embeddings": value("llama.context_length"),
        "rms_norm_eps": value("llama.attention.layer_norm_rms_epsilon"),
        "rope_parameters": {"rope_type": "default", "rope_theta": value("llama.rope.freq_base")},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "bos_token_id": value("tokenizer.ggml.bos_token_id"),
        "eos_token_id": end,
        "pad_token_id": value("tokenizer.ggml.padding_token_id")
        if "tokenizer.ggml.padding_token_id" in fields
        else end,
    }


def _write_weights(file: Path, tensors: list[Any], config: dict[str, Any], out_folder: Path) -> None:
    from gguf.quants import dequantize
    from safetensors.numpy import save_file

    weights = {}
    for tensor in tensors:
        name = _name_of(tensor.name)
        if name is None:
            raise ModelError(f"{file}: holds a tensor {tensor.name}, which cannot be converted")
        array = dequantize(tensor.data, tensor.tensor_type)
        if name.endswith("q_proj.weight"):
            array = _undo_rotary_order(array, config["num_attention_heads"])
        elif name.endswith("k_proj.weight"):
            array = _undo_rotary_order(array, config["num_key_value_heads"])
        weights[name] = np.ascontiguousarray(array, dtype=np.float32)
    save_file(weights, out_folder / "model.safetensors", metadata={"format": "pt"})


def _name_of(gguf_name: str) -> str | None:
    """A tensor's name in transformers' Llama; None when there is none."""
    layer = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", gguf_name)
    if layer is None:
        return NAME_BY_GGUF_NAME.get(gguf_name)
    name = LAYER_NAME_BY_GGUF_NAME.get(layer[2])
    return f"model.layers.{layer[1]}.{name}.weight" if name else None


def _undo_rotary_order(array: np.ndarray, num_heads: int) -> np.ndarray:
    """GGUF interleaves the two halves of each head's rows; transformers wants one after the other."""
    rows, columns = array.shape
    return array.reshape(num_heads, rows // num_heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _write_tokenizer(fields: dict[str, Any], config: dict[str, Any], out_folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    steps: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if DIGITS_FIRST_BY_PRE_TOKENIZER[fields["tokenizer.ggml.pre"].contents()]:
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    added = {
        token: kind for token, kind in zip(tokens, kinds, strict=True) if kind in (CONTROL_TOKEN, USER_TOKEN)
    }
    for token, kind in added.items():
        special = kind == CONTROL_TOKEN
        tokenizer.add_tokens([AddedToken(token, special=special, normalized=False)])
    tokenizer.save(str(out_folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config["max_position_embeddings"],
    }
    for role in ("bos", "eos", "pad"):
        settings[f"{role}_token"] = tokens[config[f"{role}_token_id"]]
    if "tokenizer.ggml.unknown_token_id" in fields:
        settings["unk_token"] = tokens[fields["tokenizer.ggml.unknown_token_id"].contents()]
    _write_json(out_folder / "tokenizer_config.json", settings)
    if "tokenizer.chat_template" in fields:
        template = fields["tokenizer.chat_template"].contents()
        (out_folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def _write_json(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

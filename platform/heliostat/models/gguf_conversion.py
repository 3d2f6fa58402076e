"""A GGUF file as a Hugging Face folder in float32: Llama, Qwen2 and Qwen3 with a byte-level BPE tokenizer.

The weights are dequantised with the format's own reference code; neither torch nor transformers is needed.
Anything this does not know to be convertible is refused rather than guessed.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from heliostat.errors import ModelError
from heliostat.models.gguf_layout import (
    CONTROL_TOKEN,
    DIGITS_FIRST,
    PATTERNS,
    ROTARY_ORDER,
    USER_TOKEN,
    name_of,
    undo_rotary,
)

CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}


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
    _require(file, fields, "general.architecture", tuple(ROTARY_ORDER))
    _require(file, fields, "tokenizer.ggml.model", ("gpt2",))
    _require(file, fields, "tokenizer.ggml.pre", (*DIGITS_FIRST, *PATTERNS))
    config = _model_config(fields, {tensor.name for tensor in reader.tensors})
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


def _model_config(fields: dict[str, Any], tensors: set[str]) -> dict[str, Any]:
    family = fields["general.architecture"].contents()

    def value(name: str) -> Any:
        return fields[name].contents()

    def size(name: str) -> Any:
        return value(f"{family}.{name}")

    heads, width = size("attention.head_count"), f"{family}.attention.key_length"
    end = value("tokenizer.ggml.eos_token_id")
    # GGUF names no beginning where a family has none.
    begin = value("tokenizer.ggml.bos_token_id") if "tokenizer.ggml.bos_token_id" in fields else None
    biases = (
        {} if family != "llama" else {"attention_bias": "blk.0.attn_q.bias" in tensors, "mlp_bias": False}
    )
    return {
        "architectures": [CLASSES[family]],
        "model_type": family,
        "dtype": "float32",
        "vocab_size": len(fields["tokenizer.ggml.tokens"].data),
        "hidden_size": size("embedding_length"),
        "intermediate_size": size("feed_forward_length"),
        "num_hidden_layers": size("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": size("attention.head_count_kv"),
        "head_dim": value(width) if width in fields else size("embedding_length") // heads,
        "max_position_embeddings": size("context_length"),
        "rms_norm_eps": size("attention.layer_norm_rms_epsilon"),
        "rope_parameters": {"rope_type": "default", "rope_theta": size("rope.freq_base")},
        "hidden_act": "silu",
        **biases,
        "tie_word_embeddings": "output.weight" not in tensors,
        "bos_token_id": begin,
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
        name = name_of(tensor.name)
        if name is None:
            raise ModelError(f"{file}: holds a tensor {tensor.name}, which cannot be converted")
        array = dequantize(tensor.data, tensor.tensor_type)
        if ROTARY_ORDER[config["model_type"]] and ".q_proj." in name:
            array = undo_rotary(array, config["num_attention_heads"])
        elif ROTARY_ORDER[config["model_type"]] and ".k_proj." in name:
            array = undo_rotary(array, config["num_key_value_heads"])
        weights[name] = np.ascontiguousarray(array, dtype=np.float32)
    save_file(weights, out_folder / "model.safetensors", metadata={"format": "pt"})


def _write_tokenizer(fields: dict[str, Any], config: dict[str, Any], out_folder: Path) -> None:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    pre = fields["tokenizer.ggml.pre"].contents()
    steps: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre in DIGITS_FIRST)]
    if pre in PATTERNS:
        steps.insert(0, pre_tokenizers.Split(Regex(PATTERNS[pre]), "isolated"))
    elif DIGITS_FIRST[pre]:
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
        if config[f"{role}_token_id"] is not None:
            settings[f"{role}_token"] = tokens[config[f"{role}_token_id"]]
    if "tokenizer.ggml.unknown_token_id" in fields:
        settings["unk_token"] = tokens[fields["tokenizer.ggml.unknown_token_id"].contents()]
    _write_json(out_folder / "tokenizer_config.json", settings)
    if "tokenizer.chat_template" in fields:
        template = fields["tokenizer.chat_template"].contents()
        (out_folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def _write_json(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

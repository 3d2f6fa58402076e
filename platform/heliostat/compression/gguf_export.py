"""A transformers folder as one GGUF file for llama.cpp, by the format's official writer.

Matrices are kept as F16, F32 or Q8_0 (F16 where 32 does not divide their rows); vectors, which weigh nothing,
as F32. The tokenizer files travel beside
the file, so that whoever reads the artifact need not parse it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from heliostat.compression.config import GgufConfig
from heliostat.compression.gguf_tokenizer import add_tokenizer, check_tokenizer
from heliostat.errors import ModelError
from heliostat.models.adapters import copy_tokenizer
from heliostat.models.gguf_layout import ROTARY_ORDER, gguf_name_of, interleave_rotary
from heliostat.models.safety import CONFIG_NAME, weight_files

STEPS = {"check": 0.05, "convert": 0.7, "save": 0.25}
FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7}
"""GGUF's own numbers for what most tensors of a file are."""
MAX_F16 = 65504.0
Q8_BLOCK = 32


def check_gguf(folder: Path) -> dict[str, Any]:
    """The config of a model that can be written as GGUF, before any work.

    Raises:
        ModelError: what of it GGUF, or this writer, does not know.
    """
    config: dict[str, Any] = json.loads((folder / CONFIG_NAME).read_bytes())
    family, rope = config.get("model_type"), config.get("rope_parameters") or {}
    obstacle = None
    if family not in ROTARY_ORDER:
        obstacle = f"model_type '{family}' (known: {', '.join(ROTARY_ORDER)})"
    elif rope.get("rope_type", "default") != "default":
        obstacle = f"rope_type '{rope['rope_type']}'"
    elif config.get("use_sliding_window"):
        obstacle = "sliding-window attention"
    if obstacle:
        raise ModelError(
            f"{folder / CONFIG_NAME}: {obstacle} cannot be written as GGUF here; leave the gguf step out"
        )
    check_tokenizer(folder)
    return config


def export_steps(source: Path, target: Path, config: GgufConfig) -> Iterator[str]:
    """Write `target`/model-SCHEME.gguf; yields the name of each of STEPS when it begins.

    Raises:
        ModelError: GGUF cannot take the model, or its weights do not fit into F16.
    """
    from gguf import GGUFWriter

    yield "check"
    model = check_gguf(source)
    writer = GGUFWriter(target / f"model-{config.scheme}.gguf", model["model_type"])
    _add_sizes(writer, model, config)
    add_tokenizer(writer, source, model["vocab_size"])
    yield "convert"
    for name, array in _tensors(source, model):
        kept, kind = _encoded(name, array, config.scheme)
        writer.add_tensor(name, kept, raw_dtype=kind)
    yield "save"
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    copy_tokenizer(source, target)


def _add_sizes(writer: Any, model: dict[str, Any], config: GgufConfig) -> None:
    heads = model["num_attention_heads"]
    width = model.get("head_dim") or model["hidden_size"] // heads
    writer.add_name(config.name)
    writer.add_file_type(FILE_TYPES[config.scheme])
    writer.add_quantization_version(2)
    writer.add_vocab_size(model["vocab_size"])
    writer.add_context_length(model["max_position_embeddings"])
    writer.add_embedding_length(model["hidden_size"])
    writer.add_block_count(model["num_hidden_layers"])
    writer.add_feed_forward_length(model["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(model.get("num_key_value_heads") or heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float((model.get("rope_parameters") or model)["rope_theta"]))
    writer.add_layer_norm_rms_eps(model["rms_norm_eps"])


def _tensors(source: Path, model: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor by its GGUF name, float32."""
    import torch
    from safetensors import safe_open

    heads = {"q_proj": model["num_attention_heads"]}
    heads["k_proj"] = model.get("num_key_value_heads") or heads["q_proj"]
    for file in weight_files(source):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118, it is no mapping
                if name == "lm_head.weight" and model.get("tie_word_embeddings"):
                    continue
                gguf_name = gguf_name_of(name)
                if gguf_name is None:
                    raise ModelError(f"{file}: holds a tensor {name}, which GGUF has no name for here")
                array = tensors.get_tensor(name).to(torch.float32).numpy()
                projection = name.split(".")[-2]
                if projection in heads and ROTARY_ORDER[model["model_type"]]:
                    array = interleave_rotary(array, heads[projection])
                yield gguf_name, np.ascontiguousarray(array)


def _encoded(name: str, array: np.ndarray, scheme: str) -> tuple[np.ndarray, Any]:
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    if array.ndim == 1 or scheme == "f32":
        return array, GGMLQuantizationType.F32
    if scheme == "q8_0" and array.shape[-1] % Q8_BLOCK == 0:
        return quantize(array, GGMLQuantizationType.Q8_0), GGMLQuantizationType.Q8_0
    if np.abs(array).max() > MAX_F16:
        raise ModelError(f"tensor {name} has numbers beyond F16's largest, {MAX_F16:.0f}; take scheme: f32")
    return array.astype(np.float16), GGMLQuantizationType.F16

"""Small real models made on the spot: Hugging Face folders with random weights and a tokenizer of prose."""

import os
from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PROSE = (
    "Shared fixtures: a workspace, a tiny real model made on the spot, one Ray cluster for the session.",
    str(os.__doc__),
    str(Path.__doc__),
)
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}


def small_llama(folder: Path, **changes: Any) -> Path:
    """A Llama of two layers and some 200,000 parameters, unless told otherwise; returns its folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = {
        "vocab_size": save_tokenizer(folder),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
        **SPECIAL,
    }
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**settings | changes)).save_pretrained(folder)
    return folder


def exported(model_folder: Path, folder: Path, scheme: str = "fp32") -> Path:
    """A model as OpenVINO's engine serves it, written into an empty folder; returns that."""
    from heliostat.compression.config import OpenVINOConfig
    from heliostat.compression.openvino_export import export_steps

    for _ in export_steps(model_folder, folder, OpenVINOConfig(scheme=scheme)):
        pass
    return folder


def small_deepseek(folder: Path, **changes: Any) -> Path:
    """A DeepSeek-V3 of three layers, two of them with eight experts in two groups; returns its folder."""
    import torch
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    settings = {
        "vocab_size": save_tokenizer(folder),
        "hidden_size": 64,
        "intermediate_size": 128,
        "moe_intermediate_size": 32,
        "num_hidden_layers": 3,
        "first_k_dense_replace": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "q_lora_rank": 32,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 16,
        "qk_nope_head_dim": 16,
        "v_head_dim": 16,
        "max_position_embeddings": 512,
        **SPECIAL,
    }
    torch.manual_seed(0)
    DeepseekV3ForCausalLM(DeepseekV3Config(**settings | changes)).save_pretrained(folder)
    return folder


def save_tokenizer(folder: Path) -> int:
    """Learn a byte-level tokenizer of 600 tokens from some prose, save it; returns the size it reached."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(PROSE, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return len(tokenizer)

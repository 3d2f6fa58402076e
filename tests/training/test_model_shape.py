"""What config.json tells of a model, against the model that transformers builds from it."""

import pytest

from heliostat.errors import ModelError
from heliostat.training.model_shape import ModelShape

SMALL = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
LATENT = SMALL | {
    "num_key_value_heads": 4,
    "moe_intermediate_size": 24,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 12,
    "q_lora_rank": 20,
    "qk_rope_head_dim": 6,
    "qk_nope_head_dim": 10,
    "v_head_dim": 14,
    "n_group": 2,
    "topk_group": 1,
}
CONFIGS = {
    "llama": SMALL | {"attention_bias": True, "mlp_bias": True},
    "mistral": SMALL | {"head_dim": 16},
    "qwen2": SMALL | {"tie_word_embeddings": True},
    "qwen3": SMALL | {"head_dim": 16},
    "smollm3": SMALL | {"pad_token_id": 0},
    "mixtral": SMALL | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": SMALL
    | {"num_experts": 6, "moe_intermediate_size": 20, "shared_expert_intermediate_size": 28},
    "qwen3_moe": SMALL
    | {
        "num_experts": 6,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 20,
        "mlp_only_layers": [1],
        "head_dim": 16,
    },
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT | {"q_lora_rank": None, "attention_bias": True},
}


@pytest.mark.heavy
@pytest.mark.parametrize("model_type", CONFIGS)
def test_parameters_are_counted_as_transformers_builds_the_model(model_type):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(model_type, **CONFIGS[model_type])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = ModelShape.from_config_json(config.to_dict())
    assert shape.is_exact
    assert shape.num_parameters == model.num_parameters()
    names = {name.rpartition(".")[2] for name, each in model.named_modules() if type(each) is torch.nn.Linear}
    assert {linear.name for linear in shape.linears()} == names - {"lm_head"}


def test_smollm2_by_hand():
    """SmolLM2-135M: 30 layers of 576, 9 heads and 3 key-value heads of 64, feed-forward of 1536, tied."""
    shape = ModelShape.from_config_json(
        {
            "model_type": "llama",
            "vocab_size": 49152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
        }
    )
    assert shape.parts() == {
        "embeddings": 49152 * 576,
        "attention": 30 * (2 * 576 * 576 + 2 * 576 * 192),
        "mlp": 30 * 3 * 576 * 1536,
        "norms": 61 * 576,
    }
    assert shape.num_parameters == shape.active_parameters == 134_515_008


def test_a_token_of_a_mixture_goes_through_few_of_its_parameters():
    """Mixtral 8x7B: 46.7 billion parameters, 12.9 of them active (Jiang et al., 2024, arXiv:2401.04088)."""
    shape = ModelShape.from_config_json(
        {
            "model_type": "mixtral",
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 32768,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
        }
    )
    assert round(shape.num_parameters / 1e9, 1) == 46.7
    assert round(shape.active_parameters / 1e9, 1) == 12.9


def test_an_unknown_architecture_is_taken_for_a_llama_of_its_size():
    values = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128, "vocab_size": 100}
    shape = ModelShape.from_config_json(values | {"model_type": "gpt2"})
    assert not shape.is_exact
    assert (shape.hidden_size, shape.intermediate_size, shape.num_layers) == (64, 256, 2)


def test_a_config_without_sizes_is_refused():
    with pytest.raises(ModelError, match=r"model_type 'vit'.*no hidden_size"):
        ModelShape.from_config_json({"model_type": "vit"})

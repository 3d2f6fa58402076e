"""A model taken apart into a pipeline's layers computes what it computes in one piece."""

import pytest
from small_models import SPECIAL

pytestmark = pytest.mark.heavy

SIZES = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    **SPECIAL,
}
WINDOWS = {  # each narrower than the documents below
    "llama": {},
    "mistral": {"sliding_window": 4},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen3": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2, "head_dim": 8},
}


@pytest.mark.parametrize("model_type", WINDOWS)
def test_layers_attend_as_far_as_the_model_does(model_type):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from heliostat.training.edge_pipeline import stages_of

    torch.manual_seed(0)
    settings = AutoConfig.for_model(model_type, **SIZES, **WINDOWS[model_type], tie_word_embeddings=False)
    model = AutoModelForCausalLM.from_config(settings, attn_implementation="sdpa").eval()
    ids = torch.randint(3, 90, (2, 24))
    positions = torch.arange(12).repeat(2).expand(2, -1)
    with torch.no_grad():
        logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits
        expected = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="sum"
        )
        carried = ids, positions, ids
        for layer in stages_of(model, again=False):
            carried = layer(carried)
    assert float(carried) == pytest.approx(float(expected), rel=1e-5)

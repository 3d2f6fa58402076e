"""The count of what a forward pass keeps, against what torch saves for the backward pass."""

import pytest
from tests.training.test_model_shape import CONFIGS

from heliostat.training.config import TrainConfig
from heliostat.training.model_shape import ModelShape
from heliostat.training.plan_activations import Batch, kept_bytes, layer_bytes, logits_bytes
from heliostat.training.plan_parameters import shares

LLAMA = {
    "vocab_size": 1000,
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
}
LORA = {"kind": "lora", "r": 4, "target_modules": ["q_proj", "v_proj"]}


def config(precision="fp32", adapter=None, **layout) -> TrainConfig:
    return TrainConfig.model_validate(
        {"adapter": adapter or {"kind": "full"}, "layout": {"precision": precision} | layout}
    )


def saved_bytes(model, batch: Batch) -> int:
    """Bytes of all tensors that torch keeps for the backward pass, each storage once, parameters left out."""
    import torch

    own = {each.untyped_storage().data_ptr() for each in model.parameters()}
    seen = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no address comes twice
        return tensor

    torch.manual_seed(0)
    ids = torch.randint(3, 90, (batch.rows, batch.length))
    documents = 2 if batch.packed else 1
    positions = torch.arange(batch.length // documents).repeat(documents).expand(batch.rows, -1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(
            input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=torch.arange(8)
        ).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, :8].flatten())
    assert loss.requires_grad
    return sum(size for size, _ in seen.values())


def build(model_type, values, train: TrainConfig):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from heliostat.training.adapters import apply_adapter

    torch.manual_seed(0)
    settings = AutoConfig.for_model(model_type, **values)
    model = AutoModelForCausalLM.from_config(settings, attn_implementation="sdpa")
    if train.layout.precision == "bf16":
        model = model.bfloat16()
    model = apply_adapter(model, train.adapter)
    if train.layout.precision == "bf16":
        model = model.bfloat16()
    if train.layout.activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model.train(), ModelShape.from_config_json(settings.to_dict())


@pytest.mark.heavy
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("adapter", [None, LORA, LORA | {"target_modules": ["down_proj"]}])
def test_a_llama_layer_keeps_to_the_byte_what_is_counted(adapter, precision, packed):
    """A layer more is that layer's bytes more; a frozen layer of LoRA may count a little too much."""
    train, batch = config(precision, adapter), Batch(rows=2, length=128, labels=16, packed=packed)
    one, shape = build("llama", LLAMA, train)
    two, _ = build("llama", LLAMA | {"num_hidden_layers": 5}, train)
    measured = saved_bytes(two, batch) - saved_bytes(one, batch)
    assert layer_bytes(train, shape, 0, batch) == pytest.approx(measured, rel=0 if adapter is None else 0.05)


@pytest.mark.heavy
@pytest.mark.parametrize("model_type", CONFIGS)
def test_other_architectures_keep_what_is_counted_within_a_third(model_type):
    values = CONFIGS[model_type] | {"num_hidden_layers": 3}
    train, batch = config(), Batch(rows=1, length=64, labels=8)
    model, shape = build(model_type, values, train)
    (share,) = shares(train, shape)
    counted = kept_bytes(train, shape, share, batch) + logits_bytes(train, shape, batch) / 2
    assert counted == pytest.approx(saved_bytes(model, batch), rel=1 / 3)


@pytest.mark.heavy
def test_checkpointing_keeps_the_inputs_of_the_layers():
    train, batch = config(activation_checkpointing=True), Batch(rows=1, length=128, labels=8)
    one, shape = build("llama", LLAMA, train)
    two, _ = build("llama", LLAMA | {"num_hidden_layers": 5}, train)
    measured = saved_bytes(two, batch) - saved_bytes(one, batch)
    (share,) = shares(train, shape)
    assert kept_bytes(train, shape, share, batch) / 4 == pytest.approx(measured, rel=0.05)


def test_a_llama_layer_by_hand():
    """One row of 128: 24 h for the norms, 8 a for queries and result, 8 k for keys and values, 16 i, and
    4 bytes a head and norm; float32, h = a = 96, k = 32, i = 256."""
    shape = ModelShape.from_config_json(LLAMA | {"model_type": "llama"})
    batch = Batch(rows=1, length=128, labels=128, packed=False)
    expected = 128 * (24 * 96 + 8 * 96 + 8 * 32 + 16 * 256 + 6 * 4 + 2 * 4)
    assert layer_bytes(config(), shape, 0, batch) == expected
    assert logits_bytes(config(), shape, batch) == 128 * 1000 * 8
    assert logits_bytes(config("bf16"), shape, batch) == 128 * 1000 * 10

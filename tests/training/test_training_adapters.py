"""Which parameters an adapter trains, what it refuses, and that those in front of a document learn."""

import pytest
from objective_data import inputs, write_packed
from plain_loop import held_out, learn

from heliostat.errors import ConfigError, ModelError
from heliostat.models.adapters import load_with_adapter, merge_adapter
from heliostat.models.loading import load_model
from heliostat.training.adapters import apply_adapter, count_parameters
from heliostat.training.config import (
    FreezeAdapter,
    FullAdapter,
    LoraAdapter,
    PrefixTuningAdapter,
    PromptTuningAdapter,
)
from heliostat.training.objectives.selection import prepare

IN_FRONT = ["prompt_tuning", "prefix_tuning"]


@pytest.fixture(scope="module")
def packed_folder(tiny_model_folder, tmp_path_factory):
    return write_packed(tmp_path_factory.mktemp("packed"), tiny_model_folder)


@pytest.fixture(scope="module")
def shouted_folder(tiny_model_folder, tmp_path_factory):
    return write_packed(tmp_path_factory.mktemp("shouted"), tiny_model_folder, shout=True)


@pytest.fixture(scope="module")
def taught_folder(tiny_model_folder, packed_folder, tmp_path_factory):
    """The tiny model after some reading: adapters need a base model that knows something."""
    import shutil

    folder = tmp_path_factory.mktemp("taught")
    taught = learn(inputs(tiny_model_folder, packed_folder, {"kind": "pretraining"}), steps=30)
    taught.model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny_model_folder / name, folder)
    return folder


def test_a_layer_the_model_does_not_have_is_named_with_those_it_has(tiny_model_folder):
    model = load_model(tiny_model_folder)
    with pytest.raises(
        ConfigError, match=r"no layer called query; its linear layers are .*q_proj"
    ) as refused:
        apply_adapter(model, LoraAdapter(target_modules=("query",)))
    assert len(str(refused.value).splitlines()) == 1


def test_lora_trains_its_matrices_and_nothing_else(tiny_model_folder):
    model = apply_adapter(load_model(tiny_model_folder), LoraAdapter(r=4, target_modules=("q_proj",)))
    trainable, everything = count_parameters(model)
    assert trainable == 2 * 4 * (64 + 64)  # two layers, two matrices of rank 4
    assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)
    assert trainable < everything


def test_dora_adds_a_length_for_each_row_of_the_weights(tiny_model_folder):
    adapter = LoraAdapter(r=4, target_modules=("q_proj",), use_dora=True)
    trainable, _ = count_parameters(apply_adapter(load_model(tiny_model_folder), adapter))
    assert trainable == 2 * (4 * (64 + 64) + 64)


def test_rslora_scales_by_the_root_of_the_rank(tiny_model_folder):
    adapter = LoraAdapter(r=16, alpha=8, target_modules=("q_proj",), use_rslora=True)
    model = apply_adapter(load_model(tiny_model_folder), adapter)
    [first, *_] = [m for name, m in model.named_modules() if name.endswith("q_proj")]
    assert first.scaling["default"] == 8 / 16**0.5


def test_the_full_adapter_trains_everything(tiny_model_folder):
    trainable, everything = count_parameters(apply_adapter(load_model(tiny_model_folder), FullAdapter()))
    assert trainable == everything


def test_freezing_the_bottom_leaves_the_layers_above_and_the_output(tiny_model_folder):
    model = apply_adapter(load_model(tiny_model_folder), FreezeAdapter(num_layers=1))
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert all(name.startswith(("model.embed_tokens", "model.layers.0.")) for name in frozen)
    assert "model.embed_tokens.weight" in frozen
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {"lm_head.weight", "model.layers.1.mlp.up_proj.weight"} <= trained
    assert not any(name.startswith("model.layers.0.") for name in trained)
    trainable, everything = count_parameters(model)
    assert trainable == everything - sum(p.numel() for name, p in model.named_parameters() if name in frozen)


@pytest.mark.parametrize("num_layers", [2, 7])
def test_freezing_all_layers_is_refused_with_both_numbers(tiny_model_folder, num_layers):
    with pytest.raises(ConfigError, match=f"{num_layers} of the model's 2 layers .* give at most 1"):
        apply_adapter(load_model(tiny_model_folder), FreezeAdapter(num_layers=num_layers))


@pytest.mark.parametrize(
    "adapter",
    [FreezeAdapter(num_layers=1), PromptTuningAdapter(), PrefixTuningAdapter()],
    ids=lambda a: a.kind,
)
def test_added_tokens_are_not_left_unlearned(tiny_model_folder, adapter):
    with pytest.raises(ConfigError, match=r"freezes the embeddings, and the model has 2 added tokens"):
        apply_adapter(load_model(tiny_model_folder), adapter, added_token_ids=(7, 8))


def test_virtual_tokens_are_all_that_is_trained(tiny_model_folder):
    prompt = apply_adapter(load_model(tiny_model_folder), PromptTuningAdapter(num_virtual_tokens=4))
    assert count_parameters(prompt)[0] == 4 * 64
    prefix = apply_adapter(load_model(tiny_model_folder), PrefixTuningAdapter(num_virtual_tokens=4))
    assert count_parameters(prefix)[0] == 4 * 2 * 2 * (2 * 16)  # layers, keys and values, heads of size 16


def test_in_rows_of_their_own_documents_have_the_loss_of_packed_rows(taught_folder, packed_folder):
    """Without an adapter: what the unpacking for virtual tokens must not change."""
    import torch

    from heliostat.tokenized import TokenizedDataset
    from heliostat.training.objectives.sft import Sft

    model, dataset = load_model(taught_folder), TokenizedDataset(packed_folder, "test")
    packed, unpacked = Sft(dataset, 2), Sft(dataset, 2, unpack=True)
    with torch.no_grad():
        for positions in ([0], [1, 2]):
            expected = float(packed.loss(model, positions, "cpu").summed)
            assert float(unpacked.loss(model, positions, "cpu").summed) == pytest.approx(expected, rel=1e-4)
    assert unpacked.weight([1, 2]) == packed.weight([1, 2])


@pytest.mark.parametrize("kind", IN_FRONT)
def test_virtual_tokens_lower_the_loss_and_come_back_from_their_folder(
    taught_folder, shouted_folder, tmp_path, kind
):
    """The model reads small letters well; what stands in front tells it to expect capitals."""
    adapter = {"kind": kind, "num_virtual_tokens": 8}
    made = inputs(taught_folder, shouted_folder, {"kind": "sft"}, adapter)
    before = held_out(prepare(made))["loss"]
    trained = learn(made, steps=30, learning_rate=0.01)
    after = held_out(trained)["loss"]
    assert after < before - 0.1, (before, after)
    trained.model.save_pretrained(tmp_path)
    loaded = type(trained)(load_with_adapter(taught_folder, tmp_path), trained.objective)
    assert held_out(loaded)["loss"] == pytest.approx(after, rel=1e-5)
    with pytest.raises(
        ModelError, match=f"a {kind} adapter stands in front of a document and cannot be merged"
    ):
        merge_adapter(taught_folder, tmp_path, tmp_path / "merged")


def test_a_prefix_of_zeros_hardly_moves_the_model_at_first(taught_folder, packed_folder):
    plain = held_out(prepare(inputs(taught_folder, packed_folder, {"kind": "sft"})))["loss"]
    adapter = {"kind": "prefix_tuning", "num_virtual_tokens": 4}
    prefixed = held_out(prepare(inputs(taught_folder, packed_folder, {"kind": "sft"}, adapter)))["loss"]
    assert prefixed == pytest.approx(plain, abs=0.2)

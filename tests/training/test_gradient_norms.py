import math

import pytest
from small_artifacts import pack

from heliostat.models.loading import load_model
from heliostat.models.scoring import summed_loss, to_tensors
from heliostat.tokenized import collate
from heliostat.training.adapters import apply_adapter
from heliostat.training.config import LoraAdapter
from heliostat.training.gradient_norms import gradient_norms_by_group, groups_of


def names_of(layers: int) -> list[str]:
    within = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(layers)]
    return ["model.embed_tokens.weight", *within, "model.norm.weight", "lm_head.weight"]


@pytest.mark.parametrize(
    ("layers", "ranges"),
    [
        (1, ["layers.0"]),
        (2, ["layers.0", "layers.1"]),
        (5, ["layers.0-1", "layers.2-3", "layers.4"]),
        (30, ["layers.0-7", "layers.8-15", "layers.16-23", "layers.24-29"]),
    ],
)
def test_layers_are_put_into_at_most_four_ranges_in_order(layers, ranges):
    found = groups_of(names_of(layers))
    assert list(dict.fromkeys(found.values())) == ["embeddings", *ranges, "head"]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight", "layers.0"),
        ("transformer.h.0.attn.c_attn.weight", "layers.0"),
        ("transformer.wte.weight", "embeddings"),
        ("prompt_encoder.default.embedding.weight", "embeddings"),
        ("score.weight", "head"),
    ],
)
def test_other_families_names_are_understood(name, group):
    assert groups_of([name])[name] == group


@pytest.fixture
def trained(tiny_model_folder):
    def train(adapt=lambda model: model):
        model = adapt(load_model(tiny_model_folder))
        batch = to_tensors(collate(pack(tiny_model_folder, 4, 128)[:1], padding_id=2))
        summed_loss(model, batch).backward()
        return model

    return train


def test_the_groups_norms_make_up_the_norm_of_all_gradients(trained):
    import torch

    model = trained()
    norms = gradient_norms_by_group(model.named_parameters())
    assert list(norms) == ["embeddings", "layers.0", "layers.1", "head"]
    whole = torch.nn.utils.get_total_norm([parameter.grad for parameter in model.parameters()])
    assert math.hypot(*norms.values()) == pytest.approx(float(whole), rel=1e-5)


def test_frozen_weights_have_no_group(trained):
    model = trained(lambda model: apply_adapter(model, LoraAdapter(r=2)))
    norms = gradient_norms_by_group(model.named_parameters())
    assert list(norms) == ["layers.0", "layers.1"]


def test_gradients_may_come_from_elsewhere(trained):
    model = trained()
    doubled = gradient_norms_by_group(model.named_parameters(), lambda parameter: 2 * parameter.grad)
    plain = gradient_norms_by_group(model.named_parameters())
    assert doubled == pytest.approx({name: 2 * norm for name, norm in plain.items()})
    assert gradient_norms_by_group(model.named_parameters(), lambda _: None) == {}

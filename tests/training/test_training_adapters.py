import pytest

from heliostat.errors import ConfigError
from heliostat.models.loading import load_model
from heliostat.training.adapters import apply_adapter, count_parameters
from heliostat.training.config import FullAdapter, LoraAdapter


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


def test_the_full_adapter_trains_everything(tiny_model_folder):
    trainable, everything = count_parameters(apply_adapter(load_model(tiny_model_folder), FullAdapter()))
    assert trainable == everything

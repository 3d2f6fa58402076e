"""Merging an adapter gives the model that base and adapter are together, with the tokenizer beside it."""

import pytest

from heliostat.errors import ModelError
from heliostat.models.adapters import copy_tokenizer, merge_adapter
from heliostat.models.loading import load_model, tokenizer_fingerprint
from heliostat.models.safety import check_model_folder


@pytest.fixture
def adapted(tiny_model_folder, tmp_path):
    """A saved adapter that changes the model, and the model with it."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = get_peft_model(load_model(tiny_model_folder), config).eval()
    model.save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter", model


def test_the_merged_model_is_base_and_adapter_together(tiny_model_folder, adapted, tmp_path):
    import torch

    adapter, model = adapted
    merge_adapter(tiny_model_folder, adapter, tmp_path / "merged")
    check_model_folder(tmp_path / "merged")
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        expected, merged = model(ids).logits, load_model(tmp_path / "merged")(ids).logits
        base = load_model(tiny_model_folder)(ids).logits
    assert torch.allclose(merged, expected, atol=1e-5)
    assert not torch.allclose(merged, base, atol=1e-3)
    assert tokenizer_fingerprint(tmp_path / "merged") == tokenizer_fingerprint(tiny_model_folder)


def test_an_adapter_that_is_a_pickle_is_refused(tiny_model_folder, adapted, tmp_path):
    (adapted[0] / "adapter_model.safetensors").rename(adapted[0] / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"no adapter_model\.safetensors"):
        merge_adapter(tiny_model_folder, adapted[0], tmp_path / "merged")


def test_every_tokenizer_file_is_carried(tiny_model_folder, tmp_path):
    copy_tokenizer(tiny_model_folder, tmp_path / "copy")
    assert {file.name for file in (tmp_path / "copy").iterdir()} == {
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }

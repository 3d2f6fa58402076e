"""LoRA in fewer passes has the results and gradients of PEFT's own layers."""

import pytest
import torch
from small_artifacts import pack
from small_models import small_llama

from heliostat.models.loading import load_model
from heliostat.models.scoring import summed_loss, to_tensors
from heliostat.tokenized import collate
from heliostat.training.adapters import apply_adapter
from heliostat.training.config import LoraAdapter
from heliostat.training.fast_lora import LoraProduct, use_fast_lora

TARGETS = ("q_proj", "v_proj", "down_proj")


def adapted(folder, **settings):
    """A model whose adapter already says something."""
    model = apply_adapter(load_model(folder), LoraAdapter(r=4, target_modules=TARGETS, **settings))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            chance = torch.Generator().manual_seed(len(name))
            torch.nn.init.normal_(weight, std=0.1, generator=chance)
    return model


def loss_and_gradients(model, batch):
    loss = summed_loss(model, batch)
    loss.backward()
    return loss.item(), {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def test_a_model_has_the_loss_and_gradients_it_had_with_the_adapter_on_and_off(tmp_path):
    folder = small_llama(tmp_path)
    batch = to_tensors(collate(pack(folder, count=8, max_sequence_length=128)[:2], padding_id=2))
    torch.manual_seed(0)
    plain = adapted(folder)
    torch.manual_seed(0)
    fast = adapted(folder)
    layers = fast.config.num_hidden_layers
    assert use_fast_lora(fast) == layers * len(TARGETS)
    (expected_loss, expected), (loss, gradients) = (loss_and_gradients(each, batch) for each in (plain, fast))
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(gradients[name], gradient, atol=1e-4, rtol=1e-4), name
    with fast.disable_adapter(), torch.no_grad():
        assert summed_loss(fast, batch).item() == summed_loss(load_model(folder), batch).item() != loss


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"dropout": 0.1}])
def test_dora_and_dropout_stay_with_peft(tmp_path, settings):
    assert use_fast_lora(adapted(small_llama(tmp_path), **settings)) == 0


def test_nothing_to_multiply_gives_nothing_and_no_gradient():
    """A row, or a piece of one, without labels has no logits."""
    x = torch.zeros(2, 0, 5, requires_grad=True)
    down, up = torch.ones(2, 5, requires_grad=True), torch.ones(4, 2, requires_grad=True)
    result = LoraProduct.apply(x, torch.ones(4, 5), down, up, 0.5)
    assert result.shape == (2, 0, 4)
    result.sum().backward()
    assert not down.grad.any()
    assert not up.grad.any()


def test_gradients_are_the_slopes():
    chance = torch.Generator().manual_seed(0)
    x, frozen, down, up = (
        torch.randn(shape, generator=chance, dtype=torch.float64)
        for shape in ((2, 3, 5), (4, 5), (2, 5), (4, 2))
    )
    learned = [each.requires_grad_() for each in (x, down, up)]
    assert torch.autograd.gradcheck(lambda x, down, up: LoraProduct.apply(x, frozen, down, up, 0.5), learned)

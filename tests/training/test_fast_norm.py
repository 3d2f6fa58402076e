"""Norms in fewer passes have the numbers and the gradients of transformers' own."""

import pytest
import torch
from small_artifacts import pack
from small_models import small_deepseek, small_llama
from transformers import Gemma2Config
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm

from heliostat.models.loading import load_model
from heliostat.models.scoring import summed_loss, to_tensors
from heliostat.tokenized import collate
from heliostat.training.fast_norm import RmsNorm, use_fast_norms


def loss_and_gradients(model, batch):
    loss = summed_loss(model, batch)
    loss.backward()
    return loss.item(), {name: each.grad for name, each in model.named_parameters()}


@pytest.mark.parametrize(("make", "num_norms"), [(small_llama, 5), (small_deepseek, None)])
def test_a_model_has_the_losses_and_gradients_it_had(tmp_path, make, num_norms):
    folder = make(tmp_path)
    batch = to_tensors(collate(pack(folder, count=8, max_sequence_length=128)[:2], padding_id=2))
    models = load_model(folder), load_model(folder)
    for model in models:
        for name, weight in model.named_parameters():
            if "norm" in name:  # fresh ones are all 1, which would hide a weight that is left out
                torch.nn.init.uniform_(weight, 0.5, 2, generator=torch.Generator().manual_seed(len(name)))
    found = use_fast_norms(models[1])
    assert found == sum("RMSNorm" in type(module).__name__ for module in models[1].modules())
    assert num_norms in (found, None)
    (expected_loss, expected), (loss, gradients) = (loss_and_gradients(model, batch) for model in models)
    assert loss == pytest.approx(expected_loss, abs=1e-4)
    for name, gradient in expected.items():
        if gradient is not None:
            assert torch.allclose(gradients[name], gradient, atol=1e-4, rtol=1e-4), name


@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 4, 6)])
def test_gradients_are_the_slopes(shape):
    chance = torch.Generator().manual_seed(0)
    x, weight = (
        torch.randn(size, generator=chance, dtype=torch.float64, requires_grad=True)
        for size in (shape, shape[-1:])
    )
    assert torch.autograd.gradcheck(lambda *given: RmsNorm.apply(*given, 1e-6), (x, weight))


def test_a_frozen_weight_gets_no_gradient():
    x, weight = torch.randn(3, 4, requires_grad=True), torch.ones(4)
    RmsNorm.apply(x, weight, 1e-6).sum().backward()
    assert x.grad is not None
    assert weight.grad is None


def test_a_norm_that_adds_one_to_its_weight_and_one_in_half_precision_keep_their_own(tmp_path):
    gemma = torch.nn.Sequential(Gemma2RMSNorm(Gemma2Config().hidden_size))
    torch.nn.init.ones_(gemma[0].weight)
    assert use_fast_norms(gemma) == 0
    assert use_fast_norms(load_model(small_llama(tmp_path), "bfloat16")) == 0

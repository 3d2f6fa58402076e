"""The loss over labels has the value and the gradient of torch's cross entropy."""

import pytest
import torch
from small_artifacts import pack
from small_models import small_llama

from heliostat.models.loading import load_model
from heliostat.models.scoring import summed_loss, to_tensors
from heliostat.tokenized import IGNORED, collate
from heliostat.training.label_loss import SummedCrossEntropy, summed_label_loss


@pytest.mark.parametrize("labels", [[3, 0, 4], [IGNORED, 2, IGNORED], [IGNORED] * 3])
def test_value_and_gradient_are_those_of_torch(labels):
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).mul(4).requires_grad_()
    labels = torch.tensor(labels)
    expected = torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    found = SummedCrossEntropy.apply(logits, labels)
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)
    (wanted,) = torch.autograd.grad(expected * 0.3, logits)
    (gradient,) = torch.autograd.grad(found * 0.3, logits)
    assert torch.allclose(gradient, wanted, atol=1e-6)


def test_without_a_label_there_is_no_loss():
    logits = torch.randn(0, 5, requires_grad=True)
    loss = SummedCrossEntropy.apply(logits, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0


def test_a_second_derivation_is_refused_and_not_wrong():
    logits = torch.randn(2, 5, requires_grad=True)
    loss = SummedCrossEntropy.apply(logits, torch.tensor([1, 2]))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_model_has_the_gradients_it_had(tmp_path):
    folder = small_llama(tmp_path)
    batch = to_tensors(collate(pack(folder, count=8, max_sequence_length=128)[:2], padding_id=2))
    models = load_model(folder), load_model(folder)
    losses = summed_loss(models[0], batch), summed_label_loss(models[1], batch)
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-6)
    for loss in losses:
        loss.backward()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-4)

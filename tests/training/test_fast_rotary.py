"""Rotary embeddings in fewer passes have the results and gradients of transformers' own."""

import sys

import pytest
import torch
from small_models import small_deepseek, small_llama
from transformers.models.llama import modeling_llama

from heliostat.models.loading import load_model
from heliostat.training.fast_rotary import NAME, Rotation, use_fast_rotary


@pytest.fixture
def of_transformers(monkeypatch):
    """transformers' own function, which is put back after the test."""
    function = getattr(modeling_llama, NAME)
    function = getattr(function, "_of_transformers", function)
    monkeypatch.setattr(modeling_llama, NAME, function)
    return function


def angles_and_states():
    chance = torch.Generator().manual_seed(0)
    states = [torch.randn(2, 7, heads, 6, generator=chance).transpose(1, 2) for heads in (4, 2)]
    cosine, sine = torch.randn(2, 2, 7, 6, generator=chance)
    return [each.requires_grad_() for each in states], cosine, sine


def test_a_model_turns_as_before(of_transformers, tmp_path):
    assert use_fast_rotary(load_model(small_llama(tmp_path)))
    found = getattr(modeling_llama, NAME)
    assert found is not of_transformers
    states, cosine, sine = angles_and_states()
    for one, other in zip(found(*states, cosine, sine), of_transformers(*states, cosine, sine), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
        pull = torch.randn(other.shape, generator=torch.Generator().manual_seed(1))
        given = next(each for each in states if each.shape == other.shape)
        (gradient,), (expected,) = (torch.autograd.grad(each, given, pull) for each in (one, other))
        assert torch.allclose(gradient, expected, atol=1e-6)


def test_half_precision_and_learned_angles_are_left_to_transformers(of_transformers, tmp_path):
    use_fast_rotary(load_model(small_llama(tmp_path)))
    (q, k), cosine, sine = angles_and_states()
    found = getattr(modeling_llama, NAME)
    halves = [each.bfloat16() for each in (q, k, cosine, sine)]
    assert torch.equal(found(*halves)[0], of_transformers(*halves)[0])
    cosine.requires_grad_()
    found(q, k, cosine, sine)[0].sum().backward()
    assert cosine.grad is not None


def test_a_file_without_the_function_is_left_alone(tmp_path):
    model = load_model(small_deepseek(tmp_path))
    assert use_fast_rotary(model) == hasattr(sys.modules[type(model).__module__], NAME)
    assert not use_fast_rotary(torch.nn.Linear(2, 2))


def test_gradients_are_the_slopes():
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    cosine, sine = torch.randn(2, 3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: Rotation.apply(x, cosine, sine), (x,))

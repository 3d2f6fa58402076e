"""Attention as matrix products has the results and gradients of torch's own, at every length."""

import pytest
import torch

from heliostat.training.causal_attention import BLOCK, LENGTHS, CausalAttention, attend_causally


def inputs(length, heads=6, groups=2, size=16, value_size=16):
    chance = torch.Generator().manual_seed(length)
    shapes = ((length, heads, size), (length, groups, size), (length, groups, value_size))
    # in memory as a layer's projections lie there: heads behind positions
    return [torch.randn(shape, generator=chance).mul(2).transpose(0, 1).requires_grad_() for shape in shapes]


def of_torch(query, key, value):
    repeated = [each.repeat_interleave(len(query) // len(each), dim=0) for each in (key, value)]
    return torch.nn.functional.scaled_dot_product_attention(query, *repeated, is_causal=True)


@pytest.mark.parametrize("length", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 200])
@pytest.mark.parametrize("shape", [{}, {"groups": 6}, {"groups": 1}, {"value_size": 8}])
def test_results_and_gradients_are_those_of_torch(length, shape):
    given = inputs(length, **shape)
    expected = of_torch(*given)
    found = CausalAttention.apply(*given, 16**-0.5)
    assert torch.allclose(found, expected, atol=1e-5)
    pull = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    for name, one, other in zip(
        ("query", "key", "value"),
        torch.autograd.grad(found, given, pull),
        torch.autograd.grad(expected, given, pull),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-4), name


def test_gradients_are_those_of_finite_differences():
    given = [each.detach().double().requires_grad_() for each in inputs(BLOCK + 3, heads=2, groups=1, size=2)]
    assert torch.autograd.gradcheck(
        lambda query, key, value: CausalAttention.apply(query, key, value, 0.5), [g[..., :2] for g in given]
    )


@pytest.mark.parametrize("length", [LENGTHS[0] - 1, LENGTHS[0], LENGTHS[-1], LENGTHS[-1] + 1])
def test_either_way_gives_the_same(length):
    given = [each[None] for each in inputs(length)]
    expected = of_torch(*(each[0] for each in given))
    found = attend_causally(*given, scale=None, dropout=0.0)
    assert found.shape == (1, 6, length, 16)
    assert torch.allclose(found[0], expected, atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(attend_causally(*given, scale=None, dropout=0.0)[0], expected, atol=1e-5)

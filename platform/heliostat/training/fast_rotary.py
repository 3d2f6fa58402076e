"""Rotary position embeddings in fewer passes over memory.

transformers turns queries and keys by making a copy with its halves exchanged and one of them negated, two
products and a sum; autograd makes seven more passes for the gradients. Here each half is added to in place,
forward and backward. The embeddings are those of Su et al., 2021, arXiv:2104.09864.

Imports torch: import it where a model is loaded anyway.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch

NAME = "apply_rotary_pos_emb"
"""What transformers' modeling files call the function."""
TOLERANCE = 1e-5


class Rotation(torch.autograd.Function):
    """x cos + (-x2, x1) sin, x1 and x2 being the halves of x: three of (..., size) -> (..., size)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
        """Keeps the angles only."""
        ctx.save_for_backward(cosine, sine)
        first, second = x.chunk(2, dim=-1)
        of_first, of_second = sine.chunk(2, dim=-1)
        turned = x * cosine
        halves = turned.chunk(2, dim=-1)
        halves[0].addcmul_(second, of_first, value=-1)
        halves[1].addcmul_(first, of_second)
        return turned

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """The gradient, turned back."""
        cosine, sine = ctx.saved_tensors
        first, second = gradients[0].chunk(2, dim=-1)
        of_first, of_second = sine.chunk(2, dim=-1)
        turned = gradients[0] * cosine
        halves = turned.chunk(2, dim=-1)
        halves[0].addcmul_(second, of_second)
        halves[1].addcmul_(first, of_first, value=-1)
        return turned, None, None


def use_fast_rotary(model: Any) -> bool:
    """Let a transformers model's attention turn queries and keys so; True where it does.

    That is where its modeling file has the function under its usual name, and it gives the same numbers.
    Models of the same kind in this process do so as well.
    """
    files = {
        type(module).__module__ for module in model.modules() if type(module).__name__.endswith("Attention")
    }
    found = [sys.modules[name] for name in sorted(files) if hasattr(sys.modules[name], NAME)]
    for file in found:
        of_transformers = getattr(file, NAME)
        if not isinstance(of_transformers, _Turning) and _agree(of_transformers):
            setattr(file, NAME, _Turning(of_transformers))
    return any(isinstance(getattr(file, NAME), _Turning) for file in found)


class _Turning:
    """transformers' function, or ours where a gradient is asked for and numbers are float32 on a CPU."""

    def __init__(self, of_transformers: Callable[..., tuple[torch.Tensor, torch.Tensor]]) -> None:
        self._of_transformers = of_transformers

    def __call__(
        self, q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, unsqueeze_dim: int = 1
    ) -> tuple[torch.Tensor, torch.Tensor]:
        plain = all(each.dtype == torch.float32 and each.device.type == "cpu" for each in (q, k, cos, sin))
        if not plain or cos.requires_grad or q.shape[-1] != cos.shape[-1]:
            return self._of_transformers(q, k, cos, sin, unsqueeze_dim)
        cosine, sine = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        return Rotation.apply(q, cosine, sine), Rotation.apply(k, cosine, sine)


def _agree(of_transformers: Callable[..., tuple[torch.Tensor, torch.Tensor]]) -> bool:
    chance = torch.Generator().manual_seed(0)
    x = torch.randn(1, 2, 3, 8, generator=chance)
    cos, sin = torch.randn(2, 1, 3, 8, generator=chance)
    try:
        expected = of_transformers(x, x, cos, sin)
    except (TypeError, RuntimeError):  # another function of that name
        return False
    found = _Turning(of_transformers)(x, x, cos, sin)
    return all(torch.allclose(*each, atol=TOLERANCE) for each in zip(found, expected, strict=True))

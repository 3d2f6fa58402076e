"""Root mean square norms in fewer passes over memory, forward and backward.

transformers writes the norm as six elementwise steps, and autograd adds some fifteen for their gradients; on
a CPU each of them is a pass over the activations. Here the gradient is written out. The norm is that of Zhang
and Sennrich, Root Mean Square Layer Normalization, https://arxiv.org/abs/1910.07467.

Imports torch: import it where a model is loaded anyway.
"""

from collections.abc import Callable
from typing import Any

import torch

TOLERANCE = 1e-5


class RmsNorm(torch.autograd.Function):
    """x / rms(x) * weight over the last dimension: (..., size), (size,) -> (..., size)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        """Keeps x, as the residual stream does anyway, and a scale of each row."""
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of x and, where it is trained, of the weight."""
        x, weight, scale = ctx.saved_tensors
        (gradient,) = gradients
        product = gradient * x
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = (scale.reshape(1, -1) @ product.reshape(-1, x.shape[-1])).view_as(weight)
        pull = (product @ weight).unsqueeze(-1).mul_(scale.pow(3)).div_(-x.shape[-1])
        return (gradient * weight).mul_(scale).addcmul_(x, pull), of_weight, None


def use_fast_norms(model: Any) -> int:
    """Let the norms of a transformers model compute so; returns how many do.

    These are the modules called ...RMSNorm with a float32 weight on a CPU whose numbers are the same either
    way. Others, such as those that add one to their weight, keep their own.
    """
    found = 0
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            fast = _forward_of(module)
            if _is_plain(module) and _agree(module, fast):
                module.forward = fast
                found += 1
    return found


def _forward_of(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(hidden_states: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = RmsNorm.apply(hidden_states, module.weight, module.variance_epsilon)
        return normed

    return forward


def _is_plain(module: Any) -> bool:
    return bool(module.weight.dtype == torch.float32 and module.weight.device.type == "cpu")


def _agree(module: Any, fast: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    probe = torch.linspace(-2, 3, 2 * len(module.weight)).view(2, -1)
    with torch.no_grad():
        return bool(torch.allclose(module(probe), fast(probe), atol=TOLERANCE))

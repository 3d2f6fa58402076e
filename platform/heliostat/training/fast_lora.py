"""LoRA's layers in fewer passes over memory.

PEFT computes the update as a matrix of its own, scales it and adds it to the frozen layer's result, and
autograd does as much again for the gradients. A matrix product can add to what is there and scale on its way.
LoRA is that of Hu et al., 2021, arXiv:2106.09685.

Imports torch: import it where a model is loaded anyway.
"""

from collections.abc import Callable
from typing import Any

import torch


class LoraProduct(torch.autograd.Function):
    """x W^T + scaling (x A^T) B^T with W frozen: (..., inputs), (outputs, inputs), (r, inputs), (outputs, r)
    -> (..., outputs)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        frozen: torch.Tensor,
        down: torch.Tensor,
        up: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        """Keeps x and the narrow x A^T."""
        rows = x.reshape(-1, x.shape[-1])
        narrow = rows @ down.t()
        result = rows @ frozen.t()
        result.addmm_(narrow, up.t(), alpha=scaling)
        ctx.save_for_backward(rows, narrow, frozen, down, up)
        ctx.scaling, ctx.shape = scaling, x.shape
        return result.view(*x.shape[:-1], frozen.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of x and of both narrow matrices."""
        rows, narrow, frozen, down, up = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        of_narrow = (gradient @ up).mul_(ctx.scaling)
        of_up = (gradient.t() @ narrow).mul_(ctx.scaling)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (gradient @ frozen).addmm_(of_narrow, down).view(ctx.shape)
        return of_x, None, of_narrow.t() @ rows, of_up, None


def use_fast_lora(model: Any) -> int:
    """Let PEFT's plain LoRA layers of a model compute so; returns how many do.

    Left alone are layers with dropout, DoRA or a bias, and what is not float32 on a CPU. With the adapter
    switched off a layer is PEFT's again.
    """
    from peft.tuners.lora import Linear

    found = 0
    for module in model.modules():
        if isinstance(module, Linear) and _is_plain(module):
            module.forward = _forward_of(module, module.forward)
            found += 1
    return found


def _is_plain(layer: Any) -> bool:
    (name,) = layer.lora_A
    weights = (layer.base_layer.weight, layer.lora_A[name].weight, layer.lora_B[name].weight)
    plain = all(each.dtype == torch.float32 and each.device.type == "cpu" for each in weights)
    alone = layer.base_layer.bias is None and not layer.lora_bias[name] and not weights[0].requires_grad
    unchanged = isinstance(layer.lora_dropout[name], torch.nn.Identity) and name not in layer.lora_variant
    return plain and alone and unchanged and type(layer.base_layer) is torch.nn.Linear


def _forward_of(layer: Any, of_peft: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    (name,) = layer.lora_A
    down, up, frozen = layer.lora_A[name], layer.lora_B[name], layer.base_layer

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if layer.disable_adapters or layer.merged or args or kwargs:
            return of_peft(x, *args, **kwargs)
        product: torch.Tensor = LoraProduct.apply(
            x, frozen.weight, down.weight, up.weight, layer.scaling[name]
        )
        return product

    return forward

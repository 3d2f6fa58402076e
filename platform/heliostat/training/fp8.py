"""Matrix products in 8-bit floating point, by torchao (Micikevicius et al., 2022, arXiv:2209.05433).

Weights, activations and gradients stay in bfloat16; what a linear layer multiplies is scaled to its largest
number and rounded, e4m3 forward and e5m2 for gradients. The layers keep their parameters and names, so
optimizer, checkpoints and published folders are those of bf16. Imports torch and torchao in its functions.
"""

from typing import Any

from heliostat.errors import ConfigError, TrainingError

MULTIPLE = 16
"""What tensor cores ask of a matrix's sides."""
KEPT = frozenset({"lm_head", "score", "gate"})
"""Layers that stay in bfloat16: heads and routers, whose small differences decide."""
LEAST_CAPABILITY = (8, 9)
"""NVIDIA's Ada; Hopper is (9, 0)."""


def use_fp8(model: Any) -> int:
    """Let the linear layers of a bfloat16 model multiply in 8 bits; returns how many do.

    Raises:
        ConfigError: none can, as no layer's sizes are multiples of 16.
    """
    import torch
    from torchao.float8 import convert_to_float8_training

    def is_taken(module: Any, name: str) -> bool:
        sizes = (module.in_features, module.out_features)
        return name.rpartition(".")[2] not in KEPT and not any(size % MULTIPLE for size in sizes)

    linears = [(name, each) for name, each in model.named_modules() if isinstance(each, torch.nn.Linear)]
    found = sum(is_taken(each, name) for name, each in linears)
    if not found:
        raise ConfigError(
            f"train.layout.precision: fp8 needs linear layers whose sizes are multiples of {MULTIPLE}, and "
            "this model has none; the nearest is bf16"
        )
    convert_to_float8_training(model, module_filter_fn=is_taken)
    return found


def require_fp8(name: str, capability: tuple[int, int]) -> None:
    """Refuse a GPU that cannot multiply in 8 bits, before a model is loaded onto it.

    Raises:
        TrainingError: with the GPU's name and what it can do.
    """
    if capability < LEAST_CAPABILITY:
        wanted = ".".join(map(str, LEAST_CAPABILITY))
        raise TrainingError(
            f"layout.precision: fp8 needs a GPU of compute capability {wanted} or more, and {name} has "
            f"{'.'.join(map(str, capability))}; the nearest is bf16"
        )

"""The size of gradients, by group of layers: which part of a model learns, and which not."""

import re
from collections.abc import Callable, Iterable
from typing import Any

MAXIMUM_LAYER_GROUPS = 4
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
EMBEDDINGS = re.compile(r"embed|wte|wpe|prompt_encoder")


def groups_of(names: Iterable[str]) -> dict[str, str]:
    """The group of each parameter: `embeddings`, up to four ranges of layers, `head` (all that comes after).

    Returns:
        {parameter: group}; groups are called `layers.0-7`, in order of layers.
    """
    names = list(names)
    layer_of = {name: int(found.group(1)) for name in names if (found := LAYER.search(name))}
    per_group = -(-(max(layer_of.values(), default=0) + 1) // MAXIMUM_LAYER_GROUPS)
    last = max(layer_of.values(), default=0)

    def group(name: str) -> str:
        if name in layer_of:
            first = layer_of[name] // per_group * per_group
            end = min(first + per_group - 1, last)
            return f"layers.{first}-{end}" if end > first else f"layers.{first}"
        return "embeddings" if EMBEDDINGS.search(name) else "head"

    return {name: group(name) for name in names}


def gradient_norms_by_group(
    named_parameters: Iterable[tuple[str, Any]], gradient_of: Callable[[Any], Any] | None = None
) -> dict[str, float]:
    """The norm of each group's gradients, at most six groups; one wait for the device.

    Args:
        named_parameters: of the model; those without a gradient are left out.
        gradient_of: gives a parameter's gradient or None; by default `.grad`. Under ZeRO that is empty:
            `deepspeed.utils.safe_get_full_grad` collects it, and all workers must call it.
    """
    trained = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
    of_group: dict[str, list[Any]] = {}
    groups = groups_of(name for name, _ in trained)
    for name, parameter in trained:
        gradient = parameter.grad if gradient_of is None else gradient_of(parameter)
        if gradient is not None:
            of_group.setdefault(groups[name], []).append(gradient)
    return dict(zip(of_group, _norms(list(of_group.values())), strict=True))


def _norms(groups: list[list[Any]]) -> list[float]:
    import torch

    if not groups:
        return []
    norms = [torch.nn.utils.get_total_norm([each.float() for each in group]) for group in groups]
    return [float(norm) for norm in torch.stack(norms).tolist()]

"""The summed loss of a packed batch: what training minimises and perplexity is made of."""

from typing import Any

import numpy as np

from heliostat.tokenized import IGNORED


def to_tensors(batch: dict[str, np.ndarray], device: Any = "cpu") -> dict[str, Any]:
    """A collated batch as torch tensors on a device."""
    import torch

    return {name: torch.from_numpy(values).to(device) for name, values in batch.items()}


def summed_loss(model: Any, batch: dict[str, Any]) -> Any:
    """Cross entropy summed over the batch's labels: a float32 tensor without dimensions, differentiable.

    `model` is a transformers causal model, a PEFT model or a DeepSpeed engine around one; `batch` comes from
    `collate` and `to_tensors`. Two things matter. `use_cache=False` and no attention mask, or transformers
    does not see the document borders in `position_ids` and packed documents read each other. And only the
    positions that predict a label are projected onto the vocabulary, a fifth of the work of a small model.
    """
    import torch

    labels = batch["labels"][:, 1:]  # the token at t is predicted at t - 1
    positions = (labels != IGNORED).any(dim=0).nonzero().squeeze(1)
    logits = model(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        use_cache=False,
        logits_to_keep=positions,
    ).logits
    return torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), labels[:, positions].flatten(), ignore_index=IGNORED, reduction="sum"
    )

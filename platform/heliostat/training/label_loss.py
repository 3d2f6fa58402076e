"""The loss summed over labels, with a gradient written over the log-probabilities it was read from.

torch's cross entropy makes the gradient of the log-probabilities, all zeros but one a row, and from that the
logits' gradient: three matrices of labels x vocabulary where one is enough.

Imports torch: import it where a model is loaded anyway.
"""

from typing import Any

import torch

from heliostat.models.scoring import labelled_logits
from heliostat.tokenized import IGNORED


def summed_label_loss(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """What `scoring.summed_loss` gives, for a loss that is differentiated once: float32, no dimensions."""
    logits, labels = labelled_logits(model, batch)
    loss: torch.Tensor = SummedCrossEntropy.apply(logits.flatten(0, 1), labels.flatten())
    return loss


class SummedCrossEntropy(torch.autograd.Function):
    """Cross entropy of (n, vocabulary) logits at (n,) labels, summed over those that are not IGNORED."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Keeps the log-probabilities, as torch does."""
        log_probabilities = logits.log_softmax(dim=-1)
        ctx.save_for_backward(log_probabilities, labels)
        return torch.nn.functional.nll_loss(log_probabilities, labels, ignore_index=IGNORED, reduction="sum")

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        """softmax(logits) less 1 at the label, for each row that has one."""
        log_probabilities, labels = ctx.saved_tensors
        weights = ((labels != IGNORED) * gradients[0]).unsqueeze(1)
        of_logits = log_probabilities.exp_().mul_(weights)
        return of_logits.scatter_add_(1, labels.clamp(min=0).unsqueeze(1), -weights), None

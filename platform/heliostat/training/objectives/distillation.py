"""Learn a teacher's distribution over the next token (Hinton et al., 2015, arXiv:1503.02531).

With temperature T both distributions are softmax(logits / T), and their divergence counts T^2 times, as its
gradient shrinks by that much. `forward` is KL(teacher || student), which covers all the teacher might say;
`reverse` is KL(student || teacher), which keeps to what it is likely to say (Gu et al., 2023,
arXiv:2306.08543). Only positions with a label count: what the student is to say, not what it reads.
"""

from collections.abc import Sequence
from typing import Any

import torch

from heliostat.models.scoring import label_losses, labelled_logits
from heliostat.tokenized import IGNORED, TokenizedDataset
from heliostat.training.objective_config import DistillationObjective
from heliostat.training.objectives.interface import Loss
from heliostat.training.objectives.packed import PackedBatches


class Distillation(PackedBatches):
    """Batches, loss and metrics (kl, label_loss) of a student beside a frozen teacher."""

    def __init__(
        self, config: DistillationObjective, dataset: TokenizedDataset, padding_id: int, teacher: Any
    ) -> None:
        """`teacher`: a frozen model in eval mode that gives a token the student's id."""
        super().__init__(dataset, padding_id)
        self._config = config
        self._teacher = teacher

    def loss(self, model: Any, positions: Sequence[int], device: Any) -> Loss:
        """The cross entropy over labels and the divergence, mixed by `label_weight`, summed over labels."""
        batch, config = self.batch(positions, device), self._config
        logits, labels = labelled_logits(model, batch)
        with torch.no_grad():
            wanted, _ = labelled_logits(self._teacher.to(device), batch)
        divergence = (self._divergence(logits, wanted) * (labels != IGNORED)).sum()
        label_loss = label_losses(logits, labels).sum()
        summed = (
            config.label_weight * label_loss + (1 - config.label_weight) * config.temperature**2 * divergence
        )
        return Loss(summed, {"kl": divergence.detach(), "label_loss": label_loss.detach()})

    def _divergence(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """KL in nats at each position, (batch, k). Embeddings may have rows behind the vocabulary, more in
        one model than in the other: no token has them."""
        rows = min(student.shape[-1], teacher.shape[-1])
        temperature = self._config.temperature
        of_student = (student[..., :rows] / temperature).log_softmax(dim=-1)
        of_teacher = (teacher[..., :rows] / temperature).log_softmax(dim=-1)
        target, other = of_teacher, of_student
        if self._config.divergence == "reverse":
            target, other = of_student, of_teacher
        return (target.exp() * (target - other)).sum(dim=-1)

"""Supervised fine-tuning: cross entropy over learned tokens, every one weighing the same in a step."""

from collections.abc import Sequence
from typing import Any

from heliostat.training.label_loss import summed_label_loss
from heliostat.training.objectives.interface import Loss
from heliostat.training.objectives.packed import PackedBatches


class Sft(PackedBatches):
    """Batches and loss of supervised fine-tuning over a packed dataset.

    From a dataset of preference pairs the chosen answers are learned.
    """

    def loss(self, model: Any, positions: Sequence[int], device: Any) -> Loss:
        """The loss summed over the learned tokens of one micro batch."""
        return Loss(summed_label_loss(model, self.batch(positions, device)))

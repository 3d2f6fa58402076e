"""Supervised fine-tuning: cross entropy over learned tokens, every one weighing the same in a step."""

from typing import Any

import numpy as np

from heliostat.models.scoring import summed_loss, to_tensors
from heliostat.tokenized import TokenizedDataset, collate


class Sft:
    """Batches and loss of supervised fine-tuning over a packed dataset."""

    def __init__(self, dataset: TokenizedDataset, padding_id: int) -> None:
        """`padding_id` fills rows that are shorter than the longest of a micro batch."""
        self._dataset = dataset
        self._padding_id = padding_id

    def weight(self, positions: list[int]) -> int:
        """How much these sequences weigh in a step: their learned tokens."""
        return int(np.sum(self._dataset.num_labels[positions]))

    def num_tokens(self, positions: list[int]) -> int:
        """Tokens the model reads for these sequences, padding not counted."""
        return sum(len(self._dataset[position].input_ids) for position in positions)

    def summed_loss(self, model: Any, positions: list[int], device: Any) -> Any:
        """The loss summed over the learned tokens of one micro batch: float32, no dimensions."""
        batch = collate([self._dataset[position] for position in positions], self._padding_id)
        return summed_loss(model, to_tensors(batch, device))

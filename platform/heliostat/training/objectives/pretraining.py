"""Language modelling: every token is learned but the first of each document, whatever the loss mask says."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from heliostat.tokenized import PackedSequence
from heliostat.training.objectives.sft import Sft


class Pretraining(Sft):
    """Batches and loss of language modelling: those of fine-tuning with all tokens marked as learned."""

    def weight(self, positions: Sequence[int]) -> float:
        """How much these sequences weigh in a step: their tokens but for the first of each document."""
        sequences = self.sequences(positions)
        return float(sum(len(each.input_ids) - len(each.document_lengths) for each in sequences))

    def sequences(self, positions: Sequence[int]) -> list[PackedSequence]:
        """What is at these positions, all of it learned."""
        return [
            replace(each, loss_mask=np.ones_like(each.loss_mask)) for each in super().sequences(positions)
        ]

"""A model that scores answers, learned from pairs (Ouyang et al., 2022, arXiv:2203.02155).

The loss of a pair is -log sigmoid(s_chosen - s_rejected) + centre (s_chosen + s_rejected)^2. The second term
(Eisenstein et al., 2023, arXiv:2312.09244) keeps scores of different prompts around 0, which the first, a
difference, leaves open.
"""

from collections.abc import Sequence
from typing import Any

import torch

from heliostat.models.scoring import answer_scores
from heliostat.preference_pairs import TokenizedPairs
from heliostat.training.objective_config import RewardObjective
from heliostat.training.objectives.interface import Loss
from heliostat.training.objectives.pairs import PairBatches, compared


class Reward(PairBatches):
    """Batches, loss and metrics (accuracy, margin, both rewards) over pairs."""

    def __init__(self, config: RewardObjective, dataset: TokenizedPairs, padding_id: int) -> None:
        """`padding_id` is that of the model's config: it says where a row ends."""
        super().__init__(dataset, padding_id)
        self._config = config

    def loss(self, model: Any, positions: Sequence[int], device: Any) -> Loss:
        """The loss summed over pairs, whose conversations are rows of one padded batch."""
        rows = [pair.both for pair in self.pairs(positions)]
        batch = self.batch(rows, apart=True, device=device)
        scores = answer_scores(model, batch).view(-1, 2)
        chosen, rejected = scores[:, 0], scores[:, 1]
        losses = -torch.nn.functional.logsigmoid(chosen - rejected)
        losses = losses + self._config.centre * (chosen + rejected).square()
        return Loss(losses.sum(), compared(chosen, rejected))

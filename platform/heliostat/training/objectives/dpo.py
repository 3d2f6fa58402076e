"""Direct preference optimisation (Rafailov et al., 2023, arXiv:2305.18290), and SimPO (arXiv:2405.14734).

A pair's implicit rewards are r = beta (log p(answer) - log p_ref(answer)), and its loss is
-log sigmoid(r_chosen - r_rejected - gamma). `label_smoothing` e (Mitchell, 2023, "A note on DPO with noisy
preferences") takes the labels for wrong in that share of the pairs: (1 - e) of this and e of the loss with
the answers exchanged. Without a reference log p_ref is 0; with `length_normalised` both log-probabilities
are means over the answer's tokens.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from heliostat.models.scoring import pair_log_probabilities
from heliostat.preference_pairs import TokenizedPairs
from heliostat.training.objective_config import DpoObjective
from heliostat.training.objectives.interface import Loss
from heliostat.training.objectives.pairs import PairBatches, compared


class Dpo(PairBatches):
    """Batches, loss and metrics (accuracy, margin, both rewards) over pairs."""

    def __init__(
        self, config: DpoObjective, dataset: TokenizedPairs, padding_id: int, reference: Any = None
    ) -> None:
        """`reference`: a frozen model in eval mode; None stands for the trained model, adapter off."""
        super().__init__(dataset, padding_id)
        self._config = config
        self._reference = reference

    def loss(self, model: Any, positions: Sequence[int], device: Any) -> Loss:
        """The loss summed over pairs; one pass reads both answers of each, as two packed documents."""
        rows = [pair.both for pair in self.pairs(positions)]
        batch = self.batch(rows, apart=False, device=device)
        config = self._config
        rewards = self._reward(model, batch)
        if not config.reference_free:
            rewards = rewards - self._reference_reward(model, batch, device)
        margin = rewards[:, 0] - rewards[:, 1] - config.gamma
        log_sigmoid = torch.nn.functional.logsigmoid
        losses = -(1 - config.label_smoothing) * log_sigmoid(margin)
        losses = losses - config.label_smoothing * log_sigmoid(-margin)
        return Loss(losses.sum(), compared(rewards[:, 0], rewards[:, 1]))

    def _reward(self, model: Any, batch: dict[str, Any]) -> torch.Tensor:
        """(num_pairs, 2): beta times the log-probabilities of both answers."""
        log_probabilities, num_labels = pair_log_probabilities(model, batch)
        if self._config.length_normalised:
            log_probabilities = log_probabilities / num_labels
        return self._config.beta * log_probabilities

    def _reference_reward(self, model: Any, batch: dict[str, Any], device: Any) -> torch.Tensor:
        with torch.no_grad():
            if self._reference is not None:
                return self._reward(self._reference.to(device), batch)
            with _adapter_off(model) as base:
                return self._reward(base, batch)


@contextmanager
def _adapter_off(model: Any) -> Iterator[Any]:
    """The model as it was before its adapter, without dropout. Of DeepSpeed's engine, the model within: the
    engine would count a pass of its own."""
    model = getattr(model, "module", model)
    training = model.training
    model.eval()
    try:
        with model.disable_adapter():
            yield model
    finally:
        model.train(training)

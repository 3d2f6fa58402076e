"""The batches of objectives over preference pairs."""

from collections.abc import Sequence
from copy import copy
from typing import Any, Self

import numpy as np
import torch

from heliostat.models.scoring import to_tensors
from heliostat.preference_pairs import PreferencePair, TokenizedPairs
from heliostat.tokenized import PackedSequence, collate, collate_documents


class PairBatches:
    """What is the same in all objectives that compare the two answers of a pair."""

    def __init__(self, dataset: TokenizedPairs, padding_id: int) -> None:
        """`padding_id` fills rows that are shorter than the longest of a micro batch."""
        self._dataset = dataset
        self._padding_id = padding_id
        self.padding: torch.Tensor | None = None
        """Where the last batch is only filled up, (rows, length), bool."""

    def __len__(self) -> int:
        """Pairs in the dataset."""
        return len(self._dataset)

    def weight(self, positions: Sequence[int]) -> float:
        """How much these pairs weigh in a step: all the same, whatever their answers' lengths."""
        return float(len(positions))

    def num_tokens(self, positions: Sequence[int]) -> int:
        """Tokens the model reads for both conversations of these pairs, padding not counted."""
        return sum(len(pair.both.input_ids) for pair in self.pairs(positions))

    def document_ids(self, positions: Sequence[int]) -> list[str]:
        """The documents these pairs come from."""
        return [pair.document_id for pair in self.pairs(positions)]

    def for_split(self, split: str) -> Self:
        """The same objective over another split."""
        other = copy(self)
        other._dataset = self._dataset.of_split(split)
        return other

    def batch(self, rows: list[PackedSequence], apart: bool, device: Any) -> dict[str, torch.Tensor]:
        """Pairs as tensors on a device: both answers in one row, or `apart`, in two."""
        batch = (collate_documents if apart else collate)(rows, self._padding_id)
        documents = [each for row in rows for each in row.documents()] if apart else rows
        lengths = np.array([[len(each.input_ids)] for each in documents])
        batch["padding"] = np.arange(batch["input_ids"].shape[1]) >= lengths
        tensors = to_tensors(batch, device)
        self.padding = tensors.pop("padding")
        return tensors

    def pairs(self, positions: Sequence[int]) -> list[PreferencePair]:
        """What is read at these positions."""
        return [self._dataset[position] for position in positions]


def compared(chosen: torch.Tensor, rejected: torch.Tensor) -> dict[str, torch.Tensor]:
    """Sums over pairs, detached, from the rewards of both answers, each (num_pairs,).

    `accuracy` counts the pairs whose chosen answer has the higher reward; ties are no success.
    """
    chosen, rejected = chosen.detach(), rejected.detach()
    return {
        "accuracy": (chosen > rejected).float().sum(),
        "margin": (chosen - rejected).sum(),
        "chosen_reward": chosen.sum(),
        "rejected_reward": rejected.sum(),
    }

"""The batches of objectives over packed sequences."""

from collections.abc import Sequence
from copy import copy
from typing import Any, Self

from heliostat.models.scoring import to_tensors
from heliostat.tokenized import PackedSequence, TokenizedDataset, collate, collate_documents


class PackedBatches:
    """What is the same in all objectives that predict the labels of packed sequences."""

    def __init__(self, dataset: TokenizedDataset, padding_id: int, unpack: bool = False) -> None:
        """`padding_id` fills rows that are shorter than the longest of a micro batch.

        With `unpack` each document gets a row of its own, for adapters that put something in front of it.
        """
        self._dataset = dataset
        self._padding_id = padding_id
        self._unpack = unpack

    def __len__(self) -> int:
        """Packed sequences in the dataset."""
        return len(self._dataset)

    def weight(self, positions: Sequence[int]) -> float:
        """How much these sequences weigh in a step: their learned tokens."""
        return float(self._dataset.num_labels[list(positions)].sum())

    def num_tokens(self, positions: Sequence[int]) -> int:
        """Tokens the model reads for these sequences, padding not counted."""
        return sum(len(sequence.input_ids) for sequence in self.sequences(positions))

    def document_ids(self, positions: Sequence[int]) -> list[str]:
        """The documents in these sequences."""
        return [name for sequence in self.sequences(positions) for name in sequence.document_ids]

    def for_split(self, split: str) -> Self:
        """The same objective over another split."""
        other = copy(self)
        other._dataset = self._dataset.of_split(split)
        return other

    def sequences(self, positions: Sequence[int]) -> list[PackedSequence]:
        """What is learned from these positions."""
        return [self._dataset[position] for position in positions]

    def batch(self, positions: Sequence[int], device: Any) -> dict[str, Any]:
        """One micro batch as tensors on a device."""
        together = collate_documents if self._unpack else collate
        return to_tensors(together(self.sequences(positions), self._padding_id), device)

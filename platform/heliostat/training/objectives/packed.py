"""The batches of objectives over packed sequences."""

from collections.abc import Sequence
from copy import copy
from typing import Any, Self

import numpy as np

from heliostat.models.scoring import to_tensors
from heliostat.tokenized import IGNORED, PackedSequence, TokenizedDataset, collate, collate_documents


class PackedBatches:
    """What is the same in all objectives that predict the labels of packed sequences."""

    def __init__(self, dataset: TokenizedDataset, padding_id: int, unpack: bool = False) -> None:
        """`padding_id` fills rows that are shorter than the longest of a micro batch.

        With `unpack` each document gets a row of its own, for adapters that put something in front of it.
        """
        self._dataset = dataset
        self._padding_id = padding_id
        self._unpack = unpack
        self._piece = (0, 1)
        self.padding: Any = None
        """Where the last batch is only filled up, (rows, length), bool; None where its rows say so."""

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

    def piece(self, number: int, count: int) -> Self:
        """The same objective over one of so many pieces of each row: its sums are a part of the row's."""
        other = copy(self)
        other._piece = number, count
        return other

    def sequences(self, positions: Sequence[int]) -> list[PackedSequence]:
        """What is learned from these positions."""
        return [self._dataset[position] for position in positions]

    def batch(self, positions: Sequence[int], device: Any) -> dict[str, Any]:
        """One micro batch as tensors on a device."""
        sequences = self.sequences(positions)
        if self._unpack:
            return to_tensors(collate_documents(sequences, self._padding_id), device)
        whole = collate(sequences, self._padding_id)
        lengths = np.array([[len(sequence.input_ids)] for sequence in sequences])
        whole["padding"] = np.arange(whole["input_ids"].shape[1]) >= lengths
        batch = to_tensors(cut_rows(whole, *self._piece, self._padding_id), device)
        self.padding = batch.pop("padding")
        return batch


def cut_rows(batch: dict[str, Any], number: int, count: int, padding_id: int) -> dict[str, Any]:
    """One of `count` pieces, all as long, of each row of a collated batch, which is padded to that end.

    A piece has one label more than positions, as the last of them predicts what the next piece begins with.
    """
    if count == 1:
        return batch
    length = batch["input_ids"].shape[1]
    piece = -(-length // count)
    missing = piece * count - length
    fill = {"input_ids": padding_id, "labels": IGNORED, "position_ids": 0, "padding": True}
    more = {"labels": 1}
    cut = {}
    for name, values in batch.items():
        room = missing + more.get(name, 0)
        padded = np.pad(values, ((0, 0), (0, room)), constant_values=fill[name])
        cut[name] = padded[:, number * piece : (number + 1) * piece + more.get(name, 0)]
    return cut

"""The tokenized dataset on disk: what the data room writes and training and evaluation read by position.

A folder holds `<split>/part-00000.parquet ...`, `index.json` and `tokenizer/`. A row is one packed sequence:
`input_ids`, `loss_mask` (1 where the token is learned), `document_lengths` (the documents in it, end to
end) and `document_ids`. The first token of a document has nothing in front of it, so it is never learned.

In a dataset of preference pairs (`"pairs": true` in the index) a row is one pair: two documents of the same
name, the conversation with the chosen answer and that with the rejected one.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from heliostat.errors import ArtifactError, DataError
from heliostat.records import Artifact

SPLITS = ("train", "validation", "test")
INDEX_NAME = "index.json"
TOKENIZER_FOLDER = "tokenizer"
ROWS_PER_GROUP = 256
IGNORED = -100
"""The label of a token that is not learned, as in torch's cross entropy."""

SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.int8())),
        ("document_lengths", pa.list_(pa.int32())),
        ("document_ids", pa.list_(pa.string())),
        ("num_labels", pa.int32()),
    ]
)
PAIR_SCHEMA = SCHEMA.append(pa.field("num_chosen_labels", pa.int32()))


@dataclass(frozen=True)
class PackedSequence:
    """One row: documents laid end to end, at most `max_sequence_length` tokens in all."""

    input_ids: np.ndarray
    loss_mask: np.ndarray
    document_lengths: tuple[int, ...]
    document_ids: tuple[str, ...]

    def position_ids(self) -> np.ndarray:
        """0, 1, 2, ... starting again at each document: this is what keeps packed documents apart."""
        return np.concatenate([np.arange(length) for length in self.document_lengths])

    def labels(self) -> np.ndarray:
        """The ids to learn, IGNORED elsewhere and at the first token of each document."""
        labels = np.where(self.loss_mask.astype(bool), self.input_ids, IGNORED)
        labels[np.cumsum([0, *self.document_lengths[:-1]])] = IGNORED
        return labels

    @property
    def num_labels(self) -> int:
        """How many tokens are learned."""
        return int((self.labels() != IGNORED).sum())

    def documents(self) -> "list[PackedSequence]":
        """Each document as a sequence of its own."""
        borders = np.cumsum([0, *self.document_lengths])
        return [
            PackedSequence(self.input_ids[start:end], self.loss_mask[start:end], (int(end - start),), (name,))
            for (start, end), name in zip(pairwise(borders), self.document_ids, strict=True)
        ]

    def row(self) -> dict[str, Any]:
        """The sequence as a row of SCHEMA."""
        return {
            "input_ids": self.input_ids.astype(np.int32),
            "loss_mask": self.loss_mask.astype(np.int8),
            "document_lengths": list(self.document_lengths),
            "document_ids": list(self.document_ids),
            "num_labels": self.num_labels,
        }


def collate(sequences: list[PackedSequence], padding_id: int) -> dict[str, np.ndarray]:
    """A batch of int64 arrays, each (num_sequences, longest): input_ids, labels, position_ids.

    Padding is on the right with positions from 0, so it looks like one more document that nobody learns.
    There is no attention mask, on purpose: with one, transformers ignores the borders in `position_ids`.
    """
    longest = max(len(sequence.input_ids) for sequence in sequences)
    batch = {
        "input_ids": np.full((len(sequences), longest), padding_id, dtype=np.int64),
        "labels": np.full((len(sequences), longest), IGNORED, dtype=np.int64),
        "position_ids": np.zeros((len(sequences), longest), dtype=np.int64),
    }
    for row, sequence in enumerate(sequences):
        length = len(sequence.input_ids)
        batch["input_ids"][row, :length] = sequence.input_ids
        batch["labels"][row, :length] = sequence.labels()
        batch["position_ids"][row, :length] = sequence.position_ids()
        batch["position_ids"][row, length:] = np.arange(longest - length)
    return batch


def collate_documents(sequences: list[PackedSequence], padding_id: int) -> dict[str, np.ndarray]:
    """A batch of int64 arrays with a row for each document, (num_documents, longest): input_ids, labels,
    attention_mask.

    For models that put something in front of each row, or read one answer from it. Padding is on the right.
    """
    documents = [document for sequence in sequences for document in sequence.documents()]
    batch = collate(documents, padding_id)
    lengths = np.array([len(document.input_ids) for document in documents])
    mask = np.arange(batch["input_ids"].shape[1]) < lengths[:, None]
    return {
        "input_ids": batch["input_ids"],
        "labels": batch["labels"],
        "attention_mask": mask.astype(np.int64),
    }


def write_part(path: Path, sequences: list[PackedSequence], pairs: bool = False) -> dict[str, Any]:
    """Write one Parquet part; returns its entry for the index: file, rows, tokens, labels, documents."""
    rows = [sequence.row() for sequence in sequences]
    if pairs:
        for row, sequence in zip(rows, sequences, strict=True):
            row["num_chosen_labels"] = sequence.documents()[0].num_labels
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, schema=PAIR_SCHEMA if pairs else SCHEMA)
    pq.write_table(table, path, row_group_size=ROWS_PER_GROUP)
    return {
        "file": f"{path.parent.name}/{path.name}",
        "rows": len(rows),
        "tokens": sum(len(row["input_ids"]) for row in rows),
        "labels": sum(row["num_labels"] for row in rows),
        "documents": len({name for row in rows for name in row["document_ids"]}),
    }


def require_same_tokenizer(dataset: Artifact, model: Artifact) -> None:
    """Refuse to read a dataset's ids with another model than they were made for.

    Raises:
        DataError: the dataset was tokenized with another tokenizer, or rendered by another chat template.
    """
    if dataset.facts.get("tokenizer") != model.facts.get("tokenizer"):
        raise DataError(
            f"{dataset.uri}: was tokenized with another tokenizer than that of {model.uri}; "
            "run the data stage again with this model"
        )


class TokenizedRows:
    """One split of a tokenized dataset of either kind, read by position."""

    def __init__(self, folder: Path, split: str) -> None:
        """Open a split.

        Raises:
            ArtifactError: the folder is not a tokenized dataset.
            DataError: the split holds nothing.
        """
        try:
            index = json.loads((folder / INDEX_NAME).read_text())
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{folder}: not a tokenized dataset ({INDEX_NAME}: {error})") from None
        self.tokenizer_folder = folder / TOKENIZER_FOLDER
        self.split = split
        self.holds_pairs = bool(index.get("pairs"))
        self.folder = folder
        self._parts = [part for part in index["splits"].get(split, []) if part["rows"]]
        if not self._parts:
            raise DataError(
                f"{folder}: the '{split}' split is empty; give more documents or another split ratio"
            )
        self._starts = np.cumsum([0, *(part["rows"] for part in self._parts)])

    def __len__(self) -> int:
        """The number of rows: packed sequences, or pairs."""
        return int(self._starts[-1])

    def of_split(self, split: str) -> Self:
        """Another split of the same dataset; errors as when it is opened."""
        return type(self)(self.folder, split)

    def row(self, position: int) -> PackedSequence:
        """The row at a position, 0 <= position < len, as it is stored."""
        if not 0 <= position < len(self):
            raise IndexError(position)
        part = int(np.searchsorted(self._starts, position, side="right")) - 1
        row = position - int(self._starts[part])
        table = _row_group(str(self.folder / self._parts[part]["file"]), row // ROWS_PER_GROUP)
        record = table.slice(row % ROWS_PER_GROUP, 1)
        return PackedSequence(
            input_ids=record["input_ids"][0].values.to_numpy(),
            loss_mask=record["loss_mask"][0].values.to_numpy(),
            document_lengths=tuple(record["document_lengths"][0].as_py()),
            document_ids=tuple(record["document_ids"][0].as_py()),
        )

    def column(self, name: str) -> pa.ChunkedArray:
        """A column over all rows."""
        files = [self.folder / part["file"] for part in self._parts]
        return pa.chunked_array(
            [chunk for file in files for chunk in pq.read_table(file, columns=[name])[name].chunks]
        )


class TokenizedDataset(TokenizedRows):
    """One split of a tokenized dataset as packed sequences.

    Of preference pairs these are the conversations with the chosen answer: what to fine-tune on before the
    pairs are compared, and what to measure a perplexity over.
    """

    def __init__(self, folder: Path, split: str) -> None:
        """Open a split; errors as `TokenizedRows`."""
        super().__init__(folder, split)
        self.num_labels = self.column("num_chosen_labels" if self.holds_pairs else "num_labels").to_numpy()
        """Learned tokens of each row: with these a worker can weigh its loss without asking the others."""

    def __getitem__(self, position: int) -> PackedSequence:
        """The sequence at a position, 0 <= position < len."""
        row = self.row(position)
        return row.documents()[0] if self.holds_pairs else row

    @property
    def num_tokens(self) -> int:
        """Tokens in all sequences, padding not counted."""
        if self.holds_pairs:
            return int(pc.sum(pc.list_element(self.column("document_lengths"), 0)).as_py())
        return int(sum(part["tokens"] for part in self._parts))


@lru_cache(maxsize=32)
def _row_group(path: str, group: int) -> pa.Table:
    try:
        return pq.ParquetFile(path).read_row_group(group)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: a part of the tokenized dataset cannot be read: {error}") from None

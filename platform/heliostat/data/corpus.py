"""The documents of all shards as one row of positions, and what a decision over them says."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from heliostat.data.cleaning_tasks import Shard
from heliostat.data.documents import Document
from heliostat.data.keys import KEYS, rank_of, read_array
from heliostat.data.shards import DROPPED_SCHEMA, FATE_COLUMNS, documents_at, open_shard
from heliostat.data.tasks import Work


@dataclass(frozen=True)
class Corpus:
    """The documents of all shards as one row of positions, 0 to below `len(keys)`."""

    name: str
    shards: Sequence[Shard]
    keys: np.ndarray
    starts: np.ndarray
    """(shards + 1,) the position of each shard's first document."""
    rank: np.ndarray
    """(n,) the place of each document in the total order that decides who stays."""

    @classmethod
    def of(cls, name: str, work: Work, shards: Sequence[Shard]) -> "Corpus":
        """Read the keys of all shards."""
        arrays = [read_array(work.scratch, f"{shard.name}.keys.npy") for shard in shards]
        keys = np.concatenate([np.zeros(0, dtype=KEYS), *arrays])
        starts = np.cumsum([0, *(shard.documents for shard in shards)])
        return cls(name, shards, keys, starts, rank_of(keys))

    def place(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The shard's number and the row in it, for each position."""
        number = np.searchsorted(self.starts, positions, side="right") - 1
        return number, positions - self.starts[number]

    def uids(self, work: Work, positions: Sequence[int] | np.ndarray) -> list[str]:
        """The uids of documents, in the order given; each shard's file is opened once."""
        wanted = np.asarray(positions, dtype=np.int64)
        uids = np.empty(len(wanted), dtype=object)
        numbers, rows = self.place(wanted)
        for number in np.unique(numbers).tolist():
            here = np.flatnonzero(numbers == number)
            with open_shard(work.scratch, f"{self.shards[number].name}.arrow") as reader:
                names = [reader.get_batch(at)["uid"] for at in range(reader.num_record_batches)]
                uids[here] = pa.chunked_array(names).take(pa.array(rows[here])).to_pylist()
        return list(uids)

    def documents(self, work: Work, positions: Sequence[int]) -> list[Document]:
        """A few documents, in the order given."""
        found = []
        for number, row in zip(*self.place(np.asarray(positions, dtype=np.int64)), strict=True):
            with open_shard(work.scratch, f"{self.shards[int(number)].name}.arrow") as reader:
                found += documents_at(reader, [int(row)])
        return found


@dataclass(frozen=True)
class Fates:
    """The documents that a decision lets go, as parallel columns; `kept` is what each of them repeats."""

    step: str
    reason: str
    position: np.ndarray
    kept: np.ndarray
    score: np.ndarray | None = None
    detail: list[str] = field(default_factory=list)

    def table(self, kept_uids: Sequence[str]) -> pa.Table:
        """The columns FATE_COLUMNS, a row for each document."""
        count = len(self.position)
        columns: dict[str, list[Any]] = {
            "step": [self.step] * count,
            "reason": [self.reason] * count,
            "score": [None] * count if self.score is None else self.score.tolist(),
            "kept_uid": list(kept_uids),
            "detail": self.detail or [None] * count,
        }
        types = {name: DROPPED_SCHEMA.field(name).type for name in FATE_COLUMNS}
        arrays = [pa.array(columns[name], type=types[name]) for name in FATE_COLUMNS]
        return pa.Table.from_arrays(arrays, names=FATE_COLUMNS)

"""The tasks of cleaning: read sources into shards, apply further steps to a shard, write it out by split.

Text goes through these a shard at a time and is never shuffled, so memory does not grow with the corpus. What
must look at all documents (`decisions.py`) looks at the arrays that these tasks leave beside the text.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from heliostat.data.dedup_config import NearDedupStep
from heliostat.data.documents import Document, Dropped, Outcome
from heliostat.data.keys import keys_of, read_array, write_array
from heliostat.data.near_dedup import near_keys
from heliostat.data.segments import Segment
from heliostat.data.shards import (
    FATE_COLUMNS,
    arrow_bytes,
    documents_of,
    dropped_table,
    open_shard,
    parquet_bytes,
    table_of,
    with_fates,
)
from heliostat.data.sources import Unit
from heliostat.data.step_row import StepRow, make_steps
from heliostat.data.steps.agreement import LabelAgreementStep, answers_of, learn_annotators
from heliostat.data.tasks import Statistics, TaskOfWork, Work, arrays_bytes, context_of, fitted_name
from heliostat.storage import Storage
from heliostat.text.agreement import Answer
from heliostat.tokenized import SPLITS

DROPPED_FOLDER = "dropped"
# A shard's worth of documents. Some ten times as much is in memory while a task works on it.
BYTES_PER_SHARD = 16 * 2**20
CHARACTERS_PER_BATCH = 2**21
DOCUMENTS_PER_BATCH = 256


@dataclass(frozen=True)
class Shard:
    """Documents that are still there behind a segment's steps; files below the scratch folder.

    `{name}.arrow` holds the documents, `{name}.keys.npy` their keys and, where near-dedup comes next,
    `{name}.bands.npy` and `{name}.signatures.npy` what it needs.
    """

    name: str
    documents: int
    characters: int


class ShardWriter:
    """Takes what the steps left and writes it as shards; keeps the dropped documents in files beside them."""

    def __init__(self, work: Work, name: str, near: NearDedupStep | None) -> None:
        self._work = work
        self._name = name
        self._near = near
        self._alive: list[pa.Table] = []
        self._dropped: list[pa.Table] = []
        self._arrays: dict[str, list[np.ndarray]] = {}
        self._characters = self._held = 0
        self.shards: list[Shard] = []
        self.dropped_files: list[str] = []

    def add(self, outcomes: list[Outcome], carried: dict[str, np.ndarray]) -> None:
        """Take a batch; `carried` are fields of KEYS that a document keeps, an entry for each outcome."""
        dropped = [each for each in outcomes if isinstance(each, Dropped)]
        documents = [each for each in outcomes if isinstance(each, Document)]
        if dropped:
            self._dropped.append(dropped_table(dropped))
            self._held += self._dropped[-1].nbytes
        if documents:
            alive = np.array([isinstance(each, Document) for each in outcomes])
            keys = keys_of(documents)
            for name, values in carried.items():
                keys[name] = values[alive]
            self._alive.append(table_of(documents))
            self._held += self._alive[-1].nbytes
            self._characters += int(keys["characters"].sum())
            self._keep("keys", keys)
            if self._near:
                for name, array in near_keys(documents, self._near).items():
                    self._keep(name, array)
        if self._held >= BYTES_PER_SHARD:
            self.flush()

    def flush(self) -> None:
        """Write what was taken since the last time."""
        name = f"{self._name}-{len(self.shards):03d}"
        if self._dropped:
            self.dropped_files.append(f"{DROPPED_FOLDER}/{name}.parquet")
            self._work.scratch.write_bytes(
                self.dropped_files[-1], parquet_bytes(pa.concat_tables(self._dropped))
            )
        if self._alive:
            table = pa.concat_tables(self._alive)
            for kind, arrays in self._arrays.items():
                write_array(self._work.scratch, f"{name}.{kind}.npy", np.concatenate(arrays))
            self._work.scratch.write_bytes(f"{name}.arrow", arrow_bytes(table))
            self.shards.append(Shard(name, table.num_rows, self._characters))
        self._alive, self._dropped, self._arrays, self._characters = [], [], {}, 0
        self._held = 0

    def _keep(self, kind: str, array: np.ndarray) -> None:
        self._arrays.setdefault(kind, []).append(array)

    def statistics(self, row: StepRow) -> Statistics:
        """What was written, and the account of the steps that led here."""
        if self._alive or self._dropped:
            self.flush()
        return {
            "shards": [[shard.name, shard.documents, shard.characters] for shard in self.shards],
            "dropped_files": self.dropped_files,
            "dropped": {step: dict(reasons) for step, reasons in row.dropped.items()},
            "seconds": dict(row.seconds),
        }


@dataclass(frozen=True)
class ReadTask(TaskOfWork):
    """Read some units and apply the first segment's steps."""

    number: int
    units: tuple[Unit, ...]
    segment: Segment
    work: Work

    @property
    def name(self) -> str:
        """The task's name, with which its shards' names begin."""
        return f"{self.segment.number}-{self.number:05d}"

    def make(self) -> Statistics:
        """Write shards; returns rows read, their characters, the shards, and the steps' account."""
        steps = make_steps(self.segment.steps, context_of(self.work))
        writer = ShardWriter(self.work, self.name, self.segment.near)
        read = characters = 0
        for unit in self.units:
            for batch in batches_of(unit.read()):
                read += len(batch)
                characters += sum(_characters(outcome) for outcome in batch)
                writer.add(steps.apply(batch), {"priority": np.full(len(batch), unit.priority)})
        return {"documents": read, "read": read, "characters": characters} | writer.statistics(steps)


@dataclass(frozen=True)
class LearnLabelsTask(TaskOfWork):
    """Let the step on labels learn how the annotators of all documents err."""

    config: LabelAgreementStep
    shards: tuple[tuple[Shard, str], ...]
    """With the file of each that says which documents no longer count."""
    work: Work

    @property
    def name(self) -> str:
        """The task's name."""
        return fitted_name(self.config).removesuffix(".npz")

    def make(self) -> Statistics:
        """Write what was learned."""
        learned = learn_annotators(self._answers())
        self.scratch.write_bytes(fitted_name(self.config), arrays_bytes(learned))
        return {"documents": sum(shard.documents for shard, _ in self.shards)}

    def _answers(self) -> Iterator[list[Answer]]:
        for shard, verdict in self.shards:
            gone = read_verdict(self.scratch, verdict)
            with open_shard(self.scratch, f"{shard.name}.arrow") as reader:
                position = 0
                for number in range(reader.num_record_batches):
                    for document in documents_of(reader.get_batch(number)):
                        if position not in gone:
                            yield answers_of(self.config, document)
                        position += 1


@dataclass(frozen=True)
class ApplyTask(TaskOfWork):
    """Let go what a decision dropped from a shard, and apply the next segment's steps to the rest."""

    shard: Shard
    verdict: str
    """The file that says what goes, or "" when nothing in this shard does."""
    clusters: str
    """The file with the documents' clusters, or "" when no decision joined any."""
    segment: Segment
    work: Work

    @property
    def name(self) -> str:
        """The task's name: the shard's, with the segment's number in front."""
        return f"{self.segment.number}-{self.shard.name.partition('-')[2]}"

    def make(self) -> Statistics:
        """Write one shard, or none when no document is left; returns it and the steps' account."""
        steps = make_steps(self.segment.steps, context_of(self.work))
        writer = ShardWriter(self.work, self.name, self.segment.near)
        fates = read_verdict(self.work.scratch, self.verdict)
        keys = read_array(self.work.scratch, f"{self.shard.name}.keys.npy")
        clusters = read_array(self.work.scratch, self.clusters) if self.clusters else keys["cluster"]
        position = 0
        with open_shard(self.work.scratch, f"{self.shard.name}.arrow") as reader:
            for number in range(reader.num_record_batches):
                documents = documents_of(reader.get_batch(number))
                batch: list[Outcome] = [
                    _fated(document, fates.get(position + at)) for at, document in enumerate(documents)
                ]
                here = slice(position, position + len(batch))
                carried = {"priority": keys["priority"][here], "cluster": clusters[here]}
                writer.add(steps.apply(batch), carried)
                position += len(batch)
        return {"documents": position, "characters": self.shard.characters} | writer.statistics(steps)


@dataclass(frozen=True)
class WriteTask(TaskOfWork):
    """Write a shard's documents to the files of their splits, and what the last decision dropped."""

    number: int
    shard: Shard
    verdict: str
    work: Work

    @property
    def name(self) -> str:
        """The task's name."""
        return f"write-{self.number:05d}"

    def make(self) -> Statistics:
        """Write the files; returns their names, what was dropped, and what is told of the kept documents."""
        scratch = self.work.scratch
        fates = read_verdict(scratch, self.verdict)
        splits = read_array(scratch, f"{self.shard.name}.splits.npy")
        files: list[str] = []
        with open_shard(scratch, f"{self.shard.name}.arrow") as reader:
            table = reader.read_all()
            for code, split in enumerate(SPLITS):
                rows = np.flatnonzero(splits == code)
                if len(rows):
                    files.append(f"{split}/part-{self.number:05d}.parquet")
                    scratch.write_bytes(files[-1], parquet_bytes(table.take(pa.array(rows))))
            dropped: dict[str, Counter[str]] = {}
            if fates:
                files.append(f"{DROPPED_FOLDER}/{self.name}.parquet")
                gone = table.take(pa.array(sorted(fates)))
                columns = {name: [fates[row][name] for row in sorted(fates)] for name in FATE_COLUMNS}
                scratch.write_bytes(files[-1], parquet_bytes(with_fates(gone, columns)))
                for fate in fates.values():
                    dropped.setdefault(fate["step"], Counter())[fate["reason"]] += 1
        return {
            "documents": len(splits),
            "files": files,
            "dropped": {step: dict(reasons) for step, reasons in dropped.items()},
        }


Fate = dict[str, Any]


def read_verdict(scratch: Storage, name: str) -> dict[int, Fate]:
    """What a decision said of a shard: for each row that goes, the values of FATE_COLUMNS."""
    if not name:
        return {}
    with open_shard(scratch, name) as reader:
        return {fate.pop("shard_row"): fate for fate in reader.read_all().to_pylist()}


def batches_of(outcomes: Iterable[Outcome]) -> Iterator[list[Outcome]]:
    """The outcomes in batches, small in number and in characters."""
    batch: list[Outcome] = []
    characters = 0
    for outcome in outcomes:
        batch.append(outcome)
        characters += _characters(outcome)
        if len(batch) >= DOCUMENTS_PER_BATCH or characters >= CHARACTERS_PER_BATCH:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _characters(outcome: Outcome) -> int:
    document = outcome.document if isinstance(outcome, Dropped) else outcome
    return sum(map(len, document.contents))


def _fated(document: Document, fate: Fate | None) -> Outcome:
    if fate is None:
        return document
    return Dropped(
        document, fate["step"], fate["reason"], fate["detail"] or "", fate["score"], fate["kept_uid"] or ""
    )

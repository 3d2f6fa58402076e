"""The cleaned documents: read, steps, dedup, shuffle by hash, split. Tasks, and the driver between them.

read      each task reads some files, applies the steps in front of dedup and writes one shard, sorted by
          the hash that also shuffles the dataset
dedup     the driver reads 16 bytes a document, in source order, and decides who stays
arrange   each task takes one range of that hash from all shards, applies what is left of the steps and
          writes one part a split: parts are of even size and mix the sources, whatever the files were
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from heliostat.data import dedup
from heliostat.data.config import CleanConfig, Step
from heliostat.data.documents import Document, Dropped, Outcome
from heliostat.data.ordering import ORDERS, order_of, order_range, split_of
from heliostat.data.shards import DOCUMENT_SCHEMA, DROPPED_SCHEMA, outcomes_of, parquet_bytes
from heliostat.data.sources import Unit, group_units, plan_units
from heliostat.data.steps import apply_steps
from heliostat.data.tasks import Runner, Statistics, counter_of
from heliostat.records import Artifact
from heliostat.storage import Storage
from heliostat.tokenized import SPLITS

DROPPED_FOLDER = "dropped"
# About two million tokens: some seconds of tokenizing, and enough documents to pack without waste.
CHARACTERS_PER_PART = 8_000_000

_SHARD_SCHEMA = pa.schema(
    [*DROPPED_SCHEMA, ("order", pa.int64()), ("position", pa.int64()), ("key", pa.binary(16))]
)


@dataclass(frozen=True)
class ReadTask:
    """Read some units and apply the steps in front of dedup."""

    number: int
    units: tuple[Unit, ...]
    config: CleanConfig
    model: Artifact
    scratch: Storage

    @property
    def name(self) -> str:
        """The shard's name."""
        return f"read-{self.number:05d}"

    def make(self) -> Statistics:
        """Write the shard; returns documents read, characters alive, personal data found."""
        count, found = counter_of(self.config, self.model), Counter[str]()
        steps, _ = steps_around_dedup(self.config)
        rows: list[dict[str, Any]] = []
        characters = 0
        for unit in self.units:
            for outcome in unit.read():
                if isinstance(outcome, Document):
                    outcome = apply_steps(outcome, steps, count, found)
                rows.append(self._row(outcome, len(rows)))
                if isinstance(outcome, Document):
                    characters += sum(len(text) for text in outcome.contents)
        rows.sort(key=lambda row: (row["order"], row["uid"]))
        self.scratch.write_bytes(f"{self.name}.parquet", parquet_bytes(rows, _SHARD_SCHEMA))
        return {"read": len(rows), "characters": characters, "pii": dict(found)}

    def _row(self, outcome: Outcome, position: int) -> dict[str, Any]:
        key = dedup.key_of_document(outcome) if isinstance(outcome, Document) else None
        values = outcome.row_values()
        order = order_of(values["uid"], self.config.split.seed)
        return values | {"order": order, "position": position, "key": key}


@dataclass(frozen=True)
class ArrangeTask:
    """Take one range of the shuffled order from all shards; drop duplicates, finish the steps, split."""

    number: int
    num_parts: int
    num_shards: int
    duplicates: dict[str, str]
    config: CleanConfig
    model: Artifact
    scratch: Storage

    @property
    def name(self) -> str:
        """The part's name."""
        return f"arrange-{self.number:05d}"

    def make(self) -> Statistics:
        """Write a file for each split and for the dropped; returns their names and personal data found."""
        count, found = counter_of(self.config, self.model), Counter[str]()
        _, steps = steps_around_dedup(self.config)
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in (*SPLITS, DROPPED_FOLDER)}
        for outcome in outcomes_of(self._read_range()):
            result = outcome
            if isinstance(outcome, Document):
                kept = self.duplicates.get(outcome.uid)
                if kept:
                    result = Dropped(outcome, dedup.STEP, dedup.REASON, f"repeats {kept}")
                else:
                    result = apply_steps(outcome, steps, count, found)
            place = DROPPED_FOLDER if isinstance(result, Dropped) else split_of(result.uid, self.config.split)
            rows[place].append(result.row_values())
        files = []
        for place, values in rows.items():
            if values:
                schema = DROPPED_SCHEMA if place == DROPPED_FOLDER else DOCUMENT_SCHEMA
                files.append(f"{place}/part-{self.number:05d}.parquet")
                self.scratch.write_bytes(files[-1], parquet_bytes(values, schema))
        return {"files": files, "pii": dict(found)}

    def _read_range(self) -> pa.Table:
        start, end = order_range(self.number, self.num_parts)
        wanted = [("order", ">=", start), ("order", "<", end)]
        shards = [
            pq.read_table(_shard(self.scratch, number), filters=wanted, partitioning=None)
            for number in range(self.num_shards)
        ]
        return pa.concat_tables(shards).sort_by([("order", "ascending"), ("uid", "ascending")])


@dataclass(frozen=True)
class Cleaned:
    """What cleaning left in the scratch folder: the files of the artifact, and counts made on the way."""

    files: tuple[str, ...]
    documents_read: int
    pii: dict[str, int]


def clean(config: CleanConfig, model: Artifact, scratch: Storage, run_all: Runner) -> Cleaned:
    """Make the cleaned documents of a config below `scratch`.

    Raises:
        ConfigError, DataError: a source is not there or not readable.
    """
    items = group_units(plan_units(config))
    reads = [ReadTask(number, item, config, model, scratch) for number, item in enumerate(items)]
    statistics = list(run_all(reads, "Reading and cleaning"))
    num_parts = max(1, -(-sum(each["characters"] for each in statistics) // CHARACTERS_PER_PART))
    duplicates = _decide_duplicates(config, scratch, len(reads), num_parts)
    arranges = [
        ArrangeTask(number, num_parts, len(reads), duplicates[number], config, model, scratch)
        for number in range(num_parts)
    ]
    arranged = list(run_all(arranges, "Dedup and split"))
    pii = sum((Counter[str](each["pii"]) for each in (*statistics, *arranged)), Counter[str]())
    return Cleaned(
        files=tuple(sorted(name for each in arranged for name in each["files"])),
        documents_read=sum(each["read"] for each in statistics),
        pii=dict(sorted(pii.items())),
    )


def steps_around_dedup(config: CleanConfig) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The steps in front of dedup and those behind it; without dedup all are in front."""
    kinds = [step.kind for step in config.steps]
    at = kinds.index(dedup.STEP) if dedup.STEP in kinds else len(kinds)
    return config.steps[:at], config.steps[at + 1 :]


def _decide_duplicates(
    config: CleanConfig, scratch: Storage, num_shards: int, num_parts: int
) -> list[dict[str, str]]:
    """For each part, the uids in it that repeat an earlier document, with that document's uid."""
    by_part: list[dict[str, str]] = [{} for _ in range(num_parts)]
    if not any(step.kind == dedup.STEP for step in config.steps):
        return by_part
    keys: list[tuple[bytes, str]] = []
    for number in range(num_shards):
        columns = ["key", "uid", "position"]
        table = pq.read_table(_shard(scratch, number), columns=columns, partitioning=None)
        table = table.sort_by("position")
        pairs = zip(table["key"].to_pylist(), table["uid"].to_pylist(), strict=True)
        keys += [(key, uid) for key, uid in pairs if key is not None]
    for uid, kept in dedup.find_duplicates(keys).items():
        by_part[_part_of(order_of(uid, config.split.seed), num_parts)][uid] = kept
    return by_part


def _part_of(order: int, num_parts: int) -> int:
    part = order * num_parts // ORDERS
    return part if order < order_range(part, num_parts)[1] else part + 1


def _shard(scratch: Storage, number: int) -> str:
    return scratch.uri(f"read-{number:05d}.parquet")

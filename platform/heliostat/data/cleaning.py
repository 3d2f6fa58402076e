"""From sources to cleaned documents, split: which tasks run in which order.

Segment by segment: tasks over shards apply the steps, then a decision over all documents says who repeats
whom, or a step learns from all that are left. At the end every shard is written out by split. Tasks are pure
and leave their statistics last, so a run that was killed goes on with the first task that is not done.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from heliostat.data.cleaning_tasks import ApplyTask, LearnLabelsTask, ReadTask, Shard, WriteTask
from heliostat.data.config import CleanConfig
from heliostat.data.decisions import NOTHING_DECIDED, Decision, decide
from heliostat.data.documents import READ_STEP
from heliostat.data.keys import read_array, write_array
from heliostat.data.near_decision import Nominate, join_clusters, nominate_here
from heliostat.data.origins import origins_of
from heliostat.data.references import fit_tasks
from heliostat.data.segments import named_steps, segments_of
from heliostat.data.shards import open_shard
from heliostat.data.sources import group_units, plan_units
from heliostat.data.splitting import split_codes
from heliostat.data.tasks import Runner, Statistics, StepModels, Work
from heliostat.storage import Storage


@dataclass
class Account:
    """What the tasks say they did, step by step; the receipt compares it with what lies in the files."""

    read: int = 0
    characters: int = 0
    dropped: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)
    files: list[str] = field(default_factory=list)

    def add(self, statistics: Statistics) -> None:
        """Take over what a task did."""
        if "read" in statistics:
            self.read += statistics["read"]
            self.characters += statistics["characters"]
        self.files += statistics.get("dropped_files", []) + statistics.get("files", [])
        self.seconds.update(statistics.get("seconds", {}))
        for step, reasons in statistics.get("dropped", {}).items():
            self.dropped.setdefault(step, Counter()).update(reasons)

    def by_step(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """For each step in order: documents in and out, and dropped by reason."""
        rows, left = [], self.read
        for name in (READ_STEP, *names):
            dropped = self.dropped.get(name, Counter[str]())
            rows.append(
                {
                    "step": name,
                    "read": left,
                    "kept": left - dropped.total(),
                    "dropped": dict(sorted(dropped.items())),
                }
            )
            left -= dropped.total()
        return rows


@dataclass(frozen=True)
class Cleaned:
    """What cleaning left in the scratch folder: the files of the artifact, and the account of it."""

    files: tuple[str, ...]
    documents_read: int
    characters_read: int
    steps: list[dict[str, Any]]
    seconds: dict[str, float] = field(compare=False)
    """Of processors, by step; different each time, so they belong in no file of the artifact."""
    decisions: dict[str, Any]
    """What the decisions tell beside their verdicts, by step: giant buckets, clusters of duplicates."""
    origins: list[dict[str, Any]]
    """The source files with their hashes."""


def clean(
    config: CleanConfig,
    models: StepModels,
    scratch: Storage,
    run_all: Runner,
    nominate: Nominate = nominate_here,
) -> Cleaned:
    """Make the cleaned documents of a config below `scratch`.

    Raises:
        ConfigError, DataError: a source is not there or not readable.
    """
    work, account = Work(config, models, scratch), Account()
    first, *further = segments_of(config)
    for _ in run_all(fit_tasks(work), "Learning from references"):
        pass
    planned = plan_units(config)
    units, origins = group_units(planned), origins_of(planned)
    reads = [ReadTask(number, item, first, work) for number, item in enumerate(units)]
    shards = _run(reads, "Reading and cleaning", account, run_all)
    decision = decide(work, first, shards, run_all, nominate) if first.decisions else NOTHING_DECIDED
    told = dict(decision.told)
    for segment in further:
        if segment.learning:
            verdicts = tuple((shard, decision.files_of(shard)[0]) for shard in shards)
            learning = LearnLabelsTask(segment.learning, verdicts, work)
            _run([learning], "Learning from all labels", account, run_all)
        if segment.steps or segment.decisions:
            applies = [ApplyTask(shard, *decision.files_of(shard), segment, work) for shard in shards]
            shards = _run(applies, "Cleaning further", account, run_all)
            decision = NOTHING_DECIDED
        if segment.decisions:
            decision = decide(work, segment, shards, run_all, nominate)
            told |= decision.told
    _split(work, shards, decision)
    writes = [
        WriteTask(number, shard, decision.files_of(shard)[0], work) for number, shard in enumerate(shards)
    ]
    _run(writes, "Writing splits", account, run_all)
    return Cleaned(
        files=tuple(sorted(account.files)),
        documents_read=account.read,
        characters_read=account.characters,
        steps=account.by_step([name for name, _ in named_steps(config)]),
        seconds={step: round(seconds, 3) for step, seconds in account.seconds.items()},
        decisions=told,
        origins=origins,
    )


def _run(tasks: Sequence[Any], title: str, account: Account, run_all: Runner) -> list[Shard]:
    """Run tasks and take their accounts; returns the shards that have documents, in order."""
    shards: list[Shard] = []
    for statistics in run_all(tasks, title):
        account.add(statistics)
        shards += [Shard(*values) for values in statistics.get("shards", [])]
    return sorted(shards, key=lambda shard: shard.name)


def _split(work: Work, shards: Sequence[Shard], decision: Decision) -> None:
    """Decide for every document that is left where it goes, and leave that beside its shard."""
    domains, clusters, contents, alive = [], [], [], []
    exact: list[np.ndarray] = []
    for shard in shards:
        keys = read_array(work.scratch, f"{shard.name}.keys.npy")
        _, cluster_file = decision.files_of(shard)
        clusters.append(read_array(work.scratch, cluster_file) if cluster_file else keys["cluster"])
        contents.append(keys["content"][:, 0])
        exact.append(keys["exact"][:, 0])
        alive.append(decision.alive(shard))
        with open_shard(work.scratch, f"{shard.name}.arrow") as reader:
            batches = [reader.get_batch(number)["domain"] for number in range(reader.num_record_batches)]
            domains.append(pc.dictionary_encode(pa.chunked_array(batches).combine_chunks()))
    strata = _codes(domains)
    stays = np.concatenate(alive) if alive else np.zeros(0, dtype=bool)
    codes = np.full(len(stays), -1, dtype=np.int8)
    if stays.any():
        together = _joined(np.concatenate(clusters)[stays], np.concatenate(exact)[stays])
        codes[stays] = split_codes(
            strata[stays], together, np.concatenate(contents)[stays], work.config.split
        )
    start = 0
    for shard in shards:
        write_array(work.scratch, f"{shard.name}.splits.npy", codes[start : start + shard.documents])
        start += shard.documents


def _joined(clusters: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """The clusters, joined where documents say the same: steps behind dedup, such as redaction, may have made
    equal what was not."""
    order = np.argsort(exact, kind="stable")
    equal = np.flatnonzero(exact[order[1:]] == exact[order[:-1]])
    return join_clusters(clusters, np.stack([order[equal], order[equal + 1]], axis=1))


def _codes(encoded: Sequence[pa.DictionaryArray]) -> np.ndarray:
    """A number for each document's domain, the same for equal names whatever the order of the shards."""
    names = sorted({name for array in encoded for name in array.dictionary.to_pylist()})
    number = {name: code for code, name in enumerate(names)}
    columns = [
        np.array([number[name] for name in array.dictionary.to_pylist()], dtype=np.int64)[
            array.indices.to_numpy()
        ]
        for array in encoded
    ]
    return np.concatenate(columns) if columns else np.zeros(0, dtype=np.int64)

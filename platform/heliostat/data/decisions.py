"""Decisions over all documents: who repeats whom, who stays, and which documents belong together.

They look at the arrays beside the shards. Texts are fetched for the nominated pairs only, by tasks. Nothing
depends on how documents were dealt out to shards, on the order of rows, or on which task was done first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from heliostat.data.cleaning_tasks import Shard
from heliostat.data.corpus import Corpus, Fates
from heliostat.data.dedup_config import ExactDedupStep
from heliostat.data.exact_dedup import exact_duplicates
from heliostat.data.keys import write_array
from heliostat.data.near_decision import NearWork, Nominate, decide_near, join_clusters
from heliostat.data.segments import Segment
from heliostat.data.shards import arrow_bytes
from heliostat.data.tasks import Runner, Work


@dataclass(frozen=True)
class Decision:
    """What was decided: for each shard the files that say it, and figures for the report by step."""

    verdicts: dict[str, str] = field(default_factory=dict)
    clusters: dict[str, str] = field(default_factory=dict)
    gone: dict[str, np.ndarray] = field(default_factory=dict)
    """Rows that go, by shard."""
    told: dict[str, Any] = field(default_factory=dict)

    def files_of(self, shard: Shard) -> tuple[str, str]:
        """The files with a shard's verdict and its documents' clusters; "" where there is none."""
        return self.verdicts.get(shard.name, ""), self.clusters.get(shard.name, "")

    def alive(self, shard: Shard) -> np.ndarray:
        """(documents,) bool: which of a shard's documents stay."""
        stays = np.ones(shard.documents, dtype=bool)
        stays[self.gone.get(shard.name, [])] = False
        return stays


NOTHING_DECIDED = Decision()


def decide(
    work: Work, segment: Segment, shards: Sequence[Shard], run_all: Runner, nominate: Nominate
) -> Decision:
    """Take a segment's decisions in their order and write, beside each shard, what they mean for it."""
    corpus = Corpus.of(f"decide-{segment.number}", work, shards)
    alive = np.ones(len(corpus.keys), dtype=bool)
    clusters = corpus.keys["cluster"].copy()
    fates: list[Fates] = []
    told: dict[str, Any] = {}
    for name, config in segment.decisions:
        if isinstance(config, ExactDedupStep):
            found = _exact(corpus, alive, name)
        else:
            near = decide_near(NearWork(work, name, config, corpus, alive), run_all, nominate)
            found, told[name] = near.fates, near.told
            clusters = join_clusters(clusters, near.alike)
        alive[found.position] = False
        fates.append(found)
    return _write(work, corpus, fates, clusters, told)


def _exact(corpus: Corpus, alive: np.ndarray, name: str) -> Fates:
    positions = np.flatnonzero(alive)
    gone, kept = exact_duplicates(corpus.keys["exact"][positions], corpus.rank[positions])
    return Fates(name, "exact_duplicate", positions[gone], positions[kept])


def _write(
    work: Work, corpus: Corpus, fates: Sequence[Fates], clusters: np.ndarray, told: dict[str, Any]
) -> Decision:
    """The verdict of each shard in which something goes, and the clusters where a decision joined some."""
    verdicts: dict[str, list[pa.Table]] = {}
    gone: dict[str, list[np.ndarray]] = {}
    for found in fates:
        table = found.table(corpus.uids(work, found.kept))
        numbers, rows = corpus.place(found.position)
        for number in np.unique(numbers).tolist():
            here = np.flatnonzero(numbers == number)
            name = corpus.shards[number].name
            part = table.take(pa.array(here)).append_column("shard_row", pa.array(rows[here]))
            verdicts.setdefault(name, []).append(part)
            gone.setdefault(name, []).append(rows[here])
    for name, tables in verdicts.items():
        work.scratch.write_bytes(f"{name}.verdict.arrow", arrow_bytes(pa.concat_tables(tables)))
    cluster_files = {}
    for shard, start in zip(corpus.shards, corpus.starts[:-1], strict=True):
        cluster_files[shard.name] = f"{shard.name}.clusters.npy"
        write_array(work.scratch, cluster_files[shard.name], clusters[start : start + shard.documents])
    return Decision(
        verdicts={name: f"{name}.verdict.arrow" for name in verdicts},
        clusters=cluster_files,
        gone={name: np.concatenate(rows) for name, rows in gone.items()},
        told=told,
    )

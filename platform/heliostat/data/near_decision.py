"""Near-dedup over all shards: nominate by signature, compare the nominated texts, then decide.

`near_dedup.py` has the rules; this brings them the arrays and texts of a corpus and deals out the comparing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliostat.data.answers import same_answers
from heliostat.data.corpus import Corpus, Fates
from heliostat.data.dedup_config import NearDedupStep
from heliostat.data.keys import read_array, write_array
from heliostat.data.minhash import NO_KEY
from heliostat.data.near_dedup import (
    SIMILARITY,
    Candidates,
    alike,
    candidate_pairs,
    clusters,
    compare_texts,
    decide,
    prefilter,
)
from heliostat.data.shards import documents_at, open_shard
from heliostat.data.tasks import Runner, Statistics, Work
from heliostat.storage import Storage

# A task compares texts of about so many characters, so that some tens of MB are in memory at a time.
CHARACTERS_PER_TASK = 8 * 2**20
NUM_EXAMPLES = 5
EXAMPLE_CHARACTERS = 600
REASON = "near_duplicate"


@dataclass(frozen=True)
class NearWork:
    """A near-dedup step at work on a corpus, of which some documents may have gone already."""

    work: Work
    name: str
    config: NearDedupStep
    corpus: Corpus
    alive: np.ndarray

    @property
    def prefix(self) -> str:
        """With what the names of this step's tasks and files begin."""
        return f"{self.corpus.name}-{self.name}"


@dataclass(frozen=True)
class Found:
    """Positions that go, what each repeats, and the evidence, as parallel columns."""

    gone: np.ndarray
    kept: np.ndarray
    compared: np.ndarray
    bands: np.ndarray

    def details(self) -> list[str]:
        """The evidence beside the similarity, in words."""
        columns = zip(self.compared["containment"].tolist(), self.bands.tolist(), strict=True)
        return [f"containment {containment:.3f}, met in band {band}" for containment, band in columns]


@dataclass(frozen=True)
class NearOutcome:
    """What goes; the pairs of positions that are alike, whether one of them goes or not; what to tell."""

    fates: Fates
    alike: np.ndarray
    told: dict[str, Any]


@dataclass(frozen=True)
class CompareTask:
    """Compare the texts of some pairs; a row of `pairs` is shard, row, shard, row."""

    name: str
    pairs: np.ndarray
    shards: Sequence[str]
    config: NearDedupStep
    scratch: Storage

    def make(self) -> Statistics:
        """Write how alike the pairs are."""
        places, inverse = np.unique(self.pairs.reshape(-1, 2), axis=0, return_inverse=True)
        documents = np.empty(len(places), dtype=object)
        for number in np.unique(places[:, 0]).tolist():
            here = np.flatnonzero(places[:, 0] == number)
            with open_shard(self.scratch, f"{self.shards[number]}.arrow") as reader:
                documents[here] = documents_at(reader, places[here, 1])
        pairs = inverse.reshape(-1, 2)
        texts = [document.whole_text for document in documents]
        compared = compare_texts(texts, pairs, self.config)
        compared["same_answers"] = same_answers(list(documents), pairs, self.config)
        write_array(self.scratch, f"{self.name}.npy", compared)
        return {"documents": len(places), "characters": int(sum(map(len, texts)))}


Nominate = Callable[[NearWork], Candidates]
"""Finds the pairs of positions that share a band key. Whoever does it, the pairs are the same."""


def nominate_here(near: NearWork) -> Candidates:
    """In this process: nothing is moved, a band is looked at at a time."""
    scratch, corpus = near.work.scratch, near.corpus
    parts = [read_array(scratch, f"{shard.name}.bands.npy") for shard in corpus.shards]
    keys = np.concatenate([np.zeros((0, near.config.num_bands), dtype=np.uint64), *parts])
    keys[~near.alive] = NO_KEY
    return candidate_pairs(keys, corpus.rank, near.config.max_bucket)


def decide_near(near: NearWork, run_all: Runner, nominate: Nominate) -> NearOutcome:
    """Nominate pairs by their band keys, compare their texts, and decide."""
    corpus, config = near.corpus, near.config
    candidates = nominate(near)
    worth = prefilter(candidates.pairs, _signatures(near), config.min_similarity)
    pairs, bands = candidates.pairs[worth], candidates.bands[worth]
    compared = _compare(near, pairs, run_all)
    reasons = decide(pairs, compared, corpus.rank[pairs], corpus.keys["characters"][pairs], config)
    found = Found(pairs[reasons, 1], pairs[reasons, 0], compared[reasons], bands[reasons])
    fates = Fates(near.name, REASON, found.gone, found.kept, found.compared["jaccard"], found.details())
    told = {
        "pairs_compared": len(pairs),
        "giant_buckets": [
            {
                "band": giant.band,
                "documents": giant.size,
                "example": corpus.uids(near.work, [giant.example])[0],
            }
            for giant in candidates.giants[:NUM_EXAMPLES]
        ],
        "num_giant_buckets": len(candidates.giants),
        "examples": _examples(near, found),
    }
    return NearOutcome(fates, pairs[alike(compared, config)], told)


def join_clusters(cluster: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(n,) uint64: equal for documents that had an equal cluster before, or that pairs connect."""
    values, node = np.unique(cluster, return_inverse=True)
    joined: np.ndarray = values[clusters(node[pairs], len(values))][node]
    return joined


def _signatures(near: NearWork) -> Any:
    scratch, corpus = near.work.scratch, near.corpus
    arrays = [read_array(scratch, f"{shard.name}.signatures.npy") for shard in corpus.shards]

    def at(positions: np.ndarray) -> np.ndarray:
        numbers, rows = corpus.place(positions)  # rising, so the shards come one behind the other
        parts = [arrays[number][rows[numbers == number]] for number in np.unique(numbers).tolist()]
        return np.concatenate(parts)

    return at


def _compare(near: NearWork, pairs: np.ndarray, run_all: Runner) -> np.ndarray:
    """How alike all pairs are, (m,) of SIMILARITY; dealt out so that a task has some MB of text."""
    corpus = near.corpus
    weight = corpus.keys["characters"][pairs].sum(axis=1)
    task_of = np.cumsum(weight) // CHARACTERS_PER_TASK
    names = [shard.name for shard in corpus.shards]
    numbers, rows = corpus.place(pairs)
    places = np.stack([numbers[:, 0], rows[:, 0], numbers[:, 1], rows[:, 1]], axis=1)
    tasks = [
        CompareTask(f"{near.prefix}-{number:05d}", part, names, near.config, near.work.scratch)
        for number, part in enumerate(np.split(places, np.flatnonzero(np.diff(task_of)) + 1))
        if len(part)
    ]
    for _ in run_all(tasks, "Comparing"):
        pass
    parts = (read_array(near.work.scratch, f"{task.name}.npy") for task in tasks)
    return np.concatenate([np.zeros(0, SIMILARITY), *parts])


def _examples(near: NearWork, found: Found) -> list[dict[str, Any]]:
    """A few of the deleted with what they repeat, for the report: the least similar, the boldest."""
    boldest = np.argsort(found.compared["jaccard"], kind="stable")[:NUM_EXAMPLES]
    examples = []
    for at in boldest.tolist():
        kept, gone = near.corpus.documents(near.work, [int(found.kept[at]), int(found.gone[at])])
        examples.append(
            {
                "uid": gone.uid,
                "kept_uid": kept.uid,
                "similarity": round(float(found.compared["jaccard"][at]), 3),
                "kept_text": kept.whole_text[:EXAMPLE_CHARACTERS],
                "text": gone.whole_text[:EXAMPLE_CHARACTERS],
            }
        )
    return examples

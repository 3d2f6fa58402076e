"""The workspace's datasets: what went in, what was kept, why the rest was not, and how long documents are.

Everything comes from certificates and from the datasets' own files. Single documents are `documents.py`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import numpy as np

from heliostat.errors import ArtifactError
from heliostat.records import Artifact
from heliostat.storage import find_artifact, split_uri
from heliostat.workspace import Workspace

FOLDERS = ("data/processed", "data/tokenized")
DROPPED = "dropped"
SPLITS = ("train", "validation", "test")
NUM_BINS = 24
MOST_MEASURED = 200_000
"""Documents whose lengths are looked at; of more, those of the first files."""


@dataclass(frozen=True)
class Tokens:
    """A dataset as one model's tokenizer cut it: tokens read, kept and cut off, and how they are packed."""

    id: str
    name: str
    read: int
    kept: int
    truncated: int
    max_sequence_length: int
    splits: dict[str, dict[str, float]]
    created_at: datetime


@dataclass(frozen=True)
class Dataset:
    """A dataset in the list. `version` counts those of a name from 1, the oldest first; `languages` are
    documents by language, the commonest first, where a step asked."""

    id: str
    name: str
    version: int
    path: str
    read: int
    kept: int
    splits: dict[str, int]
    languages: dict[str, int]
    tokens: Tokens | None
    bytes: int
    created_at: datetime

    @property
    def dropped(self) -> int:
        """Documents that were read and not kept."""
        return self.read - self.kept


@dataclass(frozen=True)
class Step:
    """A row of the steps' account: documents that came in and stayed, and those that went, by reason."""

    name: str
    read: int
    kept: int
    dropped: dict[str, int]


@dataclass(frozen=True)
class Pair:
    """Two documents of which the second went because it repeats the first."""

    kept_uid: str
    uid: str
    similarity: float
    kept_text: str
    text: str


@dataclass(frozen=True)
class Lengths:
    """How many documents have a length in characters: `before` as they were read or dropped, `after` those
    that were kept. One more edge than counts; the last bin is open. `measured` of them were looked at."""

    edges: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    measured: int
    documents: int


@dataclass(frozen=True)
class DatasetDetail:
    """All that is known of a dataset beside its documents. `quality` are rows of figure, before, after,
    bound, target and met; `tokenized` its tokenized forms, the latest first."""

    dataset: Dataset
    steps: tuple[Step, ...]
    pairs: tuple[Pair, ...]
    quality: tuple[dict[str, Any], ...]
    pii: dict[str, int]
    scores: dict[str, dict[str, float]]
    domains: dict[str, int]
    tokenized: tuple[Tokens, ...]
    config: dict[str, Any]
    num_sources: int
    report: str | None
    """The place of its report as a page."""


def list_datasets(workspace: Workspace) -> list[Dataset]:
    """The cleaned datasets, the latest first.

    Raises:
        ArtifactError: a certificate cannot be read.
        StorageError: the workspace does not answer.
    """
    cleaned, tokenized = (_artifacts(workspace, folder) for folder in FOLDERS)
    forms = _forms(tokenized)
    counts: Counter[str] = Counter()
    found = []
    for path, artifact in sorted(cleaned.items(), key=lambda item: item[1].created_at):
        name = path.rpartition("/")[2].rpartition("-")[0]
        counts[name] += 1
        found.append(_dataset(path, name, counts[name], artifact, forms.get(artifact.id, ())))
    return found[::-1]


def show_dataset(workspace: Workspace, dataset_id: str) -> DatasetDetail:
    """A dataset by its id.

    Raises:
        ArtifactError: there is none; names those there are.
        StorageError: the workspace does not answer.
    """
    known = list_datasets(workspace)
    dataset = next((each for each in known if each.id == dataset_id), None)
    artifact = find_artifact(workspace.storage, dataset.path) if dataset else None
    if dataset is None or artifact is None:
        there = ", ".join(each.id for each in known) or "none"
        raise ArtifactError(f"{dataset_id}: no such dataset in {workspace.storage.root}; it has: {there}")
    facts = artifact.facts
    found = facts.get("found", {})
    forms = _forms(_artifacts(workspace, FOLDERS[1])).get(dataset.id, ())
    names = {entry.path for entry in artifact.files}
    return DatasetDetail(
        dataset=dataset,
        steps=tuple(Step(row["step"], row["read"], row["kept"], row["dropped"]) for row in facts["steps"]),
        pairs=tuple(_pairs(facts)),
        quality=tuple(facts.get("quality", ())),
        pii=found.get("pii", {}),
        scores=found.get("scores", {}),
        domains=facts.get("domains", {}),
        tokenized=tuple(forms),
        config=artifact.config,
        num_sources=_num_sources(facts.get("sources")),
        report=workspace.storage.uri(f"{dataset.path}/report.html") if "report.html" in names else None,
    )


def find_dataset_artifact(workspace: Workspace, dataset_id: str) -> Artifact:
    """The certificate of a cleaned dataset.

    Raises:
        ArtifactError: there is none.
    """
    found = next((e for e in _artifacts(workspace, FOLDERS[0]).values() if e.id == dataset_id), None)
    if found is None:
        raise ArtifactError(f"{dataset_id}: no such dataset in {workspace.storage.root}")
    return found


def dataset_lengths(workspace: Workspace, dataset_id: str) -> Lengths:
    """How long the documents are, before and after; a file is looked at once in a process.

    Errors as `find_dataset_artifact`.
    """
    artifact = find_dataset_artifact(workspace, dataset_id)
    parts = tuple(entry.path for entry in artifact.files if entry.path.endswith(".parquet"))
    kept = _characters(artifact.uri, tuple(p for p in parts if p.partition("/")[0] in SPLITS))
    dropped = _characters(artifact.uri, tuple(p for p in parts if p.startswith(f"{DROPPED}/")))
    both = np.concatenate([kept, dropped])
    edges = _edges(both)
    counts = [
        tuple(np.histogram(np.minimum(each, edges[-1]), bins=edges)[0].tolist()) if len(each) else ()
        for each in (both, kept)
    ]
    before, after = (each or (0,) * (len(edges) - 1) for each in counts)
    return Lengths(tuple(edges), before, after, len(both), int(artifact.facts.get("documents_read", 0)))


def _artifacts(workspace: Workspace, folder: str) -> dict[str, Artifact]:
    paths = [f"{folder}/{name}" for name in workspace.storage.list(folder) if not name.startswith(".")]
    found = {path: find_artifact(workspace.storage, path) for path in paths}
    return {path: artifact for path, artifact in found.items() if artifact is not None}


def _dataset(path: str, name: str, version: int, artifact: Artifact, forms: Sequence[Tokens]) -> Dataset:
    facts = artifact.facts
    return Dataset(
        id=artifact.id,
        name=name,
        version=version,
        path=path,
        read=int(facts.get("documents_read", 0)),
        kept=sum(facts.get("documents", {}).values()),
        splits=facts.get("documents", {}),
        languages=facts.get("found", {}).get("languages", {}),
        tokens=forms[0] if forms else None,
        bytes=artifact.bytes,
        created_at=artifact.created_at,
    )


def _forms(tokenized: dict[str, Artifact]) -> dict[str, list[Tokens]]:
    """The tokenized forms of each dataset, the latest first."""
    forms: dict[str, list[Tokens]] = {}
    for path, artifact in sorted(tokenized.items(), key=lambda item: item[1].created_at, reverse=True):
        receipt = artifact.facts.get("receipt", {})
        form = Tokens(
            id=artifact.id,
            name=path.rpartition("/")[2].rpartition("-")[0],
            read=receipt.get("read", {}).get("tokens", 0),
            kept=sum(each["tokens"] for each in receipt.get("kept", {}).values()),
            truncated=receipt.get("truncated", {}).get("tokens", 0),
            max_sequence_length=artifact.facts.get("max_sequence_length", 0),
            splits=artifact.facts.get("splits", {}),
            created_at=artifact.created_at,
        )
        forms.setdefault(artifact.facts.get("dataset", ""), []).append(form)
    return forms


def _pairs(facts: dict[str, Any]) -> Iterator[Pair]:
    for told in facts.get("decisions", {}).values():
        for each in told.get("examples", ()):
            texts = (each["kept_uid"], each["uid"], each["similarity"], each["kept_text"], each["text"])
            yield Pair(*texts)


def _num_sources(sources: Any) -> int:
    if not isinstance(sources, list):
        return 0
    return sum(int(each.get("files", 1)) for each in sources if isinstance(each, dict))


@lru_cache(maxsize=64)
def _characters(uri: str, parts: tuple[str, ...]) -> np.ndarray:
    """The characters of the documents in some files of an artifact; a published file never changes."""
    import pyarrow.parquet as pq

    from heliostat.data.before_after import character_counts

    storage, name = split_uri(uri)
    counts: list[np.ndarray] = []
    measured = 0
    for part in parts:
        if measured >= MOST_MEASURED:
            break
        with storage.open_file(f"{name}/{part}") as stream:
            counts.append(character_counts(pq.read_table(stream, columns=["text", "messages", "rejected"])))
        measured += len(counts[-1])
    return np.concatenate(counts) if counts else np.zeros(0, dtype=np.int64)


def _edges(lengths: np.ndarray) -> list[int]:
    """Equal bins up to the 99th percentile."""
    highest = int(np.quantile(lengths, 0.99)) if len(lengths) else 1
    width = max(1, -(-highest // NUM_BINS))
    return [at * width for at in range(NUM_BINS + 1)]

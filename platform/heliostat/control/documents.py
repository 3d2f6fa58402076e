"""A dataset's documents, a page at a time: those that were kept, dropped or changed, with what was decided.

The columns that say what became of a document are read first; texts only of the rows of one page.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from heliostat.control.datasets import DROPPED, SPLITS, find_dataset_artifact
from heliostat.data.documents import Document
from heliostat.data.shards import documents_of
from heliostat.records import Artifact
from heliostat.storage import split_uri
from heliostat.workspace import Workspace

State = Literal["kept", "dropped", "changed"]
CHANGING = ("pii", "c4")
"""Steps that note in a kept document's metadata that they changed its text; the text before is not kept."""
PAGE = 20
MOST_CHARACTERS = 20_000
"""Of one text on a page."""


@dataclass(frozen=True)
class DocumentFilter:
    """Which documents: what became of them, and more. `score` are the least and the most; `uid` is a part."""

    state: State = "dropped"
    split: str | None = None
    step: str | None = None
    reason: str | None = None
    score: tuple[float | None, float | None] = (None, None)
    uid: str = ""


@dataclass(frozen=True)
class Turn:
    """What someone said; of plain text there is one turn without a role."""

    role: str
    text: str
    cut: bool = False


@dataclass(frozen=True)
class ShownDocument:
    """A document and what became of it. `turns` are its text as it was dropped, or as it was published;
    `rejected` the other answer of a preference pair; `changes` what steps noted to have changed."""

    uid: str
    source: str
    row: int
    domain: str
    split: str | None
    step: str | None
    reason: str | None
    score: float | None
    kept_uid: str | None
    detail: str | None
    turns: tuple[Turn, ...]
    rejected: tuple[Turn, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DocumentPage:
    """One page of those that pass a filter; `total` are all of them, `number` counts from 1."""

    documents: tuple[ShownDocument, ...]
    total: int
    number: int
    size: int

    @property
    def pages(self) -> int:
        """How many pages there are, at least one."""
        return max(1, -(-self.total // self.size))


def browse_documents(
    workspace: Workspace, dataset_id: str, wanted: DocumentFilter, number: int = 1, size: int = PAGE
) -> DocumentPage:
    """A page of a dataset's documents, in the order of its files; a page behind the last is the last.

    Raises:
        ArtifactError: there is no such dataset.
        StorageError: the workspace does not answer.
    """
    artifact = find_dataset_artifact(workspace, dataset_id)
    parts = _parts(artifact, wanted)
    passing = [np.flatnonzero(_mask(_fates(artifact.uri, part), wanted)) for part in parts]
    total = sum(map(len, passing))
    number = min(max(1, number), max(1, -(-total // size)))
    start = (number - 1) * size
    documents: list[ShownDocument] = []
    for part, rows in zip(parts, passing, strict=True):
        documents += _read(artifact.uri, part, rows[max(0, start) : max(0, start + size)])
        start -= len(rows)
        if start + size <= 0:
            break
    return DocumentPage(tuple(documents), total, number, size)


def find_document(workspace: Workspace, dataset_id: str, uid: str) -> ShownDocument | None:
    """The document of a uid, kept or dropped; None where there is none. Errors as `browse_documents`."""
    artifact = find_dataset_artifact(workspace, dataset_id)
    for part in _all_parts(artifact):
        rows = np.flatnonzero(pc.equal(_fates(artifact.uri, part)["uid"], uid).to_numpy(zero_copy_only=False))
        if len(rows):
            return next(iter(_read(artifact.uri, part, rows[:1])))
    return None


def _all_parts(artifact: Artifact) -> list[str]:
    places = (*SPLITS, DROPPED)
    names = [each.path for each in artifact.files if each.path.endswith(".parquet")]
    return [name for name in sorted(names) if name.partition("/")[0] in places]


def _parts(artifact: Artifact, wanted: DocumentFilter) -> list[str]:
    places = (DROPPED,) if wanted.state == "dropped" else (wanted.split,) if wanted.split else SPLITS
    return [name for name in _all_parts(artifact) if name.partition("/")[0] in places]


@contextmanager
def _open(uri: str, part: str) -> Iterator[pq.ParquetFile]:
    storage, name = split_uri(uri)
    with storage.open_file(f"{name}/{part}") as stream:
        yield pq.ParquetFile(stream)


@lru_cache(maxsize=256)
def _fates(uri: str, part: str) -> pa.Table:
    """What became of the documents of a file, without their texts; published files never change."""
    with _open(uri, part) as file:
        names = file.schema_arrow.names
        return file.read([name for name in ("uid", "step", "reason", "score", "metadata") if name in names])


def _mask(table: pa.Table, wanted: DocumentFilter) -> np.ndarray:
    mask = np.ones(table.num_rows, dtype=bool)
    if wanted.state == "dropped":
        for name, value in (("step", wanted.step), ("reason", wanted.reason)):
            if value:
                mask &= _bools(pc.equal(table[name], value))
        low, high = wanted.score
        scores = table["score"].to_numpy()
        mask &= True if low is None else scores >= low
        mask &= True if high is None else scores <= high
    if wanted.state == "changed":
        steps = (wanted.step,) if wanted.step else CHANGING
        noted = [_bools(pc.match_substring(table["metadata"], f'"{step}":')) for step in steps]
        mask &= np.logical_or.reduce(noted)
    if wanted.uid:
        mask &= _bools(pc.match_substring(table["uid"], wanted.uid, ignore_case=True))
    return mask


def _bools(column: Any) -> np.ndarray:
    found: np.ndarray = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
    return found


def _read(uri: str, part: str, rows: np.ndarray) -> list[ShownDocument]:
    """Some rows of a file, in their order; only their row groups are read."""
    if not len(rows):
        return []
    place = part.partition("/")[0]
    shown = []
    with _open(uri, part) as file:
        start = 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            here = rows[(rows >= start) & (rows < end)] - start
            if len(here):
                table = file.read_row_group(group).take(pa.array(here))
                fates = table.select([n for n in _FATE if n in table.column_names]).to_pylist()
                documents = documents_of(table)
                shown += [_shown(each, fate, place) for each, fate in zip(documents, fates, strict=True)]
            start = end
    return shown


_FATE = ("step", "reason", "score", "kept_uid", "detail")


def _shown(document: Document, fate: dict[str, Any], place: str) -> ShownDocument:
    metadata = dict(document.metadata)
    turns = [(str(each["role"]), str(each["content"])) for each in document.messages]
    return ShownDocument(
        uid=document.uid,
        source=document.source,
        row=document.row,
        domain=document.domain,
        split=None if place == DROPPED else place,
        step=fate.get("step"),
        reason=fate.get("reason"),
        score=fate.get("score"),
        kept_uid=fate.get("kept_uid"),
        detail=fate.get("detail"),
        turns=_turns(turns or [("", document.text)]),
        rejected=_turns([(str(each["role"]), str(each["content"])) for each in document.rejected]),
        metadata=metadata,
        changes=tuple(change for step in CHANGING for change in _changes(step, metadata.get(step))),
    )


def _turns(found: list[tuple[str, str]]) -> tuple[Turn, ...]:
    return tuple(Turn(role, text[:MOST_CHARACTERS], len(text) > MOST_CHARACTERS) for role, text in found)


def _changes(step: str, noted: Any) -> Iterator[str]:
    """In short what a step noted: kinds of personal data and their places, lines that were cut by reason."""
    if step == "pii" and isinstance(noted, list):
        for kind, text, start, end in (span[:4] for span in noted if len(span) >= 4):
            yield f"pii: {kind} ({text}:{start}-{end})"
    elif noted:
        yield f"{step}: {json.dumps(noted, ensure_ascii=False)}"

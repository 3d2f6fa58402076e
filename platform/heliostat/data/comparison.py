"""Two cleaned datasets side by side: which documents came in, went out or changed, and by which step.

Documents are matched by uid, which names the source and the row. A document whose text differs although it
was kept in both was changed by a step or in its source.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import xxhash

from heliostat.config import explain_difference
from heliostat.data.accounting import tables_of
from heliostat.data.cleaning_tasks import DROPPED_FOLDER
from heliostat.errors import ArtifactError
from heliostat.records import Artifact
from heliostat.storage import artifact_folder, find_artifact, open_artifact
from heliostat.tokenized import SPLITS
from heliostat.workspace import Workspace

NUM_EXAMPLES = 5
FOLDER = "data/processed"
NOT_READ = "not read"
CHANGED = "kept, saying something else"
_CONTENT = ["text", "messages", "rejected", "tools"]


@dataclass(frozen=True)
class Moved:
    """Documents that share what became of them in the first dataset and in the second; uids of a few."""

    before: str
    after: str
    documents: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """What differs: in the configs, a line a field; and in the documents, the commonest difference first."""

    config: tuple[str, ...]
    same: int
    moved: tuple[Moved, ...]


def compare_datasets(before: Artifact, after: Artifact) -> Comparison:
    """Compare two artifacts of kind `dataset`. Holds some 200 bytes for every document of the first."""
    fates: dict[str, tuple[str, int]] = dict(_fates(artifact_folder(before)))
    groups: dict[tuple[str, str], list[str]] = {}
    counts: dict[tuple[str, str], int] = {}
    same = 0

    def note(uid: str, was: str, became: str) -> None:
        counts[was, became] = counts.get((was, became), 0) + 1
        examples = groups.setdefault((was, became), [])
        if len(examples) < NUM_EXAMPLES:
            examples.append(uid)

    for uid, (became, content) in _fates(artifact_folder(after)):
        was, earlier = fates.pop(uid, (NOT_READ, 0))
        if was != became:
            note(uid, was, became)
        elif was.startswith("kept") and content != earlier:
            note(uid, was, CHANGED)
        else:
            same += 1
    for uid, (was, _) in fates.items():
        note(uid, was, NOT_READ)
    moved = [Moved(*key, count, tuple(groups[key])) for key, count in counts.items()]
    return Comparison(
        config=tuple(explain_difference(before.config, after.config)),
        same=same,
        moved=tuple(sorted(moved, key=lambda each: (-each.documents, each.before, each.after))),
    )


def find_dataset(given: str, workspace: Workspace) -> Artifact:
    """The cleaned dataset that a path, an id or the name of a folder in the workspace stands for.

    Raises:
        ArtifactError: there is none; names those that the workspace has.
    """
    if "/" in given:
        return open_artifact(given, ("dataset",))
    names = [name for name in workspace.storage.list(FOLDER) if not name.startswith(".")]
    artifacts = {name: find_artifact(workspace.storage, f"{FOLDER}/{name}") for name in names}
    for name, artifact in artifacts.items():
        if artifact and given in (name, artifact.id):
            return artifact
    there = ", ".join(name for name, artifact in artifacts.items() if artifact) or "none"
    raise ArtifactError(f"{given}: no such dataset in {workspace.storage.root}; it has: {there}")


def _fates(folder: Path) -> Iterator[tuple[str, tuple[str, int]]]:
    """For each document its uid, what became of it, and a hash of what it says."""
    for split in SPLITS:
        for table in tables_of(folder, split, ["uid", *_CONTENT]):
            yield from zip(table["uid"].to_pylist(), _with_content(table, f"kept in {split}"), strict=True)
    for table in tables_of(folder, DROPPED_FOLDER, ["uid", "step", "reason", *_CONTENT]):
        steps, reasons = table["step"].to_pylist(), table["reason"].to_pylist()
        for uid, step, reason in zip(table["uid"].to_pylist(), steps, reasons, strict=True):
            yield uid, (f"dropped by {step}: {reason}", 0)


def _with_content(table: pa.Table, fate: str) -> Iterator[tuple[str, int]]:
    for row in zip(*(table[name].to_pylist() for name in _CONTENT), strict=True):
        yield fate, xxhash.xxh3_64_intdigest(repr(row).encode("utf-8", "surrogatepass"))

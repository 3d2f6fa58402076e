"""Collecting garbage: what nobody refers to, said first and removed only when asked to.

While it is told apart and taken away, the workspace's gate is shut: a stage notes what it will use before it
looks for it, and waits at the gate to do so. What goes loses its certificate and its name first, so that a
kill at any moment leaves nothing that reads as complete; the rest is removed then, or by the next collection.
"""

import os
import shutil
import tempfile
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from heliostat.locks import gate, holders, lock_name, remove_stale_locks
from heliostat.records import CERTIFICATE_NAME, now
from heliostat.stage import HALF_GONE
from heliostat.storage import STAGING_PREFIX, Storage
from heliostat.versions.contents import Contents
from heliostat.versions.references import kept_artifacts, kept_runs
from heliostat.workspace import Workspace

DELETED_PREFIX = ".deleted-"
DAY_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Item:
    """A thing in the workspace: `path` is relative to its root (absolute in the download cache)."""

    path: str
    what: str
    bytes: int
    reason: str
    goes: bool


def collect_garbage(workspace: Workspace, delete: bool = False, keep_days: float = 0) -> list[Item]:
    """Everything that could be removed or must be kept, with reasons; with `delete`, the former is gone then.

    Artifacts made and runs started within `keep_days` are kept.

    Raises:
        ArtifactError: a record cannot be read, so that nobody knows what it refers to.
        TrackingError: the store of versions is out of reach. Nothing is removed in either case.
    """
    storage = workspace.storage
    if not storage.remote and not Path(storage.root).is_dir():
        return []
    with gate(storage, exclusive=delete):
        items = _find(workspace, keep_days)
        going = [item for item in items if item.goes]
        aside = [_set_aside(storage, item.path) for item in going] if delete else []
    for path in aside:
        _remove(storage, path)
    return [*items, *_stale_locks(storage, delete)]


def _find(workspace: Workspace, keep_days: float) -> list[Item]:
    contents = Contents.read(workspace)
    made_after = now() - timedelta(days=keep_days) if keep_days else None
    kept = kept_artifacts(contents, made_after)
    storage = workspace.storage
    items = [
        Item(path, artifact.kind, artifact.bytes, kept.get(path, "nothing refers to it"), path not in kept)
        for path, artifact in contents.artifacts.items()
    ]
    runs = kept_runs(contents, kept, made_after)
    for path, run in contents.runs.items():
        why = f"{run.status}; what it made is not kept" if run.outputs else f"{run.status}; made nothing"
        items.append(Item(path, "run", storage.bytes_below(path), runs.get(path, why), path not in runs))
    items += _incomplete(workspace, contents)
    return items + _downloads(storage, contents, kept)


def _incomplete(workspace: Workspace, contents: Contents) -> list[Item]:
    """Folders without a certificate or record, staging folders, and what an earlier collection left."""
    storage, items = workspace.storage, []
    folders = (*workspace.artifact_folders, "runs")
    names = [(folder, name) for folder in folders for name in storage.list(folder)]
    held = holders(storage)  # after the listing: whoever stages has locked before
    live = {path.rpartition("-")[2] for path in contents.running} | {name.rpartition("-")[2] for name in held}
    for folder, name in names:
        path = f"{folder}/{name}"
        if path in contents.artifacts or path in contents.runs:
            continue
        if name.startswith(STAGING_PREFIX):
            target = f"{folder}/{name.removeprefix(STAGING_PREFIX).rpartition('-')[0]}"
            what, why = "staging", "left by a run that was killed"
            busy = lock_name(target) in held or target in contents.in_use
        elif name.startswith(DELETED_PREFIX):
            what, why, busy = "deleted", "left by a collection that was interrupted", False
        elif name.startswith("."):
            continue
        else:
            what, why = "incomplete", "has no certificate or record"
            busy = name.removesuffix(HALF_GONE).rpartition("-")[2] in live or path in contents.in_use
        if storage.remote and not storage.list(path, recursive=True):
            continue  # the store's mark that there was a folder
        reason = "being made" if busy else why
        items.append(Item(path, what, storage.bytes_below(path), reason, not busy))
    return items


def _downloads(storage: Storage, contents: Contents, kept: dict[str, str]) -> list[Item]:
    """Copies on this machine of what lies on an object store; those of the last day may be open."""
    cache = Path(tempfile.gettempdir()) / f"heliostat-cache-{os.getuid()}"
    if not storage.remote or not cache.is_dir():
        return []
    wanted = {contents.artifacts[path].content[:16] for path in kept}
    gone = {each.content[:16] for path, each in contents.artifacts.items() if path not in kept}
    items = []
    for folder in sorted(cache.iterdir()):
        old = time.time() - folder.stat().st_mtime > DAY_SECONDS
        name = folder.name.partition(".")[0]
        goes = name in gone - wanted or (old and name not in wanted)
        reason = "copy of what is not kept" if goes else "copy of what is kept, or fetched within a day"
        items.append(Item(str(folder), "download", Storage.at(cache).bytes_below(folder.name), reason, goes))
    return items


def _set_aside(storage: Storage, path: str) -> str:
    """Take a thing its certificate and its name; returns what it is called now."""
    if path.startswith("/"):
        return path
    certificate = f"{path}/{CERTIFICATE_NAME}"
    if storage.remote:
        if path.startswith("runs/") and not path.endswith(HALF_GONE):
            storage.write_bytes(f"{path}{HALF_GONE}", b"")
        storage.delete(certificate)
        return path
    target = Path(storage.uri(path))
    (target / CERTIFICATE_NAME).unlink(missing_ok=True)
    if target.name.startswith((DELETED_PREFIX, STAGING_PREFIX)) or not target.exists():
        return path
    aside = target.with_name(f"{DELETED_PREFIX}{target.name}-{uuid.uuid4().hex[:8]}")
    target.rename(aside)
    return f"{path.rpartition('/')[0]}/{aside.name}"


def _remove(storage: Storage, path: str) -> None:
    if path.startswith("/"):
        shutil.rmtree(path, ignore_errors=True)
        return
    storage.delete(path)
    if storage.remote and path.startswith("runs/"):
        storage.delete(f"{path}{HALF_GONE}")


def _stale_locks(storage: Storage, delete: bool) -> list[Item]:
    stale = remove_stale_locks(storage, delete)
    return [Item(path, "lock", 0, "no process holds it", True) for path in stale]

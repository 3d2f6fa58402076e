"""The stage runs of a workspace, indexed: a page of a thousand runs is one query, not a thousand files.

The truth stays in `runs/ID/run.json`; the index is read anew where a file has changed. Whether it has is told
by its folder's time, as records are put there by renaming: one listing tells it of all runs.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, insert, or_, select, update

from heliostat.control.job_records import FINAL
from heliostat.control.readings import Reading, take
from heliostat.control.sites import Site
from heliostat.control.store import Store
from heliostat.control.tables import jobs, runs
from heliostat.errors import ArtifactError, StorageError, StoreError
from heliostat.records import Record, Run
from heliostat.stage import RUN_FILE, read_run

FOLDER = "runs"
BATCH = 200
"""Entries written in one transaction: a commit each takes milliseconds, and one of all would keep other
writers waiting for seconds."""
_MARGIN = timedelta(seconds=2)
"""A folder's time is the file system's, which may lag behind ours."""


class RunFilter(Record):
    """Which runs to list; None is any."""

    stages: tuple[str, ...] | None = None
    statuses: tuple[str, ...] | None = None
    job: str | None = None
    text: str | None = None
    """A part of the id."""
    open_after: datetime | None = None
    """Those that have not ended, or ended later than this."""


ALL_RUNS = RunFilter()


def sync_runs(site: Site) -> int:
    """Bring the index up to the workspace's files; how many entries changed.

    Raises:
        StorageError: the workspace is away.
        StoreError: the database is away.
    """
    known = _known(site.store)
    written = {name: at for name, at in site.workspace.storage.written(FOLDER).items() if name[0] != "."}
    stale = [
        name for name, at in written.items() if name not in known or _may_differ(site, name, at, known[name])
    ]
    changed = 0
    for batch in _batches(stale):
        rows = [row for name in batch if (row := _row(site, name)) is not None]
        _put(site.store, rows, known.keys())
        changed += len(rows)
    gone = sorted(known.keys() - written.keys())
    for batch in _batches(gone):
        with site.store.begin() as connection:
            connection.execute(delete(runs).where(runs.c.id.in_(batch)))
    return changed + len(gone)


def find_runs(store: Store, wanted: RunFilter = ALL_RUNS, limit: int = 1000) -> tuple[Run, ...]:
    """The runs in the index, the latest first. One whose job has ended without it is failed, not running."""
    job_ended = jobs.c.state.in_(FINAL).label("job_ended")
    query = select(runs.c.record, jobs.c.reason, jobs.c.ended_at, job_ended).outerjoin(
        jobs, runs.c.job == jobs.c.id
    )
    query = query.order_by(runs.c.started_at.desc(), runs.c.id).limit(limit)
    if wanted.stages is not None:
        query = query.where(runs.c.stage.in_(wanted.stages))
    if wanted.statuses is not None:
        query = query.where(runs.c.status.in_(wanted.statuses))
    if wanted.job is not None:
        query = query.where(runs.c.job == wanted.job)
    if wanted.text:
        query = query.where(runs.c.id.icontains(wanted.text, autoescape=True))
    if wanted.open_after is not None:
        ended = or_(runs.c.finished_at.is_(None), runs.c.finished_at > wanted.open_after)
        query = query.where(ended, or_(jobs.c.ended_at.is_(None), jobs.c.ended_at > wanted.open_after))
    with store.begin() as connection:
        rows = connection.execute(query).all()
    return tuple(_as_it_is(Run.model_validate(row.record), row) for row in rows)


def read_runs(store: Store, wanted: RunFilter = ALL_RUNS, limit: int = 1000) -> Reading[tuple[Run, ...]]:
    """The same for pages: a database that is away is a reason, not an error."""
    return take(lambda: find_runs(store, wanted, limit))


def run_of(site: Site, run_id: str) -> Run:
    """One run, from its file.

    Raises:
        ArtifactError: there is none of this id, or its record cannot be read.
    """
    record = read_run(site.workspace, f"{FOLDER}/{run_id}") if _plain(run_id) else None
    if record is None:
        raise ArtifactError(
            f"no run '{run_id}' in this workspace; 'heliostat runs list' names those there are"
        )
    return record


def _plain(run_id: str) -> bool:
    """Ids come from addresses that people may write: none may lead out of the folder."""
    return bool(run_id) and "/" not in run_id and not run_id.startswith(".")


def _as_it_is(run: Run, row: Row[Any]) -> Run:
    if run.status != "running" or not row.job_ended:
        return run
    error = row.reason or "its job ended without it"
    return run.model_copy(update={"status": "failed", "error": error, "finished_at": row.ended_at})


def _known(store: Store) -> dict[str, tuple[str, datetime]]:
    with store.begin() as connection:
        rows = connection.execute(select(runs.c.id, runs.c.status, runs.c.read_at)).all()
    return {row.id: (row.status, row.read_at) for row in rows}


def _may_differ(site: Site, name: str, folder_written: float, known: tuple[str, datetime]) -> bool:
    """Of a run that goes on the file itself is asked, since a network's file system may tell a folder's time
    half a minute late; on an object store, whose folders have no time, it is read each time."""
    status, read_at = known
    storage = site.workspace.storage
    if storage.remote:
        return status == "running"
    written = folder_written
    if status == "running":
        try:
            written = storage.modified(f"{FOLDER}/{name}/{RUN_FILE}")
        except StorageError:  # it went meanwhile
            return False
    return datetime.fromtimestamp(written, UTC) > read_at - _MARGIN


def _batches(items: Sequence[str]) -> Iterator[Sequence[str]]:
    return (items[first : first + BATCH] for first in range(0, len(items), BATCH))


def _put(store: Store, rows: list[dict[str, Any]], known: Collection[str]) -> None:
    """Take up some records; of two processes that do so at once each row is one's."""
    new = [row for row in rows if row["id"] not in known]
    try:
        with store.begin() as connection:
            if new:
                connection.execute(insert(runs), new)
            for row in rows:
                if row["id"] in known:
                    connection.execute(update(runs).where(runs.c.id == row["id"]).values(**row))
    except StoreError:  # another process has added one of them meanwhile: singly, each finds its way
        for row in rows:
            store.upsert(runs, "id", row["id"], {name: value for name, value in row.items() if name != "id"})


def _row(site: Site, name: str) -> dict[str, Any] | None:
    """A run's entry, from its file; None without one that can be read."""
    read_at = datetime.now(UTC)
    try:
        run = read_run(site.workspace, f"{FOLDER}/{name}")
    except ArtifactError:  # another version's; `heliostat runs show` says what is wrong with it
        return None
    if run is None:
        return None
    return {
        "id": name,
        "stage": run.stage,
        "status": run.status,
        "job": run.provenance.ray_job_id,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "read_at": read_at,
        "record": run.model_dump(mode="json"),
    }

"""The stage runs of a workspace, indexed: a page of a thousand runs is one query, not a thousand files.

The truth stays in `runs/ID/run.json`; the index is read anew where a file has changed.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, or_, select

from heliostat.control.job_records import FINAL
from heliostat.control.readings import Reading, take
from heliostat.control.sites import Site
from heliostat.control.store import Store
from heliostat.control.tables import jobs, runs
from heliostat.errors import ArtifactError, HeliostatError
from heliostat.records import Record, Run
from heliostat.stage import RUN_FILE, read_run

FOLDER = "runs"
_MARGIN = timedelta(seconds=2)
"""A file's time is the file system's, which may lag behind ours."""


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
    storage, known = site.workspace.storage, _known(site.store)
    names = {name for name in storage.list(FOLDER) if not name.startswith(".")}
    changed = 0
    for name in names:
        entry = known.get(name)
        read_at = datetime.now(UTC)
        if entry is not None and not _may_have_changed(site, name, *entry):
            continue
        record = _read(site, name)
        if record is not None:
            site.store.upsert(runs, "id", name, _row(record, read_at))
            changed += 1
    gone = sorted(set(known) - names)
    if gone:
        with site.store.begin() as connection:
            connection.execute(delete(runs).where(runs.c.id.in_(gone[:500])))
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
        query = query.where(runs.c.id.like(f"%{wanted.text}%"))
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


def _may_have_changed(site: Site, name: str, status: str, read_at: datetime) -> bool:
    """Local files tell by their time; on an object store only those that had not ended are asked again."""
    storage = site.workspace.storage
    if storage.remote:
        return status == "running"
    try:
        written = storage.modified(f"{FOLDER}/{name}/{RUN_FILE}")
    except (HeliostatError, OSError):  # it went meanwhile
        return False
    return datetime.fromtimestamp(written, UTC) > read_at - _MARGIN


def _read(site: Site, name: str) -> Run | None:
    try:
        return read_run(site.workspace, f"{FOLDER}/{name}")
    except ArtifactError:  # another version's; `heliostat runs show` says what is wrong with it
        return None


def _row(run: Run, read_at: datetime) -> dict[str, Any]:
    return {
        "stage": run.stage,
        "status": run.status,
        "job": run.provenance.ray_job_id,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "read_at": read_at,
        "record": run.model_dump(mode="json"),
    }

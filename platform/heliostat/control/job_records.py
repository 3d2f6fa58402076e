"""The record of a job in the control plane's database, and the words it goes through on its way."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, func, insert, or_, select, update

from heliostat.control.readings import Reading, take
from heliostat.control.store import Store
from heliostat.control.tables import job_events, jobs
from heliostat.errors import ConfigError
from heliostat.records import Record

ACTIVE = ("SUBMITTING", "PENDING", "RUNNING", "STOPPING")
"""It is on a cluster, or on its way there or away from it."""
FINAL = ("SUCCEEDED", "FAILED", "STOPPED", "LOST")
"""It will not change any more. LOST: the cluster no longer knows it."""


class JobRecord(Record):
    """A recipe handed in. `state` is QUEUED, one of ACTIVE or one of FINAL; a state of Ray's that is
    not known here stands as it is. `reason` says in words why it waits, or how it ended."""

    id: str
    name: str
    project: str
    user: str
    state: str
    reason: str = ""
    priority: int = 0
    recipe: str | None = None
    """The recipe's text, bases folded in; None for one that was not handed in through here."""
    overrides: tuple[str, ...] = ()
    until: str | None = None
    request: dict[str, Any] | None = None
    """What is sent to Ray."""
    parent: str | None = None
    relation: str | None = None
    """What it is to its parent: a retry or a clone."""
    retries_left: int = 0
    """How often it is handed in again by itself when the cluster lost it."""
    cluster: str | None = None
    """The cluster that it was sent to, as `clusters.name_of` calls it; None before it was."""
    created_at: datetime
    changed_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether it will not change any more."""
        return self.state in FINAL

    @property
    def workspace(self) -> str | None:
        """Where its outputs go; None where that is the cluster's own default."""
        environment = ((self.request or {}).get("runtime_env") or {}).get("env_vars") or {}
        found = environment.get("HELIOSTAT_WORKSPACE")
        return str(found) if found else None


class JobEvent(Record):
    """Something that happened to a job, in words."""

    at: datetime
    text: str


class JobFilter(Record):
    """Which jobs to list; None is any."""

    states: tuple[str, ...] | None = None
    user: str | None = None
    project: str | None = None
    text: str | None = None
    """A part of the id or the name."""
    changed_after: datetime | None = None


ALL_JOBS = JobFilter()


def add_job(store: Store, job: JobRecord, says: str) -> None:
    """Put a new job on record."""
    with store.begin() as connection:
        connection.execute(insert(jobs).values(**job.model_dump()))
        connection.execute(insert(job_events).values(job=job.id, at=job.created_at, text=says))


def change_job(store: Store, job_id: str, says: str | None = None, **changes: Any) -> None:
    """Change fields of a job's record, and note why where that is said."""
    now = datetime.now(UTC)
    with store.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(changed_at=now, **changes))
        if says is not None:
            connection.execute(insert(job_events).values(job=job_id, at=now, text=says))


def claim_job(store: Store, job_id: str, state: str, new_state: str) -> bool:
    """Move a job from one state to another; False where another process was first."""
    now = datetime.now(UTC)
    with store.begin() as connection:
        changed = update(jobs).where(jobs.c.id == job_id, jobs.c.state == state)
        return bool(connection.execute(changed.values(state=new_state, changed_at=now)).rowcount == 1)


def find_jobs(
    store: Store, wanted: JobFilter = ALL_JOBS, limit: int = 1000, offset: int = 0
) -> tuple[JobRecord, ...]:
    """The jobs on record, the latest first, without recipe and request, which are long."""
    columns = [column for column in jobs.c if column.name not in ("recipe", "request")]
    query = select(*columns).order_by(jobs.c.created_at.desc(), jobs.c.id).limit(limit).offset(offset)
    if wanted.states is not None:
        query = query.where(jobs.c.state.in_(wanted.states))
    if wanted.user is not None:
        query = query.where(jobs.c.user == wanted.user)
    if wanted.project is not None:
        query = query.where(jobs.c.project == wanted.project)
    if wanted.changed_after is not None:
        query = query.where(jobs.c.changed_at > wanted.changed_after)
    if wanted.text:
        parts = (column.icontains(wanted.text, autoescape=True) for column in (jobs.c.id, jobs.c.name))
        query = query.where(or_(*parts))
    with store.begin() as connection:
        return tuple(_record(row) for row in connection.execute(query))


def read_jobs(
    store: Store, wanted: JobFilter = ALL_JOBS, limit: int = 1000
) -> Reading[tuple[JobRecord, ...]]:
    """The same for pages: a database that is away is a reason, not an error."""
    return take(lambda: find_jobs(store, wanted, limit))


def count_jobs(store: Store) -> dict[str, int]:
    """How many jobs are in each state."""
    query = select(jobs.c.state, func.count().label("jobs")).group_by(jobs.c.state)
    with store.begin() as connection:
        return {row.state: row.jobs for row in connection.execute(query)}


def job_of(store: Store, job_id: str) -> JobRecord:
    """One job's whole record.

    Raises:
        ConfigError: there is none of this id.
    """
    with store.begin() as connection:
        row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
    if row is None:
        raise ConfigError(f"no job '{job_id}' is on record; 'heliostat jobs list' names those there are")
    return _record(row)


def events_of(store: Store, job_id: str) -> tuple[JobEvent, ...]:
    """What happened to a job, the first first."""
    query = select(job_events.c.at, job_events.c.text).where(job_events.c.job == job_id)
    with store.begin() as connection:
        rows = connection.execute(query.order_by(job_events.c.number)).all()
    return tuple(JobEvent(at=row.at, text=row.text) for row in rows)


def _record(row: Row[Any]) -> JobRecord:
    values = {name: value for name, value in row._mapping.items() if name in JobRecord.model_fields}
    return JobRecord.model_validate({**values, "overrides": tuple(values.get("overrides") or ())})

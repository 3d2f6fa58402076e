"""A job under a new id: a person's retry, or the one that follows by itself when the cluster lost a job.

A lost job's end and its retry are written in one transaction. So whoever hears of the end first, such as a
person who lists jobs, does not leave it without its retry, no two make one each, and a process that is killed
leaves both or neither.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, update

from heliostat.control.job_records import JobRecord, job_of
from heliostat.control.kept_packages import are_kept
from heliostat.control.sites import Site
from heliostat.control.store import Store
from heliostat.control.submissions import new_id
from heliostat.control.tables import job_events, jobs
from heliostat.errors import ConfigError

RETRIES = 1
"""How often a job is handed in again by itself when the cluster lost it. It goes on from its checkpoint."""


def again(job: JobRecord, user: str, retries_left: int) -> JobRecord:
    """The record of the same job under a new id; it is not kept yet.

    Raises:
        ConfigError: it was not handed in through Heliostat.
    """
    if job.request is None:
        raise ConfigError(f"{job.id} was not handed in through Heliostat; hand it in again as it was before")
    now = datetime.now(UTC)
    changes: dict[str, Any] = {"id": new_id(job.name), "state": "QUEUED", "reason": "", "user": user}
    changes |= {"request": {**job.request, "submission_id": changes["id"]}, "retries_left": retries_left}
    changes |= {"parent": job.id, "relation": "retry", "created_at": now, "changed_at": now}
    return job.model_copy(update={**changes, "cluster": None, "started_at": None, "ended_at": None})


def end_lost_job(site: Site, job_id: str, was: str, changes: dict[str, Any]) -> JobRecord | None:
    """Note the end of a job that the cluster lost (`changes` say how), with its retry if one is left.

    Who owns a job owns its retry. None where another process noted the end before (its state is no longer
    `was`), or it is not tried again.

    Raises:
        StoreError: the database is away; nothing is noted.
    """
    job, now = job_of(site.store, job_id), datetime.now(UTC)
    kept = job.request is not None and are_kept(site.workspace.storage, job.request)
    retry = again(job, job.user, job.retries_left - 1) if kept and job.retries_left > 0 else None
    state, reason = str(changes["state"]), str(changes["reason"])
    events = [f"{state.lower()}: {reason}"]
    if retry is not None:
        events.append(_says(retry.id))
        changes = {**changes, "reason": f"{reason}; {_says(retry.id)}", "retries_left": 0}
    with site.store.begin() as connection:
        first = update(jobs).where(jobs.c.id == job_id, jobs.c.state == was)
        if connection.execute(first.values(changed_at=now, **changes)).rowcount != 1:
            return None
        noted = [{"job": job_id, "at": now, "text": text} for text in events]
        if retry is not None:
            connection.execute(insert(jobs).values(**retry.model_dump()))
            handed_in = f"handed in by {retry.user} as a retry of {job_id}"
            noted.append({"job": retry.id, "at": now, "text": handed_in})
        connection.execute(insert(job_events), noted)
    return retry


def own_retry(store: Store, job: JobRecord) -> str | None:
    """The id of the retry that followed a lost job by itself; None where there is none, or a person asked."""
    query = select(jobs.c.id).where(jobs.c.parent == job.id, jobs.c.relation == "retry")
    with store.begin() as connection:
        ids = connection.execute(query).scalars().all()
    return next((retry for retry in ids if job.reason.endswith(_says(retry))), None)


def _says(retry: str) -> str:
    return f"tried again as {retry}"

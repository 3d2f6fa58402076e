"""What Ray says of jobs, brought into the record: new states, ends in words, jobs it no longer knows."""

import logging
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import select

from heliostat.control.clusters import name_of
from heliostat.control.job_log import keep_ray_log
from heliostat.control.job_queue import release_stale_claims
from heliostat.control.job_records import (
    ACTIVE,
    FINAL,
    JobFilter,
    JobRecord,
    add_job,
    change_job,
    find_jobs,
)
from heliostat.control.job_retries import RETRIES, end_lost_job
from heliostat.control.lost_drivers import DRIVER_LOST, MESSAGE, with_lost_drivers
from heliostat.control.ray_api import RayApi
from heliostat.control.sites import Site
from heliostat.control.tables import jobs
from heliostat.errors import StoreError
from heliostat.text.one_line import fit

LOST = "the cluster no longer knows this job: its head was started anew without its history"
_CAUSES = {
    "RUNTIME_ENV_SETUP_FAILURE": "its environment could not be set up",
    "JOB_SUPERVISOR_ACTOR_START_TIMEOUT": "no node had room for its driver in time",
    "JOB_SUPERVISOR_ACTOR_START_FAILURE": "its driver could not be started",
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE": "no node may run its driver",
    DRIVER_LOST: MESSAGE,
    "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE": "its driver was lost",
    "JOB_ENTRYPOINT_COMMAND_START_ERROR": "its command could not be started",
}
_CLUSTERS_FAULT = (
    "JOB_SUPERVISOR_ACTOR_START_TIMEOUT",
    "JOB_SUPERVISOR_ACTOR_START_FAILURE",
    DRIVER_LOST,
    "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE",
)
_KILLED = (137, -9)
MOST_NAME, MOST_STATE, MOST_REASON = 255, 32, 10_000
"""What the narrowest of the databases keeps; SQLite would keep anything."""
logger = logging.getLogger(__name__)


def sync_jobs(site: Site, api: RayApi, watches: bool = False) -> tuple[JobRecord, ...]:
    """Bring the record up to what Ray says now; returns the retries of jobs lost by no fault of their own,
    which wait in the queue.

    A job that is not on this cluster is lost only where it was sent to this one: who asks another cluster for
    a list must not end it. Who `watches` the workspace takes over the jobs that it finds here, which a laptop
    may have sent through another address.

    Raises:
        ClusterError: the cluster does not answer; nothing was changed.
        StoreError: the database is away.
    """
    here = name_of(api.address)
    # The record first: what it says is with Ray must be in the answer that is asked for after it.
    active = find_jobs(site.store, JobFilter(states=ACTIVE))
    told = with_lost_drivers(api, api.jobs())
    named = {str(entry["submission_id"]): entry for entry in told if entry.get("submission_id")}
    entries = {job_id: entry for job_id, entry in named.items() if _can_be_kept(job_id)}
    retries = []
    for job in active:
        entry = entries.get(job.id)
        if entry is not None:
            if watches and job.cluster != here:
                change_job(site.store, job.id, cluster=here)
            retries.append(_note(site, api, job, entry))
        elif job.state != "SUBMITTING" and job.cluster in (None, here):
            gone = {"state": "LOST", "reason": LOST, "ended_at": datetime.now(UTC)}
            retries.append(end_lost_job(site, job.id, job.state, gone))
    release_stale_claims(site, set(entries))
    for job_id in set(entries) - _on_record(site, list(entries)):
        _adopt(site, api, entries[job_id])
    return tuple(retry for retry in retries if retry is not None)


def explain_end(entry: dict[str, Any]) -> str:
    """Why a job is what it is, in words, from Ray's entry of it; "" where there is nothing to say."""
    status, code = entry.get("status"), entry.get("driver_exit_code")
    if status not in ("FAILED", "STOPPED"):
        return ""
    cause = _CAUSES.get(str(entry.get("error_type")))
    message = fit(str(entry.get("message") or "").partition(", last available logs")[0], MOST_REASON)
    if cause:
        return f"{cause} ({message})" if message and message != cause else cause
    if status == "STOPPED":
        return "stopped"
    if code in _KILLED:
        return "killed by the system, most often for want of memory: see the node's memory at that time"
    return message or "failed without a word"


def _note(site: Site, api: RayApi, job: JobRecord, entry: dict[str, Any]) -> JobRecord | None:
    """Bring one job's record up to Ray's entry; its retry where the cluster lost it."""
    status = str(entry.get("status"))
    if job.state == "STOPPING" and status not in FINAL:
        return None
    if status == job.state:
        if status == "RUNNING":
            keep_ray_log(site, api, job)
        return None
    changes: dict[str, Any] = {"state": status, "reason": "" if status == "RUNNING" else _pending(entry)}
    changes["started_at"] = _time(entry.get("start_time")) or job.started_at
    says = status.lower()
    if status in FINAL:
        reason = explain_end(entry)
        changes |= {"reason": reason, "ended_at": _time(entry.get("end_time")) or datetime.now(UTC)}
        says = f"{says}: {reason}" if reason else says
        keep_ray_log(site, api, job, at_end=True)
        if status == "FAILED" and str(entry.get("error_type")) in _CLUSTERS_FAULT:
            return end_lost_job(site, job.id, job.state, changes)
    change_job(site.store, job.id, says, **changes)
    return None


def _adopt(site: Site, api: RayApi, entry: dict[str, Any]) -> None:
    """Put a job on record that was handed in by other means: from where the workspace is not seen, or with
    `ray job submit`."""
    metadata = entry.get("metadata") or {}
    started = _time(entry.get("start_time")) or datetime.now(UTC)
    status = str(entry.get("status"))
    request = _request_of(entry) if metadata.get("recipe") else None
    name = str(metadata.get("recipe") or _recipe_of(str(entry.get("entrypoint") or "")))
    job = JobRecord(
        id=str(entry["submission_id"]),
        name=fit(name, MOST_NAME),
        project=fit(str(metadata.get("project") or ""), MOST_NAME),
        user=fit(str(metadata.get("user") or "unknown"), MOST_NAME),
        state=fit(status, MOST_STATE),
        reason=explain_end(entry),
        request=request,
        retries_left=RETRIES if request else 0,
        cluster=name_of(api.address),
        created_at=started,
        changed_at=datetime.now(UTC),
        started_at=started,
        ended_at=_time(entry.get("end_time")) if status in FINAL else None,
    )
    try:
        add_job(site.store, job, "found on the cluster; handed in by other means")
    except StoreError as error:
        # Where the database is away, this raises. Else another process found the job at the same time, or
        # this one cannot be kept, and must not hold up the others and the queue.
        if job.id not in _on_record(site, [job.id]):
            _say_once(job.id, str(error))
        return
    if status in FINAL:
        keep_ray_log(site, api, job, at_end=True)


def _can_be_kept(job_id: str) -> bool:
    """Whether an id is one that every database takes as it is: cut or cleaned it would be another job's."""
    keeps = len(job_id) <= MOST_NAME and job_id.isprintable()
    if not keeps:
        _say_once(job_id, f"an id of up to {MOST_NAME} printable characters can be kept")
    return keeps


@lru_cache(maxsize=1000)
def _say_once(job_id: str, why: str) -> None:
    """To the log, once for each job, as it is found anew every two seconds."""
    logger.warning("job %s on the cluster is not put on record: %s", fit(job_id, 80), why)


def _request_of(entry: dict[str, Any]) -> dict[str, Any] | None:
    """What was sent to Ray, as `submissions.prepare` makes it; None where Ray does not tell all of it."""
    if not (entry.get("runtime_env") or {}).get("working_dir"):
        return None
    return {name: entry.get(name) for name in ("entrypoint", "submission_id", "runtime_env", "metadata")}


def _recipe_of(entrypoint: str) -> str:
    found = re.search(r"([\w.-]+)\.ya?ml\b", entrypoint)
    return found.group(1) if found else "job"


def _on_record(site: Site, ids: list[str]) -> set[str]:
    found: set[str] = set()
    with site.store.begin() as connection:
        for first in range(0, len(ids), 500):  # what SQLite takes in one statement
            query = select(jobs.c.id).where(jobs.c.id.in_(ids[first : first + 500]))
            found.update(connection.execute(query).scalars())
    return found


def _pending(entry: dict[str, Any]) -> str:
    """Ray's own words for why a job waits, on one line."""
    return fit(str(entry.get("message") or ""), MOST_REASON) if entry.get("status") == "PENDING" else ""


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None

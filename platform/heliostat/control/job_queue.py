"""The queue above Ray's jobs: who is next, and why the others wait. Any process may serve it, several too.

Higher priority first, then the older; a person's limit holds back that person's jobs only.
"""

import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select

from heliostat.control.clusters import name_of
from heliostat.control.job_records import (
    ACTIVE,
    JobFilter,
    JobRecord,
    change_job,
    claim_job,
    find_jobs,
    job_of,
)
from heliostat.control.kept_packages import read_packages
from heliostat.control.ray_api import RayApi, Unreachable
from heliostat.control.roles import Actor, require
from heliostat.control.sites import Site
from heliostat.control.store import Store
from heliostat.control.submissions import send
from heliostat.control.tables import jobs
from heliostat.errors import ClusterError, ConfigError
from heliostat.records import Record

LIMITS = "limits"
CLAIM_SECONDS = 60.0
"""A process that took a job to send it, and was killed before it could, holds it for so long."""
LOWEST, HIGHEST = -10, 10


class Limits(Record):
    """How many jobs may be on the cluster at once."""

    max_running: int = 8
    max_running_per_user: int = 2


def read_limits(store: Store) -> Limits:
    """The limits in force."""
    return Limits.model_validate(store.setting(LIMITS, {}))


def change_limits(store: Store, actor: Actor, limits: Limits) -> None:
    """Set how many jobs may be on the cluster at once.

    Raises:
        AccessError: only an admin may.
        ConfigError: a limit under which nothing would ever run.
    """
    require(actor, "admin", "change the limits of the queue")
    if min(limits.max_running, limits.max_running_per_user) < 1:
        raise ConfigError("a limit below 1 would let no job run; stop the jobs that should not")
    store.put_setting(LIMITS, limits.model_dump())


def check_priority(actor: Actor, priority: int) -> None:
    """Refuse a priority out of range; above 0 is for admins, or the queue is a race.

    Raises:
        ConfigError: out of range.
        AccessError: only an admin may.
    """
    if not LOWEST <= priority <= HIGHEST:
        raise ConfigError(f"priority {priority}: it goes from {LOWEST} to {HIGHEST}")
    if priority > 0:
        require(actor, "admin", "put a job before others (priorities above 0)")


def queue_of(store: Store) -> tuple[JobRecord, ...]:
    """The jobs that wait, in the order in which they will go."""
    waiting = find_jobs(store, JobFilter(states=("QUEUED",)))
    return tuple(sorted(waiting, key=lambda job: (-job.priority, job.created_at, job.id)))


def dispatch_due(site: Site) -> tuple[str, ...]:
    """Send to the cluster what may go now; the others' reasons say why they wait. Returns what was sent.

    Raises:
        StoreError: the database is away.
    """
    store = site.store
    waiting = queue_of(store)
    if not waiting:
        return ()
    limits = read_limits(store)
    by_user = _on_the_cluster(store)
    sent = []
    for position, job in enumerate(waiting, start=1):
        reason = _held_back(job, limits, by_user)
        if reason is None and site.address is None:
            reason = "no cluster's address is set (--address, or RAY_API_SERVER_ADDRESS)"
        if reason is not None:
            _note_reason(store, job, f"{reason}; number {position} of {len(waiting)} in the queue")
        elif claim_job(store, job.id, "QUEUED", "SUBMITTING"):
            by_user[job.user] = by_user.get(job.user, 0) + 1
            if _send(site, job.id):
                sent.append(job.id)
            else:
                break  # the cluster is away for the others as well
    return tuple(sent)


def release_stale_claims(site: Site, known: set[str]) -> None:
    """Jobs that a killed process had taken to send: those Ray knows went out, the others go back.

    `known` are the submission ids that Ray has.
    """
    for job in find_jobs(site.store, JobFilter(states=("SUBMITTING",))):
        if job.id in known:
            continue  # what Ray says of it is noted with all the others
        if time.time() - job.changed_at.timestamp() > CLAIM_SECONDS and claim_job(
            site.store, job.id, "SUBMITTING", "QUEUED"
        ):
            change_job(site.store, job.id, "was being handed in by a process that ended; queued again")


def _on_the_cluster(store: Store) -> dict[str, int]:
    """How many jobs each person has there."""
    query = (
        select(jobs.c.user, func.count().label("num")).where(jobs.c.state.in_(ACTIVE)).group_by(jobs.c.user)
    )
    with store.begin() as connection:
        return {row.user: row.num for row in connection.execute(query)}


def _held_back(job: JobRecord, limits: Limits, by_user: dict[str, int]) -> str | None:
    running = sum(by_user.values())
    if running >= limits.max_running:
        return f"waits: {running} of {limits.max_running} jobs are running"
    own = by_user.get(job.user, 0)
    if own >= limits.max_running_per_user:
        return f"waits: {job.user} has {own} of {limits.max_running_per_user} jobs running"
    return None


def _note_reason(store: Store, job: JobRecord, reason: str) -> None:
    if job.reason != reason:
        change_job(store, job.id, reason=reason)


def _send(site: Site, job_id: str) -> bool:
    """Hand a claimed job to Ray; False where the cluster is away, and the job waits on."""
    store, job = site.store, job_of(site.store, job_id)
    assert site.address is not None
    try:
        request = _request_of(job)
        packages = read_packages(site.workspace.storage, request)
        with RayApi(site.address) as api:
            if not api.has_job(job_id):  # else it went out before, and only Ray's answer was lost
                send(api, request, packages)
    except Unreachable as error:
        change_job(store, job_id, state="QUEUED", reason=f"waits for the cluster: {error}")
        return False
    except (ClusterError, ConfigError) as error:
        change_job(
            store, job_id, f"refused: {error}", state="FAILED", reason=str(error), ended_at=datetime.now(UTC)
        )
        return True
    cluster = name_of(site.address)
    change_job(store, job_id, f"handed in to {site.address}", state="PENDING", reason="", cluster=cluster)
    return True


def _request_of(job: JobRecord) -> dict[str, Any]:
    if job.request is None:
        raise ConfigError(f"{job.id}: was not handed in through Heliostat, so there is nothing to send")
    return job.request

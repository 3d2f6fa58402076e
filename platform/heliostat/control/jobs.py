"""What a person does with jobs: hand in, stop, try again, change and hand in again, follow. All on record.

The record is made before anything is sent, so that a job is never on the cluster and nowhere else.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from heliostat.control.job_log import LogReader
from heliostat.control.job_queue import check_priority, dispatch_due
from heliostat.control.job_records import JobRecord, add_job, change_job, claim_job, job_of
from heliostat.control.job_retries import RETRIES, again, own_retry
from heliostat.control.job_watch import sync_jobs
from heliostat.control.kept_packages import keep_packages
from heliostat.control.patience import Patience
from heliostat.control.ray_api import RayApi, Unreachable
from heliostat.control.roles import Actor, require
from heliostat.control.sites import Site
from heliostat.control.submissions import Prepared, Submission, prepare
from heliostat.errors import ClusterError, ConfigError


@dataclass(frozen=True)
class Origin:
    """The job that another one comes from, and as what: "retry" or "clone"."""

    parent: str
    relation: str


def submit_job(
    site: Site, actor: Actor, submission: Submission, priority: int = 0, origin: Origin | None = None
) -> JobRecord:
    """Check a recipe, put it on record, and send it if it is its turn; else it waits in the queue.

    Raises:
        AccessError: this actor may not.
        ConfigError: the recipe is wrong; nothing is on record.
        StorageError: the workspace takes no more.
        StoreError: the database is away.
    """
    require(actor, "operator", "submit jobs")
    check_priority(actor, priority)
    workspace = submission.workspace or site.workspace.storage.root
    within = Submission(
        submission.recipe, submission.overrides, str(workspace), submission.until, submission.project
    )
    prepared = prepare(site.address or "", within, actor.user)
    job = _new_record(prepared, actor, priority, within)
    if origin is not None:
        job = job.model_copy(update={"parent": origin.parent, "relation": origin.relation})
    keep_packages(site.workspace.storage, prepared.packages)
    return _enter(site, job)


def submit_text(
    site: Site,
    actor: Actor,
    name: str,
    text: str,
    submission: Submission | None = None,
    origin: Origin | None = None,
) -> JobRecord:
    """The same with a recipe's text instead of a file, as a page has it; `submission` says all else.

    Raises:
        what `submit_job` does.
    """
    require(actor, "operator", "submit jobs")
    asked = submission or Submission(Path())
    with tempfile.TemporaryDirectory(prefix="heliostat-recipe-") as folder:
        path = Path(folder) / f"{name}.yaml"
        path.write_text(text)
        changed = Submission(path, asked.overrides, asked.workspace, asked.until, asked.project)
        return submit_job(site, actor, changed, origin=origin)


def retry_job(site: Site, actor: Actor, job_id: str) -> JobRecord:
    """Hand the same in again, with the same code. What was finished is found; training goes on from its
    checkpoint.

    Raises:
        AccessError: this actor may not.
        ConfigError: there is no such job, it still runs, or it was not handed in through Heliostat.
    """
    require(actor, "operator", "retry jobs")
    job = job_of(site.store, job_id)
    if not job.ended:
        raise ConfigError(f"{job_id} is {job.state}; stop it before it is tried again")
    return _enter(site, again(job, actor.user, RETRIES))


def clone_job(site: Site, actor: Actor, job_id: str, overrides: tuple[str, ...]) -> JobRecord:
    """Hand a job's recipe in again with changes (`key=value`) on top of its own, and with today's code.

    Raises:
        AccessError: this actor may not.
        ConfigError: there is no such job, it has no recipe on record, or the changes are wrong.
    """
    require(actor, "operator", "submit jobs")
    job = job_of(site.store, job_id)
    if job.recipe is None:
        raise ConfigError(f"{job_id} was not handed in through Heliostat: its recipe is not on record")
    asked = Submission(Path(), (*job.overrides, *overrides), job.workspace, job.until, job.project)
    return submit_text(site, actor, job.name, job.recipe, asked, Origin(job.id, "clone"))


def stop_job(site: Site, actor: Actor, job_id: str) -> JobRecord:
    """Ask a job to end; it saves its last step first. One that waits in the queue never starts.

    Raises:
        AccessError: this actor may not.
        ConfigError: there is no such job.
        ClusterError: the cluster does not answer; the job may go on.
    """
    require(actor, "operator", "stop jobs")
    job = job_of(site.store, job_id)
    if claim_job(site.store, job_id, "QUEUED", "STOPPED"):
        says = f"taken out of the queue by {actor.user}"
        change_job(site.store, job_id, says, reason=says, ended_at=datetime.now(UTC), retries_left=0)
    elif not job.ended:
        with RayApi(_address(site)) as api:
            api.stop(job_id)
        says = f"told to stop by {actor.user}"
        change_job(site.store, job_id, says, state="STOPPING", reason=says, retries_left=0)
    return job_of(site.store, job_id)


def change_priority(site: Site, actor: Actor, job_id: str, priority: int) -> JobRecord:
    """Give a job that waits another place in the queue.

    Raises:
        AccessError: this actor may not.
        ConfigError: there is no such job, or it does not wait any more.
    """
    require(actor, "operator", "change priorities")
    check_priority(actor, priority)
    job = job_of(site.store, job_id)
    if job.state != "QUEUED":
        raise ConfigError(f"{job_id} is {job.state}: only jobs that wait have a place in the queue")
    change_job(site.store, job_id, f"priority {priority}, by {actor.user}", priority=priority)
    return job_of(site.store, job_id)


def follow_job(site: Site, job_id: str, show: Callable[[str], None], poll_seconds: float = 1.0) -> JobRecord:
    """Hand each new piece of a job's output to `show` until it has ended; returns how it ended.

    Needs nobody else: it serves the queue while it waits. Silences of the cluster are waited out. Where
    the cluster lost the job and it is tried again by itself, the retry is followed, and returned.

    Raises:
        ConfigError: there is no such job.
        ClusterError: the cluster was silent for `patience.PATIENCE_SECONDS`.
    """
    log = LogReader(site, job_id)
    patience, said = Patience(show), ""
    while True:
        try:
            dispatch_due(site)
            if site.address is not None:
                with RayApi(site.address) as api:
                    sync_jobs(site, api)
            patience.heard()
        except Unreachable as error:
            if patience.is_over(error):
                raise ClusterError(
                    f"lost sight of job {log.job_id}, which may still be running: {error}"
                ) from None
        job = job_of(site.store, log.job_id)
        if job.state == "QUEUED" and job.reason and job.reason != said:
            said = job.reason
            show(f"job {job.id} {said}\n")
        if piece := log.more(job):
            show(piece)
        if job.ended:
            retry = own_retry(site.store, job)
            if retry is None:
                return job
            show(f"job {job.id} {job.state}: {job.reason}\n")
            log = LogReader(site, retry)
        time.sleep(poll_seconds)


def _new_record(prepared: Prepared, actor: Actor, priority: int, submission: Submission) -> JobRecord:
    now = datetime.now(UTC)
    return JobRecord(
        id=prepared.id,
        name=prepared.name,
        project=prepared.request["metadata"]["project"],
        user=actor.user,
        state="QUEUED",
        priority=priority,
        recipe=prepared.recipe_text,
        overrides=submission.overrides,
        until=submission.until,
        request=prepared.request,
        retries_left=RETRIES,
        created_at=now,
        changed_at=now,
    )


def _enter(site: Site, job: JobRecord) -> JobRecord:
    """Put a job on record, and send it if it is its turn."""
    of = f" as a {job.relation} of {job.parent}" if job.parent else ""
    add_job(site.store, job, f"handed in by {job.user}{of}")
    dispatch_due(site)
    return job_of(site.store, job.id)


def _address(site: Site) -> str:
    if site.address is None:
        raise ConfigError("no cluster's address is set: give --address, or set RAY_API_SERVER_ADDRESS")
    return site.address

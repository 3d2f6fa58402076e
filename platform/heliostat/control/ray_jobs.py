"""Recipes as jobs on a running cluster, straight to Ray: submit, follow, stop, list. Keeps no record."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from heliostat.control.lost_drivers import with_lost_drivers
from heliostat.control.patience import Patience
from heliostat.control.ray_api import RayApi, Unreachable
from heliostat.control.submissions import Submission, prepare, send
from heliostat.errors import ClusterError
from heliostat.records import user_name

FINAL_STATUSES = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class Job:
    """A job as Ray reports it."""

    id: str
    status: str
    message: str
    recipe: str
    user: str
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def ended(self) -> bool:
        """Whether its status will not change any more."""
        return self.status in FINAL_STATUSES


def submit_job(address: str, submission: Submission) -> str:
    """Check the recipe, upload what the cluster lacks, and submit; returns the submission id.

    Raises:
        ConfigError: the recipe is wrong; nothing was sent.
        ClusterError: the cluster is out of reach, too old, or refuses.
    """
    prepared = prepare(address, submission, user_name())
    with RayApi(address) as api:
        return send(api, prepared.request, prepared.packages)


def follow_job(
    address: str, submission_id: str, show: Callable[[str], None], poll_seconds: float = 1.0
) -> Job:
    """Hand each new piece of the job's log to `show` until the job has ended; returns how it ended.

    Silences of the cluster are waited out. Raises:
        ClusterError: it was silent for `patience.PATIENCE_SECONDS`, or no longer knows the job.
    """
    shown = 0
    job: Job | None = None
    patience = Patience(show)
    with RayApi(address) as api:
        while True:
            try:
                (entry,) = with_lost_drivers(api, [api.job(submission_id)])
                job = _job(entry)  # before the log, so that a final log is a whole one
                log = api.logs(submission_id)
            except Unreachable as error:
                if patience.is_over(error):
                    if job is not None and job.ended:  # only its log is out of reach
                        return job
                    raise ClusterError(
                        f"lost sight of job {submission_id}, which may still be running: {error}"
                    ) from None
                time.sleep(poll_seconds)
                continue
            patience.heard()
            if len(log) > shown:
                show(log[shown:])
                shown = len(log)
            if job.ended:
                return job
            time.sleep(max(poll_seconds, len(log) / 1e6))  # each poll fetches the whole log


def stop_job(address: str, submission_id: str) -> bool:
    """Ask a job to end; False when it had ended already."""
    with RayApi(address) as api:
        return api.stop(submission_id)


def list_jobs(address: str) -> list[Job]:
    """The submitted jobs the cluster remembers, the latest first."""
    with RayApi(address) as api:
        jobs = [_job(entry) for entry in api.jobs() if entry.get("submission_id")]
    return sorted(jobs, key=lambda job: job.started_at or datetime.min.replace(tzinfo=UTC), reverse=True)


def _job(entry: dict[str, Any]) -> Job:
    metadata = entry.get("metadata") or {}
    return Job(
        id=str(entry["submission_id"]),
        status=str(entry["status"]),
        message=_first_words(str(entry.get("message") or "")),
        recipe=metadata.get("recipe", ""),
        user=metadata.get("user", ""),
        started_at=_time(entry.get("start_time")),
        ended_at=_time(entry.get("end_time")),
    )


def _first_words(message: str) -> str:
    """Ray's message on one line, without the copy of the log that it appends."""
    return " ".join(message.partition(", last available logs")[0].split())


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None

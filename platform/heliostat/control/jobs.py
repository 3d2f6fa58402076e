"""Recipes as jobs on a running cluster: submit, follow, stop, list."""

import ipaddress
import os
import re
import secrets
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from heliostat.control.packages import ENTRY_SCRIPT, pack_jobs, pack_source, working_folder
from heliostat.control.ray_api import RayApi, Unreachable
from heliostat.errors import ClusterError
from heliostat.ray_session import ENVIRONMENT
from heliostat.recipe import Recipe
from heliostat.records import user_name
from heliostat.workspace import DEFAULT_WORKSPACE

FINAL_STATUSES = ("SUCCEEDED", "FAILED", "STOPPED")
PATIENCE_SECONDS = 120.0
"""How long a cluster may stay silent before following its job is given up."""


@dataclass(frozen=True)
class Submission:
    """What to run: a recipe, changes to it, where its outputs go, and after which stage to stop."""

    recipe: Path
    overrides: tuple[str, ...] = ()
    workspace: str | None = None
    until: str | None = None


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
    Recipe.load(submission.recipe, submission.overrides)
    package, place = pack_jobs(working_folder(), submission.recipe)
    source = pack_source()
    with RayApi(address) as api:
        api.check_version()
        for item in (package, source):
            if item is not None and not api.has_package(item.name):
                api.upload_package(item.name, item.content)
        runtime_env: dict[str, Any] = {
            "working_dir": package.uri,
            "env_vars": ENVIRONMENT | _workspace_variable(address, submission.workspace),
        }
        if source is not None:
            runtime_env["py_modules"] = [source.uri]
        return api.submit(
            {
                "entrypoint": _entrypoint(place, submission),
                "submission_id": _new_id(submission.recipe),
                "runtime_env": runtime_env,
                "metadata": {"user": user_name(), "recipe": submission.recipe.stem},
            }
        )


def follow_job(
    address: str, submission_id: str, show: Callable[[str], None], poll_seconds: float = 1.0
) -> Job:
    """Hand each new piece of the job's log to `show` until the job has ended; returns how it ended.

    Short silences of the cluster are waited out. Raises:
        ClusterError: it was silent for PATIENCE_SECONDS, or no longer knows the job.
    """
    shown = 0
    job: Job | None = None
    heard = time.monotonic()
    with RayApi(address) as api:
        while True:
            try:
                job = _job(api.job(submission_id))  # before the log, so that a final log is a whole one
                log = api.logs(submission_id)
            except Unreachable as error:
                if time.monotonic() - heard > PATIENCE_SECONDS:
                    if job is not None and job.ended:  # only its log is out of reach
                        return job
                    raise ClusterError(
                        f"lost sight of job {submission_id}, which may still be running: {error}"
                    ) from None
                time.sleep(poll_seconds)
                continue
            heard = time.monotonic()
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


def _entrypoint(place: str, submission: Submission) -> str:
    until = ["--until", submission.until] if submission.until else []
    return shlex.join(["python", ENTRY_SCRIPT, place, *submission.overrides, *until])


def _new_id(recipe: Path) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", recipe.stem.lower()).strip("-") or "recipe"
    return f"heliostat-{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _workspace_variable(address: str, workspace: str | None) -> dict[str, str]:
    """The workspace the job is told of: the one asked for, else this shell's; for a cluster on this very
    machine the default one here; else none, and the cluster's own HELIOSTAT_WORKSPACE counts."""
    root = workspace or os.environ.get("HELIOSTAT_WORKSPACE")
    if not root and _is_this_machine(address):
        root = DEFAULT_WORKSPACE
    if not root:
        return {}
    return {"HELIOSTAT_WORKSPACE": root if "://" in root else str(Path(root).expanduser().resolve())}


def _is_this_machine(address: str) -> bool:
    host = urlsplit(address if "://" in address else f"http://{address}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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

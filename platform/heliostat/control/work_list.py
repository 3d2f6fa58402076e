"""What is worked on, as one list: jobs, and the runs of stages that nobody handed in as a job.

One word for a state, whoever it comes from: queued, pending, running, stopping, succeeded, failed, stopped,
lost; a word that is not known stands as it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from heliostat.control.job_records import JobFilter, JobRecord, find_jobs
from heliostat.control.readings import Reading, take
from heliostat.control.run_index import RunFilter, find_runs
from heliostat.control.series import RunFile, read_metrics_of
from heliostat.control.sites import Site
from heliostat.errors import ArtifactError, StorageError
from heliostat.records import Run

FINISHED = {"finished": "succeeded"}
TRAINING = ("train", "pretrain", "heal")
UNDER_WAY = ("queued", "submitting", "pending", "running", "stopping")
GROUPS = {
    "waiting": ("queued", "submitting", "pending"),
    "running": ("running", "stopping"),
    "succeeded": ("succeeded",),
    "failed": ("failed", "lost"),
    "stopped": ("stopped",),
}
"""How a list is narrowed, and the states of each."""


@dataclass(frozen=True)
class Course:
    """How far a training run is. `num_steps` is None where the recipe counts in epochs."""

    run: str
    step: int
    num_steps: int | None
    loss: float | None
    tokens_per_second: float | None
    seconds_left: float | None
    at: datetime | None

    @property
    def share(self) -> float | None:
        """How much of the steps is done, from 0 to 1."""
        return min(1.0, self.step / self.num_steps) if self.num_steps else None


@dataclass(frozen=True)
class Work:
    """A line of the list. `runs` are those of its stages, the latest first."""

    id: str
    kind: Literal["job", "run"]
    name: str
    state: str
    user: str
    project: str
    stage: str
    reason: str
    started_at: datetime
    ended_at: datetime | None
    runs: tuple[Run, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it will not change any more."""
        return self.state not in UNDER_WAY

    @property
    def training(self) -> Run | None:
        """Its latest run that trains, the one to draw; None without any."""
        return next((run for run in self.runs if run.stage in TRAINING and run.parent is None), None)

    @property
    def seconds(self) -> float:
        """How long it took, or takes so far."""
        return ((self.ended_at or datetime.now(UTC)) - self.started_at).total_seconds()


@dataclass(frozen=True)
class WorkFilter:
    """Which lines to list: a key of GROUPS, a person, a part of the id or the name; None is any."""

    group: str | None = None
    user: str | None = None
    text: str | None = None


def find_work(site: Site, wanted: WorkFilter | None = None, limit: int = 1000) -> tuple[Work, ...]:
    """The lines, the latest first.

    Raises:
        StoreError: the database is away.
    """
    wanted = wanted or WorkFilter()
    jobs = find_jobs(site.store, JobFilter(user=wanted.user), limit)
    runs = find_runs(site.store, RunFilter(), limit * 4)
    lines = [*_of_jobs(jobs, runs), *_of_runs(runs, {job.id for job in jobs})]
    kept = [line for line in lines if _wanted(line, wanted)]
    return tuple(sorted(kept, key=lambda line: line.started_at, reverse=True)[:limit])


def read_work(site: Site, wanted: WorkFilter | None = None, limit: int = 1000) -> Reading[tuple[Work, ...]]:
    """The same for pages: a database that is away is a reason, not an error."""
    return take(lambda: find_work(site, wanted, limit))


def course_of(site: Site, run: Run) -> Course | None:
    """How far a run is, from its metrics; None before its first step, and where its file is out of reach."""
    try:
        file = read_metrics_of(site.workspace, run.id)
    except (ArtifactError, StorageError):
        return None
    if not file.num_rows:
        return None
    return _course(run, file)


def state_of(job: JobRecord) -> str:
    """A job's state in the words of the list."""
    return job.state.lower()


def _of_jobs(jobs: Sequence[JobRecord], runs: Sequence[Run]) -> Iterable[Work]:
    by_job: dict[str, list[Run]] = {}
    for run in runs:
        by_job.setdefault(run.provenance.ray_job_id or "", []).append(run)
    for job in jobs:
        yield job_line(job, tuple(by_job.get(job.id, ())))


def job_line(job: JobRecord, runs: tuple[Run, ...]) -> Work:
    """A job as a line of the list."""
    return Work(
        id=job.id,
        kind="job",
        name=job.name,
        state=state_of(job),
        user=job.user,
        project=job.project,
        stage=runs[0].stage if runs else "",
        reason=job.reason,
        started_at=job.created_at,
        ended_at=job.ended_at,
        runs=runs,
    )


def run_line(run: Run) -> Work:
    """A run without a job as a line of the list."""
    return Work(
        id=run.id,
        kind="run",
        name=str(run.config.get("name") or run.stage),
        state=FINISHED.get(run.status, run.status),
        user=run.provenance.user,
        project="",
        stage=run.stage,
        reason=run.error or "",
        started_at=run.started_at,
        ended_at=run.finished_at,
        runs=(run,),
    )


def _of_runs(runs: Sequence[Run], job_ids: set[str]) -> Iterable[Work]:
    """Those that belong to no line above; trials are their sweep's."""
    for run in runs:
        if run.provenance.ray_job_id not in job_ids and run.parent is None:
            yield run_line(run)


def _wanted(line: Work, wanted: WorkFilter) -> bool:
    if wanted.group is not None and line.state not in GROUPS.get(wanted.group, (wanted.group,)):
        return False
    if wanted.user is not None and line.user != wanted.user:
        return False
    text = (wanted.text or "").lower()
    return not text or text in line.id.lower() or text in line.name.lower() or text in line.project.lower()


def _course(run: Run, file: RunFile) -> Course:
    last = file.last
    step = int(file.steps[-1][-1])
    num_steps = run.config.get("max_steps")
    seconds_left = None
    if isinstance(num_steps, int) and run.status == "running":
        seconds_left = max(0, num_steps - step) * _step_seconds(file)
    at = file.times[-1][-1]
    return Course(
        run=run.id,
        step=step,
        num_steps=num_steps if isinstance(num_steps, int) else None,
        loss=last.get("loss"),
        tokens_per_second=last.get("tokens_per_second"),
        seconds_left=seconds_left,
        at=datetime.fromtimestamp(float(at), UTC) if at == at else None,
    )


def _step_seconds(file: RunFile) -> float:
    """A step's usual length: the median of the last ones, as a pause would spoil a mean."""
    import numpy as np

    series = file.get("step_seconds")
    if series is None:
        return 0.0
    last = series.values[-50:]
    finite = last[np.isfinite(last)]
    return float(np.median(finite)) if len(finite) else 0.0

"""One line of work, whole: its stages, runs and events, what it made, why it failed and what may help."""

import difflib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import yaml

from heliostat.control.job_log import read_tail, storage_of
from heliostat.control.job_records import JobEvent, JobRecord, events_of, job_of
from heliostat.control.run_index import RunFilter, find_runs, run_of
from heliostat.control.sites import Site
from heliostat.control.work_list import Work, job_line, run_line
from heliostat.errors import ArtifactError, ConfigError, HeliostatError
from heliostat.job_folder import StageNote, read_run_ids, read_stages
from heliostat.recipe_file import RecipeFile
from heliostat.records import Run

_ERROR_LINE = re.compile(r"^heliostat: error: (.*)$", re.MULTILINE)
_MENDS = (
    ("out of memory", "memory"),
    ("want of memory", "memory"),
    ("no number", "unstable"),
    ("did you mean", "config"),
    ("asks for a token", "token"),
    ("disk is full", "disk"),
    ("process was killed", "killed"),
)
"""What a failure's words say about what may help: a key of the page's own texts."""
_NOTED_CHECKPOINTS = "checkpoint_manager_snapshot.json"
"""Where Ray Train notes which it goes on from."""


@dataclass(frozen=True)
class Checkpoint:
    """A state of a training run that it can go on from."""

    name: str
    step: int | None
    at: datetime | None


@dataclass(frozen=True)
class WorkPage:
    """All there is to know of one job or run. `job` is None for a run that nobody handed in."""

    line: Work
    job: JobRecord | None
    stages: tuple[StageNote, ...]
    num_stages: int
    events: tuple[JobEvent, ...]
    children: tuple[str, ...] = ()

    @property
    def made(self) -> tuple[str, ...]:
        """The ids of the artifacts that its stages made or found, in their order."""
        noted = [note.artifact for note in self.stages if note.artifact]
        return tuple(dict.fromkeys(noted)) or tuple(
            output for run in reversed(self.line.runs) for output in run.outputs
        )


def open_work(site: Site, work_id: str) -> WorkPage:
    """Everything about a job or a run.

    Raises:
        ConfigError: there is neither of this id.
        StoreError, StorageError: the database, or the workspace, is away.
    """
    try:
        job = job_of(site.store, work_id)
    except ConfigError:
        return _page_of_run(site, work_id)
    storage = storage_of(site, job)
    noted = read_stages(storage, job.id)
    runs = _runs_of(site, job)
    return WorkPage(
        line=job_line(job, runs),
        job=job,
        stages=noted.stages if noted else (),
        num_stages=noted.num_stages if noted else 0,
        events=events_of(site.store, job.id),
    )


def recipe_values(job: JobRecord) -> dict[str, Any]:
    """A job's recipe with its overrides in place.

    Raises:
        ConfigError: it has none on record, or it cannot be read.
    """
    if job.recipe is None:
        raise ConfigError(f"{job.id} was not handed in through Heliostat: its recipe is not on record")
    loaded = RecipeFile(values=yaml.safe_load(job.recipe) or {})
    for override in job.overrides:
        loaded.apply(override)
    return loaded.values


def recipe_text(job: JobRecord) -> str:
    """The same as YAML."""
    return yaml.safe_dump(recipe_values(job), sort_keys=False, allow_unicode=True)


def recipe_difference(site: Site, job: JobRecord) -> str:
    """What changed in the recipe since the job's parent, as a unified diff; "" without one."""
    if job.parent is None or job.recipe is None:
        return ""
    parent = job_of(site.store, job.parent)
    if parent.recipe is None:
        return ""
    before, after = recipe_text(parent).splitlines(), recipe_text(job).splitlines()
    return "\n".join(difflib.unified_diff(before, after, parent.id, job.id, lineterm="", n=2))


def failure_of(site: Site, page: WorkPage) -> tuple[str, str]:
    """Why it failed, in the words of whoever knows best, and a key for what may help ("" for nothing)."""
    said = [line for line in (_logged_error(site, page), _run_error(page), page.line.reason) if line]
    why = said[0] if said else ""
    words = " ".join(said).lower()
    return why, next((mend for part, mend in _MENDS if part in words), "")


def checkpoints_of(site: Site, run_id: str) -> tuple[Checkpoint, ...]:
    """The states that a training run can go on from, the latest first; () while it has none.

    A state whose worker was killed before Ray Train noted it lies there too, and is not gone on from.

    Raises:
        StorageError: the workspace is away.
    """
    folder = f"runs/{run_id}/checkpoints"
    there = site.workspace.storage.list(folder)
    if _NOTED_CHECKPOINTS not in there:
        return ()
    names = _noted_checkpoints(site.workspace.storage.read_bytes(f"{folder}/{_NOTED_CHECKPOINTS}"))
    if names is None:
        names = {name for name in there if name.startswith("checkpoint_") and not name.endswith(".json")}
    return tuple(
        Checkpoint(name, _step_of(site, f"{folder}/{name}"), _time_of(name))
        for name in sorted(names.intersection(there), reverse=True)
    )


def served_name(page: WorkPage) -> str | None:
    """The endpoint that a job brought up; None where it is none, or not yet."""
    served = any(note.title == "serve" and note.state in ("made", "found") for note in page.stages)
    if page.job is None or page.job.recipe is None or not served:
        return None
    serve = recipe_values(page.job).get("serve")
    return str(serve.get("name") or "served") if isinstance(serve, dict) else None


def command_of(job: JobRecord) -> str:
    """The command that Ray ran for a job."""
    return str((job.request or {}).get("entrypoint") or "")


def _page_of_run(site: Site, run_id: str) -> WorkPage:
    try:
        run = run_of(site, run_id)
    except ArtifactError:
        raise ConfigError(f"there is neither a job nor a run '{run_id}' here") from None
    return WorkPage(line=run_line(run), job=None, stages=(), num_stages=0, events=())


def _runs_of(site: Site, job: JobRecord) -> tuple[Run, ...]:
    """The runs a job worked on, the latest first: by its own notes, else by theirs."""
    found = {run.id: run for run in find_runs(site.store, RunFilter(job=job.id))}
    for run_id in read_run_ids(storage_of(site, job), job.id):
        if run_id not in found:
            try:
                found[run_id] = run_of(site, run_id)
            except HeliostatError:  # it was removed since
                continue
    return tuple(sorted(found.values(), key=lambda run: run.started_at, reverse=True))


def _logged_error(site: Site, page: WorkPage) -> str:
    if page.job is None:
        return ""
    lines = _ERROR_LINE.findall(read_tail(site, page.job))
    return str(lines[-1]) if lines else ""


def _run_error(page: WorkPage) -> str:
    return next((run.error for run in page.line.runs if run.error), "")


def _noted_checkpoints(content: bytes) -> set[str] | None:
    """The folders' names; None where the file is read while Ray writes it, or is of another Ray."""
    try:
        return {str(each["checkpoint_dir_name"]) for each in json.loads(content)["checkpoint_results"]}
    except (ValueError, KeyError, TypeError):
        return None


def _step_of(site: Site, path: str) -> int | None:
    try:
        state = yaml.safe_load(site.workspace.storage.read_bytes(f"{path}/state.json"))
    except (HeliostatError, yaml.YAMLError):
        return None
    step = state.get("steps_done") if isinstance(state, dict) else None
    return step if isinstance(step, int) else None


def _time_of(name: str) -> datetime | None:
    """Ray names a checkpoint after the moment it was taken at, by the machine's own clock."""
    try:
        return datetime.strptime(name, "checkpoint_%Y-%m-%d_%H-%M-%S.%f").astimezone()
    except ValueError:
        return None

"""The frame every stage runs in: find the finished output, or make it under a lock and on record.

A stage's own `run.py` says what to do in between. Knows nothing of any stage, of Ray or of torch.
"""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from heliostat.config import Config, explain_difference
from heliostat.errors import ArtifactError, HeliostatError, StoppedError, TrackingError
from heliostat.job_folder import note_run
from heliostat.locks import gate, lock, note_use, using
from heliostat.overwriting import refuse_overwriting
from heliostat.records import (
    Artifact,
    ArtifactKind,
    Provenance,
    Run,
    Status,
    first_problem,
    now,
    submission_id,
)
from heliostat.storage import Publication, find_artifact, publish, staging
from heliostat.tracking import Tracker
from heliostat.workspace import Workspace, key_of

RUN_FILE = "run.json"
HALF_GONE = ".deleted"
"""Behind the path of a run's folder: it was being deleted, and nothing goes on from what is left of it."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PartOf:
    """The run that other runs are parts of, as a sweep is of its trials: its own id, and MLflow's."""

    run_id: str
    tracking_run_id: str


@dataclass(frozen=True)
class Request:
    """What a stage wants to exist: its kind and name, and the config and inputs that decide it."""

    stage: str
    kind: ArtifactKind
    name: str
    config: Config
    parents: tuple[Artifact, ...] = ()
    sources: str = ""
    """A fingerprint of inputs that are not artifacts (source files); "" when there are none."""
    part_of: "PartOf | None" = None
    """The run that this one is a part of."""
    goes_on: bool = False
    """Whether it is one more piece of a run: `--force` made the run's first one again, and not this one."""
    repeatable: bool = False
    """Whether it comes out the same each time: `--force` may make it again, whatever was made from it."""

    @property
    def key(self) -> str:
        """SHA-256 over the config's fingerprint and the content of everything it is applied to."""
        return key_of(self.config.fingerprint(), self.sources, *(parent.content for parent in self.parents))


@dataclass
class StageRun:
    """A stage at work. `path` is its folder in the workspace, kept between attempts of the same request."""

    workspace: Workspace
    path: str
    record: Run
    tracker: Tracker
    when_published: list[Callable[[], None]] = field(default_factory=list)
    """Called when the artifact is there, and not before: what an interrupted run goes on from may go then."""

    @property
    def tracking_run_id(self) -> str:
        """MLflow's id of this run."""
        return str(self.record.tracking_run_id)

    @property
    def uri(self) -> str:
        """The run's folder as an absolute path or URI."""
        return self.workspace.storage.uri(self.path)

    @property
    def local_folder(self) -> Path:
        """A folder on this machine for files written while the run goes on."""
        return local_folder_of(self.workspace, self.path)

    def log(self, metrics: dict[str, float], step: int = 0) -> None:
        """Record metrics with the tracker and in the run's record; a tracker that is away loses no work."""
        try:
            self.tracker.log(self.tracking_run_id, metrics, step)
        except TrackingError as error:
            logger.warning("%s; the figures of %s stand in its record", error, self.record.id)
        self.record = self.record.model_copy(update={"metrics": self.record.metrics | metrics})

    def keep_local_folder(self) -> None:
        """Copy what was written to `local_folder` beside the run's record, where that is another place."""
        if not self.workspace.storage.remote:
            return
        for file in sorted(self.local_folder.rglob("*")):
            if file.is_file():
                path = f"{self.path}/{file.relative_to(self.local_folder)}"
                self.workspace.storage.write_bytes(path, file.read_bytes())

    def save(self) -> None:
        """Write the run's record."""
        content = self.record.model_dump_json(indent=2).encode()
        self.workspace.storage.write_bytes(f"{self.path}/{RUN_FILE}", content)


def local_folder_of(workspace: Workspace, path: str) -> Path:
    """Where a run's folder is on this machine: in the workspace, or beside the process that works on it."""
    if workspace.storage.remote:
        return Path.cwd() / "heliostat-runs" / Path(path).name
    return Path(workspace.storage.uri(path))


def find_or_make(
    workspace: Workspace, request: Request, work: Callable[[Publication, StageRun], None], force: bool = False
) -> Artifact:
    """The artifact asked for: the finished one, or the one that `work` makes now.

    `work` fills `publication.folder` and `publication.facts`; what it leaves when it fails is thrown away,
    except the run's folder, from which an interrupted run goes on.

    Raises:
        ArtifactError: `force` would overwrite what a version or a running endpoint relies on, or a record
            of these cannot be read.
        BusyError: another process is making the same artifact right now.
    """
    path = workspace.path(request.kind, request.name, request.key)
    inputs = [workspace.path_of(parent.uri) for parent in request.parents]
    with using(workspace.storage):
        note_use(workspace.storage, path, *filter(None, inputs))
        found = None if force else find_artifact(workspace.storage, path)
        if found:
            return found
        with lock(workspace.storage, path):
            if force:
                with _nothing_overwritten(workspace, request, path):  # before any work
                    pass
            found = None if force else find_artifact(workspace.storage, path)  # just made?
            return found or _make(workspace, request, work, force)


@contextmanager
def _nothing_overwritten(workspace: Workspace, request: Request, path: str) -> Iterator[None]:
    """Refuse to overwrite what others rely on. No version of it is registered in the block."""
    with gate(workspace.storage, exclusive=True):
        refuse_overwriting(workspace, path, itself_only=request.repeatable)
        yield


def _make(
    workspace: Workspace, request: Request, work: Callable[[Publication, StageRun], None], force: bool
) -> Artifact:
    for line in what_changed(workspace, request):
        logger.info("%s is made again: %s", request.name, line)
    path_of_run = workspace.run_path(request.stage, request.key)
    if (force and not request.goes_on) or workspace.storage.exists(f"{path_of_run}{HALF_GONE}"):
        workspace.storage.delete(path_of_run)
        workspace.storage.delete(f"{path_of_run}{HALF_GONE}")
        shutil.rmtree(local_folder_of(workspace, path_of_run), ignore_errors=True)
    path = workspace.path(request.kind, request.name, request.key)
    # The staging folder goes first when work fails: on a full disk the record needs that room.
    with _on_record(workspace, request) as run, staging(workspace.storage, path) as publication:
        work(publication, run)
        with _nothing_overwritten(workspace, request, path) if force else nullcontext():
            artifact = publish(
                publication, request.kind, request.key, request.config.canonical(), request.parents
            )
        run.record = run.record.model_copy(update={"outputs": (artifact.id,)})
        for tidy_up in run.when_published:
            tidy_up()
    return artifact


def what_changed(workspace: Workspace, request: Request) -> list[str]:
    """Why the latest artifact of this name is not the one asked for, field by field; [] without one."""
    folder, _, own = workspace.path(request.kind, request.name, request.key).rpartition("/")
    names = [name for name in workspace.storage.list(folder) if name.rpartition("-")[0] == request.name]
    found = [find_artifact(workspace.storage, f"{folder}/{name}") for name in names if name != own]
    config = request.config.canonical()
    # Two stages may make things of one name: an adapter, and the model that it was merged into.
    alike = [
        each for each in found if each and each.kind == request.kind and each.config.keys() & config.keys()
    ]
    earlier = sorted(alike, key=lambda each: each.created_at)
    if not earlier:
        return []
    changes = explain_difference(earlier[-1].config, config)
    return changes or ["what it is made from changed"]


@contextmanager
def _on_record(workspace: Workspace, request: Request) -> Iterator[StageRun]:
    """Keep the run's record and its tracked run in step with what happens inside the block."""
    run = _start(workspace, request)
    try:
        yield run
    except BaseException as error:
        reason = str(error) if isinstance(error, HeliostatError) else f"{type(error).__name__}: {error}"
        status: Status = "stopped" if isinstance(error, StoppedError) else "failed"
        run.record = run.record.model_copy(
            update={"status": status, "finished_at": now(), "error": reason[:2000]}
        )
        # A disk that is full takes no record either. What ended the work must not be hidden by that.
        for note in (run.save, partial(run.tracker.finish, run.tracking_run_id, status)):
            try:
                note()
            except HeliostatError as refused:
                logger.warning("the end of %s could not be recorded: %s", run.record.id, refused)
        raise
    run.record = run.record.model_copy(update={"status": "finished", "finished_at": now()})
    run.save()
    try:
        run.tracker.finish(run.tracking_run_id, "finished")
    except TrackingError as error:
        logger.warning("%s; %s has finished all the same", error, run.record.id)


def _start(workspace: Workspace, request: Request) -> StageRun:
    path = workspace.run_path(request.stage, request.key)
    earlier = read_run(workspace, path)
    tracker = Tracker.of(workspace)
    parent = request.part_of.tracking_run_id if request.part_of else None
    record = Run(
        id=path.rpartition("/")[2],
        stage=request.stage,
        status="running",
        config=request.config.canonical(),
        fingerprint=request.config.fingerprint(),
        inputs=tuple(parent.id for parent in request.parents),
        attempts=earlier.attempts + 1 if earlier else 1,
        started_at=now(),
        tracking_run_id=earlier.tracking_run_id if earlier else None,
        parent=request.part_of.run_id if request.part_of else None,
        provenance=Provenance.collect(),
    )
    record = record.model_copy(update={"tracking_run_id": tracker.start(record, parent)})
    run = StageRun(workspace, path, record, tracker)
    run.save()
    if (job_id := submission_id()) is not None:
        note_run(workspace.storage, job_id, record.id)
    return run


def read_run(workspace: Workspace, path: str) -> Run | None:
    """The record in a run's folder, or None.

    Raises:
        ArtifactError: there is a record, but it cannot be read.
    """
    if not workspace.storage.exists(f"{path}/{RUN_FILE}"):
        return None
    try:
        return Run.model_validate_json(workspace.storage.read_bytes(f"{path}/{RUN_FILE}"))
    except ValidationError as error:
        raise ArtifactError(
            f"{workspace.storage.uri(f'{path}/{RUN_FILE}')}: "
            f"not a run of this version: {first_problem(error)}; delete the folder to start afresh"
        ) from None

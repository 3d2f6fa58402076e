"""Where training meets Ray Train: the trainer, the controller's callback, and progress on the driver."""

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import ray
from ray.exceptions import RayError
from ray.train import (
    CheckpointConfig,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    UserCallback,
    ValidationConfig,
)
from ray.train.v2.api.exceptions import TrainingFailedError

from heliostat.errors import PausedError, StoppedError, TrainingError
from heliostat.models.adapters import merge_adapter
from heliostat.progress import progress
from heliostat.ray_session import exit_without_destructors, options_of
from heliostat.stage import StageRun
from heliostat.tracking import MetricWriter, Tracker, read_metrics
from heliostat.training.causes import first_cause, in_one_line, is_lost
from heliostat.training.config import TrainConfig, WatchConfig
from heliostat.training.edge_stop import StopBell
from heliostat.training.edge_trainer import LeanTrainer
from heliostat.training.edge_validation import validate_checkpoint
from heliostat.training.findings import forget_findings, note_finding, read_findings
from heliostat.training.follower import Follower
from heliostat.training.job import TRAINED_FOLDER, TrainingJob
from heliostat.training.memory_advice import adapt, explain, is_out_of_memory
from heliostat.training.pieces import CHECKPOINTS_FOLDER
from heliostat.training.watchers import Finding, StallClock, Watchers

FAULTS_FOLDER = "faults"
STARTS_BEFORE_GIVING_UP = 60
"""Each waits some seconds for room for all workers: five minutes in all for a host to come back."""
logger = logging.getLogger(__name__)


@dataclass
class MetricsCallback(UserCallback):
    """Writes each step's metrics once, from the controller, wherever the workers run, and watches them."""

    tracker_uri: str
    tracking_run_id: str
    folder: str
    steps: int
    watch: WatchConfig
    stop_bell: str

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Ray Train calls this when all workers have reported the steps since the last report."""
        rows = {}
        for ranks in zip(*(each["steps"] for each in metrics), strict=True):
            row = dict(ranks[0])
            step = int(row.pop("step"))
            rows[step] = row | _over_workers(ranks)
            self._act_on(self._watchers().observe(ranks))
        if rows:
            self._writer().write(rows)
        if self.steps in rows:
            self._writer().close()

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Ray Train calls this when workers failed, before it decides with how many to go on.

        Its autoscaling coordinator looks at the cluster every 20 seconds only, and so long an elastic run
        would wait for workers on a host that has just been lost; it is asked to look now.
        """
        self._writer().close()  # the next step is the first behind an interruption
        try:
            coordinator = ray.get_actor("AutoscalingCoordinator", "AutoscalingCoordinator")
            ray.get(coordinator.get_reserved_resources.remote("", recompute=True), timeout=5)
        except (ValueError, AttributeError, RayError) as error:  # none: the number of workers is fixed
            logger.info("hosts not counted again: %s", error)

    def _act_on(self, findings: list[Finding]) -> None:
        for finding in findings:
            note_finding(Path(self.folder), finding)
            if finding.severity == "stop":
                StopBell(self.stop_bell).ring()

    def _watchers(self) -> Watchers:
        if not hasattr(self, "_watching"):
            self._watching = Watchers(self.watch, read_metrics(Path(self.folder)))
        return self._watching

    def _writer(self) -> MetricWriter:
        if not hasattr(self, "_opened"):
            exit_without_destructors()
            tracker = Tracker(self.tracker_uri, at_once=False)
            self._opened = MetricWriter(tracker, self.tracking_run_id, Path(self.folder), self._tell)
        return self._opened

    def _tell(self, message: str) -> None:
        note_finding(Path(self.folder), Finding("tracking", 0, message, "warn"))


def _over_workers(ranks: Sequence[dict[str, float]]) -> dict[str, float]:
    """What is one worker's own, over all: the fullest memory, the mean use, the slowest step."""
    found = {"slowest_worker_seconds": max(rank["step_seconds"] for rank in ranks)}
    for name in ("memory_share", "memory_bytes", "gpu_memory_share", "gpu_memory_bytes"):
        found |= {name: max(rank[name] for rank in ranks)} if name in ranks[0] else {}
    for name in ("cpu_cores_used", "gpu_utilization"):
        found |= {name: sum(rank[name] for rank in ranks) / len(ranks)} if name in ranks[0] else {}
    return found


@dataclass(frozen=True)
class Trained:
    """What a finished run says of the model."""

    trainable_parameters: int
    all_parameters: int


def run_training(
    job: TrainingJob, run: StageRun, steps: int, target: Path, follower: Follower | None = None
) -> Trained:
    """Train on the cluster and put the trained parameters into `target`.

    Raises:
        PausedError: the piece that was asked for is made.
        StoppedError: the run was told to stop.
        TrainingError: a worker failed more often than `max_failures`, or ran out of memory and could not be
            adapted.
    """
    job = replace(
        job,
        faults_folder=str(run.local_folder / FAULTS_FOLDER),
        tracker_uri=run.tracker.uri,
        tracking_run_id=run.tracking_run_id,
    )
    forget_findings(run.local_folder)
    until = job.pause_after or steps
    while True:
        try:
            with _stop_bell(job) as told, _follow(run.local_folder, until, told, follower):
                result = _trainer(told, run, until).fit()
            break
        except TrainingFailedError as error:
            job = replace(job, config=_config_that_fits(job.config, error, run))
    done = int(result.metrics["steps"][-1]["step"])
    _write_what_was_left_out(run, result.metrics["steps"])
    if done < steps:
        _say_why_stopped(run.local_folder, done, steps, job.pause_after)
    with result.checkpoint.as_directory() as checkpoint:
        shutil.copytree(Path(checkpoint) / TRAINED_FOLDER, target, dirs_exist_ok=True)
    return Trained(*result.metrics["parameters"])


def _config_that_fits(config: TrainConfig, error: Exception, run: StageRun) -> TrainConfig:
    """A config to go on with after memory ran out, where the recipe asks for it.

    Raises:
        TrainingError: it was something else, or nothing is left to change.
    """
    rank, text = first_cause(error)
    history = read_metrics(run.local_folder)
    if not is_out_of_memory(text, history[-1].get("memory_share") if history else None):
        where = f"worker {rank}" if rank is not None else "the training controller"
        said = in_one_line(text)
        if is_lost(text):
            said = f"its process was killed or its host is gone (max_failures: {config.failures_allowed})"
        raise TrainingError(
            f"training stopped: {where}: {said}; state is kept in {run.uri}, run again to go on from it"
        ) from error
    adapted = adapt(config) if config.watch.on_out_of_memory == "adapt" else None
    said = explain(config, rank, text, adapted is not None)
    if adapted is None:
        raise TrainingError(said) from error
    logger.warning("%s", said)
    return adapted


def _trainer(job: TrainingJob, run: StageRun, until: int) -> LeanTrainer:
    config = job.config
    resources = {"CPU": config.cpus_per_worker} | ({"GPU": 1} if config.use_gpu else {})
    callback = MetricsCallback(
        run.tracker.uri,
        run.tracking_run_id,
        str(run.local_folder),
        until,
        config.watch,
        job.stop_bell,
    )
    return LeanTrainer(
        start_worker,
        train_loop_config=job.to_json(),
        validation_config=_validation(config),
        scaling_config=ScalingConfig(
            num_workers=config.num_workers, use_gpu=config.use_gpu, resources_per_worker=resources
        ),
        run_config=RunConfig(
            storage_path=run.uri,
            name=CHECKPOINTS_FOLDER,
            checkpoint_config=_checkpoints_kept(config),
            failure_config=FailureConfig(
                max_failures=config.failures_allowed, controller_failure_limit=STARTS_BEFORE_GIVING_UP
            ),
            callbacks=[callback],
        ),
    )


def _checkpoints_kept(config: TrainConfig) -> CheckpointConfig:
    """The last ones; of validated ones the last and the best."""
    number = config.checkpoint.num_to_keep
    if _validation(config) is None:
        return CheckpointConfig(num_to_keep=number)
    return CheckpointConfig(
        num_to_keep=number,
        checkpoint_score_attribute="validation_loss",
        checkpoint_score_order="min",
    )


def _validation(config: TrainConfig) -> ValidationConfig | None:
    if config.validation is None or config.validation.by == "workers":
        return None
    options = options_of(config.validation.resources)
    return ValidationConfig(validate_checkpoint, ray_remote_kwargs=options)


@contextmanager
def _stop_bell(job: TrainingJob) -> Iterator[TrainingJob]:
    """The job with a bell that SIGTERM rings: the run then saves and ends, and no step is lost."""
    bell = StopBell.hung()

    def ring(*_: Any) -> None:
        threading.Thread(target=bell.ring).start()  # the signal may have interrupted a call to the same store

    main = threading.current_thread() is threading.main_thread()
    former = signal.signal(signal.SIGTERM, ring) if main else None
    try:
        yield replace(job, stop_bell=bell.name)
    finally:
        if main:
            signal.signal(signal.SIGTERM, former)
        bell.take_down()


def start_worker(values: dict[str, Any]) -> None:
    """Ray Train's entry point on every worker. The driver must not load what only the workers need."""
    from heliostat.training.edge_worker import train_worker

    train_worker(TrainingJob.from_json(values))


def merge_on_cluster(config: TrainConfig, base: Path, adapter: Path, target: Path) -> None:
    """Merge a LoRA adapter into its base model, in a worker, so that the driver holds no weights."""
    task = ray.remote(merge_adapter).options(**options_of(config.resources_per_worker))
    ray.get(task.remote(base, adapter, target))


@contextmanager
def _follow(folder: Path, steps: int, job: TrainingJob, follower: Follower | None) -> Iterator[None]:
    """Show a bar that goes by the controller's metrics file, say what the watchers found, and let others see
    the steps."""
    done = threading.Event()
    clock = StallClock(job.config.watch.stall, time.monotonic())
    with progress("train", steps, "steps") as report:

        def look() -> None:
            written = read_metrics(folder)
            if not written:
                return
            last = written[-1]
            clock.step_done(int(last["step"]), time.monotonic())
            report(last["step"], f"loss {last['loss']:.3f}, {last['tokens_per_second']:.0f} tokens/s")
            if follower:
                follower.see(written)

        def follow() -> None:
            told, rung = 0, False
            while not done.wait(1.0):
                look()
                stalled = clock.check(time.monotonic())
                if stalled:
                    note_finding(folder, stalled)
                    if stalled.severity == "stop":
                        os.kill(os.getpid(), signal.SIGINT)
                found = read_findings(folder)
                for finding in found[told:]:
                    logger.warning("%s", finding.message)
                told = len(found)
                if follower and follower.wants_stop() and not rung:
                    StopBell(job.stop_bell).ring()
                    rung = True

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            look()


def _write_what_was_left_out(run: StageRun, reported: list[dict[str, float]]) -> None:
    """Ray notes a checkpoint before the callback writes its steps, and a run whose last one is noted makes no
    step again. And MLflow may have been away."""
    known = {row["step"] for row in read_metrics(run.local_folder)}
    rows = {int(row["step"]): dict(row) for row in reported if row["step"] not in known}
    writer = MetricWriter(run.tracker, run.tracking_run_id, run.local_folder)
    if rows:
        for row in rows.values():
            del row["step"]
        writer.write(rows)
        writer.close()
    writer.catch_up()


def _say_why_stopped(folder: Path, done: int, steps: int, pause_after: int | None) -> NoReturn:
    """By a watcher, because the piece is made, or from outside."""
    fatal = [finding.message for finding in read_findings(folder) if finding.severity == "stop"]
    saved = f"step {done} of {steps} is saved, run again to go on"
    if not fatal and pause_after is not None and done >= pause_after:
        raise PausedError(f"paused as asked; {saved}")
    raise StoppedError(f"{fatal[-1] if fatal else 'stopped as told'}; {saved}")

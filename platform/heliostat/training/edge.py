"""Where training meets Ray Train: the trainer, the controller's callback, and progress on the driver."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from heliostat.errors import TrainingError
from heliostat.models.adapters import merge_adapter
from heliostat.progress import progress
from heliostat.ray_session import options_of
from heliostat.stage import StageRun
from heliostat.tracking import MetricWriter, Tracker, read_metrics
from heliostat.training.config import TrainConfig
from heliostat.training.job import TRAINED_FOLDER, TrainingJob

CHECKPOINTS_FOLDER = "checkpoints"
FIRST_REPORT_ONLY = ("trainable_parameters", "all_parameters")


@dataclass
class MetricsCallback(UserCallback):
    """Writes each step's metrics once, from the controller, wherever the workers run."""

    tracker_uri: str
    tracking_run_id: str
    folder: str
    steps: int

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Ray Train calls this when all workers have reported a step."""
        reported = dict(metrics[0])
        step = int(reported.pop("step"))
        for name in FIRST_REPORT_ONLY:
            reported.pop(name)
        self._writer().write(reported, step)
        if step == self.steps:
            self._writer().close()

    def _writer(self) -> MetricWriter:
        if not hasattr(self, "_opened"):
            tracker = Tracker(self.tracker_uri)
            self._opened = MetricWriter(tracker, self.tracking_run_id, Path(self.folder))
        return self._opened


def run_training(job: TrainingJob, run: StageRun, steps: int, target: Path) -> dict[str, float]:
    """Train on the cluster and put the trained parameters into `target`; returns the last step's metrics.

    Raises:
        TrainingError: a worker failed more often than `max_failures`.
    """
    config = job.config
    resources = {"CPU": config.cpus_per_worker} | ({"GPU": 1} if config.use_gpu else {})
    trainer = TorchTrainer(
        start_worker,
        train_loop_config=job.to_json(),
        scaling_config=ScalingConfig(
            num_workers=config.num_workers, use_gpu=config.use_gpu, resources_per_worker=resources
        ),
        run_config=RunConfig(
            storage_path=run.uri,
            name=CHECKPOINTS_FOLDER,
            checkpoint_config=CheckpointConfig(num_to_keep=config.checkpoint.num_to_keep),
            failure_config=FailureConfig(max_failures=config.max_failures, controller_failure_limit=0),
            callbacks=[MetricsCallback(run.tracker.uri, run.tracking_run_id, str(run.local_folder), steps)],
        ),
    )
    try:
        with _progress(run.local_folder, steps):
            result = trainer.fit()
    except TrainingFailedError as error:
        raise TrainingError(_first_cause(error, run)) from error
    with result.checkpoint.as_directory() as checkpoint:
        shutil.copytree(Path(checkpoint) / TRAINED_FOLDER, target, dirs_exist_ok=True)
    return {name: float(value) for name, value in result.metrics.items()}


def start_worker(values: dict[str, Any]) -> None:
    """Ray Train's entry point on every worker. The driver must not load what only the workers need."""
    from heliostat.training.edge_worker import train_worker

    train_worker(TrainingJob.from_json(values))


def merge_on_cluster(config: TrainConfig, base: Path, adapter: Path, target: Path) -> None:
    """Merge a LoRA adapter into its base model, in a worker, so that the driver holds no weights."""
    task = ray.remote(merge_adapter).options(**options_of(config.resources_per_worker))
    ray.get(task.remote(base, adapter, target))


@contextmanager
def _progress(folder: Path, steps: int) -> Iterator[None]:
    """Show a bar that follows the controller's metrics file."""
    done = threading.Event()
    with progress("train", steps, "steps") as report:

        def follow() -> None:
            while not done.wait(1.0):
                written = read_metrics(folder)
                if written:
                    last = written[-1]
                    report(last["step"], f"loss {last['loss']:.3f}, {last['tokens_per_second']:.0f} tokens/s")

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _first_cause(error: Exception, run: StageRun) -> str:
    """The first worker's own words; the whole trace stays in Ray's logs."""
    failures = getattr(error, "worker_failures", {})
    rank, cause = next(iter(sorted(failures.items())), (None, error))
    text = str(getattr(cause, "cause", None) or cause).strip() or repr(cause)
    where = f"worker {rank}" if rank is not None else "the training controller"
    return (
        f"training stopped: {where}: {text.splitlines()[-1]}; state is kept in {run.uri}, run again to go on"
    )

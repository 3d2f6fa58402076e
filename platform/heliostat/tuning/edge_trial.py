"""A trial: a whole training run, followed by Ray Tune report by report.

Tune's own way is a function with a callback on Ray Train's controller and a queue, an actor more for each
trial, and its only way to end a trial early is to kill it. Here the trial's process follows the run as the
progress bar does, and a trial that is stopped saves its state first, as on SIGTERM.
"""

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from ray import tune

from heliostat.errors import BusyError, HeliostatError, PausedError, StoppedError
from heliostat.models.from_scratch import make_model
from heliostat.ray_session import exit_without_destructors
from heliostat.records import Artifact
from heliostat.stage import PartOf, local_folder_of
from heliostat.storage import Storage
from heliostat.tracking import read_metrics
from heliostat.training.config import TrainConfig
from heliostat.training.edge_stop import StopBell
from heliostat.training.pieces import Piece
from heliostat.training.run import Following, TrainingInputs, train_parameters
from heliostat.tuning.settings import Settings
from heliostat.tuning.trials import Report
from heliostat.workspace import Workspace

SECONDS_TO_SAVE = 120.0
"""What a trial that is told to stop gets for its last step and its state."""
SECONDS_FOR_FORMER_ATTEMPT = 60.0
"""A killed sweep's trials end some seconds after it; until then they hold their runs."""

SECONDS_FOR_OTHER_TRIALS = 1800.0
"""Trials that build their models share a tokenizer, which one of them learns or brings first."""


@dataclass(frozen=True)
class SweepJob:
    """What all trials of a sweep have in common."""

    workspace_root: str
    tracker_uri: str
    part_of: PartOf
    model: Artifact | None
    """What is trained, unless each trial builds its own."""
    documents: Artifact | None
    """What the tokenizer of a model that is built is learned from."""
    dataset: Artifact
    metric: str
    stop_bell: str = ""
    """The name of what says to all trials that the sweep ends."""
    force: bool = False
    """Train again what was trained before."""


class TrialRun(tune.Trainable):
    """Tune's face of a trial. `config` holds its number, its settings as JSON, and what it said before."""

    def setup(self, config: dict[str, Any], job: SweepJob) -> None:
        """Begin with what a former attempt reported: schedulers and searchers must know it, too."""
        exit_without_destructors()
        self._job = job
        self._settings = Settings.model_validate(config["settings"])
        self._before: deque[Report] = deque(config["reports"])
        self._is_over: bool = config["is_final"]
        self._piece = Piece(**config["piece"]) if config["piece"] else None
        self._follower = TrialFollower(self._settings.train, job, self._piece, config["reports"])
        self._training: Future[dict[str, Any]] | None = None

    def step(self) -> dict[str, Any]:
        """The next report; `done` comes with the last one, when what was trained is published."""
        if self._before:
            report = self._before.popleft()
            return {**report, "done": self._is_over and not self._before}
        if self._training is None:
            self._training = ThreadPoolExecutor(1, "trial").submit(self._train)
            self._training.add_done_callback(self._follower.reports.put)
        item = self._follower.reports.get()
        return _result_of(item) if isinstance(item, Future) else item

    def cleanup(self) -> None:
        """Tune calls this when it stops a trial, and when one has ended."""
        self._follower.stop.set()
        if self._training is not None:
            wait([self._training], SECONDS_TO_SAVE)

    def _train(self) -> dict[str, Any]:
        """The last report; the others come through the follower."""
        try:
            return self._follower.finish(*self._trained())
        except PausedError:
            return self._follower.finish_piece()
        except StoppedError:
            if not self._follower.stop.is_set():  # by a watcher: that is a failure, and says why
                raise
            return {"done": True, "is_stopped": True}

    def _trained(self) -> tuple[Artifact, list[dict[str, float]]]:
        """What the trial trains, and its steps."""
        if "://" in self._job.tracker_uri and not self._job.tracker_uri.startswith("sqlite"):
            os.environ["MLFLOW_TRACKING_URI"] = self._job.tracker_uri
        workspace = Workspace(Storage.at(self._job.workspace_root))
        following = Following(self._job.part_of, self._follower, self._piece)
        model, settings = self._job.model, self._settings
        if not isinstance(settings.model, str):
            shape, documents = settings.model, self._job.documents
            model = _when_free(lambda: make_model(shape, documents, workspace), SECONDS_FOR_OTHER_TRIALS)
        assert model is not None, "a model that is not built was given"
        inputs = TrainingInputs(settings.train, model, self._job.dataset)
        trained = _when_free(
            lambda: train_parameters(inputs, workspace, following, self._job.force),
            SECONDS_FOR_FORMER_ATTEMPT,
        )
        folder = local_folder_of(workspace, workspace.run_path("train", trained.key))
        return trained, read_metrics(folder)


def _when_free(make: Callable[[], Artifact], seconds: float) -> Artifact:
    """What is made, once nobody else is making it; for so long another process may hold it."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return make()
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)


def _result_of(training: Future[dict[str, Any]]) -> dict[str, Any]:
    """Ray sends an exception with its causes, and those of Ray Train cannot all be sent."""
    error = training.exception()
    if error is None:
        return training.result()
    if isinstance(error, HeliostatError):
        raise type(error)(str(error))
    raise RuntimeError(f"{type(error).__name__}: {error}")


class TrialFollower:
    """Turns the steps of a run into reports, each once; the last one waits until the run is finished."""

    def __init__(self, train: TrainConfig, job: SweepJob, piece: Piece | None, before: list[Report]) -> None:
        """`before` was reported by a former attempt; steps before `piece` are another trial's."""
        self.reports: queue.Queue[dict[str, Any] | Future[dict[str, Any]]] = queue.Queue()
        self.stop = threading.Event()
        self._bell = StopBell(job.stop_bell)
        self._metric = job.metric
        assert train.validation is not None, "trials are validated"
        self._judged = train.validation
        self._piece = piece
        self._reported = int(before[-1]["step"]) if before else 0
        self._run = ""
        self._rows: list[dict[str, float]] = []

    def begin(self, run_id: str) -> None:
        """Where its steps are written: more of them may be made than are reported."""
        self._run = run_id

    def see(self, rows: list[dict[str, float]]) -> None:
        """Report the steps that are due and were not reported yet."""
        self._rows = rows
        for report in self._due(rows):
            if self._judged.is_due(int(report["step"])):
                self._put(report)

    def wants_stop(self) -> bool:
        """Whether Tune has stopped the trial, or the sweep ends."""
        if not self.stop.is_set() and self._bell.has_rung():
            self.stop.set()
        return self.stop.is_set()

    def finish(self, trained: Artifact, rows: list[dict[str, float]]) -> dict[str, Any]:
        """Report what was not yet; returns the last report, with what was trained."""
        self._run = f"train-{trained.key[:12]}"  # one that was found did not begin
        if self._piece and rows[-1]["step"] > self._piece.until:  # a former sweep has made it whole
            return self._last(rows) | {"is_piece": True}
        return self._last(rows) | {"artifact": trained.id, "artifact_uri": trained.uri}

    def finish_piece(self) -> dict[str, Any]:
        """As `finish`, where the rest of the run is another trial's, or nobody's."""
        return self._last(self._rows) | {"is_piece": True}

    def _last(self, rows: list[dict[str, float]]) -> dict[str, Any]:
        own = self._own(rows)
        *earlier, last = self._due(rows) or [figures(own, len(own) - 1, self._metric)]
        for report in earlier:
            self._put(report)
        return {**last, "done": True, "run": self._run}

    def _own(self, rows: list[dict[str, float]]) -> list[dict[str, float]]:
        """The steps that this trial makes."""
        piece = self._piece
        return rows if piece is None else [row for row in rows if piece.start < row["step"] <= piece.until]

    def _put(self, report: dict[str, Any]) -> None:
        self._reported = int(report["step"])
        self.reports.put({**report, "run": self._run})

    def _due(self, rows: list[dict[str, float]]) -> list[Report]:
        own = self._own(rows)
        return [
            figures(own, position, self._metric)
            for position, row in enumerate(own)
            if row["step"] > self._reported and self._metric in row and self._is_due(row, own)
        ]

    def _is_due(self, row: dict[str, float], rows: list[dict[str, float]]) -> bool:
        return self._judged.is_due(int(row["step"])) or row is rows[-1]


def figures(rows: list[dict[str, float]], position: int, metric: str) -> Report:
    """What is reported of a step: the metric, and what its trial spent so far."""
    so_far = rows[: position + 1]
    return {
        "step": rows[position]["step"],
        "tokens": sum(row["tokens"] for row in so_far),
        "seconds": sum(row["step_seconds"] for row in so_far),
        metric: rows[position][metric],
    }

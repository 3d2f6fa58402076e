"""Where tuning meets Ray Tune: the sweep's trials, their scheduler, their end."""

import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from heliostat.errors import StoppedError
from heliostat.progress import Report as ShowProgress
from heliostat.progress import progress
from heliostat.training.edge_stop import StopBell
from heliostat.tuning.config import AshaScheduler, MedianScheduler, TuneConfig
from heliostat.tuning.edge_search import NotWrittenDown, Proposals
from heliostat.tuning.edge_trial import SECONDS_TO_SAVE, SweepJob, TrialRun
from heliostat.tuning.settings import Space
from heliostat.tuning.trials import Trials

QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}
NO_END = 10**9


def run_trials(space: Space, job: SweepJob, trials: Trials, keep: Callable[[str], None]) -> None:
    """Run the sweep's trials on the cluster; what became of each is in `trials`. `keep` is told the URI of
    each artifact that a trial has made or found.

    Raises:
        StoppedError: told to stop; the trials that were going on have saved their states.
        KeyboardInterrupt: as Ctrl-C says; their states are saved as well.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    config = space.tune
    folder = tempfile.mkdtemp(prefix="heliostat-sweep-")  # Tune's own notes, which nobody reads again
    bell = StopBell.hung()
    with _signals() as signals, progress("tune", space.num_trials, "trials") as report:
        proposals = Proposals(space, trials)
        end = SweepEnd(config, trials, proposals, signals, bell)
        bookkeeper = Bookkeeper(config, trials, report, end, keep)
        bookkeeper.show()
        try:
            tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(TrialRun, job=replace(job, stop_bell=bell.name)),
                    tune.PlacementGroupFactory([_here()]),
                ),
                tune_config=tune.TuneConfig(
                    metric=config.metric,
                    mode=config.mode,
                    search_alg=proposals,
                    scheduler=scheduler_of(config),
                    num_samples=-1,
                    reuse_actors=False,
                ),
                run_config=tune.RunConfig(
                    name="sweep",
                    storage_path=folder,
                    callbacks=[bookkeeper],
                    failure_config=tune.FailureConfig(max_failures=config.max_failures),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    stop=end,
                    verbose=0,
                ),
            ).fit()
        finally:
            bell.take_down()
            shutil.rmtree(folder, ignore_errors=True)
    if signal.SIGINT in signals:
        raise KeyboardInterrupt
    if signals:
        raise StoppedError(f"sweep {config.name}: stopped as told; its trials are kept, run again to go on")


def scheduler_of(config: TuneConfig) -> TrialScheduler:
    """Ray Tune's scheduler, counting in optimizer steps."""
    scheduler = config.scheduler
    if isinstance(scheduler, AshaScheduler):
        return AsyncHyperBandScheduler(
            time_attr="step",
            max_t=NO_END,  # a trial ends by itself
            grace_period=scheduler.grace_steps,
            reduction_factor=scheduler.reduction_factor,
        )
    if isinstance(scheduler, MedianScheduler):
        return MedianStoppingRule(
            time_attr="step",
            grace_period=scheduler.grace_steps,
            min_samples_required=scheduler.min_trials,
            hard_stop=True,
        )
    return FIFOScheduler()


class Bookkeeper(NotWrittenDown, tune.Callback):
    """Writes down what Tune hears of trials and decides about them, and shows how far the sweep is."""

    def __init__(
        self,
        config: TuneConfig,
        trials: Trials,
        report: ShowProgress,
        end: "SweepEnd",
        keep: Callable[[str], None],
    ) -> None:
        """`report` shows the number of trials that have ended."""
        self._end = end
        self._keep = keep
        self._config = config
        self._trials = trials
        self._report = report

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Tune calls this for every report, those of a former attempt included."""
        if result.get("is_stopped"):  # with its state saved, and nothing new to tell
            return
        number = trial.config["number"]
        names = ("step", "tokens", "seconds", self._config.metric)
        self._trials.add_report(number, {name: float(result[name]) for name in names}, result.get("run"))
        if result.get("artifact"):
            self._keep(str(result["artifact_uri"]))
        if result.get("artifact") or result.get("is_piece"):
            facts = {name: str(result[name]) for name in ("artifact", "artifact_uri") if name in result}
            self._trials.end(number, "finished", **facts)
        self.show()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune calls this for trials that end and for those that a scheduler or the budget ends."""
        if not self._end.is_told and not trial.config["piece"]:  # half a piece cannot be compared
            self._trials.end(trial.config["number"], "stopped")
        self.show()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune calls this when a trial failed more often than it is tried again."""
        self._trials.end(trial.config["number"], "failed", error=_why(trial))
        self.show()

    def show(self) -> None:
        """Trials that have ended, those that go on, and the best value so far."""
        known = list(self._trials)
        ended = [trial for trial in known if trial.status != "running"]
        values = [value for trial in known if (value := trial.value(self._config.metric)) is not None]
        best = (min if self._config.mode == "min" else max)(values) if values else None
        note = f"{len(known) - len(ended)} going on, {self._trials.tokens:,} tokens"
        self._report(
            len(ended), note + (f", best {self._config.metric} {best:.4f}" if best is not None else "")
        )


def _why(trial: Any) -> str:
    """The last line of a failed trial's trace, without the exception's class.

    Tune's `get_error` looks where the trace is copied to in a while.
    """
    file = Path(trial.error_file) if trial.error_file else None
    text = file.read_text() if file and file.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["its process died"]
    return re.sub(r"^[\w.]*(Error|Exception): ", "", lines[-1])[:500]


class SweepEnd(NotWrittenDown, tune.Stopper):
    """Ends the sweep when its budget is spent or a signal says so, once the trials have saved their states.
    Tune would give them five seconds."""

    def __init__(
        self,
        config: TuneConfig,
        trials: Trials,
        proposals: Proposals,
        signals: list[signal.Signals],
        bell: StopBell,
    ) -> None:
        """The time begins to run; `signals` grows when one comes."""
        self._budget = config.budget
        self._trials = trials
        self._proposals = proposals
        self._signals = signals
        self._bell = bell
        self._began = time.monotonic()
        self._rang: float | None = None

    @property
    def is_told(self) -> bool:
        """Whether trials end because of a signal: they are to go on another time."""
        return bool(self._signals)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No single trial is ended by this."""
        return False

    def stop_all(self) -> bool:
        """Tune asks again and again."""
        if self._rang is None and (self.is_told or self._is_spent()):
            self._rang = time.monotonic()
            self._proposals.no_more()
            self._bell.ring()
        if self._rang is None:
            return False
        return not self._proposals.num_live or time.monotonic() - self._rang > SECONDS_TO_SAVE

    def _is_spent(self) -> bool:
        tokens, hours = self._budget.max_tokens, self._budget.max_hours
        late = hours is not None and time.monotonic() - self._began > hours * 3600
        return late or (tokens is not None and self._trials.tokens >= tokens)


@contextmanager
def _signals() -> Iterator[list[signal.Signals]]:
    """SIGTERM and Ctrl-C, the first of each; a second Ctrl-C ends the process at once."""
    came: list[signal.Signals] = []
    former: dict[signal.Signals, Any] = {}

    def note(number: int, frame: Any) -> None:
        came.append(signal.Signals(number))
        signal.signal(number, former[signal.Signals(number)])

    if threading.current_thread() is threading.main_thread():
        former |= {each: signal.signal(each, note) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)


def _here() -> dict[str, float]:
    """A thousandth of this node: a trial's process stays beside the sweep's own, wherever its workers are."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    node = next(each for each in ray.nodes() if each["NodeID"] == here)
    name = next(each for each in node["Resources"] if each.startswith("node:") and "internal" not in each)
    return {name: 0.001}

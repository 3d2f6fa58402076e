"""Where tuning meets Ray Tune: the sweep's trials, their scheduler, their end."""

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from heliostat.errors import StoppedError
from heliostat.progress import Report as ShowProgress
from heliostat.progress import progress
from heliostat.tuning.config import AshaScheduler, MedianScheduler, TuneConfig
from heliostat.tuning.edge_search import NotWrittenDown, Proposals
from heliostat.tuning.edge_trial import SweepJob, TrialRun
from heliostat.tuning.settings import Space
from heliostat.tuning.trials import Trials

QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
NO_END = 10**9


def run_trials(space: Space, job: SweepJob, trials: Trials) -> None:
    """Run the sweep's trials on the cluster; what became of each is in `trials`.

    Raises:
        StoppedError: told to stop; the trials that were going on have saved their states.
        KeyboardInterrupt: as Ctrl-C says; their states are saved as well.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    config = space.tune
    folder = tempfile.mkdtemp(prefix="heliostat-sweep-")  # Tune's own notes, which nobody reads again
    with _told_to_stop() as told, progress("tune", config.num_trials, "trials") as report:
        bookkeeper = Bookkeeper(config, trials, report)
        bookkeeper.show()
        try:
            tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(TrialRun, job=job), tune.PlacementGroupFactory([_here()])
                ),
                tune_config=tune.TuneConfig(
                    metric=config.metric,
                    mode=config.mode,
                    search_alg=Proposals(space, trials),
                    scheduler=scheduler_of(config),
                    num_samples=-1,
                    time_budget_s=config.budget.max_hours * 3600 if config.budget.max_hours else None,
                    reuse_actors=False,
                ),
                run_config=tune.RunConfig(
                    name="sweep",
                    storage_path=folder,
                    callbacks=[bookkeeper],
                    failure_config=tune.FailureConfig(max_failures=config.max_failures),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    stop=SpentOrTold(config, trials, told),
                    verbose=0,
                ),
            ).fit()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    if told.is_set():
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

    def __init__(self, config: TuneConfig, trials: Trials, report: ShowProgress) -> None:
        """`report` shows the number of trials that have ended."""
        self._config = config
        self._trials = trials
        self._report = report

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Tune calls this for every report, those of a former attempt included."""
        number = trial.config["number"]
        names = ("step", "tokens", "seconds", self._config.metric)
        self._trials.add_report(number, {name: float(result[name]) for name in names}, result.get("run"))
        if result.get("artifact"):
            facts = {name: str(result[name]) for name in ("artifact", "artifact_uri")}
            self._trials.end(number, "finished", **facts)
        self.show()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune calls this for trials that end and for those that a scheduler or the budget ends."""
        self._trials.end(trial.config["number"], "stopped")
        self.show()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune calls this when a trial failed more often than it is tried again."""
        error = trial.get_error()
        cause = getattr(error, "cause", None) or error
        lines = [line for line in str(cause).splitlines() if line.strip()] or [type(cause).__name__]
        self._trials.end(trial.config["number"], "failed", error=lines[-1].strip()[:500])
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


class SpentOrTold(NotWrittenDown, tune.Stopper):
    """Ends the sweep when its tokens are spent, or when it is told to stop."""

    def __init__(self, config: TuneConfig, trials: Trials, told: threading.Event) -> None:
        """`told` is set by a signal."""
        self._most = config.budget.max_tokens
        self._trials = trials
        self._told = told

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No single trial is ended by this."""
        return False

    def stop_all(self) -> bool:
        """Tune asks again and again."""
        return self._told.is_set() or (self._most is not None and self._trials.tokens >= self._most)


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """Set by SIGTERM; Ctrl-C is Tune's own affair."""
    told = threading.Event()
    main = threading.current_thread() is threading.main_thread()
    former = signal.signal(signal.SIGTERM, lambda *_: told.set()) if main else None
    try:
        yield told
    finally:
        if main:
            signal.signal(signal.SIGTERM, former)


def _here() -> dict[str, float]:
    """A thousandth of this node: a trial's process stays beside the sweep's own, wherever its workers are."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    node = next(each for each in ray.nodes() if each["NodeID"] == here)
    name = next(each for each in node["Resources"] if each.startswith("node:") and "internal" not in each)
    return {name: 0.001}

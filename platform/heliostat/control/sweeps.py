"""Sweeps: their trials while they run and after, the best one, what mattered, and pictures' data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import yaml

from heliostat.control.inventory import show_run
from heliostat.errors import ArtifactError
from heliostat.locks import holders
from heliostat.records import Run
from heliostat.stage import read_run
from heliostat.tuning.config import Choice, LogUniform, TuneConfig
from heliostat.tuning.importance import common_step, importances
from heliostat.tuning.report import BEST_RECIPE, best_trial, ranked
from heliostat.tuning.trials import Trial, Trials
from heliostat.workspace import Workspace

PREFIX = "tune-"
TRIALS_FOLDER = "trials"


@dataclass(frozen=True)
class Sweep:
    """A sweep in the list. `status` is its run's; `lost` says that it is on record as running, and that
    nobody works on it. `trials` counts by status, `planned` is how many points the searcher has at most."""

    id: str
    name: str
    status: str
    lost: bool
    metric: str
    mode: str
    planned: int
    trials: dict[str, int]
    best: float | None
    best_trial: int | None
    searcher: str
    scheduler: str
    user: str
    started_at: datetime
    finished_at: datetime | None
    error: str | None
    job: str | None = None
    """The job that it was handed in as; None for one from a terminal."""

    @property
    def running(self) -> bool:
        """Whether someone works on it."""
        return self.status == "running" and not self.lost


@dataclass(frozen=True)
class Attempt:
    """A point of the optimisation's history: the trial, its last value, and the best until then."""

    number: int
    value: float | None
    best: float | None
    status: str


@dataclass(frozen=True)
class Searched:
    """A searched value: whether its axis is logarithmic, and its words where it has no numbers."""

    key: str
    log: bool
    words: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition(".")[2]


@dataclass(frozen=True)
class SweepDetail:
    """A sweep with its trials, ranked as its report ranks them: those that came furthest first. `importances`
    are shares by key, compared behind `compared_at`; `overrides` make a recipe the best trial's."""

    sweep: Sweep
    trials: tuple[Trial, ...]
    searched: tuple[Searched, ...]
    history: tuple[Attempt, ...]
    importances: dict[str, float]
    compared_at: int | None
    best: Trial | None
    overrides: tuple[str, ...]
    recipe: str | None
    """The best trial's sections as YAML, once the sweep has ended."""
    report: str | None
    tokens: int


def list_sweeps(workspace: Workspace) -> list[Sweep]:
    """The sweeps on record, the latest first.

    Raises:
        ArtifactError: a record cannot be read.
        StorageError: the workspace does not answer.
    """
    names = [name for name in workspace.storage.list("runs") if name.startswith(PREFIX)]
    runs = [run for name in names if (run := read_run(workspace, f"runs/{name}"))]
    held = set(holders(workspace.storage))
    found = [_sweep(run, _config(run), list(_trials(workspace, run.id)), held, workspace) for run in runs]
    return sorted(found, key=lambda sweep: sweep.started_at, reverse=True)


def show_sweep(workspace: Workspace, sweep_id: str) -> SweepDetail:
    """A sweep by the id of its run.

    Raises:
        ArtifactError: there is none, or one of its records cannot be read.
        StorageError: the workspace does not answer.
    """
    run = show_run(workspace, sweep_id)
    if run.stage != "tune":
        raise ArtifactError(f"{sweep_id}: is a run of stage {run.stage}, and no sweep")
    config = _config(run)
    known = _trials(workspace, sweep_id)
    trials = list(known)
    best = best_trial(config, trials)
    report = _report_path(workspace, run)
    return SweepDetail(
        sweep=_sweep(run, config, trials, set(holders(workspace.storage)), workspace),
        trials=tuple(ranked(config, trials)),
        searched=tuple(_searched(config)),
        history=tuple(_history(config, trials)),
        importances=_importances(config.model_dump_json(), tuple(_told(trial) for trial in trials)),
        compared_at=common_step(trials),
        best=best,
        overrides=tuple(overrides_of(best)) if best else (),
        recipe=_best_recipe(workspace, report),
        report=report,
        tokens=known.tokens,
    )


def overrides_of(trial: Trial) -> list[str]:
    """What makes a recipe the trial's: `train.learning_rate=0.003`, as `heliostat run` takes it."""
    values = trial.point | trial.computed
    return [f"{key}={_yaml(value)}" for key, value in values.items()]


def parallel_rows(detail: SweepDetail) -> list[list[Any]]:
    """A row a trial with a value: the searched values, then the metric. Of runs in pieces the last ones."""
    metric = detail.sweep.metric
    valued = [trial for trial in detail.trials if trial.value(metric) is not None]
    end = max((trial.piece.until if trial.piece else 0 for trial in valued), default=0)
    shown = [trial for trial in valued if trial.piece is None or trial.piece.until == end]
    return [
        [_cell(trial.point.get(each.key), each) for each in detail.searched] + [trial.value(metric)]
        for trial in shown
    ]


def _config(run: Run) -> TuneConfig:
    return TuneConfig.model_validate(run.config["tune"])


def _trials(workspace: Workspace, run_id: str) -> Trials:
    return Trials(workspace.storage, f"runs/{run_id}/{TRIALS_FOLDER}")


def _sweep(
    run: Run, config: TuneConfig, trials: Sequence[Trial], held: set[str], workspace: Workspace
) -> Sweep:
    best = best_trial(config, trials)
    key = run.id.rpartition("-")[2]
    worked_on = workspace.storage.remote or any(name.endswith(f"-{key}") for name in held)
    return Sweep(
        id=run.id,
        name=config.name,
        status=run.status,
        lost=run.status == "running" and not worked_on,
        metric=config.metric,
        mode=config.mode,
        planned=config.num_trials,
        trials={status: sum(t.status == status for t in trials) for status in {t.status for t in trials}},
        best=best.value(config.metric) if best else None,
        best_trial=best.number if best else None,
        searcher=config.searcher.kind,
        scheduler=config.scheduler.kind,
        user=run.provenance.user,
        started_at=run.started_at,
        finished_at=run.finished_at,
        error=run.error,
        job=run.provenance.ray_job_id,
    )


def _history(config: TuneConfig, trials: Sequence[Trial]) -> list[Attempt]:
    better = min if config.mode == "min" else max
    best: float | None = None
    found = []
    for trial in trials:
        value = trial.value(config.metric)
        if value is not None and math.isfinite(value) and trial.status == "finished":
            best = value if best is None else better(best, value)
        found.append(Attempt(trial.number, value, best, trial.status))
    return found


def _searched(config: TuneConfig) -> list[Searched]:
    found = []
    for key, dimension in config.search_space.items():
        values = dimension.values if isinstance(dimension, Choice) else ()
        numbers = [float(value) for value in values if _is_number(value)]
        if len(numbers) < len(values):
            found.append(Searched(key, False, tuple(dict.fromkeys(str(value) for value in values))))
            continue
        wide = len(numbers) > 1 and min(numbers) > 0 and max(numbers) / min(numbers) >= 10
        found.append(Searched(key, isinstance(dimension, LogUniform) or wide))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any, searched: Searched) -> Any:
    if searched.words:
        return None if value is None else str(value)
    return float(value) if _is_number(value) else None


def _told(trial: Trial) -> str:
    return trial.model_dump_json(include={"number", "point", "status", "reports", "piece"})


@lru_cache(maxsize=32)
def _importances(config: str, trials: tuple[str, ...]) -> dict[str, float]:
    """A forest takes some tenths of a second: it is grown again only when a trial has reported more."""
    found = importances(
        TuneConfig.model_validate_json(config), [Trial.model_validate_json(trial) for trial in trials]
    )
    return {key: float(share) for key, share in found.items()}


def _report_path(workspace: Workspace, run: Run) -> str | None:
    """Where the report of a sweep that has ended lies, relative to the workspace."""
    key = run.id.rpartition("-")[2]
    names = workspace.storage.list("reports") if run.outputs else []
    return next((f"reports/{name}" for name in names if name.rpartition("-")[2] == key), None)


def _best_recipe(workspace: Workspace, report: str | None) -> str | None:
    path = f"{report}/{BEST_RECIPE}"
    if report is None or not workspace.storage.exists(path):
        return None
    return workspace.storage.read_bytes(path).decode()


def _yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True, width=1000)).strip().removesuffix("...").strip()

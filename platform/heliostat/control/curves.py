"""What is drawn of runs' metrics: smoothed, thinned curves with marks, and runs side by side."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from heliostat.control.inventory import show_run
from heliostat.control.series import RunFile, Series, read_metrics_of
from heliostat.control.smoothing import bucket_starts, extremes, last_finite, smooth
from heliostat.evaluation.metrics import higher_is_better
from heliostat.records import Run
from heliostat.tracking import RESUMED
from heliostat.workspace import Workspace

Axis = Literal["step", "tokens", "relative", "time"]
MarkKind = Literal["checkpoint", "workers", "pause", "resumed", "gap"]
MOST_POINTS = 1000
MOST_RUNS = 10
"""Overlaid in one picture; with more no colour can be told from another."""
MOST_GAPS = 100
PAUSE_SECONDS = 60.0
"""Between two steps, and 20 times as long as usual: the run was interrupted there."""
MILLISECONDS = 1000.0


@dataclass(frozen=True)
class View:
    """How to look at a metric: `smoothing` in [0, 1), the axis below it, the most points to draw."""

    smoothing: float = 0.6
    axis: Axis = "step"
    most: int = MOST_POINTS


@dataclass(frozen=True)
class Curve:
    """A metric to be drawn: `num_points` in at most `View.most` buckets, the first and the last one exact.

    All arrays are (buckets,). `values` are the buckets' last ones, `low` and `high` their extremes,
    `smoothed` the average over all points up to there; NaN where no value was a number. `x` is in the view's
    unit: steps, tokens, seconds since the first point, or milliseconds since 1970. `gaps` are the first steps
    whose value was no number, `num_gaps` all of them.
    """

    name: str
    x: np.ndarray
    steps: np.ndarray
    values: np.ndarray
    smoothed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    num_points: int
    gaps: tuple[int, ...] = ()
    gaps_x: tuple[float, ...] = ()
    num_gaps: int = 0

    @property
    def last(self) -> float | None:
        """The last value that is a number."""
        finite = self.values[np.isfinite(self.values)]
        return float(finite[-1]) if len(finite) else None


@dataclass(frozen=True)
class Mark:
    """Something that happened to a run: where (in the view's unit), at which step, what."""

    x: float
    step: int
    kind: MarkKind
    about: str = ""


@dataclass(frozen=True)
class ConfigDifference:
    """A key of the configs that is not the same everywhere; runs that have it not are left out."""

    key: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A run's last and best value of a metric, and by how much the last differs from the baseline's: 0.05 is
    five hundredths more. None where there is none."""

    last: float | None
    best: float | None
    difference: float | None


@dataclass(frozen=True)
class ComparedRuns:
    """Runs side by side: the first one is the baseline. `curves` and `figures` go by metric, then by run."""

    runs: tuple[Run, ...]
    curves: dict[str, dict[str, Curve]]
    figures: dict[str, dict[str, Figure]]
    differences: tuple[ConfigDifference, ...]
    same_keys: int


def curve_of(series: Series, view: View | None = None) -> Curve:
    """A metric as it is drawn. 1,000,000 points take some 0.1 s."""
    view = view or View()
    x = axis_of(series, view.axis)
    if not series.num_points:
        nothing = np.zeros(0)
        return Curve(series.name, nothing, series.steps, nothing, nothing, nothing, nothing, 0)
    smoothed = smooth(series.values, view.smoothing)
    starts = bucket_starts(series.num_points, view.most)
    at = last_finite(series.values, starts)
    low, high = extremes(series.values, starts)
    shown = np.where(np.isfinite(series.values[at]), series.values[at], np.nan)
    wrong = np.flatnonzero(~np.isfinite(series.values))
    return Curve(
        name=series.name,
        x=x[at],
        steps=series.steps[at],
        values=shown,
        smoothed=smoothed[at],
        low=low,
        high=high,
        num_points=series.num_points,
        gaps=tuple(series.steps[wrong[:MOST_GAPS]].tolist()),
        gaps_x=tuple(x[wrong[:MOST_GAPS]].tolist()),
        num_gaps=len(wrong),
    )


def axis_of(series: Series, axis: Axis) -> np.ndarray:
    """The places of a series' points on an axis, (n,) float64."""
    if axis == "tokens":
        return series.tokens
    if axis == "time":
        return series.times * MILLISECONDS
    if axis == "relative":
        return series.times - series.times[0] if series.num_points else series.times
    return series.steps.astype(np.float64)


def metric_names(workspace: Workspace, run_id: str) -> list[str]:
    """The metrics that a run has reported; errors as `read_metrics_of`."""
    return read_metrics_of(workspace, run_id).names


def run_curves(
    workspace: Workspace, run_id: str, names: Sequence[str] | None = None, view: View | None = None
) -> dict[str, Curve]:
    """Some metrics of a run, or all, as they are drawn; those that it has not are left out.

    What was computed is kept until the run reports more. Errors as `read_metrics_of`.
    """
    file = read_metrics_of(workspace, run_id)
    return {name: curve for name in names or file.names if (curve := _kept(file, name, view or View()))}


def _kept(file: RunFile, name: str, view: View) -> Curve | None:
    with file.lock:
        series = file.get(name)
        if series is not None and (name, view) not in file.views:
            file.views[name, view] = curve_of(series, view)
        return file.views.get((name, view))


def run_marks(workspace: Workspace, run_id: str, axis: Axis = "step") -> list[Mark]:
    """What happened to a run, by its metrics: checkpoints, changes of the number of workers, interruptions,
    and where it went on behind one.

    Errors as `read_metrics_of`.
    """
    file = read_metrics_of(workspace, run_id)
    with file.lock:
        if ("marks", axis) not in file.views:
            file.views["marks", axis] = _marks(file, axis)
        return list(file.views["marks", axis])


def _marks(file: RunFile, axis: Axis) -> list[Mark]:
    marks: list[Mark] = []
    saved, workers, steps = (file.get(name) for name in ("checkpoint_seconds", "num_workers", "loss"))
    if saved:
        marks += [
            Mark(x, step, "checkpoint") for x, step in _places(saved, axis, np.arange(saved.num_points))
        ]
    if workers:
        changed = np.flatnonzero(np.diff(workers.values)) + 1
        told = workers.values[changed].tolist()
        marks += [
            Mark(x, step, "workers", f"{count:g}")
            for (x, step), count in zip(_places(workers, axis, changed), told, strict=True)
        ]
    resumed = file.get(RESUMED)
    if resumed:
        marks += [
            Mark(x, step, "resumed") for x, step in _places(resumed, axis, np.arange(resumed.num_points))
        ]
    if steps and steps.num_points > 2:
        waits = np.diff(steps.times)
        long = np.flatnonzero(waits > max(PAUSE_SECONDS, 20 * float(np.median(waits))))
        marks += [
            Mark(x, step, "pause", f"{waits[at]:.0f}")
            for (x, step), at in zip(_places(steps, axis, long + 1), long, strict=True)
        ]
    return sorted(marks, key=lambda mark: mark.step)


def _places(series: Series, axis: Axis, at: np.ndarray) -> list[tuple[float, int]]:
    return list(zip(axis_of(series, axis)[at].tolist(), series.steps[at].tolist(), strict=True))


def compare_runs(
    workspace: Workspace, run_ids: Sequence[str], names: Sequence[str], view: View | None = None
) -> ComparedRuns:
    """Several runs, at most MOST_RUNS of them, the first of which the others are compared with.

    Raises:
        ArtifactError: there is no such run.
        StorageError: the workspace does not answer.
    """
    ids = list(dict.fromkeys(run_ids))[:MOST_RUNS]
    runs = tuple(show_run(workspace, run_id) for run_id in ids)
    of_runs = {run.id: run_curves(workspace, run.id, names, view) for run in runs}
    curves = {name: {run: found[name] for run, found in of_runs.items() if name in found} for name in names}
    differences, same = config_diff({run.id: run.config for run in runs})
    figures = {name: _figures(found, ids) for name, found in curves.items()}
    return ComparedRuns(runs, curves, figures, tuple(differences), same)


def _figures(curves: Mapping[str, Curve], ids: Sequence[str]) -> dict[str, Figure]:
    baseline = curves[ids[0]].last if ids and ids[0] in curves else None
    figures = {}
    for run, curve in curves.items():
        ends = curve.high if higher_is_better(curve.name) else curve.low
        finite = ends[np.isfinite(ends)]
        pick = np.max if higher_is_better(curve.name) else np.min
        best = float(pick(finite)) if len(finite) else None
        difference = (curve.last - baseline) / abs(baseline) if curve.last is not None and baseline else None
        figures[run] = Figure(curve.last, best, difference)
    return figures


def config_diff(configs: Mapping[str, Mapping[str, Any]]) -> tuple[list[ConfigDifference], int]:
    """The dotted keys whose values are not the same in all configs, and how many are."""
    flat = {name: flatten(config) for name, config in configs.items()}
    keys = dict.fromkeys(key for each in flat.values() for key in each)
    different, same = [], 0
    for key in keys:
        values = {name: each[key] for name, each in flat.items() if key in each}
        if (
            len(values) == len(flat)
            and len({json.dumps(value, sort_keys=True) for value in values.values()}) == 1
        ):
            same += 1
        else:
            different.append(ConfigDifference(key, values))
    return different, same


def flatten(config: Mapping[str, Any] | Sequence[Any], prefix: str = "") -> dict[str, Any]:
    """A config's values by dotted keys; lists of sections go by number, lists of values are values."""
    items = config.items() if isinstance(config, Mapping) else enumerate(config)
    flat: dict[str, Any] = {}
    for key, value in items:
        sections = isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value)
        if value and (isinstance(value, Mapping) or sections):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat

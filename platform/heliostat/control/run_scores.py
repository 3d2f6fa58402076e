"""What runs score, side by side: their own figures, and those of the evaluations of what they made."""

from collections.abc import Sequence

from heliostat.control.run_index import RunFilter, find_runs, run_of
from heliostat.control.sites import Site
from heliostat.control.store import Store
from heliostat.errors import ArtifactError
from heliostat.records import Run


def known_runs(site: Site, run_ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """The ids behind which there is a run, and the others, both in their order.

    Raises:
        StorageError: the workspace is away.
    """
    known: list[str] = []
    unknown: list[str] = []
    for run_id in run_ids:
        try:
            known.append(run_of(site, run_id).id)
        except ArtifactError:
            unknown.append(run_id)
    return known, unknown


def scores_of(store: Store, runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Metric -> run id -> score, the latest evaluation's of what the run made; only metrics of two runs or
    more, where there are two. Runs of the stage evaluate count with their own figures.

    Raises:
        StoreError: the database is away.
    """
    evaluations = find_runs(store, RunFilter(stages=("evaluate",), statuses=("finished",)))
    found: dict[str, dict[str, float]] = {}
    for run in runs:
        for metric, value in _scores_of(run, evaluations).items():
            found.setdefault(metric, {})[run.id] = value
    least = min(2, len(runs))
    return {metric: values for metric, values in sorted(found.items()) if len(values) >= least}


def difference_from(baseline: float | None, value: float | None) -> float | None:
    """By which part of the baseline a value is above it: 0.05 is five hundredths more; None without both."""
    if baseline is None or value is None or baseline == 0:
        return None
    return (value - baseline) / abs(baseline)


def _scores_of(run: Run, evaluations: Sequence[Run]) -> dict[str, float]:
    """The latest first: an older evaluation says only what no later one has said."""
    if run.stage == "evaluate":
        return dict(run.metrics)
    made = set(run.outputs)
    scores: dict[str, float] = {}
    for evaluation in evaluations:
        if made & set(evaluation.inputs):
            scores = {**evaluation.metrics, **scores}
    return scores

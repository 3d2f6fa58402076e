"""Tune hyperparameters: from a training run with open values to the best of its trials."""

from dataclasses import dataclass

from heliostat.config import Config
from heliostat.errors import TrainingError
from heliostat.locks import note_use
from heliostat.records import Artifact
from heliostat.stage import PartOf, Request, StageRun, find_or_make, local_folder_of
from heliostat.storage import Publication
from heliostat.tracking import read_metrics
from heliostat.tuning.config import TuneConfig
from heliostat.tuning.report import best_trial, write_report
from heliostat.tuning.settings import Settings, Space
from heliostat.tuning.trials import Trials
from heliostat.workspace import Workspace

TRIALS_FOLDER = "trials"


class Sweep(Config):
    """What decides a sweep's result: how it searches, and where it starts from."""

    tune: TuneConfig
    start: Settings


@dataclass(frozen=True)
class SweepInputs:
    """What the trials are applied to. `base` is None where each trial builds its model; then `documents` are
    what a tokenizer is learned from."""

    base: Artifact | None
    dataset: Artifact
    documents: Artifact | None = None


def tune_hyperparameters(
    config: TuneConfig, start: Settings, inputs: SweepInputs, workspace: Workspace, force: bool = False
) -> Artifact:
    """Run the sweep's trials, each a training run of its own, and publish what came of them.

    A sweep that was interrupted goes on: finished trials are kept, those that were going on go on from their
    last checkpoints.

    Returns:
        A report artifact; `facts["best"]` holds the best trial's point, value, settings and what it trained.

    Raises:
        ConfigError: the search space cannot work, or nobody reports the metric.
        StoppedError: told to stop; run again to go on.
        TrainingError: no trial ran to its end.
    """
    space = Space(config, start, workspace)
    space.check()
    parents = tuple(each for each in (inputs.base, inputs.dataset, inputs.documents) if each)
    request = Request("tune", "report", config.name, Sweep(tune=config, start=start), parents)

    def tune(publication: Publication, run: StageRun) -> None:
        trials = Trials(workspace.storage, f"{run.path}/{TRIALS_FOLDER}")
        _run_trials(space, inputs, trials, run, force)
        best = best_trial(config, list(trials))
        if best is None:
            raise TrainingError(_why_none(config, trials))
        facts = write_report(publication.folder, config, trials, space.settings_of(best, trials))
        publication.facts.update(facts | {"tokens_spent": tokens_spent(trials, workspace)})
        value = best.value(config.metric)
        assert value is not None, "a finished trial has reported"
        run.log({f"best/{config.metric}": value, "tokens": float(trials.tokens)})

    return find_or_make(workspace, request, tune, force)


def tokens_spent(trials: Trials, workspace: Workspace) -> int:
    """What all trials were trained on: one that is stopped makes another step until it hears of it."""
    rows = [
        row
        for trial in trials
        if trial.run
        for row in read_metrics(local_folder_of(workspace, f"runs/{trial.run}"))
        if trial.makes(row["step"])
    ]
    return int(sum(row["tokens"] for row in rows))


def settings_of(report: Artifact) -> Settings:
    """The best trial's settings: training with them finds what the trial has trained."""
    return Settings.model_validate(report.facts["best"]["settings"])


def _run_trials(space: Space, inputs: SweepInputs, trials: Trials, run: StageRun, force: bool) -> None:
    from heliostat.tuning.edge import run_trials
    from heliostat.tuning.edge_trial import SweepJob

    job = SweepJob(
        workspace_root=run.workspace.storage.root,
        tracker_uri=run.tracker.uri,
        part_of=PartOf(run.record.id, run.tracking_run_id),
        model=inputs.base,
        documents=inputs.documents,
        dataset=inputs.dataset,
        metric=space.tune.metric,
        force=force,
    )

    def keep(uri: str) -> None:
        """Until the sweep ends: a trial's own process, which noted that it uses the artifact, is gone."""
        path = run.workspace.path_of(uri)
        if path:
            note_use(run.workspace.storage, path)

    for trial in trials:
        if trial.artifact_uri:
            keep(trial.artifact_uri)
    run_trials(space, job, trials, keep)


def _why_none(config: TuneConfig, trials: Trials) -> str:
    failed = [trial for trial in trials if trial.status in ("failed", "refused")]
    if failed:
        return (
            f"sweep {config.name}: no trial ran to its end; trial {failed[0].number}: {failed[0].error}; "
            "what went well is kept, run again to go on"
        )
    return (
        f"sweep {config.name}: the budget ended before any of {sum(1 for _ in trials)} trials made a whole "
        "run; raise tune.budget"
    )

"""What a workspace holds: its models and its runs."""

import difflib

from heliostat.errors import ArtifactError
from heliostat.records import Artifact, Run
from heliostat.stage import read_run
from heliostat.storage import STAGING_PREFIX, find_artifact
from heliostat.workspace import Workspace


def list_models(workspace: Workspace) -> list[Artifact]:
    """The finished models of every kind (base, tuned, quantized), the latest first."""
    found = [find_artifact(workspace.storage, f"models/{name}") for name in _folders(workspace, "models")]
    models = [artifact for artifact in found if artifact is not None]
    return sorted(models, key=lambda artifact: artifact.created_at, reverse=True)


def list_runs(workspace: Workspace) -> list[Run]:
    """The runs on record, the latest first."""
    found = [read_run(workspace, f"runs/{name}") for name in _folders(workspace, "runs")]
    runs = [run for run in found if run is not None]
    return sorted(runs, key=lambda run: run.started_at, reverse=True)


def show_run(workspace: Workspace, run_id: str) -> Run:
    """One run's record.

    Raises:
        ArtifactError: there is no such run; says which one was probably meant.
    """
    known = _folders(workspace, "runs")
    run = read_run(workspace, f"runs/{run_id}") if run_id in known else None
    if run is None:
        close = difflib.get_close_matches(run_id, known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else "'heliostat runs list' names those there are"
        raise ArtifactError(f"{workspace.storage.uri('runs')}: no run '{run_id}'; {hint}")
    return run


def _folders(workspace: Workspace, path: str) -> list[str]:
    return [name for name in workspace.storage.list(path) if not name.startswith((".", STAGING_PREFIX))]

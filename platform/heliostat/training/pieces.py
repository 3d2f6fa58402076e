"""A run made piece by piece, the first of them perhaps by another run that was the same until then."""

import json
from dataclasses import dataclass, replace

from heliostat.errors import TrainingError
from heliostat.stage import StageRun, local_folder_of
from heliostat.tracking import MetricWriter, read_metrics
from heliostat.training.job import TrainingJob

CHECKPOINTS_FOLDER = "checkpoints"
NOTE_NAME = "state.json"
"""Beside a saved state: what it belongs to."""


@dataclass(frozen=True)
class Piece:
    """From behind the step `start`, which the run `after` has saved, to the step `until`."""

    start: int
    until: int
    after: str | None
    """The id of a run in the same workspace; None where the piece begins with the first step."""


def take_up(piece: Piece, job: TrainingJob, run: StageRun, steps: int) -> TrainingJob:
    """What the workers are told to make this piece; a run that begins with it gets the other's history.

    Raises:
        TrainingError: the other run's state of that step is gone.
    """
    if piece.until < steps:
        job = replace(job, pause_after=piece.until)
    if piece.after is None or piece.after == run.record.id:
        return job
    job = replace(job, starts_from=_state_behind(piece, run))
    if not read_metrics(run.local_folder):
        earlier = read_metrics(local_folder_of(run.workspace, f"runs/{piece.after}"))
        rows = {int(row["step"]): row for row in earlier if row["step"] <= piece.start}
        writer = MetricWriter(run.tracker, run.tracking_run_id, run.local_folder)
        writer.write({step: {k: v for k, v in row.items() if k != "step"} for step, row in rows.items()})
        writer.close()
    return job


def _state_behind(piece: Piece, run: StageRun) -> str:
    storage = run.workspace.storage
    folder = f"runs/{piece.after}/{CHECKPOINTS_FOLDER}"
    for name in storage.list(folder):
        note = f"{folder}/{name}/{NOTE_NAME}"
        if storage.exists(note) and json.loads(storage.read_bytes(note))["steps_done"] == piece.start:
            return storage.uri(f"{folder}/{name}")
    raise TrainingError(
        f"{storage.uri(folder)}: the state behind step {piece.start}, which {run.record.id} goes on from, is "
        "gone; start the sweep afresh with --force"
    )

"""A run made piece by piece, the first of them perhaps by another run that was the same until then."""

import json
import logging
from dataclasses import dataclass, replace

from heliostat.stage import StageRun
from heliostat.tracking import METRICS_FILE, MetricWriter, parse_metrics, read_metrics
from heliostat.training.job import TrainingJob

CHECKPOINTS_FOLDER = "checkpoints"
NOTE_NAME = "state.json"
"""Beside a saved state: what it belongs to."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Piece:
    """From behind the step `start`, which the run `after` has made, to the step `until`."""

    start: int
    until: int
    after: str | None = None
    """The id of a run in the same workspace; None where the piece begins with the first step."""
    is_first: bool = True
    """Whether the run that makes it has made none before."""


def take_up(piece: Piece, job: TrainingJob, run: StageRun, steps: int) -> TrainingJob:
    """What the workers are told to make this piece; a run that begins with it gets the other's history.

    A run is what its config says, so where the other's state is gone it is made from the first step, and
    comes to the same.
    """
    if piece.until < steps:
        job = replace(job, pause_after=piece.until)
    if piece.after is None or read_metrics(run.local_folder):
        return job
    state = "" if piece.after == run.record.id else _state_behind(piece, run)
    if not state and piece.after != run.record.id:
        logger.warning(
            "%s: the state of %s behind step %d is gone; it is made again from the first step",
            run.record.id,
            piece.after,
            piece.start,
        )
        return job
    rows = _history(piece, run)
    if rows:
        writer = MetricWriter(run.tracker, run.tracking_run_id, run.local_folder)
        writer.write(rows)
        writer.close()
    return replace(job, starts_from=state)


def _history(piece: Piece, run: StageRun) -> dict[int, dict[str, float]]:
    """The other run's steps before this piece, by their number."""
    storage, path = run.workspace.storage, f"runs/{piece.after}/{METRICS_FILE}"
    if not storage.exists(path):
        return {}
    rows = parse_metrics(storage.read_bytes(path).decode())
    ours = [row for row in rows if row["step"] <= piece.start]
    return {int(row["step"]): {k: v for k, v in row.items() if k not in ("step", "time")} for row in ours}


def _state_behind(piece: Piece, run: StageRun) -> str:
    """The newest, because of one step there may be one that was cut short before it."""
    storage = run.workspace.storage
    folder = f"runs/{piece.after}/{CHECKPOINTS_FOLDER}"
    for name in reversed(storage.list(folder)):
        note = f"{folder}/{name}/{NOTE_NAME}"
        if storage.exists(note) and json.loads(storage.read_bytes(note))["steps_done"] == piece.start:
            return storage.uri(f"{folder}/{name}")
    return ""

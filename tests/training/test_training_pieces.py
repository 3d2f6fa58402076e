"""A run that begins with a piece of another's: its state, its history, and what to do without them."""

import json

import pytest
from small_artifacts import publish_dataset, publish_model

from heliostat.stage import Request, find_or_make
from heliostat.tracking import read_metrics
from heliostat.training.config import TrainConfig
from heliostat.training.job import TrainingJob
from heliostat.training.pieces import Piece, take_up

OTHER = "runs/train-other"


@pytest.fixture
def take(workspace, tiny_model_folder):
    """What `take_up` says inside a run, and the run's folder."""

    def take(piece: Piece, steps: int = 8):
        model = publish_model(workspace, tiny_model_folder)
        dataset = publish_dataset(workspace, tiny_model_folder)
        job, found = TrainingJob(TrainConfig(), model, dataset), []

        def work(publication, run):
            found.extend([take_up(piece, job, run, steps), run.local_folder])
            (publication.folder / "any").write_text("")

        find_or_make(workspace, Request("train", "adapter", "tuned", job.config, (model, dataset)), work)
        return found

    return take


def write_state(workspace, name: str, steps_done: int) -> str:
    path = f"{OTHER}/checkpoints/{name}"
    workspace.storage.write_bytes(f"{path}/state.json", json.dumps({"steps_done": steps_done}).encode())
    return workspace.storage.uri(path)


def write_history(workspace, steps: int) -> None:
    rows = [{"step": step, "time": 7.0, "loss": 1 / step} for step in range(1, steps + 1)]
    workspace.storage.write_bytes(f"{OTHER}/metrics.jsonl", "\n".join(map(json.dumps, rows)).encode())


def test_a_mover_starts_from_the_newest_state_of_that_step_with_the_history_before_it(workspace, take):
    write_history(workspace, 6)
    for name, steps_done in (("checkpoint_1", 4), ("checkpoint_2", 4), ("checkpoint_3", 6)):
        write_state(workspace, name, steps_done)
    job, folder = take(Piece(start=4, until=6, after="train-other"))
    assert job.starts_from == workspace.storage.uri(f"{OTHER}/checkpoints/checkpoint_2")
    assert job.pause_after == 6
    assert [(row["step"], row["loss"]) for row in read_metrics(folder)] == [(n, 1 / n) for n in range(1, 5)]


def test_the_last_piece_has_no_pause_and_the_first_no_state(take):
    job, folder = take(Piece(start=0, until=8))
    assert (job.starts_from, job.pause_after) == ("", None)
    assert read_metrics(folder) == []


def test_without_the_other_runs_state_all_is_made_again_and_that_is_said(workspace, take, caplog):
    write_history(workspace, 6)
    write_state(workspace, "checkpoint_3", 6)
    job, folder = take(Piece(start=4, until=6, after="train-other"))
    assert job.starts_from == ""
    assert read_metrics(folder) == []
    assert "the state of train-other behind step 4 is gone; it is made again from the first" in caplog.text

"""A worker that dies is replaced, and the run goes on from its last checkpoint, on every ZeRO stage."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from heliostat.tracking import read_metrics
from heliostat.training.config import LoraAdapter, TrainConfig
from heliostat.training.run import train_model

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


def kill_a_worker_after(steps: int, folder: Path) -> threading.Thread:
    """SIGKILL one of this session's training workers once so many steps are written."""

    def wait_and_kill() -> None:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline:
            for run in folder.glob("train-*"):
                if len(read_metrics(run)) >= steps:
                    children = psutil.Process().children(recursive=True)
                    workers = [
                        child for child in children if "RayTrainWorker" in child.name() + child.cmdline()[0]
                    ]
                    os.kill(workers[0].pid, signal.SIGKILL)
                    return
            time.sleep(0.05)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


@pytest.mark.parametrize("stage", [2, 3])
def test_a_lost_worker_costs_no_more_than_the_steps_since_the_last_checkpoint(
    ray_cluster, training_inputs, workspace, stage
):
    config = TrainConfig(
        adapter=LoraAdapter(r=4, alpha=8),
        max_steps=250,
        learning_rate=0.01,
        num_workers=2,
        layout={"zero": {"stage": stage}},
        checkpoint={"every_steps": 25},
        max_failures=1,
    )
    runs = Path(workspace.storage.uri("runs"))
    killer = kill_a_worker_after(100, runs)
    artifact = train_model(config, training_inputs.model, training_inputs.dataset, workspace)
    killer.join()
    assert artifact.facts["steps"] == 250
    (run,) = runs.glob("train-*")
    history = read_metrics(run)
    assert [entry["step"] for entry in history] == list(range(1, 251))

"""What a run notices of its workers: that one is slow, that there cannot be one."""

import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from heliostat.errors import ClusterError
from heliostat.tracking import read_metrics
from heliostat.training.config import LoraAdapter, TrainConfig
from heliostat.training.findings import read_findings
from heliostat.training.run import train_model
from heliostat.workspace import Workspace

pytestmark = pytest.mark.ray


def training_workers() -> list[psutil.Process]:
    """This session's."""
    children = psutil.Process().children(recursive=True)
    return [each for each in children if any("RayTrainWorker" in word for word in each.cmdline())]


def run_folder(workspace: Workspace) -> Path | None:
    return next(iter(Path(workspace.storage.uri("runs")).glob("train-*")), None)


def wait_for_steps(workspace: Workspace, steps: int) -> None:
    deadline = time.monotonic() + 240
    while not (folder := run_folder(workspace)) or len(read_metrics(folder)) < steps:
        assert time.monotonic() < deadline, "no steps"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_that_is_held_up_is_found(ray_cluster, training_inputs, workspace):
    config = TrainConfig(
        adapter=LoraAdapter(r=4),
        max_steps=250,
        num_workers=2,
        watch={"straggler": {"steps": 20, "factor": 1.5}},
    )
    done = threading.Event()

    def hold_up() -> None:
        """Let one of the workers run for a fifth of the time only."""
        wait_for_steps(workspace, 20)
        slow = training_workers()[0]
        with suppress(psutil.NoSuchProcess):  # when the run has ended
            while not done.is_set():
                slow.suspend()
                time.sleep(0.04)
                slow.resume()
                time.sleep(0.01)

    thread = threading.Thread(target=hold_up)
    thread.start()
    try:
        train_model(config, training_inputs.model, training_inputs.dataset, workspace)
    finally:
        done.set()
        thread.join()
    (found, *_) = [each for each in read_findings(run_folder(workspace)) if each.kind == "straggler"]
    assert found.step > 20
    assert "worker" in found.message


def test_a_gpu_that_is_not_there_is_missed_at_once(ray_cluster, training_inputs, workspace):
    config = TrainConfig(use_gpu=True)
    with pytest.raises(
        ClusterError, match=r"train.num_workers asks for 1 x 1 CPU and 1 GPU; this cluster has"
    ):
        train_model(config, training_inputs.model, training_inputs.dataset, workspace)
    assert not workspace.storage.list("models")

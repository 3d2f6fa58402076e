"""A run that is killed with SIGKILL and started again has the losses of one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.training.running import history, training_workers

from heliostat.training.config import LoraAdapter, TrainConfig

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

CONFIG = TrainConfig(
    adapter=LoraAdapter(r=4, alpha=8, dropout=0.1),  # dropout, so that the random state counts too
    max_steps=300,
    learning_rate=0.01,
    num_workers=2,
    checkpoint={"every_steps": 25},
)


def start(inputs, root: Path) -> subprocess.Popen:
    program = Path(__file__).with_name("train_once.py")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_ADDRESS")}
    return subprocess.Popen(
        [sys.executable, program, CONFIG.model_dump_json(), inputs.model.uri, inputs.dataset.uri, str(root)],
        env=environment,
    )


def wait_for_steps(root: Path, process: subprocess.Popen, steps: int) -> None:
    deadline = time.monotonic() + 240
    while len(history(root)) < steps:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "no steps"
        time.sleep(0.05)


def test_a_killed_and_resumed_run_has_the_losses_of_an_uninterrupted_one(training_inputs, tmp_path):
    whole = start(training_inputs, tmp_path / "whole")
    assert whole.wait(timeout=280) == 0

    killed = start(training_inputs, tmp_path / "killed")
    at = random.randrange(2 * CONFIG.checkpoint.every_steps, 120)
    print(f"killed at step {at}")
    wait_for_steps(tmp_path / "killed", killed, steps=at)
    workers = training_workers(killed.pid)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    # without their driver they go on for some steps, which may reach the next checkpoint
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert workers
    assert not alive
    ended_at = time.time()
    assert not list((tmp_path / "killed" / "models").glob("*/artifact.json"))
    steps_before = len(history(tmp_path / "killed"))
    assert steps_before < CONFIG.max_steps

    resumed = start(training_inputs, tmp_path / "killed")
    assert resumed.wait(timeout=280) == 0
    record = json.loads(next((tmp_path / "killed" / "runs").glob("train-*/run.json")).read_text())
    assert record["attempts"] == 2

    expected = [entry["loss"] for entry in history(tmp_path / "whole")]
    found = history(tmp_path / "killed")
    assert [entry["step"] for entry in found] == list(range(1, CONFIG.max_steps + 1))
    assert [entry["loss"] for entry in found] == expected
    kept = sum(entry["time"] < ended_at for entry in found)
    assert kept % CONFIG.checkpoint.every_steps == 0
    # the last checkpoint may still have been on its way
    assert kept > steps_before - 2 * CONFIG.checkpoint.every_steps

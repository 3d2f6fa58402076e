"""Training over two hosts of which one is lost: the run goes on with the other."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.training.running import history
from two_hosts import TwoHosts, available, two_hosts

from heliostat.training.config import LoraAdapter, TrainConfig
from heliostat.training.run import train_model
from heliostat.workspace import Workspace

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.lengthy, pytest.mark.timeout(900)]

STEPS, EVERY = 250, 20
CONFIG = TrainConfig(
    adapter=LoraAdapter(r=4, alpha=8),
    layout={"zero": {"stage": 2}},
    max_steps=STEPS,
    learning_rate=0.01,
    num_workers=(1, 2),
    global_batch_size=4,
    checkpoint={"every_steps": EVERY},
    max_failures=3,
)
RECOVERY_SECONDS = 30
"""From the loss to the next step, beside what the run's start took: loading torch, DeepSpeed, the model."""


def lose_by_cutting_off(hosts: TwoHosts) -> None:
    hosts.other.cut_off()


def lose_by_killing_the_raylet(hosts: TwoHosts) -> None:
    (raylet,) = [pid for pid in hosts.other.pids() if psutil.Process(pid).name() == "raylet"]
    os.kill(raylet, signal.SIGKILL)


@pytest.mark.parametrize("lose", [lose_by_cutting_off, lose_by_killing_the_raylet])
def test_a_run_goes_on_with_the_host_that_is_left(training_inputs, whole_run, tmp_path, lose):
    if not available():
        pytest.fail("this test makes network namespaces: run it as root, with iproute2 installed")
    root = tmp_path / "workspace"
    program = Path(__file__).with_name("train_once.py")
    inputs = [training_inputs.model.uri, training_inputs.dataset.uri]
    with two_hosts(tmp_path) as hosts:
        started = time.time()
        driver = hosts.run_on_head([sys.executable, program, CONFIG.model_dump_json(), *inputs, str(root)])
        deadline = time.monotonic() + 240
        while len(history(root)) < 3 * EVERY:
            assert driver.poll() is None, (tmp_path / "driver.log").read_text()[-3000:]
            assert time.monotonic() < deadline, "no steps"
            time.sleep(0.05)
        lose(hosts)
        lost_at, written = time.time(), len(history(root))
        assert driver.wait(timeout=400) == 0, (tmp_path / "driver.log").read_text()[-3000:]
    found = history(root)
    assert [entry["step"] for entry in found] == list(range(1, STEPS + 1))
    alone = [entry for entry in found if entry["num_workers"] == 1]
    assert alone
    assert alone[-1]["step"] == STEPS
    assert written - alone[0]["step"] < EVERY
    start, recovery = found[0]["time"] - started, alone[0]["time"] - lost_at
    print(f"first step after {start:.1f} s; next step {recovery:.1f} s after the loss")
    assert recovery < RECOVERY_SECONDS + start
    assert [entry["loss"] for entry in found] == pytest.approx(whole_run, abs=1e-4)


@pytest.fixture(scope="module")
def whole_run(ray_cluster, training_inputs, tmp_path_factory) -> list[float]:
    """The losses of one worker that nobody disturbs."""
    workspace = Workspace.resolve(str(tmp_path_factory.mktemp("whole")))
    config = CONFIG.model_copy(update={"num_workers": 1})
    train_model(config, training_inputs.model, training_inputs.dataset, workspace)
    return [entry["loss"] for entry in history(workspace)]

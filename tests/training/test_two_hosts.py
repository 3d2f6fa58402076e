"""Training over two hosts of which one is lost: the run goes on with the other."""

import os
import signal
import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path

import psutil
import pytest
from tests.training.running import history
from two_hosts import RAY, TwoHosts, available, two_hosts

from heliostat.training.config import CheckpointConfig, LoraAdapter, TrainConfig
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
NOTICE_SECONDS = 10
"""That a host has left when it is announced to go."""
ANNOUNCED_STEPS = 600
"""More than are made in that time."""
RECOVERY_SECONDS = 30
"""From the loss to the next step, beside what the run's start took: loading torch, DeepSpeed, the model."""


def lose_by_cutting_off(hosts: TwoHosts) -> None:
    hosts.other.cut_off()


def lose_by_killing_the_raylet(hosts: TwoHosts) -> None:
    (raylet,) = [pid for pid in hosts.other.pids() if psutil.Process(pid).name() == "raylet"]
    os.kill(raylet, signal.SIGKILL)


def announce_the_end(hosts: TwoHosts) -> None:
    """As a cloud does before it takes a machine back."""
    reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "taken back"]
    command = [RAY, "drain-node", *reason, "--deadline-remaining-seconds", str(NOTICE_SECONDS)]
    command += ["--node-id", hosts.node_id(hosts.other)]
    drained = hosts.head.start(command, hosts.environment, hosts.folder / "drain.log")
    assert drained.wait(timeout=60) == 0, (hosts.folder / "drain.log").read_text()


def start(config: TrainConfig, hosts: TwoHosts, inputs, root: Path) -> subprocess.Popen:
    program = Path(__file__).with_name("train_once.py")
    named = [inputs.model.uri, inputs.dataset.uri]
    return hosts.run_on_head([sys.executable, program, config.model_dump_json(), *named, str(root)])


def wait_for_steps(steps: int, root: Path, driver: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 240
    while len(history(root)) < steps:
        assert driver.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, "no steps"
        time.sleep(0.05)


def require_namespaces() -> None:
    if not available():
        pytest.fail("this test makes network namespaces: run it as root, with iproute2 installed")


def test_a_host_that_is_announced_to_go_costs_what_was_done_since(training_inputs, tmp_path):
    require_namespaces()
    only_then = CheckpointConfig(every_steps=10_000)
    config = CONFIG.model_copy(update={"checkpoint": only_then, "max_steps": ANNOUNCED_STEPS})
    root, log = tmp_path / "workspace", tmp_path / "driver.log"
    with two_hosts(tmp_path) as hosts:
        # this test's process runs Ray on one machine, where nobody looks for hosts that are to go
        hosts.environment["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "1"
        hosts.environment["RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S"] = "1"
        driver = start(config, hosts, training_inputs, root)
        wait_for_steps(EVERY, root, driver, log)
        told = len(history(root))
        announce_the_end(hosts)
        time.sleep(NOTICE_SECONDS)
        lose_by_cutting_off(hosts)
        assert driver.wait(timeout=400) == 0, log.read_text()[-3000:]
    found = history(root)
    assert [entry["step"] for entry in found] == list(range(1, ANNOUNCED_STEPS + 1))
    saved = next(entry["step"] for entry in found if "checkpoint_seconds" in entry)
    assert told <= saved < ANNOUNCED_STEPS
    assert [entry["num_workers"] for entry in found] == [2] * saved + [1] * (ANNOUNCED_STEPS - saved)


@pytest.mark.parametrize("lose", [lose_by_cutting_off, lose_by_killing_the_raylet])
def test_a_run_goes_on_with_the_host_that_is_left(training_inputs, whole_run, tmp_path, lose):
    require_namespaces()
    root = tmp_path / "workspace"
    with two_hosts(tmp_path) as hosts:
        begun = time.time()
        driver = start(CONFIG, hosts, training_inputs, root)
        wait_for_steps(3 * EVERY, root, driver, tmp_path / "driver.log")
        lose(hosts)
        lost_at, written = time.time(), len(history(root))
        assert driver.wait(timeout=400) == 0, (tmp_path / "driver.log").read_text()[-3000:]
    found = history(root)
    assert [entry["step"] for entry in found] == list(range(1, STEPS + 1))
    alone = [entry for entry in found if entry["num_workers"] == 1]
    assert alone
    assert alone[-1]["step"] == STEPS
    assert written - alone[0]["step"] < EVERY
    first, recovery = found[0]["time"] - begun, alone[0]["time"] - lost_at
    print(f"first step after {first:.1f} s; next step {recovery:.1f} s after the loss")
    assert recovery < RECOVERY_SECONDS + first
    assert [entry["loss"] for entry in found] == pytest.approx(whole_run, abs=1e-4)


def test_a_host_that_comes_back_is_used_again(training_inputs, tmp_path):
    require_namespaces()
    root, log = tmp_path / "workspace", tmp_path / "driver.log"
    config = CONFIG.model_copy(update={"max_steps": 100_000, "max_failures": None})
    with two_hosts(tmp_path) as hosts:
        driver = start(config, hosts, training_inputs, root)
        wait_for_steps(3 * EVERY, root, driver, log)
        lose_by_killing_the_raylet(hosts)
        wait_for_workers(1, root, driver, log)
        hosts.join()
        wait_for_workers(2, root, driver, log)
        driver.send_signal(signal.SIGTERM)
        driver.wait(timeout=120)
    found = history(root)
    assert [entry["step"] for entry in found] == list(range(1, len(found) + 1))
    groups = [int(workers) for workers, _ in groupby(entry["num_workers"] for entry in found)]
    assert groups == [2, 1, 2]


def wait_for_workers(number: int, root: Path, driver: subprocess.Popen, log: Path) -> None:
    """Until the newest step was made by so many. Ray looks for new hosts once a minute."""
    deadline = time.monotonic() + 240
    while history(root)[-1]["num_workers"] != number:
        assert driver.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, f"no step of {number} worker(s)"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def whole_run(ray_cluster, training_inputs, tmp_path_factory) -> list[float]:
    """The losses of one worker that nobody disturbs."""
    workspace = Workspace.resolve(str(tmp_path_factory.mktemp("whole")))
    config = CONFIG.model_copy(update={"num_workers": 1})
    train_model(config, training_inputs.model, training_inputs.dataset, workspace)
    return [entry["loss"] for entry in history(workspace)]

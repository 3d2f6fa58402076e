"""A sweep whose driver is killed with SIGKILL repeats no finished trial and ends with the same table."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from heliostat.training.config import LoraAdapter, TrainConfig
from heliostat.tuning.config import TuneConfig

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

TRAIN = TrainConfig(
    adapter=LoraAdapter(r=4, dropout=0.1), max_steps=24, micro_batch_size=2, checkpoint={"every_steps": 8}
)
SWEEP = {
    "search_space": {"train.learning_rate": [0.001, 0.01, 0.05], "train.adapter.r": [4, 8]},
    "held_out": {"split": "test", "max_sequences": 4, "every_steps": 6},
}
ONE_BY_ONE = {
    "scheduler": {"kind": "asha", "grace_steps": 6, "reduction_factor": 2},
    "budget": {"max_concurrent": 1},  # what ASHA decides depends on who is first; so it is the same each time
}


def start(tune, inputs, root: Path) -> subprocess.Popen:
    program = Path(__file__).with_name("sweep_once.py")
    config = TuneConfig.model_validate(SWEEP | tune).model_dump_json()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_ADDRESS")}
    arguments = [
        config,
        TRAIN.model_dump_json(),
        inputs.base.uri,
        inputs.dataset.uri,
        str(root),
    ]
    return subprocess.Popen([sys.executable, program, *arguments], env=environment)


def trials(root: Path) -> list[dict]:
    return [json.loads(file.read_text()) for file in sorted(root.glob("runs/tune-*/trials/*.json"))]


def table(root: Path) -> str:
    (report,) = root.glob("reports/*/report.md")
    return report.read_text()


def records(root: Path) -> dict[str, dict]:
    return {file.parent.name: json.loads(file.read_text()) for file in root.glob("runs/train-*/run.json")}


def num_ended(root: Path) -> int:
    return sum(trial["status"] != "running" for trial in trials(root))


def wait_until(happened: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 400
    while not happened():
        assert process.poll() is None, "the sweep ended too early"
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.05)


@pytest.mark.lengthy
@pytest.mark.parametrize("tune", [{}, ONE_BY_ONE], ids=["two-at-once", "asha"])
def test_a_killed_sweep_goes_on_and_ends_with_the_table_of_one_that_was_not(tune, sweep_inputs, tmp_path):
    whole = start(tune, sweep_inputs, tmp_path / "whole")
    assert whole.wait(timeout=400) == 0

    killed = start(tune, sweep_inputs, tmp_path / "killed")
    wait_until(lambda: num_ended(tmp_path / "killed") >= 3, killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    ended = [trial for trial in trials(tmp_path / "killed") if trial["status"] != "running"]
    assert len(ended) < 6
    before = records(tmp_path / "killed")

    resumed = start(tune, sweep_inputs, tmp_path / "killed")
    assert resumed.wait(timeout=400) == 0
    after = records(tmp_path / "killed")
    for trial in ended:
        assert after[trial["run"]] == before[trial["run"]]
    assert table(tmp_path / "killed") == table(tmp_path / "whole")


def test_a_sweep_that_is_told_to_stop_has_its_trials_save_their_states(sweep_inputs, tmp_path):
    told = start({}, sweep_inputs, tmp_path)
    wait_until(lambda: any(trial["reports"] for trial in trials(tmp_path)), told)
    told.terminate()
    assert told.wait(timeout=150) != 0
    assert {record["status"] for record in records(tmp_path).values()} <= {"stopped", "finished"}
    assert "stopped as told" in next(tmp_path.glob("runs/tune-*/run.json")).read_text()
    running = [trial for trial in trials(tmp_path) if trial["status"] == "running"]
    assert running

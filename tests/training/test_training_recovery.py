"""A worker that dies is replaced, and the run goes on from its last checkpoint, on every ZeRO stage."""

import random
import time

import pytest
from tests.training.running import at_step, history, training_workers

from heliostat.training.config import LoraAdapter, TrainConfig
from heliostat.training.run import train_model
from heliostat.workspace import Workspace

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

STEPS, EVERY = 250, 25
RECOVERY_SECONDS = 30
"""From the loss to the next step, beside loading torch, DeepSpeed and the model, as long as at the start."""


@pytest.mark.lengthy
@pytest.mark.parametrize("stage", [2, 3])
def test_a_lost_worker_costs_no_more_than_the_steps_since_the_last_checkpoint(
    ray_cluster, training_inputs, workspace, tmp_path, stage
):
    config = TrainConfig(
        adapter=LoraAdapter(r=4, alpha=8, dropout=0.1),
        max_steps=STEPS,
        learning_rate=0.01,
        num_workers=2,
        layout={"zero": {"stage": stage}},
        checkpoint={"every_steps": EVERY},
        max_failures=1,
    )
    inputs = training_inputs.model, training_inputs.dataset
    whole = Workspace.resolve(str(tmp_path / "whole"))
    train_model(config, *inputs, whole)

    lost = []

    def kill() -> None:
        lost.append((len(history(workspace)), time.time()))
        random.choice(training_workers()).kill()

    begun = time.time()
    killer = at_step(workspace, random.randrange(2 * EVERY, 180), kill)
    artifact = train_model(config, *inputs, workspace)
    killer.join()
    assert artifact.facts["steps"] == STEPS
    found = history(workspace)
    assert [entry["step"] for entry in found] == list(range(1, STEPS + 1))
    assert [entry["loss"] for entry in found] == [entry["loss"] for entry in history(whole)]

    ((steps_before, lost_at),) = lost
    times = [entry["time"] for entry in found]
    kept = max(range(1, STEPS), key=lambda step: times[step] - times[step - 1])  # the pause
    loading, recovery = times[0] - begun, times[kept] - lost_at
    print(f"killed after step {steps_before}, went on behind step {kept} {recovery:.1f} s later")
    assert kept % EVERY == 0
    assert kept > steps_before - 2 * EVERY, "the last checkpoint may still have been on its way"
    assert recovery < RECOVERY_SECONDS + loading

"""A worker that dies is replaced, and the run goes on from its last checkpoint, on every ZeRO stage."""

import pytest
from tests.training.running import at_step, history, training_workers

from heliostat.training.config import LoraAdapter, TrainConfig
from heliostat.training.run import train_model

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


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
    killer = at_step(workspace, 100, lambda: training_workers()[0].kill())
    artifact = train_model(config, training_inputs.model, training_inputs.dataset, workspace)
    killer.join()
    assert artifact.facts["steps"] == 250
    entries = history(workspace)
    assert [entry["step"] for entry in entries] == list(range(1, 251))

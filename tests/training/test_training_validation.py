"""While a run goes on, a task of its own scores what is trained so far, and shows what it writes."""

import json
from pathlib import Path

import pytest

from heliostat.errors import DataError
from heliostat.stage import Request
from heliostat.storage import artifact_folder
from heliostat.tracking import Tracker
from heliostat.training.config import FullAdapter, LoraAdapter, TrainConfig, ValidationConfig
from heliostat.training.findings import read_findings
from heliostat.training.run import train_model
from heliostat.workspace import Workspace

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    "adapter", [LoraAdapter(r=4, alpha=8), pytest.param(FullAdapter(), marks=pytest.mark.lengthy)]
)
def test_checkpoints_are_scored_beside_the_training_and_the_best_is_kept(
    ray_cluster, training_inputs, workspace, adapter
):
    config = TrainConfig(
        adapter=adapter,
        max_steps=12,
        learning_rate=0.01,
        micro_batch_size=2,
        validation={"every_steps": 4, "split": "test", "max_sequences": 6, "sample_tokens": 8},
    )
    artifact = train_model(config, training_inputs.model, training_inputs.dataset, workspace)
    (run,) = Path(workspace.storage.uri("runs")).glob("train-*")
    reports = [json.loads(file.read_text()) for file in sorted((run / "samples").glob("*.json"))]
    assert [report["step"] for report in reports] == [4, 8, 12]
    losses = [report["validation_loss"] for report in reports]
    assert losses[-1] < losses[0]
    record = json.loads((run / "run.json").read_text())
    tracked = Tracker.of(workspace).history(record["tracking_run_id"], "validation_loss")
    assert tracked == list(zip((4, 8, 12), losses, strict=True))
    samples = reports[-1]["samples"]
    assert len(samples) == 2
    assert all(sample["prompt"].startswith("<|im_start|>user") for sample in samples)
    assert all(sample["written"] for sample in samples)
    assert (artifact_folder(artifact) / "model.safetensors").exists()


def test_a_validation_that_cannot_be_is_refused_and_one_that_fails_is_told(
    ray_cluster, training_inputs, workspace
):
    config = TrainConfig(adapter=LoraAdapter(r=4), max_steps=4, validation={"every_steps": 2})
    with pytest.raises(DataError, match="the 'validation' split is empty"):
        train_model(config, training_inputs.model, training_inputs.dataset, workspace)

    said = {"every_steps": 2, "split": "test"}
    config = config.model_copy(update={"validation": ValidationConfig.model_validate(said)})
    # a file where the samples' folder is to be
    samples = Path(workspace.storage.uri("runs")) / run_name(config, training_inputs) / "samples"
    samples.parent.mkdir(parents=True)
    samples.touch()
    train_model(config, training_inputs.model, training_inputs.dataset, workspace)
    found = read_findings(samples.parent)
    assert [each.kind for each in found] == ["validation"] * 2
    assert "training goes on" in found[0].message
    assert len(found[0].message.splitlines()) == 1


def run_name(config, inputs) -> str:
    """That the stage will give its run."""
    return (
        Workspace.resolve("x")
        .run_path(
            "train", Request("train", "adapter", config.name, config, (inputs.model, inputs.dataset)).key
        )
        .rpartition("/")[2]
    )


@pytest.mark.lengthy
@pytest.mark.parametrize("zero_stage", [0, 3])
def test_workers_that_score_say_what_a_task_says(ray_cluster, training_inputs, tmp_path, zero_stage):
    found = []
    for number, validation in enumerate(({"by": "task"}, {"by": "workers"})):
        workspace = Workspace.resolve(str(tmp_path / str(number)))
        config = TrainConfig(
            adapter=LoraAdapter(r=4, alpha=8),
            max_steps=5,
            learning_rate=0.01,
            num_workers=2,
            micro_batch_size=2,
            layout={"zero": {"stage": zero_stage}},
            # five sequences in batches of two: one worker has a batch more than the other
            validation={"at_steps": [2, 3], "split": "test", "max_sequences": 5, "num_samples": 0}
            | validation,
        )
        train_model(config, training_inputs.model, training_inputs.dataset, workspace)
        (run,) = Path(workspace.storage.uri("runs")).glob("train-*")
        tracking_run_id = json.loads((run / "run.json").read_text())["tracking_run_id"]
        found.append(dict(Tracker.of(workspace).history(tracking_run_id, "validation_loss")))
    assert list(found[0]) == [2, 3, 5]
    assert found[1] == pytest.approx(found[0], abs=1e-5)

"""Training on a real Ray cluster with DeepSpeed: parity between layouts, records, bad input."""

import json

import pytest
from safetensors.numpy import load_file
from small_artifacts import publish_dataset

from heliostat.errors import ClusterError, DataError
from heliostat.models.added_tokens import ADDED_TOKENS, add_tokens
from heliostat.models.loading import load_model
from heliostat.storage import artifact_folder, open_artifact
from heliostat.tracking import Tracker, read_metrics
from heliostat.training.config import LoraAdapter, TrainConfig
from heliostat.training.run import train_model

pytestmark = pytest.mark.ray

LORA = LoraAdapter(r=8, alpha=16, target_modules=("q_proj", "v_proj", "up_proj", "down_proj"))


def losses(config, inputs, workspace):
    artifact = train_model(config, inputs.model, inputs.dataset, workspace)
    (run,) = [path for path in workspace.storage.list("runs") if path.startswith("train-")]
    history = read_metrics(artifact_folder(artifact).parent.parent / "runs" / run)
    return artifact, [entry["loss"] for entry in history]


def test_lora_learns_and_leaves_a_merged_model_an_adapter_a_run_and_event_files(
    ray_cluster, training_inputs, workspace
):
    config = TrainConfig(adapter=LORA, max_steps=8, learning_rate=0.1, micro_batch_size=8)
    artifact, history = losses(config, training_inputs, workspace)
    assert len(history) == 8
    assert history[-1] < history[0] - 0.1
    assert artifact.facts["last_loss"] == history[-1]
    merged = load_model(artifact_folder(artifact))
    base = load_file(artifact_folder(training_inputs.model) / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    assert (merged.state_dict()[name].numpy() != base[name]).any()
    adapter_name = artifact.parents[0]
    (adapter_folder,) = [
        p
        for p in workspace.storage.list("models")
        if (open_artifact(workspace.storage.uri(f"models/{p}"), ("adapter", "model")).id == adapter_name)
    ]
    files = workspace.storage.list(f"models/{adapter_folder}")
    assert "adapter_model.safetensors" in files
    assert "tokenizer.json" in files
    (run,) = [path for path in workspace.storage.list("runs") if path.startswith("train-")]
    record = json.loads(workspace.storage.read_bytes(f"runs/{run}/run.json"))
    assert record["status"] == "finished"
    assert [n for n in workspace.storage.list(f"runs/{run}/tensorboard") if "tfevents" in n]
    tracked = Tracker.of(workspace).history(record["tracking_run_id"], "loss")
    assert [value for _, value in tracked] == history


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage",
    [*(pytest.param(stage, marks=pytest.mark.lengthy) for stage in (0, 1, 2)), 3],
)
def test_two_workers_have_the_losses_of_one(
    ray_cluster, training_inputs, workspace, one_worker_losses, stage
):
    config = TrainConfig(
        adapter=LORA,
        max_steps=20,
        learning_rate=0.01,
        num_workers=2,
        micro_batch_size=2,
        layout={"zero": {"stage": stage}},
    )
    _, history = losses(config, training_inputs, workspace)
    assert history == pytest.approx(one_worker_losses, abs=1e-4)


@pytest.fixture(scope="module")
def one_worker_losses(ray_cluster, training_inputs, tmp_path_factory):
    from heliostat.workspace import Workspace

    workspace = Workspace.resolve(str(tmp_path_factory.mktemp("one-worker")))
    config = TrainConfig(
        adapter=LORA, max_steps=20, learning_rate=0.01, micro_batch_size=2, gradient_accumulation_steps=2
    )
    return losses(config, training_inputs, workspace)[1]


@pytest.mark.slow
def test_all_parameters_can_be_trained_with_zero_3(ray_cluster, training_inputs, workspace):
    config = TrainConfig(
        adapter={"kind": "full"},
        max_steps=4,
        learning_rate=0.01,
        num_workers=2,
        layout={"zero": {"stage": 3}},
    )
    artifact, history = losses(config, training_inputs, workspace)
    assert history[-1] < history[0]
    trained = load_model(artifact_folder(artifact)).state_dict()
    base = load_file(artifact_folder(training_inputs.model) / "model.safetensors")
    assert set(base) == set(trained)
    assert all((trained[name].numpy() != base[name]).any() for name in base if "proj" in name)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_added_tokens_are_learned_beside_lora_on_two_workers(ray_cluster, training_inputs, workspace, stage):
    model = add_tokens(training_inputs.model, ("<|mirror|>",), workspace)
    dataset = publish_dataset(workspace, artifact_folder(model), count=24)
    config = TrainConfig(
        adapter=LORA, max_steps=2, learning_rate=0.01, num_workers=2, layout={"zero": {"stage": stage}}
    )
    trained = load_file(artifact_folder(train_model(config, model, dataset, workspace)) / "model.safetensors")
    base = load_file(artifact_folder(model) / "model.safetensors")
    (new,) = model.facts[ADDED_TOKENS]
    changed = (trained["lm_head.weight"] != base["lm_head.weight"]).any(axis=1)
    assert changed.nonzero()[0].tolist() == [new]


def test_more_workers_than_the_cluster_can_ever_give_are_refused(ray_cluster, training_inputs, workspace):
    config = TrainConfig(num_workers=64)
    with pytest.raises(ClusterError, match=r"train.num_workers asks for 64 x 1 CPU; this cluster has 2 CPU"):
        train_model(config, training_inputs.model, training_inputs.dataset, workspace)
    assert workspace.storage.list("models") == [] or not any(
        name.startswith("tuned") for name in workspace.storage.list("models")
    )


def test_a_dataset_of_another_tokenizer_is_refused(training_inputs, workspace):
    other = training_inputs.dataset.model_copy(update={"facts": {"tokenizer": "another"}})
    with pytest.raises(DataError, match="was tokenized with another tokenizer"):
        train_model(TrainConfig(), training_inputs.model, other, workspace)

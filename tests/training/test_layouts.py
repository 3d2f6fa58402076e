"""A model that is cut over workers learns what it learns in one piece, and is put together again."""

from pathlib import Path

import pytest
from small_artifacts import publish_dataset, publish_model
from small_models import small_deepseek, small_llama

from heliostat.models.loading import load_model
from heliostat.storage import artifact_folder
from heliostat.tracking import read_metrics
from heliostat.training.config import TrainConfig
from heliostat.training.run import train_model
from heliostat.workspace import Workspace

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 6
CHANGE = {"after_step": 2, "learning_rate": 0.001, "weight_decay": 30.0}  # whom it misses is a tenth larger
MODELS = {
    "llama": lambda folder: small_llama(folder, num_hidden_layers=4),
    "tied": lambda folder: small_llama(folder, num_hidden_layers=4, tie_word_embeddings=True),
    "deepseek": small_deepseek,
}


@pytest.fixture(scope="module")
def trained(ray_cluster, tmp_path_factory):
    """A function from a model's name, a number of workers and a layout to the losses and the weights."""
    inputs, found = {}, {}

    def train(model: str, num_workers: int, layout: dict):
        if model not in inputs:
            root = tmp_path_factory.mktemp(model)
            workspace = Workspace.resolve(str(root / "inputs"))
            folder = MODELS[model](root / "model")
            inputs[model] = publish_model(workspace, folder), publish_dataset(workspace, folder, count=40)
        if (key := (model, num_workers, str(layout))) not in found:
            config = TrainConfig(
                adapter={"kind": "full"},
                layout=layout,
                num_workers=num_workers,
                global_batch_size=4,
                max_steps=STEPS,
                learning_rate=0.003,
                changes=[CHANGE],
                watch={"layer_norms_every_steps": 3},
            )
            workspace = Workspace.resolve(str(tmp_path_factory.mktemp("run")))
            artifact = train_model(config, *inputs[model], workspace)
            (run,) = Path(workspace.storage.uri("runs")).glob("train-*")
            history = read_metrics(run)
            losses = [entry["loss"] for entry in history]
            losses += [entry["expert_entropy"] for entry in history if "expert_entropy" in entry]
            losses += [entry["parameter_norm"] / 100 for entry in history if "parameter_norm" in entry]
            found[key] = losses, load_model(artifact_folder(artifact)).state_dict()
        return found[key]

    return train


CASES = [
    ("tied", {"tensor_parallel": 2}),
    ("tied", {"pipeline_parallel": 2, "activation_checkpointing": True}),
    ("tied", {"sequence_parallel": 2}),
    ("deepseek", {"expert_parallel": 2, "zero": {"stage": 1}}),
]
MORE = [  # each more than a minute; `make bench-layouts` has them all
    ("llama", {"tensor_parallel": 2, "zero": {"stage": 1}}),
    ("llama", {"pipeline_parallel": 2, "zero": {"stage": 1}}),
    ("deepseek", {"zero": {"stage": 3}, "activation_checkpointing": True}),
    ("deepseek", {"sequence_parallel": 2, "zero": {"stage": 3}, "activation_checkpointing": True}),
]


@pytest.mark.parametrize(
    ("model", "layout"), [*CASES, *(pytest.param(*case, marks=pytest.mark.lengthy) for case in MORE)]
)
def test_losses_and_weights_are_those_of_one_worker(trained, model, layout):
    losses, weights = trained(model, 2, layout)
    expected_losses, expected = trained(model, 1, {})
    assert len(losses) >= STEPS + 2, "the norms of the weights are there"
    assert losses == pytest.approx(expected_losses, abs=1e-4)
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (weights[name] - tensor).abs().max() < 1e-3, name
    assert losses[STEPS - 1] < losses[0]

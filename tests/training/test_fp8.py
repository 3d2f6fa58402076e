"""Products in 8 bits come near those of bfloat16, in the layers that take it and no others."""

from pathlib import Path

import pytest
import torch
from small_artifacts import pack
from small_models import small_deepseek, small_llama

from heliostat.errors import ConfigError, TrainingError
from heliostat.models.loading import load_model
from heliostat.models.scoring import summed_loss, to_tensors
from heliostat.storage import artifact_folder
from heliostat.tokenized import collate
from heliostat.tracking import read_metrics
from heliostat.training.config import TrainConfig
from heliostat.training.fp8 import require_fp8, use_fp8
from heliostat.training.run import train_model

SIZES = {"hidden_size": 64, "intermediate_size": 128}


@pytest.mark.heavy
def test_losses_and_gradients_come_near_those_of_bfloat16(tmp_path):
    folder = small_llama(tmp_path, **SIZES)
    batch = to_tensors(collate(pack(folder, count=8, max_sequence_length=128)[:2], padding_id=2))
    exact, rounded = load_model(folder, "bfloat16"), load_model(folder, "bfloat16")
    assert use_fp8(rounded) == 7 * rounded.config.num_hidden_layers
    losses = [summed_loss(model, batch) for model in (exact, rounded)]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.01)
    assert losses[1].item() != losses[0].item(), "it does round"
    for loss in losses:
        loss.backward()
    names = [name for name, _ in exact.named_parameters()]
    assert [name for name, _ in rounded.named_parameters()] == names
    for name, one, other in zip(names, exact.parameters(), rounded.parameters(), strict=True):
        one, other = one.grad.float().flatten(), other.grad.float().flatten()
        assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.9, name


@pytest.mark.heavy
def test_routers_and_heads_keep_bfloat16(tmp_path):
    model = load_model(small_deepseek(tmp_path), "bfloat16")
    use_fp8(model)
    kinds = {name.rpartition(".")[2]: type(module).__name__ for name, module in model.named_modules()}
    assert kinds["lm_head"] == "Linear"
    assert "Float8" not in kinds["gate"]
    assert kinds["o_proj"] == "Float8Linear"


@pytest.mark.heavy
def test_a_model_of_odd_sizes_is_refused(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(24, 40)).bfloat16()
    with pytest.raises(ConfigError, match="multiples of 16, and this model has none; the nearest is bf16"):
        use_fp8(model)


def test_a_gpu_without_it_is_refused():
    require_fp8("NVIDIA H100", (9, 0))
    with pytest.raises(TrainingError, match=r"or more, and NVIDIA A100 has 8\.0; the nearest is bf16"):
        require_fp8("NVIDIA A100", (8, 0))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.lengthy
def test_a_run_in_8_bits_learns_and_publishes_a_model_like_any_other(ray_cluster, training_inputs, workspace):
    config = TrainConfig(
        adapter={"kind": "full"},
        layout={"precision": "fp8", "zero": {"stage": 1}},
        num_workers=2,
        max_steps=12,
        learning_rate=0.003,
    )
    artifact = train_model(config, training_inputs.model, training_inputs.dataset, workspace)
    (run,) = Path(workspace.storage.uri("runs")).glob("train-*")
    losses = [entry["loss"] for entry in read_metrics(run)]
    assert losses[-1] < losses[0] - 0.5
    load_model(artifact_folder(artifact))

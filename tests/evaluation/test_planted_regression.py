"""A damaged copy of a trained model is found by comparing; the model itself, drawn from again, is not."""

import json
import shutil

import numpy as np
import pytest
from small_artifacts import pack, publish_dataset, publish_model

from heliostat.cli.app import execute
from heliostat.evaluation.comparison import compare_reports
from heliostat.evaluation.config import EvaluateConfig
from heliostat.evaluation.gate import SIGNIFICANT
from heliostat.evaluation.metrics import ratio
from heliostat.evaluation.paired import compare_pairs
from heliostat.evaluation.run import evaluate_model
from heliostat.models.loading import load_model
from heliostat.models.scoring import labelled_logits, summed_loss, to_tensors
from heliostat.tokenized import collate

CONFIG = EvaluateConfig(max_tokens=100_000)
pytestmark = [pytest.mark.heavy, pytest.mark.slow]


@pytest.fixture(scope="module")
def trained(tiny_model_folder, tmp_path_factory):
    """The tiny model after some seconds of learning the conversations."""
    import torch

    folder = shutil.copytree(tiny_model_folder, tmp_path_factory.mktemp("trained") / "model")
    model = load_model(folder).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = to_tensors(collate(pack(folder, 120, 256), 2))
    for _ in range(40):
        loss = summed_loss(model, batch) / (batch["labels"] >= 0).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 4.5  # it began at 6.4, which is chance
    model.save_pretrained(folder)
    return folder


def damaged(folder, target):
    """To one of its weight matrices comes noise of the size of its weights."""
    import torch

    copy = shutil.copytree(folder, target)
    model = load_model(copy)
    with torch.no_grad():
        weight = model.model.layers[1].mlp.down_proj.weight
        weight.add_(torch.randn(weight.shape, generator=torch.manual_seed(1)) * weight.std())
    model.save_pretrained(copy)
    return copy


@pytest.mark.ray
def test_a_damaged_copy_is_found_and_an_unharmed_one_is_not(
    ray_cluster, workspace, trained, tmp_path, capsys
):
    dataset = publish_dataset(workspace, trained, count=120, max_sequence_length=256)
    models = {
        "production": publish_model(workspace, trained, "production"),
        "copy": publish_model(workspace, shutil.copytree(trained, tmp_path / "copy"), "copy"),
        "damaged": publish_model(workspace, damaged(trained, tmp_path / "damaged"), "damaged"),
    }
    report = evaluate_model(CONFIG, models, dataset, workspace)
    for copied in compare_reports(report, report, "production", "copy"):
        assert (copied.difference, copied.p_value, copied.wins, copied.losses) == (0, 1, 0, 0)
    for found in compare_reports(report, report, "production", "damaged"):
        assert found.p_value < SIGNIFICANT
        assert found.worse_by > 0
        assert found.losses > found.wins

    command = ["evaluate", "compare", report.id, report.id, "--workspace", workspace.storage.root]
    command += ["--model-a", "production", "--fail-if-worse"]
    assert execute([*command, "--model-b", "copy"]) == 0
    assert execute([*command, "--model-b", "damaged"]) == 1
    shown = capsys.readouterr().out
    assert "the largest differences in perplexity" in shown
    page = tmp_path / "page.html"
    assert execute([*command, "--model-b", "damaged", "--json", "--html", str(page)]) == 1
    assert "damaged against production" in page.read_text()
    (first, *_) = json.loads(capsys.readouterr().out)
    assert first["metric"] == "perplexity"
    assert first["p_value"] < SIGNIFICANT


def test_two_draws_of_one_models_answers_are_not_called_different_95_times_in_100(trained):
    """Next tokens drawn from the model's own probabilities, right or wrong, twice; 100 times over."""
    import torch

    batch = to_tensors(collate(pack(trained, 120, 256), 2))
    with torch.inference_mode():
        logits, labels = labelled_logits(load_model(trained).eval(), batch)
        there = labels >= 0
        chance = torch.softmax(logits[there], dim=-1).gather(1, labels[there][:, None])[:, 0].numpy()
    chance = chance[:: len(chance) // 300][:300]
    generator = np.random.default_rng(0)
    different = 0
    for _ in range(100):
        a, b = (np.stack([generator.random(300) < chance, np.ones(300)], axis=1).astype(float) for _ in "ab")
        different += compare_pairs(a, b, ratio).p_value < SIGNIFICANT
    assert 0.02 < chance.mean() < 0.98
    assert different <= 5

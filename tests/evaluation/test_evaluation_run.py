"""Scoring several models on the cluster, side by side, into one report."""

import json

import pytest
from small_artifacts import publish_dataset, publish_model

from heliostat.config import Resources
from heliostat.errors import ClusterError, DataError, ModelError
from heliostat.evaluation.config import EvaluateConfig
from heliostat.evaluation.run import evaluate_model
from heliostat.models.loading import load_model
from heliostat.models.perplexity import Limits, measure_perplexity
from heliostat.storage import artifact_folder
from heliostat.tokenized import TokenizedDataset
from heliostat.tracking import Tracker

pytestmark = pytest.mark.ray
CONFIG = EvaluateConfig(max_tokens=800)


@pytest.fixture
def dataset(workspace, tiny_model_folder):
    return publish_dataset(workspace, tiny_model_folder)


@pytest.fixture
def base(workspace, tiny_model_folder):
    return publish_model(workspace, tiny_model_folder, "base")


@pytest.fixture
def other(workspace, tiny_model_folder, tmp_path):
    """A model with the same tokenizer and other weights."""
    import shutil

    import torch

    folder = shutil.copytree(tiny_model_folder, tmp_path / "other")
    model = load_model(folder)
    with torch.no_grad():
        model.lm_head.weight.mul_(3)
    model.save_pretrained(folder)
    return publish_model(workspace, folder, "other")


def test_each_model_gets_the_perplexity_it_has_by_itself(ray_cluster, workspace, dataset, base, other):
    models = {"base": base, "other": other}
    report = evaluate_model(CONFIG, models, dataset, workspace)
    assert report.kind == "report"
    split = TokenizedDataset(artifact_folder(dataset), "test")
    for name, model in models.items():
        alone = measure_perplexity(artifact_folder(model), split, Limits(max_tokens=800))
        assert report.facts["perplexity"][name] == pytest.approx(alone.perplexity, rel=1e-6)
        assert report.facts["num_labels"] == alone.num_labels
        assert report.facts["tokens"] == alone.num_tokens <= 800
    assert report.facts["perplexity"]["base"] != report.facts["perplexity"]["other"]
    written = json.loads((artifact_folder(report) / "report.json").read_text())
    assert written["perplexity"] == report.facts["perplexity"]
    assert evaluate_model(CONFIG, models, dataset, workspace) == report


def test_metrics_reach_the_tracker_under_the_models_name(ray_cluster, workspace, dataset, base):
    report = evaluate_model(CONFIG, {"base": base}, dataset, workspace)
    run = next(name for name in workspace.storage.list("runs") if name.startswith("evaluate-"))
    record = json.loads(workspace.storage.read_bytes(f"runs/{run}/run.json"))
    history = Tracker.of(workspace).history(record["tracking_run_id"], "perplexity/base")
    assert history == [(0, pytest.approx(report.facts["perplexity"]["base"]))]


def test_another_tokenizer_is_refused_before_any_work(workspace, dataset, base):
    stranger = base.model_copy(update={"facts": {"tokenizer": "0" * 64}})
    with pytest.raises(DataError, match="another tokenizer than that of") as caught:
        evaluate_model(CONFIG, {"base": base, "tuned": stranger}, dataset, workspace)
    assert "\n" not in str(caught.value)
    assert workspace.storage.list("runs") == []


def test_a_broken_model_is_one_line_and_no_report(ray_cluster, workspace, dataset, base):
    (artifact_folder(base) / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError) as caught:
        evaluate_model(CONFIG, {"base": base}, dataset, workspace)
    assert type(caught.value) is ModelError
    assert "\n" not in str(caught.value)
    assert [name for name in workspace.storage.list("reports") if not name.startswith(".lock")] == []


def test_an_empty_split_is_refused(ray_cluster, workspace, dataset, base):
    with pytest.raises(DataError, match="the 'validation' split is empty"):
        evaluate_model(EvaluateConfig(split="validation"), {"base": base}, dataset, workspace)


def test_more_than_the_cluster_has_fails_at_once(ray_cluster, workspace, dataset, base):
    config = EvaluateConfig(resources=Resources(num_cpus=64))
    with pytest.raises(ClusterError, match=r"evaluate\.resources asks for 1 x 64 CPU"):
        evaluate_model(config, {"base": base}, dataset, workspace)

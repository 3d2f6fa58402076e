"""Pre-training from nothing on a real Ray, in stages, with a tokenizer of its own."""

from pathlib import Path

import pytest

from heliostat.pipeline import run_pipeline
from heliostat.recipe import Recipe
from heliostat.records import Artifact

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.lengthy]
ROOT = Path(__file__).parent.parent.parent
RECIPE = ROOT / "jobs" / "recipes" / "pretrain_moe.yaml"


def artifacts(workspace, pattern: str) -> list[Artifact]:
    found = Path(workspace.storage.root).glob(f"{pattern}/artifact.json")
    return [Artifact.model_validate_json(file.read_text()) for file in sorted(found)]


@pytest.mark.timeout(900)
def test_each_stage_starts_from_the_one_before_it_and_is_found_again(ray_cluster, workspace, capsys):
    short = ("max_tokens=4096",)
    overrides = tuple(f"pretrain.{stage}.{each}" for stage in range(3) for each in short)
    sizes = ("model.hidden_size=32", "model.expert_hidden_size=16", "model.num_layers=2", "train.max_steps=2")
    few = (
        "pretrain.0.data.sources.0.max_documents=200",
        "pretrain.1.data.sources.0.max_documents=200",
        "pretrain.2.data.sources.0.max_documents=200",
        "data.sources.0.max_documents=200",
    )
    recipe = Recipe.load(RECIPE, (*overrides, *sizes, *few))
    run_pipeline(recipe, workspace)
    first = capsys.readouterr().out
    for title in (
        "[1/11] documents",
        "[2/11] model",
        "[3/11] language data",
        "[8/11] domain",
        "[11/11] eval",
    ):
        assert title in first
    by_id = {each.id: each for each in artifacts(workspace, "models/*")}
    (model,) = [each for each in by_id.values() if Path(each.uri).name.startswith("moe-10m-answers")]
    line = []
    while model:
        line.append(Path(model.uri).name.rpartition("-")[0])
        model = next((by_id[parent] for parent in model.parents if parent in by_id), None)
    assert line == ["moe-10m-answers", "domain", "tasks", "language", "moe-10m"]
    made = artifacts(workspace, "**")
    run_pipeline(recipe, workspace)
    assert artifacts(workspace, "**") == made

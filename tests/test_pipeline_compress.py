"""Several compressions in one chain, on a tiny model and a real Ray: pruned, healed, then exported twice."""

import json
from pathlib import Path

import pytest
from small_artifacts import conversations, publish_model

from heliostat.errors import ModelError
from heliostat.pipeline import Chain, run_pipeline
from heliostat.recipe import Recipe

pytestmark = pytest.mark.ray
RECIPE = """
name: tiny
model: {model}
data:
  sources: [{{kind: jsonl, path: {source}, form: messages}}]
  split: {{train: 0.7, validation: 0.1, test: 0.2}}
  tokenize: {{max_sequence_length: 128, too_long: truncate}}
compress:
- kind: prune
  name: small
  keep: 0.8
  max_loss: 0.5
  max_tokens: 600
  calibration: {{num_documents: 16}}
  heal: {{max_steps: 4, learning_rate: 0.001}}
- {{kind: gguf, scheme: q8_0, max_tokens: 600}}
- {{scheme: int8, max_tokens: 600}}
"""


@pytest.fixture
def recipe_file(tmp_path, tiny_model_folder) -> Path:
    source, recipe = tmp_path / "conversations.jsonl", tmp_path / "tiny.yaml"
    source.write_text("".join(json.dumps({"messages": each}) + "\n" for each in conversations(60)))
    recipe.write_text(RECIPE.format(model=tiny_model_folder, source=source))
    return recipe


def certificates(workspace, pattern: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in Path(workspace.storage.root).glob(pattern)]


@pytest.mark.slow
def test_what_was_pruned_and_healed_is_what_is_exported(ray_cluster, recipe_file, workspace, capsys):
    recipe = Recipe.load(recipe_file)
    run_pipeline(recipe, workspace)
    said = capsys.readouterr().out
    for line in (
        "[3/7] compress pruned-80",
        "[4/7] heal pruned-80",
        "[5/7] compare pruned-80",
        "[6/7] compress gguf-q8_0",
        "[7/7] compress int8",
    ):
        assert line in said
    whole, cut, healed, accepted = (
        next(each for each in certificates(workspace, "models/*/artifact.json") if chosen(each))
        for chosen in (
            lambda each: "source" in each["facts"] and "kind" not in each["facts"],
            lambda each: each["facts"].get("kind") == "prune",
            lambda each: each["facts"].get("objective") == "distillation",
            lambda each: each["facts"].get("kind") == "healed",
        )
    )
    assert [cut["id"], whole["id"]] == [healed["parents"][0], healed["parents"][2]], "student and teacher"
    assert accepted["parents"] == [whole["id"], cut["parents"][1], healed["id"]]
    assert accepted["facts"]["num_parameters"] <= 0.8 * whole["facts"]["num_parameters"]
    assert accepted["facts"]["perplexity_before"] == pytest.approx(cut["facts"]["perplexity_before"])
    for kind in ("export", "quantized"):
        (export,) = [
            each for each in certificates(workspace, "models/*/artifact.json") if each["kind"] == kind
        ]
        assert export["parents"][0] == accepted["id"]
    made = {each["id"]: each for each in certificates(workspace, "*/*/artifact.json")}
    run_pipeline(recipe, workspace)
    assert {each["id"]: each for each in certificates(workspace, "*/*/artifact.json")} == made


@pytest.mark.slow
def test_a_healed_model_that_reads_too_badly_is_not_let_through(ray_cluster, recipe_file, workspace):
    recipe = Recipe.load(
        recipe_file,
        ("compress.0.max_loss=0", "compress.0.heal.learning_rate=3", "compress.0.heal.max_steps=2"),
    )
    with pytest.raises(ModelError, match=r"refused: perplexity .* keep more, or heal it for longer"):
        run_pipeline(recipe, workspace)
    assert not [
        each
        for each in certificates(workspace, "models/*/artifact.json")
        if each["facts"].get("kind") in ("healed", "gguf")
    ]


def test_an_export_is_neither_compressed_again_nor_served(workspace, tiny_model_folder):
    model = publish_model(workspace, tiny_model_folder)
    small = model.model_copy(update={"kind": "quantized"})
    export = model.model_copy(update={"kind": "export"})
    chain = Chain(num_steps=3, models={"base": model, "int8": small, "gguf-f16": export})
    assert (chain.newest, chain.servable) == (model, small)
    assert Chain(num_steps=2, models={"base": model, "gguf-f16": export}).servable == model

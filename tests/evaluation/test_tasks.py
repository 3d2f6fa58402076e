"""Tasks from files: what is asked, and what is refused in one line."""

import json
from pathlib import Path

import pytest
import yaml

from heliostat.cli.app import execute
from heliostat.errors import ConfigError, DataError, HeliostatError
from heliostat.evaluation.config import EvaluateConfig
from heliostat.evaluation.requests import Choose, Continue
from heliostat.evaluation.suites import ask, check_suites
from heliostat.evaluation.task_file import Task

ROWS = [
    {"question": "Capital of France?", "answer": "Paris", "options": ["Paris", "Rome"], "label": 0},
    {"question": "Capital of Italy?", "answer": "Rome", "options": ["Paris", "Rome"], "label": 1},
    {"question": "Capital of Japan?", "answer": ["Tokyo", "Tōkyō"], "options": ["Tokyo", "Rome"], "label": 0},
]
TASK = {
    "name": "capitals",
    "data": "rows.jsonl",
    "prompt": "Question: {{question}}\nAnswer:",
    "target": "{{answer}}",
}


def write(folder: Path, rows=None, **changes) -> str:
    lines = [json.dumps(row) for row in (ROWS if rows is None else rows)]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    task = {key: value for key, value in (TASK | changes).items() if value is not None}
    (folder / "task.yaml").write_text(yaml.safe_dump(task))
    return str(folder / "task.yaml")


def asked(path: str, kind: str = "task", **settings):
    config = EvaluateConfig.model_validate({"suites": [{"kind": kind, "path": path, **settings}]})
    return ask(config, config.suites[0], None, "")


def test_a_written_answer_is_asked_for_with_the_answered_examples_in_front(tmp_path):
    shots = [{"question": "Capital of Spain?", "answer": "Madrid"}]
    (tmp_path / "shots.jsonl").write_text(json.dumps(shots[0]))
    task = Task.read(write(tmp_path, few_shot={"path": "shots.jsonl", "count": 1}))
    question = task.question(2)
    assert question.prompt == (
        "Question: Capital of Spain?\nAnswer: Madrid\n\nQuestion: Capital of Japan?\nAnswer:"
    )
    assert question.references == ("Tokyo", "Tōkyō")


def test_in_a_chat_they_are_turns(tmp_path):
    (tmp_path / "shots.jsonl").write_text(json.dumps(ROWS[0]))
    settings = {"few_shot": {"path": "shots.jsonl", "count": 1}, "chat": True, "system": "Be brief."}
    task = Task.read(write(tmp_path, prompt="question", **settings))
    assert [each["role"] for each in task.question(1).prompt] == ["system", "user", "assistant", "user"]
    assert task.question(1).prompt[-1]["content"] == "Capital of Italy?"


@pytest.mark.parametrize("target", ["{{answer}}", "label", "{{options[label]}}"])
def test_the_right_choice_is_named_by_its_text_or_its_number(tmp_path, target):
    path = write(tmp_path, rows=ROWS[:2], choices="{{options}}", target=target)
    questions = [Task.read(path).question(number) for number in range(2)]
    assert [question.right for question in questions] == [0, 1]
    requests = [item.request for item in asked(path).items]
    assert requests[0] == Choose("Question: Capital of France?\nAnswer:", (" Paris", " Rome"))


def test_a_number_names_a_place_also_where_a_choice_reads_the_same(tmp_path):
    rows = [{"question": "1 + 1?", "options": ["1", "0", "2"], "right": right} for right in (2, "2", 1)]
    task = Task.read(write(tmp_path, rows=rows, choices="{{options}}", target="right"))
    assert [task.question(number).right for number in range(3)] == [2, 2, 1]


def test_scores_follow_the_likelihoods(tmp_path):
    suite = asked(write(tmp_path, rows=ROWS[:2], choices=["Paris", "Rome, Italy"], target="Paris"))
    answers = {
        "0#clean": {"log_likelihoods": [-2.0, -3.0]},  # by letter -0.4 and -0.27
        "1#clean": {"log_likelihoods": [-9.0, -3.0]},
    }
    first, second = suite.examples(answers)
    assert first.scores == {"acc": 1.0, "acc_norm": 0.0}
    assert second.scores == {"acc": 0.0, "acc_norm": 0.0}
    assert (first.output, second.output) == ("Paris", "Rome, Italy")


def test_a_spoilt_prompt_is_scored_beside_the_clean_one(tmp_path):
    path = write(tmp_path, metrics=["exact_match"])
    suite = asked(path, "robustness", perturbations=["typos", "drop"], name="spoilt")
    assert len(suite.items) == 9
    clean, typos = suite.items[0].request, suite.items[3].request
    assert isinstance(clean, Continue)
    assert clean.prompt != typos.prompt
    answers = {item.id: {"text": " Paris\n" if item.id.endswith("clean") else "x"} for item in suite.items}
    example = suite.examples(answers)[0]
    assert example.scores == {
        "exact_match": 1.0,
        "exact_match_under_typos": 0.0,
        "exact_match_lost_to_typos": 1.0,
        "exact_match_under_drop": 0.0,
        "exact_match_lost_to_drop": 1.0,
    }


def test_only_the_columns_that_are_named_are_spoilt(tmp_path):
    suite = asked(write(tmp_path), "robustness", perturbations=["case"], columns=["question"])
    for item in suite.items[3:]:
        assert item.request.prompt.startswith("Question: ")
        assert item.request.prompt.endswith("\nAnswer:")


def test_a_gap_is_between_the_groups_of_the_rows(tmp_path):
    rows = [{**row, "region": "east" if at == 2 else "west"} for at, row in enumerate(ROWS)]
    suite = asked(write(tmp_path, rows=rows, group="region", metrics=["exact_match"]), "fairness")
    answers = {item.id: {"text": "Tokyo"} for item in suite.items}
    examples = suite.examples(answers)
    assert [example.scores["exact_match_gap"] for example in examples] == [
        [0.0, 0.0, 0.0, 1.0],
        [0.0, 0.0, 0.0, 1.0],
        [1.0, 1.0, 0.0, 0.0],
    ]


def test_what_is_asked_decides_the_fingerprint_and_its_place_does_not(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    first = asked(write(here)).fingerprint
    assert asked(write(there)).fingerprint == first
    assert asked(write(there, prompt="question")).fingerprint != first
    assert asked(write(there, rows=ROWS[:2])).fingerprint != first
    assert asked(write(there), max_examples=2).fingerprint != first


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": "gone.jsonl"}, "gone.jsonl: no such file; a suite needs it"),
        ({"prompt": "{{qestion}}"}, "'qestion' is undefined"),
        ({"prompt": "{{question"}, "the template '{{question' fails"),
        ({"prompt": "{{question.__class__.__mro__}}"}, "is unsafe"),
        ({"choices": ["Oslo", "Bern"]}, "the target 'Paris' is none of the 2 choices"),
        ({"choices": ["a", "b"], "metrics": ["f1"]}, "f1 is not for answers to choose from"),
        ({"metrics": ["acc"]}, "acc is not for answers that are written"),
        ({"metric": ["f1"]}, "did you mean 'metrics'"),
        ({"system": "Be brief."}, "set 'chat: true'"),
        ({"few_shot": {"path": "gone.jsonl", "count": 1}}, "gone.jsonl: no such file"),
        ({"id": "answer", "rows": [ROWS[0], ROWS[0]]}, "the id 'Paris' is that of two rows"),
        ({"rows": []}, "holds no rows"),
    ],
)
def test_a_task_that_cannot_be_asked_is_one_line(tmp_path, changes, words):
    with pytest.raises(HeliostatError) as caught:
        asked(write(tmp_path, **changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_line_that_is_no_json_is_named(tmp_path):
    path = write(tmp_path)
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROWS[0]) + "\nnonsense\n")
    with pytest.raises(DataError, match=r"rows\.jsonl:2: not a JSON object"):
        asked(path)


@pytest.mark.parametrize(
    ("suite", "words"),
    [
        ({"kind": "task", "path": "gone.yaml"}, "gone.yaml: no such task file"),
        ({"kind": "perplexity", "path": "gone.jsonl"}, "gone.jsonl: no such file; a suite needs it"),
        ({"kind": "toxicity", "path": "gone.jsonl"}, "gone.jsonl: no such file; a suite needs it"),
        ({"kind": "lm_eval", "python": "gone/python", "tasks": ["x"]}, "no interpreter at gone/python"),
        (
            {"kind": "toxicity", "path": "p", "classifier": "gone"},
            "'classifier:' names a transformers folder",
        ),
    ],
)
def test_a_missing_file_is_one_line_of_validate(tmp_path, suite, words, capsys, tiny_model_folder):
    recipe = {"name": "r", "model": str(tiny_model_folder), "evaluate": {"suites": [suite]}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert execute(["validate", str(tmp_path / "recipe.yaml")]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert len(error.splitlines()) == 1


def test_two_suites_of_one_name_are_refused(tmp_path):
    suites = [{"kind": "task", "path": "a", "name": "x"}, {"kind": "task", "path": "b", "name": "x"}]
    with pytest.raises(ValueError, match="'x' is the name of two"):
        EvaluateConfig.model_validate({"suites": suites})


def test_two_tasks_that_bring_one_name_are_refused(tmp_path):
    path = write(tmp_path)
    config = EvaluateConfig.model_validate({"suites": [{"kind": "task", "path": path}] * 2})
    with pytest.raises(ConfigError, match="two suites are called 'capitals'"):
        check_suites(config)

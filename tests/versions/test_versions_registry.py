"""Versions in a real MLflow store: unique, found by number and alias, moved, rolled back."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from heliostat.errors import ArtifactError, ConfigError, ModelError
from heliostat.models.importing import check_reference, import_model
from heliostat.version_notes import read_notes
from heliostat.versions.names import Version
from heliostat.versions.registering import register_artifact
from heliostat.versions.registry import Registry
from heliostat.versions.resolving import resolve_artifact, resolve_version
from heliostat.workspace import Workspace

pytestmark = pytest.mark.heavy  # imports mlflow


@pytest.fixture
def registry(workspace) -> Registry:
    return Registry(workspace)


def test_an_artifact_becomes_a_version_that_is_listed(workspace, registry, make):
    model = make("chat")
    made = register_artifact(model.id, "chat", workspace, "v1.2.3-alpha.20231001", candidate=True)
    (listed,) = registry.versions()
    assert listed == made
    assert (listed.reference, listed.number) == ("chat@v1.2.3-alpha.20231001", 1)
    assert (listed.artifact_id, listed.kind, listed.content) == (model.id, "model", model.content)
    assert (listed.uri, listed.aliases) == (model.uri, ("candidate",))
    (note,) = read_notes(workspace)
    assert (note.name, note.version, note.artifact_id) == ("chat", str(made.version), model.id)


def test_the_numbers_count_up_and_the_highest_comes_first(workspace, registry, make):
    model = make("chat")
    for bump in ("minor", "minor", "patch", "major"):
        register_artifact(model.uri, "chat", workspace, bump=bump)
    register_artifact(model.uri, "other", workspace)
    assert [str(each.version) for each in registry.versions("chat")] == [
        "v1.0.0",
        "v0.2.1",
        "v0.2.0",
        "v0.1.0",
    ]
    assert [each.name for each in registry.versions()][-1] == "other"


def test_a_version_that_exists_is_one_clear_line(workspace, registry, make):
    first, second = make("first"), make("second")
    register_artifact(first.id, "chat", workspace, "v1.0.0")
    with pytest.raises(ConfigError) as caught:
        register_artifact(second.id, "chat", workspace, "1.0.0")
    assert str(caught.value).startswith("chat@v1.0.0 exists since ")
    assert first.id in str(caught.value)
    assert "--bump patch" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [each.artifact_id for each in registry.versions()] == [first.id]


def test_of_two_processes_that_take_the_same_version_one_gets_it(workspace, registry, make, monkeypatch):
    first, second = make("first"), make("second")
    late = Registry(workspace)
    monkeypatch.setattr(
        late, "_refuse_existing", lambda *_: register_artifact(first.id, "chat", workspace, "v1.0.0")
    )
    with pytest.raises(ConfigError, match="exists since"):  # from the second look, after both have written
        late.register("chat", Version(1, 0, 0), second, None)
    assert [each.artifact_id for each in registry.versions("chat")] == [first.id]


def test_a_version_is_the_artifact_itself(workspace, make):
    model = make("chat")
    register_artifact(model.id, "chat", workspace, "v1.0.0", candidate=True)
    for reference in ("chat@v1.0.0", "chat@1.0.0", "chat@candidate"):
        assert resolve_version(reference, workspace) == model
        assert import_model(reference, workspace) == model
        assert model.id in check_reference(reference, workspace)


def test_artifacts_are_found_by_id_beginning_folder_and_version(workspace, make):
    model, other = make("chat"), make("other")
    register_artifact(model.id, "chat", workspace, "v1.0.0")
    for reference in (model.id, model.id[:-3], model.uri, f"{model.uri}/", workspace.path_of(model.uri)):
        assert resolve_artifact(reference, workspace) == model
    with pytest.raises(ArtifactError, match=r"fits model-.*, model-.*; give more"):
        resolve_artifact("model-", workspace)
    with pytest.raises(ArtifactError, match=f"did you mean '{other.id}'"):
        resolve_artifact(f"{other.id}0", workspace)
    with pytest.raises(ConfigError, match="chat: which version"):
        resolve_artifact("chat", workspace)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("chta@production", r"did you mean 'chat@production'"),
        ("wholly-different@v1.0.0", r"'heliostat models versions' lists all"),
        ("chat@production", r"bears the alias production; its aliases: candidate \(v1.0.0\)"),
        ("chat@v1.0.1", r"did you mean 'chat@v1.0.0'"),
        ("chat@prod", r"no alias \(candidate, staging, production\)"),
    ],
)
def test_what_is_not_there_is_one_line_with_a_hint(workspace, make, reference, said):
    register_artifact(make("chat").id, "chat", workspace, "v1.0.0", candidate=True)
    with pytest.raises(ConfigError, match=said) as caught:
        import_model(reference, workspace)
    assert "\n" not in str(caught.value)


def test_only_models_become_versions_and_adapters_are_no_base(workspace, make):
    with pytest.raises(ConfigError, match="is of kind tokenized; versions are of model"):
        register_artifact(make("rows", "tokenized").id, "rows", workspace)
    register_artifact(make("lora", "adapter").id, "lora", workspace, "v1.0.0")
    with pytest.raises(ModelError, match="is of kind adapter, which is no model by itself"):
        import_model("lora@v1.0.0", workspace)


def test_files_that_were_made_again_are_not_passed_off_as_the_version(workspace, make):
    model = make("chat")
    register_artifact(model.id, "chat", workspace, "v1.0.0")
    make("chat", content="other weights")
    with pytest.raises(ArtifactError, match="was made again since"):
        resolve_version("chat@v1.0.0", workspace)
    workspace.storage.delete(workspace.path_of(model.uri))
    with pytest.raises(ArtifactError, match="is gone from"):
        resolve_version("chat@v1.0.0", workspace)


def test_a_workspace_that_was_moved_takes_its_versions_along(workspace, make, tmp_path):
    model = make("chat")
    register_artifact(model.id, "chat", workspace, "v1.0.0")
    moved = Workspace.resolve(str(shutil.move(workspace.storage.root, tmp_path / "moved")))
    assert resolve_version("chat@v1.0.0", moved).uri == model.uri.replace("/workspace/", "/moved/")


def test_a_rollback_gives_the_alias_back_step_by_step_and_keeps_the_log(workspace, registry, make):
    for number in (1, 2, 3):
        made = register_artifact(make(f"chat{number}").id, "chat", workspace, f"v{number}.0.0")
        registry.give("production", made, "passed", f"report-{number}")
    assert str(registry.roll_back("chat").version) == "v2.0.0"
    assert resolve_version("chat@production", workspace).id == registry.versions("chat")[1].artifact_id
    assert str(registry.roll_back("chat").version) == "v1.0.0"
    with pytest.raises(ConfigError, match=r"v1\.0\.0 is the first to bear the alias production"):
        registry.roll_back("chat")
    registry.give("production", registry.versions("chat")[0])
    assert str(registry.roll_back("chat").version) == "v1.0.0"
    said = [(event.action, event.version, event.replaced) for event in registry.history("chat", "production")]
    assert said == [
        ("promote", "v1.0.0", None),
        ("promote", "v2.0.0", "v1.0.0"),
        ("promote", "v3.0.0", "v2.0.0"),
        ("rollback", "v2.0.0", "v3.0.0"),
        ("rollback", "v1.0.0", "v2.0.0"),
        ("promote", "v3.0.0", "v1.0.0"),
        ("rollback", "v1.0.0", "v3.0.0"),
    ]
    assert registry.versions("chat")[0].report("production") == "report-3"


def test_looking_around_makes_no_store(tmp_path):
    empty = Registry(Workspace.resolve(str(tmp_path / "empty")))
    assert empty.versions() == []
    assert empty.history("chat", "production") == []
    assert not (tmp_path / "empty").exists()


@pytest.mark.slow
def test_a_tracking_server_keeps_versions_too(workspace, make, monkeypatch, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = f"sqlite:///{tmp_path}/server.db"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--backend-store-uri", store]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--workers", "1"], cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/health", server, tmp_path / "log")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        model = make("chat")
        made = register_artifact(model.id, "chat", workspace, "v1.0.0", candidate=True)
        assert made.uri == model.uri
        assert import_model("chat@candidate", workspace) == model
    finally:
        subprocess.run(["kill", "--", f"-{server.pid}"], check=True)
        server.wait()


def _wait_for(url, server, log) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)

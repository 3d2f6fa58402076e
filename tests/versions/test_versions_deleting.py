"""Deleting versions in a real MLflow store: only what nobody relies on, and never the number."""

import pytest
from versions.small_records import AT, endpoint

from heliostat.endpoints import forget, write_record
from heliostat.errors import ConfigError
from heliostat.version_notes import VersionNote, note_path, read_notes, write_note
from heliostat.versions.deleting import delete_version
from heliostat.versions.garbage import collect_garbage
from heliostat.versions.history import AliasEvent, before
from heliostat.versions.names import Version
from heliostat.versions.registering import register_artifact
from heliostat.versions.registry import Registry
from heliostat.versions.resolving import resolve_version

heavy = pytest.mark.heavy  # imports mlflow


@pytest.fixture
def registry(workspace) -> Registry:
    return Registry(workspace)


def refusal(reference: str, workspace) -> str:
    with pytest.raises(ConfigError) as caught:
        delete_version(reference, workspace)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@heavy
def test_a_deleted_version_is_gone_and_its_artifact_is_garbage(workspace, registry, make):
    model, other = make("chat"), make("other")
    register_artifact(model.id, "chat", workspace, "v1.0.0")
    register_artifact(other.id, "chat", workspace, "v1.1.0")
    assert delete_version("chat@v1.0.0", workspace).artifact_id == model.id
    assert [str(each.version) for each in registry.versions()] == ["v1.1.0"]
    assert [note.version for note in read_notes(workspace)] == ["v1.1.0"]
    logged = registry.deletions("chat")[Version(1, 0, 0)]
    assert (logged.version, logged.artifact_id, logged.uri) == ("v1.0.0", model.id, model.uri)
    with pytest.raises(ConfigError, match=f"chat@v1.0.0: was deleted on .*; it was {model.id}, at /"):
        resolve_version("chat@v1.0.0", workspace)
    gone = [item.path for item in collect_garbage(workspace) if item.goes and item.what == "model"]
    assert gone == [workspace.path_of(model.uri)]


@heavy
def test_an_artifact_with_another_version_is_kept(workspace, make):
    model = make("chat")
    register_artifact(model.id, "chat", workspace, "v1.0.0")
    register_artifact(model.id, "same", workspace, "v1.0.0")
    delete_version("chat@v1.0.0", workspace)
    assert not [item for item in collect_garbage(workspace) if item.goes and item.what == "model"]
    assert resolve_version("same@v1.0.0", workspace) == model


@heavy
def test_the_number_of_a_deleted_version_is_never_given_again(workspace, registry, make):
    """Neither when it was the highest, nor the only one, nor when it is asked for by name."""
    model = make("chat")
    register_artifact(model.id, "chat", workspace, "v1.0.0")
    delete_version("chat@v1.0.0", workspace)
    assert registry.versions() == []
    with pytest.raises(ConfigError, match=r"chat@v1\.0\.0 was deleted on .*stays taken") as caught:
        register_artifact(model.id, "chat", workspace, "v1.0.0")
    assert "\n" not in str(caught.value)
    made = register_artifact(model.id, "chat", workspace)
    assert (str(made.version), made.number) == ("v1.1.0", 2)
    delete_version("chat@v1.1.0", workspace)
    assert str(register_artifact(model.id, "chat", workspace, bump="patch").version) == "v1.1.1"
    assert str(register_artifact(model.id, "other", workspace, "v1.0.0").version) == "v1.0.0"


@heavy
def test_a_number_that_is_taken_and_deleted_while_another_process_registers_it_stays_taken(
    workspace, registry, make, monkeypatch
):
    first, second = make("first"), make("second")
    late = Registry(workspace)

    def in_between(*_: object) -> None:
        monkeypatch.undo()
        register_artifact(first.id, "chat", workspace, "v1.0.0")
        delete_version("chat@v1.0.0", workspace)

    monkeypatch.setattr(late, "_refuse_existing", in_between)
    with pytest.raises(ConfigError, match="was deleted on"):
        late.register("chat", Version(1, 0, 0), second, None)
    assert registry.versions() == []


@heavy
def test_one_that_bears_an_alias_is_not_deleted(workspace, registry, make):
    register_artifact(make("first").id, "chat", workspace, "v1.0.0", candidate=True)
    said = refusal("chat@v1.0.0", workspace)
    assert said.startswith("chat@v1.0.0 bears candidate; let another version bear that first")
    assert refusal("chat@candidate", workspace) == said
    register_artifact(make("second").id, "chat", workspace, "v2.0.0", candidate=True)
    delete_version("chat@v1.0.0", workspace)
    assert [str(each.version) for each in registry.versions()] == ["v2.0.0"]


@heavy
def test_one_that_an_endpoint_serves_is_not_deleted_until_that_is_gone(workspace, make):
    model = make("chat")
    register_artifact(model.id, "chat", workspace, "v1.0.0")
    write_record(workspace, endpoint("old", model, "stopped"))
    write_record(workspace, endpoint("web", model, "running"))
    said = refusal("chat@v1.0.0", workspace)
    assert "is what endpoint web serves" in said
    assert "'heliostat endpoints forget web'" in said
    forget(workspace, "web")
    delete_version("chat@v1.0.0", workspace)


@heavy
def test_a_deletion_that_was_killed_can_be_made_again(workspace, registry, make, monkeypatch):
    register_artifact(make("chat").id, "chat", workspace, "v1.0.0")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    doomed = registry.versions()[0]
    with monkeypatch.context() as patched:
        patched.setattr(registry._client, "delete_model_version", killed)
        with pytest.raises(KeyboardInterrupt):
            registry.delete(doomed)
    assert not [item for item in collect_garbage(workspace) if item.goes and item.what == "model"]
    delete_version("chat@v1.0.0", workspace)
    assert (registry.versions(), read_notes(workspace)) == ([], [])


@heavy
def test_what_is_not_there_is_one_line_with_a_hint(workspace, make):
    register_artifact(make("chat").id, "chat", workspace, "v1.0.0")
    assert "did you mean 'chat@v1.0.0'" in refusal("chat@v1.0.1", workspace)
    assert "names no version" in refusal("chat", workspace)
    write_note(workspace, VersionNote(name="chat", version="v3.0.0", artifact_id="a", path="models/a"))
    said = refusal("chat@v3.0.0", workspace)
    assert workspace.storage.uri(note_path("chat", "v3.0.0")) in said
    assert "MLFLOW_TRACKING_URI" in said


@heavy
def test_a_rollback_passes_over_what_was_deleted(workspace, registry, make):
    for number in (1, 2, 3):
        made = register_artifact(make(f"chat{number}").id, "chat", workspace, f"v{number}.0.0")
        registry.give("production", made)
    delete_version("chat@v2.0.0", workspace)
    assert str(registry.roll_back("chat").version) == "v1.0.0"
    with pytest.raises(ConfigError, match=r"v1\.0\.0 is the first of those that were not deleted"):
        registry.roll_back("chat")


def log(*moves: str) -> list[AliasEvent]:
    """`+v1` is a promotion of v1, `-v1` a rollback to it."""
    return [
        AliasEvent(
            number=number,
            action="promote" if move[0] == "+" else "rollback",
            alias="production",
            version=move[1:],
            replaced=None,
            at=AT,
            user="u",
        )
        for number, move in enumerate(moves)
    ]


@pytest.mark.parametrize(
    ("moves", "current", "deleted", "expected"),
    [
        (("+v1", "+v2", "+v3"), "v3", {"v2"}, "v1"),
        (("+v1", "+v2", "+v3"), "v3", {"v1", "v2"}, None),
        (("+v1", "+v2", "+v1"), "v1", {"v2"}, None),
        (("+v1", "+v2", "+v3", "-v2", "+v4"), "v4", {"v2"}, "v1"),
        (("+v1", "+v2"), None, {"v2"}, "v1"),
    ],
)
def test_no_rollback_leads_to_a_deleted_version_or_to_the_bearer_itself(moves, current, deleted, expected):
    assert before(log(*moves), current, frozenset(deleted)) == expected

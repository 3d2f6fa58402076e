"""Storage on a local disk and on an S3 API: the same answers on both."""

import pytest

from heliostat.errors import ArtifactError, StorageError
from heliostat.storage import (
    Storage,
    artifact_folder,
    find_artifact,
    open_artifact,
    publish,
    split_uri,
    staging,
)


@pytest.fixture(params=["local", "s3"])
def storage(request, tmp_path) -> Storage:
    if request.param == "local":
        return Storage.at(tmp_path / "root")
    place, mark, options = request.getfixturevalue("s3_root").partition("?")
    return Storage.at(f"{place}/{tmp_path.name}{mark}{options}")


def make(storage: Storage, text: str = "x", path: str = "models/m"):
    with staging(storage, path) as publication:
        (publication.folder / "weights").write_text(text)
        (publication.folder / "tokenizer").mkdir()
        (publication.folder / "tokenizer" / "vocabulary").write_text("words")
        publication.facts["loss"] = 1.5
        return publish(publication, "model", "key", {"text": text})


# Reading, writing, listing: the same on both.


def test_bytes_are_written_read_listed_and_deleted(storage):
    storage.write_bytes("runs/a/run.json", b"1")
    storage.write_bytes("runs/a/run.json", b"2")
    storage.write_bytes("runs/b/deep/file", b"3")
    assert storage.read_bytes("runs/a/run.json") == b"2"
    assert storage.exists("runs/a/run.json")
    assert not storage.exists("runs/c")
    assert storage.list("runs") == ["a", "b"]
    assert storage.list("runs", recursive=True) == ["a/run.json", "b/deep/file"]
    storage.delete("runs/a")
    assert not storage.exists("runs/a/run.json")
    assert storage.list("nowhere") == []
    storage.delete("runs/b/deep/file")
    assert storage.list("runs", recursive=True) == []


def test_deleting_what_is_not_there_is_fine(storage):
    storage.delete("nothing/here")


def test_reading_what_is_not_there_is_one_line(storage):
    with pytest.raises(StorageError) as caught:
        storage.read_bytes("gone/file")
    assert "gone/file" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_writable_place_passes_the_check_and_keeps_no_trace(storage):
    storage.check_writable()
    assert storage.list() == []


def test_a_published_artifact_is_found_with_its_facts_and_hashes(storage):
    assert find_artifact(storage, "models/m") is None
    made = make(storage)
    found = find_artifact(storage, "models/m")
    assert found == made
    assert found.facts == {"loss": 1.5}
    assert [entry.path for entry in found.files] == ["tokenizer/vocabulary", "weights"]


def test_an_artifact_is_opened_by_its_uri_and_fetched_to_a_folder(storage):
    made = make(storage, text=storage.root)
    assert open_artifact(made.uri, ("model",)) == made
    folder = artifact_folder(made)
    assert (folder / "weights").read_text() == storage.root
    assert artifact_folder(made) == folder


def test_an_artifact_of_another_kind_is_refused(storage):
    made = make(storage)
    with pytest.raises(ArtifactError, match="is a model artifact, expected tokenized"):
        open_artifact(made.uri, ("tokenized",))


def test_a_folder_without_a_certificate_is_no_artifact(storage):
    storage.write_bytes("models/m/weights", b"x")
    with pytest.raises(ArtifactError, match=r"no artifact\.json"):
        open_artifact(storage.uri("models/m"), ("model",))


def test_publishing_again_replaces_the_whole_folder(storage):
    make(storage, "old")
    with staging(storage, "models/m") as publication:
        (publication.folder / "other").write_text("new")
        publish(publication, "model", "key", {})
    assert storage.list("models/m", recursive=True) == ["artifact.json", "other"]


def test_equal_content_has_an_equal_id(storage):
    first = make(storage, path="models/a")
    second = make(storage, path="models/b")
    assert (first.id, first.content) == (second.id, second.content)
    assert make(storage, "y", path="models/c").content != first.content


def test_work_that_fails_leaves_nothing(storage):
    def fail():
        with staging(storage, "models/m") as publication:
            (publication.folder / "weights").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert storage.list("models") == []


def test_a_certificate_of_another_version_is_one_line(storage):
    storage.write_bytes("models/m/artifact.json", b'{"id": "x"}')
    with pytest.raises(ArtifactError) as caught:
        find_artifact(storage, "models/m")
    assert "\n" not in str(caught.value)


def test_a_uri_comes_apart_where_it_was_put_together(storage):
    assert split_uri(storage.uri("models/m")) == (Storage.at(storage.uri("models")), "m")


def test_a_moved_workspace_is_still_read(tmp_path):
    made = make(Storage.at(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    found = find_artifact(Storage.at(tmp_path / "new"), "models/m")
    assert found.content == made.content
    assert artifact_folder(found) == tmp_path / "new" / "models" / "m"


def test_relative_roots_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Storage.at("here").root == str(tmp_path / "here")
    assert Storage.at("file:///there/").root == "/there"


def test_an_unknown_kind_of_place_is_one_line():
    with pytest.raises(StorageError, match="not a place pyarrow"):
        Storage.at("carrier-pigeon://x").exists("y")


def test_a_published_folder_is_readable_by_others(tmp_path):
    make(Storage.at(tmp_path))
    assert (tmp_path / "models" / "m").stat().st_mode & 0o777 == 0o755

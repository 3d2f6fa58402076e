"""Collecting garbage in a real workspace: a dry run first, and nothing that is used."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from versions.small_records import endpoint, publish_small, serving

from heliostat.config import Config
from heliostat.driver import Driver
from heliostat.endpoints import forget, write_record
from heliostat.errors import ArtifactError
from heliostat.stage import Request, find_or_make, read_run
from heliostat.storage import find_artifact
from heliostat.versions import garbage
from heliostat.versions.garbage import collect_garbage
from heliostat.versions.registering import register_artifact
from heliostat.workspace import Workspace

pytestmark = pytest.mark.heavy


class Words(Config):
    text: str = "x"


def work(publication, run) -> None:
    (publication.folder / "weights").write_text(str(publication.path))
    Path(run.workspace.storage.uri(run.path), "checkpoint").write_text("large")


def going(items) -> set[str]:
    return {item.path for item in items if item.goes and item.what != "lock"}


def files_of(workspace: Workspace) -> set[str]:
    return {file for file in workspace.storage.list(recursive=True) if "mlflow.db" not in file}


def test_a_dry_run_says_what_goes_and_removes_nothing(workspace, make):
    data = make("rows", "tokenized")
    used, unused = make("used", "model", data), make("unused", "model", data)
    register_artifact(used.id, "chat", workspace, "v1.0.0")
    before = files_of(workspace)
    items = collect_garbage(workspace)
    assert going(items) == {workspace.path_of(unused.uri)}
    assert {item.path: item.reason for item in items if not item.goes} == {
        workspace.path_of(used.uri): "version chat@v1.0.0",
        workspace.path_of(data.uri): f"{used.id} was made from it",
    }
    assert files_of(workspace) - {".locks/gate"} == before - {".locks/gate"}


def test_what_nobody_refers_to_is_removed_and_all_else_is_untouched(workspace, make):
    data = make("rows", "tokenized")
    served, stopped, used = (make(name, "model", data) for name in ("served", "stopped", "used"))
    report = make("report", "report", used, stopped)
    unused = make("unused", "model", data)
    other = make("other-report", "report", unused, data)
    register_artifact(used.id, "chat", workspace, "v1.0.0")
    write_record(workspace, endpoint("e1", served, "running"))
    write_record(workspace, endpoint("e2", stopped, "stopped"))
    kept = {each.uri: each for each in (data, served, used, report, stopped)}
    assert going(collect_garbage(workspace, delete=True)) == {
        workspace.path_of(each.uri) for each in (other, unused)
    }
    for uri, certificate in kept.items():
        assert find_artifact(workspace.storage, workspace.path_of(uri)) == certificate
    assert not Path(other.uri).exists()
    assert going(collect_garbage(workspace, delete=True)) == set()


DEPLOY = """
    import sys
    from heliostat.driver import Driver
    print(Driver.here().model_dump_json(), flush=True)
    sys.stdin.read()
"""


def test_what_an_endpoint_serves_goes_when_its_process_was_killed_or_somebody_says_that_it_is_gone(
    workspace, make
):
    local, joined = make("local"), make("joined")
    command = [sys.executable, "-c", textwrap.dedent(DEPLOY)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        driver = Driver.model_validate_json(process.stdout.readline())
        write_record(workspace, endpoint("e1", local, "running").model_copy(update={"driver": driver}))
        write_record(workspace, endpoint("e2", joined, "running"))
        items = collect_garbage(workspace, delete=True)
        assert going(items) == set()
        assert any("heliostat endpoints forget e2" in item.reason for item in items)
    finally:
        process.kill()
        process.communicate()
    assert going(collect_garbage(workspace, delete=True)) == {workspace.path_of(local.uri)}
    forget(workspace, "e2")
    assert going(collect_garbage(workspace, delete=True)) == {workspace.path_of(joined.uri)}


def test_a_canary_and_what_a_rollback_goes_back_to_are_kept(workspace, make):
    main, canary, earlier, other = make("main"), make("canary"), make("earlier"), make("other")
    versions = (serving("v2", main), serving("v3", canary))
    values = {"versions": versions, "before": (serving("v1", earlier),)}
    write_record(workspace, endpoint("e1", main, "running").model_copy(update=values))
    assert going(collect_garbage(workspace, delete=True)) == {workspace.path_of(other.uri)}


def test_the_adapters_of_an_endpoint_are_kept_those_of_its_last_versions_too(workspace, make):
    main = make("main")
    served, earlier, other = (make(name, "adapter") for name in ("served", "earlier", "other"))
    values = {"versions": (serving("v2", main, served),), "before": (serving("v1", main, earlier),)}
    write_record(workspace, endpoint("e1", main, "running").model_copy(update=values))
    assert going(collect_garbage(workspace, delete=True)) == {workspace.path_of(other.uri)}


def test_runs_go_with_what_they_made(workspace):
    kept = find_or_make(workspace, Request("train", "model", "kept", Words(text="k")), work)
    gone = find_or_make(workspace, Request("train", "model", "gone", Words(text="g")), work)
    register_artifact(kept.id, "chat", workspace, "v1.0.0")
    removed = going(collect_garbage(workspace, delete=True))
    runs = {f"runs/{name}" for name in workspace.storage.list("runs")}
    assert workspace.path_of(gone.uri) in removed
    assert {path for path in removed if path.startswith("runs/")} == {workspace.run_path("train", gone.key)}
    assert runs == {workspace.run_path("train", kept.key)}
    assert workspace.storage.list(".locks") == ["gate", "in-use"]


def test_what_is_made_again_after_a_collection_is_whole(workspace):
    request = Request("train", "model", "tiny", Words())
    first = find_or_make(workspace, request, work)
    collect_garbage(workspace, delete=True)
    assert find_artifact(workspace.storage, workspace.path_of(first.uri)) is None
    again = find_or_make(workspace, request, work)
    assert (again.content, again.uri) == (first.content, first.uri)
    assert read_run(workspace, workspace.run_path("train", request.key)).attempts == 1


STAGE = """
    import sys
    from heliostat.config import Config
    from heliostat.stage import Request, find_or_make
    from heliostat.storage import open_artifact
    from heliostat.workspace import Workspace
    class Words(Config):
        text: str = "running"
    def work(publication, run):
        (publication.folder / "half").write_text("half")
        print("working", flush=True)
        sys.stdin.read()
    parent = open_artifact(sys.argv[2], ("tokenized",))
    find_or_make(Workspace.resolve(sys.argv[1]), Request("train", "model", "t", Words(), (parent,)), work)
"""


def test_a_running_stage_keeps_its_inputs_and_its_folders_and_a_killed_one_does_not(workspace, make):
    data = make("rows", "tokenized")
    command = [sys.executable, "-c", textwrap.dedent(STAGE), workspace.storage.root, data.uri]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "working\n"
        items = collect_garbage(workspace, delete=True)
        assert going(items) == set()
        assert {item.what for item in items if not item.goes} == {"tokenized", "run", "staging"}
    finally:
        process.kill()
        process.wait()
    assert {item.what for item in collect_garbage(workspace, delete=True) if item.goes} == {
        "tokenized", "run", "staging", "lock",
    }  # fmt: skip
    assert files_of(workspace) == {".locks/gate"}


CHAIN = """
    import sys
    from heliostat.locks import note_use, using
    from heliostat.workspace import Workspace
    storage = Workspace.resolve(sys.argv[1]).storage
    with using(storage):
        note_use(storage, sys.argv[2])
        print("between two stages", flush=True)
        sys.stdin.read()
"""


def test_between_two_stages_nothing_is_taken_from_a_chain(workspace, make):
    data = make("rows", "tokenized", make("cleaned", "dataset"))
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(CHAIN),
        workspace.storage.root,
        workspace.path_of(data.uri),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "between two stages\n"
        items = collect_garbage(workspace, delete=True)
        assert going(items) == set()
        assert any(f"in use by process {process.pid} on " in item.reason for item in items)
    finally:
        process.kill()
        process.wait()
    assert len(going(collect_garbage(workspace, delete=True))) == 2


@pytest.mark.parametrize("step", ["_set_aside", "_remove"])
def test_a_collection_that_is_killed_leaves_nothing_that_reads_as_complete(
    workspace, make, monkeypatch, step
):
    """Killed before or after the first removal; the next collection finishes it."""
    artifacts = [make(name) for name in ("a", "b", "c")]
    original, calls = getattr(garbage, step), []

    def interrupted(*arguments):
        if calls:
            raise KeyboardInterrupt
        calls.append(original(*arguments))
        return calls[0]

    with monkeypatch.context() as patched:
        patched.setattr(garbage, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            collect_garbage(workspace, delete=True)
    for artifact in artifacts:
        whole = find_artifact(workspace.storage, workspace.path_of(artifact.uri)) is not None
        assert whole == (Path(artifact.uri) / "content.txt").exists()
    collect_garbage(workspace, delete=True)
    assert files_of(workspace) == {".locks/gate"}


def test_a_record_that_cannot_be_read_stops_the_collection(workspace, make):
    artifact = make("chat")
    (Path(make("other").uri) / "artifact.json").write_text("{}")
    with pytest.raises(ArtifactError, match="not a certificate of this version"):
        collect_garbage(workspace, delete=True)
    assert find_artifact(workspace.storage, workspace.path_of(artifact.uri)) == artifact


def test_weights_that_are_linked_elsewhere_free_nothing(workspace, make, tmp_path):
    artifact = make("chat")
    size = workspace.storage.bytes_below(workspace.path_of(artifact.uri))
    os.link(Path(artifact.uri) / "content.txt", tmp_path / "link")
    after = workspace.storage.bytes_below(workspace.path_of(artifact.uri))
    assert size - after == len("model chat")


def test_an_object_store_is_collected_too(s3_root, tmp_path, empty_tracking_store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{empty_tracking_store}")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place, mark, options = s3_root.partition("?")
    workspace = Workspace.resolve(f"{place}-gc{mark}{options}")
    data = publish_small(workspace, "rows", "tokenized")
    used, unused = (publish_small(workspace, name, "model", (data,)) for name in ("used", "unused"))
    copies = [workspace.storage.local_copy(workspace.path_of(each.uri)) for each in (used, unused)]
    write_record(workspace, endpoint("e", used, "running"))
    first = find_or_make(
        workspace, Request("train", "model", "tiny", Words()), lambda p, _: (p.folder / "w").touch()
    )
    removed = going(collect_garbage(workspace, delete=True))
    assert removed == {
        workspace.path_of(unused.uri), workspace.path_of(first.uri), workspace.run_path("train", first.key),
        str(copies[1]),
    }  # fmt: skip
    assert (copies[0].exists(), copies[1].exists()) == (True, False)
    left = {path.split("/")[1] for path in workspace.storage.list("models", recursive=True) if "/" in path}
    assert {path.partition("/")[0] for path in workspace.storage.list("models", recursive=True)} == {
        workspace.path_of(used.uri).partition("/")[2]
    }, left
    assert going(collect_garbage(workspace, delete=True)) == set()

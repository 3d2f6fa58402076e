"""`heliostat models ...` for versions, `heliostat endpoints` and `heliostat gc`, as typed."""

import json

import pytest
from versions.small_records import endpoint, publish_small

from heliostat.cli.app import execute
from heliostat.driver import Driver
from heliostat.endpoints import write_record

pytestmark = pytest.mark.heavy  # imports mlflow


@pytest.fixture
def run(heliostat, workspace):
    return lambda *arguments: heliostat(*arguments, "--workspace", workspace.storage.root)


@pytest.fixture
def models(workspace):
    data = publish_small(workspace, "rows", "tokenized")
    return [publish_small(workspace, name, "model", (data,)) for name in ("first", "second")]


def test_from_a_number_to_production_and_back(run, models):
    assert run("models", "register", models[0].id, "chat").stdout.startswith("chat@v0.1.0  model-")
    done = run("models", "register", models[1].uri, "chat", "--bump", "major", "--alias", "candidate")
    assert done.stdout.startswith("chat@v1.0.0  ")
    for reference in ("chat@v0.1.0", "chat@candidate"):
        done = run("models", "promote", reference, "--to", "production", "--no-gate")
        assert done.returncode == 0, done.stderr
    assert done.stdout == "chat@v1.0.0 is production now, instead of v0.1.0; gate: skipped on purpose\n"
    listed = run("models", "versions", "chat").stdout.splitlines()
    assert listed[1].split()[:3] == ["chat", "v1.0.0", "candidate,production"]
    assert run("models", "rollback", "chat").stdout == "chat@v0.1.0 is production again, instead of v1.0.0\n"
    assert run("models", "rollback", "chat").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("register", "model-nowhere", "chat"), "no such artifact, version or folder"),
        (("register", "{id}", "Chat!"), "'Chat!' is no name for a model"),
        (("register", "{id}", "chat", "--version", "1.0"), "'1.0' is no version"),
        (("register", "{id}", "chat", "--version", "v1.0.0"), "chat@v1.0.0 exists since"),
        (("promote", "chat@v1.0.0", "--to", "production"), "no evaluation report holds it"),
        (("promote", "chat@v1.0.0", "--to", "staging", "--margin", "perplexity"), "write METRIC=SHARE"),
        (("promote", "chat@v1.0.0", "--to", "staging", "--margin", "perplexity=nan"), "write METRIC=SHARE"),
        (("promote", "chat@v9.0.0", "--to", "production"), "did you mean 'chat@v1.0.0'"),
        (("rollback", "chat"), "no version was to bear the alias production"),
        (("delete", "chat@v9.0.0"), "did you mean 'chat@v1.0.0'"),
        (("delete", "chat"), "'chat' names no version"),
        (("lineage", "chat@production"), "no version of 'chat' bears the alias production"),
        (("card", "nothing"), "no such artifact, version or folder"),
    ],
)
def test_what_cannot_be_is_one_line(run, models, arguments, said):
    run("models", "register", models[0].id, "chat", "--version", "v1.0.0")
    done = run("models", *(each.format(id=models[1].id) for each in arguments))
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_lineage_and_card_are_printed(run, models, workspace):
    run("models", "register", models[0].id, "chat")
    assert f"└─ model {models[0].id}" in run("models", "lineage", "chat@v0.1.0").stdout
    down = json.loads(run("models", "lineage", models[0].parents[0], "--down", "--json").stdout)
    assert {node["id"] for node in down["nodes"]} >= {"chat@v0.1.0", models[1].id}
    printed = run("models", "card", "chat@v0.1.0").stdout
    assert printed.startswith("# chat@v0.1.0\n")
    written = run("models", "card", "chat@v0.1.0", "--write").stdout.strip()
    assert workspace.storage.read_bytes("cards/chat@v0.1.0.md").decode() == printed
    assert written.endswith("cards/chat@v0.1.0.md")


def test_gc_says_what_goes_and_removes_it_only_when_asked_to(run, models, workspace):
    run("models", "register", models[0].id, "chat")
    said = run("gc").stdout
    assert "keep  model" in said
    assert "version chat@v0.1.0" in said
    assert "nothing was removed; 'heliostat gc --delete' frees 0.0 MB in 1 things" in said
    assert len(workspace.storage.list("models")) == 2
    assert "removed: 0.0 MB in 1 things" in run("gc", "--delete").stdout
    assert workspace.storage.list("models") == [models[0].uri.rpartition("/")[2]]
    assert execute(["gc", "--workspace", f"{workspace.storage.root}-elsewhere"]) == 0


def test_a_version_is_deleted_and_its_artifact_goes(run, models):
    run("models", "register", models[0].id, "chat", "--alias", "candidate")
    refused = run("models", "delete", "chat@v0.1.0")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "chat@v0.1.0 bears candidate; let another version bear that first" in refused.stderr
    run("models", "register", models[1].id, "chat", "--alias", "candidate")
    assert run("models", "delete", "chat@v0.1.0").stdout.startswith("chat@v0.1.0 is deleted, and its number")
    assert "removed: 0.0 MB in 1 things" in run("gc", "--delete").stdout
    assert run("models", "register", models[1].id, "chat").stdout.startswith("chat@v0.3.0  ")


def test_an_endpoint_is_listed_until_it_is_forgotten_and_lineage_says_so(run, models, workspace):
    record = endpoint("kept", models[0], "running")
    write_record(workspace, record.model_copy(update={"driver": Driver.here()}))
    assert run("endpoints", "list").stdout.splitlines()[1].split()[:2] == ["kept", "running"]
    refused = run("endpoints", "forget", "kept")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "on this machine serves it; end that first" in refused.stderr
    assert run("models", "lineage", "kept").stdout.startswith("endpoint kept  running, ")
    write_record(workspace, record)
    assert run("endpoints", "forget", "kept").stdout == "kept is gone; nothing is kept for it any more\n"
    assert run("models", "lineage", "kept").stdout.startswith("endpoint kept  gone, ")
    assert run("endpoints", "list").stdout.splitlines()[1].split()[:2] == ["kept", "gone"]

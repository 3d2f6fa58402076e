"""`--force` leaves alone what versions and running endpoints rely on, and says so before it works."""

import subprocess
import sys
import textwrap

import pytest
from versions.small_records import endpoint, serving

from heliostat.config import Config
from heliostat.driver import Driver
from heliostat.endpoints import forget, write_record
from heliostat.errors import ArtifactError, BusyError
from heliostat.records import Artifact
from heliostat.stage import Request, find_or_make
from heliostat.storage import find_artifact
from heliostat.versions.deleting import delete_version
from heliostat.versions.registering import register_artifact
from heliostat.versions.registry import Registry

pytestmark = pytest.mark.heavy


class Words(Config):
    text: str = "x"


class Work:
    """Writes what no two runs write alike, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, publication, run) -> None:
        self.times += 1
        (publication.folder / "weights").write_text(f"{publication.path} {self.times}")


@pytest.fixture
def work() -> Work:
    return Work()


def request(name: str, kind="model", parents: tuple[Artifact, ...] = (), **options) -> Request:
    return Request("train", kind, name, Words(text=name), parents, **options)


@pytest.fixture
def chain(workspace, work) -> dict[str, tuple[Request, Artifact]]:
    """What was made from what: a base model and rows, an adapter, the model that it was merged into."""
    made: dict[str, tuple[Request, Artifact]] = {}

    def add(name: str, kind: str, *parents: str, **options) -> None:
        wanted = request(name, kind, tuple(made[each][1] for each in parents), **options)
        made[name] = (wanted, find_or_make(workspace, wanted, work))

    add("base", "model", repeatable=True)
    add("rows", "tokenized")
    add("lora", "adapter", "base", "rows")
    add("chat", "model", "lora", "base")
    add("other", "model", "base", "rows")
    work.times = 0
    return made


def refusal(workspace, wanted: Request, work: Work) -> str:
    """What --force says; nothing may have been done or touched by then."""
    before = {file: workspace.storage.modified(file) for file in workspace.storage.list(recursive=True)}
    with pytest.raises(ArtifactError) as caught:
        find_or_make(workspace, wanted, work, force=True)
    after = {file: workspace.storage.modified(file) for file in workspace.storage.list(recursive=True)}
    changed = {file for file in before.keys() | after.keys() if before.get(file) != after.get(file)}
    assert work.times == 0
    assert all(file.startswith(".locks/") for file in changed)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_report_with_which_a_version_was_promoted_is_not_overwritten(workspace, chain, work):
    wanted = request("scores", "report", (chain["chat"][1],))
    report = find_or_make(workspace, wanted, work)
    work.times = 0
    version = register_artifact(chain["chat"][1].id, "chat", workspace, "v1.0.0")
    registry = Registry(workspace)
    registry.give("production", version, "as told", report.id)
    said = refusal(workspace, wanted, work)
    assert "--force would overwrite the report with which chat@v1.0.0 was promoted" in said


def test_a_version_is_not_overwritten_until_it_is_deleted(workspace, chain, work):
    wanted, model = chain["chat"]
    register_artifact(model.id, "chat", workspace, "v1.0.0")
    path = workspace.path_of(model.uri)
    assert refusal(workspace, wanted, work) == (
        f"{path}: --force would overwrite version chat@v1.0.0; leave --force out, change its name in the "
        "recipe, or 'heliostat models delete chat@v1.0.0'"
    )
    assert find_artifact(workspace.storage, path) == model
    assert find_or_make(workspace, wanted, work) == model
    delete_version("chat@v1.0.0", workspace)
    assert find_or_make(workspace, wanted, work, force=True).id != model.id


@pytest.mark.parametrize("name", ["lora", "rows"])
def test_nor_is_what_it_was_made_from(workspace, chain, work, name):
    """A chain is refused where its work begins, and not after hours of training."""
    register_artifact(chain["chat"][1].id, "chat", workspace, "v1.0.0")
    said = refusal(workspace, chain[name][0], work)
    assert "would overwrite what version chat@v1.0.0 was made from; leave --force out" in said


def test_what_comes_out_the_same_may_be_made_again_unless_it_is_the_version_itself(workspace, chain, work):
    """Or no recipe over a base model could be forced once a version of one was registered."""
    wanted, base = chain["base"]
    register_artifact(chain["chat"][1].id, "chat", workspace, "v1.0.0")
    find_or_make(workspace, wanted, work, force=True)
    assert work.times == 1
    work.times = 0
    register_artifact(base.uri, "base", workspace, "v1.0.0")
    assert "would overwrite version base@v1.0.0" in refusal(workspace, wanted, work)


def test_what_no_version_relies_on_is_made_again(workspace, chain, work):
    register_artifact(chain["chat"][1].id, "chat", workspace, "v1.0.0")
    find_or_make(workspace, chain["other"][0], work, force=True)
    find_or_make(workspace, Request("train", "model", "chat", Words(text="new")), work, force=True)
    assert work.times == 2


def test_a_running_endpoints_model_is_not_overwritten_until_it_is_gone(workspace, chain, work):
    wanted, model = chain["chat"]
    write_record(workspace, endpoint("old", model, "stopped"))
    record = endpoint("web", model, "running")
    mounted = f"/elsewhere/{workspace.path_of(model.uri)}/"
    write_record(workspace, record.model_copy(update={"artifact_uri": mounted, "driver": Driver.here()}))
    said = refusal(workspace, wanted, work)
    assert "would overwrite the model of endpoint web; leave --force out" in said
    assert "'heliostat endpoints forget web' if it is gone" in said
    assert "what the model of endpoint web was made from" in refusal(workspace, chain["rows"][0], work)
    write_record(workspace, record)
    forget(workspace, "web")
    find_or_make(workspace, wanted, work, force=True)
    assert work.times == 1


def test_a_running_endpoints_adapter_is_not_overwritten(workspace, chain, work):
    wanted, adapter = chain["lora"]
    record = endpoint("web", chain["chat"][1], "running")
    versions = (serving("v1", chain["chat"][1], adapter),)
    write_record(workspace, record.model_copy(update={"versions": versions, "driver": Driver.here()}))
    assert "would overwrite an adapter of endpoint web" in refusal(workspace, wanted, work)


def test_a_version_whose_files_are_gone_can_be_made_again(workspace, chain, work):
    wanted, model = chain["chat"]
    register_artifact(model.id, "chat", workspace, "v1.0.0")
    workspace.storage.delete(workspace.path_of(model.uri))
    find_or_make(workspace, wanted, work, force=True)
    assert work.times == 1


def test_a_broken_certificate_elsewhere_hides_no_version(workspace, chain, work):
    register_artifact(chain["chat"][1].id, "chat", workspace, "v1.0.0")
    workspace.storage.write_bytes(f"{workspace.path_of(chain['other'][1].uri)}/artifact.json", b"{}")
    assert "what version chat@v1.0.0 was made from" in refusal(workspace, chain["rows"][0], work)


def test_force_mends_a_certificate_that_cannot_be_read(workspace, chain, work):
    wanted, model = chain["other"]
    register_artifact(chain["chat"][1].id, "chat", workspace, "v1.0.0")
    workspace.storage.write_bytes(f"{workspace.path_of(model.uri)}/artifact.json", b"{}")
    made = find_or_make(workspace, wanted, work, force=True)
    assert find_artifact(workspace.storage, workspace.path_of(made.uri)) == made


def test_a_note_that_cannot_be_read_is_one_line_with_the_way_out(workspace, chain, work):
    register_artifact(chain["chat"][1].id, "chat", workspace, "v1.0.0")
    workspace.storage.write_bytes("versions/chat/v1.0.0.json", b"{}")
    assert "v1.0.0.json: not the note of a version" in refusal(workspace, chain["rows"][0], work)


def test_what_is_there_a_second_time_may_be_made_again(workspace, chain):
    """Its twin stays, and with it what the version was made from."""
    rows, _ = chain["rows"]
    twin = request("rows2", "tokenized")

    def same(publication, run) -> None:
        (publication.folder / "weights").write_text("rows")

    first = find_or_make(workspace, rows, same, force=True)
    merged = request("merged", "model", (first,))
    register_artifact(find_or_make(workspace, merged, same).id, "chat", workspace, "v1.0.0")
    assert find_or_make(workspace, twin, same).id == first.id
    find_or_make(workspace, twin, same, force=True)


def test_what_came_to_be_relied_on_during_the_work_is_not_overwritten(workspace, chain):
    rows, before = chain["rows"]

    def slow(publication, run) -> None:
        register_artifact(chain["chat"][1].id, "chat", workspace, "v1.0.0")
        (publication.folder / "weights").write_text("new")

    with pytest.raises(ArtifactError, match=r"would overwrite what version chat@v1\.0\.0 was made from"):
        find_or_make(workspace, rows, slow, force=True)
    assert find_artifact(workspace.storage, workspace.path_of(before.uri)) == before


def test_what_is_being_made_again_becomes_no_version(workspace, chain):
    wanted, model = chain["chat"]

    def busy(publication, run) -> None:
        with pytest.raises(BusyError, match="an identical run is going on"):
            register_artifact(model.id, "chat", workspace, "v1.0.0")
        (publication.folder / "weights").write_text("new")

    find_or_make(workspace, wanted, busy, force=True)
    assert register_artifact(model.uri, "chat", workspace).artifact_id != model.id


LOOK = """
    import sys
    from heliostat.config import Config
    from heliostat.errors import ArtifactError
    from heliostat.stage import Request, find_or_make
    from heliostat.workspace import Workspace
    class Words(Config):
        text: str = "base"
    workspace, request = Workspace.resolve(sys.argv[1]), Request("train", "model", "base", Words())
    for force in (False, True):
        try:
            find_or_make(workspace, request, None, force)
        except ArtifactError as error:
            print(error)
    print("mlflow" in sys.modules)
"""


def test_neither_finding_nor_refusing_asks_the_store_of_versions(workspace, chain):
    register_artifact(chain["base"][1].id, "base", workspace, "v1.0.0")
    command = [sys.executable, "-c", textwrap.dedent(LOOK), workspace.storage.root]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "would overwrite version base@v1.0.0" in said[0]
    assert said[1:] == ["False"]

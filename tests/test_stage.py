"""The frame of every stage: found when finished, made under a lock and on record, never half there."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from heliostat.config import Config
from heliostat.control.inventory import list_models, list_runs
from heliostat.errors import ArtifactError, DataError, StorageError
from heliostat.stage import Request, find_or_make, read_run
from heliostat.storage import find_artifact
from heliostat.workspace import Workspace

pytestmark = pytest.mark.heavy


class Words(Config):
    text: str = "x"


class Rank(Config):
    r: int = 8


def request(text: str = "x", parents=()) -> Request:
    return Request("train", "model", "tiny", Words(text=text), parents)


class Work:
    """Writes one file; counts how often it was asked to."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, publication, run) -> None:
        self.times += 1
        (publication.folder / "weights").write_text(run.record.config["text"])
        publication.facts["words"] = 1
        run.log({"loss": 2.0}, step=1)
        run.log({"loss": 1.0}, step=2)


def the_run(workspace: Workspace, wanted: Request):
    return read_run(workspace, workspace.run_path(wanted.stage, wanted.key))


def test_what_is_finished_is_found_and_not_made_again(workspace):
    work = Work()
    first = find_or_make(workspace, request(), work)
    assert find_or_make(workspace, request(), work) == first
    assert work.times == 1
    assert first.facts == {"words": 1}
    assert first.config == {"text": "x"}


def test_what_changed_since_the_latest_of_its_name_is_said_field_by_field(workspace, caplog):
    caplog.set_level("INFO", logger="heliostat")
    find_or_make(workspace, request("x"), Work())
    assert caplog.messages == []
    other = find_or_make(workspace, request("y"), Work())
    assert caplog.messages == ['tiny is made again: text: "x" -> "y"']
    find_or_make(workspace, request("y", (other,)), Work())
    assert caplog.messages[1:] == ["tiny is made again: what it is made from changed"]


def test_what_another_stage_made_under_the_name_is_no_earlier_version(workspace, caplog):
    caplog.set_level("INFO", logger="heliostat")
    find_or_make(workspace, request("x"), Work())
    find_or_make(workspace, Request("train", "adapter", "tiny", Words(text="y")), Work())
    find_or_make(workspace, Request("merge", "model", "tiny", Rank()), lambda *_: None)
    assert caplog.messages == []


def test_another_config_or_another_input_is_another_artifact(workspace):
    work = Work()
    first = find_or_make(workspace, request(), work)
    other = find_or_make(workspace, request("y"), work)
    child = find_or_make(workspace, request("x", (other,)), work)
    assert work.times == 3
    assert len({first.uri, other.uri, child.uri}) == 3
    assert child.parents == (other.id,)


def test_sources_that_are_no_artifacts_count_as_well():
    plain = Request("data", "tokenized", "d", Words())
    assert Request("data", "tokenized", "d", Words(), sources="hash").key != plain.key


def test_force_makes_it_again_in_a_fresh_run_folder(workspace):
    work = Work()
    find_or_make(workspace, request(), work)
    workspace.storage.write_bytes(
        f"{workspace.run_path('train', request().key)}/checkpoint", b"of the old run"
    )
    find_or_make(workspace, request(), work, force=True)
    assert work.times == 2
    assert workspace.storage.list(workspace.run_path("train", request().key)) == ["run.json"]


def test_the_run_is_on_record_from_start_to_end(workspace):
    seen = []

    def look(publication, run):
        seen.append(the_run(workspace, request()))
        Work()(publication, run)

    artifact = find_or_make(workspace, request(), look)
    record = the_run(workspace, request())
    assert seen[0].status == "running"
    assert (record.status, record.outputs, record.metrics) == ("finished", (artifact.id,), {"loss": 1.0})
    assert record.fingerprint == Words().fingerprint()
    assert record.finished_at >= record.started_at


def test_failed_work_leaves_a_record_with_the_reason_and_no_artifact(workspace):
    def fail(publication, run):
        (publication.folder / "weights").write_text("half")
        raise DataError("nothing is left")

    with pytest.raises(DataError):
        find_or_make(workspace, request(), fail)
    record = the_run(workspace, request())
    assert (record.status, record.error) == ("failed", "nothing is left")
    assert list_models(workspace) == []


def test_an_interrupted_run_goes_on_in_the_same_folder_and_tracked_run(workspace):
    def interrupt(publication, run):
        (run.local_folder / "checkpoint").write_text("step 5")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_or_make(workspace, request(), interrupt)
    first = the_run(workspace, request())

    def go_on(publication, run):
        assert (run.local_folder / "checkpoint").read_text() == "step 5"
        Work()(publication, run)

    find_or_make(workspace, request(), go_on)
    second = the_run(workspace, request())
    assert (first.status, second.status, second.attempts) == ("failed", "finished", 2)
    assert second.tracking_run_id == first.tracking_run_id


def test_a_run_record_of_another_version_is_one_line(workspace):
    workspace.storage.write_bytes(f"{workspace.run_path('train', request().key)}/run.json", b"{}")
    with pytest.raises(ArtifactError, match="not a run of this version") as caught:
        find_or_make(workspace, request(), Work())
    assert "\n" not in str(caught.value)


def test_runs_are_listed_latest_first(workspace):
    find_or_make(workspace, request(), Work())
    find_or_make(workspace, request("y"), Work())
    assert {run.status for run in list_runs(workspace)} == {"finished"}
    assert len(list_runs(workspace)) == len(list_models(workspace)) == 2


SLOW = textwrap.dedent(
    """
    import sys, time
    from heliostat.config import Config
    from heliostat.stage import Request, find_or_make
    from heliostat.workspace import Workspace
    class Words(Config):
        text: str = "x"
    def work(publication, run):
        for number in range(400):
            (publication.folder / f"part-{number}").write_text("x")
            if number == 0:
                print("working", flush=True)
            time.sleep(float(sys.argv[2]))
    find_or_make(Workspace.resolve(sys.argv[1]), Request("train", "model", "tiny", Words()), work)
    """
)


def start(workspace: Workspace, seconds_a_file: float) -> subprocess.Popen:
    command = [sys.executable, "-c", SLOW, workspace.storage.root, str(seconds_a_file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "working\n"
    return process


def test_a_second_identical_run_is_refused_and_a_killed_one_is_made_good(workspace):
    with start(workspace, 1.0) as first:
        try:
            with pytest.raises(ArtifactError, match=f"identical run is going on .process {first.pid}"):
                find_or_make(workspace, request(), Work())
        finally:
            first.send_signal(signal.SIGKILL)
    path = workspace.path("model", "tiny", request().key)
    assert find_artifact(workspace.storage, path) is None
    assert find_or_make(workspace, request(), Work()).facts == {"words": 1}
    assert [name for name in os.listdir(workspace.storage.uri("models")) if "staging" in name] == []
    assert the_run(workspace, request()).attempts == 2


def test_a_second_identical_run_after_the_first_finds_its_output(workspace):
    with start(workspace, 0.0):
        pass
    work = Work()
    assert len(find_or_make(workspace, request(), work).files) == 400
    assert work.times == 0


def test_a_disk_that_fills_up_is_one_line_on_record_and_leaves_no_artifact(workspace):
    def fill(publication, run):
        with open("/dev/full", "wb") as stream:  # a device that is always full
            stream.write(bytes(100_000))

    with pytest.raises(StorageError, match="the disk is full"):
        find_or_make(workspace, request(), fill)
    assert "the disk is full" in the_run(workspace, request()).error
    assert list_models(workspace) == []

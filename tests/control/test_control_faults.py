"""What fails around the work, played through: the tracking server, the database, the disk, the clock, a node,
the head. Each test asserts the line that a person sees; README's table of failures names it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from small_artifacts import publish_dataset, publish_model
from tests.control.own_cluster import own_cluster
from tests.control.tracking_server import TrackingServer
from tests.training.running import history, run_folder

from heliostat.cli.app import execute
from heliostat.control.collector import Collector, read_cluster
from heliostat.control.local_cluster import LocalCluster
from heliostat.control.own_processes import members
from heliostat.control.readings import Ok, Unavailable
from heliostat.control.sites import Site
from heliostat.control.store import Store
from heliostat.errors import ServingError, StorageError
from heliostat.serving.access.config import TLSConfig
from heliostat.serving.access.tls import server_context
from heliostat.storage import Storage
from heliostat.tracking import Tracker
from heliostat.training.config import LoraAdapter, TrainConfig
from heliostat.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
NOTICE_SECONDS = 20
"""From a tracking server's end to the line about it: the steps of a report, and the server's five seconds."""


def wait_for(there: Callable[[], object], seconds: float, what: str | Callable[[], str]) -> float:
    """Seconds until something is so."""
    begun = time.monotonic()
    while not there():
        assert time.monotonic() - begun < seconds, what if isinstance(what, str) else what()
        time.sleep(0.05)
    return time.monotonic() - begun


@pytest.fixture
def tracking_server(tmp_path) -> Iterator[TrackingServer]:
    server = TrackingServer(tmp_path)
    yield server
    server.kill()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.lengthy
@pytest.mark.timeout(400)
def test_training_goes_on_without_its_tracking_server_and_hands_in_what_that_missed(
    tracking_server, tiny_model_folder, tmp_path
):
    inputs = Workspace.resolve(str(tmp_path / "inputs"))
    model = publish_model(inputs, tiny_model_folder)
    dataset = publish_dataset(inputs, tiny_model_folder, count=48, max_sequence_length=128)
    tracking_server.start()
    config = TrainConfig(adapter=LoraAdapter(r=4), max_steps=1_000_000, checkpoint={"every_steps": 1000})
    root, log = tmp_path / "workspace", tmp_path / "driver.log"
    program = ROOT / "tests" / "training" / "train_once.py"
    command = [sys.executable, program, config.model_dump_json(), model.uri, dataset.uri, str(root)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with log.open("wb") as output:
        driver = subprocess.Popen(
            command,
            env=environment | {"MLFLOW_TRACKING_URI": tracking_server.uri},
            stdout=output,
            stderr=output,
        )
    try:
        wait_for(lambda: len(history(root)) > 20, 120, log.read_text)
        tracking_server.kill()
        away = f"no tracking server answers at {tracking_server.uri}"
        noticed = wait_for(lambda: away in log.read_text(), NOTICE_SECONDS, log.read_text)
        told = next(line for line in log.read_text().splitlines() if away in line)
        assert told.endswith("training goes on, and hands in what MLflow missed when it answers")
        made = len(history(root))
        going_on = wait_for(lambda: len(history(root)) > made, 30, "it waits for the server")
        tracking_server.start()
        back = wait_for(lambda: "MLflow answers again, and gets the" in log.read_text(), 60, log.read_text)
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(timeout=120) == 1
    finally:
        driver.kill()
        driver.wait()
    print(f"said after {noticed:.1f} s, next step {going_on:.1f} s later, handed in {back:.1f} s after")
    record = json.loads((run_folder(root) / "run.json").read_text())
    assert record["status"] == "stopped"
    steps = [(int(row["step"]), row["loss"]) for row in history(root)]
    tracked = Tracker(tracking_server.uri).history(record["tracking_run_id"], "loss")
    assert [step for step, _ in tracked] == [step for step, _ in steps] == list(range(1, len(steps) + 1))
    assert [loss for _, loss in tracked] == pytest.approx([loss for _, loss in steps])


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    if os.geteuid() != 0:
        pytest.fail("this test mounts a small disk: run it as root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path) -> Path:
    """Take all the room there is."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as stream, suppress(OSError):
        while True:
            stream.write(bytes(2**12))
    return ballast


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_control_database_on_a_full_disk_is_one_line_and_takes_notes_again_when_there_is_room(
    small_disk, capsys
):
    place = ["--workspace", str(small_disk)]
    assert execute(["jobs", "limits", "--total", "5", *place]) == 0
    ballast = fill(small_disk)
    store = Store.of(Workspace.resolve(str(small_disk)))
    capsys.readouterr()
    assert execute(["jobs", "limits", "--total", "6", *place]) == 2
    assert said(capsys) == (
        f"heliostat: error: the control plane's database at {store.url} cannot be used: "
        "the disk is full; free some space"
    )
    ballast.unlink()
    assert execute(["jobs", "limits", *place]) == 0
    assert capsys.readouterr().out == "5 jobs at once, 2 of one person\n"
    assert execute(["jobs", "limits", "--total", "6", *place]) == 0


def test_a_control_database_that_cannot_be_written_is_one_line(small_disk, capsys):
    place = ["--workspace", str(small_disk)]
    assert heliostat("jobs", "limits", "--total", 5, *place).returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert execute(["jobs", "limits", "--total", "6", *place]) == 2
    line = said(capsys)
    assert line.startswith("heliostat: error: the control plane's database at sqlite:///")
    assert "cannot be used: " in line
    print(line)


KEPT = """
import sys
from heliostat.job_folder import keep_output, tail_log
from heliostat.storage import Storage
keep_output(Storage.at(sys.argv[1]), "job-1")
print("begun", flush=True)
for line in sys.stdin:
    print(line, end="", flush=True)
"""


def test_a_jobs_output_on_a_full_disk_costs_the_copy_and_not_the_job(small_disk):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    job = subprocess.Popen([sys.executable, "-c", KEPT, str(small_disk)], **pipes)
    assert job.stdout.readline() == "begun\n"
    kept = small_disk / "jobs" / "job-1" / "driver.log"
    wait_for(lambda: kept.read_text() == "begun\n", 10, "no output is kept")
    ballast = fill(small_disk)
    long = "x" * 8000 + "\n"
    job.stdin.write(long)
    job.stdin.flush()
    assert job.stdout.readline() == long
    ballast.unlink()
    printed, complained = job.communicate("there is room\n", timeout=30)
    assert (job.returncode, printed, complained) == (0, "there is room\n", "")
    assert kept.read_text().endswith("there is room\n")


def test_a_file_on_a_full_disk_is_the_old_one_or_the_new_one_and_never_a_part(small_disk):
    storage = Storage.at(small_disk)
    storage.write_bytes("record.json", b"old")
    ballast = fill(small_disk)
    with pytest.raises(StorageError, match="the disk is full; free some space or choose another --workspace"):
        storage.write_bytes("record.json", b"new" * 10_000)
    assert storage.read_bytes("record.json") == b"old"
    assert storage.list() == ["ballast", "record.json"]
    ballast.unlink()
    storage.write_bytes("record.json", b"new" * 10_000)
    assert storage.read_bytes("record.json") == b"new" * 10_000


@pytest.fixture(scope="module")
def shifted_clock(tmp_path_factory) -> Path:
    """A library that shifts the clock of the process that it is loaded into."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.fail("this test compiles a clock that is off: install a C compiler")
    library = tmp_path_factory.mktemp("clock") / "shifted_clock.so"
    source = Path(__file__).with_name("shifted_clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def heliostat(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which knows nothing of a Ray that other tests have here."""
    line = [sys.executable, "-m", "heliostat.cli", *map(str, arguments)]
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_ADDRESS", "RAY_AUTH_"))
    }
    return subprocess.run(line, env=own | environment, capture_output=True, text=True, cwd=ROOT, timeout=120)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("off_by", "which"), [(90, "behind"), (-3600, "ahead of")])
def test_the_doctor_measures_a_clock_that_is_off(cluster, shifted_clock, tmp_path, off_by, which):
    checks: list[dict] = []
    found: list[dict] = []
    deadline = time.monotonic() + 60
    while len(checks) < 2:  # a young head does not tell of its nodes yet
        assert time.monotonic() < deadline, found
        begun = time.monotonic()
        done = heliostat(
            *("doctor", "--address", cluster.address, "--workspace", tmp_path, "--json"),
            LD_PRELOAD=str(shifted_clock),
            CLOCK_OFF_BY=str(off_by),
            RAY_AUTH_TOKEN_PATH=str(cluster.token_file),
        )
        print(f"said after {time.monotonic() - begun:.1f} s")
        found = json.loads(done.stdout)["checks"]
        checks = [check for check in found if check["name"] in ("clock", "clocks")]
    (head,) = (check for check in checks if check["name"] == "clock")
    assert head["status"] == "warning"
    assert head["facts"]["ahead_seconds"] == pytest.approx(-off_by, abs=2)
    assert head["says"].startswith("the head's clock is ")
    assert head["says"].endswith(f" s {which} this machine's")
    assert head["mend"] == "let both keep their time by NTP (timedatectl set-ntp true)"


def test_a_certificate_made_by_a_clock_that_is_ahead_is_refused_with_the_time_it_begins(
    shifted_clock, tmp_path
):
    ahead = {"LD_PRELOAD": str(shifted_clock), "CLOCK_OFF_BY": "86400", "HELIOSTAT_TLS_FOLDER": str(tmp_path)}
    command = [ROOT / "cluster" / "make_certificate.sh", "127.0.0.1"]
    subprocess.run(command, env=os.environ | ahead, check=True, capture_output=True)
    tls = TLSConfig(certificate=str(tmp_path / "tls.crt"), key=str(tmp_path / "tls.key"))
    with pytest.raises(ServingError) as refused:
        server_context(tls)
    begins = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%d")
    assert str(refused.value).startswith(
        f"tls.certificate {tmp_path}/tls.crt: CN=Heliostat node is valid only from {begins} "
    )
    assert str(refused.value).endswith(" UTC on; wait or mend the clock")


@pytest.fixture
def local_cluster(tmp_path, monkeypatch) -> Iterator[LocalCluster]:
    """A head and one more node on this machine, and what a shell sets to work with them."""
    with own_cluster(tmp_path / "state", 2, port=22300) as started:
        for name, value in started.environment().items():
            monkeypatch.setenv(name, value)
        yield started


def kill_node(cluster: LocalCluster, number: int) -> None:
    """All processes of one node, at once."""
    for process in members(cluster.mark, cluster.processes[number:]):
        if os.getsid(process.pid) == cluster.pids[number]:
            process.kill()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_lost_node_and_a_lost_head_are_said_in_a_line_by_whoever_is_asked(
    local_cluster, tmp_path, capsys, monkeypatch
):
    address, root = local_cluster.address, str(tmp_path / "workspace")
    kill_node(local_cluster, 1)

    def gone() -> str:
        assert execute(["cluster", "status", "--address", address]) == 0
        return next((line for line in capsys.readouterr().out.splitlines() if " is gone: " in line), "")

    noticed = wait_for(gone, 90, "nobody misses the node")
    assert "termination" in gone()

    (tmp_path / "rows.jsonl").write_text('{"text": "one"}\n')
    recipe = tmp_path / "clean.yaml"
    source = f"{{kind: jsonl, path: {tmp_path / 'rows.jsonl'}}}"
    recipe.write_text(f"name: clean\ndata:\n  name: clean\n  sources:\n    - {source}\n")
    where = ["--address", address, "--workspace", root]
    assert execute(["submit", str(recipe), "--no-wait", "--no-preflight", *where]) == 0
    job_id = capsys.readouterr().out.split()[1]
    assert job_id.startswith("heliostat-clean-")
    site = Site.open(root, address)
    Collector(site).work_once()
    assert isinstance(read_cluster(site.store), Ok)

    kill_node(local_cluster, 0)
    lost_at = datetime.now(UTC)
    silence = f"no Ray dashboard answers at {address} ("
    begun = time.monotonic()
    assert execute(["cluster", "status", "--address", address]) == 2
    assert said(capsys).startswith(f"heliostat: error: {silence}")
    silent = time.monotonic() - begun
    Collector(site).work_once()
    noted = read_cluster(site.store)
    assert isinstance(noted, Unavailable)
    assert noted.reason.startswith(silence)
    assert noted.since >= lost_at > noted.last.at, "the dashboard shows the last answer with its age"
    monkeypatch.setattr("heliostat.control.patience.PATIENCE_SECONDS", 3)
    assert execute(["jobs", "logs", job_id, "--follow", *where]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"heliostat: error: lost sight of job {job_id}, which may still be running: {silence}"
    )
    assert execute(["jobs", "list", *where]) == 0
    assert job_id in capsys.readouterr().out, "what is on record outlives the head"
    print(f"a lost node is said after {noticed:.1f} s, a lost head after {silent:.1f} s")

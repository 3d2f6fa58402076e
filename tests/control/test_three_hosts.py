"""A laptop and a cluster of three hosts, with token and TLS: README's commands, and a head that is killed."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import pytest
import yaml
from tests.three_hosts import ADDRESS, ThreeHosts, three_hosts
from tests.two_hosts import available

from heliostat.job_folder import read_run_ids
from heliostat.storage import Storage
from heliostat.tracking import read_metrics

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.lengthy, pytest.mark.timeout(900)]

HELIOSTAT = [sys.executable, "-m", "heliostat.cli"]
RECIPE = "jobs/recipes/one_minute.yaml"
SMALL = ["data.sources.0.max_documents=100", "compress.resources.num_cpus=1"]
FEW_STEPS, STEPS, EVERY = 12, 200, 10
AWAY_SECONDS = 10
"""From the head's death until somebody starts it again."""
NOTICE_SECONDS = 60
"""From then until the record says that its jobs are lost, and are tried again."""
TLS = """
import socket, ssl, sys
from pathlib import Path
folder, head = Path.home() / ".heliostat" / "tls", sys.argv[1]
context = ssl.create_default_context(cafile=folder / "ca.crt")
context.set_alpn_protocols(["h2"])
if sys.argv[2] == "known":
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
with context.wrap_socket(socket.create_connection((head, 6379), 10), server_hostname=head) as stream:
    stream.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes(3) + b"\\x04" + bytes(5))
    print(len(stream.recv(9)))
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory) -> Iterator[ThreeHosts]:
    if not available():
        pytest.fail("this test makes network namespaces: run it as root, with iproute2 and redis-server")
    began = time.monotonic()
    with three_hosts(tmp_path_factory.mktemp("hosts")) as made:
        print(f"three hosts with token and TLS after {time.monotonic() - began:.1f} s")
        yield made


def heliostat(hosts: ThreeHosts, *arguments: object, share: bool = False, **environment: str):
    return hosts.on_laptop([*HELIOSTAT, *map(str, arguments)], share=share, **environment)


def recorded(hosts: ThreeHosts, *arguments: object) -> str:
    """What a `heliostat jobs` command prints where the workspace, and with it the record, is seen."""
    done = heliostat(hosts, "jobs", *arguments, "--workspace", hosts.workspace, share=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def submit(hosts: ThreeHosts, share: bool, *changes: str) -> str:
    """Hand in a small training, straight to Ray where the workspace is not seen; the job's id."""
    options = ["--until", "train", "--workspace", hosts.workspace, "--no-wait"]
    done = heliostat(hosts, "submit", RECIPE, *SMALL, *changes, *options, share=share)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()[1]


def rows(hosts: ThreeHosts, kind: str) -> list[dict]:
    """What the head lists to the laptop."""
    ask = f"print(json.dumps(RayApi('{ADDRESS}').rows('{kind}')))"
    code = f"import json; from heliostat.control.ray_api import RayApi; {ask}"
    asked = hosts.on_laptop([sys.executable, "-c", code])
    assert asked.returncode == 0, asked.stderr
    return json.loads(asked.stdout)


def hosts_of_workers(hosts: ThreeHosts) -> set[str]:
    """The addresses of the hosts that training workers ran on."""
    addresses = {node["node_id"]: node["node_ip"] for node in rows(hosts, "nodes")}
    actors = [each for each in rows(hosts, "actors") if "RayTrainWorker" in each["class_name"]]
    return {addresses[each["node_id"]] for each in actors}


def history(hosts: ThreeHosts, job_id: str) -> list[dict[str, float]]:
    """The steps that a job's training has written."""
    names = read_run_ids(Storage.at(str(hosts.kept)), job_id)
    found = [read_metrics(hosts.kept / "runs" / name) for name in names if name.startswith("train-")]
    return found[0] if found else []


@pytest.fixture(scope="module")
def first_job(hosts) -> str:
    """One that was handed in from the laptop, which does not see the workspace."""
    return submit(hosts, False, f"train.max_steps={FEW_STEPS}", "train.num_workers=2")


def test_a_recipe_submitted_from_the_laptop_trains_on_the_workers_and_its_log_is_followed(hosts, first_job):
    followed = heliostat(hosts, "jobs", "logs", first_job, "--follow", "--workspace", hosts.workspace)
    assert followed.returncode == 0, followed.stdout + followed.stderr
    print(followed.stdout, followed.stderr)
    assert followed.stdout.splitlines()[-1] == f"job {first_job} SUCCEEDED"
    assert [entry["step"] for entry in history(hosts, first_job)] == list(range(1, FEW_STEPS + 1))
    assert hosts_of_workers(hosts) == {host.address for host in hosts.workers}


@dataclass(frozen=True)
class Lost:
    """A job that ran when the head was killed, with its steps and its log until then."""

    job_id: str
    steps: int
    log: str

    def retry_id(self, hosts: ThreeHosts) -> str:
        """The job that followed by itself, as the record says."""
        found = re.search(r"tried again as\s+(\S+)", recorded(hosts, "show", self.job_id))
        assert found, recorded(hosts, "show", self.job_id)
        return found[1]


@dataclass(frozen=True)
class Story:
    """What became of two trainings whose head was killed; one was handed in straight to Ray."""

    recorded: Lost
    straight: Lost
    killed_at: float
    followed: str
    exit_code: int


def wait_until(done: Callable[[], bool], hosts: ThreeHosts) -> None:
    deadline = time.monotonic() + 240
    while not done():
        assert time.monotonic() < deadline, hosts.log("follow") + hosts.log("control") + hosts.log("head")
        time.sleep(0.2)


def states(hosts: ThreeHosts) -> dict[str, str]:
    """The state of each job on record."""
    return {line.split()[0]: line.split()[1] for line in recorded(hosts, "list").splitlines()[1:]}


@pytest.fixture(scope="module")
def story(hosts, first_job) -> Story:
    wait_until(lambda: len(history(hosts, first_job)) == FEW_STEPS, hosts)
    where = ["--workspace", str(hosts.workspace)]
    hosts.begin_on_laptop([*HELIOSTAT, "control", *where], "control")
    changes = [f"train.max_steps={STEPS}", f"train.checkpoint.every_steps={EVERY}"]
    ids = [
        submit(hosts, True, *changes),
        submit(hosts, False, *changes, "train.learning_rate=0.001"),
    ]
    following = hosts.begin_on_laptop([*HELIOSTAT, "jobs", "logs", ids[0], "--follow", *where], "follow")
    wait_until(lambda: all(len(history(hosts, each)) > 2 * EVERY for each in ids), hosts)
    logs = [recorded(hosts, "logs", each) for each in ids]
    hosts.kill_head()
    killed_at = time.time()
    lost = [Lost(each, len(history(hosts, each)), log) for each, log in zip(ids, logs, strict=True)]
    time.sleep(AWAY_SECONDS)
    hosts.start_head()
    code = following.wait(timeout=400)
    wait_until(lambda: not {"QUEUED", "PENDING", "RUNNING"} & set(states(hosts).values()), hosts)
    followed = (hosts.folder / "follow.log").read_text()
    print(followed, *(recorded(hosts, "show", each) for each in states(hosts)))
    return Story(*lost, killed_at, followed, code)


@pytest.fixture(params=["recorded", "straight"])
def lost(request, story) -> Lost:
    return getattr(story, request.param)


def test_a_job_whose_head_was_killed_is_tried_again_by_itself_and_the_record_says_so(hosts, story, lost):
    after = states(hosts)
    assert after[lost.job_id] == "FAILED"
    assert after[lost.retry_id(hosts)] == "SUCCEEDED"
    ended = yaml.safe_load(recorded(hosts, "show", lost.job_id))["ended_at"]
    noticed = datetime.fromisoformat(ended).timestamp() - story.killed_at
    print(f"on record as lost {noticed:.1f} s after the kill; the head was away for {AWAY_SECONDS} s")
    assert noticed < AWAY_SECONDS + NOTICE_SECONDS


def test_the_retry_goes_on_from_the_last_checkpoint(hosts, story, lost):
    found = history(hosts, lost.retry_id(hosts))
    assert [entry["step"] for entry in found] == list(range(1, STEPS + 1))
    resumed = next(entry for entry in found if entry["time"] > story.killed_at)
    print(
        f"head killed at step {lost.steps}, started again {AWAY_SECONDS} s later; "
        f"step {resumed['step']:.0f} was made {resumed['time'] - story.killed_at:.1f} s after the kill"
    )
    assert lost.steps - EVERY <= resumed["step"] <= lost.steps + 1


def test_who_follows_is_told_of_the_retry_and_follows_it(hosts, story):
    retry_id = story.recorded.retry_id(hosts)
    said = [line for line in story.followed.splitlines() if line.startswith("job ")]
    assert said[-2].startswith(f"job {story.recorded.job_id} FAILED: ")
    assert said[-2].endswith(f"tried again as {retry_id}")
    assert said[-1] == f"job {retry_id} SUCCEEDED"
    assert story.exit_code == 0


def test_the_history_from_before_the_kill_is_still_listed(hosts, story, first_job):
    assert states(hosts)[first_job] == "SUCCEEDED"
    assert first_job in {row["submission_id"] for row in rows(hosts, "jobs")}


def test_the_logs_from_before_the_kill_are_still_read(hosts, lost):
    assert "one-minute" in lost.log
    assert recorded(hosts, "logs", lost.job_id).startswith(lost.log)


def test_following_from_a_laptop_leaves_no_workspace_there(hosts, first_job):
    heliostat(hosts, "jobs", "logs", first_job, "--workspace", hosts.workspace)
    assert not hosts.workspace.exists()


@pytest.mark.parametrize(("token", "says"), [("", "asks for a token"), ("wrong", "refuses the token")])
def test_without_the_right_token_the_laptop_is_told_so_in_one_line(hosts, token, says):
    elsewhere = {"RAY_AUTH_TOKEN": token, "RAY_AUTH_TOKEN_PATH": "", "HOME": str(hosts.folder)}
    refused = heliostat(hosts, "submit", RECIPE, *SMALL, "--workspace", hosts.workspace, **elsewhere)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert len(refused.stderr.splitlines()) == 1
    assert says in refused.stderr


def test_only_who_has_a_certificate_of_the_authority_speaks_with_the_head(hosts):
    worker = hosts.workers[0]
    asked = {
        who: subprocess.run(
            worker.command([sys.executable, "-c", TLS, hosts.head.address, who]),
            env=hosts.environment(worker), capture_output=True, text=True, check=False,
        )
        for who in ("known", "stranger")
    }  # fmt: skip
    assert asked["known"].stdout.strip() == "9", asked["known"].stderr
    assert asked["stranger"].stdout.strip() in ("", "0")

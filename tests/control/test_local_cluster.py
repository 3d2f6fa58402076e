"""A cluster on this machine, as a person starts and ends it: what it says, and that nothing of it is left."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.control.own_cluster import own_place
from tests.processes import HEAR_CTRL_C, prepared

from heliostat.cli.app import execute
from heliostat.control.local_cluster import (
    RECORD_NAME,
    LocalCluster,
    find_local_cluster,
    start_local_cluster,
    state_folder,
    stop_local_cluster,
)
from heliostat.control.local_nodes import LocalSettings
from heliostat.control.own_processes import members
from heliostat.control.ray_api import RayApi
from heliostat.control.ray_state import read_demand, read_nodes, refuse_impossible
from heliostat.errors import ClusterError, ConfigError

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.heavy]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def own_state(tmp_path_factory):
    """A state folder and a token's place of the module's own; whatever is left at the end is ended."""
    folder = tmp_path_factory.mktemp("state")
    with own_place(folder):
        yield folder
        stop_local_cluster()


@pytest.fixture
def taken_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def up(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "heliostat.cli", "cluster", "up", "local", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "platform"), "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(prepared(HEAR_CTRL_C, command), env=environment, **pipes)


def recorded(processes: int) -> LocalCluster:
    """The record as soon as so many nodes were started."""
    path = state_folder() / RECORD_NAME
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists():
            found = LocalCluster.model_validate_json(path.read_text())
            if len(found.processes) >= processes:
                return found
        time.sleep(0.05)
    raise AssertionError("no record was written")


def gone(cluster: LocalCluster) -> bool:
    there = members(cluster.mark, cluster.processes)
    return not there and not Path(cluster.folder).exists() and not (state_folder() / RECORD_NAME).exists()


def test_up_in_the_foreground_until_interrupted(taken_port, capsys):
    process = up("--nodes", 2, "--cpus-per-node", 1, "--port", taken_port)
    said = [process.stdout.readline() for _ in range(9)]
    cluster = find_local_cluster()
    assert f"port {taken_port} is taken; the dashboard is on " in said[0]
    assert f"Ray with 2 nodes at {cluster.address}, process {cluster.pids[0]}" in said[1]
    assert f"  export RAY_AUTH_TOKEN_PATH={cluster.token_path}\n" in said
    assert f"  heliostat cluster status --address {cluster.address}\n" in said
    assert Path(cluster.token_path).stat().st_mode & 0o777 == 0o600
    assert execute(["cluster", "status", "--address", cluster.address]) == 0
    printed = capsys.readouterr().out
    assert printed.count(" alive ") == 2
    assert "Nothing waits for resources." in printed
    assert execute(["cluster", "status", "--address", cluster.address, "--json"]) == 0
    assert {"nodes", "demand", "holders"} == set(json.loads(capsys.readouterr().out))

    there = members(cluster.mark, cluster.processes)
    token = Path(cluster.token_path).read_text()
    assert len(there) > 8
    assert not any(token in " ".join(each.cmdline()) for each in there)
    with pytest.raises(ClusterError, match="runs already"):
        start_local_cluster()

    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert gone(cluster)


def test_the_dashboard_is_open_to_this_machine_only_and_asks_for_a_token(monkeypatch):
    cluster = start_local_cluster(cpus_per_node=1, settings=LocalSettings(port=21700))
    try:
        port = int(cluster.address.rpartition(":")[2])
        listening = {
            each.laddr.ip
            for process in members(cluster.mark, cluster.processes)
            for each in process.net_connections("tcp")
            if each.status == psutil.CONN_LISTEN and each.laddr.port == port
        }
        assert listening == {"127.0.0.1"}
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        with RayApi(cluster.address) as api, pytest.raises(ClusterError, match="asks for a token"):
            read_nodes(api)
    finally:
        cluster.stop()
    assert gone(cluster)
    assert find_local_cluster() is None


def test_a_node_that_is_killed_is_said_to_be_dead_and_why():
    cluster = start_local_cluster(nodes=2, cpus_per_node=1, settings=LocalSettings(port=21800))
    try:
        with RayApi(cluster.address) as api:
            asked = {"CPU": 1.0}
            assert refuse_impossible(read_demand(api), asked, num_workers=2) is None
            for process in members(cluster.mark, cluster.processes[1:]):
                if os.getsid(process.pid) == cluster.pids[1]:
                    process.kill()
            deadline = time.monotonic() + 90
            while all(node.alive for node in read_nodes(api)):
                assert time.monotonic() < deadline
                time.sleep(1)
            dead = read_nodes(api)[-1]
            assert (dead.alive, dead.state, dead.cpus_used) == (False, "DEAD", None)
            assert "termination" in dead.state_message
            while "room for 1" not in (refuse_impossible(read_demand(api), asked, num_workers=2) or ""):
                assert time.monotonic() < deadline
                time.sleep(1)
    finally:
        cluster.stop()
    assert gone(cluster)


@pytest.mark.parametrize(("number", "processes"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_interrupted_while_it_starts_it_leaves_nothing(number, processes):
    process = up("--nodes", 2, "--port", 21900)
    cluster = recorded(processes)
    process.send_signal(number)
    assert process.wait(timeout=60) == 130
    assert "nothing is left of the cluster" in process.stdout.read()
    assert gone(cluster)


def test_down_ends_what_a_killed_start_has_left(capsys):
    process = up("--nodes", 2, "--port", 21900)
    cluster = recorded(1)
    process.kill()
    process.wait()
    assert members(cluster.mark, cluster.processes)
    assert find_local_cluster() is None
    assert execute(["cluster", "down", "local"]) == 0
    assert capsys.readouterr().out == f"ended the local cluster at {cluster.address}\n"
    assert gone(cluster)
    assert execute(["cluster", "down", "local"]) == 0
    assert capsys.readouterr().out == "no local cluster runs\n"


def test_detached_it_stays_and_down_ends_only_it(capsys):
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        process = up("--detach", "--cpus-per-node", 1, "--port", 21900)
        assert process.wait(timeout=90) == 0
        cluster = find_local_cluster()
        assert cluster.alive
        assert execute(["cluster", "down", "local"]) == 0
        assert gone(cluster)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_what_makes_no_sense_is_refused_before_anything_starts(monkeypatch):
    with pytest.raises(ConfigError, match="at least one node"):
        start_local_cluster(nodes=0)
    with pytest.raises(ConfigError, match="leaves nothing to scale"):
        start_local_cluster(nodes=1, autoscale=True)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(ConfigError, match="asks for a token"):
        start_local_cluster()
    assert not (state_folder() / RECORD_NAME).exists()


def test_ray_that_does_not_start_is_one_line_with_its_reason(tmp_path):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    with pytest.raises(ClusterError, match="Ray did not start") as caught:
        start_local_cluster(settings=LocalSettings(port=21900, folder=long))
    assert "\n" not in str(caught.value)
    assert "socket" in str(caught.value)
    assert list(long.iterdir()) == []
    with pytest.raises(ClusterError, match="cannot be kept there: No such file"):
        start_local_cluster(settings=LocalSettings(folder=tmp_path / "gone"))

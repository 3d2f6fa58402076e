"""A real Ray head node with token authentication, started apart from the tests as a person would start it."""

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.control.postgres import PostgreSQL, executable

from heliostat.control.ray_api import RayApi
from heliostat.errors import ClusterError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Cluster:
    """Where the head's dashboard answers, and the file with its token."""

    address: str
    token_file: Path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """cluster/start_head.sh on ports of its own; stopped by its process id."""
    folder = tmp_path_factory.mktemp("cluster")
    # Ray's socket paths must be short; its agents may write a last line while the folder goes.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as short:
        token_file, log = folder / "ray" / "token", folder / "log"
        port = _free_ports()
        environment = os.environ | {
            "HEAD_PORT": str(port),
            "DASHBOARD_PORT": str(port + 8),
            "RAY_TMPDIR": short,
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "1",  # there is no other node to move work to
            "RAY_AUTH_TOKEN_PATH": str(token_file),
            "HELIOSTAT_WORKSPACE": str(folder / "workspace"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        command = [
            ROOT / "cluster" / "start_head.sh",
            "--num-cpus",
            "2",
            "--object-store-memory",
            "200000000",
        ]
        with log.open("w") as output:
            head = subprocess.Popen(
                command, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        try:
            found = Cluster(f"http://127.0.0.1:{port + 8}", token_file)
            _wait_until_it_answers(found, head, log)
            yield found
        finally:
            head.terminate()
            try:
                head.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(head.pid, signal.SIGKILL)
                raise


def _free_ports() -> int:
    """The first of a row of free ports, below those the system hands out by itself."""
    while True:
        first = random.randrange(20000, 32000, 10)
        try:
            for port in range(first, first + 9):
                with socket.socket() as probe:
                    probe.bind(("0.0.0.0", port))
        except OSError:
            continue
        return first


def _wait_until_it_answers(cluster: Cluster, head: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 120
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(cluster.token_file))
        patch.delenv("RAY_AUTH_TOKEN", raising=False)
        while True:
            assert head.poll() is None, log.read_text()
            try:
                with RayApi(cluster.address) as api:
                    api.check_version()
                    api.jobs()
                return
            except ClusterError:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A server for the whole session; each test asks it for a database of its own."""
    if executable("pg_ctl") is None:
        pytest.skip("needs PostgreSQL (Debian package postgresql)")
    with tempfile.TemporaryDirectory(prefix="postgresql-", dir="/tmp") as short:  # its socket's path is short
        server = PostgreSQL(Path(short))
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path, monkeypatch) -> str:
    """An empty database's address, once of each kind; for PostgreSQL's what the environment names."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/control.db"
    url = request.getfixturevalue("postgresql").url(tmp_path.name)
    monkeypatch.setenv("HELIOSTAT_DATABASE", url)
    return url

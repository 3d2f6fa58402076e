"""Addresses and tokens: where they come from, and what is said when nobody answers or nobody knows us."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from heliostat.control.auth_token import find_auth_token
from heliostat.control.ray_api import RayApi
from heliostat.control.ray_jobs import list_jobs
from heliostat.control.submissions import _workspace_variable
from heliostat.errors import ClusterError

pytestmark = pytest.mark.heavy


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty home and no token in the environment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "HELIOSTAT_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@contextmanager
def server(status: int, body: str) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """An HTTP server that is no Ray dashboard; collects the headers it is sent."""
    seen: list[dict[str, str]] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(dict(self.headers))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    listener = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.server_port}", seen
    finally:
        listener.shutdown()
        listener.server_close()


def refused(address: str) -> str:
    with pytest.raises(ClusterError) as caught, RayApi(address) as api:
        api.check_version()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_a_token_there_is_none():
    assert find_auth_token() is None


def test_the_token_is_looked_for_where_ray_looks(home, monkeypatch):
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("from-home\n")
    assert find_auth_token().value == "from-home"
    (home / "file").write_text("from-file")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "file"))
    assert find_auth_token().value == "from-file"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "from-variable")
    assert find_auth_token().value == "from-variable"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert find_auth_token() is None


def test_a_token_file_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/gone")
    with pytest.raises(ClusterError, match="RAY_AUTH_TOKEN_PATH names /gone"):
        find_auth_token()


def test_the_token_is_never_shown(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret-token")
    assert "secret-token" not in repr(find_auth_token())
    with server(403, "Forbidden: secret-token") as (address, seen):
        message = refused(address)
    assert seen[0]["Authorization"] == "Bearer secret-token"
    assert "refuses the token from RAY_AUTH_TOKEN" in message
    assert "secret-token" not in message


def test_a_cluster_that_asks_for_a_token_says_where_to_put_it():
    with server(401, "Unauthorized") as (address, seen):
        message = refused(address)
    assert "Authorization" not in seen[0]
    assert "RAY_AUTH_TOKEN, the file named by RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token" in message


def test_nobody_there():
    assert refused("http://127.0.0.1:1").startswith("no Ray dashboard answers at http://127.0.0.1:1")


def test_an_unknown_host():
    assert refused("head.invalid:8265").startswith("no Ray dashboard answers at http://head.invalid:8265")


@pytest.mark.parametrize(("status", "body"), [(200, "<html>"), (404, "not here"), (200, "[1]")])
def test_something_else_answers(status, body):
    with server(status, body) as (address, _):
        assert "is not a Ray dashboard" in refused(address)


def test_an_old_cluster_is_refused():
    with server(200, json.dumps({"ray_version": "2.9.3"})) as (address, _):
        assert refused(address).endswith("runs Ray 2.9.3; it needs 2.60 or later")


def test_a_ray_client_address_is_explained():
    with pytest.raises(ClusterError, match="dashboard's HTTP port"):
        RayApi("ray://head:10001")


def test_a_fault_of_the_server_is_one_line():
    with (
        server(500, "Traceback\n  line\nValueError: no space") as (address, _),
        pytest.raises(ClusterError, match="HTTP 500: ValueError: no space") as caught,
    ):
        list_jobs(address)
    assert "\n" not in str(caught.value)


def test_the_job_is_told_of_a_workspace_it_can_reach(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here, far = "http://127.0.0.1:8265", "http://head:8265"
    assert _workspace_variable(here, None) == {"HELIOSTAT_WORKSPACE": str(tmp_path / "heliostat-workspace")}
    assert _workspace_variable(far, None) == {}
    assert _workspace_variable(far, "s3://bucket/w") == {"HELIOSTAT_WORKSPACE": "s3://bucket/w"}
    monkeypatch.setenv("HELIOSTAT_WORKSPACE", "/shared/w")
    assert _workspace_variable(far, None) == {"HELIOSTAT_WORKSPACE": "/shared/w"}
    assert _workspace_variable("localhost:8265", "given") == {"HELIOSTAT_WORKSPACE": str(tmp_path / "given")}

"""Endpoints that ended without a word: known to be gone, or said to be, and never while they run."""

import http.server
import json
import subprocess
import sys
import threading

import pytest
from versions.small_records import artifact, endpoint

from heliostat.driver import Driver
from heliostat.endpoints import DeploymentRecord, forget, mark_stopped, read_deployments, write_record
from heliostat.errors import ConfigError, ServingError
from heliostat.workspace import Workspace

MODEL = artifact(1, "model", ())
ELSEWHERE = Driver.here().model_copy(update={"machine": "elsewhere"})
COMMAND = [
    sys.executable,
    "-c",
    "from heliostat.driver import Driver; print(Driver.here().model_dump_json())",
]


def record(driver: Driver | None = None, url: str = "http://127.0.0.1:1") -> DeploymentRecord:
    """Of an endpoint `chat` that is running by it; nothing listens on port 1."""
    made = endpoint("chat", MODEL, "running")
    where = made.endpoint.model_copy(update={"url": url})
    return made.model_copy(update={"endpoint": where, "driver": driver})


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace.resolve(str(tmp_path))


@pytest.fixture(scope="module")
def dead() -> Driver:
    """A process that has ended."""
    return Driver.model_validate_json(subprocess.run(COMMAND, capture_output=True, check=True).stdout)


@pytest.fixture
def answering():
    """A server whose answer, status and body, a test may set; and its address."""
    said: dict[str, object] = {"status": 200, "body": b""}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(said["status"])
            self.end_headers()
            self.wfile.write(said["body"])

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield said, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def statuses(workspace) -> list[str]:
    return [each.status for each in read_deployments(workspace)]


def test_an_endpoint_whose_process_was_killed_is_gone_without_a_word(workspace, dead):
    write_record(workspace, record(dead))
    assert statuses(workspace) == ["gone"]
    assert forget(workspace, "chat").status == "gone"


@pytest.mark.parametrize("driver", [None, ELSEWHERE, Driver.here()], ids=["joined", "elsewhere", "alive"])
def test_any_other_counts_as_running(workspace, driver):
    write_record(workspace, record(driver))
    assert statuses(workspace) == ["running"]


@pytest.mark.parametrize("driver", [None, ELSEWHERE], ids=["joined", "elsewhere"])
def test_one_of_which_nothing_is_known_is_gone_when_somebody_says_so(workspace, driver):
    write_record(workspace, record(driver))
    said = forget(workspace, "chat")
    assert (said.status, read_deployments(workspace)) == ("gone", [said])
    assert said.stopped_at is not None
    assert forget(workspace, "chat") == said


def test_one_whose_process_lives_is_not_forgotten(workspace):
    write_record(workspace, record(Driver.here()))
    with pytest.raises(ServingError, match=r"chat: is running: process \d+ on this machine") as caught:
        forget(workspace, "chat")
    assert "\n" not in str(caught.value)
    assert statuses(workspace) == ["running"]


@pytest.mark.parametrize("status", [200, 503])
def test_one_that_answers_is_not_forgotten_even_when_it_cannot_work(workspace, answering, status):
    said, url = answering
    said |= {"status": status, "body": json.dumps({"models": ["chat"]}).encode()}
    write_record(workspace, record(None, url))
    with pytest.raises(ServingError, match=r"it answers at http.*: 'heliostat serve delete chat'"):
        forget(workspace, "chat")
    assert statuses(workspace) == ["running"]


@pytest.mark.parametrize("body", [b'{"models": ["other"]}', b"<html>", b"[]", b'{"models": null}', b"\xff"])
def test_who_took_its_port_does_not_speak_for_it(workspace, answering, body):
    said, url = answering
    said["body"] = body
    write_record(workspace, record(None, url))
    assert forget(workspace, "chat").status == "gone"


def test_one_that_was_shut_down_stays_so(workspace):
    running = record(Driver.here())
    write_record(workspace, running)
    mark_stopped(
        running.endpoint.model_copy(update={"record_uri": workspace.storage.uri("deployments/chat.json")})
    )
    assert statuses(workspace) == ["running"]  # the record is not of that endpoint: another took its name
    where = running.endpoint.model_copy(update={"record_uri": workspace.storage.uri("deployments/chat.json")})
    write_record(workspace, running.model_copy(update={"endpoint": where}))
    mark_stopped(where)
    assert forget(workspace, "chat").status == "stopped"


def test_one_that_is_not_on_record_is_one_line_with_a_hint(workspace):
    write_record(workspace, record())
    with pytest.raises(ConfigError, match=r"chta: no endpoint of that name .*; did you mean 'chat'\?"):
        forget(workspace, "chta")
    with pytest.raises(ConfigError, match="'heliostat endpoints list' names those there are"):
        forget(workspace, "wholly-different")


def test_a_record_from_before_drivers_were_noted_is_read(workspace):
    values = record().model_dump(mode="json")
    del values["driver"]
    workspace.storage.write_bytes("deployments/chat.json", json.dumps(values).encode())
    assert statuses(workspace) == ["running"]

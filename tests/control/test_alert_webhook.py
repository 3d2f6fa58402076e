"""Alerts posted to a chat, over HTTP to a real server: once each way, a bounded number of tries."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from heliostat.control import webhook
from heliostat.control.alert_watch import READING, AlertWatch, read_watch
from heliostat.control.alerts import Alert, Change
from heliostat.control.collector import Collector
from heliostat.control.job_records import JobRecord, add_job
from heliostat.control.local_nodes import Ports, environment
from heliostat.control.sites import Site
from heliostat.control.webhook import MOST_TRIES, VARIABLE, Post, post_due, posts_of, shown

SECRET = "T0000/B0000/verysecret"


@dataclass
class Chat:
    """What a chat's server heard, and how it answers."""

    address: str = ""
    status: int = 200
    silent_seconds: float = 0.0
    heard: list[dict] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        return [each["text"] for each in self.heard]


@pytest.fixture
def chat(monkeypatch) -> Iterator[Chat]:
    found = Chat()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            time.sleep(found.silent_seconds)
            if found.status < 300:
                found.heard.append(json.loads(body))
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.address = f"http://127.0.0.1:{server.server_port}/services/{SECRET}"
    monkeypatch.setenv(VARIABLE, found.address)
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    return Site.open(str(tmp_path / "workspace"))


def put_failed_job(site: Site, job_id: str = "job-1", **changes) -> None:
    at = datetime.now(UTC) - timedelta(seconds=20)
    values = {
        "name": "clean", "project": "", "user": "ada", "state": "FAILED", "reason": "exit code 1",
        "created_at": at, "changed_at": at, "ended_at": at,
    }  # fmt: skip
    add_job(site.store, JobRecord(id=job_id, **values | changes), "put there")


def turn(site: Site) -> None:
    site.store.put_reading(READING, AlertWatch().look(site), datetime.now(UTC))


def state_of(site: Site):
    return read_watch(site.store).value


def test_an_alert_is_posted_once_as_it_opens_and_once_as_it_closes(site, chat):
    put_failed_job(site)
    turn(site)
    turn(site)
    assert [text for text in chat.texts if "JobFailed opened (job/job-1)" in text] == chat.texts
    assert len(chat.texts) == 1
    assert "What may help: 'heliostat jobs logs job-1'" in chat.texts[0]
    put_failed_job(site, "job-2", state="QUEUED", parent="job-1", relation="retry", ended_at=None)
    turn(site)
    turn(site)
    assert len(chat.texts) == 2
    assert chat.texts[1].startswith("JobFailed closed (job/job-1)")


def test_the_collector_posts_by_itself(site, chat):
    put_failed_job(site)
    Collector(site).work_once()
    assert len(chat.texts) == 1


def test_nothing_is_kept_to_be_posted_where_no_address_is_set(site, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    put_failed_job(site)
    turn(site)
    assert state_of(site).waiting == ()


def test_a_post_that_is_not_taken_is_noted_and_taken_by_the_next_collector(site, chat):
    chat.status = 503
    put_failed_job(site)
    turn(site)
    state = state_of(site)
    assert [post.tries for post in state.waiting] == [1]
    assert "answered HTTP 503; tried again in 10 s" in state.notes[0]
    turn(site)
    assert [post.tries for post in state_of(site).waiting] == [1]  # it is not due yet
    chat.status = 200
    due = [post.model_copy(update={"due": 0.0}).model_dump() for post in state.waiting]
    site.store.put_reading(READING, state.model_dump(mode="json") | {"waiting": due}, datetime.now(UTC))
    turn(site)
    assert len(chat.texts) == 1
    assert state_of(site).waiting == ()


def test_a_post_is_tried_a_bounded_number_of_times(chat):
    chat.status = 500
    waiting, notes = (Post(text="x"),), ()
    for _ in range(MOST_TRIES):
        assert waiting
        waiting, notes = post_due([post.model_copy(update={"due": 0.0}) for post in waiting])
    assert waiting == ()
    assert f"given up after {MOST_TRIES} tries" in notes[0]


def test_what_the_chat_refuses_for_good_is_not_tried_again_and_holds_up_nothing(chat):
    chat.status = 404
    waiting, notes = post_due((Post(text="first"), Post(text="second")))
    assert [post.text for post in waiting] == ["second"]
    assert "HTTP 404" in notes[0]
    chat.status = 200
    assert post_due(waiting) == ((), ())
    assert chat.texts == ["second"]


def test_a_redirection_is_not_followed(chat):
    chat.status = 302
    assert "HTTP 302" in post_due((Post(text="x"),))[1][0]


def test_a_chat_that_hangs_does_not_hold_up_the_collector(chat, monkeypatch):
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.2)
    chat.silent_seconds = 1.0
    began = time.monotonic()
    waiting, notes = post_due((Post(text="first"), Post(text="second")))
    assert time.monotonic() - began < 0.9
    assert [post.text for post in waiting] == ["first", "second"]
    assert "did not take it (ReadTimeout)" in notes[0]


def test_too_many_messages_drop_the_oldest_and_say_so(monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv(VARIABLE, f"http://127.0.0.1:{probe.getsockname()[1]}/{SECRET}")
        waiting, notes = post_due([Post(text=str(number)) for number in range(205)])
    assert [waiting[0].text, len(waiting)] == ["5", 200]
    assert "5 messages" in notes[0]


@pytest.mark.parametrize("status", [200, 404, 503])
def test_the_address_is_in_no_note_and_no_log(site, chat, caplog, status):
    chat.status = status
    put_failed_job(site)
    with caplog.at_level(logging.DEBUG):
        turn(site)
    told = caplog.text + state_of(site).model_dump_json()
    assert "verysecret" not in told
    assert SECRET not in told


def test_an_address_that_httpx_writes_in_another_way_is_in_no_log_either(chat, monkeypatch, caplog):
    monkeypatch.setenv(VARIABLE, chat.address.replace("127.0.0.1", "LocalHost"))
    with caplog.at_level(logging.DEBUG):
        assert post_due((Post(text="x"),)) == ((), ())
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "address", ["no address/verysecret", "ftp://h/verysecret", "http://[::1/verysecret", "http:///verysecret"]
)
def test_an_address_that_is_none_is_said_without_it(monkeypatch, address):
    monkeypatch.setenv(VARIABLE, address)
    waiting, notes = post_due((Post(text="x"),))
    assert VARIABLE in notes[0]
    assert "verysecret" not in " ".join(notes)
    assert "verysecret" not in shown(address)
    assert len(waiting) <= 1


def test_jobs_on_a_local_cluster_do_not_get_the_address(chat, tmp_path):
    ports = Ports(gcs=1, dashboard=2, client=3, autoscaler_metrics=4, dashboard_metrics=5)
    assert SECRET not in str(environment("mark", tmp_path, tmp_path / "token", None, ports))


def test_what_a_person_wrote_calls_nobody_and_links_nowhere():
    since = datetime.now(UTC) - timedelta(minutes=1)
    worst = "<!channel> <https://evil.example|click> & more"
    alert = Alert(id="a", rule="JobFailed", subject="job/x", text=worst, mend="m", since=since)
    text = posts_of([Change(alert, "opened")])[0].text
    assert "<" not in text
    assert "&lt;!channel&gt;" in text

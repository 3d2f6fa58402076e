"""The collector on bad days: answers that make no sense, a head that hangs."""

import logging
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from recorded_ray import answering, recorded
from sqlalchemy import event

from heliostat.control import collector, ray_api
from heliostat.control.collector import NO_CLUSTER, Collector, read_cluster, read_noted_nodes
from heliostat.control.readings import Ok, Unavailable
from heliostat.control.sites import Site


def test_an_answer_that_one_task_stumbles_over_ends_no_other(tmp_path, caplog):
    odd = [recorded("jobs")[0] | {"metadata": "a word where a mapping should be"}]
    nodes = recorded("restarted_head")["state_nodes"]
    answers = {"/api/version": {"ray_version": "2.60.0"}, "jobs": odd, "state_nodes": nodes}
    with answering(answers) as address:
        site = Site.open(str(tmp_path / "workspace"), address)
        with caplog.at_level(logging.ERROR):
            Collector(site).work_once()
    noted = read_cluster(site.store)
    assert isinstance(noted, Unavailable)
    assert "AttributeError" in noted.reason
    assert "task 'jobs' failed" in caplog.text
    assert isinstance(read_noted_nodes(site.store), Ok)


class Garbled(BaseHTTPRequestHandler):
    """Says that its answer is packed, which it is not."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"text")

    def log_message(self, *_):
        pass


def test_an_answer_that_cannot_be_unpacked_is_no_answer(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Garbled) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        site = Site.open(str(tmp_path / "workspace"), f"http://127.0.0.1:{server.server_port}")
        Collector(site).work_once()
        server.shutdown()
    noted = read_cluster(site.store)
    assert isinstance(noted, Unavailable)
    assert noted.reason.startswith("no Ray dashboard answers at http://127.0.0.1")


def nodes_are(site: Site) -> str:
    reading = read_noted_nodes(site.store)
    return reading.reason if isinstance(reading, Unavailable) else ""


def test_a_collector_that_a_silent_head_held_up_leaves_the_rest_to_who_took_over(tmp_path, monkeypatch):
    monkeypatch.setattr(collector, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(collector, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(ray_api, "ANSWER_TIMEOUT_SECONDS", 1.5)
    stop, stop_other = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        held_up = Site.open(str(tmp_path / "workspace"), f"http://127.0.0.1:{silent.getsockname()[1]}")
        other = Site(held_up.workspace, held_up.store)
        first = threading.Thread(target=Collector(held_up).run, args=(stop,))
        first.start()
        time.sleep(0.3)
        second = threading.Thread(target=Collector(other).run, args=(stop_other,))
        second.start()
        until = time.monotonic() + 30
        while nodes_are(other) != NO_CLUSTER and time.monotonic() < until:
            time.sleep(0.02)
        noted, until = set(), time.monotonic() + 2.5  # the next task would be held up for 1.5 s
        while time.monotonic() < until:
            noted.add(nodes_are(other))
            time.sleep(0.02)
        stop.set()
        stop_other.set()
        first.join(30)
        second.join(30)
    assert noted == {NO_CLUSTER}


def test_a_collector_that_a_silent_head_holds_up_ends_after_the_task_that_it_is_at(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_api, "ANSWER_TIMEOUT_SECONDS", 1.0)
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        site = Site.open(str(tmp_path / "workspace"), f"http://127.0.0.1:{silent.getsockname()[1]}")
        thread = threading.Thread(target=Collector(site).run, args=(stop,))
        thread.start()
        time.sleep(0.5)
        stop.set()
        thread.join(30)
    assert nodes_are(site) == "nothing has asked the cluster yet; 'heliostat control' does"


def test_a_collector_that_waits_for_the_lease_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(collector, "TICK_SECONDS", 0.02)
    stop, stop_other = threading.Event(), threading.Event()
    site = Site.open(str(tmp_path / "workspace"))
    first = threading.Thread(target=Collector(site).run, args=(stop,))
    first.start()
    until = time.monotonic() + 30
    while nodes_are(site) != NO_CLUSTER and time.monotonic() < until:
        time.sleep(0.02)
    waiting = Site.open(str(tmp_path / "workspace"))
    said = []
    event.listen(waiting.store._engine, "before_cursor_execute", lambda *told: said.append(told[2]))
    second = threading.Thread(target=Collector(waiting).run, args=(stop_other,))
    second.start()
    time.sleep(1)
    while_waiting = [each.split()[0] for each in said]
    stop_other.set()
    second.join(30)
    stop.set()
    first.join(30)
    assert set(while_waiting) == {"SELECT"}

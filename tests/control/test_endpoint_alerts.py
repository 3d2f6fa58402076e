"""Alerts of endpoints: gateways that are away, that hang, that make no sense."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from recorded_ray import answering
from watched import notes_of, now, put_run, rules_of, turn

from heliostat.control import alert_watch, webhook
from heliostat.control.alert_watch import READING, AlertWatch, read_watch
from heliostat.control.sites import Site
from heliostat.endpoints import DeploymentRecord, Endpoint, write_record
from heliostat.records import Provenance


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    monkeypatch.delenv(webhook.VARIABLE, raising=False)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    return Site.open(str(tmp_path / "workspace"))


def test_an_unreadable_endpoint_record_is_said_and_stops_nothing_else(site):
    put_run(site, [float("nan")])
    (Path(site.workspace.storage.root) / "deployments").mkdir()
    (Path(site.workspace.storage.root) / "deployments" / "chat.json").write_text("{")
    turn(site)
    assert rules_of(site) == ["NanLoss"]
    assert "EndpointDown" in notes_of(site)


def put_endpoint(site: Site, port: int, **changes) -> None:
    endpoint = Endpoint(
        name="chat", url=f"http://127.0.0.1:{port}", model_id="chat", app_name="chat", needs_key=False,
        record_uri="", startup_seconds=1.0,
    )  # fmt: skip
    values = {
        "endpoint": endpoint, "status": "running", "artifact_id": "model-1", "artifact_uri": "", "config": {},
        "engine": "openvino", "started_at": now(), "provenance": Provenance.collect(),
    }  # fmt: skip
    write_record(site.workspace, DeploymentRecord(**values | changes))


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Somebody who takes calls and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_an_endpoint_whose_gateway_is_away_is_told_when_that_lasts_a_minute(site):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    put_endpoint(site, port)
    turn(site)
    assert rules_of(site) == []
    state = read_watch(site.store).value
    older = {"seen": {key: at - 61 for key, at in state.seen.items()}}
    site.store.put_reading(READING, state.model_dump(mode="json") | older, now())
    turn(site)
    assert rules_of(site) == ["EndpointDown"]
    put_endpoint(site, port, status="gone", stopped_at=now())  # as 'heliostat endpoints forget' does
    turn(site)
    assert rules_of(site) == []


def test_a_gateway_that_hangs_holds_up_neither_the_collector_nor_other_rules(site, silent_port, monkeypatch):
    monkeypatch.setattr(alert_watch, "WAIT_SECONDS", 0.1)
    put_endpoint(site, silent_port)
    put_run(site, [float("nan")])
    began = time.monotonic()
    turn(site)
    assert time.monotonic() - began < 3
    assert rules_of(site) == ["NanLoss"]
    assert "the gateways have not answered yet" in notes_of(site)


def test_an_answer_of_a_gateway_that_makes_no_sense_is_forgotten_when_the_next_one_does(site):
    answers = {"/admin/endpoints": {"endpoints": [{"of": "another version"}]}, "/metrics": (200, "")}
    watch = AlertWatch()
    with answering(answers) as address:
        put_endpoint(site, int(address.rpartition(":")[2]))
        turn(site, watch)
        assert "EndpointDown" in notes_of(site)
        answers["/admin/endpoints"] = {"endpoints": []}
        turn(site, watch)
    assert notes_of(site) == ""
    assert any("EndpointDown" in key for key in read_watch(site.store).value.seen)

"""Paths, headers and names that mean one thing here and another there: no way around a key's scope, no forged
header, log line or metric.
"""

import json
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Match
from tests.serving.deployed import CHAT, QUESTION, gateway_of, refused
from tests.serving.in_process import FixedModels
from tests.serving.scripted import ScriptedEngine, served_by

from heliostat.serving.gateway.shell import route_of

EVIL = 'x"} 1\nheliostat_requests_total{model_name="y'
TRICKS = [
    "/metrics%0a",
    "/metrics%0d%0a",
    "/metrics%00",
    "/metrics%20",
    "/metrics/",
    "/metrics;a=b",
    "/METRICS",
    "//metrics",
    "/./metrics",
    "/%2fmetrics",
    "/%2e/metrics",
    "/v1/../metrics",
    "/v1/%2e%2e/metrics",
    "/v1/%252e%252e/metrics",
    "/v1/models/../../metrics",
    "/v1/models/..%2f..%2fmetrics",
    "/v1/models/%2e%2e/%2e%2e/admin/reviews",
    "/v1/models/tiny%2f..%2f..%2f..%2fmetrics",
    "/v1/models/tiny%0d%0aset-cookie:a=b/x",
    "/v1/../admin/reviews",
    "//admin/reviews",
    "/admin%2freviews",
    "/admin/reviews%0a",
    "/ADMIN/reviews",
    "/healthz/../metrics",
    "/healthz%0a",
    "http://evil.example/metrics",
    "http://evil.example//metrics",
    "*",
    "metrics",
    "/\\metrics",
    "/metrics#x",
    "/..",
    "/%ed%a0%80",
    "/%ff",
    "/" + "a/" * 20_000,
]
GENERATION = [f"{CHAT}{end}" for end in ("%0a", "/", "%00", "%20", "%0d", "%e2%80%a8", "//", "/.", "%2f")]


def send(gateway, method: str, path: str, key: str | None, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", "Connection: close"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    return gateway.raw("\r\n".join([*lines, "", ""]).encode() + body)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("path", TRICKS)
def test_a_path_leads_around_no_scope(gateway, path):
    key = gateway.key(routes=("models",))
    for method in ("GET", "POST"):
        assert status(send(gateway, method, path, key)) in (400, 403, 404, 405, 431)
        assert status(send(gateway, method, path, None)) in (400, 401, 431)


@pytest.mark.parametrize("path", GENERATION)
def test_a_key_without_chat_does_not_chat_on_any_path(gateway, path):
    asked = len(gateway.engine.asked)
    body = json.dumps(QUESTION).encode()
    assert status(send(gateway, "POST", path, gateway.key(routes=("models",)), body)) in (403, 404)
    assert len(gateway.engine.asked) == asked


def test_no_path_is_mounted_under_another_scope_than_its_own(gateway):
    """Whatever Starlette's router takes for a mounted path has that path's scope, or is refused."""
    ends = ["", "/", "\n", "\r", "\r\n", "\0", " ", "\u2028", "\x85", "%0a", ";", "?"]
    for route in gateway.routes:
        path = route.path_format.replace("{", "").replace("}", "")
        for end in ends:
            scope = {"type": "http", "path": path + end, "method": next(iter(route.methods)), "root_path": ""}
            if route.matches(scope)[0] == Match.FULL and (path + end).isprintable():
                assert route_of(path + end) == route_of(path), path + end


def test_a_redirect_leads_nowhere(gateway):
    """Starlette would send a client to wherever its Host header says."""
    with gateway.client(gateway.key()) as client:
        response = client.post(f"{CHAT}/", json=QUESTION, headers={"host": "evil.example"})
    assert refused(response) == (404, "not_found")
    assert "location" not in response.headers


@pytest.mark.parametrize("host", ["[", "[::1", "a b", "\x7f", "a" * 5000, "a:b:c", "", "evil.example/x?y#z@"])
def test_a_broken_host_header_is_no_fault_of_ours(gateway, host):
    head = f"GET /nothing HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {gateway.key()}\r\n"
    assert status(gateway.raw((head + "Connection: close\r\n\r\n").encode())) in (400, 404)


@pytest.mark.parametrize("line_end", ["\r\n", "\n", "\r", "%0d%0a", "\\r\\n", "\u560d\u560a"])
@pytest.mark.parametrize("header", ["x-request-id", "x-session-id", "cache-control"])
def test_no_header_of_a_request_becomes_one_of_the_response(gateway, header, line_end):
    head = f"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {gateway.key()}\r\n"
    value = f"one{line_end}set-cookie: forged=1{line_end}{line_end}<html>"
    answer = gateway.raw(head.encode() + f"Connection: close\r\n{header}: {value}\r\n\r\n".encode())
    assert b"forged" not in answer.split(b"\r\n\r\n")[0]
    assert b"<html>" not in answer


def test_names_in_a_body_become_no_header(gateway):
    with gateway.client(gateway.key(models=("*",))) as client:
        for name in ("a\r\nset-cookie: b=c", "a\nb", "ä" * 100, "\u2028"):
            response = client.post(CHAT, json=QUESTION | {"model": name, "user": name})
            assert refused(response) == (404, "model_not_found")
            assert "set-cookie" not in response.headers


def test_no_name_forges_a_line_of_the_audit_log(tmp_path, prose):
    forged = 'x"}\n{"time": "2026-01-01", "tenant": "admin", "status": 200}\r\n\x1b[2J\u2028'
    with gateway_of(tmp_path, prose) as gateway:
        with gateway.client(gateway.key()) as client:
            for changes in ({"model": forged}, {"user": forged}, {"stop": [forged]}, {"seed": forged}):
                client.post(CHAT, json=QUESTION | changes, headers={"x-session-id": "a" * 100})
            client.get("/v1/models/x%0a%7b%22tenant%22:%22admin%22%7d")
        assert {line["tenant"] for line in gateway.audit(5)} == {"acme"}
        written = gateway.services.doormen.audit.path.read_bytes()
    assert len(written.splitlines()) == 5
    assert b"\x1b" not in written


def test_unknown_names_make_no_metrics(tmp_path, prose):
    with gateway_of(tmp_path, prose) as gateway, gateway.client(gateway.key()) as client:

        def num_lines(names) -> int:
            for name in names:
                assert client.post(CHAT, json=QUESTION | {"model": f"m{name}"}).status_code == 404
                assert client.get(f"/nothing/{name}").status_code == 404
                assert client.post(CHAT, json=QUESTION | {"user": f"u{name}"}).status_code == 200
            return gateway.services.metrics.exposition().count(b"\n")

        assert num_lines(range(3)) == num_lines(range(3, 30))


def test_a_models_name_forges_no_metric(tmp_path, prose):
    engine = ScriptedEngine(prose, ["Fine."])
    models = FixedModels(replace(served_by(engine), id=EVIL))
    with gateway_of(tmp_path, prose, models=models) as gateway:
        with gateway.client(gateway.key()) as client:
            assert client.post(CHAT, json=QUESTION | {"model": EVIL}).status_code == 200
        with gateway.client(gateway.key(name="prometheus", routes=("metrics",))) as client:
            text = client.get("/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    named = [sample.labels["model_name"] for sample in samples if "model_name" in sample.labels]
    assert set(named) == {EVIL}


def test_a_connection_that_was_refused_is_not_read_as_another_request(gateway):
    """What stands in a body is no request, whoever sent it."""
    inner = f"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {gateway.key()}\r\n\r\n".encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(inner)}\r\n\r\n".encode()
    answer = gateway.raw(head + inner, seconds=1)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert status(answer) == 401

"""The endpoints of a workspace as their records and gateways tell, over HTTP."""

import os
from datetime import UTC, datetime

import pytest
from tests.control.steered import Steered, recorded
from tests.serving.deployed import CHAT, QUESTION, gateway_of
from tests.serving.scripted import prose_tokenizer

from heliostat.control.endpoint_figures import Look, figures_of, quantile_of_buckets, read_look
from heliostat.control.endpoints import SERVE, EndpointReader, read_endpoints
from heliostat.control.gateway_key import KEY_FILE, KEY_VARIABLE, find_gateway_key
from heliostat.control.readings import Ok, Unavailable
from heliostat.control.serve_state import ServeApplication, ServeDeployment, ServeState
from heliostat.control.sites import Site
from heliostat.control.store import Store
from heliostat.endpoints import write_record
from heliostat.errors import ServingError
from heliostat.serving.access.config import ROUTES
from heliostat.serving.fleet.decisions import ScalingWord
from heliostat.serving.gateway.metrics import GatewayMetrics
from heliostat.workspace import Workspace


@pytest.fixture(scope="module")
def prose(tmp_path_factory):
    return prose_tokenizer(tmp_path_factory.mktemp("prose"))


@pytest.fixture
def steered() -> Steered:
    return Steered()


@pytest.fixture
def place(tmp_path) -> Workspace:
    return Workspace.resolve(str(tmp_path / "workspace"))


@pytest.fixture
def gateway(place, prose, steered):
    with gateway_of(place.storage.root, prose, steering=steered) as gateway:
        yield gateway


@pytest.fixture
def key(gateway, monkeypatch) -> str:
    made = gateway.key("operator", routes=ROUTES)
    monkeypatch.setenv(KEY_VARIABLE, made)
    return made


@pytest.fixture
def site(place) -> Site:
    return Site(place, Store.of(place))


def only(reading):
    assert isinstance(reading, Ok), reading
    (state,) = reading.value
    return state


def test_an_endpoint_tells_of_replicas_queue_shares_and_decisions(gateway, key, site, steered):
    steered.controller.put(recorded(site.workspace, gateway.url, 70, 30, num_replicas=2))
    steered.report("app-v1", num_requests=5, num_waiting=3, tokens_per_second=40)
    state = only(read_endpoints(site))
    assert (state.name, state.status) == ("told", "degraded")
    assert state.reason == "1 of 4 replicas are up"
    assert (state.replicas_now, state.replicas_target, state.num_waiting) == (1, 4, 3)
    assert [(each.label, each.weight) for each in state.versions] == [("v1", 70), ("v2", 30)]
    assert state.versions[0].tokens_per_second == 40
    assert [each.reason for each in state.decisions] == ["a new version came up"] * 2
    assert state.base_url == f"{gateway.url}/v1"
    assert state.curl.startswith(f"curl {gateway.url}/v1/chat/completions -H ")
    assert key not in repr(state)


def test_figures_of_the_last_minute_take_two_looks(gateway, key, site, steered):
    steered.controller.put(recorded(site.workspace, gateway.url))
    steered.report()
    meters = gateway.services.metrics
    meters.begin("told", "v1", "k", "chat").end(200)
    reader = EndpointReader(site)
    first = only(reader.read())
    assert (first.figures.error_share, first.figures.requests_per_second) == (None, pytest.approx(1 / 60))
    for status in (200, 200, 200, 500):
        meter = meters.begin("told", "v1", "k", "chat")
        meter.tokens(1)
        meter.end(status, completion_tokens=6)
    reader._looks[gateway.url][0] = reader._looks[gateway.url][0].model_copy(
        update={"at": reader._looks[gateway.url][0].at - 10}
    )
    figures = only(reader.read()).figures
    assert figures.error_share == 0.25
    assert figures.num_requests == 4
    assert figures.tokens_per_second == pytest.approx(2.4, rel=0.2)
    assert 0 < figures.first_token_p50_seconds <= figures.first_token_p95_seconds <= 0.005
    assert figures.p95_seconds is not None
    assert [moment.figures.error_share for moment in reader.course("told")] == [None, 0.25]


def test_a_restarted_gateway_begins_to_count_anew():
    def look(at: float) -> Look:
        metrics = GatewayMetrics()
        metrics.begin("told", "v1", "k", "chat").end(500)
        return read_look(metrics.exposition().decode(), at)

    before, now = look(0), look(30)
    assert figures_of(now, before, ["told/v1"]).error_share is None
    assert figures_of(now, now.model_copy(update={"at": 0}), ["told/v1"]).num_requests == 0


def test_what_answers_may_be_no_gateway():
    assert read_look("<html>hello</html>\n{", 1.0).versions == {}
    assert read_look("", 1.0).versions == {}


@pytest.mark.parametrize(
    ("buckets", "quantile", "expected"),
    [
        ({}, 0.5, None),
        ({"0.1": 0, "+Inf": 0}, 0.5, None),
        ({"0.1": 4, "+Inf": 4}, 0.5, 0.05),
        ({"0.1": 0, "0.2": 10, "+Inf": 10}, 0.95, 0.195),
        ({"0.1": 1, "+Inf": 10}, 0.95, 0.1),
    ],
)
def test_quantiles_are_those_of_prometheus(buckets, quantile, expected):
    found = quantile_of_buckets(buckets, quantile)
    assert found == (expected if expected is None else pytest.approx(expected))


def test_a_gateway_that_wants_a_key_another_that_is_away_and_what_has_ended_say_so(
    gateway, site, steered, monkeypatch
):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    record = recorded(site.workspace, gateway.url)
    for name, url, status in (
        ("away", "http://127.0.0.1:1", "running"),
        ("ended", gateway.url, "stopped"),
        ("vanished", gateway.url, "gone"),
    ):
        endpoint = record.endpoint.model_copy(update={"name": name, "url": url})
        write_record(site.workspace, record.model_copy(update={"endpoint": endpoint, "status": status}))
    reading = read_endpoints(site)
    assert isinstance(reading, Ok)
    found = {state.name: state for state in reading.value}
    assert {name: state.status for name, state in found.items()} == {
        "told": "locked",
        "away": "away",
        "ended": "stopped",
        "vanished": "gone",
    }
    assert "operator.key" in found["told"].reason
    assert "does not answer" in found["away"].reason
    assert found["told"].versions[0].replicas_now is None


def test_an_endpoint_that_its_gateway_does_not_know_is_missing(gateway, key, site):
    recorded(site.workspace, gateway.url)
    assert only(read_endpoints(site)).status == "missing"


def test_a_version_at_rest_is_well_and_serve_says_what_a_first_replica_waits_for(gateway, key, site, steered):
    scaling = {"min_replicas": 0, "max_replicas": 2}
    steered.controller.put(recorded(site.workspace, gateway.url, autoscaling=scaling))
    waits_for = "1 of 1 replicas are not up yet, 1 of them waiting for room on a node"
    deployment = ServeDeployment(
        name="Engine",
        status="UPDATING",
        message="",
        replicas_now=0,
        replicas_target=1,
        replicas=(),
        fewest_replicas=0,
        most_replicas=2,
        scaling_status="",
        decisions=(),
        why=waits_for,
    )
    application = ServeApplication(
        name="app-v1", status="DEPLOYING", message="", route="", deployed_at=None, deployments=(deployment,)
    )
    serve = ServeState(running=True, applications=(application,))
    site.store.put_reading(SERVE, serve.model_dump(mode="json"), datetime.now(UTC))
    state = only(read_endpoints(site))
    assert (state.status, state.reason) == ("starting", waits_for)
    word = ScalingWord(
        app_name="app-v1", target=0, cause="requests", figures={"num_requests": 0, "target": 16}
    )
    steered.controller.report_scaling(word)
    state = only(read_endpoints(site))
    assert state.status == "resting"
    assert state.decisions[0].reason == "0 requests at work, 16 are meant for a replica"


def test_records_that_cannot_be_read_are_a_reason(site):
    site.workspace.storage.write_bytes("deployments/broken.json", b"{")
    reading = read_endpoints(site)
    assert isinstance(reading, Unavailable)
    assert "broken.json" in reading.reason


def test_the_key_lies_in_a_file_that_others_cannot_read(place, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert find_gateway_key(place) is None
    place.storage.write_bytes(KEY_FILE, b"hk-secret\n")
    path = place.storage.uri(KEY_FILE)
    os.chmod(path, 0o644)
    with pytest.raises(ServingError, match="chmod 600"):
        find_gateway_key(place)
    os.chmod(path, 0o600)
    key = find_gateway_key(place)
    assert (key.value, key.source) == ("hk-secret", path)
    assert "hk-secret" not in repr(key)


def test_a_key_for_operators_only_shows_no_figures_but_the_rest(gateway, site, steered, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, gateway.key("narrow", routes=("admin",)))
    steered.controller.put(recorded(site.workspace, gateway.url))
    steered.report()
    state = only(read_endpoints(site))
    assert (state.status, state.figures.requests_per_second) == ("serving", None)
    assert gateway.client(gateway.key()).post(CHAT, json=QUESTION).status_code == 200

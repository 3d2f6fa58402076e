"""Which version and how many replicas: pure rules."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.endpoints import Version
from heliostat.records import now
from heliostat.serving.config import ScalingConfig
from heliostat.serving.engines.interface import Capabilities, EngineStats
from heliostat.serving.fleet.controller import Controller, Gateway
from heliostat.serving.fleet.routes import Replica, Route
from heliostat.serving.fleet.scaling import wish
from heliostat.serving.fleet.shares import reweighed


def version(label: str, weight: float) -> Version:
    return Version(
        label=label,
        app_name=f"app-{label}",
        weight=weight,
        artifact_id="quantized-1",
        artifact_uri="/models/x",
        engine="openvino",
        config={},
        started_at=now(),
    )


def shares(route: Route, sessions) -> Counter:
    return Counter(route.choose(session).label for session in sessions)


def test_a_canary_has_its_share_and_a_session_stays_where_it_is():
    route = Route("m", (version("v1", 90), version("v2", 10)))
    sessions = [str(number) for number in range(4000)]
    assert 300 < shares(route, sessions)["v2"] < 500
    assert 300 < shares(route, [None] * 4000)["v2"] < 500
    assert all(route.choose(session).label == route.choose(session).label for session in sessions[:50])


@given(st.text(min_size=1), st.floats(0, 100), st.floats(0, 100))
def test_a_growing_canary_keeps_the_sessions_it_has(session, small, large):
    small, large = sorted((small, large))
    before = Route("m", (version("v1", 100 - small), version("v2", small))).choose(session)
    after = Route("m", (version("v1", 100 - large), version("v2", large))).choose(session)
    assert not (before.label == "v2" and after.label == "v1")


def test_a_version_without_a_share_gets_nothing():
    route = Route("m", (version("v1", 100), version("v2", 0)))
    assert shares(route, [None] * 500) == {"v1": 500}
    assert Route("m", (version("v1", 0),)).choose(None).label == "v1"


def test_shares_keep_their_proportions():
    weights = [each.weight for each in reweighed((version("v1", 60), version("v2", 20)), 40)]
    assert weights == [30, 10]
    assert [each.weight for each in reweighed((version("v1", 0),), 40)] == [0]


SCALING = ScalingConfig(min_replicas=0, max_replicas=4, target_requests=8, target_first_token_seconds=2)


@pytest.mark.parametrize(
    ("current", "queued", "means", "wanted"),
    [
        (0, 0, {}, 0),
        (0, 1, {}, 1),
        (1, 0, {"num_requests": [0.0]}, 0),
        (1, 0, {"num_requests": [8.0]}, 1),
        (1, 0, {"num_requests": [8.1]}, 2),
        (2, 0, {"num_requests": [40.0, 40.0]}, 4),
        (2, 0, {"num_requests": [1.0, 1.0], "kv_cache_usage": [0.95, 0.9]}, 3),
        (2, 0, {"num_requests": [1.0, 1.0], "kv_cache_usage": [0.95, 0.1]}, 1),
        (1, 0, {"num_requests": [2.0], "first_token_seconds": [2.5]}, 2),
        (4, 0, {"num_requests": [2.0], "first_token_seconds": [2.5]}, 4),
    ],
)
def test_replicas_follow_requests_room_and_first_tokens(current, queued, means, wanted):
    assert wish(SCALING, current, queued, means).replicas == wanted


def test_more_at_least_than_at_most_is_refused():
    with pytest.raises(ValueError, match="min_replicas=3 exceeds max_replicas=2"):
        ScalingConfig(min_replicas=3)


REPLICA = Replica("r", "app-v1", "127.0.0.1", 1, 8, Capabilities(), 512)


@pytest.mark.anyio
async def test_a_change_is_heard_when_every_gateway_asks_for_what_comes_behind_it():
    controller = Controller()
    controller.report_replica(REPLICA, EngineStats(0, 0, 0))
    first = await controller.watch("g", Gateway("http://g"), 0, 5)
    assert not controller.is_heard
    await controller.watch("g", Gateway("http://g"), first.revision, 0.01)
    assert controller.is_heard
    second = await controller.watch("h", Gateway("http://g"), 0, 5)
    assert not controller.is_heard
    await controller.watch("h", Gateway("http://g"), second.revision, 0.01)
    assert controller.is_heard


@pytest.mark.anyio
async def test_gateways_hear_at_once_of_what_changes_and_silent_ones_are_gone(monkeypatch):
    controller = Controller()
    snapshot = await controller.watch("g", Gateway("http://g"), 0, 5)
    assert snapshot.replicas == ()
    assert not controller.is_ready("app-v1")
    controller.report_replica(REPLICA, EngineStats(2, 1, 1))
    heard = await controller.watch("g", Gateway("http://g", frozenset({"app-v1"})), snapshot.revision, 5)
    assert (heard.replicas, dict(heard.loads)) == ((REPLICA,), {"r": 2})
    assert controller.is_ready("app-v1")
    controller.report_replica(REPLICA, EngineStats(3, 1, 1))  # more to do is no change of who is there
    quiet = await controller.watch("g", Gateway("http://g"), heard.revision, 0.01)
    assert (quiet.revision, dict(quiet.loads)) == (heard.revision, {"r": 3})
    monkeypatch.setattr("heliostat.serving.fleet.controller.SILENT_SECONDS", -1.0)
    assert controller.replicas("app-v1") == []
    assert controller.gateways == {}

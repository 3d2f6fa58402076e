"""When a canary loses its share, and what a gateway counts."""

import pytest

from heliostat.serving.config import CanaryConfig
from heliostat.serving.fleet.judging import VersionFigures, merged, quantile_of, why_roll_back
from heliostat.serving.gateway.metrics import GatewayMetrics

LIMITS = CanaryConfig(min_requests=20)
WELL = VersionFigures(100, 1, (0.5,) * 100)


@pytest.mark.parametrize(
    ("canary", "reason"),
    [
        (VersionFigures(), None),
        (VersionFigures(19, 19, (9.0,) * 19), None),
        (VersionFigures(20, 1, (0.5,) * 20), None),
        (VersionFigures(20, 2, (0.5,) * 20), "10.0% of its requests failed, 1.0% of the others'"),
        (VersionFigures(40, 0, (0.9,) * 40), None),
        (VersionFigures(40, 0, (0.5,) * 30 + (1.2,) * 10), "its P95 is 1.20 s, the others' 0.50 s"),
    ],
)
def test_a_canary_is_judged_by_failures_and_by_its_slow_requests(canary, reason):
    assert why_roll_back(canary, WELL, LIMITS) == reason


def test_without_others_to_compare_only_failures_count():
    assert why_roll_back(VersionFigures(40, 0, (9.0,) * 40), VersionFigures(), LIMITS) is None
    assert "failed" in why_roll_back(VersionFigures(40, 9, (9.0,) * 40), VersionFigures(), LIMITS)


def test_what_gateways_saw_is_added_up():
    assert merged([WELL, VersionFigures(1, 1, (3.0,))]) == VersionFigures(101, 2, (0.5,) * 100 + (3.0,))
    assert merged([]) == VersionFigures()
    assert quantile_of([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile_of([], 0.99) == 0


def test_metrics_have_vllms_names_and_the_versions_figures():
    metrics = GatewayMetrics()
    meter = metrics.begin("m", "v2", "hk_1", "chat")
    meter.tokens(1)
    meter.tokens(3)
    meter.end(200, prompt_tokens=5, completion_tokens=4)
    meter.end(500)  # only the first word counts
    metrics.begin("m", "v2", "hk_1", "chat").end(503)
    metrics.filtered("secrets", "block")
    metrics.looked_up("m", "miss")
    text = metrics.exposition().decode()
    labels = 'key="hk_1",model_name="m",version="v2"'
    for line in (
        f"vllm:prompt_tokens_total{{{labels}}} 5.0",
        f"vllm:generation_tokens_total{{{labels}}} 4.0",
        f"vllm:time_to_first_token_seconds_count{{{labels}}} 1.0",
        f"vllm:inter_token_latency_seconds_count{{{labels}}} 1.0",
        'heliostat_filtered_total{action="block",rule="secrets"} 1.0',
    ):
        assert line in text
    assert f"heliostat_requests_in_progress{{{labels}}} 0.0" in text
    figures = metrics.figures()["m/v2"]
    assert (figures.num_requests, figures.num_errors) == (2, 1)


def test_a_version_that_went_is_forgotten_some_time_behind_its_end(monkeypatch):
    metrics = GatewayMetrics()
    for version in ("v1", "v2"):
        metrics.begin("m", version, "hk_1", "chat").end(200)
    metrics.follow([("m", "v1"), ("m", "v2")])
    metrics.follow([("m", "v2")])
    assert 'version="v1"' in metrics.exposition().decode()
    monkeypatch.setattr("heliostat.serving.gateway.metrics.FORGOTTEN_AFTER_SECONDS", 0.0)
    metrics.follow([("m", "v2")])
    text = metrics.exposition().decode()
    assert 'version="v1"' not in text
    assert 'version="v2"' in text
    assert set(metrics.figures()) == {"m/v2"}

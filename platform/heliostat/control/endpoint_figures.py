"""What a gateway's counters say: one look at /metrics, and the figures between two looks. Pure.

A counter only grows, so a share or a rate takes two looks at the same process of a gateway.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from heliostat.records import Record

SERVER_FAULT = 500
LEAST_SECONDS = 1.0
"""Looks nearer to each other say nothing of a rate."""


class Counters(Record):
    """What was counted of one version up to a moment; buckets hold, by their upper bounds in seconds, how
    many took at most so long."""

    num_requests: float = 0
    num_failed: float = 0
    num_tokens: float = 0
    first_token: dict[str, float] = Field(default_factory=dict)
    whole: dict[str, float] = Field(default_factory=dict)
    requests_per_second: float | None = None
    """The gateway's own word over the last minute, as are the two below."""
    p50_seconds: float | None = None
    p95_seconds: float | None = None


class Look(Record):
    """One look at a gateway, in seconds since 1970; `started` tells its processes apart."""

    at: float
    started: float
    versions: dict[str, Counters]
    """By `ENDPOINT/LABEL`."""


class Figures(Record):
    """How a version does. Seconds of requests are over the last minute, the rest over `over_seconds`; None
    where that cannot be said yet."""

    requests_per_second: float | None = None
    p50_seconds: float | None = None
    p95_seconds: float | None = None
    first_token_p50_seconds: float | None = None
    first_token_p95_seconds: float | None = None
    error_share: float | None = None
    tokens_per_second: float | None = None
    num_requests: int | None = None
    over_seconds: float | None = None


def read_look(exposition: str, at: float) -> Look:
    """A gateway's /metrics, which may hold more or less than is looked for."""
    from prometheus_client.parser import text_string_to_metric_families

    started, found = 0.0, dict[str, dict[str, Any]]()
    try:
        samples = [each for family in text_string_to_metric_families(exposition) for each in family.samples]
    except ValueError:  # what answers is no gateway
        samples = []
    for sample in samples:
        if sample.name == "heliostat_gateway_start_time_seconds":
            started = sample.value
        if {"model_name", "version"} <= sample.labels.keys():
            key = f"{sample.labels['model_name']}/{sample.labels['version']}"
            _count(found.setdefault(key, {}), sample.name, sample.labels, sample.value)
    return Look(at=at, started=started, versions={key: Counters(**value) for key, value in found.items()})


def _count(into: dict[str, Any], name: str, labels: Mapping[str, str], value: float) -> None:
    """Add one line of the exposition; a version has one for each key that asked."""
    if name == "heliostat_requests_total":
        into["num_requests"] = into.get("num_requests", 0) + value
        status = labels.get("status", "")
        if status.isdecimal() and int(status) >= SERVER_FAULT:
            into["num_failed"] = into.get("num_failed", 0) + value
    elif name == "vllm:generation_tokens_total":
        into["num_tokens"] = into.get("num_tokens", 0) + value
    elif name == "heliostat_requests_per_second":
        into["requests_per_second"] = value
    elif name == "heliostat_request_latency_seconds" and labels.get("quantile") in QUANTILE_FIELDS:
        into[QUANTILE_FIELDS[labels["quantile"]]] = value
    elif name in BUCKETS and "le" in labels:
        buckets = into.setdefault(BUCKETS[name], {})
        buckets[labels["le"]] = buckets.get(labels["le"], 0) + value


QUANTILE_FIELDS = {"0.5": "p50_seconds", "0.95": "p95_seconds"}
BUCKETS = {
    "vllm:time_to_first_token_seconds_bucket": "first_token",
    "vllm:e2e_request_latency_seconds_bucket": "whole",
}


def figures_of(now: Look, before: Look | None, labels: Iterable[str]) -> Figures:
    """What the versions `labels` (as `ENDPOINT/LABEL`) did together between two looks at one process."""
    names = [label for label in labels if label in now.versions]
    counters = [now.versions[name] for name in names]
    said = _said_by_the_gateway(counters)
    if before is None or before.started != now.started or now.at - before.at < LEAST_SECONDS:
        return said
    earlier = [before.versions.get(name, Counters()) for name in names]
    seconds = now.at - before.at
    requests = _grown("num_requests", counters, earlier)
    first = _grown_buckets("first_token", counters, earlier)
    values: dict[str, Any] = {
        "first_token_p50_seconds": quantile_of_buckets(first, 0.5),
        "first_token_p95_seconds": quantile_of_buckets(first, 0.95),
        "error_share": _grown("num_failed", counters, earlier) / requests if requests else None,
        "tokens_per_second": _grown("num_tokens", counters, earlier) / seconds,
        "num_requests": int(requests),
        "over_seconds": round(seconds, 1),
    }
    if sum(1 for each in counters if each.requests_per_second) > 1:
        whole = _grown_buckets("whole", counters, earlier)
        values["p50_seconds"] = quantile_of_buckets(whole, 0.5)
        values["p95_seconds"] = quantile_of_buckets(whole, 0.95)
    return said.model_copy(update=values)


def _said_by_the_gateway(counters: list[Counters]) -> Figures:
    """The last minute's figures; quantiles do not add up, so of several versions those of the busiest."""
    if not counters:
        return Figures()
    rates = [each.requests_per_second for each in counters if each.requests_per_second is not None]
    busiest = max(counters, key=lambda each: each.requests_per_second or 0)
    asked = bool(busiest.requests_per_second)
    return Figures(
        requests_per_second=sum(rates) if rates else None,
        p50_seconds=busiest.p50_seconds if asked else None,
        p95_seconds=busiest.p95_seconds if asked else None,
    )


def _grown(field: str, now: list[Counters], before: list[Counters]) -> float:
    return sum(
        max(0.0, float(getattr(each, field)) - float(getattr(earlier, field)))
        for each, earlier in zip(now, before, strict=True)
    )


def _grown_buckets(field: str, now: list[Counters], before: list[Counters]) -> dict[str, float]:
    grown: dict[str, float] = {}
    for each, earlier in zip(now, before, strict=True):
        old: dict[str, float] = getattr(earlier, field)
        for bound, count in getattr(each, field).items():
            grown[bound] = grown.get(bound, 0.0) + max(0.0, count - old.get(bound, 0.0))
    return grown


def quantile_of_buckets(buckets: Mapping[str, float], quantile: float) -> float | None:
    """A quantile of cumulative buckets as Prometheus' histogram_quantile has it: linear within a bucket, the
    last bound for what is beyond it; None of nothing."""
    ordered = sorted((float(bound), count) for bound, count in buckets.items())
    if not ordered or ordered[-1][1] <= 0:
        return None
    rank = quantile * ordered[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in ordered:
        if count >= rank and count > below:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower

"""What a gateway has done, for Prometheus and for the controller: counted once a request, timed at each
token.

Names are vLLM's where they mean the same, so that its dashboards read them. Labels: the endpoint
(`model_name`), its version, and the prefix of the key that asked. Requests for an adapter are counted with
those of its endpoint, as one canary has them all, and by adapter beside.
"""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from heliostat.serving.engines.interface import AdapterUse
from heliostat.serving.fleet.judging import VersionFigures, quantile_of
from heliostat.serving.fleet.routes import ADAPTER_MARK
from heliostat.serving.fleet.status import EndpointStatus, ReplicaStatus

WINDOW_SECONDS = 60.0
FORGOTTEN_AFTER_SECONDS = 900.0
"""So long behind its end a version is shown still: Prometheus has read its last figures by then."""
MOST_KEPT = 4096
SERVER_FAULT = 500
LABELS = ("model_name", "version", "key")
REPLICA_LABELS = ("model_name", "version", "replica")
FIRST_TOKEN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
WHOLE_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class _Ended:
    at: float
    seconds: float
    failed: bool


class GatewayMetrics:
    """All counters of a gateway; `exposition` is what Prometheus reads."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        started = Gauge(
            "heliostat_gateway_start_time_seconds",
            "When this gateway's process began to count: counters of another one are no continuation",
            registry=registry,
        )
        started.set_to_current_time()
        self._requests = Counter(
            "heliostat_requests", "Requests by outcome", (*LABELS, "route", "status"), registry=registry
        )
        self._prompt = Counter("vllm:prompt_tokens", "Prompt tokens", LABELS, registry=registry)
        self._generated = Counter("vllm:generation_tokens", "Generated tokens", LABELS, registry=registry)
        self._first = Histogram(
            "vllm:time_to_first_token_seconds",
            "From the request to its first token",
            LABELS,
            buckets=FIRST_TOKEN_BUCKETS,
            registry=registry,
        )
        self._between = Histogram(
            "vllm:inter_token_latency_seconds",
            "Between tokens",
            LABELS,
            buckets=TOKEN_BUCKETS,
            registry=registry,
        )
        self._whole = Histogram(
            "vllm:e2e_request_latency_seconds",
            "From the request to its end",
            LABELS,
            buckets=WHOLE_BUCKETS,
            registry=registry,
        )
        self._adapter_requests = Counter(
            "heliostat_adapter_requests",
            "Requests for an adapter by outcome",
            ("model_name", "version", "adapter", "status"),
            registry=registry,
        )
        self._running = Gauge(
            "heliostat_requests_in_progress", "Requests under way", LABELS, registry=registry
        )
        self._cache = Counter(
            "heliostat_cache_lookups", "Looked up in the cache", ("model_name", "outcome"), registry=registry
        )
        self._blocked = Counter(
            "heliostat_filtered", "Texts that a rule acted on", ("rule", "action"), registry=registry
        )
        self._refused = Counter(
            "heliostat_refused", "Requests refused before a model was chosen", ("code",), registry=registry
        )
        self._rate = Gauge(
            "heliostat_requests_per_second",
            "Over the last minute",
            ("model_name", "version"),
            registry=registry,
        )
        self._latency = Gauge(
            "heliostat_request_latency_seconds",
            "Over the last minute",
            ("model_name", "version", "quantile"),
            registry=registry,
        )
        self._lately: dict[tuple[str, str], deque[_Ended]] = {}
        self._served_at: dict[tuple[str, str], float] = {}
        self._of_versions = (
            self._requests,
            self._prompt,
            self._generated,
            self._first,
            self._between,
            self._whole,
            self._running,
            self._rate,
            self._latency,
        )
        self._replica_gauges = {
            name: Gauge(name, what, REPLICA_LABELS, registry=registry)
            for name, what in (
                ("vllm:num_requests_running", "Requests that an engine works on"),
                ("vllm:num_requests_waiting", "Requests that wait in an engine"),
                ("vllm:kv_cache_usage_perc", "Share of the KV cache in use"),
                ("heliostat_tokens_per_second", "Tokens that an engine generates a second"),
                ("heliostat_adapters_loaded", "Adapters that an engine has"),
            )
        }
        self._adapter_use = Gauge(
            "heliostat_adapter_requests_in_progress",
            "Requests that use an adapter which an engine has",
            (*REPLICA_LABELS, "adapter"),
            registry=registry,
        )
        self._adapter_info = Gauge(
            "vllm:lora_requests_info",
            "When it was heard which adapters an engine has requests for",
            (*REPLICA_LABELS, "max_lora", "running_lora_adapters", "waiting_lora_adapters"),
            registry=registry,
        )

    def begin(
        self, model: str, version: str, key: str, route: str, adapter: str | None = None
    ) -> "RequestMeter":
        """A request has a model now, and the adapter that it asks for."""
        return RequestMeter(self, (model, version, key), route, adapter)

    def follow(self, served: Iterable[tuple[str, str]]) -> None:
        """Take note of the versions that are served, as (model, version), and forget those that were."""
        now = time.monotonic()
        self._served_at |= dict.fromkeys((*served,), now)
        for model, version in [
            each for each, at in self._served_at.items() if now - at > FORGOTTEN_AFTER_SECONDS
        ]:
            del self._served_at[model, version]
            self._lately.pop((model, version), None)
            for metric in self._of_versions:
                metric.remove_by_labels({"model_name": model, "version": version})

    def refused(self, code: str) -> None:
        """A request was refused before a model was chosen."""
        self._refused.labels(code).inc()

    def looked_up(self, model: str, outcome: str) -> None:
        """The cache was asked: exact, semantic, shared or miss."""
        self._cache.labels(model, outcome).inc()

    def filtered(self, rule: str, action: str) -> None:
        """A rule of the guard acted."""
        self._blocked.labels(rule, action).inc()

    def figures(self) -> dict[str, VersionFigures]:
        """Of each version, by `MODEL/VERSION`: the requests of the last minute."""
        return {
            f"{model}/{version}": VersionFigures(
                num_requests=len(ended),
                num_errors=sum(each.failed for each in ended),
                end_to_end_seconds=tuple(each.seconds for each in ended),
            )
            for (model, version), ended in self._recent().items()
        }

    def exposition(self, endpoints: Iterable[EndpointStatus] = ()) -> bytes:
        """Prometheus' text format, with the last words of the replicas of `endpoints`."""
        for gauge in (*self._replica_gauges.values(), self._adapter_use, self._adapter_info):
            gauge.clear()
        for endpoint in endpoints:
            for each in endpoint.versions:
                for replica in each.replicas:
                    labels = (endpoint.name, each.label, replica.id)
                    self._show_replica(labels, replica)
                    if each.adapters:
                        self._show_adapters(labels, replica.adapters, each.max_loaded_adapters)
        for (model, version), ended in self._recent().items():
            self._rate.labels(model, version).set(len(ended) / WINDOW_SECONDS)
            for quantile in QUANTILES:
                value = quantile_of([each.seconds for each in ended], quantile)
                self._latency.labels(model, version, str(quantile)).set(value)
        return generate_latest(self._registry)

    def _show_replica(self, labels: tuple[str, str, str], replica: ReplicaStatus) -> None:
        figures = {
            "vllm:num_requests_running": replica.num_requests - replica.num_waiting,
            "vllm:num_requests_waiting": replica.num_waiting,
            "vllm:kv_cache_usage_perc": replica.kv_cache_usage or 0.0,
            "heliostat_tokens_per_second": replica.tokens_per_second,
            "heliostat_adapters_loaded": sum(use.loaded for use in replica.adapters),
        }
        for name, value in figures.items():
            self._replica_gauges[name].labels(*labels).set(value)

    def _show_adapters(
        self, labels: tuple[str, str, str], uses: Sequence[AdapterUse], max_loaded: int
    ) -> None:
        """vLLM's gauge has names as requests give them, parted by commas, and the time as its value."""
        for use in uses:
            if use.loaded:
                self._adapter_use.labels(*labels, use.name).set(use.num_requests)
        running = ",".join(f"{labels[0]}{ADAPTER_MARK}{use.name}" for use in uses if use.num_requests)
        waiting = ",".join(f"{labels[0]}{ADAPTER_MARK}{use.name}" for use in uses if use.num_waiting)
        self._adapter_info.labels(*labels, str(max_loaded), running, waiting).set_to_current_time()

    def _recent(self) -> dict[tuple[str, str], list[_Ended]]:
        since = time.monotonic() - WINDOW_SECONDS
        return {key: [each for each in kept if each.at > since] for key, kept in self._lately.items()}

    def note_end(self, labels: tuple[str, str, str], ended: _Ended) -> None:
        """Keep a request's end for the figures of the last minute."""
        self._lately.setdefault(labels[:2], deque(maxlen=MOST_KEPT)).append(ended)


class RequestMeter:
    """The times of one request; `end` is called once, however it ends."""

    def __init__(
        self, metrics: GatewayMetrics, labels: tuple[str, str, str], route: str, adapter: str | None
    ) -> None:
        self._metrics = metrics
        self._adapter = adapter
        self._labels = labels
        self._route = route
        self._began = time.monotonic()
        self._last: float | None = None
        self._ended = False
        self._between = metrics._between.labels(*labels)
        self.time_to_first_token: float | None = None
        self._running = metrics._running.labels(*labels)
        self._running.inc()

    def tokens(self, count: int) -> None:
        """So many new tokens have come."""
        at = time.monotonic()
        if self._last is None:
            self.time_to_first_token = at - self._began
            self._metrics._first.labels(*self._labels).observe(self.time_to_first_token)
        elif count:
            self._between.observe((at - self._last) / count)
        self._last = at

    def end(self, status: int, prompt_tokens: int = 0, completion_tokens: int = 0) -> float:
        """The request has ended; its seconds."""
        seconds = time.monotonic() - self._began
        if self._ended:
            return seconds
        self._ended = True
        metrics, labels = self._metrics, self._labels
        self._running.dec()
        metrics._requests.labels(*labels, self._route, str(status)).inc()
        if self._adapter:
            metrics._adapter_requests.labels(*labels[:2], self._adapter, str(status)).inc()
        metrics._prompt.labels(*labels).inc(prompt_tokens)
        metrics._generated.labels(*labels).inc(completion_tokens)
        if completion_tokens:
            metrics._whole.labels(*labels).observe(seconds)
        metrics.note_end(labels, _Ended(time.monotonic(), seconds, status >= SERVER_FAULT))
        return seconds

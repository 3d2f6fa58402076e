"""Which metrics Ray and Heliostat export: read from their code, never from a list written by hand."""

import importlib.util
import re
from functools import cache
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from heliostat.endpoints import ServedAdapter
from heliostat.serving.engines.interface import AdapterUse
from heliostat.serving.fleet.status import EndpointStatus, ReplicaStatus, VersionStatus
from heliostat.serving.gateway.metrics import GatewayMetrics

WHEEL = Path(str(importlib.util.find_spec("ray").origin)).parent
"""Not imported: Ray reads its environment when it is, which must be after a session has set it."""
SOURCES = (
    "dashboard/modules/reporter", "serve/_private", "train/v2/_internal", "data/_internal", "_private",
    "autoscaler/_private",
)  # fmt: skip
"""Where Ray's Python code defines metrics; the boards that it ships are not among them."""
BINARIES = ("core/src/ray/raylet/raylet", "core/src/ray/gcs/gcs_server", "_raylet.so")
OF_A_HISTOGRAM = ("_bucket", "_sum", "_count")
PROMETHEUS_OWN = {"up"}


def is_exported(name: str) -> bool:
    """Whether Ray, Heliostat's gateway, or Prometheus itself has a metric of this name."""
    return name in PROMETHEUS_OWN or name in heliostat_metrics() or _is_rays(name)


@cache
def heliostat_metrics() -> dict[str, frozenset[str]]:
    """The gateway's metrics with their labels, from what it answers to Prometheus after a request."""
    metrics = GatewayMetrics()
    meter = metrics.begin("model", "v1", "key", "chat", adapter="tone")
    meter.tokens(1)
    meter.tokens(2)
    meter.end(200, 3, 4)
    metrics.refused("rate_limited")
    metrics.looked_up("model", "miss")
    metrics.filtered("rule", "block")
    found: dict[str, frozenset[str]] = {}
    for family in text_string_to_metric_families(metrics.exposition([_endpoint()]).decode()):
        for sample in family.samples:
            found[sample.name] = frozenset(sample.labels)
    return found


def _endpoint() -> EndpointStatus:
    """An endpoint with a replica that has an adapter, so that the gauges about replicas have values."""
    replica = ReplicaStatus(
        id="r1", node="n1", process=1, num_requests=2, num_waiting=1, tokens_per_second=3.0,
        num_generated_tokens=4, kv_cache_usage=0.5, adapters=(AdapterUse("tone", "artifact", 1),),
    )  # fmt: skip
    version = VersionStatus(
        label="v1", weight=100, artifact_id="artifact", engine="openvino", fewest_replicas=1, most_replicas=1,
        adapters=(ServedAdapter(name="tone", artifact_id="artifact", artifact_uri="folder"),),
        max_loaded_adapters=8, replicas=(replica,),
    )  # fmt: skip
    return EndpointStatus(name="model", url="http://127.0.0.1:8000", note=None, versions=(version,))


@cache
def _is_rays(name: str) -> bool:
    prefix, _, rest = name.partition("_")
    if prefix not in ("ray", "autoscaler") or f"{name}_total" in _drawn_by_ray():
        return False  # a counter's name ends in _total where it is read
    names = {rest, rest.removesuffix("_total")}
    names |= {rest.removesuffix(suffix) for suffix in OF_A_HISTOGRAM if rest.endswith(suffix)}
    if prefix == "autoscaler":
        return any(each in _words("autoscaler/_private/prom_metrics.py") for each in names)
    return any(each in _words(*SOURCES) or each.encode() in _strings() for each in names)


@cache
def _drawn_by_ray() -> frozenset[str]:
    """The names in the boards that Ray ships."""
    files = (WHEEL / "dashboard/modules/metrics/dashboards").glob("*_panels.py")
    return frozenset(name for file in files for name in re.findall(r"\bray_[a-z0-9_]+", file.read_text()))


@cache
def _words(*places: str) -> frozenset[str]:
    """The quoted words of Ray's sources below some places."""
    files = [
        file
        for place in places
        for file in ([WHEEL / place] if (WHEEL / place).is_file() else (WHEEL / place).rglob("*.py"))
    ]
    return frozenset(
        word for file in files for word in re.findall(r"['\"]([a-z0-9_]+)['\"]", file.read_text())
    )


@cache
def _strings() -> frozenset[bytes]:
    """The strings of Ray's binaries that could be names of metrics."""
    found: set[bytes] = set()
    for binary in BINARIES:
        found.update(re.findall(rb"\0([a-z][a-z0-9_]{3,80})(?=\0)", (WHEEL / binary).read_bytes()))
    return frozenset(found)

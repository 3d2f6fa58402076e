"""How the endpoints of a cluster are doing, as it is shown to people and sent to programs."""

from collections.abc import Sequence

from heliostat.endpoints import ServedAdapter, Version
from heliostat.records import Record
from heliostat.serving.config import ServeConfig
from heliostat.serving.engines.interface import AdapterUse, EngineStats
from heliostat.serving.fleet.decisions import ScalingDecision
from heliostat.serving.fleet.routes import Replica


class ReplicaStatus(Record):
    """One engine: where it is and what it does."""

    id: str
    node: str
    process: int
    num_requests: int
    num_waiting: int
    tokens_per_second: float
    num_generated_tokens: int
    kv_cache_usage: float | None
    adapters: tuple[AdapterUse, ...]
    """Those that it has loaded or is asked for, the least recently used first."""


class VersionStatus(Record):
    """A version, its share in percent, and how many replicas it has and may have."""

    label: str
    weight: float
    artifact_id: str
    engine: str
    fewest_replicas: int
    most_replicas: int
    target_replicas: int | None = None
    """How many there are to be now; None where that is not known yet."""
    adapters: tuple[ServedAdapter, ...]
    max_loaded_adapters: int
    """Of each replica."""
    replicas: tuple[ReplicaStatus, ...]


class EndpointStatus(Record):
    """An endpoint and its versions, oldest first."""

    name: str
    url: str
    note: str | None
    """What happened to it of itself, such as a canary that lost its share."""
    versions: tuple[VersionStatus, ...]
    decisions: tuple[ScalingDecision, ...] = ()
    """Why it got more replicas or fewer, the latest first."""


def version_status(
    version: Version, replicas: Sequence[tuple[Replica, EngineStats]], target: int | None = None
) -> VersionStatus:
    """A version with its replicas' last words; `target` is how many there are to be."""
    config = ServeConfig.model_validate(version.config)
    scaling = config.autoscaling
    return VersionStatus(
        label=version.label,
        weight=version.weight,
        artifact_id=version.artifact_id,
        engine=version.engine,
        fewest_replicas=scaling.min_replicas if scaling else config.num_replicas,
        most_replicas=scaling.max_replicas if scaling else config.num_replicas,
        target_replicas=target,
        adapters=version.adapters,
        max_loaded_adapters=config.max_loaded_adapters,
        replicas=tuple(_replica_status(replica, stats) for replica, stats in replicas),
    )


def _replica_status(replica: Replica, stats: EngineStats) -> ReplicaStatus:
    return ReplicaStatus(
        id=replica.id,
        node=replica.node,
        process=replica.process,
        num_requests=stats.num_requests,
        num_waiting=stats.num_waiting,
        tokens_per_second=stats.tokens_per_second,
        num_generated_tokens=stats.num_generated_tokens,
        kv_cache_usage=stats.kv_cache_usage,
        adapters=stats.adapters,
    )

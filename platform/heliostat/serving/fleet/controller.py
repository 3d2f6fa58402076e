"""The one place that knows what is deployed and who answers: gateways and replicas report here, and read
here.

Lives in an actor of its own (see the edge). Everything that must last is in the workspace's deployments/; the
replicas and gateways of a controller that was restarted report again within a second.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from heliostat.endpoints import DeploymentRecord, Version
from heliostat.serving.config import ServeConfig
from heliostat.serving.engines.interface import EngineStats
from heliostat.serving.fleet.decisions import Decisions, ScalingWord
from heliostat.serving.fleet.judging import VersionFigures, merged, why_roll_back
from heliostat.serving.fleet.routes import Replica, Route, Snapshot
from heliostat.serving.fleet.status import EndpointStatus, version_status

SILENT_SECONDS = 5.0
"""A replica or gateway that was not heard of for so long is gone."""


@dataclass
class Gateway:
    """A gateway's last word: where it listens, and the versions that it can answer for."""

    url: str
    ready: frozenset[str] = frozenset()
    settings: dict[str, Any] = field(default_factory=dict)
    """What it was started with, and keeps: see `ServeConfig.gateway_settings`."""
    figures: dict[str, VersionFigures] = field(default_factory=dict)
    """By `NAME/LABEL` of a version."""
    knows: int = 0
    """The revision of the last snapshot that it followed."""
    seen_at: float = field(default_factory=time.monotonic)


@dataclass
class _Seen:
    replica: Replica
    stats: EngineStats
    at: float


class Controller:
    """Routes, replicas and gateways of one cluster; belongs to one event loop."""

    def __init__(self, records: list[DeploymentRecord] | None = None) -> None:
        """`records` are those of endpoints that this cluster served before."""
        self._records = {record.endpoint.name: record for record in records or []}
        self._decisions = Decisions()
        for record in self._records.values():
            self._decisions.remember(record)
        self._seen: dict[str, _Seen] = {}
        self._gateways: dict[str, Gateway] = {}
        self._revision = time.time_ns()  # never again one that a gateway had of a controller before this
        self._changed = asyncio.Event()

    @property
    def records(self) -> dict[str, DeploymentRecord]:
        """What is deployed, by the endpoint's name."""
        return dict(self._records)

    @property
    def gateways(self) -> dict[str, Gateway]:
        """The gateways that were heard of lately."""
        self._expire()
        return dict(self._gateways)

    def put(self, record: DeploymentRecord) -> None:
        """Begin to serve an endpoint, or change it."""
        self._records[record.endpoint.name] = record
        self._decisions.follow(record)
        self._change()

    def drop(self, name: str) -> None:
        """Stop sending requests to an endpoint."""
        if self._records.pop(name, None):
            self._decisions.drop(name)
            self._change()

    def report_scaling(self, word: ScalingWord) -> None:
        """How many replicas the scaling policy has an application aim at, and why."""
        self._decisions.hear(self._records.values(), word)

    def report_replica(self, replica: Replica, stats: EngineStats) -> None:
        """A replica is there, and how it is doing."""
        known = self._seen.get(replica.id)
        self._seen[replica.id] = _Seen(replica, stats, time.monotonic())
        if known is None or known.replica != replica:
            self._change()

    def drop_replica(self, replica_id: str) -> None:
        """A replica takes no new requests."""
        if self._seen.pop(replica_id, None):
            self._change()

    def replicas(self, app_name: str) -> list[tuple[Replica, EngineStats]]:
        """The replicas of a version."""
        self._expire()
        return [
            (seen.replica, seen.stats) for seen in self._seen.values() if seen.replica.app_name == app_name
        ]

    def is_ready(self, app_name: str) -> bool:
        """Whether there is a gateway and every one can answer for a version."""
        gateways = self.gateways.values()
        return bool(gateways) and all(app_name in gateway.ready for gateway in gateways)

    @property
    def is_heard(self) -> bool:
        """Whether every gateway has followed the last change."""
        return all(gateway.knows == self._revision for gateway in self.gateways.values())

    def failing_canaries(self) -> dict[str, str]:
        """The endpoints whose newest version does worse than the others beside it, and why."""
        reasons = {}
        for name, record in self._records.items():
            *others, newest = record.versions
            if others and 0 < newest.weight < 100:
                limits = ServeConfig.model_validate(newest.config).canary
                reason = why_roll_back(self._figures(name, (newest,)), self._figures(name, others), limits)
                if reason:
                    reasons[name] = reason
        return reasons

    def _figures(self, name: str, versions: Sequence[Version]) -> VersionFigures:
        keys = {f"{name}/{version.label}" for version in versions}
        return merged(
            figures
            for gateway in self._gateways.values()
            for key, figures in gateway.figures.items()
            if key in keys
        )

    def status(self) -> list[EndpointStatus]:
        """Every endpoint with its versions and replicas, by name."""
        return [
            EndpointStatus(
                name=name,
                url=record.endpoint.url,
                note=record.note,
                versions=tuple(
                    version_status(
                        version, self.replicas(version.app_name), self._decisions.target(name, version)
                    )
                    for version in record.versions
                ),
                decisions=self._decisions.of(name),
            )
            for name, record in sorted(self._records.items())
        ]

    async def watch(self, gateway_id: str, gateway: Gateway, known: int, wait_seconds: float) -> Snapshot:
        """Take a gateway's word, and tell it what there is: at once when that changed, else after a while."""
        gateway.knows, gateway.seen_at = known, time.monotonic()
        self._gateways[gateway_id] = gateway
        self._expire()
        if known == self._revision:
            changed = self._changed
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), wait_seconds)
        return self._snapshot()

    def leave(self, gateway_id: str) -> None:
        """A gateway ends."""
        self._gateways.pop(gateway_id, None)

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            revision=self._revision,
            routes=tuple(Route(name, record.versions) for name, record in self._records.items()),
            replicas=tuple(seen.replica for seen in self._seen.values()),
            loads={key: seen.stats.num_requests for key, seen in self._seen.items()},
            adapters={
                key: frozenset(use.artifact_id for use in seen.stats.adapters if use.loaded)
                for key, seen in self._seen.items()
            },
        )

    def _change(self) -> None:
        self._revision += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def _expire(self) -> None:
        oldest = time.monotonic() - SILENT_SECONDS
        for replica_id in [key for key, seen in self._seen.items() if seen.at < oldest]:
            self.drop_replica(replica_id)
        for gateway_id in [key for key, gateway in self._gateways.items() if gateway.seen_at < oldest]:
            del self._gateways[gateway_id]

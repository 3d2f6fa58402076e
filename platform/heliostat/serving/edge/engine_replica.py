"""Edge: one engine in a process of Ray's; Serve starts, watches and stops it, gateways ask it over a
channel.
"""

import asyncio
import logging
import os
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError

from heliostat.records import Artifact
from heliostat.serving.channel.server import ChannelServer
from heliostat.serving.config import ChosenEngine, ServeConfig
from heliostat.serving.engines.adapter_pool import AdapterPool
from heliostat.serving.engines.interface import EngineStats
from heliostat.serving.engines.selection import start_engine
from heliostat.serving.fleet.routes import Replica
from heliostat.storage import artifact_folder

REPORT_SECONDS = 0.5
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineSpec:
    """All that a version's replicas are made from; travels to their nodes."""

    app_name: str
    artifact: Artifact
    config: ServeConfig
    engine: ChosenEngine
    secret: str
    only_this_host: bool
    controller: Any


class EngineReplica:
    """An engine, its channel, and a word to the controller twice a second."""

    async def __init__(self, spec: EngineSpec) -> None:  # type: ignore[misc]  # Serve awaits it
        self._spec = spec
        self._controller = spec.controller
        folder = await asyncio.to_thread(artifact_folder, spec.artifact)
        self._engine = await start_engine(spec.engine, folder)
        host = "127.0.0.1" if spec.only_this_host else ray.util.get_node_ip_address()
        capacity = spec.config.max_ongoing_requests
        self._adapters = AdapterPool(self._engine, spec.config.max_loaded_adapters)
        self._channel = await ChannelServer.start(self._engine, spec.secret, capacity, host, self._adapters)
        self._replica = Replica(
            id=serve.get_replica_context().replica_id.unique_id,
            app_name=spec.app_name,
            host=host,
            port=self._channel.port,
            capacity=capacity,
            capabilities=self._engine.capabilities,
            max_context_tokens=self._engine.max_context_tokens,
            node=ray.util.get_node_ip_address(),
            process=os.getpid(),
        )
        await self._report()
        self._reporting = asyncio.create_task(self._keep_reporting())

    async def wake(self) -> None:
        """Nothing: to be called is what brings a version at rest its first replica."""

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What the scaling policy looks at."""
        stats = self._engine.stats()
        return {
            "num_requests": float(self._channel.num_requests),
            "num_waiting": float(stats.num_waiting),
            "kv_cache_usage": stats.kv_cache_usage or 0.0,
            "first_token_seconds": self._channel.first_token_seconds(),
        }

    async def check_health(self) -> None:
        """Called by Serve, which restarts a replica that raises here."""
        await self._engine.check_health()

    async def __del__(self) -> None:
        """Serve stops this replica: nothing new comes, what goes on ends, then the engine is let go of."""
        if hasattr(self, "_reporting"):
            self._reporting.cancel()
            await self._leave()
            if not await self._channel.drain(self._spec.config.drain_timeout_seconds):
                logger.warning("%d answers were cut off by the end", self._channel.num_requests)
            await self._channel.close()
        if hasattr(self, "_engine"):
            await self._engine.close()

    async def _keep_reporting(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            await self._report()

    async def _report(self) -> None:
        num_requests, adapters = self._channel.num_requests, self._adapters.uses()
        stats: EngineStats = replace(self._engine.stats(), num_requests=num_requests, adapters=adapters)
        try:
            if not self._channel.draining:
                await self._controller.report_replica.remote(self._replica, stats)
        except RayError as error:  # it is being restarted: the next word reaches it
            logger.info("the controller does not answer: %s", error)

    async def _leave(self) -> None:
        self._channel.draining = True
        try:
            await self._controller.drop_replica.remote(self._replica.id)
        except RayError as error:
            logger.info("the controller does not answer: %s", error)

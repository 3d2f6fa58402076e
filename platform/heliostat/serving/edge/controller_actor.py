"""Edge: the controller in an actor of its own, one a cluster; it outlives whoever deployed."""

import asyncio
import json
import logging
import secrets
from typing import Any

import ray
from ray.experimental import internal_kv

from heliostat.endpoints import DeploymentRecord
from heliostat.errors import HeliostatError
from heliostat.serving.edge import operations
from heliostat.serving.edge.calls import NAME, NAMESPACE
from heliostat.serving.engines.interface import EngineStats
from heliostat.serving.fleet.controller import Controller, Gateway
from heliostat.serving.fleet.decisions import ScalingWord
from heliostat.serving.fleet.routes import Replica, Snapshot
from heliostat.serving.fleet.status import EndpointStatus
from heliostat.storage import split_uri

RECORDS_KEY = b"heliostat-served"
MAX_CONCURRENCY = 1000  # each gateway has a call that waits
logger = logging.getLogger(__name__)


class ControllerActor:
    """The controller behind Ray's calls. Where the records of what is served lie is kept in Ray's own store,
    so that a controller that is restarted finds them."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._controller = Controller(_remembered())
        self._one_at_a_time = asyncio.Lock()

    async def secret(self) -> str:
        """What gateways say to engines."""
        return self._secret

    async def put(self, record: DeploymentRecord) -> None:
        """Begin to serve an endpoint, or change it; its record is written."""
        await asyncio.to_thread(_write, record)
        self._controller.put(record)
        self._remember()

    async def drop(self, name: str) -> None:
        """Stop sending requests to an endpoint."""
        self._controller.drop(name)
        self._remember()

    async def operate(self, what: str, name: str, values: dict[str, Any]) -> DeploymentRecord | str | None:
        """Do one of the operations to an endpoint; the record behind it, or why it cannot be done."""
        itself = ray.get_runtime_context().current_actor
        try:
            async with self._one_at_a_time:
                return await asyncio.to_thread(operations.operate, itself, what, name, values)
        except HeliostatError as error:
            return str(error)

    async def status(self) -> list[EndpointStatus]:
        """Every endpoint with its versions and replicas."""
        return self._controller.status()

    async def records(self) -> dict[str, DeploymentRecord]:
        """What is deployed."""
        return self._controller.records

    async def gateways(self) -> dict[str, Gateway]:
        """The gateways, as they reported last."""
        return self._controller.gateways

    async def is_ready(self, app_name: str) -> bool:
        """Whether every gateway can answer for a version."""
        return self._controller.is_ready(app_name)

    async def is_heard(self) -> bool:
        """Whether every gateway knows how things are now."""
        return self._controller.is_heard

    async def replicas(self, app_name: str) -> list[tuple[Replica, EngineStats]]:
        """A version's replicas and how they are doing."""
        return self._controller.replicas(app_name)

    async def report_replica(self, replica: Replica, stats: EngineStats) -> None:
        """A replica's word."""
        self._controller.report_replica(replica, stats)

    async def drop_replica(self, replica_id: str) -> None:
        """A replica takes no new requests."""
        self._controller.drop_replica(replica_id)

    async def report_scaling(self, word: ScalingWord) -> None:
        """The scaling policy's word."""
        self._controller.report_scaling(word)

    async def watch(self, gateway_id: str, gateway: Gateway, known: int, wait_seconds: float) -> Snapshot:
        """A gateway's word, and the answer to it."""
        if not self._one_at_a_time.locked():
            for name, reason in self._controller.failing_canaries().items():
                logger.warning("%s: its canary loses its share: %s", name, reason)
                await self.operate("canary", name, {"weight": 0.0, "note": f"canary rolled back: {reason}"})
        return await self._controller.watch(gateway_id, gateway, known, wait_seconds)

    async def leave(self, gateway_id: str) -> None:
        """A gateway ends."""
        self._controller.leave(gateway_id)

    def _remember(self) -> None:
        uris = [record.endpoint.record_uri for record in self._controller.records.values()]
        internal_kv._internal_kv_put(RECORDS_KEY, json.dumps(uris).encode(), namespace=NAMESPACE)


def _remembered() -> list[DeploymentRecord]:
    kept = internal_kv._internal_kv_get(RECORDS_KEY, namespace=NAMESPACE)
    records = []
    for uri in json.loads(kept) if kept else ():
        storage, name = split_uri(uri)
        record = DeploymentRecord.model_validate_json(storage.read_bytes(name))
        if record.status == "running":
            records.append(record)
    return records


def _write(record: DeploymentRecord) -> None:
    storage, name = split_uri(record.endpoint.record_uri)
    storage.write_bytes(name, record.model_dump_json(indent=2).encode())


def start_controller() -> Any:
    """This cluster's controller, started if need be."""
    actor = ray.remote(ControllerActor).options(
        name=NAME,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=3,
        max_concurrency=MAX_CONCURRENCY,
    )
    return actor.remote(secrets.token_hex(32))

"""Edge: the gateway in a process of Ray's, with an HTTP server of its own.

Serve's proxy is not used: it would add a process and two hops through Ray to every token.
"""

import asyncio
import contextlib
import logging
import uuid
from dataclasses import dataclass
from typing import Any

import uvicorn
from ray import serve
from ray.exceptions import RayError

from heliostat.endpoints import DeploymentRecord
from heliostat.errors import ServingError
from heliostat.records import Artifact
from heliostat.serving.access.keyring import PlainKeys
from heliostat.serving.cache.response_cache import ResponseCache
from heliostat.serving.config import ServeConfig, is_loopback
from heliostat.serving.fleet.controller import Gateway
from heliostat.serving.fleet.dispatch import Fleet
from heliostat.serving.fleet.status import EndpointStatus
from heliostat.serving.gateway.app import build_gateway
from heliostat.serving.gateway.catalogue import Catalogue
from heliostat.serving.gateway.http_server import server_config
from heliostat.serving.gateway.kept_answers import KeptAnswers
from heliostat.serving.gateway.metrics import GatewayMetrics
from heliostat.serving.gateway.services import Doormen, Services
from heliostat.serving.guard.review_queue import ReviewQueue
from heliostat.serving.ports import listening_socket
from heliostat.serving.retrieval.store import Collections
from heliostat.serving.text_embedder import TextEmbedder
from heliostat.storage import Storage, artifact_folder

ENGINE_NAME = "Engine"
WATCH_SECONDS = 1.0
CONTROLLER_RETRY_SECONDS = 0.5
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GatewaySpec:
    """Where a gateway listens, and what holds for all requests."""

    url: str
    host: str
    port: int
    config: ServeConfig
    storage: Storage
    """The workspace's: keys, rules and the audit log lie there."""
    plain_keys: PlainKeys | None
    controller: Any
    embedder: Artifact | None = None
    """For the semantic cache and for collections of documents."""


class GatewayReplica:
    """The HTTP server, and the eyes on the controller."""

    async def __init__(self, spec: GatewaySpec) -> None:  # type: ignore[misc]  # Serve awaits it
        self._spec = spec
        self._id = uuid.uuid4().hex
        self._controller = spec.controller
        self._wakes: dict[str, asyncio.Task[None]] = {}
        secret = await self._controller.secret.remote()
        self._fleet = Fleet(secret, self._wake)
        self._catalogue = Catalogue(self._fleet, spec.storage.root)
        self._revision = 0
        listening = listening_socket(spec.host, spec.port)
        self._doormen = await asyncio.to_thread(
            Doormen.of, spec.config.access, is_loopback(spec.host), spec.storage, spec.plain_keys
        )
        self._metrics = GatewayMetrics()
        embed = await TextEmbedder.load(artifact_folder(spec.embedder)) if spec.embedder else None
        services = self._services = self._all_services(embed)
        application = build_gateway(self._catalogue, spec.config, services)
        self._server = uvicorn.Server(server_config(application, spec.config))
        self._refreshing = asyncio.create_task(self._doormen.access.watch())
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))
        self._watching = asyncio.create_task(self._watch())

    def _all_services(self, embed: TextEmbedder | None) -> Services:
        spec = self._spec
        cache = KeptAnswers(ResponseCache(spec.config.cache, embed))
        collections = None
        if embed and spec.config.retrieval and spec.embedder:
            collections = Collections(spec.storage, spec.config.retrieval, embed, spec.embedder.id)
        reviews = ReviewQueue(spec.storage)
        return Services(self._doormen, self._metrics, self, cache, collections, reviews)

    async def status(self) -> list[EndpointStatus]:
        """Every endpoint of the cluster."""
        endpoints: list[EndpointStatus] = await self._ask(self._controller.status)
        return endpoints

    async def operate(self, what: str, name: str, values: dict[str, Any]) -> DeploymentRecord | str | None:
        """Have the controller change an endpoint."""
        done: DeploymentRecord | str | None = await self._ask(self._controller.operate, what, name, values)
        return done

    async def logs(self, name: str, num_lines: int) -> dict[str, list[str]]:
        """The last lines of each replica's log."""
        return await self._catalogue.logs(name, num_lines)

    async def _ask(self, method: Any, *arguments: Any) -> Any:
        try:
            return await method.remote(*arguments)
        except RayError as error:
            raise ServingError(f"the controller does not answer: {error}") from error

    async def check_health(self) -> None:
        """Called by Serve, which restarts a replica that raises here.

        Raises:
            ServingError: the server or the watch has ended.
        """
        tasks = {
            "HTTP server": self._serving,
            "watch on the controller": self._watching,
            "watch on the keys": self._refreshing,
        }
        for what, task in tasks.items():
            if task.done():
                error = None if task.cancelled() else task.exception()
                raise ServingError(f"the gateway's {what} ended: {error}; it will be restarted")

    async def __del__(self) -> None:
        """Serve stops this gateway: answers under way end first."""
        if hasattr(self, "_watching"):
            self._server.should_exit = True
            await asyncio.wait([self._serving])
            self._watching.cancel()
            self._refreshing.cancel()
            with contextlib.suppress(RayError):
                await self._controller.leave.remote(self._id)
            await self._fleet.close()
            await self._doormen.limits.close()
            if self._services.answers:
                await self._services.answers.close()
            await asyncio.to_thread(self._doormen.audit.close)

    async def _watch(self) -> None:
        """Tell the controller what this gateway can answer for, and follow what it says."""
        while True:
            settings, figures = self._spec.config.gateway_settings, self._metrics.figures()
            word = Gateway(self._spec.url, self._catalogue.ready, settings, figures)
            try:
                snapshot = await self._controller.watch.remote(self._id, word, self._revision, WATCH_SECONDS)
            except RayError as error:
                logger.warning("the controller does not answer: %s", error)
                await asyncio.sleep(CONTROLLER_RETRY_SECONDS)
                continue
            await self._catalogue.update(snapshot)
            self._metrics.follow(
                (route.name, version.label) for route in snapshot.routes for version in route.versions
            )
            self._revision = snapshot.revision

    async def _wake(self, app_name: str) -> None:
        """Bring a version at rest its first replica: Serve starts one for a call that waits."""
        going_on = self._wakes.get(app_name)
        if going_on is None or going_on.done():
            self._wakes[app_name] = asyncio.create_task(_call_once(app_name))


async def _call_once(app_name: str) -> None:
    try:
        await serve.get_deployment_handle(ENGINE_NAME, app_name=app_name).wake.remote()
    except (RayError, serve.exceptions.RayServeException) as error:
        logger.warning("%s cannot be woken: %s", app_name, error)

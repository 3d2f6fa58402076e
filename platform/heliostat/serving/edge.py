"""Edge: the gateway and the engine as Ray Serve deployments. All that knows Ray in this room is here."""

import logging
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus, LoggingConfig

from heliostat.errors import HeliostatError, ServingError
from heliostat.models.loading import load_tokenizer
from heliostat.ray_session import options_of
from heliostat.records import Artifact
from heliostat.serving.access.admission import Access
from heliostat.serving.access.config import AccessConfig
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.access.keyring import PlainKeys
from heliostat.serving.api.answering import ServedModel
from heliostat.serving.config import OpenVINOEngineConfig, ServeConfig, TransformersEngineConfig
from heliostat.serving.engines.interface import EngineStats, SamplingParameters, TokenDelta
from heliostat.serving.engines.selection import max_context_tokens, start_engine
from heliostat.serving.gateway.app import build_gateway
from heliostat.serving.ports import check_port_free, free_port
from heliostat.storage import artifact_folder

MAX_GATEWAY_REQUESTS = 10_000  # the engine's limit is the one that counts; the gateway only waits
DRAIN_POLL_SECONDS = 0.5
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deployment:
    """All that the replicas of one endpoint are made from; travels to their nodes."""

    name: str
    artifact: Artifact
    config: ServeConfig
    engine: OpenVINOEngineConfig | TransformersEngineConfig
    keys: PlainKeys | None


@dataclass(frozen=True)
class AppStatus:
    """How far an application has come; `reason` says why it failed, or what it waits for."""

    running: bool
    failed: bool
    reason: str


class EngineReplica:
    """One engine in a process of Ray's."""

    async def __init__(self, deployment: Deployment) -> None:  # type: ignore[misc]  # Serve awaits it
        folder = artifact_folder(deployment.artifact)
        self._engine = await start_engine(deployment.engine, folder)

    async def generate(
        self, prompt_ids: list[int], parameters: SamplingParameters, request_id: str
    ) -> AsyncGenerator[TokenDelta]:
        """As the engine's; cancelling the call frees the slot."""
        async for delta in self._engine.generate(prompt_ids, parameters, request_id):
            yield delta

    async def stats(self) -> EngineStats:
        """As the engine's."""
        return self._engine.stats()

    async def check_health(self) -> None:
        """Called by Serve, which restarts a replica that raises here, and by the gateway's /healthz."""
        await self._engine.check_health()

    async def __del__(self) -> None:
        if hasattr(self, "_engine"):
            await self._engine.close()


class Gateway:
    """The HTTP face in a process of Ray's."""

    def __init__(self, deployment: Deployment, engine: DeploymentHandle) -> None:
        folder = artifact_folder(deployment.artifact)
        config = deployment.config
        model = ServedModel(
            id=deployment.name,
            created=int(time.time()),
            tokenizer=load_tokenizer(folder),
            engine=RemoteEngine(engine),
            max_context_tokens=max_context_tokens(folder),
            max_output_tokens=config.max_output_tokens,
            default_max_tokens=config.default_max_tokens,
        )
        keys = deployment.keys
        access = Access(AccessConfig(), KeyStore(plain=keys), loopback_only=False) if keys else None
        self._application = build_gateway({model.id: model}, access, config.max_request_bytes)

    def __serve_build_asgi_app__(self) -> Any:  # Serve asks for the application by this name
        return self._application


class RemoteEngine:
    """The engine's replicas as one token source."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle
        self._generate = handle.options(stream=True).generate

    async def generate(
        self, prompt_ids: Sequence[int], parameters: SamplingParameters, request_id: str
    ) -> AsyncGenerator[TokenDelta]:
        """As the engine's; a replica that dies ends the stream with a ServingError."""
        response = self._generate.remote(list(prompt_ids), parameters, request_id)
        finished = False
        try:
            async for delta in response:
                finished = delta.finish_reason is not None
                yield delta
        except (RayError, RayServeException) as error:
            raise ServingError(_reason(error)) from error
        finally:
            if not finished:
                response.cancel()

    async def check_health(self) -> None:
        """Ask one replica."""
        try:
            await self._handle.check_health.remote()
        except (RayError, RayServeException) as error:
            raise ServingError(_reason(error)) from error


def check_http(config: ServeConfig) -> int | None:
    """See that endpoints can listen where the config says; the port if this cluster listens there already.

    Raises:
        ServingError: the port is in use, or this cluster already listens on another one.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    client = _get_global_client(raise_if_no_controller_running=False)
    if client is not None:
        there = client.http_config
        if config.port not in (0, there.port):
            raise ServingError(
                f"this cluster's endpoints listen on port {there.port}, so port {config.port} cannot be had; "
                f"set port to {there.port} (several models share it) or 0"
            )
        if config.host != there.host:
            raise ServingError(
                f"this cluster's endpoints listen on {there.host}, so host {config.host} cannot be had too; "
                f"set host to {there.host}"
            )
        return int(there.port)
    check_port_free(config.host, config.port)
    return None


def open_http(config: ServeConfig) -> int:
    """Start Serve's HTTP server, or join the one this cluster has; the port it listens on.

    Raises:
        ServingError: as `check_http`.
    """
    joined = check_http(config)
    if joined:
        return joined
    port = config.port or free_port(config.host)
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": config.host, "port": port},
            logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
        )
    except (RayError, RayServeException, TimeoutError) as error:
        raise ServingError(
            f"Ray Serve cannot listen on {config.host}:{port}: {_reason(error)}; set port to another or 0"
        ) from error
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    return port


def start_application(deployment: Deployment, app_name: str, route_prefix: str) -> None:
    """Tell Serve to run an endpoint; returns before it does. Other applications stay as they are."""
    config = deployment.config
    engine = serve.deployment(EngineReplica).options(
        name="Engine",
        num_replicas=config.num_replicas,
        max_ongoing_requests=config.max_ongoing_requests,
        ray_actor_options=options_of(config.resources),
        graceful_shutdown_timeout_s=config.drain_timeout_seconds,
        graceful_shutdown_wait_loop_s=DRAIN_POLL_SECONDS,
        max_constructor_retry_count=1,
    )
    gateway = serve.deployment(serve.ingress()(Gateway)).options(
        name="Gateway",
        max_ongoing_requests=MAX_GATEWAY_REQUESTS,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=config.drain_timeout_seconds,
        graceful_shutdown_wait_loop_s=DRAIN_POLL_SECONDS,
        max_constructor_retry_count=1,
    )
    target = serve.RunTarget(
        target=gateway.bind(deployment, engine.bind(deployment)), name=app_name, route_prefix=route_prefix
    )
    try:
        serve.run_many([target], wait_for_applications_running=False)
    except RayServeException as error:
        raise ServingError(_reason(error)) from error


def application_status(app_name: str) -> AppStatus:
    """How far an application has come."""
    application = serve.status().applications.get(app_name)
    if application is None:
        return AppStatus(running=False, failed=True, reason="it was deleted")
    parts = [application.message, *(part.message for part in application.deployments.values())]
    return AppStatus(
        running=application.status == ApplicationStatus.RUNNING,
        failed=application.status in (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY),
        reason=" ".join(filter(None, parts)),
    )


def routes() -> dict[str, str]:
    """The route prefix of each application on this cluster, by its name."""
    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return {}
    applications = client.get_serve_details()["applications"]
    return {name: details["route_prefix"] for name, details in applications.items()}


def delete_application(app_name: str) -> None:
    """Drain and remove an application; nothing happens when it is not there."""
    if app_name in routes():
        serve.delete(app_name)


def _reason(error: Exception) -> str:
    """What went wrong, without the remote traceback."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, HeliostatError):
        return str(cause)
    lines = str(cause).strip().splitlines()
    return lines[-1] if lines else type(cause).__name__

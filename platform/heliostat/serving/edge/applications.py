"""Edge: Serve's applications: one for the gateway, one for each version of an endpoint."""

import logging
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus, LoggingConfig

from heliostat.errors import HeliostatError, ServingError
from heliostat.ray_session import options_of
from heliostat.serving.config import ServeConfig
from heliostat.serving.edge.engine_replica import EngineReplica, EngineSpec
from heliostat.serving.edge.gateway_replica import ENGINE_NAME, GatewayReplica, GatewaySpec
from heliostat.serving.edge.reporting_policy import ReportingPolicy

GATEWAY_APP = "heliostat-gateway"
APP_PREFIX = "heliostat-"
KILL_AFTER_SECONDS = 10.0
"""So much longer than the drain Serve waits before it kills a replica."""
DRAIN_POLL_SECONDS = 0.1
METRICS_SECONDS = 0.5
CODE_VERSION = "1"
HEAD_NODE = "node:__internal_head__"


@dataclass(frozen=True)
class AppStatus:
    """How far an application has come; `reason` says why it failed, or what it waits for."""

    running: bool
    failed: bool
    reason: str


def start_serve() -> None:
    """Start Serve without proxies, or join the one this cluster has.

    Raises:
        ServingError: it does not start.
    """
    if _get_global_client(raise_if_no_controller_running=False) is not None:
        return
    try:
        serve.start(
            proxy_location="Disabled",
            logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
        )
    except (RayError, RayServeException, TimeoutError) as error:
        raise ServingError(f"Ray Serve does not start: {reason_of(error)}") from error
    logging.getLogger("ray.serve").setLevel(logging.WARNING)


def one_host() -> bool:
    """Whether this cluster has but one node, so that nothing has to leave the loopback."""
    return len([node for node in ray.nodes() if node["Alive"]]) == 1


def start_gateway(spec: GatewaySpec) -> None:
    """Tell Serve to run the gateway on the head node; returns before it does."""
    config = spec.config
    gateway = serve.deployment(GatewayReplica).options(
        name="Gateway",
        num_replicas=config.num_gateways,
        ray_actor_options={"num_cpus": 0, "resources": {HEAD_NODE: 0.001}},
        graceful_shutdown_timeout_s=config.drain_timeout_seconds + KILL_AFTER_SECONDS,
        graceful_shutdown_wait_loop_s=DRAIN_POLL_SECONDS,
        health_check_period_s=2,
        max_constructor_retry_count=1,
    )
    _run(gateway.bind(spec), GATEWAY_APP)


def start_version(spec: EngineSpec) -> None:
    """Tell Serve to run a version's replicas, or to change how many there are; returns before it does."""
    config = spec.config
    engine = serve.deployment(EngineReplica).options(
        name=ENGINE_NAME,
        **_replicas(config),
        max_ongoing_requests=config.max_ongoing_requests,
        ray_actor_options=options_of(config.resources),
        graceful_shutdown_timeout_s=config.drain_timeout_seconds + KILL_AFTER_SECONDS,
        graceful_shutdown_wait_loop_s=DRAIN_POLL_SECONDS,
        health_check_period_s=2,
        health_check_timeout_s=10,
        max_constructor_retry_count=1,
    )
    engine._version = CODE_VERSION  # else each change of their number would restart all replicas
    _run(engine.bind(spec), spec.app_name)


def wake(app_name: str) -> Any:
    """Have a version that may rest bring a replica up; while the call waits it does not rest again."""
    return serve.get_deployment_handle(ENGINE_NAME, app_name=app_name).wake.remote()


def _replicas(config: ServeConfig) -> dict[str, Any]:
    """How many replicas, in Serve's words."""
    scaling = config.autoscaling
    if scaling is None:
        return {"num_replicas": config.num_replicas}
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=scaling.min_replicas,
            initial_replicas=max(1, scaling.min_replicas),  # the first one shows that the model loads
            max_replicas=scaling.max_replicas,
            upscale_delay_s=scaling.upscale_delay_seconds,
            downscale_delay_s=scaling.downscale_delay_seconds,
            metrics_interval_s=METRICS_SECONDS,
            look_back_period_s=scaling.look_back_seconds,
            policy=AutoscalingPolicy(policy_function=ReportingPolicy, policy_kwargs=scaling.model_dump()),
        )
    }


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


def applications() -> set[str]:
    """The names of this cluster's applications."""
    if _get_global_client(raise_if_no_controller_running=False) is None:
        return set()
    return set(serve.status().applications)


def delete_application(app_name: str) -> None:
    """Drain and remove an application; nothing happens when it is not there."""
    if app_name in applications():
        serve.delete(app_name)


def _run(application: Any, app_name: str) -> None:
    target = serve.RunTarget(target=application, name=app_name, route_prefix=None)
    try:
        serve.run_many([target], wait_for_applications_running=False)
    except RayServeException as error:
        raise ServingError(reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """What went wrong, without the remote traceback."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, HeliostatError):
        return str(cause)
    lines = str(cause).strip().splitlines()
    return lines[-1] if lines else type(cause).__name__

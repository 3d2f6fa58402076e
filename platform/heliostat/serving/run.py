"""Serve a model: choose its engine, start its replicas, and return when it answers over HTTP.

The edge is imported inside the functions: Ray reads its environment when it is imported, which must be after
the session has set it.
"""

import re
import time
import urllib.error
import urllib.request

from heliostat.driver import Driver
from heliostat.endpoints import (
    HEALTH_PATH,
    HEALTH_TIMEOUT_SECONDS,
    DeploymentRecord,
    Endpoint,
    mark_stopped,
    record_path,
    write_record,
)
from heliostat.errors import ServingError
from heliostat.ray_session import is_local, require_resources
from heliostat.records import Artifact, Provenance, now
from heliostat.serving.access.keyring import PlainKeys
from heliostat.serving.config import ServeConfig
from heliostat.serving.engines.selection import choose_engine
from heliostat.workspace import Workspace

__all__ = ["Endpoint", "check_endpoint", "deploy_model", "shutdown_endpoint"]

POLL_SECONDS = 0.1
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


def deploy_model(config: ServeConfig, model: Artifact, workspace: Workspace) -> Endpoint:
    """Serve a model or quantized artifact; a running endpoint of the same name is replaced, others stay.

    Raises:
        ServingError: the engine does not fit the artifact, the port is taken, or the model does not load.
        ClusterError: the cluster can never give the resources asked for.
    """
    from heliostat.serving import edge

    started = time.monotonic()
    name = config.name or model_name(model)
    app_name = f"heliostat-{name}"
    engine = choose_engine(config.engine, model)
    keys = PlainKeys.read(config.api_key_file) if config.api_key_file else None
    require_resources(config.resources, config.num_replicas, "serve")
    port = edge.open_http(config)
    routes = edge.routes()
    prefix = choose_prefix(config.route_prefix, name, app_name, routes)
    url = f"http://{_reachable(config.host)}:{port}{prefix.rstrip('/')}"
    edge.start_application(edge.Deployment(name, model, config, engine, keys), app_name, prefix)
    try:
        _wait_until_it_answers(app_name, url, started + config.startup_timeout_seconds)
    except BaseException:
        if app_name not in routes:  # what ran before this attempt is not ours to take away
            edge.delete_application(app_name)
        raise
    endpoint = Endpoint(
        name=name,
        url=url,
        model_id=name,
        app_name=app_name,
        needs_key=keys is not None,
        record_uri=workspace.storage.uri(record_path(name)),
        startup_seconds=round(time.monotonic() - started, 3),
    )
    record = DeploymentRecord(
        endpoint=endpoint,
        status="running",
        artifact_id=model.id,
        artifact_uri=model.uri,
        engine=engine.kind,
        config=config.canonical(),
        started_at=now(),
        driver=Driver.here() if is_local() else None,
        provenance=Provenance.collect(),
    )
    write_record(workspace, record)
    return endpoint


def check_endpoint(config: ServeConfig) -> None:
    """Refuse what `deploy_model` would refuse, as far as it can be told without the model.

    Raises:
        ServingError: the port is taken, or the file of keys cannot be used.
    """
    from heliostat.serving import edge

    if config.api_key_file:
        PlainKeys.read(config.api_key_file)
    edge.check_http(config)


def shutdown_endpoint(endpoint: Endpoint) -> None:
    """Let answers under way finish, then remove the endpoint; the cluster's HTTP server and others stay."""
    from heliostat.serving import edge

    edge.delete_application(endpoint.app_name)
    mark_stopped(endpoint)


def model_name(model: Artifact) -> str:
    """The artifact's name: its folder's, without the key that the workspace appends."""
    return re.sub(r"-[0-9a-f]{12}$", "", model.uri.rstrip("/").rpartition("/")[2])


def choose_prefix(asked: str | None, name: str, app_name: str, routes: dict[str, str]) -> str:
    """Where an endpoint lies below the port, given the routes that applications have.

    Raises:
        ServingError: another application has the one asked for.
    """
    taken = {prefix: other for other, prefix in routes.items() if other != app_name}
    if asked is None:
        asked = routes.get(app_name) or ("/" if "/" not in taken else f"/{name}")
    if asked in taken:
        raise ServingError(
            f"route_prefix {asked} belongs to application {taken[asked]} on this cluster; "
            f"choose another, such as /{name}, or give this model that one's name to replace it"
        )
    return asked


def first_reason(message: str) -> str:
    """The line of a replica's report that says what is wrong, without traceback and class."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b.*?: ", line)]
    line = (named or lines or ["no reason was given; the replica's log has more"])[-1]
    return re.sub(r"^[\w.]*(Error|Exception)(\([\w.]*\))?: ", "", line)


def _wait_until_it_answers(app_name: str, url: str, deadline: float) -> None:
    from heliostat.serving import edge

    health = f"{url}{HEALTH_PATH}"
    status = edge.application_status(app_name)
    while not (status.running and _answers(health)):
        if status.failed:
            raise ServingError(f"{app_name} did not start: {first_reason(status.reason)}")
        if time.monotonic() > deadline:
            waits = first_reason(status.reason) if status.reason else f"nothing answered at {health}"
            raise ServingError(
                f"{app_name} did not start in time ({waits}); raise startup_timeout_seconds, "
                "or free CPUs on the cluster"
            )
        time.sleep(POLL_SECONDS)
        status = edge.application_status(app_name)


def _answers(health: str) -> bool:
    try:
        with urllib.request.urlopen(health, timeout=HEALTH_TIMEOUT_SECONDS) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _reachable(host: str) -> str:
    """The address at which this machine reaches a server that listens on `host`."""
    if host in WILDCARDS:
        return WILDCARDS[host]
    return f"[{host}]" if ":" in host else host

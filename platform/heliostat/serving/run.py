"""Serve a model: choose its engine, start its replicas, and return when it answers over HTTP.

The edge is imported inside the functions: Ray reads its environment when it is imported, which must be after
the session has set it.
"""

import re
import time
from dataclasses import replace

from heliostat.endpoints import DeploymentRecord, Endpoint, Version, mark_stopped, record_path
from heliostat.ray_session import require_resources
from heliostat.records import Artifact, now
from heliostat.serving.access.keyring import PlainKeys
from heliostat.serving.adapters import open_adapters, served_adapters
from heliostat.serving.config import ServeConfig
from heliostat.serving.engines.selection import choose_engine
from heliostat.serving.front import check_address, open_gateway
from heliostat.workspace import Workspace

__all__ = ["Endpoint", "check_endpoint", "deploy_model", "shutdown_endpoint"]


def deploy_model(config: ServeConfig, model: Artifact, workspace: Workspace) -> Endpoint:
    """Serve a model or quantized artifact under a name; other endpoints stay as they are.

    Where the name serves the same model already, and what has changed in its config needs no other replicas
    (filters, adapters, limits of a request, how many replicas), that is changed while it answers. Else, this
    becomes a new version beside the old ones, which gets `config.weight` percent of the requests once it
    answers; with 100 the old ones end behind the answers they are giving.

    Raises:
        ConfigError: an adapter is not there, or none of this model.
        ServingError: the engine does not fit the artifact, the port is taken, or the model does not load.
        ClusterError: the cluster can never give the resources asked for.
    """
    from heliostat.serving.edge import applications, controller_actor
    from heliostat.serving.edge.operations import reconfigure
    from heliostat.serving.edge.rollout import Rollout, next_label, standing_record

    started = time.monotonic()
    name = config.name or model_name(model)
    engine = choose_engine(config.engine, model)
    adapters = served_adapters(config, model, engine, workspace)
    require_resources(config.resources, config.least_replicas, "serve")
    applications.start_serve()
    controller = controller_actor.start_controller()
    url = open_gateway(config, workspace, controller)
    standing = standing_record(name)
    serving = _same_version(standing, model, config)
    if standing and serving:
        changed = {"config": config.canonical(), "adapters": adapters}
        reconfigure(controller, standing, serving.model_copy(update=changed))
        return standing.endpoint
    label = next_label(name, workspace, standing)
    version = Version(
        label=label,
        app_name=f"heliostat-{name}-{label}",
        weight=config.weight if standing else 100,
        artifact_id=model.id,
        artifact_uri=model.uri,
        engine=engine.kind,
        config=config.canonical(),
        started_at=now(),
        adapters=adapters,
    )
    endpoint = Endpoint(
        name=name,
        url=url,
        model_id=name,
        app_name=f"heliostat-{name}",
        needs_key=config.api_key_file is not None,
        record_uri=workspace.storage.uri(record_path(name)),
        startup_seconds=0,
    )
    rollout = Rollout(config, endpoint, controller, standing)
    rollout.bring_up(version, model, engine, started + config.startup_timeout_seconds)
    endpoint = endpoint.model_copy(update={"startup_seconds": round(time.monotonic() - started, 3)})
    replace(rollout, endpoint=endpoint).switch_to(version)
    return endpoint


def _same_version(standing: DeploymentRecord | None, model: Artifact, config: ServeConfig) -> Version | None:
    """The one version that serves, where this model under this config needs no other replicas."""
    if standing is None or len(standing.versions) != 1 or config.weight < 100:
        return None
    (version,) = standing.versions
    served = ServeConfig.model_validate(version.config)
    same = version.artifact_id == model.id and config.same_replicas(served)
    return version if same else None


def check_endpoint(config: ServeConfig, workspace: Workspace) -> None:
    """Refuse what `deploy_model` would refuse, as far as it can be told without the model.

    Raises:
        ConfigError: an adapter is not there.
        ServingError: the port is taken, or the file of keys cannot be used.
    """
    open_adapters(config, workspace)
    if config.api_key_file:
        PlainKeys.read(config.api_key_file)
    check_address(config)


def shutdown_endpoint(endpoint: Endpoint) -> None:
    """Let answers under way finish, then remove the endpoint; others stay."""
    from heliostat.serving.edge.rollout import take_down

    take_down(endpoint.name)
    mark_stopped(endpoint)


def model_name(model: Artifact) -> str:
    """The artifact's name: its folder's, without the key that the workspace appends."""
    return re.sub(r"-[0-9a-f]{12}$", "", model.uri.rstrip("/").rpartition("/")[2])

"""What is done to endpoints that serve: shares, promotion, rollback, scaling, taking down. Runs within the
cluster.

A driver calls these, and the controller on behalf of whoever asks the gateway's admin routes. Each reads what
serves now, brings up what is missing, and changes the weights last.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from heliostat.endpoints import DeploymentRecord, Version, mark_stopped
from heliostat.errors import ConfigError, ServingError
from heliostat.records import ArtifactKind, now
from heliostat.serving.config import ScalingConfig, ServeConfig
from heliostat.serving.edge import applications
from heliostat.serving.edge.calls import call
from heliostat.serving.edge.engine_replica import EngineSpec
from heliostat.serving.edge.rollout import POLL_SECONDS, Rollout, end_unused, standing_record, take_down
from heliostat.serving.engines.selection import choose_engine
from heliostat.serving.fleet.shares import reweighed
from heliostat.storage import open_artifact

HEARD_SECONDS = 10.0
SERVED_KINDS: tuple[ArtifactKind, ...] = ("model", "quantized")


def operate(controller: Any, what: str, name: str, values: dict[str, Any]) -> DeploymentRecord | None:
    """Do one of canary, promote, rollback, scale, delete to an endpoint; its record behind that.

    Raises:
        HeliostatError: it cannot be done; what served goes on as it did.
    """
    if what == "delete":
        delete(name)
        return None
    methods: dict[str, Callable[..., DeploymentRecord]] = {
        "canary": set_canary,
        "promote": promote,
        "rollback": roll_back,
        "scale": scale,
    }
    return methods[what](controller, name, **values)


def set_canary(controller: Any, name: str, weight: float, note: str | None = None) -> DeploymentRecord:
    """Give the newest version `weight` percent of the requests, and the others the rest; `note` says why.

    Raises:
        ServingError: nothing of that name is served, or it has one version only.
    """
    standing = _standing(name)
    if len(standing.versions) < 2:
        raise ServingError(
            f"{name} has one version only; 'heliostat serve deploy RECIPE --weight {weight:g}' adds a second"
        )
    *others, newest = standing.versions
    newest = newest.model_copy(update={"weight": weight})
    versions = (*reweighed(_with_shares(others), 100 - weight), newest)
    noted = standing.model_copy(update={"note": note})
    return _change(controller, noted, versions, before=standing.versions)


def promote(controller: Any, name: str) -> DeploymentRecord:
    """Give the newest version all requests; the others end behind the answers they are giving.

    Raises:
        ServingError: nothing of that name is served, or it has one version only.
    """
    standing = _standing(name)
    if len(standing.versions) < 2:
        raise ServingError(f"{name} has one version only, which has all requests")
    newest = standing.versions[-1].model_copy(update={"weight": 100.0})
    record = _change(controller, standing, (newest,), before=standing.versions)
    end_unused(standing.versions, record.versions)
    return record


def roll_back(controller: Any, name: str) -> DeploymentRecord:
    """Go back: a canary ends; behind a promotion the version before comes up again and takes over.

    Raises:
        ServingError: there is nothing to go back to, or it does not come up.
    """
    standing = _standing(name)
    if len(standing.versions) > 1:
        rest = reweighed(_with_shares(standing.versions[:-1]), 100)
        record = _change(controller, standing, rest, before=())
        end_unused(standing.versions, record.versions)
        return record
    earlier = [each for each in standing.before if each.app_name != standing.versions[0].app_name]
    if not earlier:
        raise ServingError(f"{name} has no earlier version to go back to")
    return _bring_back(controller, standing, max(earlier, key=lambda version: version.weight))


def reconfigure(controller: Any, standing: DeploymentRecord, changed: Version) -> DeploymentRecord:
    """Let a version that serves go on as `changed`: under another config, or with other adapters, that need
    no other replicas. Returns when every gateway has heard of it.
    """
    _resize(controller, changed, ServeConfig.model_validate(changed.config))
    versions = tuple(changed if each.label == changed.label else each for each in standing.versions)
    record = _change(controller, standing, versions, standing.before)
    deadline = time.monotonic() + HEARD_SECONDS
    while not call(controller.is_heard) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return record


def scale(controller: Any, name: str, fewest: int, most: int) -> DeploymentRecord:
    """Have between so many replicas of each version from now on; the same number twice fixes it.

    Raises:
        ConfigError: the bounds are out of order.
        ServingError: nothing of that name is served.
    """
    if fewest > most or most < 1 or fewest < 0:
        raise ConfigError(
            f"from {fewest} to {most} replicas: give 0 or more, then as many or more, at least 1"
        )
    standing = _standing(name)
    versions = []
    for version in standing.versions:
        config = _scaled(ServeConfig.model_validate(version.config), fewest, most)
        _resize(controller, version, config)
        versions.append(version.model_copy(update={"config": config.canonical()}))
    return _change(controller, standing, tuple(versions), standing.before)


def delete(name: str) -> None:
    """Stop serving a name, behind the answers it is giving.

    Raises:
        ServingError: nothing of that name is served.
    """
    standing = _standing(name)
    take_down(name)
    mark_stopped(standing.endpoint)


def _resize(controller: Any, version: Version, config: ServeConfig) -> None:
    """Tell Serve how many replicas a version has from now on."""
    model = open_artifact(version.artifact_uri, SERVED_KINDS)
    engine, secret = choose_engine(config.engine, model), call(controller.secret)
    spec = EngineSpec(version.app_name, model, config, engine, secret, applications.one_host(), controller)
    applications.start_version(spec)


def _scaled(config: ServeConfig, fewest: int, most: int) -> ServeConfig:
    if fewest == most and config.autoscaling is None:
        return config.model_copy(update={"num_replicas": most})
    scaling = config.autoscaling or ScalingConfig()
    bounds = {"min_replicas": fewest, "max_replicas": most}
    return config.model_copy(update={"autoscaling": scaling.model_copy(update=bounds)})


def _bring_back(controller: Any, standing: DeploymentRecord, version: Version) -> DeploymentRecord:
    config = ServeConfig.model_validate(version.config)
    model = open_artifact(version.artifact_uri, SERVED_KINDS)
    back = version.model_copy(update={"weight": 100.0, "started_at": now()})
    rollout = Rollout(config, standing.endpoint, controller, standing)
    deadline = time.monotonic() + config.startup_timeout_seconds
    rollout.bring_up(back, model, choose_engine(config.engine, model), deadline)
    replace(rollout, standing=standing).switch_to(back)
    return _standing(standing.endpoint.name)


def _standing(name: str) -> DeploymentRecord:
    standing = standing_record(name)
    if standing is None:
        raise ServingError(
            f"{name}: no endpoint of that name is served here; 'heliostat serve status' lists them"
        )
    return standing


def _with_shares(versions: Sequence[Version]) -> Sequence[Version]:
    """Versions of which at least one has a share: where all requests went to the newest, the latest of
    them.
    """
    if any(version.weight for version in versions):
        return versions
    return (*versions[:-1], versions[-1].model_copy(update={"weight": 1.0}))


def _change(
    controller: Any, standing: DeploymentRecord, versions: tuple[Version, ...], before: tuple[Version, ...]
) -> DeploymentRecord:
    main = max(versions, key=lambda version: version.weight)
    values: dict[str, Any] = {
        "versions": versions,
        "before": before,
        "artifact_id": main.artifact_id,
        "artifact_uri": main.artifact_uri,
        "engine": main.engine,
        "config": main.config,
    }
    record = standing.model_copy(update=values)
    call(controller.put, record)
    return record

"""What Ray Serve runs: applications, deployments, replicas, and why it scaled them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from heliostat.control.answers import mapping, mappings, moment, text, whole
from heliostat.control.ray_api import RayApi
from heliostat.records import Record


class ScalingDecision(Record):
    """Serve's autoscaler changed a number of replicas, or left it, and why."""

    at: datetime | None
    reason: str
    replicas_before: int | None
    replicas_after: int | None


class Replica(Record):
    """One copy of a deployment; `state` in Serve's words: STARTING, RUNNING, STOPPING and others."""

    id: str
    state: str
    node_id: str
    started_at: datetime | None


class ServeDeployment(Record):
    """A deployment: how many replicas answer and how many should. `why` says in words what it waits for."""

    name: str
    status: str
    message: str
    replicas_now: int
    replicas_target: int | None
    replicas: tuple[Replica, ...]
    fewest_replicas: int | None
    most_replicas: int | None
    scaling_status: str
    decisions: tuple[ScalingDecision, ...]
    """The latest first; empty without autoscaling."""
    why: str


class ServeApplication(Record):
    """An application and its deployments."""

    name: str
    status: str
    message: str
    route: str
    deployed_at: datetime | None
    deployments: tuple[ServeDeployment, ...]


class ServeState(Record):
    """All of Serve. `running` is False where it was never started, or was shut down."""

    running: bool
    applications: tuple[ServeApplication, ...]


def read_serve(api: RayApi) -> ServeState:
    """What Serve runs.

    Raises:
        Unreachable: the cluster does not answer; also while the control store is away (HTTP 503).
        ClusterError: it refuses, or what answers is no Ray dashboard.
    """
    answer = api.get("/api/serve/applications/", "asking what Serve runs")
    applications = mapping(answer, "applications")
    found = tuple(_application(str(name), mapping(each)) for name, each in sorted(applications.items()))
    running = bool(found) or bool(mapping(answer, "controller_info").get("actor_id"))
    return ServeState(running=running, applications=found)


def _application(name: str, entry: Mapping[str, Any]) -> ServeApplication:
    deployments = mapping(entry, "deployments")
    return ServeApplication(
        name=name,
        status=text(entry.get("status")),
        message=text(entry.get("message")),
        route=text(entry.get("route_prefix")),
        deployed_at=moment(entry.get("last_deployed_time_s")),
        deployments=tuple(_deployment(str(each), mapping(deployments, each)) for each in sorted(deployments)),
    )


def _deployment(name: str, entry: Mapping[str, Any]) -> ServeDeployment:
    scaling = mapping(entry, "autoscaling_detail")
    bounds = mapping(entry, "deployment_config", "autoscaling_config")
    replicas = tuple(_replica(each) for each in mappings(entry.get("replicas")))
    running = sum(replica.state == "RUNNING" for replica in replicas)
    decisions = [_decision(each) for each in mappings(scaling.get("decisions"))]
    decisions.sort(key=lambda each: each.at.timestamp() if each.at else 0.0, reverse=True)
    target = whole(entry.get("target_num_replicas"))
    return ServeDeployment(
        name=name,
        status=text(entry.get("status")),
        message=text(entry.get("message")),
        replicas_now=running,
        replicas_target=target,
        replicas=replicas,
        fewest_replicas=whole(bounds.get("min_replicas")),
        most_replicas=whole(bounds.get("max_replicas")),
        scaling_status=text(scaling.get("scaling_status")),
        decisions=tuple(decisions),
        why=_why(running, target, replicas, decisions, text(entry.get("message"))),
    )


def _replica(entry: Mapping[str, Any]) -> Replica:
    return Replica(
        id=text(entry.get("replica_id")),
        state=text(entry.get("state")),
        node_id=text(entry.get("node_id")),
        started_at=moment(entry.get("start_time_s")),
    )


def _decision(entry: Mapping[str, Any]) -> ScalingDecision:
    return ScalingDecision(
        at=moment(entry.get("timestamp_s")),
        reason=text(entry.get("reason")),
        replicas_before=whole(entry.get("prev_num_replicas")),
        replicas_after=whole(entry.get("curr_num_replicas")),
    )


def _why(
    running: int,
    target: int | None,
    replicas: tuple[Replica, ...],
    decisions: list[ScalingDecision],
    message: str,
) -> str:
    """What a person is told; empty where nothing is to be said."""
    if target is not None and running < target:
        unplaced = sum(replica.state == "STARTING" and not replica.node_id for replica in replicas)
        waiting = f", {unplaced} of them waiting for room on a node" if unplaced else ""
        said = f"{target - running} of {target} replicas are not up yet{waiting}"
        return f"{said}: {message}" if message else said
    if target is not None and running > target:
        return f"{running - target} replicas are being ended, down to {target}"
    latest = next((each for each in decisions if each.replicas_before != each.replicas_after), None)
    if latest is None:
        return message
    return f"scaled from {latest.replicas_before} to {latest.replicas_after}: {latest.reason}"

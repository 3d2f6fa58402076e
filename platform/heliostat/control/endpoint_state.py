"""What is shown of an endpoint: its record, its gateway's word and Serve's, joined. Pure."""

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from heliostat.control.endpoint_figures import Figures, Look, figures_of
from heliostat.control.gateway_key import KEY_VARIABLE
from heliostat.endpoints import DeploymentRecord, Endpoint
from heliostat.records import Record

EndpointStatus = Literal[
    "serving", "starting", "resting", "degraded", "missing", "locked", "away", "stopped", "gone"
]
"""missing: the gateway answers and has no such endpoint; locked: it wants a key; away: it does not answer."""
LIVE: tuple[EndpointStatus, ...] = ("serving", "starting", "resting", "degraded")


class Decision(Record):
    """Why a version got more replicas or fewer; `cause` and `figures` are for who translates `reason`."""

    at: datetime
    version: str
    before: int
    after: int
    cause: str
    figures: dict[str, float]
    reason: str


class VersionState(Record):
    """One version; numbers are None where its gateway does not tell."""

    label: str
    weight: float
    artifact_id: str
    engine: str
    adapters: tuple[str, ...]
    replicas_now: int | None = None
    replicas_target: int | None = None
    fewest_replicas: int | None = None
    most_replicas: int | None = None
    num_requests: int | None = None
    num_waiting: int | None = None
    tokens_per_second: float | None = None
    kv_cache_usage: float | None = None
    figures: Figures = Figures()
    waits_for: str = ""
    """What Ray Serve says of it, such as a replica that waits for room."""


class EndpointState(Record):
    """An endpoint as a person sees it; `reason` says why it is not well."""

    name: str
    status: EndpointStatus
    reason: str
    url: str
    base_url: str
    model_id: str
    needs_key: bool
    started_at: datetime
    num_gateways: int
    note: str
    """What happened to it of itself, such as a canary that lost its share."""
    versions: tuple[VersionState, ...]
    figures: Figures = Figures()
    decisions: tuple[Decision, ...] = ()

    @property
    def live(self) -> bool:
        """Whether its gateway has it and tells of it."""
        return self.status in LIVE

    @property
    def replicas_now(self) -> int | None:
        """Of all versions; None where its gateway does not tell."""
        return _sum(each.replicas_now for each in self.versions)

    @property
    def replicas_target(self) -> int | None:
        """Of all versions."""
        return _sum(each.replicas_target for each in self.versions)

    @property
    def num_waiting(self) -> int | None:
        """Requests that wait in an engine."""
        return _sum(each.num_waiting for each in self.versions)

    @property
    def curl(self) -> str:
        """A question that can be pasted into a shell."""
        return curl_line(self.base_url, self.model_id, self.needs_key)


def curl_line(base_url: str, model: str, needs_key: bool) -> str:
    """A question to an endpoint as a shell's command; the key stays in its variable."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
    key = f' -H "Authorization: Bearer ${KEY_VARIABLE}"' if needs_key else ""
    address = shlex.quote(f"{base_url}/chat/completions")
    return f"curl {address} -H 'Content-Type: application/json'{key} -d {shlex.quote(body)}"


def without_gateway(record: DeploymentRecord, status: EndpointStatus, reason: str) -> EndpointState:
    """What the record alone says."""
    versions = tuple(
        VersionState(
            label=version.label,
            weight=version.weight,
            artifact_id=version.artifact_id,
            engine=version.engine,
            adapters=tuple(adapter.name for adapter in version.adapters),
        )
        for version in record.versions
    )
    return _state(record, status, reason, versions)


def with_gateway(
    record: DeploymentRecord,
    told: Mapping[str, Any],
    look: Look | None,
    before: Look | None,
    serve: Mapping[str, str],
) -> EndpointState:
    """Record and gateway together. `told` is the endpoint in the words of the admin route; `serve` says, by
    an application's name, what Ray Serve says that it waits for.
    """
    names = {version.label: version.app_name for version in record.versions}
    versions = tuple(
        _version(record.endpoint.name, each, look, before, serve.get(names.get(str(each["label"]), ""), ""))
        for each in told.get("versions", ())
    )
    status, reason = _judged(versions)
    labels = [f"{record.endpoint.name}/{version.label}" for version in versions]
    state = _state(record, status, reason, versions)
    return state.model_copy(
        update={
            "note": str(told.get("note") or ""),
            "figures": figures_of(look, before, labels) if look else Figures(),
            "decisions": tuple(_decision(each) for each in told.get("decisions", ())),
        }
    )


def _state(
    record: DeploymentRecord, status: EndpointStatus, reason: str, versions: tuple[VersionState, ...]
) -> EndpointState:
    endpoint: Endpoint = record.endpoint
    return EndpointState(
        name=endpoint.name,
        status=status,
        reason=reason,
        url=endpoint.url,
        base_url=endpoint.base_url,
        model_id=endpoint.model_id,
        needs_key=endpoint.needs_key,
        started_at=record.started_at,
        num_gateways=int(record.config.get("num_gateways") or 1),
        note=record.note or "",
        versions=versions,
    )


def _judged(versions: Sequence[VersionState]) -> tuple[EndpointStatus, str]:
    """How an endpoint is, by how many replicas there are and how many there should be."""
    now = sum(each.replicas_now or 0 for each in versions)
    target = sum(each.replicas_target if each.replicas_target is not None else 0 for each in versions)
    waits_for = next((each.waits_for for each in versions if each.waits_for), "")
    if now == 0 and target == 0 and all((each.fewest_replicas or 0) == 0 for each in versions):
        return "resting", "no replica is up; the next request brings one up"
    if now == 0:
        return "starting", waits_for or "its first replica is not up yet"
    if now < target:
        return "degraded", waits_for or f"{now} of {target} replicas are up"
    return "serving", ""


def _version(
    name: str, told: Mapping[str, Any], look: Look | None, before: Look | None, waits_for: str
) -> VersionState:
    replicas = told.get("replicas", ())
    usage = [each["kv_cache_usage"] for each in replicas if each.get("kv_cache_usage") is not None]
    target = told.get("target_replicas")
    return VersionState(
        label=str(told["label"]),
        weight=float(told["weight"]),
        artifact_id=str(told["artifact_id"]),
        engine=str(told["engine"]),
        adapters=tuple(str(each["name"]) for each in told.get("adapters", ())),
        replicas_now=len(replicas),
        replicas_target=told["fewest_replicas"] if target is None else target,
        fewest_replicas=told["fewest_replicas"],
        most_replicas=told["most_replicas"],
        num_requests=sum(each["num_requests"] for each in replicas),
        num_waiting=sum(each["num_waiting"] for each in replicas),
        tokens_per_second=sum(each["tokens_per_second"] for each in replicas),
        kv_cache_usage=max(usage) if usage else None,
        figures=figures_of(look, before, [f"{name}/{told['label']}"]) if look else Figures(),
        waits_for=waits_for,
    )


def _decision(told: Mapping[str, Any]) -> Decision:
    return Decision.model_validate({name: told[name] for name in Decision.model_fields if name in told})


def _sum(values: Any) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None

"""Endpoints that serve: how they are doing and what is done to them, over the gateway's admin routes.

Needs no Ray: from a laptop as from the cluster, with a key of scope `admin` where the gateway asks for keys.
"""

import os
from typing import Any

import httpx

from heliostat.endpoints import read_deployments
from heliostat.errors import ConfigError, ServingError
from heliostat.workspace import Workspace

KEY_VARIABLE = "HELIOSTAT_API_KEY"
CONNECT_TIMEOUT_SECONDS = 5.0
CHANGE_TIMEOUT_SECONDS = 600.0
"""Rolling back brings a model up again, and ending a version waits for its answers."""


def gateway_urls(workspace: Workspace, name: str | None = None) -> list[str]:
    """Where the gateways of endpoints that are on record as running listen.

    Raises:
        ConfigError: the endpoint named is not on record as running.
    """
    running = [record for record in read_deployments(workspace) if record.status == "running"]
    urls = {record.endpoint.name: record.endpoint.url for record in running}
    if name is None:
        return sorted(set(urls.values()))
    if name not in urls:
        there = ", ".join(sorted(urls)) or "none is"
        raise ConfigError(
            f"{name}: no endpoint of that name is on record as running in this workspace ({there}); "
            "give --url of its gateway"
        )
    return [urls[name]]


def endpoints_at(url: str) -> list[dict[str, Any]]:
    """Every endpoint behind a gateway, with its versions and replicas.

    Raises:
        ServingError: it does not answer, or wants a key.
    """
    answer = _ask("GET", url, "/admin/endpoints", None, CONNECT_TIMEOUT_SECONDS * 2)
    endpoints: list[dict[str, Any]] = answer["endpoints"]
    return endpoints


def endpoint_logs(url: str, name: str, num_lines: int) -> dict[str, list[str]]:
    """The last lines of the logs of an endpoint's replicas, by `VERSION/REPLICA`.

    Raises:
        ServingError: the gateway does not answer, wants a key, or has no such endpoint.
    """
    path = f"/admin/endpoints/{name}/logs?lines={num_lines}"
    logs: dict[str, list[str]] = _ask("GET", url, path, None, CONNECT_TIMEOUT_SECONDS * 2)["logs"]
    return logs


def change_endpoint(url: str, name: str, what: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Do one of canary, promote, rollback, scale, delete; the versions behind it.

    Raises:
        ServingError: the gateway does not answer, wants a key, or refuses, with its reason.
    """
    if what == "delete":
        answer = _ask("DELETE", url, f"/admin/endpoints/{name}", None, CHANGE_TIMEOUT_SECONDS)
    else:
        answer = _ask("POST", url, f"/admin/endpoints/{name}/{what}", values, CHANGE_TIMEOUT_SECONDS)
    versions: list[dict[str, Any]] = answer["versions"]
    return versions


def _ask(method: str, url: str, path: str, body: Any, timeout_seconds: float) -> dict[str, Any]:
    key = os.environ.get(KEY_VARIABLE)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    timeout = httpx.Timeout(timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS)
    try:
        response = httpx.request(method, f"{url}{path}", json=body, headers=headers, timeout=timeout)
    except httpx.HTTPError as error:
        raise ServingError(f"{url}: the gateway does not answer: {error or type(error).__name__}") from None
    try:
        answer = response.json()
    except ValueError:
        answer = {}
    if response.status_code in (401, 403):
        raise ServingError(f"{url}: {_message(answer)}; set {KEY_VARIABLE} to a key of scope admin")
    if response.is_error:
        raise ServingError(f"{url}: {_message(answer) or f'HTTP {response.status_code}'}")
    return dict(answer)


def _message(answer: Any) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    return str(error.get("message", "")) if isinstance(error, dict) else ""

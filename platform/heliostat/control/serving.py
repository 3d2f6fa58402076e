"""Endpoints that serve: how they are doing and what is done to them, over the gateway's admin routes.

Needs no Ray: from a laptop as from the cluster, with a key of scope `admin` where the gateway asks for keys.
"""

from typing import Any

import httpx

from heliostat.control.gateway_key import WHERE_IT_BELONGS, GatewayKey, key_of_shell
from heliostat.endpoints import read_deployments
from heliostat.errors import ConfigError, ServingError
from heliostat.workspace import Workspace

CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 10.0
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


def endpoints_at(url: str, key: GatewayKey | None = None) -> list[dict[str, Any]]:
    """Every endpoint behind a gateway, with its versions and replicas. Without `key` the shell's is sent.

    Raises:
        GatewayRefuses: it wants a key, or another one.
        ServingError: it does not answer.
    """
    answer = _ask("GET", url, "/admin/endpoints", None, READ_TIMEOUT_SECONDS, key)
    endpoints: list[dict[str, Any]] = answer.get("endpoints", [])
    return endpoints


def metrics_at(url: str, key: GatewayKey | None = None) -> str:
    """What a gateway has counted, in Prometheus' text format; errors as `endpoints_at`."""
    return _send("GET", url, "/metrics", None, READ_TIMEOUT_SECONDS, key).text


def endpoint_logs(url: str, name: str, num_lines: int, key: GatewayKey | None = None) -> dict[str, list[str]]:
    """The last lines of the logs of an endpoint's replicas, by `VERSION/REPLICA`.

    Raises:
        ServingError: the gateway does not answer, wants a key, or has no such endpoint.
    """
    path = f"/admin/endpoints/{name}/logs?lines={num_lines}"
    logs: dict[str, list[str]] = _ask("GET", url, path, None, READ_TIMEOUT_SECONDS, key)["logs"]
    return logs


def change_endpoint(
    url: str, name: str, what: str, values: dict[str, Any], key: GatewayKey | None = None
) -> list[dict[str, Any]]:
    """Do one of canary, promote, rollback, scale, delete; the versions behind it.

    Raises:
        ServingError: the gateway does not answer, wants a key, or refuses, with its reason.
    """
    if what == "delete":
        answer = _ask("DELETE", url, f"/admin/endpoints/{name}", None, CHANGE_TIMEOUT_SECONDS, key)
    else:
        answer = _ask("POST", url, f"/admin/endpoints/{name}/{what}", values, CHANGE_TIMEOUT_SECONDS, key)
    versions: list[dict[str, Any]] = answer["versions"]
    return versions


class GatewayRefuses(ServingError):
    """It answers, and wants a key, another key, or no question from this place."""


def _ask(
    method: str, url: str, path: str, body: Any, timeout_seconds: float, key: GatewayKey | None
) -> dict[str, Any]:
    return _decoded(_send(method, url, path, body, timeout_seconds, key))


def _send(
    method: str, url: str, path: str, body: Any, timeout_seconds: float, key: GatewayKey | None
) -> httpx.Response:
    key = key or key_of_shell()
    headers = {"authorization": f"Bearer {key.value}"} if key else {}
    timeout = httpx.Timeout(timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS)
    try:
        response = httpx.request(method, f"{url}{path}", json=body, headers=headers, timeout=timeout)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServingError(f"{url}: the gateway does not answer: {error or type(error).__name__}") from None
    if response.status_code in (401, 403):
        said = message_of(_decoded(response)) or f"HTTP {response.status_code}"
        raise GatewayRefuses(f"{url}: {said}; put a key of scope admin into {WHERE_IT_BELONGS}")
    if response.is_error:
        said = message_of(_decoded(response)) or f"HTTP {response.status_code}"
        raise ServingError(f"{url}: {said}")
    return response


def _decoded(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def message_of(answer: Any) -> str:
    """What an answer in OpenAI's form says went wrong, on one line."""
    error = answer.get("error") if isinstance(answer, dict) else None
    return " ".join(str(error.get("message", "")).split()) if isinstance(error, dict) else ""

"""The cluster's one gateway: where it listens, and bringing it up."""

import time
from typing import Any
from urllib.parse import urlsplit

from heliostat.errors import ServingError
from heliostat.models.embedding import import_embedder
from heliostat.serving.access.keyring import PlainKeys
from heliostat.serving.config import ServeConfig
from heliostat.serving.ports import check_port_free, free_port
from heliostat.workspace import Workspace

WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


def check_address(config: ServeConfig) -> str | None:
    """See that endpoints can listen where the config says; the gateway's URL where there is one already.

    Raises:
        ServingError: the port is in use, or this cluster already listens on another one.
    """
    gateway = _standing_gateway()
    if gateway is None:
        check_port_free(config.host, config.port)
        return None
    there = urlsplit(gateway.url)
    if config.port not in (0, there.port):
        raise ServingError(
            f"this cluster's endpoints listen on port {there.port}, so port {config.port} cannot be had; "
            f"set port to {there.port} (several models share it) or 0"
        )
    if reachable(config.host) != f"{there.hostname}" and f"[{there.hostname}]" != reachable(config.host):
        raise ServingError(
            f"this cluster's endpoints listen on {there.hostname}, so host {config.host} cannot be had too; "
            f"set host to {there.hostname}"
        )
    _check_settings(config, gateway.settings)
    return str(gateway.url)


def _check_settings(config: ServeConfig, standing: dict[str, Any]) -> None:
    """What an endpoint says of the gateway must be what that was started with; what it leaves out may be
    anything."""
    usual, asked = ServeConfig().gateway_settings, config.gateway_settings
    for name, value in asked.items():
        if value not in (usual[name], standing.get(name)):
            raise ServingError(
                f"serve.{name}: this cluster's gateway was started with another; leave it out, or take all "
                "endpoints down first (keys can be made at any time: 'heliostat keys create')"
            )


def open_gateway(config: ServeConfig, workspace: Workspace, controller: Any) -> str:
    """The URL of this cluster's gateway, which is started where there is none.

    Raises:
        ServingError: as `check_address`, or it does not come up.
    """
    from heliostat.serving.edge import applications
    from heliostat.serving.edge.gateway_replica import GatewaySpec
    from heliostat.serving.edge.rollout import wait_until

    url = check_address(config)
    if url:
        return url
    port = config.port or free_port(config.host)
    url = f"{'https' if config.access.tls else 'http'}://{reachable(config.host)}:{port}"
    plain = PlainKeys.read(config.api_key_file) if config.api_key_file else None
    embedder = import_embedder(config.embedder, workspace) if config.embedder else None
    spec = GatewaySpec(url, config.host, port, config, workspace.storage, plain, controller, embedder)
    applications.start_gateway(spec)
    deadline = time.monotonic() + config.startup_timeout_seconds
    try:
        wait_until(lambda: _standing_gateway() is not None, applications.GATEWAY_APP, deadline)
    except BaseException:
        applications.delete_application(applications.GATEWAY_APP)
        raise
    return url


def reachable(host: str) -> str:
    """The address at which this machine reaches a server that listens on `host`."""
    if host in WILDCARDS:
        return WILDCARDS[host]
    return f"[{host}]" if ":" in host else host


def _standing_gateway() -> Any | None:
    """The last word of one of this cluster's gateways."""
    from heliostat.serving.edge.calls import call, find_controller

    controller = find_controller()
    gateways = call(controller.gateways) if controller else {}
    return next(iter(gateways.values()), None)

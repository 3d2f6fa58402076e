"""What is done to endpoints that serve: shares, promotion, rollback, replicas, taking down, forgetting.

Each takes who does it, and gives the command that does the same.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heliostat.control.gateway_key import find_gateway_key
from heliostat.control.roles import Actor, Role, require
from heliostat.control.serving import change_endpoint, endpoint_logs, gateway_urls
from heliostat.control.shown_commands import workspace_words
from heliostat.endpoints import forget as forget_record
from heliostat.errors import ConfigError
from heliostat.workspace import Workspace

ROLE: Role = "operator"
"""Whoever may run jobs may steer what they made."""
FLAGS = {"weight": "--weight", "fewest": "--min", "most": "--max"}


@dataclass(frozen=True)
class Done:
    """What was done, in words, and the command that does it."""

    said: str
    command: str


def command_of(workspace: Workspace, what: str, name: str, values: Mapping[str, Any] | None = None) -> str:
    """The command line of an action: canary, promote, rollback, scale, delete, logs or forget."""
    group = ["endpoints", "forget"] if what == "forget" else ["serve", what]
    words = ["heliostat", *group, name]
    for key, value in (values or {}).items():
        words += [FLAGS[key], f"{value:g}"]
    return shlex.join([*words, *workspace_words(workspace)])


def set_canary(actor: Actor, workspace: Workspace, name: str, weight: float, url: str | None = None) -> Done:
    """Give the newest version `weight` percent of the requests. Without `url` the gateway is the record's.

    Raises:
        AccessError: this one may not.
        ConfigError: there is no such endpoint, or the weight is none.
        ServingError: its gateway does not answer, or refuses.
    """
    require(actor, ROLE, DOING["canary"])
    if not 0 <= weight <= 100:
        raise ConfigError(f"weight {weight:g}: give a percentage from 0 to 100")
    return _change(actor, workspace, name, "canary", {"weight": weight}, url)


def promote(actor: Actor, workspace: Workspace, name: str, url: str | None = None) -> Done:
    """Give the newest version all requests, and end the others; errors as `set_canary`."""
    return _change(actor, workspace, name, "promote", {}, url)


def roll_back(actor: Actor, workspace: Workspace, name: str, url: str | None = None) -> Done:
    """End the canary, or bring the version before the last promotion back; errors as `set_canary`."""
    return _change(actor, workspace, name, "rollback", {}, url)


def scale(
    actor: Actor, workspace: Workspace, name: str, bounds: tuple[int, int], url: str | None = None
) -> Done:
    """Have from `bounds[0]` to `bounds[1]` replicas of each version; errors as `set_canary`."""
    require(actor, ROLE, DOING["scale"])
    fewest, most = bounds
    if not (0 <= fewest <= most and most >= 1):
        raise ConfigError(
            f"from {fewest} to {most} replicas: give 0 or more, then as many or more, at least 1"
        )
    return _change(actor, workspace, name, "scale", {"fewest": fewest, "most": most}, url)


def delete(actor: Actor, workspace: Workspace, name: str, url: str | None = None) -> Done:
    """Take an endpoint down, behind the answers it is giving; errors as `set_canary`."""
    return _change(actor, workspace, name, "delete", {}, url)


def forget(actor: Actor, workspace: Workspace, name: str) -> Done:
    """Say that an endpoint is gone, so that nothing is kept for it.

    Raises:
        AccessError: this one may not.
        ConfigError: there is no record of it.
        ServingError: it can be seen to run still.
    """
    require(actor, ROLE, "forget endpoints")
    record = forget_record(workspace, name)
    said = f"{name} is {record.status}; nothing is kept for it any more"
    return Done(said, command_of(workspace, "forget", name))


def read_logs(workspace: Workspace, name: str, num_lines: int = 100) -> dict[str, list[str]]:
    """The last lines of each replica's log, by `VERSION/REPLICA`; errors as `set_canary`."""
    (gateway,) = gateway_urls(workspace, name)
    return endpoint_logs(gateway, name, num_lines, find_gateway_key(workspace))


DOING = {
    "canary": "change the shares of endpoints",
    "promote": "promote versions of endpoints",
    "rollback": "roll endpoints back",
    "scale": "scale endpoints",
    "delete": "take endpoints down",
}


def _change(
    actor: Actor, workspace: Workspace, name: str, what: str, values: dict[str, Any], url: str | None
) -> Done:
    require(actor, ROLE, DOING[what])
    gateway = url.rstrip("/") if url else gateway_urls(workspace, name)[0]
    versions = change_endpoint(gateway, name, what, values, find_gateway_key(workspace))
    shares = ", ".join(f"{version['label']} {version['weight']:.3g} %" for version in versions)
    return Done(f"{name}: {shares or 'is taken down'}", command_of(workspace, what, name, values))

"""Whoever can change what a cluster serves, as the gateway sees it."""

from typing import Any, Protocol

from heliostat.endpoints import DeploymentRecord
from heliostat.serving.fleet.status import EndpointStatus


class Steering(Protocol):
    """The controller, behind the gateway's admin routes."""

    async def status(self) -> list[EndpointStatus]:
        """Every endpoint."""

    async def operate(self, what: str, name: str, values: dict[str, Any]) -> DeploymentRecord | str | None:
        """The record behind a change, or why it cannot be made."""

    async def logs(self, name: str, num_lines: int) -> dict[str, list[str]]:
        """The last lines of each replica's log, by `VERSION/REPLICA`."""

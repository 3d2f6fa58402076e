"""A name in the API and the versions behind it, and which of them a request goes to."""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from heliostat.endpoints import Version
from heliostat.errors import ServingError
from heliostat.serving.engines.interface import Capabilities


@dataclass(frozen=True)
class Route:
    """An endpoint: its name in the `model` field, and its versions, oldest first."""

    name: str
    versions: tuple[Version, ...]

    def version(self, label: str) -> Version:
        """The version of that label.

        Raises:
            ServingError: there is none.
        """
        for version in self.versions:
            if version.label == label:
                return version
        known = ", ".join(version.label for version in self.versions)
        raise ServingError(f"{self.name} has no version {label}; it has {known}")

    def choose(self, session: str | None) -> Version:
        """The version for a request: by weight, and always the same for the same session.

        A session's place in [0, 1) is fixed by its name. The newest version has the beginning of that range,
        so a canary that grows keeps the sessions it had.
        """
        place = random.random() if session is None else _place(self.name, session)
        total = sum(version.weight for version in self.versions)
        reached = 0.0
        for version in reversed(self.versions):
            reached += version.weight
            if place * total < reached:
                return version
        return self.versions[0]


def _place(name: str, session: str) -> float:
    digest = hashlib.sha256(f"{name}\0{session}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


@dataclass(frozen=True)
class Replica:
    """An engine that answers: where, how much it takes on, and what it can do."""

    id: str
    app_name: str
    host: str
    port: int
    capacity: int
    capabilities: Capabilities
    max_context_tokens: int
    node: str = ""
    process: int = 0


@dataclass(frozen=True)
class Snapshot:
    """What gateways need to know; `revision` tells whether it has changed."""

    revision: int
    routes: tuple[Route, ...] = ()
    replicas: tuple[Replica, ...] = ()
    loads: Mapping[str, int] = field(default_factory=dict)
    """Requests of all gateways at each replica, by its id, as of its last word."""

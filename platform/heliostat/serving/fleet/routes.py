"""A name in the API and the versions behind it, and which of them a request goes to."""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from heliostat.endpoints import ServedAdapter, Version
from heliostat.errors import ServingError
from heliostat.serving.engines.interface import Capabilities

ADAPTER_MARK = ":"
"""Between an endpoint's name and an adapter's; neither has one itself."""
LOADING_COSTS = 4
"""So many more requests a replica may have, and still be asked because it has the adapter already."""


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

    @property
    def adapters(self) -> list[str]:
        """The names of the adapters that can be asked for."""
        return sorted({adapter.name for version in self._shared for adapter in version.adapters})

    def offering(self, adapter: str) -> "Route | None":
        """The versions with a share that have an adapter, or None."""
        versions = tuple(version for version in self._shared if adapter_of(version, adapter))
        return Route(self.name, versions) if versions else None

    @property
    def _shared(self) -> tuple[Version, ...]:
        """The versions that get requests: those with a weight, or the only ones there are."""
        return tuple(version for version in self.versions if version.weight) or self.versions

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


def adapter_of(version: Version, name: str) -> ServedAdapter | None:
    """A version's adapter of that name."""
    return next((adapter for adapter in version.adapters if adapter.name == name), None)


def cost(load: int, has_adapter: bool) -> int:
    """What speaks against a replica with so many requests; one that has what is asked for is preferred while
    it is not much busier.
    """
    return load if has_adapter else load + LOADING_COSTS


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
    adapters: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The ids of the adapters at each replica, likewise."""

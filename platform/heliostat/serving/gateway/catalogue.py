"""What this gateway can answer for: the routes, with the tokenizer and the limits of each version at hand."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from heliostat.endpoints import ServedAdapter, Version
from heliostat.errors import HeliostatError
from heliostat.models.loading import load_tokenizer
from heliostat.records import ArtifactKind
from heliostat.serving.api.answering import ServedModel
from heliostat.serving.api.errors import unknown_adapter, unknown_model
from heliostat.serving.config import ServeConfig
from heliostat.serving.engines.selection import check_folder, max_context_tokens
from heliostat.serving.fleet.dispatch import Fleet
from heliostat.serving.fleet.routes import ADAPTER_MARK, Route, Snapshot, adapter_of
from heliostat.serving.gateway.choosing import Chosen
from heliostat.serving.guard.guard import Guard
from heliostat.storage import artifact_folder, open_artifact

SERVED_KINDS: tuple[ArtifactKind, ...] = ("model", "quantized")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A version that requests can be rendered for."""

    version: Version
    config: ServeConfig
    tokenizer: Any
    max_context_tokens: int
    guard: Guard | None


class Catalogue:
    """The routes of the last snapshot; a version that cannot be prepared is left out and tried again."""

    def __init__(self, fleet: Fleet, folder: str = ".") -> None:
        """Word lists and classifiers of guards are named relative to `folder`."""
        self._fleet = fleet
        self._folder = folder
        self._routes: dict[str, Route] = {}
        self._prepared: dict[str, Prepared] = {}

    @property
    def ready(self) -> frozenset[str]:
        """The applications whose versions are prepared, and had a replica."""
        return frozenset(name for name in self._prepared if self._fleet.has_been_up(name))

    @property
    def names(self) -> list[str]:
        """The endpoints and, as `ENDPOINT:NAME`, their adapters."""
        adapters = [
            f"{name}{ADAPTER_MARK}{adapter}"
            for name, route in self._routes.items()
            for adapter in route.adapters
        ]
        return sorted([*self._routes, *adapters])

    async def update(self, snapshot: Snapshot) -> None:
        """Take in a snapshot: connect to its replicas, prepare its versions, then follow its routes."""
        await self._fleet.update(snapshot)
        versions = {version.app_name: version for route in snapshot.routes for version in route.versions}
        for app_name, version in versions.items():
            await self._prepare(app_name, version)
        self._prepared = {name: self._prepared[name] for name in versions if name in self._prepared}
        self._routes = {}
        for route in snapshot.routes:
            known = tuple(version for version in route.versions if version.app_name in self._prepared)
            if known:
                self._routes[route.name] = Route(route.name, known)

    def choose(self, name: str, session: str | None) -> Chosen:
        """Who answers a request for an endpoint, or for one of its adapters: a version that has it.

        Raises:
            RefusedRequest: there is no endpoint of that name, or no such adapter.
        """
        endpoint, mark, adapter = name.partition(ADAPTER_MARK)
        route = self._routes.get(endpoint)
        if route is None:
            raise unknown_model(name, self.names)
        offering = route.offering(adapter) if mark else route
        if offering is None:
            raise unknown_adapter(name, [f"{endpoint}{ADAPTER_MARK}{each}" for each in route.adapters])
        version = offering.choose(session)
        guard = self._prepared[version.app_name].guard
        model = self._model(endpoint, version, adapter_of(version, adapter))
        return Chosen(model, version.label, version.artifact_id, guard, adapter or None)

    async def logs(self, name: str, num_lines: int) -> dict[str, list[str]]:
        """The last lines of the logs of an endpoint's replicas, by `VERSION/REPLICA`.

        Raises:
            RefusedRequest: there is no endpoint of that name.
        """
        route = self._routes.get(name)
        if route is None:
            raise unknown_model(name, self.names)
        logs: dict[str, list[str]] = {}
        for version in route.versions:
            of_version = await self._fleet.logs(version.app_name, num_lines)
            logs |= {f"{version.label}/{replica}": lines for replica, lines in of_version.items()}
        return logs

    def _model(self, name: str, version: Version, adapter: ServedAdapter | None) -> ServedModel:
        """A version as the API sees it, with an adapter on."""
        prepared = self._prepared[version.app_name]
        root = adapter.artifact_id if adapter else version.artifact_id
        return ServedModel(
            id=f"{name}{ADAPTER_MARK}{adapter.name}" if adapter else name,
            created=int(version.started_at.timestamp()),
            tokenizer=prepared.tokenizer,
            engine=self._fleet.engine(
                version.app_name, version.adapters, prepared.config.wait_for_replica_seconds
            ),
            max_context_tokens=prepared.max_context_tokens,
            max_output_tokens=prepared.config.max_output_tokens,
            default_max_tokens=prepared.config.default_max_tokens,
            adapter=adapter.artifact_id if adapter else None,
            parent=name if adapter else None,
            root=root,
            fingerprint=f"{version.artifact_id}+{root}" if adapter else root,
        )

    async def _prepare(self, app_name: str, version: Version) -> None:
        known = self._prepared.get(app_name)
        if known and known.version == version:
            return
        same = (each for each in self._prepared.values() if each.version.artifact_uri == version.artifact_uri)
        alike = known if known and known.version.artifact_uri == version.artifact_uri else next(same, None)
        try:
            if alike:  # versions of one artifact share its tokenizer
                self._prepared[app_name] = await asyncio.to_thread(self._changed, alike, version)
            else:
                self._prepared[app_name] = await asyncio.to_thread(self._load, version)
        except HeliostatError as error:  # what was there goes on as it was
            logger.error("version %s cannot be answered for: %s", version.label, error)

    def _changed(self, known: Prepared, version: Version) -> Prepared:
        config = ServeConfig.model_validate(version.config)
        guard = known.guard if known.config.guard == config.guard else self._guard(config)
        return Prepared(version, config, known.tokenizer, known.max_context_tokens, guard)

    def _load(self, version: Version) -> Prepared:
        folder = artifact_folder(open_artifact(version.artifact_uri, SERVED_KINDS))
        check_folder(folder)
        config = ServeConfig.model_validate(version.config)
        limit = max_context_tokens(folder)
        return Prepared(version, config, load_tokenizer(folder), limit, self._guard(config))

    def _guard(self, config: ServeConfig) -> Guard | None:
        wanted = config.guard is not None and config.guard.enabled
        return Guard.build(config.guard, self._folder) if wanted and config.guard else None

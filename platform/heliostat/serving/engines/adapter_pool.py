"""The adapters of one replica: loaded when they are first asked for, kept while they are used."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count

from heliostat.endpoints import ServedAdapter
from heliostat.errors import HeliostatError, ServingError
from heliostat.serving.engines.adapter_slots import AdapterSlots, Grant
from heliostat.serving.engines.interface import AdapterUse, Engine
from heliostat.storage import artifact_folder, open_artifact

PATIENCE_SECONDS = 2.0
Fetch = Callable[[ServedAdapter], Awaitable[str]]
"""A local folder with an adapter."""


class AdapterPool:
    """What an engine has loaded; belongs to one event loop. Engines know adapters by their artifacts' ids."""

    def __init__(self, engine: Engine, max_loaded: int = 8, fetch: Fetch | None = None) -> None:
        self._engine = engine
        self._fetch = fetch or fetch_adapter
        self._slots = AdapterSlots(max_loaded, PATIENCE_SECONDS)
        self._tickets = count()
        self._asked: dict[int, asyncio.Future[asyncio.Task[str | None]]] = {}
        self._loads: dict[str, asyncio.Task[str | None]] = {}
        self._known: dict[str, ServedAdapter] = {}

    @asynccontextmanager
    async def using(self, adapter: ServedAdapter) -> AsyncIterator[str]:
        """What the engine knows the adapter by, which stays loaded within the block.

        Raises:
            ServingError: it cannot be loaded.
        """
        ticket = next(self._tickets)
        granted = self._asked[ticket] = asyncio.get_running_loop().create_future()
        self._known[adapter.artifact_id] = adapter
        self._slots.ask(ticket, adapter.artifact_id, time.monotonic())
        try:
            self._admit()
            load = await granted
            error = await asyncio.shield(load)  # others may wait for it too
            if error:
                raise ServingError(f"adapter {adapter.name} cannot be loaded: {error}")
            yield adapter.artifact_id
        finally:
            del self._asked[ticket]
            self._slots.leave(ticket)
            self._admit()

    def uses(self) -> tuple[AdapterUse, ...]:
        """The adapters that are there or waited for, the least recently used first."""
        users, waiting = self._slots.users, self._slots.waiting
        return tuple(
            AdapterUse(self._known[key].name, key, users.get(key, 0), waiting[key], key in users)
            for key in dict.fromkeys([*users, *waiting])
        )

    def _admit(self) -> None:
        for grant in self._slots.admit(time.monotonic()):
            if grant.load:
                self._loads[grant.adapter] = asyncio.create_task(self._load(grant))
            asked = self._asked[grant.ticket]
            if not asked.done():  # else it was given up, and leaves next
                asked.set_result(self._loads[grant.adapter])

    async def _load(self, grant: Grant) -> str | None:
        """Put an adapter in its place; None, or why that cannot be done."""
        done = False
        try:
            if grant.evicted:  # before all else: if it is wanted again, its load comes behind this
                self._forget(grant.evicted)
                await self._engine.unload_adapter(grant.evicted)
            folder = await self._fetch(self._known[grant.adapter])
            await self._engine.load_adapter(grant.adapter, folder)
            done = True
        except (HeliostatError, OSError) as error:
            return " ".join(str(error).split())
        finally:
            if done:
                self._slots.loaded(grant.adapter)
            else:
                self._slots.drop(grant.adapter)
                self._forget(grant.adapter)
            self._admit()
        return None

    def _forget(self, adapter: str) -> None:
        """Keep nothing of an adapter that has gone, unless somebody wants it again already."""
        if adapter not in self._slots.users and not self._slots.waiting[adapter]:
            del self._loads[adapter], self._known[adapter]


async def fetch_adapter(adapter: ServedAdapter) -> str:
    """The folder of an adapter, a copy of it where it lies on an object store.

    Raises:
        ArtifactError, StorageError: it is not there.
        ServingError: another one is there now.
    """
    artifact = await asyncio.to_thread(open_artifact, adapter.artifact_uri, ("adapter",))
    if artifact.id != adapter.artifact_id:
        raise ServingError(
            f"{adapter.artifact_uri}: holds {artifact.id} now, not {adapter.artifact_id}; deploy again"
        )
    return str(await asyncio.to_thread(artifact_folder, artifact))

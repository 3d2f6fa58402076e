"""A gateway's view of the replicas: connections to all of them, and which one takes the next request.

A request whose replica is lost, full or leaving goes to another one; where there is none it waits for one to
come (a version at rest is woken first). A version whose replicas are all full refuses at once.
"""

import asyncio
import contextlib
import itertools
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace

from heliostat.endpoints import ServedAdapter
from heliostat.errors import ServingError
from heliostat.serving.channel.client import ChannelClient
from heliostat.serving.channel.messages import ElsewhereError
from heliostat.serving.engines.interface import Capabilities, SamplingParameters, TokenDelta
from heliostat.serving.fleet.routes import Replica, Snapshot, cost

Wake = Callable[[str], Awaitable[None]]
"""Asks that a version (by its application's name) that has no replica gets one; returns at once."""


class FullError(ServingError):
    """Every replica has as many requests as it takes, or too many requests wait for one to come."""

    def __init__(self, message: str, retry_after_seconds: int = 1) -> None:
        """`retry_after_seconds` is when asking again may help."""
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class _Link:
    """A replica and the connection to it."""

    def __init__(self, replica: Replica, client: ChannelClient) -> None:
        self.replica = replica
        self.client = client
        self.others = 0  # requests of other gateways, as of the last word
        self.adapters: frozenset[str] = frozenset()  # as of the last word
        self.asked = Counter[str | None]()  # requests of ours that go on, by adapter

    @property
    def load(self) -> int:
        return self.client.num_requests + self.others

    @property
    def full(self) -> bool:
        return self.load >= self.replica.capacity

    def cost(self, adapter: str | None) -> int:
        """What speaks against asking this replica for an adapter, or for none."""
        return cost(self.load, adapter is None or adapter in self.adapters or bool(self.asked[adapter]))

    def turned_away(self, error: ElsewhereError, refused: set[str]) -> None:
        """Note why this replica did not take a request: other gateways filled it, or it is not to be
        asked.
        """
        if error.full:
            self.others = self.replica.capacity - self.client.num_requests
        else:
            refused.add(self.replica.id)


class Fleet:
    """All replicas that this gateway can ask."""

    def __init__(self, secret: str, wake: Wake, max_waiting: int = 256) -> None:
        """At most `max_waiting` requests of a version wait for a replica."""
        self._secret = secret
        self._wake = wake
        self._max_waiting = max_waiting
        self._links: dict[str, _Link] = {}
        self._known: dict[str, tuple[Capabilities, int]] = {}
        self._waiting: dict[str, int] = {}
        self._changed = asyncio.Condition()

    async def update(self, snapshot: Snapshot) -> None:
        """Connect to replicas that are new, and let go of those that have gone."""
        replicas = {replica.id: replica for replica in snapshot.replicas}
        for replica in replicas.values():
            self._known[replica.app_name] = (replica.capabilities, replica.max_context_tokens)
        for gone in [key for key, link in self._links.items() if key not in replicas or link.client.closed]:
            link = self._links.pop(gone)
            if not link.client.num_requests:  # a replica that drains still answers; it hangs up itself
                await link.client.close()
        new = [replica for key, replica in replicas.items() if key not in self._links]
        await asyncio.gather(*(self._connect(replica) for replica in new))
        for key, link in self._links.items():
            link.others = max(0, snapshot.loads.get(key, 0) - link.client.num_requests)
            link.adapters = snapshot.adapters.get(key, frozenset())
        async with self._changed:
            self._changed.notify_all()

    async def close(self) -> None:
        """Hang up on all."""
        await asyncio.gather(*(link.client.close() for link in self._links.values()))
        self._links.clear()

    def engine(
        self, app_name: str, adapters: Sequence[ServedAdapter] = (), wait_seconds: float = 60.0
    ) -> "VersionEngine":
        """The replicas of a version as one engine that has adapters; requests that find none wait for one."""
        return VersionEngine(self, app_name, adapters, wait_seconds)

    def has_been_up(self, app_name: str) -> bool:
        """Whether a version ever had a replica."""
        return app_name in self._known

    def facts(self, app_name: str) -> tuple[Capabilities, int]:
        """What a version's engine can do and its longest context in tokens; known once it had a replica.

        Raises:
            ServingError: it never had one.
        """
        if app_name not in self._known:
            raise ServingError(f"{app_name} has not come up yet; ask again in a moment")
        return self._known[app_name]

    async def logs(self, app_name: str, num_lines: int) -> dict[str, list[str]]:
        """The last lines of each replica's log, by its id; of one that is lost meanwhile, none."""
        links = self._of(app_name)
        asked = (link.client.logs(num_lines, uuid.uuid4().hex) for link in links)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return {
            link.replica.id: lines
            for link, lines in zip(links, answers, strict=True)
            if not isinstance(lines, BaseException)
        }

    def loads(self, app_name: str) -> list[int]:
        """Requests at each replica of a version."""
        return [link.load for link in self._of(app_name)]

    def waiting(self, app_name: str) -> int:
        """Requests that wait for a version to have a replica."""
        return self._waiting.get(app_name, 0)

    def _of(self, app_name: str) -> list[_Link]:
        return [
            link
            for link in self._links.values()
            if link.replica.app_name == app_name and not link.client.closed
        ]

    async def _connect(self, replica: Replica) -> None:
        with contextlib.suppress(ElsewhereError):  # it is asked again at the next word
            client = await ChannelClient.connect(replica.host, replica.port, self._secret)
            self._links[replica.id] = _Link(replica, client)

    async def choose(
        self, app_name: str, refused: set[str], deadline: float, adapter: str | None = None
    ) -> _Link:
        """The replica with the fewest requests, after waiting for one if there is none; one that has the
        adapter may have some more.

        Raises:
            FullError: all are full, or too many wait already.
            TimeoutError: none came in time.
        """
        while True:
            links = [link for link in self._of(app_name) if link.replica.id not in refused]
            free = [link for link in links if not link.full]
            if free:
                return min(free, key=lambda link: link.cost(adapter))
            if links:
                raise FullError(f"all {len(links)} replicas have as many requests as they take")
            await self._wait(app_name, deadline)
            refused.clear()

    async def _wait(self, app_name: str, deadline: float) -> None:
        """Until something changed among the replicas."""
        if self.waiting(app_name) >= self._max_waiting:
            raise FullError(f"{self._max_waiting} requests wait for a replica already", 5)
        self._waiting[app_name] = self.waiting(app_name) + 1
        try:
            async with asyncio.timeout_at(deadline), self._changed:
                await self._wake(app_name)
                await self._changed.wait()
        finally:
            self._waiting[app_name] -= 1


def _can_go_on(parameters: SamplingParameters) -> bool:
    """Whether an answer that was cut off can be continued from its tokens as if they were prompt."""
    counted = parameters.presence_penalty or parameters.frequency_penalty
    return parameters.grammar is None and not counted


class VersionEngine:
    """A token source over all replicas of a version; an answer that its replica's end cuts off goes on at
    another. Adapters go by their artifacts' ids.
    """

    def __init__(
        self, fleet: Fleet, app_name: str, adapters: Sequence[ServedAdapter], wait_seconds: float
    ) -> None:
        self._fleet = fleet
        self._app_name = app_name
        self._adapters = {adapter.artifact_id: adapter for adapter in adapters}
        self._wait_seconds = wait_seconds

    @property
    def capabilities(self) -> Capabilities:
        """What its engines can do."""
        return self._fleet.facts(self._app_name)[0]

    @property
    def max_context_tokens(self) -> int:
        """The longest prompt and answer together."""
        return self._fleet.facts(self._app_name)[1]

    async def generate(
        self,
        prompt_ids: Sequence[int],
        parameters: SamplingParameters,
        request_id: str,
        adapter: str | None = None,
    ) -> AsyncGenerator[TokenDelta]:
        """As an engine's.

        Raises:
            FullError: nobody takes it now.
            ServingError: nobody came in time, or the engine cannot go on with it.
        """
        deadline = self._deadline()
        refused: set[str] = set()
        had: list[int] = []
        served = self._served(adapter)
        for attempt in itertools.count():
            link = await self._choose(refused, deadline, adapter)
            rest = replace(parameters, max_tokens=parameters.max_tokens - len(had))
            deltas = link.client.generate([*prompt_ids, *had], rest, f"{request_id}.{attempt}", served)
            link.asked[adapter] += 1
            try:
                async with contextlib.aclosing(deltas):
                    async for delta in deltas:
                        had += delta.token_ids
                        yield delta
                return
            except ElsewhereError as error:
                if had and not _can_go_on(parameters):
                    raise
                if len(had) >= parameters.max_tokens:  # only the word that it ended was lost
                    yield TokenDelta((), "length")
                    return
                deadline = self._deadline() if had else deadline
                link.turned_away(error, refused)
            finally:
                link.asked[adapter] -= 1

    def _deadline(self) -> float:
        """Until when a request that comes now waits for a replica."""
        return asyncio.get_running_loop().time() + self._wait_seconds

    async def _choose(self, refused: set[str], deadline: float, adapter: str | None = None) -> _Link:
        try:
            return await self._fleet.choose(self._app_name, refused, deadline, adapter)
        except TimeoutError:
            raise ServingError(
                f"no replica came up within {self._wait_seconds:g} s; ask again later, "
                "or see 'heliostat serve status'"
            ) from None

    def _served(self, adapter: str | None) -> ServedAdapter | None:
        if adapter is None:
            return None
        if adapter not in self._adapters:
            raise ServingError(f"{self._app_name} has no adapter {adapter}; deploy it again with one")
        return self._adapters[adapter]

    async def embed(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """As an engine's; raises as `generate`."""
        deadline = self._deadline()
        refused: set[str] = set()
        while True:
            link = await self._choose(refused, deadline)
            try:
                return await link.client.embed(prompts, uuid.uuid4().hex)
            except ElsewhereError as error:
                link.turned_away(error, refused)

    async def check_health(self) -> None:
        """Return when a replica is there, or when one would be woken.

        Raises:
            ServingError: none ever came up.
        """
        self._fleet.facts(self._app_name)

"""How many requests of a key are at work at once, in this process or in Redis.

In Redis a slot has an end, which its gateway puts off while the request is at work: what a gateway that died
held is free again after `SLOT_SECONDS`. Redis' own clock counts.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis.asyncio import Redis

SLOT_SECONDS = 30
REDIS_SECONDS = 0.1
"""The longest anything waits for Redis."""
REDIS_TURNS = 16
"""So many wait for it at a time: of hundreds Redis would be blamed for the queue in this process."""

TAKE = """
local time = redis.call('time')
local now = time[1] + time[2] / 1000000
redis.call('zremrangebyscore', KEYS[1], '-inf', now)
if redis.call('zcard', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('zadd', KEYS[1], now + ARGV[3], ARGV[2])
redis.call('expire', KEYS[1], ARGV[3])
return 1
"""
KEEP = """
local time = redis.call('time')
redis.call('zadd', KEYS[1], 'XX', time[1] + time[2] / 1000000 + ARGV[2], ARGV[1])
redis.call('expire', KEYS[1], ARGV[2])
"""


class RedisTurns:
    """A few at a time, and each in time or not at all."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(REDIS_TURNS)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, which moves on within the time that others may take, and take it.

        Raises:
            TimeoutError: it took too long.
        """
        async with self._turns, asyncio.timeout(REDIS_SECONDS):
            yield


class LocalSlots:
    """Counted in this process; nothing here waits."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    async def take(self, whose: str, limit: int, slot: str) -> bool:
        """Whether there was a free one, which is now taken."""
        if self._taken[whose] >= limit:
            return False
        self._taken[whose] += 1
        return True

    def free(self, whose: str, slot: str) -> None:
        """Give one back."""
        self._taken[whose] -= 1
        if self._taken[whose] <= 0:
            del self._taken[whose]

    async def give_back(self, whose: str, slot: str) -> None:
        """As `free`."""
        self.free(whose, slot)


class RedisSlots:
    """Counted in Redis, for all gateways together."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._take = redis.register_script(TAKE)
        self._keep = redis.register_script(KEEP)
        self._held: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeping: asyncio.Task[None] | None = None
        self._turns = RedisTurns()

    async def take(self, whose: str, limit: int, slot: str) -> bool:
        """Whether there was a free one, which is now taken.

        Raises:
            redis.RedisError, OSError: Redis is out of reach. A slot it took all the same ends by itself.
        """
        asked = asyncio.ensure_future(self._take([_key(whose)], [limit, slot, SLOT_SECONDS]))
        try:
            taken = bool(await asyncio.shield(asked))
        except asyncio.CancelledError:
            self._spawn(self._take_back(asked, whose, slot))
            raise
        if taken:
            self._held[slot] = whose
            if self._keeping is None or self._keeping.done():
                self._keeping = asyncio.create_task(self._keep_held())
        return taken

    def free(self, whose: str, slot: str) -> None:
        """Give one back; in the background, as whoever calls this may be being cancelled."""
        self._held.pop(slot, None)
        self._spawn(self._remove(whose, slot))

    async def give_back(self, whose: str, slot: str) -> None:
        """As `free`, for whoever can wait until it is done."""
        self._held.pop(slot, None)
        await self._redis.zrem(_key(whose), slot)

    async def close(self) -> None:
        """Wait for what is going on in the background; at most as long as Redis may take."""
        if self._keeping is not None:
            self._keeping.cancel()
        await asyncio.gather(*self._tasks)

    async def _take_back(self, asked: "asyncio.Future[Any]", whose: str, slot: str) -> None:
        """Nobody waits for the answer any more; after it came the slot may be Redis' to give or not."""
        await asyncio.wait([asked])
        if not asked.cancelled() and asked.exception() is None:
            await self._remove(whose, slot)

    async def _remove(self, whose: str, slot: str) -> None:
        await self._quietly(self._redis.zrem(_key(whose), slot))

    async def _keep_held(self) -> None:
        while self._held:
            await asyncio.sleep(SLOT_SECONDS / 3)
            for slot, whose in list(self._held.items()):
                if slot in self._held and not await self._quietly(
                    self._keep([_key(whose)], [slot, SLOT_SECONDS])
                ):
                    break  # Redis is away; the next round tries again

    async def _quietly(self, command: Any) -> bool:
        """Whether a command was done in time. If not, the slot's end does its work."""
        from redis.exceptions import RedisError

        try:
            async with self._turns.turn():
                await command
        except (RedisError, OSError):
            return False
        return True

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            task = asyncio.create_task(work)
        except RuntimeError:  # the loop has ended, and with it the gateway
            work.close()
            return
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _key(whose: str) -> str:
    return f"heliostat:slots:{whose}"

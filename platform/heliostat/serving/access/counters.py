"""Counting requests and tokens by the minute, in this process or in Redis, with the `limits` package.

The strategy is its sliding window counter: two counters a key, the last minute's weighted by how much of it
still counts. What costs a thousand tokens is as cheap to count as what costs one.
"""

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

WINDOW_SECONDS = 60
SWEEP_SECONDS = 10.0


class LocalStorage(MemoryStorage):
    """Counters in this process.

    The parent looks through all counters in a task of its own at each hit (1.3 ms with 10,000 keys); this one
    does so every ten seconds.
    """

    STORAGE_SCHEME = ["async+heliostat"]  # noqa: RUF012  # as the parent declares it

    def __init__(self) -> None:
        super().__init__()
        self._swept = time.monotonic()

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count; the key is forgotten so many seconds after it was new."""
        await self.get(key)
        if key not in self.storage:
            self._sweep()
            self.expirations[key] = time.time() + expiry
        self.storage[key] += amount
        return self.storage[key]

    async def decr(self, key: str, amount: int = 1) -> int:
        """Take back, not below zero."""
        self.storage[key] = max(await self.get(key) - amount, 0)
        return self.storage[key]

    def _sweep(self) -> None:
        if time.monotonic() - self._swept < SWEEP_SECONDS:
            return
        self._swept = time.monotonic()
        present = time.time()
        for key in [key for key, ends in self.expirations.items() if ends <= present]:
            self.storage.pop(key, None)
            self.expirations.pop(key, None)


@dataclass(frozen=True)
class Budget:
    """So much a minute of something, for somebody."""

    what: str
    whose: str
    amount: int

    @property
    def item(self) -> RateLimitItemPerMinute:
        """As `limits` calls it."""
        return RateLimitItemPerMinute(self.amount, namespace="heliostat")

    @property
    def key(self) -> str:
        """Under which it is counted."""
        return self.item.key_for(self.what, self.whose)


class Counters:
    """Budgets and what is left of them."""

    def __init__(self, pool: "ConnectionPool | None" = None) -> None:
        """With a pool of connections it is counted in Redis, else in this process."""
        self._storage: LocalStorage | RedisStorage
        if pool is None:
            self._storage = LocalStorage()
        else:
            self._storage = RedisStorage(
                "redis://in-the-pool:6379",
                implementation="redispy",
                key_prefix="heliostat",
                connection_pool=pool,  # type: ignore[arg-type]  # passed on to redis, which takes it
            )
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)

    async def take(self, budget: Budget, cost: int) -> bool:
        """Spend, if so much is left."""
        return await self._limiter.hit(budget.item, budget.what, budget.whose, cost=cost)

    async def charge(self, budget: Budget, cost: int) -> None:
        """Spend, whether it is left or not; a negative cost gives back."""
        key = budget.key
        if isinstance(self._storage, RedisStorage):
            current = f"{{{key}}}"  # as the storage names the window that is now
        else:
            _, current = self._storage.sliding_window_keys(key, WINDOW_SECONDS, time.time())
        await self._storage.incr(current, 2 * WINDOW_SECONDS, cost)

    async def seconds_until(self, budget: Budget, cost: int) -> int:
        """After which time so much will be left, if nobody else spends; at least 1."""
        window = await self._storage.get_sliding_window(budget.key, WINDOW_SECONDS)
        return max(1, math.ceil(wait_seconds(budget.amount, cost, *window)))


def wait_seconds(
    amount: int, cost: int, previous: int, previous_left: float, current: int, current_left: float
) -> float:
    """When a sliding window counter lets a cost through; infinite when it never does.

    Of the window before, `previous` counts in proportion to the `previous_left` seconds that it still covers;
    `current_left` seconds remain until `current` counts no more at all.
    """
    if cost > amount:
        return math.inf
    room = amount - cost
    if current <= room:
        # previous * (previous_left - s) / window must fall below room - current + 1
        enough = (room - current + 1) * WINDOW_SECONDS / previous if previous else math.inf
        return max(0.0, previous_left - enough)
    until_next = max(0.0, current_left - WINDOW_SECONDS)
    return until_next + max(0.0, WINDOW_SECONDS - (room + 1) * WINDOW_SECONDS / current)

"""How much each key may ask for: requests and tokens by the minute, and requests at once.

A refused request costs nothing. When Redis does not answer within a tenth of a second, it is left alone for
a while, and meanwhile each process counts by itself or refuses, as the config says.
"""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heliostat.serving.access.callers import Caller
from heliostat.serving.access.config import Limits, RateLimitConfig
from heliostat.serving.access.counters import Budget, Counters
from heliostat.serving.access.slots import REDIS_SECONDS, LocalSlots, RedisSlots, RedisTurns
from heliostat.serving.api.errors import RefusedRequest

if TYPE_CHECKING:
    from redis.asyncio import Redis

AWAY_SECONDS = 1.0
"""How long Redis is left alone after it failed; then one request tries again."""
MAX_CONNECTIONS = 16
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Place:
    """Where it is counted."""

    counters: Counters
    slots: LocalSlots | RedisSlots


class Lease:
    """A request that was let through. Release it on every path, with `with` or `release`.

    Neither method waits, so both do their work while the request is being cancelled. One that is forgotten
    gives its slot back when it is collected.
    """

    def __init__(self, limits: "RateLimits", place: _Place, whose: str, tokens: Budget | None) -> None:
        self._limits = limits
        self._place = place
        self._whose = whose
        self._tokens = tokens
        self._slot = ""
        self._charged = 0

    def settle(self, used_tokens: int) -> None:
        """Say how many tokens of prompt and answer it was, instead of the estimate; 0 takes it back."""
        used = max(0, used_tokens)
        cost, self._charged = used - self._charged, used
        if self._tokens is not None and cost:
            self._limits.in_background(self._place.counters.charge(self._tokens, cost))

    def release(self) -> None:
        """Let the next one in; more than once does nothing."""
        slot, self._slot = self._slot, ""
        if slot:
            self._place.slots.free(self._whose, slot)

    async def give_back(self) -> None:
        """As `release`, waiting until it is done."""
        slot, self._slot = self._slot, ""
        if slot:
            await self._place.slots.give_back(self._whose, slot)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()


class RateLimits:
    """The counts of one gateway, or of all that share a Redis."""

    def __init__(self, config: RateLimitConfig) -> None:
        self._config = config
        self._here = _Place(Counters(), LocalSlots())
        self._redis: Redis | None = None
        self._shared: _Place | None = None
        self._away = False
        self._away_until = 0.0
        self._failed_at = -math.inf
        self._turns = RedisTurns()
        self._later = RedisTurns()
        self._tasks: set[asyncio.Task[None]] = set()
        if config.shared:
            self._redis = _connect(config.storage_url)
            counters = Counters(self._redis.connection_pool)
            self._shared = _Place(counters, RedisSlots(self._redis))

    async def acquire(self, caller: Caller, prompt_tokens_estimate: int) -> Lease:
        """Let a request of a caller through, or say when to try again.

        Raises:
            RefusedRequest: 429 with Retry-After; 503 when Redis is away and the config says to refuse.
        """
        limits = caller.limits.or_else(self._config.default)
        tokens = max(0, prompt_tokens_estimate)
        if self._shared is not None and time.monotonic() >= self._away_until:
            lease = await self._acquire_shared(self._shared, caller.family, limits, tokens)
            if lease is not None:
                return lease
        if self._shared is not None and self._config.when_redis_fails == "refuse":
            raise RefusedRequest(
                "Rate limits cannot be counted now; try again", "limits_unavailable", 503, headers=_retry(1)
            )
        return await self._acquire(self._here, caller.family, limits, tokens)

    async def close(self) -> None:
        """Finish what is going on in the background, and disconnect."""
        await asyncio.gather(*self._tasks)
        if self._shared is not None and isinstance(self._shared.slots, RedisSlots):
            await self._shared.slots.close()
        if self._redis is not None:
            await self._redis.aclose()
            await self._redis.connection_pool.aclose()

    def in_background(self, charge: Awaitable[None]) -> None:
        """Do what nobody waits for."""
        task = asyncio.ensure_future(self._bounded(charge))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _acquire_shared(self, place: _Place, whose: str, limits: Limits, tokens: int) -> Lease | None:
        """As `_acquire`; None when Redis fails."""
        from redis.exceptions import RedisError

        asked = time.monotonic()
        if self._away:
            self._away_until = time.monotonic() + AWAY_SECONDS  # the others need not wait for this attempt
        try:
            async with self._turns.turn():
                if self._failed_at >= asked:  # while this one waited for its turn
                    return None
                lease = await self._acquire(place, whose, limits, tokens)
        except (RedisError, OSError) as error:
            self._note_failure(error)
            return None
        except RefusedRequest:
            self._note_success()
            raise
        self._note_success()
        return lease

    async def _acquire(self, place: _Place, whose: str, limits: Limits, tokens: int) -> Lease:
        """The slot first, as it alone is given back for nothing."""
        requests_limit, tokens_limit = limits.requests_per_minute, limits.tokens_per_minute
        budget = Budget("tokens", whose, tokens_limit) if tokens_limit else None
        lease = Lease(self, place, whose, budget)
        try:
            if limits.concurrency is not None:
                slot = uuid.uuid4().hex
                if not await place.slots.take(whose, limits.concurrency, slot):
                    raise _too_many(f"make {limits.concurrency} requests at the same time", 1)
                lease._slot = slot
            requests = Budget("requests", whose, requests_limit) if requests_limit else None
            if requests is not None and not await place.counters.take(requests, 1):
                seconds = await place.counters.seconds_until(requests, 1)
                raise _too_many(f"make {requests_limit} requests per minute", seconds)
            if budget is not None and tokens and not await place.counters.take(budget, tokens):
                if requests is not None:
                    await place.counters.charge(requests, -1)
                raise await _too_many_tokens(place.counters, budget, tokens)
            lease._charged = tokens
        except RefusedRequest:
            await lease.give_back()
            raise
        except BaseException:
            lease.release()
            raise
        return lease

    def _note_failure(self, error: Exception) -> None:
        self._failed_at = time.monotonic()
        self._away_until = self._failed_at + AWAY_SECONDS
        if not self._away:
            self._away = True
            does = "requests are refused" if self._config.when_redis_fails == "refuse" else "counting here"
            logger.error("rate limits: Redis fails (%s); %s until it is back", _reason(error), does)

    def _note_success(self) -> None:
        self._away_until = 0.0
        if self._away:
            self._away = False
            logger.warning("rate limits: Redis is back")

    async def _bounded(self, charge: Awaitable[None]) -> None:
        from redis.exceptions import RedisError

        try:
            async with self._later.turn():
                await charge
        except (RedisError, OSError) as error:
            self._note_failure(error)


def _connect(url: str) -> "Redis":
    """A client that fails at once instead of trying again: the request waits for it."""
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=REDIS_SECONDS,
        socket_timeout=REDIS_SECONDS,
        socket_connect_timeout=REDIS_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis(connection_pool=pool)


async def _too_many_tokens(counters: Counters, budget: Budget, tokens: int) -> RefusedRequest:
    if tokens > budget.amount:
        return RefusedRequest(
            f"This request asks for {tokens} tokens, and this API key may use {budget.amount} per minute; "
            "send less",
            "rate_limit_exceeded",
            429,
            headers={"x-should-retry": "false"},
        )
    seconds = await counters.seconds_until(budget, tokens)
    return _too_many(f"use {budget.amount} tokens per minute", seconds)


def _too_many(what: str, seconds: int) -> RefusedRequest:
    message = f"This API key may {what}; try again in {seconds} s"
    return RefusedRequest(message, "rate_limit_exceeded", 429, headers=_retry(seconds))


def _retry(seconds: int) -> dict[str, str]:
    return {"retry-after": str(seconds)}


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__

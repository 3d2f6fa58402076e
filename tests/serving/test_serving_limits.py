"""Rate limits: what is let through, what a refusal costs, and that no slot is ever lost. Memory and Redis."""

import asyncio
import contextlib
import gc
import logging
import time

import pytest
from tests.serving.redis_process import RedisProcess

from heliostat.serving.access import rate_limits, slots
from heliostat.serving.access.callers import Caller
from heliostat.serving.access.config import Limits, RateLimitConfig
from heliostat.serving.access.counters import Budget, Counters, LocalStorage, wait_seconds
from heliostat.serving.access.rate_limits import RateLimits
from heliostat.serving.api.errors import RefusedRequest

pytestmark = pytest.mark.anyio


def caller(family: str = "sk-hs-1", **limits) -> Caller:
    return Caller("acme", "ci", family, family, ("*",), ("chat",), Limits(**limits), "127.0.0.1")


@pytest.fixture
def redis(shared_redis, monkeypatch):
    """One that is not blamed when the machine is busy with other things."""
    for module in (slots, rate_limits):
        monkeypatch.setattr(module, "REDIS_SECONDS", 5.0)
    return shared_redis


@pytest.fixture(scope="module")
def shared_redis(tmp_path_factory):
    process = RedisProcess(tmp_path_factory.mktemp("redis"))
    process.start()
    yield process
    process.stop()


@pytest.fixture(params=["memory", "redis"])
async def limits(request):
    """Empty limits."""
    if request.param == "memory":
        made = RateLimits(RateLimitConfig())
    else:
        made = RateLimits(RateLimitConfig(storage_url=request.getfixturevalue("redis").url))
        await made._redis.flushall()
    yield made
    await made.close()


@pytest.fixture
async def own_redis(tmp_path):
    """One that may be broken."""
    process = RedisProcess(tmp_path)
    process.start()
    yield process
    process.stop()


async def refused(limits: RateLimits, who: Caller, tokens: int = 0) -> RefusedRequest:
    with pytest.raises(RefusedRequest) as caught:
        await limits.acquire(who, tokens)
    return caught.value


async def settled(limits: RateLimits) -> None:
    """Let what goes on in the background come to its end."""
    while tasks := [*limits._tasks, *getattr(limits._shared and limits._shared.slots, "_tasks", ())]:
        await asyncio.wait(tasks)


async def test_requests_per_minute_are_counted_for_each_key(limits):
    who = caller(requests_per_minute=3)
    for _ in range(3):
        (await limits.acquire(who, 10)).release()
    error = await refused(limits, who)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert 1 <= int(error.headers["retry-after"]) <= 120
    assert "3 requests per minute" in str(error)
    await limits.acquire(caller("sk-hs-2", requests_per_minute=3), 10)


async def test_tokens_are_charged_as_estimated_and_then_as_they_were(limits):
    who = caller(tokens_per_minute=100)
    lease = await limits.acquire(who, 40)
    lease.settle(90)
    lease.release()
    await settled(limits)
    assert "100 tokens per minute" in str(await refused(limits, who, 11))
    lease = await limits.acquire(who, 10)
    lease.settle(0)  # as of an answer out of the cache
    await settled(limits)
    (await limits.acquire(who, 10)).settle(500)
    await settled(limits)
    await refused(limits, who, 1)


async def test_settling_twice_charges_the_difference(limits):
    who = caller(tokens_per_minute=100)
    lease = await limits.acquire(who, 50)
    for used in (20, 60, 60, -5, 30):
        lease.settle(used)
    await settled(limits)
    await refused(limits, who, 71)
    await limits.acquire(who, 70)


async def test_more_tokens_than_the_minute_has_are_never_worth_another_try(limits):
    error = await refused(limits, caller(tokens_per_minute=100), 101)
    assert error.status == 429
    assert error.headers["x-should-retry"] == "false"
    assert "retry-after" not in error.headers


async def test_a_refused_request_costs_nothing(limits):
    who = caller(requests_per_minute=2, tokens_per_minute=100, concurrency=1)
    for _ in range(5):
        await refused(limits, who, 101)
    held = await limits.acquire(who, 10)
    for _ in range(5):
        await refused(limits, who, 10)
    held.release()
    await settled(limits)
    (await limits.acquire(who, 90)).release()


async def test_requests_at_once_are_let_in_as_others_leave(limits):
    who = caller(concurrency=2)
    first, second = [await limits.acquire(who, 1) for _ in range(2)]
    error = await refused(limits, who)
    assert error.headers["retry-after"] == "1"
    first.release()
    first.release()
    await settled(limits)
    third = await limits.acquire(who, 1)
    await refused(limits, who)
    with second, third:
        pass
    await settled(limits)
    for _ in range(2):
        second = await limits.acquire(who, 1)
        third = second


async def test_a_slot_is_never_lost(limits):
    """Whatever ends a request: an error, being cancelled at any moment, being forgotten."""
    who = caller(concurrency=4, requests_per_minute=100_000, tokens_per_minute=1_000_000)

    async def request(hold: float) -> None:
        with await limits.acquire(who, 1):
            await asyncio.sleep(hold)
            raise ValueError

    for step in range(40):
        task = asyncio.create_task(request(0.001 * (step % 3)))
        await asyncio.sleep(step * 0.00005)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ValueError):
            await task
    lease = await limits.acquire(who, 1)
    del lease
    gc.collect()
    await settled(limits)
    held = [await limits.acquire(who, 1) for _ in range(4)]
    await refused(limits, who)
    for each in held:
        each.release()


async def test_many_at_once_do_not_pass_the_limit(limits):
    who = caller(requests_per_minute=20, concurrency=10)
    got = await asyncio.gather(*(limits.acquire(who, 0) for _ in range(40)), return_exceptions=True)
    assert sum(not isinstance(each, BaseException) for each in got) == 10
    assert all(isinstance(each, RefusedRequest) for each in got if isinstance(each, BaseException))
    for each in got:
        if not isinstance(each, BaseException):
            each.release()


async def test_without_limits_nothing_is_counted(limits):
    for _ in range(50):
        await limits.acquire(caller(), 10**9)


async def test_defaults_count_for_keys_that_say_nothing():
    limits = RateLimits(RateLimitConfig(default=Limits(concurrency=1)))
    lease = await limits.acquire(caller(), 1)
    await refused(limits, caller())
    lease.release()
    await limits.acquire(caller(concurrency=5), 1)


async def test_rotated_keys_share_their_limits(limits):
    old = caller("sk-hs-1", requests_per_minute=1)
    new = Caller("acme", "ci", "sk-hs-2", "sk-hs-1", ("*",), ("chat",), old.limits, "127.0.0.1")
    await limits.acquire(old, 0)
    await refused(limits, new)


async def test_gateways_that_share_a_redis_count_together(redis):
    config = RateLimitConfig(storage_url=redis.url)
    one, other = RateLimits(config), RateLimits(config)
    await one._redis.flushall()
    who = caller(requests_per_minute=3, concurrency=2)
    first, _second = await one.acquire(who, 0), await other.acquire(who, 0)
    assert "same time" in str(await refused(one, who))
    first.release()
    await settled(one)
    (await other.acquire(who, 0)).release()
    await settled(other)
    assert "3 requests per minute" in str(await refused(one, who))
    await one.close()
    await other.close()


async def test_the_slots_of_a_gateway_that_died_are_free_after_a_while(redis, monkeypatch):
    monkeypatch.setattr(slots, "SLOT_SECONDS", 3)
    config = RateLimitConfig(storage_url=redis.url)
    dead, alive = RateLimits(config), RateLimits(config)
    await dead._redis.flushall()
    who, other = caller(concurrency=1), caller("sk-hs-2", concurrency=1)
    lease = await dead.acquire(who, 0)
    held = await alive.acquire(other, 0)
    dead._shared.slots._keeping.cancel()
    await refused(alive, who)
    await asyncio.sleep(3.5)
    (await alive.acquire(who, 0)).release()
    await refused(alive, other)  # that one is at work still, and says so
    held.release()
    lease.release()
    for each in (dead, alive):
        await each.close()


@pytest.mark.parametrize("how", ["stop", "freeze"])
async def test_a_redis_that_fails_holds_nobody_up_for_long(own_redis, how, caplog):
    limits = RateLimits(RateLimitConfig(storage_url=own_redis.url))
    who = caller(requests_per_minute=1000, concurrency=3)
    before = await limits.acquire(who, 0)
    getattr(own_redis, how)()
    slowest, started = 0.0, time.perf_counter()
    for _ in range(50):
        began = time.perf_counter()
        (await limits.acquire(who, 0)).release()
        slowest = max(slowest, time.perf_counter() - began)
    assert slowest < 0.5
    assert time.perf_counter() - started < 1.5, "only the first one waits"
    before.settle(10)
    before.release()
    held = [await limits.acquire(who, 0) for _ in range(3)]
    await refused(limits, who)
    assert caplog.text.count("Redis fails") == 1
    own_redis.thaw() if how == "freeze" else own_redis.start()
    for each in held:
        each.release()
    with caplog.at_level(logging.WARNING):
        async with asyncio.timeout(20):
            while "Redis is back" not in caplog.text:
                await asyncio.sleep(0.1)
                (await limits.acquire(who, 0)).release()
    await limits.close()


async def test_a_redis_that_fails_can_mean_503(own_redis):
    limits = RateLimits(RateLimitConfig(storage_url=own_redis.url, when_redis_fails="refuse"))
    own_redis.stop()
    for _ in range(2):
        error = await refused(limits, caller(requests_per_minute=1))
        assert (error.status, error.code, error.headers) == (503, "limits_unavailable", {"retry-after": "1"})
    await limits.close()


async def test_a_redis_that_was_never_there_does_not_stop_the_gateway():
    limits = RateLimits(RateLimitConfig(storage_url="redis://127.0.0.1:1/0"))
    (await limits.acquire(caller(requests_per_minute=1), 0)).release()
    await refused(limits, caller(requests_per_minute=1))
    await limits.close()


@pytest.mark.parametrize("amount", [1, 10, 60, 997])
@pytest.mark.parametrize("cost", [1, 7, 60])
async def test_after_the_time_it_was_told_a_caller_gets_in(monkeypatch, amount, cost):
    """Memory's windows begin with the minute, so the worst is a full one that has just begun."""
    moment = [1_000_000_020.0 + 60 - 1_000_000_020 % 60 + 0.5]
    monkeypatch.setattr(time, "time", lambda: moment[0])
    counters, budget = Counters(), Budget("tokens", "who", amount)
    if cost > amount:
        assert wait_seconds(amount, cost, 0, 0, 0, 0) == float("inf")
        return
    while await counters.take(budget, 1):
        pass
    seconds = await counters.seconds_until(budget, cost)
    moment[0] += seconds
    assert await counters.take(budget, cost)
    assert seconds <= 120


async def test_a_clock_that_is_set_back_locks_nobody_out(monkeypatch):
    limits = RateLimits(RateLimitConfig())
    who = caller(requests_per_minute=2)
    for _ in range(2):
        await limits.acquire(who, 0)
    real = time.time
    for offset in (-7200, -3600, 7200):
        monkeypatch.setattr(time, "time", lambda offset=offset: real() + offset)
        await limits.acquire(who, 0)


async def test_counters_of_keys_that_are_gone_are_forgotten(monkeypatch):
    storage = LocalStorage()
    for number in range(1000):
        await storage.incr(f"key{number}", 60)
    wall, monotonic = time.time, time.monotonic
    monkeypatch.setattr(time, "time", lambda: wall() + 61)
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + 61)
    await storage.incr("new", 60)
    assert list(storage.storage) == list(storage.expirations) == ["new"]
    assert await storage.decr("new", 5) == 0
    limits = RateLimits(RateLimitConfig())
    (await limits.acquire(caller(concurrency=1), 0)).release()
    assert not limits._here.slots._taken

"""Exact answers shared through a real redis-server, which these tests start and end."""

import asyncio
import json
import shutil
import socket
import subprocess
import time
from contextlib import asynccontextmanager, contextmanager

import pytest
from redis.asyncio import Redis

from heliostat.errors import ConfigError, ServingError
from heliostat.serving.cache.answers import CachedAnswer
from heliostat.serving.cache.config import CacheConfig
from heliostat.serving.cache.question import Place, Question
from heliostat.serving.cache.response_cache import ResponseCache

pytestmark = [pytest.mark.anyio, pytest.mark.heavy]
PLACE = Place("acme", "chat", "v1")
ANSWER = CachedAnswer("Waves. 光\n", "stop", 5, 2)


@contextmanager
def listening(port: int):
    """A Redis at a port, that keeps nothing."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed; apt-get install redis-server")
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield server
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def redis_url(free_port):
    with listening(free_port):
        yield f"redis://127.0.0.1:{free_port}/0"


@asynccontextmanager
async def gateway(url, **config):
    cache = ResponseCache(
        CacheConfig.model_validate({"redis_url": url, "redis_timeout_seconds": 2, **config})
    )
    try:
        yield cache
    finally:
        await cache.close()


@asynccontextmanager
async def plain(url):
    client = Redis.from_url(url)
    try:
        yield client
    finally:
        await client.aclose()


def ask(text="What is light?", place=PLACE):
    return Question.of(place, [("user", text)], {"temperature": 0})


async def test_what_one_gateway_keeps_another_finds(redis_url):
    async with gateway(redis_url) as one, gateway(redis_url) as other:
        await one.keep(ask(), ANSWER)
        hit = await other.find(ask())
        assert (hit.kind, hit.answer) == ("redis", ANSWER)
        assert (await other.find(ask())).kind == "exact"
        assert await other.find(ask(place=Place("b", "chat", "v1"))) is None
        assert await other.find(ask(place=Place("acme", "chat", "v2"))) is None


async def test_keys_and_values_tell_no_names_and_live_for_their_time(redis_url):
    async with gateway(redis_url, ttl_seconds=100) as cache, plain(redis_url) as client:
        await client.flushall()
        await cache.keep(ask("secret question"), ANSWER)
        (key,) = [each async for each in client.scan_iter()]
        assert key.startswith(b"heliostat:answer:")
        assert b"acme" not in key
        assert 90 < await client.ttl(key) <= 100
        value = await client.get(key)
        assert b"secret" not in value
        assert json.loads(value)["text"] == ANSWER.text


@pytest.mark.parametrize(
    "change",
    [
        {"text": 5},
        {"finish_reason": "content_filter"},
        {"prompt_tokens": -1},
        {"prompt_tokens": True},
        {"more": 1},
        {"format": 2},
        {"key": "of another question"},
        {"created": "2020"},
        None,
    ],
)
async def test_a_value_that_is_not_as_it_must_be_is_a_miss(redis_url, change):
    async with gateway(redis_url) as one, gateway(redis_url) as other, plain(redis_url) as client:
        await client.flushall()
        await one.keep(ask(), ANSWER)
        (key,) = [each async for each in client.scan_iter()]
        value = {**json.loads(await client.get(key)), **(change or {})}
        await client.set(key, json.dumps(value) if change else b"\x80\x04N.")
        assert await other.find(ask()) is None
        assert other.counts.redis_invalid == 1


async def test_a_value_of_another_kind_or_beyond_all_bounds_is_a_miss(redis_url):
    async with gateway(redis_url) as one, gateway(redis_url) as other, plain(redis_url) as client:
        await client.flushall()
        await one.keep(ask(), ANSWER)
        (key,) = [each async for each in client.scan_iter()]
        await client.set(key, b'{"text": "' + b"x" * 2**22)
        assert await other.find(ask()) is None
        await client.delete(key)
        await client.lpush(key, "x")
        assert await other.find(ask()) is None
        assert (other.counts.redis_invalid, other.counts.redis_failures) == (1, 1)


async def test_an_answer_is_no_younger_for_having_been_shared(redis_url):
    async with gateway(redis_url, ttl_seconds=100) as one, gateway(redis_url, ttl_seconds=100) as other:
        await one.keep(ask("old"), CachedAnswer("x", "stop", 1, 1, created=time.time() - 99.5))
        assert (await other.find(ask("old"))).kind == "redis"
        await asyncio.sleep(0.6)
        assert await other.find(ask("old")) is None


async def test_a_purge_reaches_redis(redis_url):
    async with gateway(redis_url) as one, gateway(redis_url) as other, plain(redis_url) as client:
        await client.flushall()
        await client.set("somebody else's", 1)
        places = [Place(tenant, model, "v1") for tenant in "ab" for model in "xy"]
        for place in places:
            await one.keep(ask(place=place), ANSWER)
        assert await one.purge(tenant="a", model="x") == 2, "here and in Redis"
        assert await one.purge(model="y") == 4
        found = [await other.find(ask(place=place)) is not None for place in places]
        assert found == [False, False, True, False]
        assert await one.purge() == 2
        assert await client.dbsize() == 1


async def test_redis_down_is_a_miss_and_no_error_until_it_is_back():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with gateway(f"redis://127.0.0.1:{port}/0", redis_timeout_seconds=0.05) as cache:
        start = time.perf_counter()
        assert await cache.find(ask()) is None
        assert time.perf_counter() - start < 0.5
        await cache.keep(ask(), ANSWER)
        assert (await cache.find(ask())).kind == "exact"
        assert cache.counts.redis_failures == 1, "it is left alone for a second"
        with pytest.raises(ServingError, match="purge again"):
            await cache.purge()
        with listening(port):
            await asyncio.sleep(1)
            cache._redis._timeout_seconds = 2  # this machine may be busy
            await cache.keep(ask(), ANSWER)
            await cache.purge("nobody")
            cache._exact.purge(None, None)
            assert (await cache.find(ask())).kind == "redis"


async def test_redis_that_does_not_answer_costs_its_timeout_and_no_more():
    async def silent(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with gateway(f"redis://127.0.0.1:{port}/0", redis_timeout_seconds=0.05) as cache:
        start = time.perf_counter()
        assert await cache.find(ask()) is None
        assert await cache.find(ask("again")) is None
        assert time.perf_counter() - start < 0.5
        assert cache.counts.redis_failures == 1
    server.close()


def test_a_password_comes_from_the_environment_only(monkeypatch):
    with pytest.raises(ValueError, match="redis_password_env"):
        CacheConfig(redis_url="redis://:secret@host/0")
    with pytest.raises(ValueError, match="for redis_url"):
        CacheConfig(redis_password_env="SECRET")
    config = CacheConfig(redis_url="redis://host/0", redis_password_env="HELIOSTAT_TEST_SECRET")
    with pytest.raises(ConfigError, match="HELIOSTAT_TEST_SECRET is not set"):
        ResponseCache(config)

"""Engines behind a channel, and a gateway's view of several: real engines, real sockets, one process."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from heliostat.errors import ServingError
from heliostat.serving.channel.client import ChannelClient
from heliostat.serving.channel.messages import ElsewhereError
from heliostat.serving.channel.server import ChannelServer
from heliostat.serving.engines.interface import SamplingParameters
from heliostat.serving.fleet.dispatch import Fleet, FullError
from heliostat.serving.fleet.routes import Replica, Snapshot

pytestmark = pytest.mark.anyio
SECRET = "s3cret"
GREEDY = SamplingParameters(max_tokens=40, temperature=0)


@asynccontextmanager
async def served(engine, capacity: int = 8):
    server = await ChannelServer.start(engine, SECRET, capacity)
    yield server
    await server.close()


@asynccontextmanager
async def connected(server, secret: str = SECRET):
    client = await ChannelClient.connect("127.0.0.1", server.port, secret)
    yield client
    await client.close()


def replica(server, engine, name: str, capacity: int = 8) -> Replica:
    return Replica(
        name, "app", "127.0.0.1", server.port, capacity, engine.capabilities, engine.max_context_tokens
    )


async def no_wake(app_name: str) -> None:
    pass


async def tokens_of(deltas) -> list[int]:
    return [token async for delta in deltas for token in delta.token_ids]


@pytest.fixture
async def prompt(tiny_tokenizer) -> list[int]:
    return tiny_tokenizer("What does str.lower do? It")["input_ids"]


async def test_tokens_over_a_channel_are_the_engines(transformers_engine, prompt):
    direct = await tokens_of(transformers_engine.generate(prompt, GREEDY, "direct"))
    async with served(transformers_engine) as server, connected(server) as client:
        both = await asyncio.gather(
            tokens_of(client.generate(prompt, GREEDY, "a")), tokens_of(client.generate(prompt, GREEDY, "b"))
        )
    assert both == [direct, direct]


async def test_a_caller_without_the_secret_is_turned_away(transformers_engine, prompt):
    async with served(transformers_engine) as server, connected(server, "wrong") as client:
        with pytest.raises(ElsewhereError, match="lost"):
            await tokens_of(client.generate(prompt, GREEDY, "a"))
    assert transformers_engine.stats().num_requests == 0


@pytest.mark.parametrize("sent", [b"\n", b"{}\n", b"[" * 100_000 + b"\n", b'{"hello": 5}\n', b"\xff\xfe\n"])
async def test_noise_is_turned_away(transformers_engine, sent):
    async with served(transformers_engine) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_closing_an_answer_frees_its_slot_at_once(transformers_engine, prompt):
    long = SamplingParameters(max_tokens=400, temperature=0)
    async with served(transformers_engine) as server, connected(server) as client:
        deltas = client.generate(prompt, long, "a")
        await anext(deltas)
        await deltas.aclose()
        async with asyncio.timeout(1):
            while server.num_requests or transformers_engine.stats().num_requests:
                await asyncio.sleep(0.005)


async def test_a_gateway_that_goes_frees_all_its_slots(transformers_engine, prompt):
    long = SamplingParameters(max_tokens=400, temperature=0)
    async with served(transformers_engine) as server:
        client = await ChannelClient.connect("127.0.0.1", server.port, SECRET)
        running = [asyncio.create_task(tokens_of(client.generate(prompt, long, str(n)))) for n in range(3)]
        await asyncio.sleep(0.05)
        await client.close()
        results = await asyncio.gather(*running, return_exceptions=True)
        assert all(isinstance(result, ServingError) for result in results)
        async with asyncio.timeout(2):
            while server.num_requests or transformers_engine.stats().num_requests:
                await asyncio.sleep(0.005)


async def test_what_is_full_refuses_at_once_and_what_drains_sends_elsewhere(transformers_engine, prompt):
    async with served(transformers_engine, capacity=1) as one, served(transformers_engine) as other:
        fleet = Fleet(SECRET, no_wake)
        alone = replica(one, transformers_engine, "one", capacity=1)
        await fleet.update(Snapshot(1, replicas=(alone,)))
        first = fleet.engine("app").generate(prompt, GREEDY, "a")
        await anext(first)
        with pytest.raises(FullError, match="as many requests as they take"):
            await anext(fleet.engine("app").generate(prompt, GREEDY, "b"))
        await first.aclose()
        one.draining = True
        with pytest.raises(ServingError, match=r"no replica came up within 0\.3 s"):
            await anext(fleet.engine("app", wait_seconds=0.3).generate(prompt, GREEDY, "c"))
        await fleet.update(Snapshot(2, replicas=(alone, replica(other, transformers_engine, "other"))))
        assert len(await tokens_of(fleet.engine("app").generate(prompt, GREEDY, "d"))) == 40
        await fleet.close()


@pytest.mark.parametrize("after", [0, 7])
async def test_an_answer_whose_replica_is_lost_goes_on_at_another(transformers_engine, prompt, after):
    direct = await tokens_of(transformers_engine.generate(prompt, GREEDY, "direct"))
    async with served(transformers_engine) as one, served(transformers_engine) as other:
        fleet = Fleet(SECRET, no_wake)
        there = (replica(one, transformers_engine, "one"), replica(other, transformers_engine, "other"))
        await fleet.update(Snapshot(1, replicas=there))
        tokens: list[int] = []
        async for delta in fleet.engine("app").generate(prompt, GREEDY, "a"):
            tokens += delta.token_ids
            if len(tokens) > after:
                await (one if one.num_requests else other).close()
                after = 1000
        assert tokens == direct
        await fleet.close()


async def test_a_request_without_a_replica_wakes_one_and_waits(transformers_engine, prompt):
    woken: list[str] = []

    async def wake(app_name: str) -> None:
        woken.append(app_name)

    fleet = Fleet(SECRET, wake, max_waiting=1)
    asked = asyncio.create_task(tokens_of(fleet.engine("app").generate(prompt, GREEDY, "a")))
    await asyncio.sleep(0.05)
    with pytest.raises(FullError, match="wait for a replica already"):
        await anext(fleet.engine("app").generate(prompt, GREEDY, "b"))
    assert woken == ["app"]
    async with served(transformers_engine) as server:
        await fleet.update(Snapshot(1, replicas=(replica(server, transformers_engine, "one"),)))
        assert len(await asked) == 40
    await fleet.close()

"""Clients that go away: over real HTTP, through gateway and channel, to real engines that answer one at a
time, so that whoever waits behind shows when the slot was free.
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from tests.serving.in_process import LONG, FixedModels
from tests.serving.over_http import Leaving, RawClient, listening, written

from heliostat.serving.access.config import AccessConfig, Limits
from heliostat.serving.access.key_records import KeyScope
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.api.answering import ServedModel
from heliostat.serving.channel.server import ChannelServer
from heliostat.serving.config import OpenVINOEngineConfig, TransformersEngineConfig
from heliostat.serving.engines.selection import max_context_tokens, start_engine
from heliostat.serving.fleet.dispatch import Fleet
from heliostat.serving.fleet.routes import Replica, Snapshot
from heliostat.serving.gateway.app import build_gateway
from heliostat.serving.gateway.services import Doormen, Services

pytestmark = pytest.mark.anyio
ONE_AT_A_TIME = {
    "transformers": TransformersEngineConfig(num_threads=1),
    "openvino": OpenVINOEngineConfig(num_threads=1, max_num_seqs=1, prefix_caching=False),
}
SECRET = "s3cret"
ALLOWED_SECONDS = 0.05
"""Beside one decode step."""
REPEATS = 9
SHORT = 1
"""Tokens: a single step."""


class TimedEngine:
    """A real engine; notes when each request's first tokens came out of it."""

    def __init__(self, engine) -> None:
        self.engine = engine
        self.asked: list[str] = []
        self.first_at: dict[str, float] = {}

    def __getattr__(self, name: str):
        return getattr(self.engine, name)

    async def generate(self, prompt_ids, parameters, request_id, adapter=None):
        self.asked.append(request_id)
        deltas = self.engine.generate(prompt_ids, parameters, request_id, adapter)
        try:
            async for delta in deltas:
                self.first_at.setdefault(request_id, time.monotonic())
                yield delta
        finally:
            await deltas.aclose()

    async def step_seconds(self) -> float:
        """How long a step takes just now."""
        began, steps = time.monotonic(), self.engine.stats().num_steps
        await until(lambda: self.engine.stats().num_steps >= steps + 20)
        return (time.monotonic() - began) / (self.engine.stats().num_steps - steps)


@dataclass
class Way:
    """From a socket to an engine: what is asked, and what the stations say."""

    port: int
    key: str
    engine: TimedEngine
    channel: ChannelServer
    services: Services

    async def ask(self, max_tokens: int, stream: bool) -> tuple[RawClient, str]:
        """Send a request; the client and the engine's id of it, once it has that."""
        messages = [{"role": "user", "content": "What does str.upper do?"}]
        body = {"model": "tiny", "messages": messages, "max_tokens": max_tokens, "ignore_eos": True}
        number = len(self.engine.asked)
        client = await RawClient.ask(self.port, body | {"stream": stream}, self.key)
        await until(lambda: len(self.engine.asked) > number)
        return client, self.engine.asked[number]

    @property
    def at_work(self) -> tuple[int, int]:
        """Requests that the channel and the engine have."""
        return self.channel.num_requests, self.engine.stats().num_requests

    def counted(self, name: str) -> float:
        """The sum of a metric's series."""
        lines = self.services.metrics.exposition().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name + "{"))

    async def written(self, count: int) -> list[dict]:
        """The audit log, closed once it has so many lines."""
        return await written(self.services.doormen.audit, count)


async def until(condition: Callable[[], object], seconds: float = 20) -> float:
    """Wait for a condition; when it was seen to hold."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)
    return time.monotonic()


@pytest.fixture(scope="module", params=list(ONE_AT_A_TIME))
async def engine(request, folders):
    engine = await start_engine(ONE_AT_A_TIME[request.param], folders[request.param])
    yield engine
    await engine.close()


@asynccontextmanager
async def whole_way(engine, tokenizer, folder, storage):
    """A gateway with keys, limits and audit, in front of a fleet of one replica."""
    key, _ = KeyStore(storage).create(KeyScope(name="one", tenant="a", limits=Limits(concurrency=2)))
    services = Services(Doormen.of(AccessConfig(), loopback_only=True, storage=storage))
    timed = TimedEngine(engine)
    channel = await ChannelServer.start(timed, SECRET, 8)
    fleet = Fleet(SECRET, wake=lambda _: asyncio.sleep(0))
    limit = max_context_tokens(folder)
    replica = Replica("one", "app", "127.0.0.1", channel.port, 8, engine.capabilities, limit)
    await fleet.update(Snapshot(1, replicas=(replica,)))
    model = ServedModel("tiny", 1, tokenizer, fleet.engine("app"), limit, LONG, 16)
    async with listening(build_gateway(FixedModels(model), None, services)) as port:
        yield Way(port, key, timed, channel, services)
    await fleet.close()
    await channel.close()


@pytest.fixture
async def way(engine, tiny_tokenizer, folders, workspace):
    async with whole_way(engine, tiny_tokenizer, folders["transformers"], workspace.storage) as way:
        yield way


async def first_token_alone(way: Way) -> float:
    """From a request's socket to its first token where nobody is in front of it: its own share of a wait."""
    taken = []
    for _ in range(REPEATS):
        began = time.monotonic()
        client, request_id = await way.ask(SHORT, stream=False)
        await client.reader.readuntil(b"}")
        taken.append(way.engine.first_at[request_id] - began)
        client.leave()
    return statistics.median(taken)


LEAVERS: list[tuple[bool, Leaving]] = [
    (True, "closes"),
    (False, "closes"),
    (True, "resets"),
    (True, "half-closes"),
]


@pytest.mark.parametrize(("stream", "how"), LEAVERS)
async def test_who_waits_has_the_slot_within_a_step_of_a_clients_leaving(way, stream, how):
    alone = await first_token_alone(way)
    taken, steps = [], []
    for _ in range(REPEATS):
        leaver, running = await way.ask(LONG, stream)
        await until(lambda asked=running: asked in way.engine.first_at)
        steps.append(await way.engine.step_seconds())
        waiter, waiting = await way.ask(SHORT, stream=False)
        assert way.at_work == (2, 2)
        left = time.monotonic()
        leaver.leave(how)
        await until(lambda asked=waiting: asked in way.engine.first_at)
        taken.append(way.engine.first_at[waiting] - left)
        assert b" 200 " in await waiter.reader.readline()
        await until(lambda: way.at_work == (0, 0), ALLOWED_SECONDS)
        waiter.leave()
    print(f"slot free and taken after {[round(1000 * each, 1) for each in taken]} ms; a step takes ", end="")
    print(f"{1000 * statistics.median(steps):.2f} ms, a first token on its own {1000 * alone:.1f} ms")
    assert min(taken) > 0  # it did wait
    assert statistics.median(taken) < alone + statistics.median(steps) + ALLOWED_SECONDS
    lines = await way.written(3 * REPEATS)
    assert way.counted("heliostat_requests_in_progress") == 0
    left_early = [line for line in lines if line["status"] == 499]
    assert len(left_early) == REPEATS
    if stream:
        assert 0 < left_early[0]["completion_tokens"] < LONG


@pytest.mark.parametrize("stream", [True, False])
async def test_who_leaves_before_the_first_token_never_gets_the_slot(way, stream):
    leaver, running = await way.ask(LONG, stream=True)
    await until(lambda: running in way.engine.first_at)
    step = await way.engine.step_seconds()
    taken = []
    for _ in range(REPEATS):  # each takes the lease that the last one gave back
        waiter, waiting = await way.ask(LONG, stream)
        assert way.at_work == (2, 2)
        left = time.monotonic()
        waiter.leave()
        taken.append(await until(lambda: way.at_work == (1, 1)) - left)
        assert waiting not in way.engine.first_at
    print(f"out of the queue after {[round(1000 * each, 1) for each in taken]} ms, a step: {1000 * step:.2f}")
    assert statistics.median(taken) < step + ALLOWED_SECONDS
    leaver.leave()
    await until(lambda: way.at_work == (0, 0), 1)
    await asyncio.sleep(5 * step + ALLOWED_SECONDS)
    steps = way.engine.stats().num_steps
    await asyncio.sleep(0.2)
    assert way.engine.stats().num_steps == steps  # nothing of theirs is worked on
    assert set(way.engine.first_at) == {running}
    assert [line["status"] for line in await way.written(REPEATS + 1)] == [499] * (REPEATS + 1)
    assert way.counted("heliostat_requests_in_progress") == 0

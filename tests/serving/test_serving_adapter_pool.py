"""Adapters of one replica: loaded once, kept while used, waited for, behind a channel too."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.serving.adapter_engine import AdapterEngine, adapter, pool_of
from tests.serving.test_serving_channel import SECRET, connected, no_wake, replica

from heliostat.errors import ServingError
from heliostat.serving.channel.messages import ElsewhereError
from heliostat.serving.channel.server import ChannelServer
from heliostat.serving.engines.adapter_pool import AdapterPool, fetch_adapter
from heliostat.serving.engines.interface import AdapterUse, SamplingParameters
from heliostat.serving.fleet.dispatch import Fleet
from heliostat.serving.fleet.routes import LOADING_COSTS, Snapshot
from heliostat.storage import publish, staging
from heliostat.workspace import Workspace

pytestmark = pytest.mark.anyio
WHOLE = SamplingParameters(max_tokens=100, temperature=0)
A, B, C = (adapter(name) for name in "abc")
LOAD_A, LOAD_B = (f"load {each.artifact_id} /local/{each.name}" for each in (A, B))


async def settled() -> None:
    """Everything that can go on without waiting has."""
    for _ in range(20):
        await asyncio.sleep(0)


async def use(pool, served, until: asyncio.Event | None = None) -> str:
    async with pool.using(served) as name:
        if until:
            await until.wait()
        return name


async def said(deltas) -> str:
    return bytes([token async for delta in deltas for token in delta.token_ids]).decode()


async def test_requests_of_one_adapter_wait_for_the_same_load():
    engine = AdapterEngine()
    engine.loading.clear()
    pool = pool_of(engine)
    both = [asyncio.create_task(use(pool, A)) for _ in range(2)]
    await settled()
    assert engine.log == [LOAD_A]
    assert pool.uses() == (AdapterUse("a", A.artifact_id, 2),)
    engine.loading.set()
    assert await asyncio.gather(*both) == [A.artifact_id] * 2
    assert await use(pool, A) == A.artifact_id
    assert engine.log == [LOAD_A]
    assert pool.uses() == (AdapterUse("a", A.artifact_id, 0),)


async def test_what_is_in_use_stays_and_who_wants_another_waits_until_it_is_not():
    engine = AdapterEngine()
    pool, done = pool_of(engine, max_loaded=1), asyncio.Event()
    first = asyncio.create_task(use(pool, A, done))
    await settled()
    second = asyncio.create_task(use(pool, B))
    await settled()
    assert engine.log == [LOAD_A]
    assert pool.uses()[1] == AdapterUse("b", B.artifact_id, 0, num_waiting=1, loaded=False)
    done.set()
    assert await asyncio.gather(first, second) == [A.artifact_id, B.artifact_id]
    assert engine.log == [LOAD_A, f"unload {A.artifact_id}", LOAD_B]
    assert engine.loaded == {B.artifact_id}


async def test_an_adapter_that_is_wanted_again_while_it_goes_is_loaded_behind_that():
    engine = AdapterEngine()
    pool = pool_of(engine, max_loaded=1)
    await use(pool, A)
    assert await asyncio.gather(use(pool, B), use(pool, A)) == [B.artifact_id, A.artifact_id]
    assert engine.log[-4:] == [f"unload {A.artifact_id}", LOAD_B, f"unload {B.artifact_id}", LOAD_A]


async def test_a_failed_load_fails_who_waited_for_it_in_one_line_and_the_next_one_tries_again():
    engine = AdapterEngine()
    pool = pool_of(engine, max_loaded=1)
    engine.faults[A.artifact_id] = ServingError("the disk\nis full")
    outcomes = await asyncio.gather(use(pool, A), use(pool, A), use(pool, B), return_exceptions=True)
    assert [str(each) for each in outcomes[:2]] == ["adapter a cannot be loaded: the disk is full"] * 2
    assert outcomes[2] == B.artifact_id
    del engine.faults[A.artifact_id]
    assert await use(pool, A) == A.artifact_id


async def test_an_artifact_that_is_gone_is_the_error_of_a_load():
    pool = AdapterPool(AdapterEngine(), 1)
    with pytest.raises(ServingError, match=r"^adapter a cannot be loaded: /models/a: "):
        await use(pool, A)
    assert pool.uses() == ()


async def test_who_leaves_while_it_waits_holds_nothing_and_its_load_goes_on_for_others():
    engine = AdapterEngine()
    pool = pool_of(engine, max_loaded=1)
    engine.loading.clear()
    leaving, staying = asyncio.create_task(use(pool, A)), asyncio.create_task(use(pool, A))
    waiting = asyncio.create_task(use(pool, B))
    await settled()
    leaving.cancel()
    waiting.cancel()
    await asyncio.gather(leaving, waiting, return_exceptions=True)
    engine.loading.set()
    assert await staying == A.artifact_id
    assert pool.uses() == (AdapterUse("a", A.artifact_id, 0),)


async def test_a_place_granted_to_who_has_just_left_is_given_on():
    engine = AdapterEngine()
    pool, done = pool_of(engine, max_loaded=1), asyncio.Event()
    first = asyncio.create_task(use(pool, A, done))
    await settled()
    second, third = asyncio.create_task(use(pool, B)), asyncio.create_task(use(pool, C))
    await settled()
    done.set()
    second.cancel()  # before it hears that its turn has come
    assert (await first, await third) == (A.artifact_id, C.artifact_id)
    assert [each.num_requests for each in pool.uses()] == [0]


async def test_an_artifact_that_was_made_again_is_not_taken_for_the_one_named(tmp_path):
    workspace = Workspace.resolve(str(tmp_path))
    with staging(workspace.storage, "models/a-0") as publication:
        (publication.folder / "weights").write_text("w")
        made = publish(publication, "adapter", "k", {})
    there = A.model_copy(update={"artifact_id": made.id, "artifact_uri": made.uri})
    assert await fetch_adapter(there) == made.uri
    with pytest.raises(ServingError, match=f"holds {made.id} now, not adapter-a1"):
        await fetch_adapter(A.model_copy(update={"artifact_uri": made.uri}))


@asynccontextmanager
async def served(engine, max_loaded: int = 2, capacity: int = 32):
    server = await ChannelServer.start(engine, SECRET, capacity, adapters=pool_of(engine, max_loaded))
    yield server
    await server.close()


async def test_over_a_channel_each_request_gets_its_adapter_and_a_failed_load_only_its_own_error():
    engine = AdapterEngine()
    engine.faults[C.artifact_id] = ServingError("no such layer")
    async with served(engine, max_loaded=1) as server, connected(server) as client:
        asked = [None, A, C, B, A]
        answers = await asyncio.gather(
            *(said(client.generate([1], WHOLE, str(n), each)) for n, each in enumerate(asked)),
            return_exceptions=True,
        )
    assert answers[:2] + answers[3:] == ["base", A.artifact_id, B.artifact_id, A.artifact_id]
    assert str(answers[2]) == "adapter c cannot be loaded: no such layer"
    assert not isinstance(answers[2], ElsewhereError)


async def test_other_requests_are_answered_while_an_adapter_loads():
    engine = AdapterEngine()
    async with served(engine) as server, connected(server) as client:
        await said(client.generate([1], WHOLE, "warm", A))
        engine.loading.clear()
        slow = asyncio.create_task(said(client.generate([1], WHOLE, "slow", B)))
        async with asyncio.timeout(5):
            assert await said(client.generate([1], WHOLE, "base")) == "base"
            assert await said(client.generate([1], WHOLE, "there", A)) == A.artifact_id
        assert not slow.done()
        engine.loading.set()
        assert await slow == B.artifact_id


async def test_a_client_that_leaves_lets_go_of_its_adapter():
    engine = AdapterEngine()
    async with served(engine, max_loaded=1) as server, connected(server) as client:
        engine.answering.clear()
        deltas = client.generate([1], WHOLE, "a", A)
        await anext(deltas)
        assert server.adapters.uses()[0].num_requests == 1
        await deltas.aclose()
        engine.answering.set()
        async with asyncio.timeout(5):
            assert await said(client.generate([1], WHOLE, "b", B)) == B.artifact_id


async def test_a_replica_that_has_the_adapter_is_asked_while_it_is_not_much_busier():
    engines = [AdapterEngine(), AdapterEngine()]
    async with served(engines[0]) as one, served(engines[1]) as other:
        fleet = Fleet(SECRET, no_wake)
        both = (replica(one, engines[0], "one", 32), replica(other, engines[1], "other", 32))
        has_it = {"other": frozenset([A.artifact_id])}
        await fleet.update(Snapshot(1, replicas=both, loads={"other": LOADING_COSTS - 1}, adapters=has_it))
        engine = fleet.engine("app", (A, B))
        await said(engine.generate([1], WHOLE, "a", A.artifact_id))
        assert [len(each.asked) for each in engines] == [0, 1]
        await said(engine.generate([1], WHOLE, "b", B.artifact_id))
        await said(engine.generate([1], WHOLE, "base"))
        assert [len(each.asked) for each in engines] == [2, 1]
        await fleet.update(Snapshot(1, replicas=both, loads={"other": LOADING_COSTS + 1}, adapters=has_it))
        await said(engine.generate([1], WHOLE, "much busier", A.artifact_id))
        assert [len(each.asked) for each in engines] == [3, 1]
        await fleet.close()


async def test_requests_that_go_on_count_as_loaded_before_their_replica_says_so():
    engines = [AdapterEngine(), AdapterEngine()]
    async with served(engines[0]) as one, served(engines[1]) as other:
        fleet = Fleet(SECRET, no_wake)
        both = (replica(one, engines[0], "one", 32), replica(other, engines[1], "other", 32))
        await fleet.update(Snapshot(1, replicas=both))
        for each in engines:
            each.answering.clear()
        engine = fleet.engine("app", (A,))
        going = [engine.generate([1], WHOLE, str(n), A.artifact_id) for n in range(LOADING_COSTS)]
        for deltas in going:
            await anext(deltas)
        assert sorted(len(each.log) for each in engines) == [0, 1]
        for deltas in going:
            await deltas.aclose()
        await fleet.close()


async def test_an_answer_goes_on_at_another_replica_with_its_adapter():
    engines = [AdapterEngine(), AdapterEngine()]
    async with served(engines[0]) as one, served(engines[1]) as other:
        fleet = Fleet(SECRET, no_wake)
        both = (replica(one, engines[0], "one", 32), replica(other, engines[1], "other", 32))
        await fleet.update(Snapshot(1, replicas=both))
        first, second = engines
        first.answering.clear()
        deltas = fleet.engine("app", (A,)).generate([1], WHOLE, "a", A.artifact_id)
        begun = await anext(deltas)
        await one.close()
        await said(deltas)
        prompt, used = second.asked[0]
        assert (prompt, used) == ([1, *begun.token_ids], A.artifact_id)
        assert second.log == [LOAD_A]
        await fleet.close()


async def test_an_adapter_that_the_version_does_not_have_is_refused_here():
    with pytest.raises(ServingError, match="app has no adapter adapter-b1"):
        await anext(Fleet(SECRET, no_wake).engine("app", (A,)).generate([1], WHOLE, "b", B.artifact_id))

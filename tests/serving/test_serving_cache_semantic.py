"""Answers to questions that say the same in other words."""

import asyncio
import time

import numpy as np
import pytest
from tests.serving.word_vectors import embed

from heliostat.errors import ConfigError, ServingError
from heliostat.serving.cache.answers import CachedAnswer
from heliostat.serving.cache.config import CacheConfig
from heliostat.serving.cache.question import Place, Question
from heliostat.serving.cache.response_cache import ResponseCache

pytestmark = pytest.mark.anyio
PLACE = Place("acme", "chat", "v1")
CAPITAL = "What is the capital of France?"


class CountingEmbedder:
    def __init__(self) -> None:
        self.texts: list[str] = []

    async def __call__(self, texts: list[str]) -> np.ndarray:
        self.texts += texts
        return await embed(texts)


def ask(*turns: str, place=PLACE):
    roles = ["user", "assistant"] * len(turns)
    return Question.of(place, list(zip(roles, turns, strict=False)), {"temperature": 0})


def answer(text="Paris."):
    return CachedAnswer(text, "stop", 5, 2)


def cache_of(embedder=embed, clock=time.monotonic, threshold=0.8, ttl_seconds=3600.0, **semantic):
    config = CacheConfig.model_validate(
        {"semantic": {"enabled": True, "threshold": threshold, **semantic}, "ttl_seconds": ttl_seconds}
    )
    return ResponseCache(config, embedder, clock)


async def kind_of(cache, question):
    hit = await cache.find(question)
    return hit and hit.kind


async def test_the_same_question_in_other_words_is_answered():
    cache = cache_of()
    await cache.keep(ask("In Paris, where is the old museum?"), answer("There."))
    hit = await cache.find(ask("where is the old museum in Paris"))
    assert (hit.kind, hit.answer.text, cache.counts.hits["semantic"]) == ("semantic", "There.", 1)
    assert 0.8 <= hit.similarity <= 1


async def test_a_question_without_an_equal_costs_no_vector():
    embedder = CountingEmbedder()
    cache = cache_of(embedder)
    await cache.keep(ask(CAPITAL), answer())
    embedder.texts.clear()
    assert await kind_of(cache, ask("What is the capital of Spain?")) is None
    assert await kind_of(cache, ask("Please tell me the capital of France")) == "semantic"
    assert embedder.texts == []


async def test_a_vector_that_is_too_far_is_a_miss():
    cache = cache_of(threshold=1)
    await cache.keep(ask("In Paris, where is the old museum?"), answer())
    assert await kind_of(cache, ask("where is an old museum in Paris")) is None
    assert (cache.counts.refused_by_vector, cache.counts.misses) == (1, 1)


async def test_in_a_conversation_only_the_last_words_may_differ():
    cache = cache_of()
    await cache.keep(ask("I am in France.", "Good.", CAPITAL), answer())
    assert await kind_of(cache, ask("I am in France.", "Good.", "the capital of france")) == "semantic"
    assert await kind_of(cache, ask("I am in France", "Good.", "tell me the capital of france")) is None
    assert await kind_of(cache, ask("tell me the capital of france")) is None
    await cache.keep(ask("Hi.", "The capital"), answer())
    assert await kind_of(cache, ask("Hi.", "the capital")) is None, "the assistant's words are no question"


async def test_other_scopes_see_nothing():
    cache = cache_of()
    await cache.keep(ask(CAPITAL), answer())
    for place in (Place("b", "chat", "v1"), Place("acme", "chat", "v2"), Place("acme", "chat", "v1", "lora")):
        assert await kind_of(cache, ask("tell me the capital of france", place=place)) is None


async def test_an_answer_lives_for_its_time_and_goes_when_purged():
    now = [0.0]
    cache = cache_of(clock=lambda: now[0], ttl_seconds=10)
    await cache.keep(ask(CAPITAL), answer())
    now[0] = 10
    assert await kind_of(cache, ask("tell me the capital of france")) is None
    await cache.keep(ask(CAPITAL), answer())
    assert await cache.purge("acme", "chat") == 2, "the exact one as well"
    assert await kind_of(cache, ask("tell me the capital of france")) is None
    assert cache.num_bytes == 0


async def test_the_number_of_questions_is_bounded_and_a_newer_answer_replaces_the_older():
    cache = cache_of(max_entries=3)
    for number in range(10):
        await cache.keep(ask(f"Where is town {number}?"), answer(str(number)))
    assert cache.num_entries["semantic"] == 3
    await cache.keep(ask("Where is town 9"), answer("new"))
    assert cache.num_entries["semantic"] == 3
    assert (await cache.find(ask("please where is town 9"))).answer.text == "new"


async def test_long_questions_are_looked_up_exactly_only():
    cache = cache_of(max_chars=20)
    await cache.keep(ask(CAPITAL), answer())
    assert cache.num_entries == {"exact": 1, "semantic": 0}


@pytest.mark.parametrize("fault", ["slow", "broken", "nan"])
async def test_an_embedder_that_fails_is_a_miss(fault):
    async def failing(texts):
        if fault == "slow":
            await asyncio.sleep(5)
        if fault == "broken":
            raise ServingError("gone")
        return np.full((len(texts), 4), np.nan, np.float32)

    cache = cache_of(timeout_seconds=0.02)
    await cache.keep(ask("In Paris, where is the museum?"), answer())
    cache._embed = failing
    assert await kind_of(cache, ask("where is the museum in Paris")) is None
    await cache.keep(ask("Is it old?"), answer())
    assert await kind_of(cache, ask("please, is it old")) in ("semantic" if fault == "nan" else None, None)
    assert cache.counts.embedding_failures == (0 if fault == "nan" else 2)


async def test_a_crowd_at_the_embedder_does_not_wait():
    release = asyncio.Event()

    async def waiting(texts):
        await release.wait()
        return await embed(texts)

    cache = cache_of()
    await cache.keep(ask("In Paris, where is the museum?"), answer())
    cache._embed = waiting
    crowd = [asyncio.create_task(kind_of(cache, ask("where is the museum in Paris"))) for _ in range(20)]
    await asyncio.sleep(0)
    release.set()
    kinds = await asyncio.gather(*crowd)
    assert (kinds.count("semantic"), kinds.count(None)) == (8, 12)


async def test_a_purge_takes_also_what_is_on_its_way():
    asked, release = asyncio.Event(), asyncio.Event()

    async def waiting(texts):
        asked.set()
        await release.wait()
        return await embed(texts)

    cache = cache_of()
    await cache.keep(ask("In Paris, where is the museum?"), answer())
    cache._embed = waiting
    finding = asyncio.create_task(cache.find(ask("where is the museum in Paris")))
    keeping = asyncio.create_task(cache.keep(ask("Is it old?"), answer()))
    await asked.wait()
    await cache.purge()
    release.set()
    assert await finding is None
    await keeping
    assert cache.num_entries == {"exact": 0, "semantic": 0}


def test_a_semantic_cache_needs_an_embedder():
    with pytest.raises(ConfigError, match=r"cache\.semantic\.enabled needs an embedder"):
        ResponseCache(CacheConfig.model_validate({"semantic": {"enabled": True}}))

"""Answers to the very same question."""

import asyncio
import dataclasses
import statistics
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serving.word_vectors import embed

from heliostat.serving.cache.answers import CachedAnswer, Hit
from heliostat.serving.cache.config import CacheConfig
from heliostat.serving.cache.question import Place, Question
from heliostat.serving.cache.response_cache import ResponseCache

pytestmark = pytest.mark.anyio
PLACE = Place("acme", "chat", "v1")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def ask(text="What is light?", place=PLACE, temperature=0.0, **more):
    return Question.of(place, [("user", text)], {"temperature": temperature}, **more)


def answer(text="Waves."):
    return CachedAnswer(text, "stop", 5, 2)


def cache_of(clock=time.monotonic, **config):
    return ResponseCache(CacheConfig.model_validate(config), embed, clock)


async def test_what_was_kept_is_found_and_counted():
    cache = cache_of()
    assert await cache.find(ask()) is None
    await cache.keep(ask(), answer())
    assert await cache.find(ask()) == Hit(answer=(await cache.find(ask())).answer, kind="exact")
    assert (cache.counts.hits["exact"], cache.counts.misses, cache.counts.fills) == (2, 1, 1)


async def test_only_deterministic_answers_are_kept_unless_told_otherwise():
    cache = cache_of()
    await cache.keep(ask(temperature=0.7), answer())
    assert await cache.find(ask(temperature=0.7)) is None
    assert (cache.counts.uncacheable, cache.num_entries["exact"]) == (1, 0)
    cache = cache_of(only_deterministic=False)
    await cache.keep(ask(temperature=0.7), answer())
    assert await cache.find(ask(temperature=0.7)) is not None
    assert await cache.find(ask(temperature=0.8)) is None


async def test_the_least_recently_used_goes_first():
    cache = cache_of(exact={"max_entries": 2})
    for text in ("a", "b"):
        await cache.keep(ask(text), answer())
    await cache.find(ask("a"))
    await cache.keep(ask("c"), answer())
    assert [await cache.find(ask(text)) is not None for text in "abc"] == [True, False, True]
    assert cache.counts.evictions == 1


async def test_memory_is_bounded_in_bytes_and_a_giant_is_not_kept():
    cache = cache_of(exact={"max_bytes": 2**20})
    for number in range(50):
        await cache.keep(ask(str(number)), answer("x" * 100_000))
    assert cache.num_entries["exact"] == 10
    assert cache.num_bytes <= 2**20
    await cache.keep(ask("49"), answer("x" * 2**21))
    assert await cache.find(ask("49")) is None


async def test_an_answer_lives_for_its_time():
    clock = Clock()
    cache = cache_of(clock, ttl_seconds=10)
    await cache.keep(ask(), answer())
    clock.now += 9.9
    assert await cache.find(ask()) is not None
    clock.now += 0.1
    assert await cache.find(ask()) is None
    assert (cache.counts.expired, cache.num_bytes) == (1, 0)


async def test_a_purge_takes_what_it_names_and_nothing_else():
    cache = cache_of()
    places = [Place(tenant, model, "v1") for tenant in "ab" for model in "xy"]
    for place in places:
        await cache.keep(ask(place=place), answer())
    assert await cache.purge(tenant="a", model="x") == 1
    assert await cache.purge(model="y") == 2
    assert [await cache.find(ask(place=place)) is not None for place in places] == [False, False, True, False]
    assert await cache.purge() == 1
    assert cache.num_bytes == 0


async def test_a_conversation_without_end_is_not_cached():
    cache = cache_of(max_question_chars=100)
    await cache.keep(ask("x" * 101), answer())
    assert await cache.find(ask("x" * 101)) is None
    assert cache.num_entries["exact"] == 0


few = st.sampled_from(["a", "b"])
TEXTS = ("What is the light?", "what is the light", "Tell me the light", "What is the dark?", "a", "b")
questions = st.builds(
    lambda place, system, filters, limit, turns: Question.of(
        Place(*place), turns, {"temperature": 0, "max_tokens": limit}, system, filters
    ),
    st.tuples(few, few, few, st.none() | few), few, few, st.sampled_from([1, 2]),
    st.tuples(
        st.lists(st.tuples(st.sampled_from(["user", "assistant"]), few), max_size=1),
        st.tuples(st.sampled_from(["user", "tool"]), st.sampled_from(TEXTS)),
    ).map(lambda parts: [*parts[0], parts[1]]),
)  # fmt: skip


@given(st.lists(questions, min_size=2, max_size=12, unique_by=lambda question: question.key))
def test_no_answer_crosses_from_one_scope_to_another(asked):
    async def check() -> None:
        cache = cache_of(semantic={"enabled": True, "threshold": 0.8})
        for number, question in enumerate(asked[1:], 1):
            await cache.keep(question, answer(str(number)))
        for number, question in enumerate(asked):
            hit = await cache.find(question)
            if hit is None:
                assert number == 0
                continue
            source = asked[int(hit.answer.text)]
            if hit.kind == "exact":
                assert source is question
            else:
                last = question.turns[-1]
                assert last.role == source.turns[-1].role == "user"
                assert dataclasses.replace(source, turns=(*source.turns[:-1], last)) == question

    asyncio.run(check())


async def test_finding_is_quick_and_memory_does_not_grow():
    cache = cache_of()
    long = [("user", "What is light? " * 100), ("assistant", "It is. " * 100), ("user", "And what else?")]
    asked = [Question.of(PLACE, [*long, ("user", str(number))], {"temperature": 0}) for number in range(1000)]
    for question in asked:
        await cache.keep(question, answer())
    full = cache.num_bytes
    times = []
    for number in range(1000):
        question = Question.of(PLACE, [*long, ("user", str(number))], {"temperature": 0})
        start = time.perf_counter()
        assert await cache.find(question) is not None
        times.append(time.perf_counter() - start)
    for number in range(1000):
        await cache.keep(ask(f"new {number}"), answer())
    assert statistics.median(times) < 0.0002
    assert cache.num_bytes == full
    assert cache.num_entries["exact"] == 1000

"""The cache in front of the engines: the same question, then one that says the same.

It is filled by `keep` only, which the gateway calls behind the review of outputs, so that what a filter
blocked is never in it. Everything runs on one event loop; nothing here takes a millisecond of it.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from heliostat.errors import ConfigError, HeliostatError
from heliostat.models.embedding_graph import AsyncEmbed
from heliostat.serving.cache.answers import CacheCounts, CachedAnswer, Hit
from heliostat.serving.cache.config import CacheConfig
from heliostat.serving.cache.exact import ExactStore
from heliostat.serving.cache.meaning import Meaning, read_meaning
from heliostat.serving.cache.question import Question
from heliostat.serving.cache.semantic import SemanticStore

if TYPE_CHECKING:
    from heliostat.serving.cache.redis_store import RedisStore

MOST_AT_ONCE = 3
"""Kept questions that get their vectors with a new one's: an embedder takes four texts a turn."""
MAX_EMBEDDING = 8
"""With so many questions at the embedder, one more would wait longer than a miss is worth."""


class ResponseCache:
    """Answers by question, scoped by all that an answer depends on."""

    def __init__(
        self,
        config: CacheConfig,
        embed: AsyncEmbed | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`embed` is for the semantic cache, and makes vectors of length 1.

        Raises:
            ConfigError: it is needed and not given, or Redis's password is not set.
        """
        if config.semantic.enabled and embed is None:
            raise ConfigError("cache.semantic.enabled needs an embedder; give one or switch it off")
        self.counts = CacheCounts()
        self._config = config
        self._embed = embed if config.semantic.enabled else None
        self._exact = ExactStore(config.exact, config.ttl_seconds, self.counts, clock)
        self._semantic = SemanticStore(config.semantic, config.ttl_seconds, self.counts, clock)
        self._redis = _open_redis(config, self.counts)
        self._num_embedding = 0
        self._num_purges = 0  # what was begun before one must not bring back what it took

    @property
    def num_entries(self) -> dict[str, int]:
        """Answers in memory, by store."""
        return {"exact": len(self._exact), "semantic": len(self._semantic)}

    @property
    def num_bytes(self) -> int:
        """The memory of those answers, roughly."""
        return self._exact.bytes + self._semantic.bytes

    async def find(self, question: Question) -> Hit | None:
        """A kept answer; None when the engine has to be asked."""
        if not self._cacheable(question):
            self.counts.uncacheable += 1
            return None
        hit = await self._find(question)
        if hit is None:
            self.counts.misses += 1
        else:
            self.counts.hits[hit.kind] += 1
        return hit

    async def keep(self, question: Question, answer: CachedAnswer) -> None:
        """Remember a finished answer that passed all filters, if such questions are kept."""
        if not self._cacheable(question):
            return
        self.counts.fills += 1
        if self._config.exact.enabled:
            self._exact.keep(question, answer)
        meaning = self._meaning_of(question)
        if meaning is not None:
            self._semantic.keep(question, meaning, answer)
        if self._redis is not None:
            await self._redis.keep(question, answer)

    async def purge(self, tenant: str | None = None, model: str | None = None) -> int:
        """Forget what a tenant asked, what a model answered, or what one asked the other; the number of
        answers. Other gateways' own memories are theirs to purge.

        Raises:
            ServingError: Redis does not answer; this process has forgotten them all the same.
        """
        self._num_purges += 1
        num_gone = self._exact.purge(tenant, model) + self._semantic.purge(tenant, model)
        self.counts.purged += num_gone
        if self._redis is not None:
            num_gone += await self._redis.purge(tenant, model)
        return num_gone

    async def close(self) -> None:
        """Let go of the connections to Redis."""
        if self._redis is not None:
            await self._redis.close()

    def _cacheable(self, question: Question) -> bool:
        if self._config.only_deterministic and not question.deterministic:
            return False
        return question.num_chars <= self._config.max_question_chars

    async def _find(self, question: Question) -> Hit | None:
        if self._config.exact.enabled:
            answer = self._exact.find(question)
            if answer is not None:
                return Hit(answer, "exact")
        if self._redis is not None:
            purges = self._num_purges
            answer = await self._redis.find(question)
            if answer is not None and purges == self._num_purges:
                self._exact.keep(question, answer, max(0.0, time.time() - answer.created))
                return Hit(answer, "redis")
        return await self._find_similar(question)

    async def _find_similar(self, question: Question) -> Hit | None:
        meaning = self._meaning_of(question)
        candidates = self._semantic.candidates(question, meaning) if meaning else []
        if meaning is None or not candidates:
            return None
        same = next((entry for entry in candidates if entry.meaning.plain == meaning.plain), None)
        if same is not None:
            self._semantic.touch(same)
            return Hit(same.answer, "semantic")
        without = [entry for entry in candidates if entry.vector is None][-MOST_AT_ONCE:]
        vectors = await self._vectors_of([meaning, *(entry.meaning for entry in without)])
        for entry, made in zip(without, vectors[1:], strict=False):
            entry.vector = made
        vector = vectors[0] if vectors else None
        candidates = self._semantic.candidates(question, meaning)  # some may have gone meanwhile
        near = self._semantic.nearest(candidates, vector) if vector is not None and candidates else None
        if near is None:
            return None
        self._semantic.touch(near[0])
        return Hit(near[0].answer, "semantic", min(near[1], 1.0))

    def _meaning_of(self, question: Question) -> Meaning | None:
        text = question.last_user_text
        if self._embed is None or text is None or len(text) > self._config.semantic.max_chars:
            return None
        return read_meaning(text)

    async def _vectors_of(self, meanings: list[Meaning]) -> list[np.ndarray]:
        """The questions' vectors; none when the embedder is too busy or fails."""
        assert self._embed is not None
        if self._num_embedding >= MAX_EMBEDDING:
            self.counts.embedding_failures += 1
            return []
        self._num_embedding += 1
        try:
            async with asyncio.timeout(self._config.semantic.timeout_seconds):
                vectors = await self._embed([meaning.plain for meaning in meanings])
        except (HeliostatError, RuntimeError, TimeoutError):
            self.counts.embedding_failures += 1
            return []
        finally:
            self._num_embedding -= 1
        return [np.asarray(vector, np.float32) for vector in vectors]


def _open_redis(config: CacheConfig, counts: CacheCounts) -> "RedisStore | None":
    if config.redis_url is None:
        return None
    from heliostat.serving.cache.redis_store import RedisStore

    return RedisStore(config, counts)

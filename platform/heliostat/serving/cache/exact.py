"""Answers by the key of their question: the least recently used go when there are too many."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from heliostat.serving.cache.answers import CacheCounts, CachedAnswer
from heliostat.serving.cache.config import ExactCacheConfig
from heliostat.serving.cache.question import Question


@dataclass(frozen=True, slots=True)
class _Entry:
    answer: CachedAnswer
    expires: float
    tenant: str
    model: str


class ExactStore:
    """At most so many answers and so many bytes, each for at most `ttl_seconds`."""

    def __init__(
        self,
        config: ExactCacheConfig,
        ttl_seconds: float,
        counts: CacheCounts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._ttl_seconds = ttl_seconds
        self._counts = counts
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, question: Question) -> CachedAnswer | None:
        """The answer to this very question."""
        entry = self._entries.get(question.key)
        if entry is None:
            return None
        if entry.expires <= self._clock():
            self._remove(question.key)
            self._counts.expired += 1
            return None
        self._entries.move_to_end(question.key)
        return entry.answer

    def keep(self, question: Question, answer: CachedAnswer, age_seconds: float = 0) -> None:
        """Remember an answer that is `age_seconds` old, in the place of an older one."""
        self._remove(question.key)
        if answer.bytes > self._config.max_bytes or age_seconds >= self._ttl_seconds:
            return
        expires = self._clock() + self._ttl_seconds - age_seconds
        self._entries[question.key] = _Entry(answer, expires, question.tenant, question.model)
        self.bytes += answer.bytes
        while len(self._entries) > self._config.max_entries or self.bytes > self._config.max_bytes:
            self._remove(next(iter(self._entries)))
            self._counts.evictions += 1

    def purge(self, tenant: str | None, model: str | None) -> int:
        """Forget the answers of a tenant, of a model, or of one at the other; of all with None for both."""
        gone = [
            key
            for key, entry in self._entries.items()
            if tenant in (None, entry.tenant) and model in (None, entry.model)
        ]
        for key in gone:
            self._remove(key)
        return len(gone)

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.answer.bytes

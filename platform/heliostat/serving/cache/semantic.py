"""Answers to questions that say the same: equal in every word of weight, and near by vector.

Both are asked for, and the words come first, as a table finds them at once: a question without an equal costs
no vector. An index over vectors would only find candidates for the words to refuse: with all-MiniLM, "from 3
to 5" lies at 0.996 of "from 5 to 3", and most true paraphrases in other words stay below the threshold of
0.95. The table's key begins with the scope, so that a look-up cannot even see another's entries.
Knows no embedder: vectors are given.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from heliostat.serving.cache.answers import CacheCounts, CachedAnswer
from heliostat.serving.cache.config import SemanticCacheConfig
from heliostat.serving.cache.meaning import Meaning, difference
from heliostat.serving.cache.question import Question

VECTOR_BYTES = 2048
_Group = tuple[str, tuple[str, ...]]
"""A scope, and the words of a question in alphabetical order."""


@dataclass(slots=True)
class SemanticEntry:
    """A kept question with its answer, and its vector of length 1 once another question needed it."""

    answer: CachedAnswer
    meaning: Meaning
    group: _Group
    tenant: str
    model: str
    expires: float
    vector: np.ndarray | None = None

    @property
    def bytes(self) -> int:
        """The memory that it takes, roughly, with its vector."""
        return self.answer.bytes + VECTOR_BYTES + self.meaning.bytes


class SemanticStore:
    """At most so many questions and answers, least recently used first out."""

    def __init__(
        self,
        config: SemanticCacheConfig,
        ttl_seconds: float,
        counts: CacheCounts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._ttl_seconds = ttl_seconds
        self._counts = counts
        self._clock = clock
        self._entries: OrderedDict[int, SemanticEntry] = OrderedDict()
        self._groups: dict[_Group, list[int]] = {}
        self._next = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def candidates(self, question: Question, meaning: Meaning) -> list[SemanticEntry]:
        """The kept questions of the same scope that have the same words of weight."""
        return [
            self._entries[number]
            for number in self._live(_group_of(question, meaning))
            if difference(meaning, self._entries[number].meaning) is None
        ]

    def nearest(
        self, candidates: list[SemanticEntry], vector: np.ndarray
    ) -> tuple[SemanticEntry, float] | None:
        """The candidate nearest to a vector with its cosine, if that reaches the threshold."""
        best: tuple[SemanticEntry, float] | None = None
        for entry in candidates:
            if entry.vector is not None and entry.vector.shape == vector.shape:
                similarity = float(entry.vector @ vector)
                if similarity >= max(self._config.threshold, best[1] if best else 0):  # NaN is no hit
                    best = (entry, similarity)
        if best is None:
            self._counts.refused_by_vector += 1
        return best

    def touch(self, found: SemanticEntry) -> None:
        """Note that an entry was of use."""
        for number in self._groups.get(found.group, []):
            if self._entries[number] is found:
                self._entries.move_to_end(number)

    def keep(self, question: Question, meaning: Meaning, answer: CachedAnswer) -> None:
        """Remember an answer; the same question's older one in the same scope gives way.

        No vector is made for it: most questions never meet one of the same words.
        """
        group = _group_of(question, meaning)
        expires = self._clock() + self._ttl_seconds
        entry = SemanticEntry(answer, meaning, group, question.tenant, question.model, expires)
        for number in list(self._live(group)):
            if self._entries[number].meaning.plain == meaning.plain:
                self._remove(number)
        if entry.bytes > self._config.max_bytes:
            return
        self._next += 1
        self._entries[self._next] = entry
        self._groups.setdefault(group, []).append(self._next)
        self.bytes += entry.bytes
        while len(self._entries) > self._config.max_entries or self.bytes > self._config.max_bytes:
            self._remove(next(iter(self._entries)))
            self._counts.evictions += 1

    def purge(self, tenant: str | None, model: str | None) -> int:
        """Forget the answers of a tenant, of a model, or of one at the other; of all with None for both."""
        gone = [
            number
            for number, entry in self._entries.items()
            if tenant in (None, entry.tenant) and model in (None, entry.model)
        ]
        for number in gone:
            self._remove(number)
        return len(gone)

    def _live(self, group: _Group) -> list[int]:
        """The group's entries, without those whose time is over."""
        now = self._clock()
        for number in [each for each in self._groups.get(group, []) if self._entries[each].expires <= now]:
            self._remove(number)
            self._counts.expired += 1
        return self._groups.get(group, [])

    def _remove(self, number: int) -> None:
        entry = self._entries.pop(number)
        members = self._groups[entry.group]
        members.remove(number)
        if not members:
            del self._groups[entry.group]
        self.bytes -= entry.bytes


def _group_of(question: Question, meaning: Meaning) -> _Group:
    return question.history_scope, tuple(sorted(meaning.words))

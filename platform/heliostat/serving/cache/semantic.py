"""Answers to questions that say the same: equal in every word of weight, and near by vector.

Both are asked for, and the words come first, as a table finds them at once: a question without an equal costs
no vector. An index over vectors would only find candidates for the words to refuse: with all-MiniLM, "from 3
to 5" lies at 0.996 of "from 5 to 3", and most true paraphrases in other words stay below the threshold of
0.95. The table's key begins with the scope, so that a look-up cannot even see another's entries.
Knows no embedder: vectors are given.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from heliostat.serving.cache.answers import CacheCounts, CachedAnswer
from heliostat.serving.cache.config import SemanticCacheConfig
from heliostat.serving.cache.kept import KeptEntries, KeptEntry
from heliostat.serving.cache.meaning import Meaning, difference
from heliostat.serving.cache.question import Question

VECTOR_BYTES = 2048
_Group = tuple[str, tuple[str, ...]]
"""A scope, and the words of a question in alphabetical order."""


@dataclass(slots=True)
class SemanticEntry(KeptEntry):
    """A kept question with its answer, and its vector of length 1 once another question needed it."""

    number: int
    meaning: Meaning
    group: _Group
    vector: np.ndarray | None = None

    @property
    def bytes(self) -> int:
        """The memory that it takes, roughly, with its vector."""
        return self.answer.bytes + VECTOR_BYTES + self.meaning.bytes


class SemanticStore(KeptEntries[int, SemanticEntry]):
    """Questions and their answers, found by their words."""

    def __init__(
        self,
        config: SemanticCacheConfig,
        ttl_seconds: float,
        counts: CacheCounts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(config, ttl_seconds, counts, clock)
        self._threshold = config.threshold
        self._groups: dict[_Group, list[int]] = {}
        self._next = 0

    def candidates(self, question: Question, meaning: Meaning) -> list[SemanticEntry]:
        """The kept questions of the same scope that have the same words of weight."""
        members = self._members(_group_of(question, meaning))
        return [entry for entry in members if difference(meaning, entry.meaning) is None]

    def nearest(
        self, candidates: list[SemanticEntry], vector: np.ndarray
    ) -> tuple[SemanticEntry, float] | None:
        """The candidate nearest to a vector with its cosine, if that reaches the threshold."""
        best: tuple[SemanticEntry, float] | None = None
        for entry in candidates:
            if entry.vector is not None and entry.vector.shape == vector.shape:
                similarity = float(entry.vector @ vector)
                if similarity >= max(self._threshold, best[1] if best else 0):  # NaN is no hit
                    best = (entry, similarity)
        if best is None:
            self._counts.refused_by_vector += 1
        return best

    def touch(self, found: SemanticEntry) -> None:
        """Note that an entry was of use."""
        if found.number in self._entries:
            self._entries.move_to_end(found.number)

    def keep(self, question: Question, meaning: Meaning, answer: CachedAnswer) -> None:
        """Remember an answer; the same question's older one in the same scope gives way.

        No vector is made for it: most questions never meet one of the same words.
        """
        group = _group_of(question, meaning)
        for entry in self._members(group):
            if entry.meaning.plain == meaning.plain:
                self._remove(entry.number)
        self._next += 1
        expires = self._clock() + self._ttl_seconds
        whose = (question.tenant, question.model)
        self._put(self._next, SemanticEntry(answer, expires, *whose, self._next, meaning, group))
        if self._next in self._entries:
            self._groups.setdefault(group, []).append(self._next)

    def _members(self, group: _Group) -> list[SemanticEntry]:
        """The group's entries, without those whose time is over."""
        found = [self._live(number) for number in list(self._groups.get(group, ()))]
        return [entry for entry in found if entry is not None]

    def _remove(self, key: int) -> SemanticEntry | None:
        entry = super()._remove(key)
        if entry is not None:
            members = self._groups[entry.group]
            members.remove(key)
            if not members:
                del self._groups[entry.group]
        return entry


def _group_of(question: Question, meaning: Meaning) -> _Group:
    return question.history_scope, tuple(sorted(meaning.words))

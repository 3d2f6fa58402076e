"""What both stores in memory do: at most so many answers and so many bytes, each for a while, and the least
recently used go first.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from heliostat.serving.cache.answers import CacheCounts, CachedAnswer
from heliostat.serving.cache.config import ExactCacheConfig, SemanticCacheConfig


@dataclass(slots=True)
class KeptEntry:
    """An answer, until when it counts, and whose it is."""

    answer: CachedAnswer
    expires: float
    tenant: str
    model: str

    @property
    def bytes(self) -> int:
        """The memory that it takes, roughly."""
        return self.answer.bytes


Key = TypeVar("Key", bound=Hashable)
Entry = TypeVar("Entry", bound=KeptEntry)


class KeptEntries(Generic[Key, Entry]):
    """Entries by key, the most recently used last."""

    def __init__(
        self,
        config: ExactCacheConfig | SemanticCacheConfig,
        ttl_seconds: float,
        counts: CacheCounts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """They are kept for at most `ttl_seconds`."""
        self._max_entries = config.max_entries
        self._max_bytes = config.max_bytes
        self._ttl_seconds = ttl_seconds
        self._counts = counts
        self._clock = clock
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

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

    def _live(self, key: Key) -> Entry | None:
        """An entry whose time is not over."""
        entry = self._entries.get(key)
        if entry is not None and entry.expires <= self._clock():
            self._remove(key)
            self._counts.expired += 1
            return None
        return entry

    def _put(self, key: Key, entry: Entry) -> None:
        """Add an entry, unless it takes all the memory alone; others make room."""
        if entry.bytes > self._max_bytes:
            return
        self._entries[key] = entry
        self.bytes += entry.bytes
        while len(self._entries) > self._max_entries or self.bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))
            self._counts.evictions += 1

    def _remove(self, key: Key) -> Entry | None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.bytes
        return entry

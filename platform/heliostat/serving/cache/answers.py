"""What is kept for a question, what a look-up gives, and what is counted."""

import sys
import time
from dataclasses import dataclass, field
from typing import Literal

HitKind = Literal["exact", "redis", "semantic"]
ENTRY_BYTES = 1200
"""An entry's keys, numbers and places in tables, roughly."""


@dataclass(frozen=True)
class CachedAnswer:
    """A finished answer that has passed the review of outputs; `created` is in seconds since 1970."""

    text: str
    finish_reason: Literal["stop", "length", "tool_calls"]
    prompt_tokens: int
    completion_tokens: int
    created: float = field(default_factory=time.time)

    @property
    def bytes(self) -> int:
        """The memory that it takes in a store."""
        return sys.getsizeof(self.text) + ENTRY_BYTES


@dataclass(frozen=True)
class Hit:
    """An answer found; `similarity` is the cosine of the two questions, 1 where they are the same."""

    answer: CachedAnswer
    kind: HitKind
    similarity: float = 1.0


@dataclass
class CacheCounts:
    """What a cache has done since its start; a question is one hit or one miss.

    `refused_by_vector` counts questions of the same words that were not near enough; `uncacheable` those that
    were not looked up (drawn at random, or too long).
    """

    hits: dict[HitKind, int] = field(default_factory=lambda: {"exact": 0, "redis": 0, "semantic": 0})
    misses: int = 0
    uncacheable: int = 0
    fills: int = 0
    evictions: int = 0
    expired: int = 0
    purged: int = 0
    refused_by_vector: int = 0
    redis_failures: int = 0
    redis_invalid: int = 0
    embedding_failures: int = 0

"""Figures about a whole dataset: topic consistency, and coverage, consistency and cleanliness ("3C").

Pure functions over what the steps found or the index knows; nothing here reads a document's files.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

TARGET_TOPIC_CONSISTENCY = 0.8
TARGET_COVERAGE = 0.95
MAX_LENGTH_DEVIATION = 0.15
MAX_NOISE = 0.003


@dataclass(frozen=True)
class Figure:
    """A figure beside what it should be: at least, or at most, `target`. `value` is None without data."""

    name: str
    value: float | None
    bound: Literal["at least", "at most"]
    target: float

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without data."""
        if self.value is None:
            return None
        return self.value >= self.target if self.bound == "at least" else self.value <= self.target


def topic_consistency(similarities: Sequence[float], threshold: float = 0.8) -> Figure:
    """The share of documents whose similarity to the topic is `threshold` or more."""
    share = sum(similarity >= threshold for similarity in similarities) / max(len(similarities), 1)
    return Figure(
        "topic_consistency", share if len(similarities) else None, "at least", TARGET_TOPIC_CONSISTENCY
    )


def coverage(nodes: Collection[str], mentioned: Collection[str]) -> Figure:
    """The share of the domain's `nodes` (terms, entities of a knowledge graph) that the documents mention."""
    wanted = set(nodes)
    share = len(wanted.intersection(mentioned)) / len(wanted) if wanted else None
    return Figure("coverage", share, "at least", TARGET_COVERAGE)


def consistency(lengths: Sequence[int]) -> Figure:
    """How much lengths scatter: their standard deviation over their mean (that of the population)."""
    if not lengths or not any(lengths):
        return Figure("length_deviation", None, "at most", MAX_LENGTH_DEVIATION)
    mean = sum(lengths) / len(lengths)
    deviation = math.sqrt(math.fsum((length - mean) ** 2 for length in lengths) / len(lengths))
    return Figure("length_deviation", deviation / mean, "at most", MAX_LENGTH_DEVIATION)


def cleanliness(num_noisy: int, num_documents: int) -> Figure:
    """The share of documents that are noise: those that the quality steps would drop."""
    return Figure("noise", num_noisy / num_documents if num_documents else None, "at most", MAX_NOISE)

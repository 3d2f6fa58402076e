"""What weights can compute, whatever they lie in: the interface behind a local model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from heliostat.evaluation.windows import Pair
from heliostat.models.perplexity import DocumentLoss
from heliostat.tokenized import PackedSequence

LONGEST = 2048  # of a model that does not say how much it reads


@dataclass(frozen=True)
class Written:
    """What was generated, end token included, and the seconds to its first token and in all."""

    ids: list[int]
    first_token_seconds: float
    seconds: float


Stop = Callable[[list[int]], bool]
"""Whether an answer of these ids is to end."""


class Engine(Protocol):
    """Weights that compute."""

    max_length: int
    end_ids: tuple[int, ...]

    def score(self, pairs: list[Pair]) -> list[tuple[float, bool]]:
        """Of each continuation its log-likelihood in nats, and whether it is what greedy search writes."""

    def write(self, prompts: list[list[int]], max_new_tokens: int, stop: Stop) -> list[Written]:
        """Continue each prompt greedily."""

    def read(self, sequences: list[PackedSequence]) -> list[list[DocumentLoss]]:
        """The losses of each packed row's documents."""

"""What is asked of a model, and what it answers: plain values that travel to tasks and into files."""

from dataclasses import dataclass
from typing import Any, Protocol

from heliostat.evaluation.task_file import Prompt
from heliostat.tokenized import PackedSequence

Answer = dict[str, Any]
"""JSON. Of Choose: `log_likelihoods` (nats) and `greedy`; of Continue: `text`, `tokens`, `seconds`,
`first_token_seconds`, `cpu_seconds`, `memory_bytes`, `kwh`; of Read: `loss` and `tokens`; of ReadRow:
`documents`, each [id, loss, labels]."""


@dataclass(frozen=True)
class Choose:
    """How likely is each continuation of a prompt? Texts as they are joined, with their space in front."""

    prompt: Prompt
    continuations: tuple[str, ...]


@dataclass(frozen=True)
class Continue:
    """Write on greedily until one of the texts comes, or the end token, or so many tokens are written."""

    prompt: Prompt
    until: tuple[str, ...]
    max_new_tokens: int
    metered: bool = False
    """Whether electricity and memory are measured meanwhile."""
    tdp_watts: float = 0.0


@dataclass(frozen=True)
class Read:
    """How likely is a text as a whole? Rolling windows of `max_length` tokens, each token scored once."""

    text: str
    max_length: int | None


@dataclass(frozen=True)
class ReadRow:
    """How likely are the learned tokens of a packed row, each document by itself?"""

    row: int
    sequence: PackedSequence


Request = Choose | Continue | Read | ReadRow


@dataclass(frozen=True)
class Item:
    """One request of a suite; `id` is its own in the suite."""

    suite: str
    id: str
    request: Request

    @property
    def size(self) -> int:
        """About how long it is, in characters; batches hold what is alike."""
        request = self.request
        if isinstance(request, ReadRow):
            return 0  # packed rows stay in their order
        if isinstance(request, Read):
            return len(request.text)
        prompt = request.prompt
        return len(prompt) if isinstance(prompt, str) else sum(len(each["content"]) for each in prompt)


class Model(Protocol):
    """A model that is asked."""

    def answer(self, requests: list[Request]) -> list[Answer]:
        """The answers to requests of one kind, worked on together."""

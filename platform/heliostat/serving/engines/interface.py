"""What every engine offers: submit token ids and sampling parameters, receive token ids.

Engines know no text, no HTTP and no Ray, so that the same gateway works in front of each of them, in one
process or across a cluster. Everything here is called from one event loop, which no engine may block.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class SamplingParameters:
    """How to choose each next token.

    `temperature` 0 takes the likeliest; `top_k` 0 and `top_p` 1 keep all tokens; `seed` None draws a new one.
    Generation ends behind `max_tokens` tokens ("length"), or behind the model's end token or any of
    `stop_token_ids` ("stop"), which is the last token delivered.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop_token_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class TokenDelta:
    """Tokens generated since the last delta: one, or several when the reader was slower than the engine."""

    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class EngineStats:
    """A glance at an engine: requests it has, steps and tokens since its start, share of KV cache in use."""

    num_requests: int
    num_steps: int
    num_generated_tokens: int
    kv_cache_usage: float | None = None


class TokenSource(Protocol):
    """The part of an engine that answering a request needs."""

    def generate(
        self, prompt_ids: Sequence[int], parameters: SamplingParameters, request_id: str
    ) -> AsyncGenerator[TokenDelta]:
        """Deltas until one has a finish reason; closing the iterator early frees the request's slot.

        Raises:
            ServingError: the engine cannot go on with this request.
        """

    async def check_health(self) -> None:
        """Return when the engine is able to work.

        Raises:
            ServingError: it is gone, or made no step for too long although requests wait.
        """


class Engine(TokenSource, Protocol):
    """A loaded model that generates."""

    @property
    def max_context_tokens(self) -> int:
        """The longest prompt and answer together."""

    async def abort(self, request_id: str) -> None:
        """Stop working on a request, if there is one of that id; its stream ends without a finish reason."""

    def stats(self) -> EngineStats:
        """What the engine is doing."""

    async def close(self) -> None:
        """Let go of the model; requests under way end with an error."""

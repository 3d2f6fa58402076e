"""What every engine offers: submit token ids and sampling parameters, receive token ids.

Engines know no text, no HTTP and no Ray, so that the same gateway works in front of each of them, in one
process or across a cluster. Everything here is called from one event loop, which no engine may block.

What an engine cannot do its `Capabilities` say, so that a request for it is refused in front of the engine.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Grammar:
    """What an answer must look like: a JSON schema as JSON text, or any JSON object."""

    kind: Literal["json_schema", "json_object"]
    schema: str = ""


@dataclass(frozen=True)
class SamplingParameters:
    """How to choose each next token.

    `temperature` 0 takes the likeliest; `top_k` 0, `top_p` 1 and `min_p` 0 keep all tokens; `seed` None draws
    a new one. Penalties are OpenAI's (presence and frequency, over what was generated) and Hugging Face's
    (repetition, over the prompt as well). `logprobs` None returns none, 0 those of the tokens chosen, k also
    the k likeliest at each place. Generation ends behind `max_tokens` tokens ("length"), or behind the
    model's end token (unless `ignore_eos`) or any of `stop_token_ids` ("stop"), which is the last delivered.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    grammar: Grammar | None = None


@dataclass(frozen=True)
class TokenLogprob:
    """The natural logarithm of a chosen token's probability; `top` has (token id, logprob), likeliest first.

    Both are of the model's own distribution: raw logits, before temperature, penalties and grammar.
    """

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class TokenDelta:
    """Tokens generated since the last delta: one, or several when the reader was slower than the engine.

    `logprobs` has one entry a token where they were asked for, else none.
    """

    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do beyond temperature, top-p, top-k, seed and stop tokens."""

    max_top_logprobs: int | None = None
    """The most entries of `logprobs`; 0 gives only the chosen token's, None not even that."""
    penalties: bool = False
    """OpenAI's presence and frequency penalties."""
    repetition_penalty: bool = False
    min_p: bool = False
    logit_bias: bool = False
    grammar: bool = False
    adapters: bool = False
    embeddings: bool = False


@dataclass(frozen=True)
class AdapterUse:
    """An adapter in a replica: requests that use it, and those that wait until it can be loaded."""

    name: str
    artifact_id: str
    num_requests: int
    num_waiting: int = 0
    loaded: bool = True
    """Or being loaded."""


@dataclass(frozen=True)
class EngineStats:
    """A glance at an engine.

    Requests it has, how many of them wait for their first token; steps and tokens since its start; tokens a
    second over the last seconds; share of the KV cache in use; adapters that it has, or that are waited for.
    """

    num_requests: int
    num_steps: int
    num_generated_tokens: int
    kv_cache_usage: float | None = None
    num_waiting: int = 0
    tokens_per_second: float = 0.0
    adapters: tuple[AdapterUse, ...] = ()


class TokenSource(Protocol):
    """The part of an engine that answering a request needs."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    def generate(
        self,
        prompt_ids: Sequence[int],
        parameters: SamplingParameters,
        request_id: str,
        adapter: str | None = None,
    ) -> AsyncGenerator[TokenDelta]:
        """Deltas until one has a finish reason; closing the iterator early frees the request's slot.

        `adapter` is one that was loaded; None asks the base model.

        Raises:
            ServingError: the engine cannot go on with this request.
        """

    async def embed(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """A vector of length 1 for each prompt: the mean of the last layer's states over its tokens.

        Raises:
            ServingError: the engine cannot, or is gone.
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

    async def load_adapter(self, name: str, folder: str) -> None:
        """Make a LoRA adapter's folder known under a name, so that requests can ask for it.

        Raises:
            ServingError: the engine cannot, or the adapter does not fit the model.
        """

    async def unload_adapter(self, name: str) -> None:
        """Let go of an adapter behind the requests that use it; nothing happens when it is not there."""

    def stats(self) -> EngineStats:
        """What the engine is doing."""

    async def close(self) -> None:
        """Let go of the model; requests under way end with an error."""

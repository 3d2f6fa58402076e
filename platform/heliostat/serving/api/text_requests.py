"""What is asked about plain text or token ids: completions, embeddings, tokenizing."""

from typing import Annotated, Literal

from pydantic import Field

from heliostat.serving.api.chat_request import Messages, Tool
from heliostat.serving.api.errors import invalid, unsupported
from heliostat.serving.api.protocol import MAX_CHOICES, Flag, GenerationRequest, Incoming, Items, TokenId

MAX_LOGPROBS = 5
MAX_EMBEDDING_INPUTS = 2048

TokenIds = Annotated[Items[TokenId], Field(min_length=1)]
NonEmpty = Annotated[str, Field(min_length=1)]
Prompts = (
    str
    | TokenIds
    | Annotated[Items[str], Field(min_length=1)]
    | Annotated[Items[TokenIds], Field(min_length=1)]
)
Several = Field(min_length=1, max_length=MAX_EMBEDDING_INPUTS)
Inputs = NonEmpty | TokenIds | Annotated[Items[NonEmpty], Several] | Annotated[Items[TokenIds], Several]


def each_text(given: str | tuple[str | int | tuple[int, ...], ...]) -> tuple[str | tuple[int, ...], ...]:
    """One text or several, as strings or token ids: the same as a row of them."""
    if isinstance(given, str):
        return (given,)
    if isinstance(given[0], int):
        return (tuple(part for part in given if isinstance(part, int)),)
    return tuple(part for part in given if not isinstance(part, int))


class CompletionRequest(GenerationRequest):
    """Texts to continue: what `/v1/completions` is asked."""

    prompt: Prompts
    echo: Flag | None = False
    logprobs: Annotated[int, Field(strict=True, ge=0, le=MAX_LOGPROBS)] | None = None

    @property
    def prompts(self) -> tuple[str | tuple[int, ...], ...]:
        """The prompts, each a string or token ids."""
        return each_text(self.prompt)

    @property
    def num_logprobs(self) -> int | None:
        """None without logprobs; else how many of the likeliest tokens are shown at each place."""
        return self.logprobs

    def check(self) -> None:
        """Refuse what cannot go together."""
        if self.echo and self.logprobs is not None:
            raise unsupported("echo", "cannot be had with 'logprobs': those of a prompt are not computed")
        asked = len(self.prompts) * (self.n or 1)
        if asked > MAX_CHOICES:
            raise invalid("prompt", f"{asked} answers are asked for; at most {MAX_CHOICES} in one request")


class EmbeddingRequest(Incoming):
    """Texts to turn into vectors: what `/v1/embeddings` is asked."""

    model: str
    input: Inputs
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: Annotated[int, Field(strict=True, ge=1)] | None = None
    user: str | None = None

    @property
    def inputs(self) -> tuple[str | tuple[int, ...], ...]:
        """The inputs, each a string or token ids."""
        return each_text(self.input)


class TokenizeRequest(Incoming):
    """A text, or a conversation, to turn into token ids; the shape is vLLM's `/tokenize`."""

    model: str
    prompt: str | None = None
    messages: Messages | None = None
    tools: Items[Tool] | None = None
    add_special_tokens: Flag | None = None
    """Of a prompt, true unless it says otherwise; a conversation's template has its own."""
    add_generation_prompt: Literal[True] | None = True
    return_token_strs: Flag | None = False

    def check(self) -> None:
        """Either a prompt or messages."""
        if (self.prompt is None) == (self.messages is None):
            raise invalid("prompt", "give either 'prompt' or 'messages'")


class DetokenizeRequest(Incoming):
    """Token ids to turn into text; the shape is vLLM's `/detokenize`."""

    model: str
    tokens: Items[TokenId]

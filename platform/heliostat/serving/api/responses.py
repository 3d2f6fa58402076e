"""What clients receive, described: for the OpenAPI document, and for tests of what `formats.py` writes."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class Outgoing(BaseModel):
    """Base of what clients receive."""

    model_config = ConfigDict(extra="forbid")


class ErrorDetail(Outgoing):
    """Why a request is refused: `code` is for programs, `param` the field at fault."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(Outgoing):
    """A refusal."""

    error: ErrorDetail


class Usage(Outgoing):
    """Tokens of a request, over all its choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(Outgoing):
    """A likely token at some place."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprobs(TopLogprob):
    """The token that was chosen, and the likeliest ones there."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Outgoing):
    """Logprobs of a message's tokens."""

    content: list[TokenLogprobs]
    refusal: None


class CalledWith(Outgoing):
    """A function's name and the JSON text of its arguments."""

    name: str
    arguments: str


class MadeCall(Outgoing):
    """A tool call of the model."""

    id: str
    type: Literal["function"]
    function: CalledWith


class Answer(Outgoing):
    """A whole message of the model."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    tool_calls: list[MadeCall] | None = None


class Choice(Outgoing):
    """One answer to a request."""

    index: int
    message: Answer
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Outgoing):
    """The response to a chat request without `stream`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str | None = None
    choices: list[Choice]
    usage: Usage


class CallPieceFunction(Outgoing):
    """The name in the first piece of a call, and more of the arguments."""

    name: str | None = None
    arguments: str


class CallPiece(Outgoing):
    """A piece of a tool call; `id`, `type` and name are in its first."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: CallPieceFunction


class Delta(Outgoing):
    """What a chunk adds to a message."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[CallPiece] | None = None


class ChunkChoice(Outgoing):
    """A piece of one answer."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatCompletionChunk(Outgoing):
    """One event of a stream; the one with usage has no choices."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str | None = None
    choices: list[ChunkChoice]
    usage: Usage | None = None


class CompletionLogprobs(Outgoing):
    """Logprobs of a text's tokens; `text_offset` is where each begins."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(Outgoing):
    """One continuation, or a piece of it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class Completion(Outgoing):
    """The response to a completion request, and each of its chunks."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str | None = None
    choices: list[CompletionChoice]
    usage: Usage | None = None


class EmbeddingUsage(Outgoing):
    """Tokens of the inputs."""

    prompt_tokens: int
    total_tokens: int


class Embedding(Outgoing):
    """A vector of length 1, as numbers or as base64 of little-endian 32-bit floats."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(Outgoing):
    """A vector for each input."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class Tokens(Outgoing):
    """The ids of a text."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(Outgoing):
    """The text of ids."""

    prompt: str


class ModelCard(Outgoing):
    """One served model or adapter; `max_model_len` is the longest prompt and answer together, in tokens.

    `root` names the artifact, `parent` the model that an adapter is for.
    """

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str | None
    parent: str | None
    max_model_len: int


class ModelList(Outgoing):
    """All served models."""

    object: Literal["list"]
    data: list[ModelCard]

"""The part of OpenAI's chat completions API that is served: requests, responses, chunks, models.

Unknown fields are accepted, as OpenAI's own servers do. Known ones that would change the answer and are not
served are refused by name: never ignored silently.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from heliostat.serving.api.errors import RefusedRequest

MAX_STOPS = 4

# Field -> the values that ask for nothing out of the ordinary.
UNSERVED: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "repetition_penalty": (None, 1),
    "min_p": (None, 0),
    "response_format": (None, {"type": "text"}),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "modalities": (None, ["text"]),
    "audio": (None,),
}


class Incoming(BaseModel):
    """Base of what clients send."""

    model_config = ConfigDict(extra="allow", frozen=True)


class StreamOptions(Incoming):
    """What a stream carries besides text."""

    include_usage: bool = False


class ChatMessage(Incoming):
    """One turn; content is text, or a list of text parts."""

    role: str
    content: str | list[dict[str, Any]] | None = None


class ChatCompletionRequest(Incoming):
    """A conversation to continue."""

    model: str
    messages: tuple[ChatMessage, ...]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    seed: int | None = None
    user: str | None = None
    stop: str | tuple[str, ...] | None = None

    @classmethod
    def parse(cls, body: Any) -> "ChatCompletionRequest":
        """Validate a decoded JSON body.

        Raises:
            RefusedRequest: a field is missing, of another type, out of range, or not served.
        """
        try:
            request = cls.model_validate(body)
        except ValidationError as error:
            raise _explain(error) from None
        for name, neutral in UNSERVED.items():
            value = body.get(name)
            if value not in neutral:
                raise RefusedRequest(
                    f"'{name}' is not served by this endpoint; leave it out",
                    "unsupported_parameter",
                    param=name,
                )
        if len(request.stops) > MAX_STOPS:
            raise RefusedRequest(
                f"'stop' has {len(request.stops)} strings; give at most {MAX_STOPS}",
                "invalid_value",
                param="stop",
            )
        return request

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings that are not empty."""
        given = (self.stop,) if isinstance(self.stop, str) else self.stop or ()
        return tuple(stop for stop in given if stop)

    @property
    def asked_max_tokens(self) -> int | None:
        """The limit asked for, under its new name or its old one."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


class Outgoing(BaseModel):
    """Base of what clients receive; written with `exclude_unset`."""

    def json_bytes(self) -> bytes:
        """The JSON text."""
        return self.model_dump_json(exclude_unset=True).encode()


class Usage(Outgoing):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, prompt_tokens: int, completion_tokens: int) -> "Usage":
        """With the total."""
        total = prompt_tokens + completion_tokens
        return cls(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, total_tokens=total)


class Answer(Outgoing):
    """A whole message of the model."""

    role: Literal["assistant"]
    content: str
    refusal: str | None


class Choice(Outgoing):
    """The one answer to a request."""

    index: int
    message: Answer
    logprobs: None
    finish_reason: str


class ChatCompletion(Outgoing):
    """The response to a request without `stream`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class Delta(Outgoing):
    """What a chunk adds to the answer."""

    role: Literal["assistant"] = "assistant"
    content: str = ""


class ChunkChoice(Outgoing):
    """A piece of the one answer."""

    index: int
    delta: Delta
    logprobs: None
    finish_reason: str | None


class ChatCompletionChunk(Outgoing):
    """One event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


class ModelCard(Outgoing):
    """One served model; `max_model_len` is vLLM's addition: the context limit in tokens."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int


class ModelList(Outgoing):
    """All served models."""

    object: Literal["list"]
    data: list[ModelCard]


def _explain(error: ValidationError) -> RefusedRequest:
    """The first problem, as OpenAI words it."""
    problem = error.errors()[0]
    param = ".".join(str(part) for part in problem["loc"]) or None
    if problem["type"] == "missing":
        return RefusedRequest(
            f"Missing required parameter: '{param}'", "missing_required_parameter", param=param
        )
    where = f"Invalid '{param}'" if param else "Invalid request body"
    message = problem["msg"].removeprefix("Input should be ")
    return RefusedRequest(f"{where}: expected {message}", "invalid_value", param=param)

"""A conversation to continue: what `/v1/chat/completions` is asked."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, model_serializer, model_validator

from heliostat.serving.api.errors import RefusedRequest, invalid, unsupported
from heliostat.serving.api.protocol import Flag, GenerationRequest, Incoming, Items

MAX_TOP_LOGPROBS = 20
MAX_TOOLS = 128
MAX_MESSAGES = 2048
"""As at OpenAI. Rendering looks at all turns so far at each answer: 2,000 short ones take four seconds."""
MAX_SCHEMA_DEPTH = 64

FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


class ContentPart(Incoming):
    """A piece of a message's content; only text is read."""

    type: str
    text: str | None = None


class CalledFunction(Incoming):
    """What a tool call calls, with arguments as JSON text."""

    name: FunctionName
    arguments: str = "{}"


class ToolCall(Incoming):
    """A call that the assistant made."""

    id: Annotated[str, Field(max_length=64)] | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Incoming):
    """One turn; content is text, or a list of text parts. What it may hold beside depends on its role."""

    role: Annotated[str, Field(examples=["system", "user", "assistant", "tool"])]
    content: str | Items[ContentPart] | None = None
    name: Annotated[str, Field(max_length=64)] | None = None
    tool_calls: Items[ToolCall] | None = None
    tool_call_id: Annotated[str, Field(max_length=64)] | None = None


Messages = Annotated[Items[ChatMessage], Field(max_length=MAX_MESSAGES)]


class FunctionDescription(Incoming):
    """A function the model may call; `parameters` is a JSON schema. The model reads it as it was sent."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: Flag | None = None
    _sent: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep(cls, sent: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        made = validate(sent)
        made._sent = sent
        return made

    @model_serializer
    def as_sent(self) -> dict[str, Any]:
        """All that was sent, in its order: so it was in training."""
        return self._sent


class Tool(Incoming):
    """A tool the model may call."""

    type: Literal["function"]
    function: FunctionDescription


class ChosenFunction(Incoming):
    """The name of a function."""

    name: FunctionName


class NamedTool(Incoming):
    """The one tool the model must call."""

    type: Literal["function"]
    function: ChosenFunction


class TextFormat(Incoming):
    """Any text."""

    type: Literal["text"]


class JsonObjectFormat(Incoming):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(Incoming):
    """A JSON schema and its name; it is always held strictly."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    json_schema: Annotated[dict[str, Any], Field(alias="schema")]
    strict: Flag | None = None


class JsonSchemaFormat(Incoming):
    """JSON that a schema describes."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class Retrieval(Incoming):
    """Documents to look up for the question: ours, in no other API."""

    collection: str
    top_k: Annotated[int, Field(strict=True, ge=1)] = 5


class ChatCompletionRequest(GenerationRequest):
    """A conversation to continue."""

    messages: Messages
    max_completion_tokens: Annotated[int, Field(strict=True, ge=1)] | None = None
    logprobs: Flag | None = False
    top_logprobs: Annotated[int, Field(strict=True, ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[Items[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: Flag | None = None
    retrieval: Retrieval | None = None

    @property
    def asked_max_tokens(self) -> int | None:
        """The limit asked for, under its new name or its old one."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def num_logprobs(self) -> int | None:
        """None without logprobs; else how many of the likeliest tokens are shown at each place."""
        return self.top_logprobs or 0 if self.logprobs else None

    @property
    def tools_in_use(self) -> tuple[Tool, ...]:
        """The tools the model may call in this answer."""
        return () if self.tool_choice == "none" else self.tools or ()

    def check(self) -> None:
        """Refuse fields that contradict each other."""
        if self.top_logprobs and not self.logprobs:
            raise invalid("top_logprobs", "it needs 'logprobs': true")
        self._check_tools()
        if isinstance(self.response_format, JsonSchemaFormat):
            check_depth(self.response_format.json_schema.json_schema, "response_format")
        formatted = self.response_format is not None and self.response_format.type != "text"
        if formatted and self.tools_in_use:
            raise unsupported(
                "response_format",
                "cannot be had together with tools: set tool_choice to 'none', or leave one out",
            )

    def _check_tools(self) -> None:
        for place, tool in enumerate(self.tools or ()):
            check_depth(tool.function.as_sent(), f"tools.{place}")
        names = [tool.function.name for tool in self.tools or ()]
        twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
        if twice is not None:
            raise invalid("tools", f"the function '{twice}' is there twice; give each a name of its own")
        if self.tool_choice not in (None, "none", "auto") and not names:
            raise RefusedRequest(
                "'tool_choice' asks for a call, but there are no 'tools'",
                "invalid_value",
                param="tool_choice",
            )
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise invalid(
                "tool_choice", f"no tool has the name '{self.tool_choice.function.name}'; use one of 'tools'"
            )


def check_depth(value: Any, param: str) -> None:
    """Refuse JSON that is nested so deeply that readers behind this one would give up on it."""
    level = [value]
    for _ in range(MAX_SCHEMA_DEPTH):
        level = [part for holder in level for part in _parts(holder)]
        if not level:
            return
    raise invalid(param, f"it is nested more than {MAX_SCHEMA_DEPTH} levels deep")


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()

"""What of a request reaches the model as text: for filters to read, and to put back what they have changed.

A tool's description, or a schema, is one text: its JSON. Prompts of token ids are read as the text that they
stand for.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import orjson

from heliostat.serving.api.chat_request import ChatCompletionRequest, ChatMessage, JsonSchemaFormat
from heliostat.serving.api.errors import invalid
from heliostat.serving.api.protocol import Incoming, as_json
from heliostat.serving.api.text_requests import CompletionRequest, EmbeddingRequest

DEVELOPERS = ("system", "developer")
Path = tuple[str | int, ...]
Reviewed = TypeVar("Reviewed", ChatCompletionRequest, CompletionRequest, EmbeddingRequest)


def input_texts(request: Incoming, tokenizer: Any) -> list[str]:
    """All texts of a request that the model is to read, in the order in which it has them."""
    return [_text_of(_at(request, path), tokenizer) for path in _paths(request)]


def with_texts(request: Reviewed, texts: Sequence[str], tokenizer: Any) -> Reviewed:
    """The request with other texts in the places of those of `input_texts`.

    Raises:
        RefusedRequest: a description of a tool is not JSON any more.
    """
    body = request.model_dump(mode="json", by_alias=True, exclude_unset=True)
    changed = False
    for path, text in zip(_paths(request), texts, strict=True):
        before = _at(request, path)
        if text == _text_of(before, tokenizer):
            continue
        changed = True
        holder: Any = body
        for part in path[:-1]:
            holder = holder[part]
        holder[path[-1]] = _value_of(text, before, path, tokenizer)
    return type(request).parse(body) if changed else request


def from_outside(request: Incoming) -> list[bool]:
    """Of each text of `input_texts`, whether users or tools said it, and not the application's developer."""
    return [_is_foreign(request, path) for path in _paths(request)]


def _is_foreign(request: Incoming, path: Path) -> bool:
    if not isinstance(request, ChatCompletionRequest):
        return True
    if path[0] != "messages":
        return False
    return request.messages[int(path[1])].role not in DEVELOPERS


def _paths(request: Incoming) -> list[Path]:
    if isinstance(request, ChatCompletionRequest):
        paths = [
            path for place, message in enumerate(request.messages) for path in _in_message(place, message)
        ]
        paths += [("tools", place, "function") for place in range(len(request.tools_in_use))]
        if isinstance(request.response_format, JsonSchemaFormat):
            paths.append(("response_format", "json_schema", "schema"))
        return paths
    field = "prompt" if isinstance(request, CompletionRequest) else "input"
    given = getattr(request, field)
    if isinstance(given, str) or isinstance(given[0], int):
        return [(field,)]
    return [(field, place) for place in range(len(given))]


def _in_message(place: int, message: ChatMessage) -> list[Path]:
    start: Path = ("messages", place)
    paths: list[Path] = []
    if isinstance(message.content, str):
        paths.append((*start, "content"))
    elif message.content:
        parts = enumerate(message.content)
        paths += [(*start, "content", number, "text") for number, part in parts if part.text is not None]
    if message.name is not None:
        paths.append((*start, "name"))
    for number, call in enumerate(message.tool_calls or ()):
        if "arguments" in call.function.model_fields_set:
            paths.append((*start, "tool_calls", number, "function", "arguments"))
    return paths


def _at(request: Incoming, path: Path) -> Any:
    value: Any = request
    for part in path:
        if isinstance(part, int) or isinstance(value, dict):
            value = value[part]
        else:
            value = getattr(value, "json_schema" if part == "schema" else part)
    return value


def _text_of(value: Any, tokenizer: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return str(tokenizer.decode(list(value), skip_special_tokens=False))
    return as_json(value if isinstance(value, dict) else value.as_sent())


def _value_of(text: str, before: Any, path: Path, tokenizer: Any) -> Any:
    if isinstance(before, str):
        return text
    if isinstance(before, tuple):
        return list(tokenizer.encode(text, add_special_tokens=False))
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise invalid(
            ".".join(map(str, path)),
            "a filter changed it so that it cannot be read; leave out what is personal",
        ) from None

"""The OpenAPI 3.1 description of the API, made from the models of its requests and responses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from heliostat import __version__
from heliostat.serving.api.chat_request import ChatCompletionRequest
from heliostat.serving.api.responses import (
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    Detokenized,
    EmbeddingList,
    ErrorBody,
    ModelCard,
    ModelList,
    Tokens,
)
from heliostat.serving.api.text_requests import (
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    TokenizeRequest,
)

REFUSALS = {
    400: "The request cannot be served as it is; `code` and `param` say why",
    401: "The key is missing, wrong, expired or revoked",
    403: "The key may not do this, or not from this address",
    404: "No such model or path",
    405: "Not with this method",
    408: "The request did not come in time",
    409: "Not as things are now",
    413: "The body is too long",
    431: "The headers are too long",
    429: "Too many requests or tokens, or the queue is full; `Retry-After` says when to ask again",
    500: "A fault of the server",
    503: "The engine cannot answer now",
    504: "The answer did not come in time",
}


@dataclass(frozen=True)
class Operation:
    """One route: what it takes and what it gives."""

    path: str
    summary: str
    response: type[BaseModel] | None
    """None where it is `media_type` and nothing more is said of it."""
    request: type[BaseModel] | None = None
    chunk: type[BaseModel] | None = None
    method: Literal["get", "post", "delete"] = "post"
    media_type: str = "application/json"
    query: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Parameters behind the path and their schemas; all may be left out."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that mean something here, and what; all may be left out."""
    open: bool = False
    """Whether it needs no key."""
    failing: type[BaseModel] | None = None
    """What comes with a 503 in the place of a refusal."""


ON_GENERATION = {
    "x-session-id": "Requests with the same one go to the same version",
    "cache-control": "no-cache wants no kept answer, no-store also lets this one not be kept",
}
OPERATIONS = (
    Operation(
        "/v1/chat/completions",
        "Continue a conversation",
        ChatCompletion,
        ChatCompletionRequest,
        ChatCompletionChunk,
        headers=ON_GENERATION,
    ),
    Operation(
        "/v1/completions",
        "Continue texts",
        Completion,
        CompletionRequest,
        Completion,
        headers=ON_GENERATION,
    ),
    Operation("/v1/embeddings", "Turn texts into vectors", EmbeddingList, EmbeddingRequest),
    Operation("/v1/models", "List the models served here", ModelList, method="get"),
    Operation("/v1/models/{model}", "Describe one model", ModelCard, method="get"),
    Operation("/tokenize", "Turn a text or a conversation into token ids", Tokens, TokenizeRequest),
    Operation("/detokenize", "Turn token ids into text", Detokenized, DetokenizeRequest),
)


def openapi_document(keys_required: bool, more: tuple[Operation, ...] = ()) -> dict[str, Any]:
    """The document; `more` are operations of other rooms that the same gateway serves."""
    operations = (*OPERATIONS, *more)
    models: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(ErrorBody, "serialization"): None}
    for operation in operations:
        for sent in (operation.response, operation.chunk, operation.failing):
            if sent:
                models[(sent, "serialization")] = None
        if operation.request:
            models[(operation.request, "validation")] = None
    references, definitions = models_json_schema(
        list(models), ref_template="#/components/schemas/{model}", title="Heliostat"
    )
    named: dict[Any, dict[str, Any]] = {model: found for (model, _), found in references.items()}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, named, keys_required)
    components: dict[str, Any] = {"schemas": definitions["$defs"]}
    if keys_required:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Heliostat",
            "version": __version__,
            "description": "OpenAI's API in front of the models that are served here.",
        },
        "paths": paths,
        "components": components,
    }


def _operation(operation: Operation, named: dict[Any, dict[str, Any]], keys_required: bool) -> dict[str, Any]:
    schema = named[operation.response] if operation.response else _anything(operation.media_type)
    content = {operation.media_type: {"schema": schema}}
    if operation.chunk:
        # Each event's data is one chunk, or an error; the last says [DONE].
        content["text/event-stream"] = {"schema": {"type": "string"}}
    made: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": operation.method + operation.path.replace("/", "_").replace("{", "").replace("}", ""),
        "responses": {"200": {"description": "As asked", "content": content}} | _refusals(named[ErrorBody]),
    }
    if operation.failing:
        made["responses"]["503"]["content"] = {"application/json": {"schema": named[operation.failing]}}
    if operation.request:
        body = {"application/json": {"schema": named[operation.request]}}
        made["requestBody"] = {"required": True, "content": body}
    made["parameters"] = _parameters(operation)
    if keys_required and not operation.open:
        made["security"] = [{"key": []}]
    return made


def _anything(media_type: str) -> dict[str, Any]:
    return {"type": "object" if media_type == "application/json" else "string"}


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    text = {"type": "string", "minLength": 1}
    return [
        *({"name": name, "in": "path", "required": True, "schema": text} for name in names),
        *({"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()),
        *(
            {"name": name, "in": "header", "description": what, "schema": {"type": "string"}}
            for name, what in operation.headers.items()
        ),
    ]


def _refusals(schema: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema}}
    return {str(status): {"description": why, "content": dict(content)} for status, why in REFUSALS.items()}

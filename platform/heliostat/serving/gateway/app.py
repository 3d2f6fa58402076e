"""The HTTP face: an ASGI application that speaks OpenAI's API in front of any engine. Knows no Ray.

Plain ASGI throughout: response middleware that buffers would hold tokens back.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from heliostat.endpoints import HEALTH_PATH
from heliostat.errors import HeliostatError
from heliostat.serving.api.answering import ServedModel
from heliostat.serving.api.chat_request import ChatCompletionRequest
from heliostat.serving.api.errors import (
    SERVER_ERROR,
    RefusedRequest,
    engine_failure,
    error_body,
    too_large,
    unknown_model,
    wrong_key,
)
from heliostat.serving.api.event_stream import EventStream, first_of, while_connected
from heliostat.serving.api.orders import prepare
from heliostat.serving.api.plain_answers import model_card, model_list
from heliostat.serving.api.protocol import decode_body
from heliostat.serving.api.reply import Reply
from heliostat.serving.gateway.api_keys import ApiKeys

logger = logging.getLogger(__name__)


def build_gateway(
    models: Mapping[str, ServedModel], keys: ApiKeys | None = None, max_request_bytes: int = 4 * 2**20
) -> ASGIApp:
    """The application that serves `models`, by id; with `keys`, only to those who send one."""
    gateway = _Gateway(models, max_request_bytes)
    application = Starlette(
        routes=[
            Route(HEALTH_PATH, gateway.health),
            Route("/v1/models", gateway.list_models),
            Route("/v1/models/{model_id:path}", gateway.retrieve_model),
            Route("/v1/chat/completions", gateway.chat_completions, methods=["POST"]),
        ],
        exception_handlers={
            RefusedRequest: _refuse,
            HeliostatError: _refuse_engine,
            HTTPException: _refuse_http,
            Exception: _refuse_fault,
        },
    )
    return application if keys is None else _RequireKey(application, keys)


class _Gateway:
    """The endpoints."""

    def __init__(self, models: Mapping[str, ServedModel], max_request_bytes: int) -> None:
        self._models = models
        self._max_request_bytes = max_request_bytes

    async def health(self, request: Request) -> Response:
        """200 when every engine is able to work, else 503 and why."""
        try:
            for model in self._models.values():
                await model.engine.check_health()
        except HeliostatError as error:
            return JSONResponse(
                {"status": "unhealthy", "reason": str(error), "models": list(self._models)}, 503
            )
        return JSONResponse({"status": "ok", "models": list(self._models)})

    async def list_models(self, request: Request) -> Response:
        """All served models."""
        return JSONResponse(model_list(list(self._models.values())))

    async def retrieve_model(self, request: Request) -> Response:
        """One model."""
        return JSONResponse(model_card(self._model(request.path_params["model_id"])))

    async def chat_completions(self, request: Request) -> Response:
        """Continue a conversation, whole or as a stream of events."""
        asked = ChatCompletionRequest.parse(await self._body(request))
        model = self._model(asked.model)
        job = await asyncio.to_thread(prepare, asked, model)  # a megabyte of text takes a second
        reply = Reply(job)
        parts = reply.generate()
        if not asked.stream:
            whole = await while_connected(request.receive, reply.whole(parts))
            return (
                Response(status_code=499) if whole is None else Response(whole, media_type="application/json")
            )
        # The first part is awaited before the status is sent: until then a fault is an HTTP error.
        started = await while_connected(request.receive, first_of(parts))
        return Response(status_code=499) if started is None else EventStream(reply.events(*started))

    def _model(self, model_id: str) -> ServedModel:
        if model_id not in self._models:
            raise unknown_model(model_id, list(self._models))
        return self._models[model_id]

    async def _body(self, request: Request) -> Any:
        """The decoded body, read no further than the limit."""
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > self._max_request_bytes:
                raise too_large(self._max_request_bytes)
        return decode_body(body)


class _RequireKey:
    """Lets requests through that carry a key; health is for everybody."""

    def __init__(self, application: ASGIApp, keys: ApiKeys) -> None:
        self._application = application
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _path(scope) != HEALTH_PATH:
            given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            if not self._keys.accept(given):
                await JSONResponse(wrong_key().body, 401)(scope, receive, send)
                return
        await self._application(scope, receive, send)


def _path(scope: Scope) -> str:
    """The path below the place where the application is mounted."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedRequest)
    return JSONResponse(error.body, error.status)


async def _refuse_engine(request: Request, error: Exception) -> Response:
    """The engine failed in front of the first token."""
    refusal = engine_failure(str(error))
    return JSONResponse(refusal.body, refusal.status)


async def _refuse_http(request: Request, error: Exception) -> Response:
    """No such route, or not with this method."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    message = f"{request.method} {request.url.path}: {error.detail}"
    body = error_body(message, "invalid_request_error", code)
    return JSONResponse(body, error.status_code, headers=error.headers)


async def _refuse_fault(request: Request, error: Exception) -> Response:
    """A fault of ours: its text stays in the log."""
    body = error_body("The server failed on this request; its log says why", SERVER_ERROR, "internal_error")
    return JSONResponse(body, 500)

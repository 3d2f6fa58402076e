"""The HTTP face: an ASGI application that speaks OpenAI's API in front of any engine. Knows no Ray.

Plain ASGI throughout: response middleware that buffers would hold tokens back.
"""

import asyncio
import logging
from typing import Any, Protocol

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
    overloaded,
    too_large,
    wrong_key,
)
from heliostat.serving.api.event_stream import EventStream, first_of, while_connected
from heliostat.serving.api.orders import prepare
from heliostat.serving.api.plain_answers import model_card, model_list
from heliostat.serving.api.protocol import decode_body
from heliostat.serving.api.reply import Reply
from heliostat.serving.fleet.dispatch import FullError
from heliostat.serving.gateway.admin import Admin, Steering
from heliostat.serving.gateway.api_keys import ApiKeys

SESSION_HEADER = "x-session-id"
"""Requests with the same one go to the same version; without it OpenAI's field `user` counts."""
VERSION_HEADER = "x-heliostat-version"
logger = logging.getLogger(__name__)


class Models(Protocol):
    """What can be asked for."""

    @property
    def names(self) -> list[str]:
        """The endpoints, by name."""

    def choose(self, name: str, session: str | None) -> tuple[ServedModel, str]:
        """The model that answers a request for an endpoint, and its version's label.

        Raises:
            RefusedRequest: there is no endpoint of that name.
        """


def build_gateway(
    models: Models,
    keys: ApiKeys | None = None,
    max_request_bytes: int = 4 * 2**20,
    steering: Steering | None = None,
) -> ASGIApp:
    """The application that serves `models`; with `keys`, only to those who send one.

    With `steering` it has the admin routes.
    """
    gateway = _Gateway(models, max_request_bytes)
    application = Starlette(
        routes=[
            Route(HEALTH_PATH, gateway.health),
            Route("/v1/models", gateway.list_models),
            Route("/v1/models/{model_id:path}", gateway.retrieve_model),
            Route("/v1/chat/completions", gateway.chat_completions, methods=["POST"]),
            *(Admin(steering).routes if steering else ()),
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

    def __init__(self, models: Models, max_request_bytes: int) -> None:
        self._models = models
        self._max_request_bytes = max_request_bytes

    async def health(self, request: Request) -> Response:
        """200 when every engine is able to work, else 503 and why."""
        try:
            for model in self._all():
                await model.engine.check_health()
        except HeliostatError as error:
            return JSONResponse(
                {"status": "unhealthy", "reason": str(error), "models": self._models.names}, 503
            )
        return JSONResponse({"status": "ok", "models": self._models.names})

    async def list_models(self, request: Request) -> Response:
        """All served models."""
        return JSONResponse(model_list(self._all()))

    async def retrieve_model(self, request: Request) -> Response:
        """One model."""
        return JSONResponse(model_card(self._models.choose(request.path_params["model_id"], None)[0]))

    async def chat_completions(self, request: Request) -> Response:
        """Continue a conversation, whole or as a stream of events."""
        asked = ChatCompletionRequest.parse(await self._body(request))
        model, version = self._models.choose(asked.model, request.headers.get(SESSION_HEADER) or asked.user)
        job = await asyncio.to_thread(prepare, asked, model)  # a megabyte of text takes a second
        reply = Reply(job)
        parts = reply.generate()
        if not asked.stream:
            whole = await while_connected(request.receive, reply.whole(parts))
            if whole is None:
                return Response(status_code=499)
            return _labelled(Response(whole, media_type="application/json"), version)
        # The first part is awaited before the status is sent: until then a fault is an HTTP error.
        started = await while_connected(request.receive, first_of(parts))
        if started is None:
            return Response(status_code=499)
        return _labelled(EventStream(reply.events(*started)), version)

    def _all(self) -> list[ServedModel]:
        return [self._models.choose(name, None)[0] for name in self._models.names]

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


def _labelled(response: Response, version: str) -> Response:
    response.headers[VERSION_HEADER] = version
    return response


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedRequest)
    return JSONResponse(error.body, error.status)


async def _refuse_engine(request: Request, error: Exception) -> Response:
    """The engine failed in front of the first token, or takes no more."""
    if isinstance(error, FullError):
        headers = {"retry-after": str(error.retry_after_seconds)}
        return JSONResponse(overloaded(str(error)).body, 429, headers)
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

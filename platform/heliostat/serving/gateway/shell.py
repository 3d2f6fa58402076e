"""The outermost part of the gateway: gives each request an id, sees who asks, bounds its time, and writes
it down.

Plain ASGI: what goes in and out is handed on untouched, but for the request's id in the response's headers.
"""

import asyncio
import re
import uuid

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heliostat.endpoints import HEALTH_PATH
from heliostat.serving.access.config import Route
from heliostat.serving.api.errors import RefusedRequest, gateway_timeout
from heliostat.serving.api.reply import error_event
from heliostat.serving.gateway.context import CLIENT_LEFT, SCOPE_KEY, RequestContext
from heliostat.serving.gateway.metrics import GatewayMetrics
from heliostat.serving.gateway.services import Doormen

REQUEST_ID = b"x-request-id"
SOUND_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
FAULT = 500
LAST_WORD_SECONDS = 1.0
EVENTS_TYPE = b"text/event-stream; charset=utf-8"
ROUTES: tuple[tuple[str, Route], ...] = (
    ("/v1/chat/completions", "chat"),
    ("/v1/completions", "completions"),
    ("/v1/embeddings", "embeddings"),
    ("/tokenize", "tokenize"),
    ("/detokenize", "tokenize"),
    ("/v1/collections", "collections"),
    ("/admin", "admin"),
    ("/metrics", "metrics"),
)


class Shell:
    """Wraps the application that answers."""

    def __init__(
        self, application: ASGIApp, doormen: Doormen, metrics: GatewayMetrics, timeout_seconds: float
    ) -> None:
        """An answer takes at most `timeout_seconds`."""
        self._application = application
        self._doormen = doormen
        self._metrics = metrics
        self._timeout_seconds = timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] == HEALTH_PATH:
            await self._application(scope, receive, send)
            return
        route = route_of(scope["path"])
        peer = scope["client"][0] if scope.get("client") else None
        context = RequestContext(_request_id(scope), peer or "unknown", route)
        answer = _Answer(send, context.id)
        try:
            context.caller = self._doormen.access.admit(scope["headers"], peer, route)
            context.address = context.caller.address
            if not scope["path"].isprintable():
                # Starlette's routes end before a line end, so that it would be another path here and there.
                raise RefusedRequest("There is no path with such characters", "not_found", 404)
        except RefusedRequest as error:
            context.error = error.code
            self._metrics.refused(error.code)
            await refusal(error)(scope, receive, answer.send)
            self._doormen.audit.write(context.finish(error.status))
            return
        scope[SCOPE_KEY] = context
        try:
            await self._answer(scope, receive, answer)
        except Exception:
            answer.outcome = FAULT if answer.outcome == CLIENT_LEFT else answer.outcome
            raise
        finally:
            self._doormen.audit.write(context.finish(answer.outcome))

    async def _answer(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        """Within the time; what has not begun by then is a 504, and a stream that has ends with an error."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._application(scope, receive, answer.send)
        except TimeoutError:
            error = gateway_timeout(self._timeout_seconds)
            answer.outcome = error.status
            if not answer.began:
                await refusal(error)(scope, receive, answer.send)
            elif answer.streams:
                async with asyncio.timeout(LAST_WORD_SECONDS):  # a client that does not read hears nothing
                    await answer.send({"type": "http.response.body", "body": error_event(error)})
                answer.outcome = error.status
            else:
                raise


class _Answer:
    """The way back to the client: adds the request's id, and notes what became of the answer."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id.encode()
        self._status = 0
        self.began = False
        self.streams = False
        self.outcome = CLIENT_LEFT
        """The status, once all was sent."""

    async def send(self, message: Message) -> None:
        """Hand a message on."""
        if message["type"] == "http.response.start":
            self.began, self._status = True, message["status"]
            self.streams = (b"content-type", EVENTS_TYPE) in message.get("headers", ())
            headers = [*message.get("headers", ()), (REQUEST_ID, self._request_id)]
            message = {**message, "headers": headers}
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.outcome = self._status


def route_of(path: str) -> Route:
    """What a path asks for; everything else counts as looking at models."""
    for prefix, route in ROUTES:
        if path == prefix or path.startswith(f"{prefix}/"):
            return route
    return "models"


def refusal(error: RefusedRequest) -> JSONResponse:
    """A refusal as it is sent."""
    return JSONResponse(error.body, error.status, error.headers)


def _request_id(scope: Scope) -> str:
    """The client's own, where it is a sound one, else a new one."""
    given = next((value for name, value in scope["headers"] if name == REQUEST_ID), b"")
    return given.decode() if SOUND_ID.fullmatch(given) else uuid.uuid4().hex

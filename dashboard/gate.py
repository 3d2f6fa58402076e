"""The ASGI layer before everything: without an admission no data, no websocket, no script.

Also here: the security headers, the check of Host and Origin, and that a websocket ends with its admission.
"""

import asyncio
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.forwarded import note_forwarded
from dashboard.started import ADMISSION_HEADER, door, started
from heliostat.control.door import Admission, Door, is_loopback

SESSION_COOKIE = "heliostat_session"
OPEN_PATHS = frozenset({"/login", "/healthz", "/look", "/heliostat.svg"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
RECHECK_SECONDS = 2.0
"""So often an open websocket's admission is looked at; a user who is removed loses the page within it."""


class Gate:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, policy: str) -> None:
        """Guard `app`; `policy` is the Content-Security-Policy of its pages."""
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, with its admission in a header, or answer it here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        note_forwarded(scope, started().trusted_proxies)
        send = self._with_security_headers(scope, send)
        connection = HTTPConnection(scope)
        keeper = door()
        refusal = _refused(keeper, connection)
        if refusal is not None:
            await _answer(refusal, scope, receive, send)
            return
        admission = await asyncio.to_thread(_admission, keeper, connection)
        _put_admission(scope, keeper.sealed(admission) if admission else None)
        scope["heliostat_admission"] = admission
        if admission is None and scope["path"] not in OPEN_PATHS:
            await _answer(_to_login(connection), scope, receive, send)
        elif scope["type"] == "websocket" and admission is not None:
            await _while_admitted(self._app, keeper, admission, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _with_security_headers(self, scope: Scope, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", self._policy)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["X-Frame-Options"] = "DENY"
                headers["Referrer-Policy"] = "same-origin"
                headers["Cross-Origin-Opener-Policy"] = "same-origin"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=(), payment=()"
                if scope.get("scheme") == "https":
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        return sending


def same_origin(headers: Headers, required: bool) -> bool:
    """Whether a request comes from a page of this very server; without an Origin only if not `required`."""
    origin = headers.get("origin")
    if origin is None:
        return not required and headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def _refused(keeper: Door, connection: HTTPConnection) -> Response | None:
    """What is answered to a request that comes from another site's page, or by another site's name."""
    headers = connection.headers
    if keeper.way == "local" and not _is_local_name(headers.get("host", "")):
        # A name that an attacker lets point here would make his page a page of ours.
        return PlainTextResponse("open this dashboard as http://127.0.0.1 or http://localhost\n", 421)
    is_socket = connection.scope["type"] == "websocket"
    changes = is_socket or connection.scope.get("method") not in SAFE_METHODS
    if changes and not same_origin(headers, required=is_socket):
        return PlainTextResponse("this request comes from another site's page\n", 403)
    return None


def _is_local_name(host: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def _admission(keeper: Door, connection: HTTPConnection) -> Admission | None:
    if keeper.way == "local":
        return keeper.local()
    if keeper.way == "proxy":
        client = connection.client
        return keeper.by_proxy(client.host if client else None, _said_once(connection.headers))
    cookie = connection.cookies.get(SESSION_COOKIE)
    return keeper.by_cookie(cookie) if cookie else None


def _said_once(headers: Headers) -> dict[str, str]:
    """Headers by name. One that comes twice counts as not sent: a proxy that adds its own to what came with
    the request would let everybody say who he is."""
    return {name: value for name, value in headers.items() if len(headers.getlist(name)) == 1}


def _put_admission(scope: Scope, sealed: str | None) -> None:
    name = ADMISSION_HEADER.encode()
    headers = [(key, value) for key, value in scope["headers"] if key.lower() != name]
    scope["headers"] = [*headers, (name, sealed.encode())] if sealed else headers


def _to_login(connection: HTTPConnection) -> Response:
    headers = connection.headers
    if door().way == "proxy":
        return PlainTextResponse("log in through the proxy in front of this dashboard\n", 403)
    if connection.scope.get("method") == "GET" and "text/html" in headers.get("accept", ""):
        path, query = connection.url.path, connection.url.query
        return RedirectResponse(f"/login?next={quote(path + ('?' + query if query else ''), safe='/')}", 303)
    return PlainTextResponse("log in first\n", 401)


async def _answer(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await response(scope, receive, send)
        return
    await receive()  # the request to connect
    await send({"type": "websocket.close", "code": 1008, "reason": "not admitted"})


async def _while_admitted(
    app: ASGIApp, keeper: Door, admission: Admission, scope: Scope, receive: Receive, send: Send
) -> None:
    """Serve a websocket, and end it as soon as its admission does."""
    over = asyncio.Event()

    async def watch() -> None:
        while await asyncio.to_thread(keeper.is_valid, admission):
            await asyncio.sleep(RECHECK_SECONDS)
        over.set()

    async def receiving() -> Message:
        message, ended = asyncio.ensure_future(receive()), asyncio.ensure_future(over.wait())
        try:
            await asyncio.wait({message, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not over.is_set() and message.done() and await asyncio.to_thread(keeper.still_in, admission):
                return message.result()
        finally:
            ended.cancel()
            if not message.done():
                message.cancel()
        over.set()
        return {"type": "websocket.disconnect", "code": 1008}

    async def sending(message: Message) -> None:
        if not over.is_set():
            await send(message)

    watcher = asyncio.create_task(watch())
    try:
        await app(scope, receiving, sending)
    finally:
        watcher.cancel()
        if over.is_set():
            await _close_quietly(send)


async def _close_quietly(send: Send) -> None:
    try:
        await send({"type": "websocket.close", "code": 1008, "reason": "logged out"})
    except RuntimeError:  # closed from the other side in the meantime
        return


def admission_of(scope: dict[str, Any]) -> Admission | None:
    """The admission of a request that came through the gate."""
    found: Admission | None = scope.get("heliostat_admission")
    return found

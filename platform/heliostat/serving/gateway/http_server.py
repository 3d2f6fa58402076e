"""How the gateway's HTTP server is set up: uvicorn, with an end to all that it would wait for or take in.

uvicorn bounds neither the time nor the length of a request's headers, and believes X-Forwarded-For of whoever
connects from this machine; whom to believe is decided in `access`, by the config.
"""

import asyncio
from functools import partial
from typing import Any

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from heliostat.serving.access.tls import uvicorn_options
from heliostat.serving.api.errors import RefusedRequest, headers_too_large, slow_request
from heliostat.serving.config import ServeConfig

KEEP_ALIVE_SECONDS = 75
MAX_HEAD_BYTES = 64 * 1024
"""Of a request line with its headers, beyond what came with its first bytes."""


def server_config(application: object, config: ServeConfig) -> uvicorn.Config:
    """The settings of the server that a gateway is reached through.

    Raises:
        ServingError: the certificate or its key cannot be used.
    """
    return uvicorn.Config(
        application,  # type: ignore[arg-type]
        http=partial(BoundedConnection, config.body_timeout_seconds),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(config.drain_timeout_seconds) or 1,
        backlog=4096,
        **uvicorn_options(config.access.tls),
    )


class BoundedConnection(HttpToolsProtocol):
    """A connection that is closed when a request's headers do not come in time, or do not end."""

    def __init__(self, seconds: float, **options: Any) -> None:
        """Headers may take so many seconds, and so may the rest of a body that was refused."""
        super().__init__(**options)
        self._seconds = seconds
        self._patience: asyncio.TimerHandle | None = None
        self._in_head = False
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there; from now on a request is due."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        began_before = self._in_head
        super().data_received(data)
        if self.transport.is_closing():
            return
        if began_before and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(headers_too_large(MAX_HEAD_BYTES))
        if self._idle:
            self._wait()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """The last byte of its headers."""
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The last byte of its body."""
        self._stop_waiting()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self._refuse(RefusedRequest("The request is not valid HTTP/1.1; send it anew", "invalid_http"))

    @property
    def _idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _wait(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(self._seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        if self._in_head:
            self._refuse(slow_request(self._seconds))
        else:
            self.transport.close()

    def _refuse(self, error: RefusedRequest) -> None:
        """Answer and close; where an answer is under way, cut that off."""
        if self._idle or not (self.pipeline or self.cycle.response_started):
            body = orjson.dumps(error.body)
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(STATUS_LINE[error.status] + head % len(body) + body)
        self.transport.close()

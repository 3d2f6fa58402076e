"""The gateway behind its own HTTP server, in this process, and clients that go away in every way there is."""

import asyncio
import json
import socket
import struct
from contextlib import asynccontextmanager
from typing import Literal

import uvicorn
from tests.bench.serving_load import request_bytes

from heliostat.serving.access.audit import AuditLog
from heliostat.serving.config import ServeConfig
from heliostat.serving.gateway.http_server import server_config
from heliostat.serving.ports import LOST_AFTER_SECONDS, listening_socket

Leaving = Literal["closes", "resets", "half-closes"]


@asynccontextmanager
async def listening(
    application, host: str = "127.0.0.1", lost_after_seconds: int = LOST_AFTER_SECONDS, config=None
):
    """Serve an application as a gateway's process does; yields the port."""
    server = uvicorn.Server(server_config(application, config or ServeConfig(drain_timeout_seconds=2)))
    listener = listening_socket(host, 0, lost_after_seconds)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.001)
    yield listener.getsockname()[1]
    server.should_exit = True
    await serving


async def written(audit: AuditLog, count: int) -> list[dict]:
    """The lines of an audit log, which is closed once it has so many: each is written behind its answer."""
    async with asyncio.timeout(10):
        while audit.path.read_bytes().count(b"\n") < count:
            await asyncio.sleep(0.01)
    await asyncio.to_thread(audit.close)
    return [json.loads(line) for line in audit.path.read_text().splitlines()]


def post_bytes(path: str, body: dict, key: str | None = None) -> bytes:
    """A POST that no cache answers, as it goes over the wire."""
    headers = {"Cache-Control": "no-store"} | ({"Authorization": f"Bearer {key}"} if key else {})
    return request_bytes(path, body, headers)


class RawClient:
    """One connection and one request; made by `ask`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    @classmethod
    async def ask(cls, port: int, body: dict, key: str | None = None) -> "RawClient":
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post_bytes("/v1/chat/completions", body, key))
        return cls(reader, writer)

    def leave(self, how: Leaving = "closes") -> None:
        """Go away; an end of file for the server, or a reset."""
        if how == "half-closes":
            self._writer.write_eof()
            return
        if how == "resets":
            peer: socket.socket = self._writer.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

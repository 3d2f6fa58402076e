"""A gateway's end of the channel: one connection to one replica, many requests over it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict
from typing import Any

import orjson

from heliostat.endpoints import ServedAdapter
from heliostat.errors import ServingError
from heliostat.serving.channel.messages import LINE_LIMIT_BYTES, ElsewhereError, Inbox, line, to_error
from heliostat.serving.engines.interface import SamplingParameters, TokenDelta

CONNECT_TIMEOUT_SECONDS = 5.0


class ChannelClient:
    """A replica's engine; made by `connect`."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._inboxes: dict[str, Inbox] = {}
        self._results: dict[str, asyncio.Future[list[Any]]] = {}
        self._reading: asyncio.Task[None]
        self.closed = False

    @classmethod
    async def connect(cls, host: str, port: int, secret: str) -> "ChannelClient":
        """Reach a replica.

        Raises:
            ElsewhereError: it does not answer there.
        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                reader, writer = await asyncio.open_connection(host, port, limit=LINE_LIMIT_BYTES)
        except OSError as error:  # TimeoutError is one
            raise ElsewhereError(
                f"the engine at {host}:{port} cannot be reached: {error or 'no answer'}"
            ) from None
        client = cls(writer)
        writer.write(line({"hello": secret}))
        client._reading = asyncio.create_task(client._read(reader))
        return client

    @property
    def num_requests(self) -> int:
        """Requests of this gateway that go on there."""
        return len(self._inboxes) + len(self._results)

    async def generate(
        self,
        prompt_ids: Sequence[int],
        parameters: SamplingParameters,
        request_id: str,
        adapter: ServedAdapter | None = None,
    ) -> AsyncGenerator[TokenDelta]:
        """Deltas until one has a finish reason; closing this early frees the slot.

        The replica loads the adapter if need be, and keeps it as long as this goes on.

        Raises:
            ElsewhereError: the replica is full, leaving or lost.
            ServingError: it cannot go on.
        """
        self._refuse_closed()
        news = asyncio.Event()
        inbox = self._inboxes[request_id] = Inbox(news.set)
        finished = False
        try:
            self._writer.write(
                line(
                    {
                        "add": request_id,
                        "prompt_ids": list(prompt_ids),
                        "parameters": asdict(parameters),
                        "adapter": adapter.model_dump() if adapter else None,
                    }
                )
            )
            while not finished:
                await news.wait()
                news.clear()
                delta = inbox.take()
                finished = inbox.error is not None or (delta is not None and delta.finish_reason is not None)
                if delta:
                    yield delta
                if inbox.error:
                    raise inbox.error
        finally:
            self._inboxes.pop(request_id, None)
            if not finished and not self.closed:
                self._writer.write(line({"abort": request_id}))

    async def embed(self, prompts: Sequence[Sequence[int]], request_id: str) -> list[list[float]]:
        """Vectors of the prompts.

        Raises:
            ElsewhereError, ServingError: as `generate`.
        """
        return await self._ask(request_id, {"embed": request_id, "prompts": [list(each) for each in prompts]})

    async def logs(self, num_lines: int, request_id: str) -> list[str]:
        """The last lines of the replica's log.

        Raises:
            ElsewhereError: the replica is lost.
        """
        return await self._ask(request_id, {"logs": [request_id, num_lines]})

    async def _ask(self, request_id: str, message: dict[str, Any]) -> list[Any]:
        """The one answer to a message."""
        self._refuse_closed()
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._results[request_id] = future
        try:
            self._writer.write(line(message))
            return await future
        finally:
            self._results.pop(request_id, None)
            if future.cancelled() and not self.closed:
                self._writer.write(line({"abort": request_id}))

    async def close(self) -> None:
        """Hang up; requests under way end with an error."""
        self._end(ServingError("the gateway let go of this replica; send the request again"))
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading

    def _refuse_closed(self) -> None:
        if self.closed:
            raise ElsewhereError("this replica has gone")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while received := await reader.readline():
                self._take(orjson.loads(received))
        except (OSError, ValueError) as error:
            reason = str(error)
        else:
            reason = "it hung up"
        self._end(ElsewhereError(f"the engine's replica was lost ({reason}); send the request again"))

    def _take(self, message: dict[str, Any]) -> None:
        for request_id, token_ids, finish_reason, logprobs in message.get("tokens", ()):
            if inbox := self._inboxes.get(request_id):
                inbox.put(token_ids, finish_reason, logprobs)
        for kind in ("vectors", "said"):
            if kind in message:
                request_id, result = message[kind]
                if (future := self._results.get(request_id)) and not future.done():
                    future.set_result(result)
        if "refused" in message:
            request_id, reason, why = message["refused"]
            self._fail(request_id, to_error(reason, why))

    def _fail(self, request_id: str, error: ServingError) -> None:
        if inbox := self._inboxes.get(request_id):
            inbox.fail(error)
        if (future := self._results.get(request_id)) and not future.done():
            future.set_exception(error)

    def _end(self, error: ServingError) -> None:
        self.closed = True
        for request_id in [*self._inboxes, *self._results]:
            self._fail(request_id, error)
        self._writer.close()

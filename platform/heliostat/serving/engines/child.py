"""An engine whose model lives in a child process, spoken to in JSON lines over a socket.

What the lines say, the processes' own files do: `openvino_process.py`, `vllm_process.py`.
"""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import count
from typing import Any, Self

import orjson

from heliostat.errors import ServingError
from heliostat.serving.engines.interface import (
    Capabilities,
    EngineStats,
    FinishReason,
    SamplingParameters,
    TokenDelta,
    TokenLogprob,
)
from heliostat.serving.engines.requests import Advance, RequestTable

LINE_LIMIT_BYTES = 1 << 24
EXIT_TIMEOUT_SECONDS = 10.0


class ChildEngine:
    """The parent's end: requests out, tokens in. `start` makes one."""

    def __init__(
        self, capabilities: Capabilities, max_context_tokens: int, stall_timeout_seconds: float
    ) -> None:
        self._capabilities = capabilities
        self._max_context_tokens = max_context_tokens
        self._requests = RequestTable(stall_timeout_seconds)
        self._kv_cache_usage: float | None = None
        self._replies: dict[int, asyncio.Future[str | None]] = {}
        self._numbers = count()
        self._process: subprocess.Popen[bytes]
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._reading: asyncio.Task[None] | None = None

    async def connect(self, command: Sequence[str], environment: Mapping[str, str], cannot: str) -> Self:
        """Start `command`, to which the socket's descriptor is added in front of its last two arguments, and
        wait until it is ready.

        Raises:
            ServingError: `cannot`, and the reason.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = [*command[:-2], str(theirs.fileno()), *command[-2:]]
            try:
                self._process = subprocess.Popen(
                    arguments,
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    env=environment,
                    start_new_session=True,  # a group of its own, so that what it started ends with it
                )
            except OSError as error:
                ours.close()
                raise ServingError(f"{cannot}: {command[0]} cannot be started: {error.strerror}") from None
        self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=LINE_LIMIT_BYTES)
        try:
            first = await self._receive() or {"failed": "its process ended; its log says why"}
        except BaseException:
            await self.close()
            raise
        if "failed" in first:
            await self.close()
            raise ServingError(f"{cannot}: {first['failed']}")
        self._max_context_tokens = first.get("max_context_tokens", self._max_context_tokens)
        self._reading = asyncio.create_task(self._read())
        return self

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return self._capabilities

    @property
    def max_context_tokens(self) -> int:
        """The longest prompt and answer together."""
        return self._max_context_tokens

    @property
    def process_id(self) -> int:
        """The child process."""
        return self._process.pid

    async def generate(
        self,
        prompt_ids: Sequence[int],
        parameters: SamplingParameters,
        request_id: str,
        adapter: str | None = None,
    ) -> AsyncGenerator[TokenDelta]:
        """Deltas until one has a finish reason; see the interface."""
        stream = self._requests.open(request_id)
        try:
            self._send(
                {
                    "add": request_id,
                    "prompt_ids": list(prompt_ids),
                    "parameters": asdict(parameters),
                    "adapter": adapter,
                }
            )
            async for delta in stream.deltas():
                yield delta
        finally:
            await self.abort(request_id)

    async def abort(self, request_id: str) -> None:
        """Free a request's slot; nothing happens when it has ended."""
        if self._requests.end(request_id) and not self._requests.failure:
            self._send({"abort": request_id})

    async def embed(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Refused: an engine that generates gives no states here."""
        raise ServingError("this engine gives no embeddings; ask an endpoint with another engine")

    async def load_adapter(self, name: str, folder: str) -> None:
        """Make a LoRA adapter known; see the interface."""
        if self._requests.failure:
            raise self._requests.failure
        number = next(self._numbers)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        self._send({"load": name, "folder": str(folder), "reply": number})
        try:
            error = await reply
        finally:
            del self._replies[number]
        if error:
            raise ServingError(error)

    async def unload_adapter(self, name: str) -> None:
        """Forget an adapter; requests that are there still get it."""
        if not self._requests.failure:
            self._send({"unload": name})

    def stats(self) -> EngineStats:
        """What the engine is doing."""
        return self._requests.stats(self._kv_cache_usage)

    async def check_health(self) -> None:
        """Raise ServingError when the process is gone or hangs."""
        self._requests.check_health()

    async def close(self) -> None:
        """End the process; it leaves by itself when its socket closes, or is killed if it hangs."""
        self._fail(ServingError("the engine was stopped; send the request again"))
        if self._reading:
            self._reading.cancel()
        self._writer.close()
        try:
            await asyncio.to_thread(self._process.wait, EXIT_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        self._kill_group()

    def _kill_group(self) -> None:
        """What the process started and left behind."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _fail(self, error: ServingError) -> None:
        self._requests.fail(error)
        for reply in self._replies.values():
            if not reply.done():
                reply.set_result(str(error))

    def _send(self, message: dict[str, Any]) -> None:
        self._writer.write(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))

    async def _receive(self) -> dict[str, Any] | None:
        """The next message, or None when the process has ended."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        return dict(orjson.loads(line)) if line else None

    async def _read(self) -> None:
        """Hand out what the process sends until it ends; whatever stops this ends the requests as well."""
        try:
            await self._hand_out()
        except BaseException:
            self._fail(ServingError("what the engine's process says is not understood; the log has more"))
            raise

    async def _hand_out(self) -> None:
        while (message := await self._receive()) is not None:
            if "refused" in message:
                request_id, reason = message["refused"]
                self._requests.end(request_id, ServingError(f"the engine refused the request: {reason}"))
            elif "reply" in message:
                reply = self._replies.get(message["reply"])
                if reply and not reply.done():
                    reply.set_result(message["error"])
            else:
                self._kv_cache_usage = message["kv_cache_usage"]
                self._requests.step(message["step"], [_advance(*entry) for entry in message["tokens"]])
        code = await asyncio.to_thread(self._process.wait)
        self._kill_group()
        self._fail(ServingError(f"the engine's process ended with code {code}; it will be restarted"))


def _advance(
    request_id: str, token_ids: list[int], finish_reason: FinishReason | None, logprobs: list[Any]
) -> Advance:
    rows = [TokenLogprob(value, tuple((token, other) for token, other in top)) for value, top in logprobs]
    return Advance(request_id, token_ids, finish_reason, rows)

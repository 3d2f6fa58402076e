"""openvino-genai's continuous batching as an engine: starts the process that steps it, and talks to it.

Imports no OpenVINO: `openvino_process.py` does, in a process of its own, and says why.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import orjson

from heliostat.errors import ServingError
from heliostat.serving.engines.config import OpenVINOEngineConfig
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
CAPABILITIES = Capabilities(
    max_top_logprobs=0,
    penalties=False,  # openvino-genai's presence and frequency penalties raise logits below 0
    repetition_penalty=True,
    min_p=True,
    logit_bias=False,
    grammar=True,
    adapters=True,
    embeddings=False,
)


class OpenVINOEngine:
    """An engine whose model lives in a child process; made by `start`."""

    def __init__(self, config: OpenVINOEngineConfig, max_context_tokens: int) -> None:
        self._requests = RequestTable(config.stall_timeout_seconds)
        self._max_context_tokens = max_context_tokens
        self._kv_cache_usage: float | None = None
        self._numbers = count()
        self._replies: dict[int, asyncio.Future[str | None]] = {}
        self._process: subprocess.Popen[bytes]
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, folder: Path, config: OpenVINOEngineConfig, max_context_tokens: int
    ) -> "OpenVINOEngine":
        """Load an exported folder; returns when the pipeline is ready.

        Raises:
            ServingError: OpenVINO cannot load it.
        """
        engine = cls(config, max_context_tokens)
        ours, theirs = socket.socketpair()
        with theirs:
            engine._process = _spawn(theirs, folder, config)
        engine._reader, engine._writer = await asyncio.open_connection(sock=ours, limit=LINE_LIMIT_BYTES)
        try:
            first = await engine._receive() or {"failed": "its process ended; its log says why"}
        except BaseException:
            await engine.close()
            raise
        if "failed" in first:
            await engine.close()
            raise ServingError(f"{folder}: OpenVINO cannot load this model: {first['failed']}")
        engine._reading = asyncio.create_task(engine._read())
        return engine

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return CAPABILITIES

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
        """Refused: its capabilities say no."""
        raise ServingError("this engine gives no embeddings")

    async def load_adapter(self, name: str, folder: str) -> None:
        """Make a LoRA adapter known; see the interface.

        The first one, and one that changes layers which none before it did, load the model anew when the
        requests under way have ended.
        """
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
        """Hand out what the process sends until it ends."""
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
        self._fail(ServingError(f"the engine's process ended with code {code}; it will be restarted"))

    def _fail(self, error: ServingError) -> None:
        self._requests.fail(error)
        for reply in self._replies.values():
            if not reply.done():
                reply.set_result(str(error))


def _advance(
    request_id: str, token_ids: list[int], finish_reason: FinishReason | None, logprobs: list[float]
) -> Advance:
    return Advance(request_id, token_ids, finish_reason, [TokenLogprob(logprob) for logprob in logprobs])


def _spawn(theirs: socket.socket, folder: Path, config: OpenVINOEngineConfig) -> subprocess.Popen[bytes]:
    arguments = [str(theirs.fileno()), str(folder), config.model_dump_json()]
    # -P and an explicit path: the child must find the same heliostat, and nothing in the working folder.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "heliostat.serving.engines.openvino_process", *arguments],
        pass_fds=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
        env=environment,
    )
